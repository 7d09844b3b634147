"""Message passing under a declared prior, the theory's proximal map as its denoiser, and as `simulate` runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.cavity import gamp, relaxed_bp
from replica_icl.cavity.gamp import Denoiser, message_passing
from replica_icl.cavity.relaxed_bp import relaxed_belief_propagation
from replica_icl.errors import ParameterError
from replica_icl.keys import code_version, digest
from replica_icl.lowering.loading import derivation_version
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.priors.finite_size import named
from replica_icl.options import ITERATING, OUTSIDE
from replica_icl.parameter import check_fraction, check_integer
from replica_icl.priors import Prior, Ridge
from replica_icl.setting import Setting
from replica_icl.simulator.features import FeatureSource
from replica_icl.simulator.hamiltonian import hamiltonian
from replica_icl.status import Status

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


def algorithms_version() -> str:
    """A hash over the source of everything that decides where message passing ends, the derivation included."""
    parts = "cavity", "meeting/message_passing", "numeric/arithmetic", "lowering/loading", "lowering/model", "priors"
    return digest([code_version(*parts), derivation_version()], 16)


@dataclass(frozen=True)
class MessagePassing:
    """Message passing as an algorithm of `simulate`: `simulate(setting, 10, algorithm=MessagePassing("gamp"))`.

    Attributes:
        name: "gamp": on the prompts, its fixed point is the exact ground state (`cavity.gamp`). "relaxed-bp": on the
            couplings as published, without the Onsager reaction, so that its fixed point is another
            (`cavity.relaxed_bp`; from means and variances of zero, with the published damping, steps and tolerance).
        damping: share of the old messages that is kept, in [0, 1); None: 0 for gamp, 0.9 for relaxed-bp.
        max_iterations: None: 1000 for gamp, 100 for relaxed-bp.

    Raises:
        ParameterError: naming the attribute.
    """

    name: str
    damping: float | None = None
    max_iterations: int | None = None

    def __post_init__(self) -> None:
        if self.name not in OUTSIDE:
            raise ParameterError("algorithm", self.name, f"must be one of {', '.join(OUTSIDE)}")
        on_prompts = self.name == "gamp"
        damping = (0.0 if on_prompts else relaxed_bp.DAMPING) if self.damping is None else self.damping
        limit = (
            (gamp if on_prompts else relaxed_bp).MAX_ITERATIONS if self.max_iterations is None else self.max_iterations
        )
        object.__setattr__(self, "damping", check_fraction("damping", damping))
        object.__setattr__(self, "max_iterations", check_integer("max_iterations", limit, 1))

    def check(self, setting: Setting) -> None:
        """Every setting with a ridge will do."""

    def described(self) -> dict[str, Any]:
        """Name, damping, iterations and the version of the source."""
        own = {"name": self.name, "damping": self.damping, "max_iterations": self.max_iterations}
        return {**own, "version": algorithms_version()}

    def matrix_bytes(self, setting: Setting) -> int:
        """J, its squares, and the features that make them; nothing of that size on the prompts."""
        n = setting.acting_weights
        return 8 * n * (3 * n + setting.P) if self.name == "relaxed-bp" else 0

    def seconds(self, setting: Setting) -> float:
        """Estimated time on one core, good to a factor of a few: 30 iterations of gamp, 100 of relaxed-bp."""
        n, P = setting.acting_weights, setting.P
        flops = 2 * P * n**2 + 400 * n**2 if self.name == "relaxed-bp" else 120 * P * n
        return flops / 1e10

    def run(self, features: FeatureSource, ridge: float) -> tuple[Array, Status, int]:
        """W of shape (D+1, D+1), how it ended, and after how many iterations."""
        how: dict[str, Any] = {"damping": self.damping, "max_iterations": self.max_iterations}
        if self.name == "gamp":
            found = message_passing(features, denoiser_of(Ridge(), ridge), **how)
            return found.W, found.status, found.iterations
        spins = hamiltonian(features, ridge)
        beliefs = relaxed_belief_propagation(spins, **how)
        return spins.weights(beliefs.mean), beliefs.status, beliefs.iterations


def algorithm_of(options: dict[str, Any]) -> dict[str, Any]:
    """Options of `simulate` with those of message passing put into its algorithm.

    Raises:
        ParameterError: an option of message passing beside another algorithm, or out of range.
    """
    own = {name: options.pop(name) for name in ITERATING if options.get(name) is not None}
    name = options.get("algorithm")
    if name in OUTSIDE:
        return {**options, "algorithm": MessagePassing(name, **own)}
    if own:
        first = next(iter(own))
        raise ParameterError(first, own[first], f"must not be given without --algorithm {' or '.join(OUTSIDE)}")
    return options
