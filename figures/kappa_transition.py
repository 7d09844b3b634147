"""From memorising to learning in context: errors on new and on training tasks against task diversity kappa = K/D.

python figures/kappa_transition.py --out results
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from replica_icl import Ratios, solve
from replica_icl.plotting import style
from replica_icl.plotting.figure import Data, Figure, Run, main
from replica_icl.plotting.task_points import agreement_of, setting_of, task_point

ERRORS = ("e_icl", "e_idg")


def compute(run: Run) -> Data:
    """Limit curves and points of every context length; the gap at more prompts and longer contexts."""
    s = run.settings
    kappa = np.geomspace(min(s["kappa"]) / 1.3, max(s["kappa"]) * 1.3, s["curve"])
    held = {"alpha": s["alpha"], "lam": s["lam"], "noise": s["noise"]}
    series = []
    for nu in s["nu"]:
        limit = solve(Ratios(nu=nu, kappa=kappa, **held))
        points = [task_point(run, setting_of(s["D"], nu=nu, kappa=k, **held)) for k in s["kappa"]]
        series.append({"nu": nu, "limit": {name: getattr(limit, name) for name in ERRORS}, "points": points})
    gaps = []
    for scale in s["scale"]:
        far = solve(Ratios(alpha=s["alpha"] * scale, nu=max(s["nu"]) * scale, kappa=kappa, lam=1e-6, noise=0.0))
        gaps.append({"alpha": s["alpha"] * scale, "nu": max(s["nu"]) * scale, "gap": far.e_icl - far.e_idg})
    return {"D": s["D"], "alpha": s["alpha"], "kappa": kappa, "series": series, "gaps": gaps}


def draw(data: Data) -> Any:
    """Both errors against kappa, and their difference."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.9))
    titles = {"e_icl": r"new tasks, $e_\mathrm{ICL}$", "e_idg": r"training tasks, $e_\mathrm{IDG}$"}
    for axis, name in zip(axes, ERRORS, strict=False):
        for color, one in zip(style.SERIES, data["series"], strict=False):
            points = one["points"]
            at = [p["kappa"] for p in points]
            axis.plot(data["kappa"], one["limit"][name], **style.theory("limit", color))
            axis.plot(at, [p[name]["theory"]["mean"] for p in points], **style.theory("finite size", color))
            mean, sem = ([p[name]["simulation"][x] for p in points] for x in ("mean", "sem"))
            axis.errorbar(at, mean, yerr=sem, **style.simulation(color))
        axis.set_title(titles[name], fontsize=9)
        axis.set_ylim(bottom=0)
    style.legend_of_kinds(axes[0], ("limit", "finite size"), ("simulation",))
    style.legend_of_colours(axes[1], [rf"$\nu = {one['nu']:g}$" for one in data["series"]], loc="upper left")
    last = axes[2]
    kappa = np.array(data["kappa"])
    last.plot(kappa, np.maximum(0, 1 - kappa), color="black", linewidth=1, linestyle=":", label=r"$(1-\kappa)_+$")
    for color, one in zip(style.SERIES, data["gaps"], strict=False):
        label = rf"$\alpha = {one['alpha']:g}$, $\nu = {one['nu']:g}$"
        last.plot(kappa, one["gap"], color=color, linewidth=1.2, linestyle="--", label=label)
    last.set_title(r"$e_\mathrm{ICL} - e_\mathrm{IDG}$, limit", fontsize=9)
    last.legend(frameon=False)
    for letter, axis in zip("abc", axes, strict=True):
        style.panel_label(axis, letter)
        style.log_axis(axis.xaxis, [0.25, 0.5, 1, 2, 4])
        axis.set_xlabel(r"task diversity $\kappa = K/D$")
        axis.axvline(1, color=style.GREY, linewidth=0.6)
    axes[0].set_ylabel("mean squared error")
    return figure


def findings(data: Data) -> list[str]:
    """Agreement of simulation with theory, the limit's distance, and the gap."""
    points = [p for one in data["series"] for p in one["points"]]
    found = agreement_of(points, ERRORS)
    kappa = np.array(data["kappa"])
    off = []
    for one in data["series"]:
        for name in ERRORS:
            limit = np.interp(np.log([p["kappa"] for p in one["points"]]), np.log(kappa), one["limit"][name])
            off += list(limit / np.array([p[name]["theory"]["mean"] for p in one["points"]]) - 1)
    gap = np.max(np.abs(np.array(data["gaps"][-1]["gap"]) - np.maximum(0, 1 - kappa)))
    return [
        found.sentence(f"Simulation against the theory of the same task sets at D = {data['D']}"),
        f"The limit is {100 * min(off):+.1f} to {100 * max(off):+.1f} % off at D = {data['D']}.",
        f"With the most prompts and the longest contexts the gap is within {gap:.3f} of (1 - kappa)_+.",
    ]


FIGURE = Figure("kappa_transition", compute, draw, findings)

if __name__ == "__main__":
    sys.exit(main(FIGURE))
