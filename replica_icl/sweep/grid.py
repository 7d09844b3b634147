"""A grid of parameters, read from a TOML file: what is fixed, what is swept, and what is computed at each point.

[fixed]                                    # D, N, P, K, noise, ridge, beta, minimum_norm; or the ratios
D = 20                                     # alpha, nu, kappa, lam, beta_tilde instead: with D they are turned into
ridge = 1.0                                # integers (the nearest), without D they are the limit's

[swept]                                    # each its own dimension: the product of all
N = { linspace = [2, 100, 50] }            # from, to, how many; integers where the parameter is one
P = [100, 200, 400]
noise = { geomspace = [0.01, 1, 5] }       # from, to, how many; logspace takes their decimal logarithms

[[zipped]]                                 # these vary together along one dimension
ridge = [0.1, 0.2]
beta = [100, 200]

[theory]
levels = ["finite-size", "limit"]          # or "given-tasks", with draws, seed, sphere, usage
tolerance = 1e-7

[simulation]
realisations = 10
seed = 0                                   # also: algorithm, prompts, law, task_law, and the options of training

[theory] and [simulation] both take task_covariance, token_covariance, test_task_covariance, test_token_covariance
(a family such as "power-law:1", or a .npy file), test_N and test_noise.
"""

from __future__ import annotations

import logging
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from replica_icl.covariances import COVARIANCES, check_spec
from replica_icl.errors import FileEntryError, ParameterError
from replica_icl.keys import LATER
from replica_icl.meeting.message_passing import MessagePassing, algorithm_of
from replica_icl.numeric.levels import LEVELS, Level, level_named
from replica_icl.numeric.levels.points import point_of
from replica_icl.options import OPTIONS, SIMULATION, STRUCTURE, TRAINERS, TRAINING, given
from replica_icl.parameter import Parameter
from replica_icl.parameters import PARAMETERS, RATIOS, SETTING, SIZES, STANDS_FOR
from replica_icl.priors import penalties_of
from replica_icl.ratios import Ratios, raw_number
from replica_icl.setting import Setting
from replica_icl.simulator.budget import plan
from replica_icl.simulator.laws import PromptLaw
from replica_icl.simulator.optimisers import Training
from replica_icl.store import as_path

LARGEST = 10**7
"""Points of one grid."""
SPACED = ("linspace", "logspace", "geomspace")
"""Ways to space the values of a swept parameter, with NumPy's meanings."""
SOLVED = ("tolerance", "draws", "seed", "sphere", "usage", *STRUCTURE)
"""Options of [theory]: those of the levels that a file can hold."""

