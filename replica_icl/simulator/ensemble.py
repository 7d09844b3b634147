"""Many disorder realisations of one setting: the simulated side of every comparison with theory."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from replica_icl import __version__
from replica_icl.errors import ParameterError, SolveError
from replica_icl.setting import Setting, check_integer
from replica_icl.simulator.algorithms import Algorithm
from replica_icl.simulator.budget import available_bytes, plan, realisation_bytes, realisation_seconds
from replica_icl.simulator.laws import GAUSSIAN_PROMPTS, PromptLaw
from replica_icl.simulator.observables import Estimate
from replica_icl.simulator.optimisers import OPTIMISERS, Training
from replica_icl.simulator.realisation import fix_tasks, realise
from replica_icl.simulator.storage import Store, plain
from replica_icl.simulator.streams import tasks_digest
from replica_icl.simulator.training import Trajectory
from replica_icl.simulator.workers import may_spawn, ordered_map

Array = NDArray[np.float64]

PARALLEL_SECONDS = 4.0
"""Estimated serial time from which `workers=None` uses processes (starting one takes about half a second)."""

SHOWN = 5
"""Failed realisations that one error message describes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Provenance:
    """What an ensemble was made from.

    Attributes:
        setting: the experiment, with K set when a task matrix was given.
        seed: of the random streams.
        realisations: how many.
        algorithm: "dense", "dual" or "cg", the one used, or how the weights were trained.
        version: of the package.
        tasks_sha256: digest of a given task matrix, None when tasks were drawn.
        law: of the prompts, with the sampler that drew them.
        streaming: whether the prompts were drawn again on every pass.
    """

    setting: Setting
    seed: int
    realisations: int
    algorithm: Algorithm | Training
    version: str
    tasks_sha256: str | None
    law: PromptLaw
    streaming: bool

    def to_dict(self) -> dict[str, Any]:
        """What decides the numbers, as JSON: everything but the number of realisations."""
        return {
            "setting": plain(self.setting),
            "seed": self.seed,
            "algorithm": plain(self.algorithm),
            "version": self.version,
            "tasks_sha256": self.tasks_sha256,
            "law": plain(self.law),
            "streaming": self.streaming,
        }


