"""Fresh tasks at finite D, N, P under any weight prior, ground state, with the full prompt law.

Two lowered halves are iterated to their fixed point: the prompts' (fields from overlaps) and the prior's (overlaps from
fields). Nodes of the prompt law are refined until an independent rule gives the same values, as for the ridge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import ParameterError
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.prompt_nodes import PromptNodes, mean_prompt, prompt_nodes
from replica_icl.numeric.priors.fixed_point import fixed_point
from replica_icl.numeric.saddle import chunks
from replica_icl.numeric.solution import Solution, Status, solution_of
from replica_icl.priors import Prior
from replica_icl.setting import Setting

Array = NDArray[np.floating[Any]]

TOLERANCE = 1e-11
"""Largest relative change of a field in one undamped round through both halves that counts as solved."""
MAX_ITERATIONS = 3000
FOUND = ("m", "q", "V", "u", "V_u", "e_icl", "train_error", "contrast", "replicon", "residual", "iterations")
CHECKED = ("e_icl", "train_error", "m", "q")
"""What two rules for the prompt averages have to agree on."""
NOTHING = 1e-12
"""An overlap below it is nothing beside the one of the target: what a strong prior leaves is exponentially small."""


@dataclass(frozen=True, eq=False)
class PriorPoints:
    """Points with the same prompt law and prior, arrays of shape (points, 1).

    Attributes:
        D, N, noise: of the prompt law.
        P: prompts.
        ridge: lambda_0 beside the prior.
        penalties: of the prior, in the order of its fields.
    """

    D: int
    N: int
    noise: float
    P: Array
    ridge: Array
    penalties: tuple[Array, ...]

    def take(self, index: Any) -> PriorPoints:
        penalties = tuple(value[index] for value in self.penalties)
        return PriorPoints(self.D, self.N, self.noise, self.P[index], self.ridge[index], penalties)


@dataclass(frozen=True, eq=False)
class Halves:
    """The lowered functions of both halves.

    Attributes:
        model: of the prompts and their law.
        prior: of the weights.
    """

    model: Model
    prior: Any

    def fields(self, points: PriorPoints, nodes: PromptNodes, overlaps: tuple[Array, ...]) -> Any:
        """Fields, observables and the energetic part's curvature."""
        sizes = {"D": float(points.D), "P": points.P, "rho": points.noise}
        return self.model.prompt_fields.fields(NUMPY, nodes.average, overlaps=overlaps, **sizes)

    def overlaps(self, points: PriorPoints, logs: Array) -> Any:
        """Overlaps and the entropic part's curvature, from the fields' logarithms, shape (points, 5)."""
        fields = tuple(np.exp(logs[:, i : i + 1]) for i in range(logs.shape[1]))
        sizes = {"D": float(points.D), "P": points.P, "lambda_0": points.ridge}
        return self.prior.overlaps(NUMPY, fields=fields, **sizes, **named(penalties=points.penalties))


def named(**penalties: tuple[Any, ...]) -> dict[str, tuple[Any, ...]]:
    """Penalties as arguments of lowered functions, which a prior without penalties does not have."""
    return {name: values for name, values in penalties.items() if values}


def logs_of(fields: Sequence[Array], shape: tuple[int, ...]) -> Array:
    """Logarithms of fields as coordinates, shape (points, fields)."""
    return np.log(np.concatenate([np.broadcast_to(field, shape) for field in fields], axis=1))


def saddle_point(halves: Halves, points: PriorPoints, nodes: PromptNodes, start: Array | None) -> dict[str, Array]:
    """The fixed point on given nodes: overlaps, observables, residual, iterations, and the fields' logarithms.

    Args:
        start: logarithms of the fields; None: those at W = 0, where nothing has been learnt.
    """
    functions = halves.model.prompt_fields
    found: dict[str, list[Any]] = defaultdict(list)
    for piece in chunks(len(points.P), nodes):
        part = points.take(piece)
        if start is None:
            nothing = (np.zeros_like(part.P),) * len(functions.ORDER_PARAMETERS)
            first = logs_of(halves.fields(part, nodes, nothing).fields, part.P.shape)
        else:
            first = start[piece]

        def around(logs: Array, index: Any, part: PriorPoints = part) -> Array:
            some = part.take(index)
            return logs_of(halves.fields(some, nodes, halves.overlaps(some, logs).overlaps).fields, some.P.shape)

        solved = fixed_point(around, first, TOLERANCE, MAX_ITERATIONS)
        weights = halves.overlaps(part, solved.x)
        prompts = halves.fields(part, nodes, weights.overlaps)
        (y, y_mixed), (_, y_last) = prompts.curvature
        stability = functions.stability(
            NUMPY, y_tokens=y, y_mixed=y_mixed, y_last_row=y_last, weights=weights.curvature
        )
        values = dict(zip(functions.ORDER_PARAMETERS, weights.overlaps, strict=True))
        values |= {name: getattr(prompts, name) for name in ("e_icl", "train_error", "contrast")}
        values["replicon"] = stability.replicon
        for name, value in values.items():
            found[name].append(np.broadcast_to(value, part.P.shape)[:, 0])
        found["residual"].append(solved.residual)
        found["iterations"].append(solved.iterations)
        found["logs"].append(solved.x)
    return {name: np.concatenate(pieces) for name, pieces in found.items()}


