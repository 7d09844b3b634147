"""Lu et al., Fig. 3: where more context hurts, and the best context length, over task diversity and label noise.

python figures/lu_fig3.py --out results
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from replica_icl import Ratios, solve
from replica_icl.plotting import style
from replica_icl.plotting.figure import Data, Figure, Run, main
from replica_icl.plotting.task_points import setting_of, task_point

NAMES = {"e_icl": r"e_\mathrm{ICL}", "e_idg": r"e_\mathrm{IDG}"}
SHARE = 1e-5
"""A minimum counts if the error rises again by more than this (the paper's tolerance)."""


def compute(run: Run) -> Data:
    """The first minimum over nu of each panel's error, on a map; a cut through it at finite size."""
    s = run.settings
    kappa, rho = np.linspace(*s["kappa"][:2], s["kappa"][2]), np.linspace(*s["rho"][:2], s["rho"][2])
    nu = np.geomspace(*s["nu"][:2], s["nu"][2])
    panels = []
    for panel in s["panels"]:
        best = []
        for noise in rho:  # one row at a time keeps memory small
            grid = Ratios(alpha=panel["alpha"], nu=nu, kappa=kappa[:, None], noise=noise, lam=0.0, minimum_norm=True)
            best.append(first_minimum(nu, getattr(solve(grid), panel["error"])))
        panels.append({**panel, "best": np.array(best)})
    cut = s["cut"]
    held = {"alpha": cut["alpha"], "noise": cut["noise"]}
    points = []
    for k in cut["kappa"]:
        settings = [setting_of(s["D"], nu=x, kappa=k, lam=s["lam"], **held) for x in cut["nu"]]
        limit = solve(Ratios(nu=nu, kappa=k, lam=0.0, minimum_norm=True, **held)).e_icl
        points.append({"kappa": k, "limit": limit, "points": [task_point(run, one) for one in settings]})
    return {"D": s["D"], "kappa": kappa, "rho": rho, "nu": nu, "panels": panels, "cut": {**cut, "series": points}}


def first_minimum(nu: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """nu of the first minimum along the last axis, NaN where the error only falls or only rises."""
    falls = errors[..., 1:-1] < errors[..., :-2]
    turns = falls & (errors[..., 1:-1] < errors[..., 2:])
    least = np.minimum.accumulate(errors, axis=-1)
    rises = (errors - least).max(axis=-1) > SHARE
    at = turns.argmax(axis=-1) + 1
    return np.where(turns.any(axis=-1) & rises, nu[at], np.nan)


def draw(data: Data) -> Any:
    """Three maps, and a cut with simulation."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import LogNorm

    figure, axes = plt.subplots(1, 4, figsize=(7.2, 2.4), width_ratios=(1, 1, 1, 1.25))
    norm = LogNorm(0.1, 1000)
    edges = (data["kappa"][0], data["kappa"][-1], data["rho"][0], data["rho"][-1])
    for axis, panel in zip(axes, data["panels"], strict=False):
        image = axis.imshow(
            np.array(panel["best"], float), origin="lower", extent=edges, aspect="auto", norm=norm, **style.MAP
        )
        axis.set_title(rf"${NAMES[panel['error']]}$, $\alpha = {panel['alpha']:g}$", fontsize=8.5, loc="right")
        axis.set_xlabel(r"$\kappa$")
        axis.axvline(1, color="white", linewidth=0.6)
    bar = figure.colorbar(image, ax=axes[:3], location="right", pad=0.02)
    bar.set_label(r"best $\nu$")
    axes[0].set_ylabel(r"label noise $\rho$")
    for axis in axes[1:3]:
        axis.set_yticklabels([])
    cut, last = data["cut"], axes[3]
    for color, one in zip(style.SERIES, cut["series"], strict=False):
        at = [p["nu"] for p in one["points"]]
        found = [p["e_icl"] for p in one["points"]]
        last.plot(data["nu"], one["limit"], **style.theory("limit", color))
        last.plot(at, [p["theory"]["mean"] for p in found], **style.theory("finite size", color))
        mean, sem = ([p["simulation"][x] for p in found] for x in ("mean", "sem"))
        last.errorbar(at, mean, yerr=sem, **style.simulation(color))
    last.set_title(
        rf"$e_\mathrm{{ICL}}$, $\alpha = {cut['alpha']:g}$, $\rho = {cut['noise']:g}$", fontsize=8.5, loc="right"
    )
    last.set_xlim(0.5 * min(cut["nu"]), 2 * max(cut["nu"]))
    means = [p["e_icl"]["theory"]["mean"] for one in cut["series"] for p in one["points"]]
    style.log_axis(last.xaxis, [1, 10, 100])
    style.log_axis(last.yaxis, [1, 2, 5, 10, 20, 50])
    last.set_ylim(0.8 * min(means), 1.5 * max(means))
    last.set_xlabel(r"$\nu$")
    style.legend_of_colours(last, [rf"$\kappa = {one['kappa']:g}$" for one in cut["series"]], loc="upper left")
    for letter, axis in zip("abcd", axes, strict=True):
        style.panel_label(axis, letter)
    return figure


def findings(data: Data) -> list[str]:
    """How much of each map has a best context length, and the cut."""
    from replica_icl.plotting.task_points import agreement_of

    lines = [
        agreement_of([p for one in data["cut"]["series"] for p in one["points"]], ["e_icl"]).sentence(
            f"(d) simulation against the theory of the same task sets at D = {data['D']}"
        )
    ]
    kappa = np.array(data["kappa"])
    for letter, panel in zip("abc", data["panels"], strict=False):
        has = np.isfinite(np.array(panel["best"], float))
        reach = kappa[has.any(axis=0)]
        where = f"for kappa from {reach.min():.2f} to {reach.max():.2f}" if reach.size else "nowhere"
        lines.append(f"({letter}) a best context length exists on {100 * has.mean():.0f} % of the map, {where}.")
    return lines


FIGURE = Figure("lu_fig3", compute, draw, findings)

if __name__ == "__main__":
    sys.exit(main(FIGURE))
