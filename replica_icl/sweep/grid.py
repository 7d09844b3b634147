"""A grid of parameters, read from a TOML file: what is fixed, what is swept, and what is computed at each point.

[fixed]                                    # D, N, P, K, noise, ridge, beta, minimum_norm; or the ratios
D = 20                                     # alpha, nu, kappa, lam, beta_tilde instead: with D they are turned into
ridge = 1.0                                # integers (the nearest), without D they are the limit's

[swept]                                    # each its own dimension: the product of all
N = { linspace = [2, 100, 50] }            # from, to, how many; integers where the parameter is one
P = [100, 200, 400]
noise = { logspace = [0.01, 1, 5] }        # from, to (not their logarithms), how many

[[zipped]]                                 # these vary together along one dimension
ridge = [0.1, 0.2]
beta = [100, 200]

[theory]
levels = ["finite-size", "limit"]          # or "given-tasks", with draws, seed, sphere
tolerance = 1e-7

[simulation]
realisations = 10
seed = 0                                   # also: algorithm, prompts, law, task_law, and the options of training
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from replica_icl.errors import FileEntryError, ParameterError
from replica_icl.numeric.solve import LEVELS, check_tolerance
from replica_icl.ratios import Ratios
from replica_icl.setting import Setting, check_integer, check_real
from replica_icl.simulator.budget import plan
from replica_icl.simulator.laws import PromptLaw
from replica_icl.simulator.optimisers import OPTIMISERS, Training

RAW = ("D", "N", "P", "K", "noise", "ridge", "beta", "minimum_norm")
RATIOS = {"alpha": "P", "nu": "N", "kappa": "K", "lam": "ridge", "beta_tilde": "beta"}
"""Each ratio and the raw number that stands for the same quantity."""
INTEGERS = ("D", "N", "P", "K")
LARGEST = 10**7
"""Points of one grid."""

Point = Setting | Ratios


@dataclass(frozen=True)
class Axis:
    """One dimension of a grid.

    Attributes:
        values: parameter -> its values along the dimension, all of one length (one parameter unless zipped).
    """

    values: Mapping[str, tuple[Any, ...]]

    @property
    def name(self) -> str:
        """Of the dimension: the parameter's, or those of the zipped ones joined."""
        return "_".join(self.values)

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))


@dataclass(frozen=True)
class TheoryPlan:
    """What theory is solved at each point.

    Attributes:
        levels: of theory.
        tolerance: relative accuracy of the finite-size prompt averages.
        draws: task sets that level given-tasks averages over.
        seed: of the task draws.
        sphere: tasks of norm sqrt(D), each used equally often.
    """

    levels: tuple[str, ...]
    tolerance: float = 1e-7
    draws: int = 1
    seed: int = 0
    sphere: bool = False

    def __post_init__(self) -> None:
        for level in self.levels:
            if level not in LEVELS:
                raise ParameterError("levels", level, f"must be one of {', '.join(LEVELS)}")
        check_tolerance(self.tolerance)
        check_integer("draws", self.draws, 1)
        check_integer("seed", self.seed, 0)


@dataclass(frozen=True)
class SimulationPlan:
    """What is simulated at each point, as in `simulate`.

    Attributes:
        realisations, seed, prompts, law, task_law: as there.
        algorithm: a name, None for the cheapest exact one, or the name of an optimiser.
        training: options of the optimiser.
    """

    realisations: int
    seed: int = 0
    algorithm: str | None = None
    prompts: str = "tokens"
    law: str = "gaussian"
    task_law: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_integer("realisations", self.realisations, 1)
        check_integer("seed", self.seed, 0)
        PromptLaw.of(self.prompts, self.law, self.task_law)
        if self.training and self.algorithm not in OPTIMISERS:
            first = next(iter(self.training))
            raise ParameterError(first, self.training[first], f"needs an algorithm out of {', '.join(OPTIMISERS)}")
        self.how()

    def how(self) -> str | Training | None:
        """The algorithm as `simulate` takes it."""
        optimiser = next((name for name in OPTIMISERS if name == self.algorithm), None)
        return self.algorithm if optimiser is None else Training(optimiser, **self.training)

    def options(self) -> dict[str, Any]:
        """Everything but the number of realisations, as keyword arguments of `simulate`."""
        laws = {"prompts": self.prompts, "law": self.law, "task_law": self.task_law}
        return {"seed": self.seed, "algorithm": self.how(), **laws}


