"""What an algorithm from outside the simulator, e.g. message passing, has to state so that `simulate` runs it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import ParameterError
from replica_icl.priors import Prior
from replica_icl.setting import Setting
from replica_icl.simulator.features import FeatureSource
from replica_icl.status import Status

Array = NDArray[np.float64]


@runtime_checkable
class Iteration(Protocol):
    """What such an algorithm has to state; instances are plain data that a process can be sent."""

    @property
    def name(self) -> str:
        """As `simulate` and its errors call it."""

    def check(self, setting: Setting, prior: Prior | None) -> None:
        """Refuse a setting, or a prior beside its ridge, that it cannot run on, by a `ParameterError`."""

    def described(self) -> Mapping[str, Any]:
        """Everything that decides its numbers, as JSON, its source included."""

    def matrix_bytes(self, setting: Setting) -> int:
        """Bytes beside the prompts."""

    def seconds(self, setting: Setting) -> float:
        """Estimated time on one core, after the prompts are drawn."""

    def run(self, features: FeatureSource, ridge: float, prior: Prior | None) -> tuple[Array, Status, int]:
        """W of shape (D+1, D+1), how it ended, and after how many iterations."""


def check_iteration(setting: Setting, algorithm: Iteration, prior: Prior | None = None) -> Iteration:
    """An algorithm that fits the setting, and a prior beside its ridge.

    Raises:
        ParameterError: a temperature, a ground state that is not unique, or what the algorithm itself refuses.
    """
    if math.isfinite(setting.beta):
        raise ParameterError("beta", setting.beta, f"must be inf with {algorithm.name}: it gives the mean alone")
    if setting.ridge == 0 and prior is None:
        raise ParameterError("ridge", setting.ridge, f"must be positive with {algorithm.name}")
    algorithm.check(setting, prior)
    return algorithm
