"""What one cell of a sweep is, and how it is computed from its description alone.

A description is a JSON object with everything that decides the cell's numbers: kind, settings, options, seed, and a
hash of the source that computes it, back to the derivation. So a cell can be sent anywhere, and is found again only by
the very same work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from replica_icl.covariances import file_digests
from replica_icl.errors import ReplicaICLError, WorkerError
from replica_icl.keys import code_version, digest, plain
from replica_icl.lowering.loading import derivation_version
from replica_icl.meeting.message_passing import algorithms_version
from replica_icl.numeric.levels import level_named
from replica_icl.numeric.solve import solve
from replica_icl.options import OUTSIDE
from replica_icl.parameters import RATIOS
from replica_icl.priors import penalties_of
from replica_icl.ratios import Ratios
from replica_icl.setting import Setting
from replica_icl.simulator.budget import plan, realisation_seconds
from replica_icl.simulator.ensemble import simulate
from replica_icl.sweep.grid import Grid, Point, SimulationPlan
from replica_icl.threads import one_thread

Description = dict[str, Any]

BLOCK = 500
"""Points of a theory cell: enough for grids to be solved at once, few enough to lose little."""

CHECKED = ("setting", "parameter", "parameters", "priors", "covariances", "options", "keys", "sweep/work")
THEORY_CODE = ("lowering/loading", "lowering/model", "numeric", "ratios", *CHECKED)
SIMULATION_CODE = ("simulator", *CHECKED)
"""Parts of the package that decide what is in a cell: checks, solvers, simulator."""


def theory_version() -> str:
    """Of what computes a number of theory: the solvers, and the derivation whose functions they solve."""
    return digest([code_version(*THEORY_CODE), derivation_version()], 16)


def simulation_version(algorithm: str | None = None) -> str:
    """Of what computes a simulated number; message passing runs the derived denoiser of its prior."""
    own = code_version(*SIMULATION_CODE)
    return digest([own, algorithms_version()], 16) if algorithm in OUTSIDE else own


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


def _point(values: Mapping[str, Any]) -> Point:
    numbers: dict[str, Any] = {name: float(x) if isinstance(x, str) else x for name, x in values.items()}
    return Setting(**numbers) if "D" in numbers else Ratios(**numbers)


def tasks_of(grid: Grid) -> Iterator[Task]:
    """The cells of a grid: theory in blocks, levels that take no grid and simulation point by point."""
    if grid.theory is not None:
        code = theory_version()
        for level in map(level_named, grid.theory.levels):
            options = grid.theory.options_of(level)
            blocks = _blocks(grid.points) if level.whole_grids else ((i,) for i in range(len(grid.points)))
            for block in blocks:
                points = [plain(grid.points[i]) for i in block]
                described = {"kind": "theory", "level": level.name, "points": points, "options": options}
                yield Task({**described, **_files(options), "code": code}, block)
    if grid.simulation is not None:
        code, options = simulation_version(grid.simulation.algorithm), plain(grid.simulation)
        files = _files(options)
        for i, setting in enumerate(grid.settings):
            described = {"kind": "simulation", "point": plain(setting), "options": options, **files}
            yield Task({**described, "code": code}, (i,))


def _files(options: Mapping[str, Any]) -> Description:
    """What the files among the covariances hold, since a name does not say; nothing where there are none."""
    found = file_digests(options)
    return {"files": found} if found else {}


def simulation_seconds(described: Description) -> float:
    """Estimated time of a simulation on one core; 0 for theory, which takes a small part of it."""
    if described["kind"] != "simulation":
        return 0.0
    setting, options = _point(described["point"]), SimulationPlan(**described["options"])
    assert isinstance(setting, Setting)
    law = options.prompt_law(setting.D)
    algorithm, streamed = plan(setting, options.how(), None, law)
    return options.realisations * realisation_seconds(setting, algorithm, streamed, law)


def _blocks(points: tuple[Point, ...]) -> Iterator[tuple[int, ...]]:
    """Points that can be solved in one call, those of one prompt law beside each other."""

    def law(i: int) -> tuple[Any, ...]:
        p = points[i]
        tasks = p.K if isinstance(p, Setting) else p.kappa
        sizes = (p.D, p.N) if isinstance(p, Setting) else (0, 0)
        prior = tuple(penalties_of(p)) if isinstance(p, Setting) else ()
        return ((tasks is not None, p.minimum_norm, prior), sizes, p.noise, i)

    order = sorted(range(len(points)), key=law)
    start = 0
    for at in range(1, len(order) + 1):
        ends = at == len(order) or at - start == BLOCK or law(order[at])[0] != law(order[start])[0]
        if ends:
            yield tuple(order[start:at])
            start = at


def compute(described: Description) -> dict[str, Any]:
    """The values of one cell, on one thread; a failed solve is part of it and not an exception.

    Raises:
        WorkerError: the source here is not what the description names: on a cluster of another version, or edited
            while a sweep was running.
    """
    values, version = {
        "theory": (_theory, theory_version),
        "simulation": (_simulation, lambda: simulation_version(described["options"].get("algorithm"))),
    }[described["kind"]]
    if described["code"] != version():
        raise WorkerError("the process that computes a cell has another version of replica_icl than this one")
    if described.get("files", {}) != file_digests(described["options"]):
        raise WorkerError("a file of a covariance holds something else than when the sweep was started")
    with one_thread():
        return values(described)


def _finite(values: Any) -> list[float | None]:
    return [float(x) if np.isfinite(x) else None for x in np.ravel(values)]


def _theory(described: Description) -> dict[str, Any]:
    points = [_point(p) for p in described["points"]]
    first = points[0]
    if isinstance(first, Setting):
        at: Point = Setting.stack([p for p in points if isinstance(p, Setting)])
    else:
        names = [name for name in RATIOS if getattr(first, name) is not None]
        at = Ratios(**{name: [getattr(p, name) for p in points] for name in names})
    found = solve(at, described["level"], throw=False, **described["options"])
    columns = {name: x for name, x in found.columns().items() if name not in ("status", "residual", "iterations")}
    status = [int(x) for x in np.ravel(found.status)]
    return {"status": status, "residual": _finite(found.residual),
            "values": {name: _finite(x) for name, x in columns.items()}}  # fmt: skip


def _simulation(described: Description) -> dict[str, Any]:
    setting, options = _point(described["point"]), SimulationPlan(**described["options"])
    assert isinstance(setting, Setting)
    try:
        found = simulate(setting, options.realisations, workers=1, **options.options())
    except ReplicaICLError as error:
        return {"failure": str(error), "values": {}}
    return {"values": {name: values.tolist() for name, values in found.values.items()}}
