"""From cells to one labelled dataset: dimensions are the swept parameters, names and symbols are the field's.

Theory has a dimension `level` besides: e_icl(level, ...), status(level, ...). A simulated observable NAME is NAME_mean
and NAME_sem (standard error over n realisations). What failed is NaN beside its status.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from replica_icl import __version__
from replica_icl.answers import coordinate, described
from replica_icl.errors import ParameterError
from replica_icl.numeric.solution import Status
from replica_icl.parameters import PARAMETERS
from replica_icl.setting import Setting
from replica_icl.simulator.observables import Estimate
from replica_icl.store import as_path, whole
from replica_icl.sweep.grid import Axis, Grid
from replica_icl.sweep.work import Task

if TYPE_CHECKING:
    import xarray

TITLE = "replica_icl sweep"
"""How a dataset of ours is told from another."""

FAILED = 1
"""Simulation status of a point without values (0: simulated)."""


def assemble(grid: Grid, results: Iterable[tuple[Task, Mapping[str, Any]]]) -> xarray.Dataset:
    """The dataset of a grid.

    Args:
        grid: the sweep.
        results: its cells with their values.
    """
    import xarray

    levels = () if grid.theory is None else grid.theory.levels
    points = len(grid.points)
    theory: dict[str, np.ndarray] = {}
    simulated: dict[str, np.ndarray] = {}
    failures = []

    def column(into: dict[str, np.ndarray], name: str, rows: int) -> np.ndarray:
        return into.setdefault(name, np.full((rows, points), np.nan))

    if levels:
        theory["status"] = np.full((len(levels), points), Status.NON_FINITE, dtype=np.int8)
    if grid.simulation is not None:
        simulated["simulation_status"] = np.full((1, points), FAILED, dtype=np.int8)
        simulated["n"] = np.zeros((1, points), dtype=np.int32)
    for task, found in results:
        at = list(task.points)
        if task.kind == "simulation":
            if "failure" in found:
                failures.append(f"point {at[0]}: {found['failure']}")
                continue
            simulated["simulation_status"][0, at] = 0
            for name, values in found["values"].items():
                estimate = Estimate.of(np.array(values))
                column(simulated, f"{name}_mean", 1)[0, at] = estimate.mean
                column(simulated, f"{name}_sem", 1)[0, at] = np.nan if estimate.sem is None else estimate.sem
                simulated["n"][0, at] = estimate.n
        else:
            row = levels.index(task.level)
            theory["status"][row, at] = found["status"]
            for name, values in {"residual": found["residual"], **found["values"]}.items():
                column(theory, name, len(levels))[row, at] = np.array(values, dtype=float)
    names = tuple(axis.name for axis in grid.axes)
    data = {
        name: (("level", *names), values.reshape(len(levels), *grid.shape), described(name))
        for name, values in theory.items()
    }
    data |= {name: (names, values.reshape(grid.shape), described(name)) for name, values in simulated.items()}
    coordinates = {name: value for axis in grid.axes for name, value in _coordinates(axis).items()}
    coordinates |= _sizes(grid, coordinates)
    if levels:
        coordinates["level"] = ("level", list(levels), {"long_name": "level of theory"})
    return xarray.Dataset(data, coordinates, {**_provenance(grid), "simulation_failures": "; ".join(failures)})


def _coordinates(axis: Axis) -> dict[str, Any]:
    """The parameters of one dimension; zipped ones lie along the index of the dimension."""
    found = {name: coordinate(name, axis.name, values) for name, values in axis.values.items()}
    if len(found) > 1:
        found[axis.name] = (
            axis.name,
            np.arange(len(axis), dtype=np.int32),
            {"long_name": "index of zipped parameters"},
        )
    return found


def _sizes(grid: Grid, swept: Mapping[str, Any]) -> dict[str, Any]:
    """The raw numbers of every point that are not swept themselves, along the dimensions that change them."""
    found = {name: coordinate(name, (), value) for name, value in grid.fixed.items() if name in PARAMETERS}
    settings = grid.settings
    if not settings:
        return found
    names = tuple(axis.name for axis in grid.axes)
    for name in ("N", "P", "K", "ridge", "beta"):
        values = [getattr(setting, name) for setting in settings]
        if name in swept or name in found or values[0] is None:
            continue
        array, dimensions = np.array(values).reshape(grid.shape), list(names)
        for axis in reversed(range(array.ndim)):  # no dimension along which nothing changes
            if np.all(array == array.take([0], axis)):
                array = array.take(0, axis)
                del dimensions[axis]
        found[name] = coordinate(name, tuple(dimensions), array)
    return found


def _provenance(grid: Grid) -> dict[str, Any]:
    code = {f"code_{task.kind.replace(' ', '_')}": task.described["code"] for task in _one_of_each(grid)}
    seeds = {} if grid.simulation is None else {"seed": grid.simulation.seed}
    sized = any(isinstance(point, Setting) for point in grid.points)
    return {
        "title": f"{TITLE}: in-context learning in linear attention",
        "replica_icl_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "grid": grid.text,
        "units": "Li et al. (arXiv:2408.02288), features divided by N" if sized else "ratios of the limit",
        **seeds,
        **code,
    }


def _one_of_each(grid: Grid) -> list[Task]:
    from replica_icl.sweep.work import tasks_of

    found: dict[str, Task] = {}
    for task in tasks_of(grid):
        found.setdefault(task.kind, task)
    return list(found.values())


def write_dataset(dataset: xarray.Dataset, path: Path) -> None:
    """Write netCDF whole and rename it into place."""
    with whole(path) as part:
        dataset.to_netcdf(part, engine="scipy", format="NETCDF3_64BIT")


def read_dataset(path: str | Path) -> xarray.Dataset:
    """The dataset of a file that a sweep wrote, loaded and the file closed.

    Raises:
        ParameterError: (`path`) no file that can be read, or none that a sweep wrote.
    """
    import xarray

    file, wanted = as_path(path, "path"), "must be a dataset that a sweep wrote"
    try:
        dataset = xarray.load_dataset(file, engine="scipy")
    except OSError as error:
        raise ParameterError("path", path, f"{wanted} ({error.strerror or error})") from None
    except Exception:  # what a foreign file raises depends on its bytes
        raise ParameterError("path", path, wanted) from None
    if not str(dataset.attrs.get("title", "")).startswith(TITLE):
        raise ParameterError("path", path, wanted)
    return dataset