def _steepest(points: PriorPoints, saddle: dict[str, Array]) -> float:
    """Largest T |c|^2 V + T l^2 V_u at the mean prompt, in units of the 1 that it stands beside."""
    a = 1 + (points.D + 1 + points.noise * points.D) / points.N
    chi = saddle["V"] * a + saddle["V_u"] * (1 + points.noise) ** 2
    return min(float(np.max(chi[np.isfinite(chi)], initial=1.0)), 1e12)


def _solve_group(halves: Halves, points: PriorPoints, tolerance: float) -> dict[str, Array]:
    """All points of one prompt law: the mean prompt, the rule asked for, and its check by another rule."""
    law = (halves.model, points.D, points.N, points.noise)
    with np.errstate(all="ignore"):
        saddle = saddle_point(halves, points, mean_prompt(*law), None)
        rule, steepest = tolerance / 3, _steepest(points, saddle)
        for _ in range(3):
            saddle = saddle_point(halves, points, prompt_nodes(*law, rule, steepest), None)
            checked = saddle_point(halves, points, prompt_nodes(*law, rule, steepest, check=True), saddle["logs"])
            differences = [np.abs(saddle[x] - checked[x]) / np.maximum(np.abs(checked[x]), NOTHING) for x in CHECKED]
            saddle["inaccuracy"] = np.max(differences, axis=0)
            if not np.any(saddle["inaccuracy"] > tolerance):
                break
            rule /= 30
            steepest = max(steepest, _steepest(points, saddle))
    return saddle


def classify(values: dict[str, Array], residual: Array, tolerance: float = TOLERANCE) -> NDArray[np.integer[Any]]:
    """Status of each point: residual, finiteness, q >= m^2, V >= 0 (zero if no weight survives) and replicon > 0."""
    finite = np.isfinite(residual)
    for name in ("m", "q", "e_icl", "train_error", "replicon"):
        finite = finite & np.isfinite(values[name])
    slack = 1e-12 * np.abs(values["q"])
    admissible = (values["V"] >= 0) & (values["q"] >= values["m"] ** 2 - slack) & (values["replicon"] > 0)
    status = np.where(residual <= tolerance, Status.CONVERGED, Status.MAX_ITERATIONS)
    status = np.where(admissible, status, Status.INADMISSIBLE)
    return np.where(finite, status, Status.NON_FINITE)


def check_ground_state(settings: Sequence[Setting]) -> None:
    """Fresh tasks in their ground state are what there is of theory under any prior.

    Raises:
        ParameterError: for another task diversity or a temperature.
    """
    for setting in settings:
        if setting.K is not None:
            raise ParameterError("K", setting.K, "must be absent: under this prior the theory has fresh tasks")
        if np.isfinite(setting.beta):
            raise ParameterError("beta", setting.beta, "must be inf: under this prior the theory has the ground state")


def solve_finite_size_prior(
    settings: Sequence[Setting], prior: Prior, tolerance: float = 1e-7, model: Model | None = None
) -> Solution:
    """Solve the finite-size theory under a weight prior for many settings at once.

    Args:
        settings: single points; a ridge acts beside the prior.
        prior: penalties that are numbers, or arrays along the settings.
        tolerance: relative accuracy of the prompt averages, as it shows in e_icl, train_error, m and q.
        model: lowered theories; by default the package's own.

    Returns:
        Solution at level "finite-size", arrays of shape (len(settings),), without a next order. V and V_u are not in
        it: in the ground state they are responses, not variances. The contrast is that of the mean overlaps.

    Raises:
        ParameterError: for a finite task diversity or temperature.
    """
    check_ground_state(settings)
    model = model or LINEAR_ATTENTION
    halves = Halves(model, model.prior(type(prior)))
    count = len(settings)
    penalties = [np.broadcast_to(np.asarray(x, dtype=float), (count,))[:, None] for x in prior.penalties.values()]
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for i, setting in enumerate(settings):
        groups[setting.D, setting.N, setting.noise].append(i)
    values = {name: np.full(count, np.nan) for name in (*FOUND, "inaccuracy")}
    for (D, N, noise), members in groups.items():
        points = PriorPoints(
            D=D,
            N=N,
            noise=noise,
            P=np.array([[float(settings[i].P)] for i in members]),
            ridge=np.array([[settings[i].ridge] for i in members]),
            penalties=tuple(x[members] for x in penalties),
        )
        found = _solve_group(halves, points, tolerance)
        for name in values:
            values[name][members] = found[name]
    residual, inaccuracy, iterations = (values.pop(name) for name in ("residual", "inaccuracy", "iterations"))
    status = classify(values, residual)
    status = np.where((status == Status.CONVERGED) & ~(inaccuracy <= tolerance), Status.QUADRATURE, status)
    values = {name: value for name, value in values.items() if name not in ("V", "V_u")}
    values["e_idg"] = values["e_icl"]  # training tasks are drawn like new ones
    return solution_of("finite-size", status, residual, iterations.astype(int), values, (count,))
