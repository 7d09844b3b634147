"""Message passing under a declared prior: the theory's proximal map as its denoiser."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.cavity.gamp import Denoiser
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.priors.finite_size import named
from replica_icl.priors import Prior

Array = NDArray[np.float64]


def denoiser_of(prior: Prior, ridge: float, model: Model | None = None) -> Denoiser:
    """What a separable prior and a ridge make of the fields of message passing, from the derived proximal map.

    Args:
        prior: penalties that are numbers.
        ridge: lambda_0 beside it.
        model: lowered theories; by default the package's own.
    """
    functions = (model or LINEAR_ATTENTION).prior(type(prior))
    penalties = tuple(float(x) for x in prior.penalties.values())

    def denoise(field: Array, stiffness: Array, prompts: int) -> tuple[Array, Array]:
        given: dict[str, Any] = {"g": np.abs(field), "A": stiffness, "p": float(prompts), "lambda_0": ridge}
        found = functions.proximal(NUMPY, **given, **named(penalties=penalties))
        return np.sign(field) * found.W, np.broadcast_to(found.slope, field.shape)

    return denoise
