"""What a realisation costs, estimated before any work, and the plan that fits into memory."""

from __future__ import annotations

import math
import os

from replica_icl.errors import MemoryEstimateError, ParameterError
from replica_icl.options import UNDER_PRIORS
from replica_icl.priors import Prior, prior_of
from replica_icl.setting import Setting
from replica_icl.simulator.algorithms import Algorithm, choose_algorithm, matrix_bytes, solve_seconds
from replica_icl.simulator.features import block_size
from replica_icl.simulator.laws import GAUSSIAN_PROMPTS, PromptLaw
from replica_icl.simulator.optima.registry import minimiser_of
from replica_icl.simulator.optimisers import CLOSED_FORM, Training
from replica_icl.simulator.outside import Iteration, check_iteration
from replica_icl.simulator.prompts import batch_size

WEIGHT_ARRAYS = 6
"""Arrays of the shape of W that a solve has at once: the weights, their parts, checked copies, squares for scores."""

FEATURES_SHARE = 0.5
"""Share of the available memory that the features of one realisation may take before they are streamed."""

GIB = 2**30
_FIXED_BYTES = 100 * 2**20  # chunks of pair products, small arrays
_NORMAL_SECONDS = 1.3e-8  # one Gaussian number


def feature_bytes(setting: Setting) -> int:
    """Bytes of the features of all prompts."""
    return 8 * setting.P * (2 * setting.D + 2)


def sample_bytes(setting: Setting, streaming: bool = False, law: PromptLaw = GAUSSIAN_PROMPTS) -> int:
    """Bytes of the prompts: features of all of them or of a block, token batches of a few, the task matrix."""
    block = 8 * block_size(setting.D) * (10 * setting.D + 8)
    tasks = 0 if setting.K is None else 8 * setting.K * setting.D
    return (0 if streaming else feature_bytes(setting)) + block + _batch_bytes(setting, law) + tasks


def _batch_bytes(setting: Setting, law: PromptLaw) -> int:
    """Bytes of a batch of prompts token by token."""
    return 0 if law.sampler == "sufficient" else 3 * 8 * batch_size(setting) * (setting.N + 3) * (setting.D + 1)


def realisation_bytes(
    setting: Setting,
    algorithm: Algorithm | Training | Iteration,
    streaming: bool = False,
    law: PromptLaw = GAUSSIAN_PROMPTS,
) -> int:
    """Estimated peak memory of one realisation."""
    matrices = _matrix_bytes(setting, algorithm)
    whole = algorithm.batch is not None if isinstance(algorithm, Training) else algorithm == "dual"
    if whole and streaming:  # the kernel, or shuffled batches, need all prompts at once
        matrices += feature_bytes(setting)
    return matrices + sample_bytes(setting, streaming, law) + _FIXED_BYTES


def _matrix_bytes(setting: Setting, algorithm: Algorithm | Training | Iteration) -> int:
    """Bytes beside the prompts: of square matrices, and of weight matrices and their scores."""
    n, weights = setting.acting_weights, 8 * WEIGHT_ARRAYS * (setting.D + 1) ** 2
    if isinstance(algorithm, Iteration):
        return algorithm.matrix_bytes(setting) + _matrix_bytes(setting, "cg")
    if not isinstance(algorithm, Training):
        return matrix_bytes(setting.P, setting.D, algorithm, math.isfinite(setting.beta)) + weights
    if algorithm.optimiser in CLOSED_FORM:
        return 8 * 4 * n * min(n, setting.P) + weights
    if n <= 2 * setting.P:
        return matrix_bytes(setting.P, setting.D, "dense") + weights
    return matrix_bytes(setting.P, setting.D, "cg") + weights


def training_seconds(setting: Setting, how: Training) -> float:
    """Estimated time of training on one core, good to a factor of a few."""
    n, P = setting.acting_weights, setting.P
    flops = 1e10
    if how.optimiser in CLOSED_FORM:
        return (10 * min(n, P) ** 2 * max(n, P) + 2 * n * min(n, P) * len(how.recorded())) / flops
    if how.batch is not None:
        return how.steps(P) * 1e-4 + how.epochs * 4 * P * n / flops
    return (P * n**2 / 2 + how.epochs * min(2 * n**2, 4 * P * n)) / flops + how.epochs * 1e-4


def pass_seconds(setting: Setting, law: PromptLaw = GAUSSIAN_PROMPTS) -> float:
    """Estimated time of drawing all prompts once."""
    numbers = setting.N * setting.D if law.sampler == "tokens" else 3 * setting.D
    return _NORMAL_SECONDS * setting.P * numbers


def realisation_seconds(
    setting: Setting,
    algorithm: Algorithm | Training | Iteration,
    streaming: bool = False,
    law: PromptLaw = GAUSSIAN_PROMPTS,
) -> float:
    """Estimated time of one realisation on one core, good to a factor of two or so."""
    draw = pass_seconds(setting, law)
    if isinstance(algorithm, Training):
        return draw + training_seconds(setting, algorithm)
    if isinstance(algorithm, Iteration):
        return draw + algorithm.seconds(setting)
    solve = solve_seconds(
        setting.P,
        setting.D,
        algorithm,
        ridge=setting.ridge,
        scale=_context_scale(setting),
        thermal=math.isfinite(setting.beta),
        pass_seconds=draw if streaming else 0.0,
    )
    return 1e-3 + draw + solve


