"""What one cell of a sweep is, and how it is computed from its description alone.

A description is a JSON object with everything that decides the cell's numbers: kind, settings, options, seed, and a
hash of the source that computes it. So a cell can be sent anywhere, and is found again only by the very same work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from replica_icl.cells import code_version
from replica_icl.errors import ReplicaICLError
from replica_icl.numeric.given_tasks import average_over_tasks
from replica_icl.numeric.solution import Solution, Status
from replica_icl.numeric.solve import solve
from replica_icl.ratios import Ratios
from replica_icl.setting import Setting
from replica_icl.simulator.ensemble import simulate
from replica_icl.simulator.workers import one_thread
from replica_icl.sweep.grid import Grid, Point, SimulationPlan

Description = dict[str, Any]

BLOCK = 500
"""Points of a theory cell: enough for grids to be solved at once, few enough to lose little."""

THEORY_CODE = ("numeric", "lowered", "conventions", "setting")
SIMULATION_CODE = ("simulator", "setting")


@dataclass(frozen=True)
class Task:
    """One cell of a grid: what to compute, and the points it belongs to.

    Attributes:
        described: see the module.
        points: flat indices into `Grid.points`.
    """

    described: Description
    points: tuple[int, ...]

    @property
    def kind(self) -> str:
        return str(self.described["kind"])

    @property
    def level(self) -> str:
        return str(self.described.get("level", ""))


def _plain(point: Point) -> dict[str, Any]:
    """A point as JSON: what is infinite as a string."""
    values = asdict(point)
    return {name: repr(x) if isinstance(x, float) and math.isinf(x) else x for name, x in values.items()}


def _point(values: Mapping[str, Any]) -> Point:
    numbers: dict[str, Any] = {name: float(x) if isinstance(x, str) else x for name, x in values.items()}
    return Setting(**numbers) if "D" in numbers else Ratios(**numbers)


def tasks_of(grid: Grid) -> Iterator[Task]:
    """The cells of a grid: theory in blocks, given tasks and simulation point by point."""
    if grid.theory is not None:
        code = code_version(*THEORY_CODE)
        for level in grid.theory.levels:
            if level == "given-tasks":
                how = {"draws": grid.theory.draws, "seed": grid.theory.seed, "sphere": grid.theory.sphere}
                for i, point in enumerate(grid.points):
                    yield Task({"kind": "task sets", "level": level, "point": _plain(point), **how, "code": code}, (i,))
                continue
            for block in _blocks(grid.points):
                points = [_plain(grid.points[i]) for i in block]
                described = {"kind": "theory", "level": level, "points": points, "tolerance": grid.theory.tolerance}
                yield Task({**described, "code": code}, block)
    if grid.simulation is not None:
        code, options = code_version(*SIMULATION_CODE), asdict(grid.simulation)
        for i, setting in enumerate(grid.settings):
            yield Task({"kind": "simulation", "point": _plain(setting), "options": options, "code": code}, (i,))


def _blocks(points: tuple[Point, ...]) -> Iterator[tuple[int, ...]]:
    """Points that can be solved in one call, those of one prompt law beside each other."""

    def law(i: int) -> tuple[Any, ...]:
        p = points[i]
        tasks = p.K if isinstance(p, Setting) else p.kappa
        sizes = (p.D, p.N) if isinstance(p, Setting) else (0, 0)
        return (tasks is not None, p.minimum_norm, sizes, p.noise, i)

    order = sorted(range(len(points)), key=law)
    start = 0
    for at in range(1, len(order) + 1):
        ends = at == len(order) or at - start == BLOCK or law(order[at])[:2] != law(order[start])[:2]
        if ends:
            yield tuple(order[start:at])
            start = at


def compute(described: Description) -> dict[str, Any]:
    """The values of one cell, on one thread; a failed solve is part of it and not an exception."""
    with one_thread():
        return {"theory": _theory, "task sets": _task_sets, "simulation": _simulation}[described["kind"]](described)


def _finite(values: Any) -> list[float | None]:
    return [float(x) if np.isfinite(x) else None for x in np.ravel(values)]


def _theory(described: Description) -> dict[str, Any]:
    points = [_point(p) for p in described["points"]]
    settings = [p for p in points if isinstance(p, Setting)]
    if settings:
        found = solve(settings, level=described["level"], tolerance=described["tolerance"], throw=False)
    else:
        every = ("alpha", "nu", "lam", "noise", "beta_tilde", "kappa")
        names = [name for name in every if getattr(points[0], name) is not None]
        arrays = {name: np.array([getattr(p, name) for p in points]) for name in names}
        found = solve(Ratios(**arrays, minimum_norm=points[0].minimum_norm), throw=False)
    return _columns(found)


def _columns(found: Solution) -> dict[str, Any]:
    values = {name: _finite(x) for name, x in found.observables().items()}
    for part, by_name in (("next_order", found.next_order), ("theory_error", found.theory_error)):
        values |= {f"{name}_{part}": _finite(x) for name, x in (by_name or {}).items()}
    status = [int(x) for x in np.ravel(found.status)]
    return {"status": status, "residual": _finite(found.residual), "values": values}


def _task_sets(described: Description) -> dict[str, Any]:
    setting = _point(described["point"])
    assert isinstance(setting, Setting)
    found = average_over_tasks(setting, described["draws"], described["seed"], sphere=described["sphere"])
    status = max(int(solution.status) for solution in found.draws)
    residual = max(solution.residual for solution in found.draws)
    names = [] if status != Status.CONVERGED else list(found.draws[0].observables())
    values = {name: [found.mean(name)] for name in names}
    if described["draws"] > 1:
        values |= {f"{name}_spread": [found.spread(name)] for name in names}
    return {"status": [status], "residual": _finite([residual]), "values": values}


def _simulation(described: Description) -> dict[str, Any]:
    setting, options = _point(described["point"]), SimulationPlan(**described["options"])
    assert isinstance(setting, Setting)
    try:
        found = simulate(setting, options.realisations, workers=1, **options.options())
    except ReplicaICLError as error:
        return {"failure": str(error), "values": {}}
    return {"values": {name: values.tolist() for name, values in found.values.items()}}
