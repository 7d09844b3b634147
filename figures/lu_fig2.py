"""Lu et al., Fig. 2: errors against context length, with few and with many tasks.

python figures/lu_fig2.py --out results
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from replica_icl import Ratios, solve
from replica_icl.plotting import style
from replica_icl.plotting.figure import Data, Figure, Run, main
from replica_icl.plotting.task_points import agreement_of, setting_of, task_point

NAMES = {"e_icl": r"new tasks, $e_\mathrm{ICL}$", "e_idg": r"training tasks, $e_\mathrm{IDG}$"}


def compute(run: Run) -> Data:
    """Limit curves and points of each panel."""
    s = run.settings
    nu = np.geomspace(0.7 * min(s["nu"]), 1.4 * max(s["nu"]), s["curve"])
    panels = []
    for panel in s["panels"]:
        held = {"alpha": panel["alpha"], "noise": panel["noise"]}
        series = []
        for kappa in panel["kappa"]:
            limit = getattr(solve(Ratios(nu=nu, kappa=kappa, lam=0.0, minimum_norm=True, **held)), panel["error"])
            settings = [setting_of(s["D"], nu=x, kappa=kappa, lam=s["lam"], **held) for x in s["nu"]]
            points = [task_point(run, setting) for setting in settings]
            series.append({"kappa": kappa, "limit": limit, "points": points})
        panels.append({**panel, "series": series})
    return {"D": s["D"], "nu": nu, "panels": panels}


def draw(data: Data) -> Any:
    """One panel for each error and number of prompts."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.9))
    for letter, axis, panel in zip("abc", axes, data["panels"], strict=True):
        for color, one in zip(style.SERIES, panel["series"], strict=False):
            points = one["points"]
            at = [p["nu"] for p in points]
            found = [p[panel["error"]] for p in points]
            axis.plot(data["nu"], one["limit"], **style.theory("limit", color))
            axis.plot(at, [p["theory"]["mean"] for p in found], **style.theory("finite size", color))
            mean, sem = ([p["simulation"][x] for p in found] for x in ("mean", "sem"))
            axis.errorbar(at, mean, yerr=sem, **style.simulation(color))
        style.panel_label(axis, letter)
        axis.set_title(rf"{NAMES[panel['error']]}, $\alpha = {panel['alpha']:g}$", fontsize=8.5, loc="right")
        style.log_axis(axis.xaxis, [1, 10, 100])
        style.log_axis(axis.yaxis, [0.1, 0.2, 0.5, 1, 2, 5])
        axis.set_xlabel(r"context length $\nu = N/D$")
        labels = [rf"$\kappa = {one['kappa']:g}$" for one in panel["series"]]
        style.legend_of_colours(axis, labels, ncols=2, loc="upper center", columnspacing=1.0)
        means = [p[panel["error"]]["theory"]["mean"] for one in panel["series"] for p in one["points"]]
        axis.set_ylim(0.4 * min(means), 3.5 * max(means))
    style.legend_of_kinds(axes[2], ("limit", "finite size"), ("simulation",), loc="lower left")
    axes[2].add_artist(axes[2].get_legend())
    labels = [rf"$\kappa = {one['kappa']:g}$" for one in data["panels"][2]["series"]]
    style.legend_of_colours(axes[2], labels, ncols=2, loc="upper center", columnspacing=1.0)
    axes[0].set_ylabel("mean squared error")
    return figure


def findings(data: Data) -> list[str]:
    """Agreement, and where the limit has a best context length."""
    every = [(panel["error"], p) for panel in data["panels"] for one in panel["series"] for p in one["points"]]
    lines = []
    for error in ("e_icl", "e_idg"):
        found = agreement_of([p for name, p in every if name == error], [error])
        lines.append(found.sentence(f"{error}, simulation against the theory of the same task sets at D = {data['D']}"))
    for letter, panel in zip("abc", data["panels"], strict=True):
        turning = []
        for one in panel["series"]:
            curve = np.array(one["limit"])
            inside = np.flatnonzero((curve[1:-1] < curve[:-2]) & (curve[1:-1] < curve[2:]))
            if inside.size:
                turning.append(f"kappa = {one['kappa']:g} (nu = {data['nu'][int(inside[0]) + 1]:.1f})")
        lines.append(f"({letter}) in the limit a best context length exists for {', '.join(turning) or 'no kappa'}.")
    return lines


FIGURE = Figure("lu_fig2", compute, draw, findings)

if __name__ == "__main__":
    sys.exit(main(FIGURE))