_log = logging.getLogger(__name__)

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
        levels: of theory, by name.
        options: of these levels, those that were given.

    Raises:
        ParameterError: no such level or option, or an option that would act at none of the levels.
    """

    levels: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = [level_named(name) for name in self.levels]
        object.__setattr__(self, "options", given(self.options))
        for name, value in self.options.items():
            if not any(name in level.options for level in known):
                acts = ", ".join(level.name for level in LEVELS.values() if name in level.options)
                raise ParameterError(name, value, f"must be given with a level at which it acts ({acts})")

    def options_of(self, level: Level) -> dict[str, Any]:
        """The options that act at one level."""
        return {name: value for name, value in self.options.items() if name in level.options}


@dataclass(frozen=True)
class SimulationPlan:
    """What is simulated at each point, as in `simulate`.

    Attributes:
        realisations, seed, prompts, law, task_law, usage, sphere, covariances, test_N, test_noise: as there, a
            covariance by its family or file.
        algorithm: a name, None for the cheapest exact one, or the name of an optimiser.
        training: options of the optimiser.
        damping, max_iterations: of message passing.
    """

    realisations: int
    seed: int = 0
    algorithm: str | None = None
    prompts: str = "tokens"
    law: str = "gaussian"
    task_law: str | None = None
    usage: str = "random"
    sphere: bool = False
    training: Mapping[str, Any] = field(default_factory=dict)
    damping: float | None = None
    max_iterations: int | None = None
    task_covariance: str | None = field(default=None, metadata=LATER)
    token_covariance: str | None = field(default=None, metadata=LATER)
    test_task_covariance: str | None = field(default=None, metadata=LATER)
    test_token_covariance: str | None = field(default=None, metadata=LATER)
    test_N: int | None = field(default=None, metadata=LATER)
    test_noise: float | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name in SIMULATION and value is not None:
                SIMULATION[one.name].check(value)
        _check_named(self.structure)
        PromptLaw.of(self.prompts, self.law, self.task_law, self.usage, self.sphere)
        if self.training and self.algorithm not in TRAINERS:
            first = next(iter(self.training))
            raise ParameterError(first, self.training[first], f"needs an algorithm out of {', '.join(TRAINERS)}")
        self.how()

    def how(self) -> str | Training | MessagePassing | None:
        """The algorithm as `simulate` takes it.

        Raises:
            ParameterError: an option that the algorithm does not have.
        """
        own = {"damping": self.damping, "max_iterations": self.max_iterations}
        chosen = algorithm_of({"algorithm": self.algorithm, **own})["algorithm"]
        return Training(chosen, **self.training) if chosen in TRAINERS else chosen

    @property
    def structure(self) -> dict[str, Any]:
        """Covariances and test prompts, those that are given."""
        return {name: x for name in STRUCTURE if (x := getattr(self, name)) is not None}

    def prompt_law(self, D: int) -> PromptLaw:
        """The law of the prompts at dimension D.

        Raises:
            ParameterError: a covariance that cannot be at this D.
        """
        return PromptLaw.of(self.prompts, self.law, self.task_law, self.usage, self.sphere, D, **self.structure)

    def options(self) -> dict[str, Any]:
        """Everything but the number of realisations, as keyword arguments of `simulate`."""
        laws = {"prompts": self.prompts, "law": self.law, "task_law": self.task_law}
        used = {"usage": self.usage, "sphere": self.sphere}
        return {"seed": self.seed, "algorithm": self.how(), **laws, **used, **self.structure}


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
            if name not in PARAMETERS:
                raise ParameterError(name, self._first(name), f"must be one of {', '.join(PARAMETERS)}")
            if names.count(name) > 1:
                raise ParameterError(name, self._first(name), "must be given once: fixed, swept or zipped")
            if STANDS_FOR.get(name) in names:
                advice = f"must not be given beside {STANDS_FOR[name]}: the same quantity twice"
                raise ParameterError(name, self._first(name), advice)
        if "D" not in names and (mixed := [name for name in names if name in STANDS_FOR.values()]):
            raise ParameterError(mixed[0], self._first(mixed[0]), "needs D beside it (or give ratios only)")
        if self.theory is None and self.simulation is None:
            raise ParameterError("theory", "(not given)", "is required, or [simulation]: there is nothing to compute")
        if math.prod(self.shape) > LARGEST:
            raise ParameterError("swept", self.shape, f"must make at most {LARGEST} points")
        self._check_points()
        for told in self.rounded:
            _log.warning("%s", told)

    def _first(self, name: str) -> Any:
        found = [self.fixed[name]] if name in self.fixed else []
        return (found + [axis.values[name][0] for axis in self.axes if name in axis.values])[0]

    def _check_points(self) -> None:
        """Points that a level or the simulation cannot take, before any work."""
        for point in self.points:
            if isinstance(point, Ratios):
                if self.simulation is not None:
                    raise ParameterError("D", "(not given)", "is required to simulate: ratios alone have no size")
                finite = [] if self.theory is None else [name for name in self.theory.levels if name != "limit"]
                if finite:
                    raise ParameterError("levels", finite[0], "must be limit without D: ratios alone have no size")
                return
            for level in () if self.theory is None else map(level_named, self.theory.levels):
                level.check(point, self.theory.options_of(level) if self.theory else {})
        if self.simulation is not None:
            one = self.simulation
            laws = {D: one.prompt_law(D) for D in {setting.D for setting in self.settings}}
            for setting in self.settings:
                plan(setting, one.how(), None, laws[setting.D])

    @property
    def rounded(self) -> tuple[str, ...]:
        """What is to be said of ratios that become the same integer at their D."""
        found = []
        for axis in self.axes:
            for name, values in axis.values.items():
                if name not in STANDS_FOR or STANDS_FOR[name] not in SIZES:
                    continue
                for D in self._sizes():
                    whole = [raw_number(name, value, D, nearest=True) for value in values]
                    for size in sorted({x for x in whole if whole.count(x) > 1}):
                        same = ", ".join(f"{value:g}" for value, x in zip(values, whole, strict=True) if x == size)
                        found.append(f"{name} = {same} are all {STANDS_FOR[name]} = {size} at D = {D}")
        return tuple(found)

    def _sizes(self) -> tuple[int, ...]:
        """Every D of the grid."""
        swept = [axis.values["D"] for axis in self.axes if "D" in axis.values]
        return tuple(swept[0]) if swept else (self.fixed["D"],) if "D" in self.fixed else ()

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
            found.append(grid_point(values))
        return tuple(found)

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The points as settings; () for ratios without a size."""
        return tuple(point for point in self.points if isinstance(point, Setting))


def grid_point(values: Mapping[str, Any]) -> Point:
    """A setting, its ratios turned into the nearest integers where it has a D, or ratios without one."""
    table = SETTING if "D" in values else RATIOS
    stand_ins = {STANDS_FOR[name] for name in values if name in STANDS_FOR}
    required = ("N", "P", *("ridge",) * (not penalties_of(values))) if "D" in values else ("nu", "alpha", "lam")
    for name in required:
        if name not in values and name not in stand_ins:
            raise ParameterError(name, "(not given)", "is required (or the ratio that stands for it)")
    if "D" not in values:
        return point_of(values)
    D = SETTING["D"].check(values["D"])
    numbers = {name: value for name, value in values.items() if name in table}
    for name in values:
        if name in STANDS_FOR:
            numbers[STANDS_FOR[name]] = raw_number(name, RATIOS[name].check(values[name]), D, nearest=True)
    return point_of(numbers)


