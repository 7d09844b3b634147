"""Many disorder realisations of one setting: the simulated side of every comparison with theory."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl import __version__
from replica_icl.answers import Answer, lines
from replica_icl.covariances import COVARIANCES
from replica_icl.errors import ParameterError
from replica_icl.keys import array_digest, plain
from replica_icl.options import STRUCTURE
from replica_icl.priors import Prior, penalties_of, refuse_two_priors
from replica_icl.processes import may_spawn, processors
from replica_icl.setting import Setting, check_integer, one_setting
from replica_icl.simulator.algorithms import Algorithm
from replica_icl.simulator.budget import (
    GIB,
    available_bytes,
    duration,
    plan,
    realisation_bytes,
    realisation_seconds,
)
from replica_icl.simulator.laws import GAUSSIAN_PROMPTS, Law, PromptLaw
from replica_icl.simulator.observables import Estimate
from replica_icl.simulator.optima.registry import registered
from replica_icl.simulator.optimisers import OPTIMISERS, Training
from replica_icl.simulator.outcomes import Job, run_jobs, stored_outcomes
from replica_icl.simulator.outside import Iteration
from replica_icl.simulator.realisation import fix_tasks
from replica_icl.simulator.storage import Store
from replica_icl.store import as_path

Array = NDArray[np.float64]

PARALLEL_SECONDS = 4.0
"""Estimated serial time from which `workers=None` uses processes (starting one takes about half a second)."""

LONG_SECONDS = 600.0
"""Estimated time from which a job says before it starts how long it may take."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Provenance:
    """What an ensemble was made from.

    Attributes:
        setting: the experiment, with K set when a task matrix was given.
        seed: of the random streams.
        realisations: how many.
        algorithm: "dense", "dual" or "cg", the one used, or how the weights were trained or iterated.
        version: of the package.
        tasks_sha256: digest of a given task matrix, None when tasks were drawn.
        law: of the prompts, with the sampler that drew them.
        streaming: whether the prompts were drawn again on every pass.
        prior: of the weights, where it was given beside the setting.
    """

    setting: Setting
    seed: int
    realisations: int
    algorithm: Algorithm | Training | Iteration
    version: str
    tasks_sha256: str | None
    law: PromptLaw
    streaming: bool
    prior: Prior | None = None

    def to_dict(self) -> dict[str, Any]:
        """What decides the numbers, as JSON: everything but the number of realisations."""
        return {
            "setting": plain(self.setting),
            "seed": self.seed,
            "algorithm": plain(how.described() if isinstance(how := self.algorithm, Iteration) else how),
            "version": self.version,
            "tasks_sha256": self.tasks_sha256,
            "law": plain(self.law),
            "streaming": self.streaming,
            **({} if self.prior is None else {"prior": {"name": self.prior.name, **self.prior.penalties}}),
        }


