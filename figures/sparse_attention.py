"""How many prompts, and so tasks, attention needs: sparse weights D log D, others of order D^2.

Errors under an absolute value of strength 1/D against P / (D log D), and the prompts that a target error takes under
each prior at its best penalty:

    python figures/sparse_attention.py --out results
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from replica_icl import Setting, solve
from replica_icl.narration.catalogue import derive
from replica_icl.plotting import style
from replica_icl.plotting.agreement import agreement, z_scores
from replica_icl.plotting.figure import Data, Figure, Run, main


@dataclass(frozen=True)
class Way:
    """A prior whose best penalty is looked for.

    Attributes:
        label: in the legend.
        penalty: field of a setting.
        weights: how many prompts it needs, up to a factor, from D: where they are looked for.
    """

    label: str
    penalty: str
    weights: Any


WAYS = (
    Way("dense (ridge)", "ridge", lambda D: D * D),
    Way(r"sparse ($\lambda_1$)", "l1", lambda D: 2 * D * math.log(D)),
)
"""A further prior is one line."""
ACCURACY = 1e-4
"""Relative, of errors from which a minimum is interpolated."""


def at(D: int, nu: float, P: Any, penalty: str, value: Any) -> Setting:
    return Setting(D=D, N=round(nu * D), P=P, **{"ridge": 0.0, penalty: value})


def stated_limit(eta: float, nu: float) -> tuple[Any, float]:
    """The limit derived in the chapter "weight-priors": error as a function of P / (D log D), and the floor."""
    told = derive("weight-priors").derivation
    (expression,) = (e.right for step in told.steps for e in step.equations if e.label == "sparse")
    values = {"rho": 0.0, "a": 1 + 1 / nu, r"\eta": eta}
    given = {x: values[x.name] for x in expression.free_symbols if x.name in values}
    (zeta,) = expression.subs(given).free_symbols
    return sp.lambdify(zeta, expression.subs(given), "numpy"), 1 - 1 / (1 + 1 / nu)


def scaled(D: int, zeta: float) -> int:
    return round(zeta * D * math.log(D))


def prompts_needed(way: Way, D: int, nu: float, target: float, points: tuple[int, int]) -> Data:
    """Prompts at which the error at the best penalty is `target`, that penalty, and d log e / d log P there."""
    prompts = np.unique(np.geomspace(0.4, 5, points[0]) * way.weights(D)).astype(int)
    penalties = np.geomspace(0.02, 3, points[1]) / D
    errors = solve(at(D, nu, prompts[:, None], way.penalty, penalties), tolerance=ACCURACY).e_icl
    best, value = np.array([minimum(np.log(penalties), row) for row in errors]).T
    log_P, log_e = np.log(prompts), np.log(value)
    order = np.argsort(log_e)
    found = float(np.interp(math.log(target), log_e[order], log_P[order]))
    slope = float(np.interp(found, log_P, np.gradient(log_e, log_P)))
    return {"P": math.exp(found), "penalty": math.exp(np.interp(found, log_P, best)), "slope": slope}


def minimum(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Least value of a parabola through the least point and its neighbours: where and what; failed points are none."""
    i = int(np.clip(np.nanargmin(y), 1, len(y) - 2))
    curvature, slope, value = np.polyfit(x[i - 1 : i + 2] - x[i], y[i - 1 : i + 2], 2)
    if not curvature > 0:
        return float(x[i]), float(y[i])
    step = float(np.clip(-slope / (2 * curvature), x[i - 1] - x[i], x[i + 1] - x[i]))
    return float(x[i]) + step, float(curvature * step**2 + slope * step + value)


def compute(run: Run) -> Data:
    """Errors at fixed strength for every dimension, and the prompts needed under every prior."""
    s, nu, eta = run.settings, run.settings["nu"], run.settings["eta"]
    limit, floor = stated_limit(eta, nu)
    axis = np.geomspace(*s["zeta_range"], s["curve"])
    scales = []
    for D, count in zip(s["D"], s["realisations"], strict=True):
        curve = solve(at(D, nu, np.array([scaled(D, x) for x in axis]), "l1", eta / D)).e_icl
        points = []
        for zeta in s["zeta"]:
            setting = at(D, nu, scaled(D, zeta), "l1", eta / D)
            found = run.simulate(setting, count)["e_icl"]
            points.append({"zeta": setting.P / (D * math.log(D)), "theory": solve(setting).e_icl, "mean": found.mean,
                           "sem": found.sem, "n": found.n})  # fmt: skip
        scales.append({"D": D, "curve": curve, "points": points})
    needed = []
    for way in WAYS:
        rows = []
        for D in s["needed_D"]:
            row = {"D": D, **prompts_needed(way, D, nu, s["target"], tuple(s["grid"]))}
            count = dict(zip(s["D"], s["realisations"], strict=True)).get(D, 0)
            if count and row["P"] <= s["most_prompts"]:
                setting = at(D, nu, round(row["P"]), way.penalty, row["penalty"])
                found = run.simulate(setting, count)["e_icl"]
                row |= {"theory": solve(setting).e_icl, "mean": found.mean, "sem": found.sem, "n": found.n}
            rows.append(row)
        needed.append({"label": way.label, "rows": rows})
    return {
        "zeta": axis, "limit": np.array([float(limit(x)) for x in axis]), "scales": scales, "needed": needed,
        "floor": floor, "target": s["target"], "eta": eta, "nu": nu,
    }  # fmt: skip