def read_grid(path: str | Path) -> Grid:
    """The grid of a TOML file.

    Raises:
        FileEntryError: naming the entry, its value and what is allowed.
        ParameterError: (`grid`) no file that can be read.
    """
    try:
        text = as_path(path, "grid").read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:  # a text that is no TOML is a ValueError
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
            titles = ", ".join(f"[[{key}]]" if kind is list else f"[{key}]" for key, kind in known.items())
            raise ParameterError(name, value, f"must be a table out of {titles}")
    if not all(isinstance(block, dict) for block in table.get("zipped", ())):
        raise ParameterError("zipped", table["zipped"], "must be tables, [[zipped]]")
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
    """One value of a parameter, checked as far as it can be alone."""
    if isinstance(value, list | dict) or (isinstance(value, str) and name not in PARAMETERS):
        raise ParameterError(name, value, "must be one number (a list of them belongs into [swept])")
    return PARAMETERS[name].check(value) if name in PARAMETERS else value


def values_of(name: str, value: Any) -> tuple[Any, ...]:
    """The values of a swept parameter: a list, or linspace, logspace or geomspace with NumPy's meanings.

    Raises:
        ParameterError: anything else, values that the parameter cannot have, none, or one of them twice.
    """
    if name not in PARAMETERS:
        raise ParameterError(name, value, f"must be one of {', '.join(PARAMETERS)}")
    if isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in SPACED:
        ((kind, spec),) = value.items()
        listed = _spaced(PARAMETERS[name], kind, spec)
    elif isinstance(value, list):
        listed = [_number(name, x) for x in value]
    else:
        raise ParameterError(name, value, f"must be a list of numbers, or {', '.join(SPACED[:-1])} or {SPACED[-1]}")
    if not listed or len(set(listed)) < len(listed):
        raise ParameterError(name, listed, "must hold at least one value and none twice")
    return tuple(listed)


def _spaced(parameter: Parameter, kind: str, spec: Any) -> list[Any]:
    """Values from, to, how many: equally spaced, between decimal logarithms, or in a geometric row."""
    numbers = isinstance(spec, list) and len(spec) == 3 and all(type(x) in (int, float) for x in spec)
    wanted = f"must be {kind} = [from, to, how many]" + (" of decimal logarithms" if kind == "logspace" else "")
    if not numbers or not isinstance(spec[2], int) or not 1 <= spec[2] <= LARGEST:
        raise ParameterError(parameter.name, spec, f"{wanted}, at most {LARGEST} of them")
    try:
        first, last = float(spec[0]), float(spec[1])
    except OverflowError:
        raise ParameterError(parameter.name, spec[:2], "must be numbers that are not beyond floating point") from None
    if kind == "logspace":
        good = -300 < min(first, last) and max(first, last) < 300
    else:
        good = math.isfinite(first) and math.isfinite(last) and (kind == "linspace" or min(first, last) > 0)
    if not good:
        raise ParameterError(parameter.name, spec, wanted + (" of positive numbers" if kind == "geomspace" else ""))
    listed = getattr(np, kind)(first, last, spec[2]).tolist()
    return [parameter.check(round(x) if parameter.kind == "integer" else x) for x in listed]


def _plan_values(table: Mapping[str, Any], known: Sequence[str], kind: str) -> dict[str, Any]:
    for name, value in table.items():
        if name not in known:
            raise ParameterError(name, value, f"must be one of {', '.join(known)} in [{kind}]")
    return dict(table)


def _check_named(options: Mapping[str, Any]) -> None:
    """Covariances of a grid file are families or files."""
    for name in COVARIANCES:
        if not isinstance(options.get(name, ""), str):
            raise ParameterError(name, options[name], "must be the name of a family or of a .npy file")
        if name in options:
            check_spec(name, options[name])


def _theory_plan(table: Mapping[str, Any]) -> TheoryPlan:
    values = _plan_values(table, ["levels", *SOLVED], "theory")
    levels = values.pop("levels", None)
    named = isinstance(levels, list) and levels and all(isinstance(x, str) for x in levels)
    if not named or len(set(levels)) < len(levels) or not set(levels) <= set(LEVELS):
        raise ParameterError("levels", levels, f"must be a list out of {', '.join(LEVELS)}")
    for name, value in values.items():
        OPTIONS[name].check(value)
    _check_named(values)
    return TheoryPlan(tuple(levels), values)


def _simulation_plan(table: Mapping[str, Any]) -> SimulationPlan:
    own = [one.name for one in fields(SimulationPlan) if one.name != "training"]
    training = [*TRAINING, *(one.name for one in fields(Training) if one.name not in (*TRAINING, "optimiser"))]
    values = _plan_values(table, [*own, *training], "simulation")
    if "realisations" not in values:
        raise ParameterError("realisations", "(not given)", "is required in [simulation]")
    how = {name: values.pop(name) for name in training if name in values}
    return SimulationPlan(**values, training=how)