@dataclass(frozen=True, eq=False, repr=False)
class SimulatedEnsemble(Answer):
    """Observables of R disorder realisations: `ensemble["e_icl"]` or `ensemble.e_icl` is an `Estimate`.

    Attributes:
        values: name -> value of every realisation, shape (R,), in the order of the realisation index.
        provenance: what it was made from.
        curves: of trained weights, "epoch", "time" (of the flow), "train_error" and "e_icl", shape (R, recorded).
    """

    values: dict[str, Array]
    provenance: Provenance
    curves: dict[str, Array] = field(default_factory=dict)

    @property
    def parameters(self) -> Setting:  # type: ignore[override]
        """The experiment."""
        return self.provenance.setting

    def names(self) -> tuple[str, ...]:
        """The observables that are there."""
        return tuple(self.values)

    def rests_on(self) -> tuple[str, ...]:
        """The model, the algorithm, how tasks were drawn, and the prior."""
        made, law = self.provenance, self.provenance.law
        by = made.algorithm
        how = by if isinstance(by, str) else by.optimiser if isinstance(by, Training) else by.name
        prior = penalties_of(made.setting) | ({} if made.prior is None else made.prior.penalties)
        return ("model", how, *("sphere",) * (law.sphere and law.usage == "equal"), *prior)

    def _value(self, name: str) -> Estimate:
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

    @property
    def spread(self) -> dict[str, float | None]:
        """Standard deviations from one realisation to another by name; None for one realisation."""
        return {name: self[name].spread for name in self.values}

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain {"e_icl": {"mean": ..., "sem": ..., "spread": ..., "n": ...}, ...}, ready for JSON."""
        return {name: self[name].to_dict() for name in self.values}

    def columns(self) -> dict[str, Any]:
        """NAME_mean, NAME_sem and NAME_spread of every observable, and n; NaN where one realisation has no such."""
        found: dict[str, Any] = {"n": self.n}
        for name in self.values:
            one = self[name]
            parts = {"mean": one.mean, "sem": one.sem, "spread": one.spread}
            found |= {f"{name}_{part}": math.nan if value is None else value for part, value in parts.items()}
        return found

    def table(self) -> str:
        """Text: observable, mean, standard error, spread, n."""
        each = [self[name] for name in self.values]
        return lines(
            {
                "observable": list(self.values),
                "mean": [f"{one.mean:.8g}" for one in each],
                "std. error": [_told(one.sem) for one in each],
                "spread": [_told(one.spread) for one in each],
                "n": [str(one.n) for one in each],
            }
        )

    __str__ = table

    def __repr__(self) -> str:
        means = ", ".join(f"{name}={one.mean:.6g}" for name in self.values if (one := self[name]))
        return f"<SimulatedEnsemble of {self.n} realisations: {means}>"


def _told(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2g}"


def _choose_workers(
    workers: int | None,
    setting: Setting,
    realisations: int,
    algorithm: Algorithm | Training | Iteration,
    streaming: bool = False,
    law: PromptLaw = GAUSSIAN_PROMPTS,
) -> int:
    """Number of processes: as asked or one per processor for long jobs, never more than memory holds."""
    if workers is None:
        long = realisation_seconds(setting, algorithm, streaming, law) * realisations > PARALLEL_SECONDS
        wanted = processors() if long and may_spawn() else 1
    else:
        wanted = check_integer("workers", workers, 1)
    fitting = max(1, available_bytes() // realisation_bytes(setting, algorithm, streaming, law))
    chosen = min(wanted, realisations, fitting)
    if fitting < min(wanted, realisations):
        _log.info("%d workers instead of %d: no memory for more", chosen, wanted)
    return chosen


def _announce(what: Provenance, missing: int, processes: int) -> None:
    """Say before a job of more than ten minutes how long it may take, and what memory."""
    how = what.setting, what.algorithm, what.streaming, what.law
    if (seconds := realisation_seconds(*how) * missing / processes) > LONG_SECONDS:
        memory = realisation_bytes(*how) * processes / GIB
        of = f"{missing} realisations in {processes} process{'es' * (processes > 1)}"
        _log.info("estimated: about %s for %s, with %.1f GiB of memory", duration(seconds), of, memory)


def simulate(
    setting: Setting,
    realisations: int,
    seed: int = 0,
    workers: int | None = None,
    algorithm: str | Training | Iteration | None = None,
    progress: bool = False,
    tasks: ArrayLike | None = None,
    *,
    out: str | Path | None = None,
    prompts: str = "tokens",
    law: str | Law = "gaussian",
    task_law: str | Law | None = None,
    streaming: bool | None = None,
    usage: str = "random",
    sphere: bool = False,
    prior: Prior | None = None,
    **structure: Any,
) -> SimulatedEnsemble:
    """Simulate R independent realisations of the disorder, token by token, and solve each exactly, or train on it.

    Observables, at the context length and noise of the setting. Of the ground state: e_icl (new tasks),
    e_idg (w uniform over the training tasks; equal to e_icl for fresh tasks, K = None, whose law is that of
    new tasks), train_error, m, q, u, contrast; under a penalty beside the ridge also gap, the duality gap
    of the exact optimum. At finite beta also e_gibbs (new tasks) and train_gibbs, the
    expected errors of a Boltzmann sample, and log_Z over the D(D+1) acting weights.
    Source: Li et al., arXiv:2408.02288.

    Args:
        setting: the experiment.
        realisations: R >= 1.
        seed: >= 0. Realisation r depends on the setting, the seed, the tasks and r only.
        workers: processes; None: one per processor for a long job, else serial. Results do not depend on it.
        algorithm: "dense", "dual", "cg" (no matrix; not at finite beta) or None for the cheapest: the smaller
            matrix, or none where it is large and well conditioned or does not fit. A `Training`, or the name of an
            optimiser for its defaults, trains instead, with weight decay 2 lambda_0; not at finite beta. An `Iteration`
            (e.g. `MessagePassing`) is run instead; beside its observables stand its `iterations` and the relative
            `distance` of its weights from the exact ground state (where that is known, under a prior of your own), and
            one that does not converge is a failed realisation.
        progress: report progress on a terminal, or in log lines of level INFO.
        tasks: (K, D) task matrix shared by all realisations; it fixes K. None: a new one per realisation.
        out: a folder where every realisation is stored as it is finished (`storage.py`); those that are there
            already are not simulated again, and a failed one does not keep the others from being finished.
        prompts: "tokens", or "sufficient": features drawn directly, in O(D) numbers per prompt. The law is the
            same, the random numbers are others.
        law: of the entries of tokens and queries, and of tasks unless `task_law` says otherwise: "gaussian",
            or to probe universality "rademacher", "uniform", "student-t[:DOF]", "sparse[:DENSITY]", all of
            unit variance, or a `laws.Law` of your own. Test prompts and new tasks have the law of the training ones.
        task_law: of the entries of tasks.
        usage: of a finite number of training tasks: "random" (every prompt takes one uniformly) or "equal" (equally
            often, up to one prompt).
        sphere: put drawn training tasks on |w| = sqrt(D), with usage "equal" the choice of Lu et al.,
            arXiv:2405.11751; e_icl stays the error on Gaussian tasks.
        streaming: draw the prompts again on every pass instead of keeping them, for P beyond memory; the same
            result to rounding. None: if they would take more than half of the available memory.
        structure: `task_covariance` of training tasks, drawn or fresh, and of the new ones of e_icl; `token_covariance`
            of tokens and queries: "identity", "power-law:EXPONENT", "low-rank:FRACTION", "spike:INDEX" (of trace D), a
            .npy file or a (D, D) matrix. `test_task_covariance`, `test_token_covariance`, `test_N`, `test_noise`: of
            the test prompts of the observable e_icl_test, by default as trained. Ground state only.
        prior: of the weights beside the ridge, one of your own; message passing needs no more, an exact optimum a
            minimiser that is registered (`optima.registry.register`). The package's own are penalties of the setting.

    Raises:
        ParameterError: bad input, before any work.
        MemoryEstimateError: one realisation does not fit in memory, before any work.
        RealisationError: realisations failed, told by their index; the others were finished, and nothing is averaged
            over them.
        StorageError: a realisation could not be written; those that were are kept.
    """
    one_setting(setting)
    R, checked_seed = check_integer("realisations", realisations, 1), check_integer("seed", seed, 0)
    fixed, given = fix_tasks(setting, tasks)
    for name in structure:
        if name not in STRUCTURE:
            raise TypeError(f"simulate() got an unexpected keyword argument {name!r}")
    prompt_law = PromptLaw.of(prompts, law, task_law, usage, sphere, fixed.D, **structure)
    if math.isfinite(fixed.beta):
        for name in (x for x in COVARIANCES if structure.get(x) is not None):
            raise ParameterError(name, structure[name], "must not be given at finite beta: Gibbs errors are isotropic")
    if sphere and (given is not None or fixed.K is None):
        raise ParameterError("sphere", sphere, "must be given with a number K of tasks to draw")
    if fixed.K is None and usage != "random":
        raise ParameterError("usage", usage, "must be random for fresh tasks, each of which is used once")
    how = next((Training(name) for name in OPTIMISERS if name == algorithm), algorithm)
    if prior is not None:
        refuse_two_priors(fixed, {"prior": prior})
        if math.isfinite(fixed.beta):
            raise ParameterError("beta", fixed.beta, "must be inf under a prior: its exact optimum has no temperature")
    chosen, streamed = plan(fixed, how, streaming, prompt_law, prior)
    minimiser = registered(prior)
    if prior is not None and workers is None:
        workers = 1  # another process may not know the prior's file
    digest = None if given is None else array_digest(given)
    provenance = Provenance(fixed, checked_seed, R, chosen, __version__, digest, prompt_law, streamed, prior)
    processes = _choose_workers(workers, fixed, R, chosen, streamed, prompt_law)
    store = None if out is None else Store(as_path(out), provenance.to_dict())
    try:
        finished = {} if store is None else stored_outcomes(store, R)
        missing = R - len(finished)
        _announce(provenance, missing, processes)
        jobs = (
            Job(fixed, checked_seed, index, chosen, given, prompt_law, streamed, prior, minimiser)
            for index in range(R)
            if index not in finished
        )
        done = run_jobs(jobs, missing, R, checked_seed, processes, store, progress)
        finished = {**finished, **{one.index: one for one in done}}
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
