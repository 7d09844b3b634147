"""Where the published message passing (Li et al.) converges: what it does, and the spectrum of its linearisation.

Over the grid of Fig. 4(a), and over the ridge:

    python figures/relaxed_bp_divergence.py --out results
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from replica_icl import Setting
from replica_icl.cavity.relaxed_bp import (
    DAMPING,
    MAX_ITERATIONS,
    extreme_eigenvalues,
    reduced_stiffness,
    relaxed_belief_propagation,
)
from replica_icl.conventions import ridge_from_li
from replica_icl.errors import SolveError
from replica_icl.numeric.missing_onsager import effective_ridges
from replica_icl.plotting import style
from replica_icl.plotting.figure import Data, Figure, Run, main
from replica_icl.simulator.hamiltonian import hamiltonian
from replica_icl.simulator.realisation import draw_instance
from replica_icl.status import Status
from replica_icl.threads import one_thread

OUTCOMES = ("converged", "converges later", "diverges")
"""After the published number of steps, after `patience` steps, or not."""
SETTLED = 1e-6
"""Change of a step, root mean square, that counts as converged later."""


def compute(run: Run) -> Data:
    """One instance per point, row by row."""
    s = run.settings
    D, prompts = s["D"], numbers(s["P"])
    by_context = [
        (N, [Setting(D=D, N=N, P=P, ridge=ridge_from_li(s["ridge"], N)) for P in prompts]) for N in numbers(s["N"])
    ]
    ridges = np.geomspace(*s["ridges"])
    by_ridge = [
        (float(ridge), [Setting(D=D, N=s["cut"], P=P, ridge=float(ridge)) for P in prompts]) for ridge in ridges
    ]
    maps = {}
    for name, rows in (("N", by_context), ("ridge", by_ridge)):
        found = [
            run.cell(
                "row", lambda row=row: outcomes(row, run.seed, s["patience"]), settings=row, patience=s["patience"]
            )
            for _, row in rows
        ]
        maps[name] = {
            "values": [value for value, _ in rows],
            "outcome": [row["outcome"] for row in found],
            "low": [row["low"] for row in found],
            "high": [row["high"] for row in found],
            "boundary": [boundary(row) for _, row in rows],
        }
    return {"D": D, "P": prompts, "cut": s["cut"], "ridge": s["ridge"], "maps": maps}


def outcomes(settings: Sequence[Setting], seed: int, patience: int) -> Data:
    """What the iteration does on one instance of each setting, and extreme eigenvalues, NaN without a fixed point."""
    found: Data = {"outcome": [], "low": [], "high": []}
    with one_thread():
        for setting in settings:
            spins = hamiltonian(draw_instance(setting, seed, 0).features, setting.ridge)
            first = relaxed_belief_propagation(spins)
            outcome = 0
            if first.status != Status.CONVERGED:
                later = relaxed_belief_propagation(spins, max_iterations=patience, tolerance=SETTLED)
                outcome = 1 if later.status == Status.CONVERGED else 2
            reduced = reduced_stiffness(spins)
            low, high = (np.nan, np.nan) if reduced is None else extreme_eigenvalues(spins, reduced)
            for name, value in (("outcome", outcome), ("low", low), ("high", high)):
                found[name].append(value)
    return found


def boundary(row: Sequence[Setting]) -> float:
    """Fewest prompts within the row at which the average over instances has a fixed point; NaN if none has."""

    def has_one(P: int) -> bool:
        try:
            effective_ridges(replace(row[0], P=P))
        except SolveError:
            return False
        return True

    low, high = row[0].P - 1, row[-1].P
    if not has_one(high):
        return float("nan")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if has_one(middle) else (middle, high)
    return float(high)


def numbers(ends: tuple[int, int, int]) -> list[int]:
    """First, last and number of equally spaced integers."""
    return [int(x) for x in np.linspace(*ends).astype(int)]


def damped(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Spectral radius of the iteration of the means with the published damping."""
    return np.maximum(np.abs(DAMPING + (1 - DAMPING) * low), np.abs(DAMPING + (1 - DAMPING) * high))


def draw(data: Data) -> Any:
    """Above what it does, below the spectral radius; over context length and over the ridge."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.patches import Patch

    figure, axes = plt.subplots(2, 2, figsize=(7.2, 5.2), sharex=True)
    colours = ListedColormap([style.BLUE, "#9ecae1", style.ORANGE])
    names = {"N": "context length $N$", "ridge": r"ridge $\lambda_0$"}
    for column, (name, found) in zip(axes.T, data["maps"].items(), strict=True):
        low, high = (np.array(found[x], float) for x in ("low", "high"))
        shared = {"shading": "nearest", "rasterized": True}
        place = data["P"], found["values"]
        column[0].pcolormesh(
            *place, found["outcome"], cmap=colours, norm=BoundaryNorm([-0.5, 0.5, 1.5, 2.5], 3), **shared
        )
        image = column[1].pcolormesh(*place, damped(low, high), vmin=0.8, vmax=1.2, **style.IMAGE, **shared)
        for axis in column:
            axis.plot(found["boundary"], found["values"], color="black", linewidth=1.2)
            axis.set(ylabel=names[name])
            if name == "ridge":
                axis.set_yscale("log")
            axis.set_xlim(data["P"][0], data["P"][-1])
            axis.set_ylim(found["values"][0], found["values"][-1])
        column[1].set_xlabel("number of prompts $P$")
        column[1].set_facecolor("0.85")
    figure.colorbar(image, ax=axes[1, :], aspect=15, pad=0.02).set_label("spectral radius, damped")
    kinds = [f"converged in {MAX_ITERATIONS} steps", "later", "diverges"]
    handles = [Patch(color=colours(i), label=x) for i, x in enumerate(kinds)]
    handles.append(plt.Line2D([], [], color="black", linewidth=1.2, label="fixed point from here on, theory"))
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
    axes[0, 0].set_title(rf"$\lambda_0 = {data['ridge']:g}$ (features over $N + 1$)", fontsize=9, loc="right")
    axes[0, 1].set_title(rf"$N = {data['cut']}$", fontsize=9, loc="right")
    for letter, axis in zip("abcd", axes.ravel(), strict=True):
        style.panel_label(axis, letter)
    return figure


def findings(data: Data) -> list[str]:
    """How often, and whether the spectrum says it."""
    sentences = []
    for name, found in data["maps"].items():
        outcome = np.array(found["outcome"])
        low, high = (np.array(found[x], float) for x in ("low", "high"))
        radius = damped(low, high)
        foretold = np.isfinite(high) & (radius < 1)
        shares = [f"{100 * np.mean(outcome == i):.0f} % {x}" for i, x in enumerate(OUTCOMES)]
        apart = (outcome < 2) != foretold
        above = np.isfinite(high) & (high >= 1)
        over = "context length" if name == "N" else "the ridge"
        sentences.append(
            f"Over {over} and prompts: {', '.join(shares)} of {outcome.size} instances; a fixed point with a spectral "
            f"radius below one foretells convergence at all but {apart.sum()}. No fixed point at "
            f"{100 * np.mean(~np.isfinite(high)):.0f} %, an eigenvalue above one at {100 * np.mean(above):.0f} %."
        )
    return sentences


FIGURE = Figure("relaxed_bp_divergence", compute, draw, findings)

if __name__ == "__main__":
    sys.exit(main(FIGURE))
