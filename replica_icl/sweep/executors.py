"""Where the cells of a sweep are computed: in this process, in local processes, or on a cluster's scheduler.

The same cells and the same function everywhere, one thread each, so that the numbers do not depend on it. Results come
back as they are finished, and only this process writes them. What computes them is imported when they are, so that
wrong usage is answered before.
"""

from __future__ import annotations

import json
import logging
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from replica_icl.errors import ParameterError, WorkerError
from replica_icl.processes import as_finished, held, processors
from replica_icl.setting import check_integer

EXECUTORS = ("processes", "joblib", "serial", "dask")
"""By name; joblib is what processes were called when they were joblib's, and does the same."""

Description = dict[str, Any]
Finished = Iterator[tuple[int, dict[str, Any]]]


def check_executor(executor: str = "processes", workers: int | None = None, scheduler: str | None = None) -> int:
    """The number of local processes.

    Raises:
        ParameterError: unknown executor, options that it does not have, or what can be no scheduler.
    """
    if executor not in EXECUTORS:
        raise ParameterError("executor", executor, f"must be one of {', '.join(EXECUTORS)}")
    if scheduler is not None and executor != "dask":
        raise ParameterError("scheduler", scheduler, "must be given with --executor dask")
    if scheduler is not None and workers is not None:
        raise ParameterError("workers", workers, "must not be given with a scheduler, which has its own")
    if scheduler is not None:
        _address(scheduler)
    return processors() if workers is None else check_integer("workers", workers, 1)


def run_cells(
    cells: Sequence[Description], executor: str = "processes", workers: int | None = None, scheduler: str | None = None
) -> Finished:
    """Compute cells; (index, values) as they are finished, in any order.

    Args:
        cells: descriptions.
        executor: "serial", "processes" (local ones) or "dask" (a scheduler, or local processes behind one).
        workers: processes; by default one per processor. Not with a scheduler, which has its own.
        scheduler: address, or scheduler file, of a running dask scheduler.

    Raises:
        ParameterError: as of `check_executor`, or a scheduler that does not answer.
        WorkerError: processes died.
    """
    processes = check_executor(executor, workers, scheduler)
    if executor == "dask":
        return _dask(cells, processes, scheduler)
    return _local(cells, 1 if executor == "serial" else min(processes, len(cells)))


def _indexed(index: int, cell: Description) -> tuple[int, dict[str, Any]]:
    from replica_icl.sweep.work import compute

    return index, compute(cell)


def _lost(cell: Description, exit_code: int) -> None:
    """What stands for a cell whose process died."""


def _local(cells: Sequence[Description], processes: int) -> Finished:
    from replica_icl.sweep.work import compute

    lost = 0
    with closing(as_finished(compute, cells, max(1, processes), died=_lost)) as running:
        for index, values in running:
            if values is None:
                lost += 1
            else:
                yield index, values
    if lost:
        raise WorkerError(
            f"processes that computed {lost} of {len(cells)} cells died (out of memory?); the others are finished"
        )


def _address(scheduler: str) -> str:
    """Of a scheduler, told by itself or by the file that it wrote.

    Raises:
        ParameterError: neither an address nor such a file.
    """
    wanted = "must be the address of a running dask scheduler (tcp://HOST:PORT) or its scheduler file"
    if re.fullmatch(r"([a-z]+://)?[^\s/]+:\d+", scheduler):
        return scheduler
    try:
        return str(json.loads(Path(scheduler).read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, TypeError, KeyError):
        raise ParameterError("scheduler", scheduler, wanted) from None


def _dask(cells: Sequence[Description], processes: int, scheduler: str | None) -> Finished:
    try:
        from distributed import Client, LocalCluster, as_completed
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise ParameterError("executor", "dask", "needs dask.distributed: pip install 'replica_icl[cluster]'") from None
    logging.getLogger("distributed").setLevel(logging.ERROR)
    local = None
    if scheduler is None:
        with held(signal.SIGINT):
            local = LocalCluster(n_workers=processes, threads_per_worker=1, processes=True, dashboard_address=":0")
    try:
        try:
            client = Client(local or _address(scheduler or ""))
        except (OSError, ValueError) as error:
            raise ParameterError("scheduler", scheduler, f"must be a dask scheduler that answers ({error})") from None
        with client:
            futures = client.map(_indexed, range(len(cells)), cells, pure=False)
            for future, result in as_completed(futures, with_results=True):
                future.release()
                yield result
    except KilledWorker as error:
        reason = f"a worker died on the same cell again and again ({error}); what was finished is kept"
        raise WorkerError(reason) from error
    except OSError as error:
        raise WorkerError(f"the dask scheduler is gone ({error}); what was finished is kept") from error
    finally:
        if local is not None:
            local.close()
