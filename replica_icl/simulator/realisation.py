"""One disorder realisation: draw the prompts, find the ground state, score it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl.setting import Setting
from replica_icl.simulator.features import Features, draw_features
from replica_icl.simulator.gibbs import gibbs_errors, log_partition
from replica_icl.simulator.ground_state import GroundState, ground_state
from replica_icl.simulator.observables import icl_error, idg_error, overlaps
from replica_icl.simulator.prompts import check_tasks, draw_tasks
from replica_icl.simulator.streams import random_stream

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Instance:
    """The quenched disorder of one realisation.

    Attributes:
        features: `setting.P` training prompts.
        tasks: the (K, D) training tasks; None for fresh tasks, one per prompt.
    """

    features: Features
    tasks: Array | None


@dataclass(frozen=True, eq=False)
class Realisation:
    """One solved realisation.

    Attributes:
        instance: the quenched disorder.
        ground: its exact ground state.
        values: the observables by name (see `simulate`).
    """

    instance: Instance
    ground: GroundState
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


def draw_instance(setting: Setting, seed: int = 0, realisation: int = 0, tasks: ArrayLike | None = None) -> Instance:
    """The prompts that realisation number `realisation` of `simulate(setting, ..., seed)` trains on.

    Raises:
        ParameterError: bad seed, index or tasks.
    """
    fixed, given = fix_tasks(setting, tasks)
    rng = random_stream(fixed, seed, realisation, given)
    used = draw_tasks(fixed, rng) if given is None else given
    return Instance(draw_features(fixed, rng, used), used)


def realise(
    setting: Setting,
    seed: int = 0,
    realisation: int = 0,
    algorithm: str | None = None,
    tasks: ArrayLike | None = None,
) -> Realisation:
    """Draw, solve and score one realisation; arguments, observables and errors as in `simulate`.

    Raises:
        SolveError: the ground state could not be computed, or an observable is not finite.
    """
    instance = draw_instance(setting, seed, realisation, tasks)
    ground = ground_state(instance.features, setting.ridge, algorithm=algorithm, minimum_norm=setting.minimum_norm)
    return Realisation(instance, ground, observe(setting, instance, ground))


def observe(setting: Setting, instance: Instance, ground: GroundState) -> dict[str, float]:
    """Every observable of a ground state by name, tested at the context length and noise of the setting.

    For fresh tasks the law of the training tasks is that of new ones, so e_idg is e_icl.
    """
    N, noise = setting.N, setting.noise
    e_icl = icl_error(ground.W, N, noise)
    overlap = overlaps(ground.W)
    values = {
        "e_icl": e_icl,
        "e_idg": e_icl if instance.tasks is None else idg_error(ground.W, instance.tasks, N, noise),
        "train_error": ground.training_error,
        "m": overlap.m,
        "q": overlap.q,
        "u": overlap.u,
        "contrast": overlap.contrast,
    }
    if math.isfinite(setting.beta):
        errors = gibbs_errors(ground, setting.beta, N, noise)
        values["e_gibbs"] = errors.test
        values["train_gibbs"] = errors.training
        values["log_Z"] = log_partition(ground, setting.beta)
    return values