def draw(data: Data) -> Any:
    """Collapse in P / (D log D), and the prompts needed."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.3))
    left.plot(data["zeta"], data["limit"], **style.theory("limit"))
    for color, one in zip(style.SERIES, data["scales"], strict=False):
        left.plot(data["zeta"], np.array(one["curve"], float), **style.theory("finite size", color, "_"))
        zeta, mean, sem = (np.array([p[x] for p in one["points"]]) for x in ("zeta", "mean", "sem"))
        left.errorbar(zeta, mean, yerr=sem, **style.simulation(color, "_"))
    kinds = style.legend_of_kinds(left, ("limit", "finite size"), ("simulation",), loc="lower left")
    left.add_artist(kinds)
    style.legend_of_colours(left, [f"$D = {one['D']}$" for one in data["scales"]], loc="upper right")
    ends = data["zeta"][0], data["zeta"][-1]
    style.log_axis(left.xaxis, [x for x in (0.5, 1, 2, 4, 8, 16) if ends[0] <= x <= ends[1]])
    left.set(xlabel=r"prompts, $P / (D \log D)$", ylabel=r"test error $e_{\rm ICL}$", ylim=(0, None))
    left.set_title(rf"$\lambda_1 = {data['eta']:g} / D$, $N = {data['nu']:g} D$", fontsize=9, loc="right")
    share = data["target"] / (data["target"] - data["floor"])
    for color, one in zip(style.SERIES, data["needed"], strict=False):
        D = np.array([row["D"] for row in one["rows"]])
        right.plot(D, [row["P"] for row in one["rows"]], **style.theory("finite size", color, one["label"]))
        measured = [row for row in one["rows"] if "mean" in row]
        if measured:
            shift, error = implied(measured, data["target"])
            P = np.array([row["P"] for row in measured]) * np.exp(shift)
            right.errorbar([row["D"] for row in measured], P, yerr=P * error, **style.simulation(color, "_"))
    D = np.array([row["D"] for row in data["needed"][0]["rows"]])
    for values in (D**2 * share, 2 * D * np.log(D) * share):
        right.plot(D, values, **style.theory("limit", label="_"))
    right.plot([], [], **style.theory("limit", label=r"$D^2$ and $2 D \log D$, times $e/(e - e_\infty)$"))
    style.log_axis(right.xaxis, [float(x) for x in D[:: max(1, len(D) // 4)]])
    right.set_yscale("log")
    right.set(xlabel="token dimension $D$", ylabel=rf"prompts needed for $e_{{\rm ICL}} = {data['target']:g}$")
    right.set_title("each at its best penalty", fontsize=9, loc="right")
    right.legend(frameon=False, loc="upper left", borderaxespad=0.1)
    for letter, axes in zip("ab", (left, right), strict=True):
        style.panel_label(axes, letter)
    return figure


def implied(rows: list[Data], target: float) -> tuple[np.ndarray, np.ndarray]:
    """By how much, in log P, simulation at the theory's P misses the target, by the theory's slope; and its error."""
    mean, sem, slope = (np.array([row[x] for row in rows]) for x in ("mean", "sem", "slope"))
    return np.log(target / mean) / slope, sem / mean / np.abs(slope)


def findings(data: Data) -> list[str]:
    """Agreement of errors, and the prompts needed at the largest dimension."""
    points = [[p[x] for x in ("theory", "mean", "sem", "n")] for one in data["scales"] for p in one["points"]]
    sentences = [agreement(*zip(*points, strict=True)).sentence("Exact optima against the finite-size theory")]
    for one in data["scales"]:
        rows = [[p[x] for x in ("theory", "mean", "sem", "n")] for p in one["points"]]
        z = z_scores(*(np.array(x) for x in zip(*rows, strict=True)))
        sentences.append(f"D = {one['D']}: z from {z.min():+.1f} to {z.max():+.1f} at {len(rows)} numbers of prompts.")
    for one in data["needed"]:
        low, high = one["rows"][0], one["rows"][-1]
        power = math.log(high["P"] / low["P"]) / math.log(high["D"] / low["D"])
        sentences.append(
            f"{one['label'].replace('$', '')}: {low['P']:.0f} prompts at D = {low['D']}, {high['P']:.0f} at D = "
            f"{high['D']}, on average like D^{power:.2f}."
        )
    measured = [row for one in data["needed"] for row in one["rows"] if "mean" in row]
    if measured:
        columns = ([row[x] for row in measured] for x in ("theory", "mean", "sem", "n"))
        sentences.append(agreement(*columns).sentence("Simulation at the prompts needed, best penalty"))
    return sentences


FIGURE = Figure("sparse_attention", compute, draw, findings)

if __name__ == "__main__":
    sys.exit(main(FIGURE))
