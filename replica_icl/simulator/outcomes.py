"""One realisation as a piece of work: sent to a process, brought back, stored, and told about when it failed."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from replica_icl.errors import SolveError
from replica_icl.priors import Prior
from replica_icl.processes import as_finished
from replica_icl.setting import Setting
from replica_icl.simulator.algorithms import Algorithm
from replica_icl.simulator.laws import PromptLaw
from replica_icl.simulator.optima.registry import Minimiser
from replica_icl.simulator.optimisers import Training
from replica_icl.simulator.outside import Iteration
from replica_icl.simulator.realisation import realise
from replica_icl.simulator.storage import Store
from replica_icl.simulator.training import Trajectory

Array = NDArray[np.float64]

SHOWN = 5
"""Failed realisations that one error message describes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Job:
    """One realisation, as sent to a worker process."""

    setting: Setting
    seed: int
    index: int
    algorithm: Algorithm | Training | Iteration
    tasks: Array | None
    law: PromptLaw
    streaming: bool
    prior: Prior | None = None
    minimiser: Minimiser | None = None


@dataclass(frozen=True)
class Outcome:
    """The values of one realisation, or the reason why it has none."""

    index: int
    values: dict[str, float]
    failure: str | None = None
    curves: dict[str, list[float]] = field(default_factory=dict)


def run_job(job: Job) -> Outcome:
    """Realise one job; a failed solve becomes an outcome that says why."""
    try:
        done = realise(
            job.setting, job.seed, job.index, job.algorithm, job.tasks, job.law, job.streaming, job.prior, job.minimiser
        )
    except SolveError as error:
        return Outcome(job.index, {}, str(error))
    values = done.values
    broken = [name for name, value in values.items() if not np.isfinite(value)]
    failure = f"not finite: {', '.join(broken)}" if broken else None
    return Outcome(job.index, values, failure, _curves(done.ground) if isinstance(done.ground, Trajectory) else {})


def _curves(trained: Trajectory) -> dict[str, list[float]]:
    """What training recorded along the way."""
    arrays = (trained.epochs, trained.times, trained.train_errors, trained.test_errors)
    return {name: array.tolist() for name, array in zip(("epoch", "time", "train_error", "e_icl"), arrays, strict=True)}


def lost(job: Job, exit_code: int) -> Outcome:
    """The outcome of a job whose worker process died."""
    return Outcome(job.index, {}, f"its worker process died (exit code {exit_code}); was it out of memory?")


def _with_progress(outcomes: Iterable[Outcome], total: int) -> Iterator[Outcome]:
    """Show progress on standard error: a bar on a terminal, otherwise about ten log lines."""
    if sys.stderr.isatty():
        yield from tqdm(outcomes, total=total, desc="realisations", unit="")
        return
    step = max(1, total // 10)
    for done, outcome in enumerate(outcomes, start=1):
        if done % step == 0 or done == total:
            _log.info("%d of %d realisations", done, total)
        yield outcome


class RealisationError(SolveError):
    """Realisations failed, or their processes died; all the others were finished.

    Attributes:
        failures: index -> why.
        finished: index -> observables of the others. They are no ensemble: what failed is not missing at random.
    """

    def __init__(self, message: str, failures: dict[int, str], finished: dict[int, dict[str, float]]) -> None:
        super().__init__(message)
        self.failures = failures
        self.finished = finished

    def __reduce__(self) -> tuple[type, tuple[str, dict[int, str], dict[int, dict[str, float]]]]:
        """Survive the way back from a worker process."""
        return type(self), (str(self), self.failures, self.finished)


def stored_outcomes(store: Store, realisations: int) -> dict[int, Outcome]:
    """The realisations that are stored already."""
    found = {
        i: Outcome(i, one["values"], None, one.get("curves", {})) for i, one in store.finished(realisations).items()
    }
    if found:
        _log.info("%d of %d realisations were finished before", len(found), realisations)
    return found


def run_jobs(
    jobs: Iterable[Job], missing: int, total: int, seed: int, processes: int, store: Store | None, progress: bool
) -> list[Outcome]:
    """Run jobs and store what they give as it arrives; their outcomes, in any order.

    Args:
        jobs: made one by one as they are run.
        missing: how many they are, out of `total` realisations of a seed.

    Raises:
        RealisationError: some failed; all the others are finished.
        StorageError: one could not be written.
    """
    outcomes = []
    with closing(as_finished(run_job, jobs, min(processes, max(1, missing)), died=lost)) as running:
        arriving = (outcome for _, outcome in running)
        for outcome in _with_progress(arriving, missing) if progress else arriving:
            if store is not None and outcome.failure is None:
                curves = {"curves": outcome.curves} if outcome.curves else {}
                store.write(outcome.index, {"values": outcome.values, **curves})
            outcomes.append(outcome)
    failures = {one.index: one.failure for one in sorted(outcomes, key=_index) if one.failure is not None}
    if failures:
        told = [f"realisation {i} of {total} (seed {seed}): {why}" for i, why in list(failures.items())[:SHOWN]]
        more = f"; and {len(failures) - SHOWN} more" if len(failures) > SHOWN else ""
        rest = "; the others are finished" + ("" if store is None else f" and kept in {store.folder}")
        finished = {one.index: one.values for one in sorted(outcomes, key=_index) if one.failure is None}
        counted = f"{len(failures)} of {total} realisations failed: "
        raise RealisationError(counted + "; ".join(told) + more + rest, failures, finished)
    return outcomes


def _index(outcome: Outcome) -> int:
    return outcome.index