@dataclass(frozen=True)
class Grid:
    """What a sweep computes.

    Attributes:
        fixed: parameters with one value.
        axes: the dimensions, slowest first.
        theory, simulation: what is computed at each point; at least one of them.
        text: the TOML file, kept in the dataset.

    Raises:
        ParameterError: parameters that are missing, unknown, given twice or contradict each other, at any point.
    """

    fixed: Mapping[str, Any]
    axes: tuple[Axis, ...]
    theory: TheoryPlan | None = None
    simulation: SimulationPlan | None = None
    text: str = ""

    def __post_init__(self) -> None:
        names = [*self.fixed, *(name for axis in self.axes for name in axis.values)]
        for name in names:
            if name not in (*RAW, *RATIOS):
                raise ParameterError(name, self._first(name), f"must be one of {', '.join((*RAW, *RATIOS))}")
            if names.count(name) > 1:
                raise ParameterError(name, self._first(name), "must be given once: fixed, swept or zipped")
            if RATIOS.get(name) in names:
                advice = f"must not be given beside {RATIOS[name]}: the same quantity twice"
                raise ParameterError(name, self._first(name), advice)
        if "D" not in names and (mixed := [name for name in names if name in RAW and name in RATIOS.values()]):
            raise ParameterError(mixed[0], self._first(mixed[0]), "needs D beside it (or give ratios only)")
        if self.theory is None and self.simulation is None:
            raise ParameterError("theory", "(not given)", "is required, or [simulation]: there is nothing to compute")
        if math.prod(self.shape) > LARGEST:
            raise ParameterError("swept", self.shape, f"must make at most {LARGEST} points")
        self._check_levels()

    def _first(self, name: str) -> Any:
        found = [self.fixed[name]] if name in self.fixed else []
        return (found + [axis.values[name][0] for axis in self.axes if name in axis.values])[0]

    def _check_levels(self) -> None:
        """Points that a level or the simulation cannot take, before any work."""
        levels = () if self.theory is None else self.theory.levels
        for point in self.points:
            if isinstance(point, Ratios):
                if self.simulation is not None:
                    raise ParameterError("D", "(not given)", "is required to simulate: ratios alone have no size")
                if (finite := [level for level in levels if level != "limit"]) and finite:
                    raise ParameterError("levels", finite[0], "must be limit without D: ratios alone have no size")
                return
            if "finite-size" in levels and point.K is not None:
                raise ParameterError("K", point.K, "must be absent at level finite-size: it has fresh tasks")
            if "given-tasks" in levels:
                if point.K is None:
                    raise ParameterError("K", "(not given)", "is required at level given-tasks")
                if point.ridge == 0 or math.isfinite(point.beta):
                    name = "ridge" if point.ridge == 0 else "beta"
                    advice = "must be a positive ridge and no beta at level given-tasks"
                    raise ParameterError(name, getattr(point, name), advice)
        if self.simulation is not None:
            law = PromptLaw.of(self.simulation.prompts, self.simulation.law, self.simulation.task_law)
            for setting in self.settings:
                plan(setting, self.simulation.how(), None, law)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values along each dimension; () for one point."""
        return tuple(len(axis) for axis in self.axes)

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """Every point, the last dimension fastest."""
        found = []
        for index in product(*(range(length) for length in self.shape)):
            values = dict(self.fixed)
            for axis, at in zip(self.axes, index, strict=True):
                values |= {name: column[at] for name, column in axis.values.items()}
            found.append(point_of(values))
        return tuple(found)

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The points as settings; () for ratios without a size."""
        return tuple(point for point in self.points if isinstance(point, Setting))


def point_of(values: Mapping[str, Any]) -> Point:
    """A setting, or ratios where there is no D."""
    missing = next((name for name in _required(values) if name not in values and name not in _stand_ins(values)), None)
    if missing is not None:
        raise ParameterError(missing, "(not given)", "is required (or the ratio that stands for it)")
    if "D" not in values:
        return Ratios(**values)
    D = check_integer("D", values["D"], 2)
    numbers = {name: value for name, value in values.items() if name in RAW}
    scale = {"alpha": D**2, "nu": D, "kappa": D, "beta_tilde": D**2}
    for ratio, name in RATIOS.items():
        if ratio in values:
            value = check_real(ratio, values[ratio], infinite=ratio == "beta_tilde")
            value = value / D if ratio == "lam" else value * scale[ratio]
            numbers[name] = max(1, round(value)) if name in INTEGERS else value
    return Setting(**numbers)


