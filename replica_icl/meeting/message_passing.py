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
from replica_icl.options import ITERATING, OUTSIDE, UNDER_PRIORS
from replica_icl.parameter import check_fraction, check_integer
from replica_icl.priors import Prior, Ridge, prior_of
from replica_icl.setting import Setting
from replica_icl.simulator.features import FeatureSource
from replica_icl.simulator.hamiltonian import hamiltonian
from replica_icl.status import Status

Array = NDArray[np.float64]

PRIOR_DAMPING = 0.2
"""Share of the old messages that is kept under another prior than the ridge, where undamped they often oscillate."""


def denoiser_of(prior: Prior, ridge: float, model: Model | None = None) -> Denoiser:
    """What a prior and a ridge make of the fields of message passing: the derived proximal map, or its own denoiser.

    Args:
        prior: penalties that are numbers.
        ridge: lambda_0 beside it.
        model: lowered theories; by default the package's own.

    Raises:
        ParameterError: a prior that states neither a potential nor a denoiser.
    """
    own = prior.denoiser
    if own is not None:
        return lambda field, stiffness, prompts: own(field, stiffness, prompts, ridge, **prior.penalties)
    if prior.entropic is not None:
        raise ParameterError("prior", prior.shown, "must state a denoiser for message passing, or a potential")
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
        damping: share of the old messages that is kept, in [0, 1); None: 0.05 for gamp, 0.2 under another prior than
            the ridge, and 0.9 for relaxed-bp.
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
        damping = relaxed_bp.DAMPING if self.damping is None and not on_prompts else self.damping
        limit = (
            (gamp if on_prompts else relaxed_bp).MAX_ITERATIONS if self.max_iterations is None else self.max_iterations
        )
        object.__setattr__(self, "damping", None if damping is None else check_fraction("damping", damping))
        object.__setattr__(self, "max_iterations", check_integer("max_iterations", limit, 1))

    def check(self, setting: Setting, prior: Prior | None) -> None:
        """Every setting with a ridge will do; any prior on the prompts, none as published."""
        if prior is None:
            return
        if self.name == "relaxed-bp":
            names = " or ".join(UNDER_PRIORS)
            advice = f"must be {names} under the {prior.shown} prior: as published, weights are Gaussian"
            raise ParameterError("algorithm", self.name, advice)
        denoiser_of(prior, setting.ridge)

    def described(self) -> dict[str, Any]:
        """Name, damping, iterations and the version of the source."""
        own = {"name": self.name, "damping": self.damping, "max_iterations": self.max_iterations}
        return {**own, "version": algorithms_version()}

    def matrix_bytes(self, setting: Setting) -> int:
        """J, its squares, and the features that make them; nothing of that size on the prompts."""
        n = setting.acting_weights
        return 8 * n * (3 * n + setting.P) if self.name == "relaxed-bp" else 0

    def seconds(self, setting: Setting) -> float:
        """Estimated time on one core, good to a factor of a few: 30 iterations of gamp, 100 of relaxed-bp; under a
        penalty 100 of gamp, and the exact optimum beside it."""
        n, P = setting.acting_weights, setting.P
        passes = 30 if prior_of(setting) is None else 500
        flops = 2 * P * n**2 + 400 * n**2 if self.name == "relaxed-bp" else 4 * passes * P * n
        return flops / 1e10

    def run(self, features: FeatureSource, ridge: float, prior: Prior | None) -> tuple[Array, Status, int]:
        """W of shape (D+1, D+1), how it ended, and after how many iterations."""
        default = gamp.DAMPING if prior is None else PRIOR_DAMPING
        damping = default if self.damping is None else self.damping
        how: dict[str, Any] = {"damping": damping, "max_iterations": self.max_iterations}
        if self.name == "gamp":
            found = message_passing(features, denoiser_of(prior or Ridge(), ridge), **how)
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