def _context_scale(setting: Setting) -> float:
    """E |c|^2/D, the typical eigenvalue of the second moment of c."""
    return (1 + (setting.D + 1 + setting.noise * setting.D) / setting.N) / setting.D


def available_bytes() -> int:
    """Physical memory that is available now: free plus reclaimable on Linux, otherwise all there is."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def duration(seconds: float) -> str:
    """A time for people: 40 s, 12 min, 5.2 h, 3 days, 40 years."""
    for size, unit, until in ((1, "s", 90), (60, "min", 5400), (3600, "h", 172800), (86400, "days", 3e7)):
        if seconds < until:
            return f"{seconds / size:.{1 if unit == 'h' else 0}f} {unit}"
    years = seconds / 3.156e7
    return f"{years:.{0 if years >= 10 else 1}f} years"


def plan(
    setting: Setting,
    algorithm: str | Training | Iteration | None = None,
    streaming: bool | None = None,
    law: PromptLaw = GAUSSIAN_PROMPTS,
    prior: Prior | None = None,
) -> tuple[Algorithm | Training | Iteration, bool]:
    """Whether to stream the prompts, then the cheapest algorithm that fits into memory.

    Args:
        setting: the experiment.
        algorithm: a name, how to train or to iterate, or None to choose (`choose_algorithm`).
        streaming: None: if the features would take more than `FEATURES_SHARE` of the available memory.
        law: of the prompts, with its sampler.
        prior: of the weights, beside the ridge; by default that of the setting's penalties.

    Raises:
        ParameterError: an algorithm that does not fit the setting, or a prior without a minimiser.
        MemoryEstimateError: one realisation does not fit; it names the parameter that costs most (D: dense
            matrix, weights; P: kernel or prompts; N: one prompt's tokens), its value, the estimate and
            what is available.
    """
    available = available_bytes()
    streamed = feature_bytes(setting) > FEATURES_SHARE * available if streaming is None else streaming
    chosen: Algorithm | Training | Iteration
    weights = prior or prior_of(setting)
    if weights is not None and not isinstance(algorithm, Iteration):
        minimiser_of(weights)
    if isinstance(algorithm, Training):
        if weights is not None:
            advice = f"must be {' or '.join(UNDER_PRIORS)} under the {weights.shown} prior: training has a ridge alone"
            raise ParameterError("algorithm", algorithm.optimiser, advice)
        chosen = _check_training(setting, algorithm)
    elif isinstance(algorithm, Iteration):
        chosen = check_iteration(setting, algorithm, weights)
    else:
        chosen = choose_algorithm(
            setting.P,
            setting.D,
            setting.ridge,
            setting.minimum_norm,
            algorithm,
            scale=_context_scale(setting),
            thermal=math.isfinite(setting.beta),
            pass_seconds=pass_seconds(setting, law) if streamed else 0.0,
            memory=available - sample_bytes(setting, streamed, law) - _FIXED_BYTES,
            prior="" if weights is None else weights.shown,
        )
    estimate = realisation_bytes(setting, chosen, streamed, law)
    if estimate <= available:
        return chosen, streamed
    blamed = chosen == "dense" or setting.acting_weights >= (setting.P**2 if chosen == "dual" else setting.P)
    blamed = blamed and _matrix_bytes(setting, chosen) >= sample_bytes(setting, streamed, law)
    name, value = ("D", setting.D) if blamed else ("P", setting.P)
    advice = ""
    if 2 * _batch_bytes(setting, law) > estimate:
        name, value, advice = "N", setting.N, "; prompts = sufficient needs no tokens"
    how = chosen if isinstance(chosen, str) else chosen.optimiser if isinstance(chosen, Training) else chosen.name
    raise MemoryEstimateError(
        name,
        value,
        f"one realisation ({how}) would need {estimate / GIB:.1f} GiB of memory, "
        f"{available / GIB:.1f} GiB are available (and about "
        f"{duration(realisation_seconds(setting, chosen, streamed, law))} on one core){advice}",
    )


def _check_training(setting: Setting, how: Training) -> Training:
    """A training that fits the setting.

    Raises:
        ParameterError: a temperature, batches larger than the data, or separate matrices that start at zero.
    """
    if math.isfinite(setting.beta):
        raise ParameterError("beta", setting.beta, f"must be inf with {how.optimiser}: training has no temperature")
    if how.batch is not None and how.batch > setting.P:
        raise ParameterError("batch", how.batch, f"must be at most the number of prompts, P = {setting.P}")
    if how.inner is not None and not how.initial_scale > 0:
        raise ParameterError("initial_scale", how.initial_scale, "must be positive for separate W_Q and W_K")
    return how
