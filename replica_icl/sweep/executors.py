"""Where the cells of a sweep are computed: in this process, in local processes, or on a cluster's scheduler.

The same cells and the same function everywhere, one thread each, so that the numbers do not depend on it. Results come
back as they are finished, and only this process writes them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

from replica_icl.errors import ParameterError, ReplicaICLError
from replica_icl.setting import check_integer
from replica_icl.sweep.work import Description, compute

EXECUTORS = ("joblib", "serial", "dask")

Finished = Iterator[tuple[int, dict[str, Any]]]


class WorkerError(ReplicaICLError):
    """Processes that compute cells died; what was finished is kept."""


def run_cells(
    cells: Sequence[Description], executor: str = "joblib", workers: int | None = None, scheduler: str | None = None
) -> Finished:
    """Compute cells; (index, values) as they are finished, in any order.

    Args:
        cells: descriptions.
        executor: "serial", "joblib" (local processes) or "dask" (a scheduler, or local processes behind one).
        workers: processes; by default one per processor. Not with a scheduler, which has its own.
        scheduler: address, or scheduler file, of a running dask scheduler.

    Raises:
        ParameterError: unknown executor, or options that it does not have.
        WorkerError: processes died.
    """
    if executor not in EXECUTORS:
        raise ParameterError("executor", executor, f"must be one of {', '.join(EXECUTORS)}")
    if scheduler is not None and executor != "dask":
        raise ParameterError("scheduler", scheduler, "must be given with --executor dask")
    if scheduler is not None and workers is not None:
        raise ParameterError("workers", workers, "must not be given with a scheduler, which has its own")
    processes = (os.cpu_count() or 1) if workers is None else check_integer("workers", workers, 1)
    if executor == "dask":
        return _dask(cells, processes, scheduler)
    if executor == "serial" or processes == 1 or len(cells) < 2:
        return ((index, compute(cell)) for index, cell in enumerate(cells))
    return _joblib(cells, processes)


def _indexed(index: int, cell: Description) -> tuple[int, dict[str, Any]]:
    return index, compute(cell)


def _joblib(cells: Sequence[Description], processes: int) -> Finished:
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    parallel = joblib.Parallel(n_jobs=processes, return_as="generator_unordered", pre_dispatch="4*n_jobs")
    try:
        yield from parallel(joblib.delayed(_indexed)(index, cell) for index, cell in enumerate(cells))
    except TerminatedWorkerError as error:
        reason = "a process that computes cells died (out of memory?); what was finished is kept, run again to go on"
        raise WorkerError(reason) from error


def _dask(cells: Sequence[Description], processes: int, scheduler: str | None) -> Finished:
    try:
        from distributed import Client, LocalCluster, as_completed
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise ParameterError("executor", "dask", "needs dask.distributed: pip install 'replica_icl[cluster]'") from None
    logging.getLogger("distributed").setLevel(logging.ERROR)
    local = None
    if scheduler is None:
        local = LocalCluster(n_workers=processes, threads_per_worker=1, processes=True, dashboard_address=":0")
    address: dict[str, Any] = {"address": local or scheduler}
    if scheduler is not None and os.path.isfile(scheduler):
        address = {"scheduler_file": scheduler}
    try:
        with Client(**address) as client:
            futures = client.map(_indexed, range(len(cells)), cells, pure=False)
            try:
                for future, result in as_completed(futures, with_results=True):
                    future.release()
                    yield result
            except KilledWorker as error:
                reason = f"a worker died on the same cell again and again ({error}); what was finished is kept"
                raise WorkerError(reason) from error
    except OSError as error:
        raise ParameterError("scheduler", scheduler, f"must be a dask scheduler that answers ({error})") from None
    finally:
        if local is not None:
            local.close()
