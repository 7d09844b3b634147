"""Lu et al., Fig. 4: the gap between errors on new and on training tasks, against task diversity.

python figures/lu_fig4.py --out results
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from replica_icl import Ratios, solve
from replica_icl.plotting import style
from replica_icl.plotting.figure import Data, Figure, Run, main
from replica_icl.plotting.task_points import agreement_of, setting_of, task_point


def compute(run: Run) -> Data:
    """The gap of every context length, with prompts in proportion to it."""
    s = run.settings
    kappa = np.geomspace(0.7 * min(s["kappa"]), 1.4 * max(s["kappa"]), s["curve"])
    held = {"lam": s["lam"], "noise": s["noise"]}
    series = []
    for nu in s["nu"]:
        alpha = s["share"] * nu
        limit = solve(Ratios(alpha=alpha, nu=nu, kappa=kappa, **held))
        used = [k for k in s["kappa"] if k <= alpha * s["D"]]  # no more tasks than prompts
        points = [task_point(run, setting_of(s["D"], alpha=alpha, nu=nu, kappa=k, **held)) for k in used]
        series.append({"nu": nu, "alpha": alpha, "limit": limit.e_icl - limit.e_idg, "points": points})
    return {"D": s["D"], "kappa": kappa, "series": series}


def draw(data: Data) -> Any:
    """The gap on a logarithmic and on a linear scale."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.9))
    kappa = np.array(data["kappa"])
    for axis in axes:
        for color, one in zip(style.SERIES, data["series"], strict=False):
            points = one["points"]
            at = [p["kappa"] for p in points]
            mean, sem = ([p["gap"]["simulation"][x] for p in points] for x in ("mean", "sem"))
            axis.plot(kappa, one["limit"], **style.theory("limit", color))
            axis.plot(at, [p["gap"]["theory"]["mean"] for p in points], **style.theory("finite size", color))
            axis.errorbar(at, mean, yerr=sem, **style.simulation(color))
        axis.plot(kappa, np.maximum(0, 1 - kappa), color="black", linewidth=1, linestyle=":")
        style.log_axis(axis.xaxis, [0.2, 0.5, 1, 2, 5, 10, 20, 50])
        axis.set_xlabel(r"task diversity $\kappa = K/D$")
    gaps = [p["gap"]["theory"]["mean"] for one in data["series"] for p in one["points"]]
    style.log_axis(axes[0].yaxis, [0.0001, 0.001, 0.01, 0.1, 1])
    axes[0].set_ylim(0.3 * min(gaps), 3)
    axes[0].set_ylabel(r"$e_\mathrm{ICL} - e_\mathrm{IDG}$")
    style.legend_of_kinds(axes[0], ("limit", "finite size"), ("simulation",), loc="lower left")
    labels = [rf"$\nu = {one['nu']:g}$, $\alpha = {one['alpha']:g}$" for one in data["series"]]
    style.legend_of_colours(axes[1], labels, loc="upper right")
    for letter, axis in zip("ab", axes, strict=True):
        style.panel_label(axis, letter)
    return figure


def findings(data: Data) -> list[str]:
    """Agreement, and how the gap falls beyond the transition."""
    found = agreement_of([p for one in data["series"] for p in one["points"]], ["gap"])
    kappa = np.array(data["kappa"])
    lines = [found.sentence(f"Gap, simulation against the theory of the same task sets at D = {data['D']}")]
    far = kappa > 5
    for one in data["series"]:
        slope = np.polyfit(np.log(kappa[far]), np.log(np.array(one["limit"])[far]), 1)[0]
        lines.append(f"nu = {one['nu']:g}: in the limit the gap falls like kappa^{slope:.2f} beyond kappa = 5.")
    return lines


FIGURE = Figure("lu_fig4", compute, draw, findings)

if __name__ == "__main__":
    sys.exit(main(FIGURE))
