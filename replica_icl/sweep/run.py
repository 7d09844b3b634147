"""Running a sweep: the cells that are not there yet are computed and kept, then all are merged into one file."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from replica_icl.errors import ParameterError, StorageError
from replica_icl.simulator.budget import duration
from replica_icl.simulator.ensemble import LONG_SECONDS
from replica_icl.store import Cells
from replica_icl.sweep.dataset import assemble, write_dataset
from replica_icl.sweep.executors import check_executor, run_cells
from replica_icl.sweep.grid import Grid
from replica_icl.sweep.place import new_file
from replica_icl.sweep.work import Task, simulation_seconds, tasks_of

if TYPE_CHECKING:
    import xarray

_log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0
"""Of progress in a log."""


def run_sweep(
    grid: Grid,
    out: str | Path | None = None,
    executor: str = "processes",
    workers: int | None = None,
    scheduler: str | None = None,
    progress: bool = False,
) -> xarray.Dataset:
    """Compute a grid and return its dataset, of the package's own model.

    Cells are computed in other processes from their description alone, which has no place for a forward pass of your
    own; `solve` takes a grid and a `model`.

    Args:
        grid: see `read_grid`.
        out: netCDF file to write, a new one or that of another sweep; finished cells are kept in the folder OUT.cells
            beside it, and a second call, also after a kill or with a grid that was extended, computes only those that
            are not there.
        executor, workers, scheduler: see `run_cells`; the numbers do not depend on them.
        progress: a bar on a terminal, otherwise log lines, with the time left.

    Raises:
        ParameterError: bad input, before any work.
        WorkerError: processes died; the finished cells are kept.
        StorageError: a file could not be written; the finished cells are kept.
    """
    if not isinstance(grid, Grid):
        raise ParameterError("grid", grid, "must be a grid as `read_grid` gives it")
    processes = check_executor(executor, workers, scheduler)
    path = None if out is None else new_file(out)
    tasks = list(tasks_of(grid))
    if path is None:
        _announce(tasks, 1 if executor == "serial" else processes)
        results = {index: values for index, values in _watched(tasks, executor, workers, scheduler, progress)}
        return assemble(grid, ((task, results[index]) for index, task in enumerate(tasks)))
    with Cells(path.with_name(path.name + ".cells"), out) as cells:
        found = {index: cells.read(task.described) for index, task in enumerate(tasks)}
        missing = [index for index, cell in found.items() if cell is None]
        if len(missing) < len(tasks):
            _log.info("%d of %d cells were finished before", len(tasks) - len(missing), len(tasks))
        todo = [tasks[index] for index in missing]
        _announce(todo, 1 if executor == "serial" else processes)
        for at, values in _watched(todo, executor, workers, scheduler, progress):
            cells.write(todo[at].described, values)
            found[missing[at]] = values
        dataset = assemble(grid, ((task, found[index] or {}) for index, task in enumerate(tasks)))
        try:
            write_dataset(dataset, path)
        except OSError as error:
            raise StorageError(f"could not write {path}: {error.strerror}; the cells are kept") from error
    return dataset


def _announce(tasks: list[Task], processes: int) -> None:
    """Say before a sweep whose simulations take more than ten minutes how long they may take."""
    each = [seconds for task in tasks if (seconds := simulation_seconds(task.described))]
    if (total := sum(each) / processes) > LONG_SECONDS:
        of = f"{len(each)} simulated points in {processes} process{'es' * (processes > 1)}"
        if others := len(tasks) - len(each):
            of += f", without {others} cell{'s' * (others > 1)} of theory"
        _log.info("estimated: about %s for %s", duration(total), of)


def _watched(
    tasks: list[Task], executor: str, workers: int | None, scheduler: str | None, progress: bool
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Results as they are finished, with progress."""
    running = run_cells([task.described for task in tasks], executor, workers, scheduler)
    if progress and sys.stderr.isatty():
        yield from tqdm(running, total=len(tasks), desc="cells", unit="")
        return
    begin = last = time.monotonic()
    for done, result in enumerate(running, start=1):
        yield result
        now = time.monotonic()
        if progress and (now - last > SECONDS_BETWEEN_LINES or done == len(tasks)):
            left = (now - begin) / done * (len(tasks) - done)
            _log.info("%d of %d cells, about %s left", done, len(tasks), duration(left))
            last = now
