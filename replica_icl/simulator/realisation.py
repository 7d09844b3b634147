"""One disorder realisation: draw the prompts, find the ground state, score it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl.priors import Prior, prior_of
from replica_icl.setting import Setting
from replica_icl.simulator.features import FeatureSource
from replica_icl.simulator.gibbs import gibbs_errors, log_partition
from replica_icl.simulator.ground_state import GroundState, ground_state
from replica_icl.simulator.iterations import Iterated, iterate
from replica_icl.simulator.laws import GAUSSIAN_PROMPTS, PromptLaw
from replica_icl.simulator.observables import icl_error, idg_error, overlaps
from replica_icl.simulator.optima.descent import Optimum
from replica_icl.simulator.optima.registry import Minimiser, minimiser_of, registered
from replica_icl.simulator.optimisers import Training
from replica_icl.simulator.outside import Iteration
from replica_icl.simulator.prompts import check_tasks, draw_tasks
from replica_icl.simulator.streaming import StreamedFeatures
from replica_icl.simulator.streams import random_streams
from replica_icl.simulator.training import Trajectory, train

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Instance:
    """The quenched disorder of one realisation.

    Attributes:
        features: `setting.P` training prompts, in memory or by their seeds.
        tasks: the (K, D) training tasks; None for fresh tasks, one per prompt.
        law: of the prompts.
    """

    features: FeatureSource
    tasks: Array | None
    law: PromptLaw


@dataclass(frozen=True, eq=False)
class Realisation:
    """One solved realisation.

    Attributes:
        instance: the quenched disorder.
        ground: its exact ground state or optimum, or where training or an iteration ended and how it got there.
        values: the observables by name (see `simulate`).
    """

    instance: Instance
    ground: GroundState | Optimum | Trajectory | Iterated
    values: dict[str, float]


def fix_tasks(setting: Setting, tasks: ArrayLike | None) -> tuple[Setting, Array | None]:
    """Check a given task matrix and let it fix K.

    Raises:
        ParameterError: bad matrix, or another K in the setting.
    """
    if tasks is None:
        return setting, None
    matrix = check_tasks(tasks, setting.D, setting.K)
    return replace(setting, K=len(matrix)), matrix


def draw_instance(
    setting: Setting,
    seed: int = 0,
    realisation: int = 0,
    tasks: ArrayLike | None = None,
    law: PromptLaw = GAUSSIAN_PROMPTS,
    streaming: bool = False,
) -> Instance:
    """The prompts that realisation number `realisation` of `simulate(setting, ..., seed)` trains on.

    Args:
        setting, seed, realisation, tasks: as in `simulate`.
        law: of the prompts, with the sampler that draws them.
        streaming: do not keep the prompts; they are the same ones.

    Raises:
        ParameterError: bad seed, index or tasks.
    """
    fixed, given = fix_tasks(setting, tasks)
    streams = random_streams(fixed, seed, realisation, given, law)
    used = draw_tasks(fixed, streams.tasks(), law) if given is None else given
    streamed = StreamedFeatures(fixed, used, law, streams)
    return Instance(streamed if streaming else streamed.collect(), used, law)


def realise(
    setting: Setting,
    seed: int = 0,
    realisation: int = 0,
    algorithm: str | Training | Iteration | None = None,
    tasks: ArrayLike | None = None,
    law: PromptLaw = GAUSSIAN_PROMPTS,
    streaming: bool = False,
    prior: Prior | None = None,
    minimiser: Minimiser | None = None,
) -> Realisation:
    """Draw, solve and score one realisation; arguments, observables and errors as in `simulate`.

    Args:
        minimiser: of the prior, by default the one that is registered; an `Iteration` can do without.

    Without an algorithm, a finite beta takes a factorisation, which its observables need.

    Raises:
        SolveError: the ground state could not be computed, or an observable is not finite.
    """
    instance = draw_instance(setting, seed, realisation, tasks, law, streaming)
    if isinstance(algorithm, Training):
        fixed, given = fix_tasks(setting, tasks)
        rng = random_streams(fixed, seed, realisation, given, law).training()
        trained = train(instance.features, setting.ridge, algorithm, N=setting.N, noise=setting.noise, law=law, rng=rng)
        return Realisation(instance, trained, observe(setting, instance, trained))
    weights = prior or prior_of(setting)
    if isinstance(algorithm, Iteration):
        known = minimiser or registered(weights)
        reached = iterate(instance.features, setting.ridge, algorithm, weights, known)
        return Realisation(instance, reached, observe(setting, instance, reached))
    if weights is not None:
        find = minimiser or minimiser_of(weights)
        optimum = find(instance.features, ridge=setting.ridge, **weights.penalties)
        return Realisation(instance, optimum, observe(setting, instance, optimum))
    if algorithm is None and math.isfinite(setting.beta):
        algorithm = "dual" if setting.P < setting.acting_weights else "dense"
    ground = ground_state(instance.features, setting.ridge, algorithm=algorithm, minimum_norm=setting.minimum_norm)
    return Realisation(instance, ground, observe(setting, instance, ground))


def observe(
    setting: Setting, instance: Instance, ground: GroundState | Optimum | Trajectory | Iterated
) -> dict[str, float]:
    """Every observable of a ground state, or of trained weights, by name, tested as trained: same N, noise and law.

    For fresh tasks the law of the training tasks is that of new ones, so e_idg is e_icl. Where the law has other test
    prompts, e_icl_test is the error on them.
    """
    N, noise = setting.N, setting.noise
    e_icl = icl_error(ground.W, N, noise, instance.law, D=setting.D)
    overlap = overlaps(ground.W)
    values = {
        "e_icl": e_icl,
        "e_idg": e_icl if instance.tasks is None else idg_error(ground.W, instance.tasks, N, noise, instance.law),
        "train_error": ground.training_error,
        "m": overlap.m,
        "q": overlap.q,
        "u": overlap.u,
        "contrast": overlap.contrast,
    }
    if instance.law.tested:
        law = instance.law
        own = N if law.test_N is None else law.test_N, noise if law.test_noise is None else law.test_noise
        values["e_icl_test"] = icl_error(ground.W, *own, law.in_test(), D=setting.D)
    if isinstance(ground, Iterated):
        known = {} if ground.distance is None else {"distance": ground.distance}
        values |= {**known, "iterations": float(ground.iterations)}
    if isinstance(ground, Optimum):
        values["gap"] = ground.gap
    if math.isfinite(setting.beta) and isinstance(ground, GroundState):
        errors = gibbs_errors(ground, setting.beta, N, noise, instance.law)
        values["e_gibbs"] = errors.test
        values["train_gibbs"] = errors.training
        values["log_Z"] = log_partition(ground, setting.beta)
        # The energy is quadratic: <E> lies 1/(2 beta) per acting weight above the ground state.
        values["entropy"] = values["log_Z"] + setting.beta * ground.energy + setting.acting_weights / 2
    return values