@dataclass(frozen=True, eq=False)
class SimulatedEnsemble:
    """Observables of R disorder realisations.

    Attributes:
        values: name -> value of every realisation, shape (R,), in the order of the realisation index.
        provenance: what it was made from.
        curves: of trained weights, "epoch", "time" (of the flow), "train_error" and "e_icl", shape (R, recorded).
    """

    values: dict[str, Array]
    provenance: Provenance
    curves: dict[str, Array] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Estimate:
        """Mean, standard error over realisations and n of one observable."""
        return Estimate.of(self.values[name])

    @property
    def n(self) -> int:
        """Number of realisations R."""
        return self.provenance.realisations

    @property
    def mean(self) -> dict[str, float]:
        """Disorder averages by name."""
        return {name: self[name].mean for name in self.values}

    @property
    def sem(self) -> dict[str, float | None]:
        """Standard errors of the disorder averages by name (ddof = 1); None for one realisation."""
        return {name: self[name].sem for name in self.values}

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain {"e_icl": {"mean": ..., "sem": ..., "n": ...}, ...}, ready for JSON."""
        return {
            name: {"mean": estimate.mean, "sem": estimate.sem, "n": estimate.n}
            for name, estimate in ((name, self[name]) for name in self.values)
        }


@dataclass(frozen=True, eq=False)
class _Job:
    """One realisation, as sent to a worker process."""

    setting: Setting
    seed: int
    index: int
    algorithm: Algorithm | Training
    tasks: Array | None
    law: PromptLaw
    streaming: bool


@dataclass(frozen=True)
class _Outcome:
    """The values of one realisation, or the reason why it has none."""

    index: int
    values: dict[str, float]
    failure: str | None = None
    curves: dict[str, list[float]] = field(default_factory=dict)


def _run(job: _Job) -> _Outcome:
    """Realise one job; a failed solve becomes an outcome that says why."""
    try:
        done = realise(job.setting, job.seed, job.index, job.algorithm, job.tasks, job.law, job.streaming)
    except SolveError as error:
        return _Outcome(job.index, {}, str(error))
    values = done.values
    broken = [name for name, value in values.items() if not np.isfinite(value)]
    failure = f"not finite: {', '.join(broken)}" if broken else None
    return _Outcome(job.index, values, failure, _curves(done.ground) if isinstance(done.ground, Trajectory) else {})


def _curves(trained: Trajectory) -> dict[str, list[float]]:
    """What training recorded along the way."""
    arrays = (trained.epochs, trained.times, trained.train_errors, trained.test_errors)
    return {name: array.tolist() for name, array in zip(("epoch", "time", "train_error", "e_icl"), arrays, strict=True)}


def _lost(job: _Job, exit_code: int) -> _Outcome:
    """The outcome of a job whose worker process died."""
    return _Outcome(job.index, {}, f"its worker process died (exit code {exit_code}); was it out of memory?")


def _choose_workers(
    workers: int | None,
    setting: Setting,
    realisations: int,
    algorithm: Algorithm | Training,
    streaming: bool = False,
    law: PromptLaw = GAUSSIAN_PROMPTS,
) -> int:
    """Number of processes: as asked or one per processor for long jobs, never more than memory holds."""
    if workers is None:
        long = realisation_seconds(setting, algorithm, streaming, law) * realisations > PARALLEL_SECONDS
        wanted = (os.cpu_count() or 1) if long and may_spawn() else 1
    else:
        wanted = check_integer("workers", workers, 1)
    fitting = max(1, available_bytes() // realisation_bytes(setting, algorithm, streaming, law))
    chosen = min(wanted, realisations, fitting)
    if fitting < min(wanted, realisations):
        _log.info("%d workers instead of %d: no memory for more", chosen, wanted)
    return chosen


def _announce(seconds: float) -> None:
    """Say before a job of more than ten minutes how long it may take."""
    if seconds > 600:
        _log.info("estimated time: about %.2g hours", seconds / 3600)


def _with_progress(outcomes: Iterable[_Outcome], total: int) -> Iterator[_Outcome]:
    """Show progress on standard error: a bar on a terminal, otherwise about ten log lines."""
    if sys.stderr.isatty():
        yield from tqdm(outcomes, total=total, desc="realisations", unit="")
        return
    step = max(1, total // 10)
    for done, outcome in enumerate(outcomes, start=1):
        if done % step == 0 or done == total:
            _log.info("%d of %d realisations", done, total)
        yield outcome


def simulate(
    setting: Setting,
    realisations: int,
    seed: int = 0,
    workers: int | None = None,
    algorithm: str | Training | None = None,
    progress: bool = False,
    tasks: ArrayLike | None = None,
    *,
    out: str | Path | None = None,
    prompts: str = "tokens",
    law: str = "gaussian",
    task_law: str | None = None,
    streaming: bool | None = None,
    usage: str = "random",
    sphere: bool = False,
) -> SimulatedEnsemble:
    """Simulate R independent realisations of the disorder, token by token, and solve each exactly, or train on it.

    Observables, at the context length and noise of the setting. Of the ground state: e_icl (new tasks),
    e_idg (w uniform over the training tasks; equal to e_icl for fresh tasks, K = None, whose law is that of
    new tasks), train_error, m, q, u, contrast. At finite beta also e_gibbs (new tasks) and train_gibbs, the
    expected errors of a Boltzmann sample, and log_Z over the D(D+1) acting weights.
    Source: Li et al., arXiv:2408.02288.

    Args:
        setting: the experiment.
        realisations: R >= 1.
        seed: >= 0. Realisation r depends on the setting, the seed, the tasks and r only.
        workers: processes; None: one per processor for a long job, else serial. Results do not depend on it.
        algorithm: "dense", "dual", "cg" (no matrix; not at finite beta) or None for the cheapest: the smaller
            matrix, or none where it is large and well conditioned or does not fit. A `Training`, or the name of an
            optimiser for its defaults, trains instead, with weight decay 2 lambda_0; not at finite beta.
        progress: report progress on a terminal, or in log lines of level INFO.
        tasks: (K, D) task matrix shared by all realisations; it fixes K. None: a new one per realisation.
        out: a folder where every realisation is stored as it is finished (`storage.py`); those that are there
            already are not simulated again, and a failed one does not keep the others from being finished.
        prompts: "tokens", or "sufficient": features drawn directly, in O(D) numbers per prompt. The law is the
            same, the random numbers are others.
        law: of the entries of tokens and queries, and of tasks unless `task_law` says otherwise: "gaussian",
            or to probe universality "rademacher", "uniform", "student-t[:DOF]", "sparse[:DENSITY]", all of
            unit variance. Test prompts and new tasks have the law of the training ones.
        task_law: of the entries of tasks.
        usage: of a finite number of training tasks: "random" (every prompt takes one uniformly) or "equal" (equally
            often, up to one prompt).
        sphere: put drawn training tasks on |w| = sqrt(D), with usage "equal" the choice of Lu et al.,
            arXiv:2405.11751; e_icl stays the error on Gaussian tasks.
        streaming: draw the prompts again on every pass instead of keeping them, for P beyond memory; the same
            result to rounding. None: if they would take more than half of the available memory.

    Raises:
        ParameterError: bad input, before any work.
        MemoryEstimateError: one realisation does not fit in memory, before any work.
        SolveError: a realisation failed; the message holds its index. Nothing is averaged over the others.
        StorageError: a realisation could not be written; those that were are kept.
    """
    R, checked_seed = check_integer("realisations", realisations, 1), check_integer("seed", seed, 0)
    fixed, given = fix_tasks(setting, tasks)
    prompt_law = PromptLaw.of(prompts, law, task_law, usage, sphere)
    if sphere and (given is not None or fixed.K is None):
        raise ParameterError("sphere", sphere, "must be given with a number K of tasks to draw")
    if fixed.K is None and usage != "random":
        raise ParameterError("usage", usage, "must be random for fresh tasks, each of which is used once")
    how = next((Training(name) for name in OPTIMISERS if name == algorithm), algorithm)
    chosen, streamed = plan(fixed, how, streaming, prompt_law)
    digest = None if given is None else tasks_digest(given)
    provenance = Provenance(fixed, checked_seed, R, chosen, __version__, digest, prompt_law, streamed)
    processes = _choose_workers(workers, fixed, R, chosen, streamed, prompt_law)
    store = None if out is None else Store(out, provenance.to_dict())
    try:
        finished = {} if store is None else _finished(store, R)
        jobs = [
            _Job(fixed, checked_seed, index, chosen, given, prompt_law, streamed)
            for index in range(R)
            if index not in finished
        ]
        _announce(realisation_seconds(fixed, chosen, streamed, prompt_law) * len(jobs) / processes)
        finished |= {one.index: one for one in _outcomes(jobs, processes, provenance, store, progress)}
        outcomes = [finished[index] for index in range(R)]
        values = {name: np.array([one.values[name] for one in outcomes]) for name in outcomes[0].values}
        curves = {name: np.array([one.curves[name] for one in outcomes]) for name in outcomes[0].curves}
        ensemble = SimulatedEnsemble(values, provenance, curves)
        if store is not None:
            arrays = {"values": values, "curves": curves}
            lists = {kind: {name: array.tolist() for name, array in of.items()} for kind, of in arrays.items()}
            store.merge({"experiment": provenance.to_dict(), "estimates": ensemble.to_dict(), **lists})
        return ensemble
    finally:
        if store is not None:
            store.close()


def _finished(store: Store, realisations: int) -> dict[int, _Outcome]:
    """The realisations that are stored already."""
    stored = {index: store.read(index) for index in range(realisations)}
    found = {i: _Outcome(i, one["values"], None, one.get("curves", {})) for i, one in stored.items() if one is not None}
    if found:
        _log.info("%d of %d realisations were finished before", len(found), realisations)
    return found


def _outcomes(
    jobs: list[_Job], processes: int, provenance: Provenance, store: Store | None, progress: bool
) -> list[_Outcome]:
    """Run jobs and store what they give as it arrives.

    Raises:
        SolveError: some failed: with a store after all the others are finished, without one at once.
        StorageError: one could not be written.
    """

    def keep(outcome: _Outcome) -> None:
        if store is not None and outcome.failure is None:
            curves = {"curves": outcome.curves} if outcome.curves else {}
            store.write(outcome.index, {"values": outcome.values, **curves})

    collected, failures = [], []
    running = ordered_map(_run, jobs, min(processes, max(1, len(jobs))), died=_lost, arrived=keep)
    try:
        for outcome in _with_progress(running, len(jobs)) if progress else running:
            collected.append(outcome)
            if outcome.failure is not None:
                name = f"realisation {outcome.index} of {provenance.realisations} (seed {provenance.seed})"
                failures.append(f"{name}: {outcome.failure}")
                if store is None:
                    break
    finally:
        if isinstance(running, Generator):
            running.close()
    if failures:
        more = f"; and {len(failures) - SHOWN} more" if len(failures) > SHOWN else ""
        rest = "" if store is None else f"; the finished realisations are kept in {store.folder}"
        raise SolveError("; ".join(failures[:SHOWN]) + more + rest)
    return collected