def _required(values: Mapping[str, Any]) -> tuple[str, ...]:
    return ("N", "P", "ridge") if "D" in values else ("nu", "alpha", "lam")


def _stand_ins(values: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(RATIOS[name] for name in values if name in RATIOS)


def read_grid(path: str | Path) -> Grid:
    """The grid of a TOML file.

    Raises:
        FileEntryError: naming the entry, its value and what is allowed.
        ParameterError: (`grid`) no file that can be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ParameterError("grid", path, f"must be a readable TOML file ({error})") from None
    try:
        return grid_of(table, text)
    except ParameterError as error:
        raise FileEntryError(str(path), error.parameter, error.value, error.allowed) from None


def grid_of(table: Mapping[str, Any], text: str = "") -> Grid:
    """The grid of a parsed TOML table.

    Raises:
        ParameterError: naming the entry, its value and what is allowed.
    """
    known = {"fixed": dict, "swept": dict, "zipped": list, "theory": dict, "simulation": dict}
    for name, value in table.items():
        if name not in known or not isinstance(value, known[name]):
            raise ParameterError(name, value, f"must be a table out of {', '.join(f'[{key}]' for key in known)}")
    axes = [Axis({name: values_of(name, value)}) for name, value in table.get("swept", {}).items()]
    for block in table.get("zipped", ()):
        together = {name: values_of(name, value) for name, value in block.items()}
        lengths = {name: len(values) for name, values in together.items()}
        if not lengths or len(set(lengths.values())) > 1:
            raise ParameterError("zipped", lengths, "must hold parameters of one and the same number of values")
        axes.append(Axis(together))
    theory = table.get("theory")
    return Grid(
        fixed={name: _number(name, value) for name, value in table.get("fixed", {}).items()},
        axes=tuple(axes),
        theory=None if theory is None else _theory_plan(theory),
        simulation=None if "simulation" not in table else _simulation_plan(table["simulation"]),
        text=text,
    )


def _number(name: str, value: Any) -> Any:
    if isinstance(value, list | dict | str):
        raise ParameterError(name, value, "must be one number (a list of them belongs into [swept])")
    return value


def values_of(name: str, value: Any) -> tuple[Any, ...]:
    """The values of a swept parameter: a list, or linspace or logspace of (from, to, how many)."""
    if isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in ("linspace", "logspace"):
        ((kind, spec),) = value.items()
        if not (isinstance(spec, list) and len(spec) == 3):
            raise ParameterError(name, value, f"must be {kind} = [from, to, how many]")
        first, last = (check_real(name, x, positive=kind == "logspace") for x in spec[:2])
        count = check_integer(name, spec[2], 1)
        spaced = (np.linspace if kind == "linspace" else np.geomspace)(first, last, count)
        listed = [round(x) for x in spaced.tolist()] if name in INTEGERS else spaced.tolist()
    elif isinstance(value, list):
        listed = [_number(name, x) for x in value]
    else:
        raise ParameterError(name, value, "must be a list of numbers, or a linspace or logspace")
    if not listed or len(set(listed)) < len(listed):
        raise ParameterError(name, listed, "must hold at least one value and none twice")
    return tuple(listed)


def _plan_values(table: Mapping[str, Any], known: Sequence[str], kind: str) -> dict[str, Any]:
    for name, value in table.items():
        if name not in known:
            raise ParameterError(name, value, f"must be one of {', '.join(known)} in [{kind}]")
    return dict(table)


def _theory_plan(table: Mapping[str, Any]) -> TheoryPlan:
    values = _plan_values(table, [f.name for f in fields(TheoryPlan)], "theory")
    levels = values.get("levels")
    if not isinstance(levels, list) or not levels or len(set(levels)) < len(levels):
        raise ParameterError("levels", levels, f"must be a list out of {', '.join(LEVELS)}")
    return TheoryPlan(**{**values, "levels": tuple(levels)})


def _simulation_plan(table: Mapping[str, Any]) -> SimulationPlan:
    own = [f.name for f in fields(SimulationPlan) if f.name != "training"]
    training = [f.name for f in fields(Training) if f.name != "optimiser"]
    values = _plan_values(table, [*own, *training], "simulation")
    if "realisations" not in values:
        raise ParameterError("realisations", "(not given)", "is required in [simulation]")
    how = {name: values.pop(name) for name in training if name in values}
    return SimulationPlan(**values, training=how)
