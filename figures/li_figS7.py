"""Li et al., Fig. S7: eigenvalues of the Hessian of the energy at D = 20, and the fraction of its zero modes.

Finite-size theory of the density, with the modes of the last row, and exact counting of zero modes, against sampling:

    python figures/li_figS7.py --out results
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from replica_icl import Setting
from replica_icl.numeric.questions.spectrum import Spectrum, hessian_density
from replica_icl.plotting import style
from replica_icl.plotting.agreement import agreement
from replica_icl.plotting.figure import Data, Figure, Run, main
from replica_icl.simulator.realisation import draw_instance
from replica_icl.threads import one_thread

RANGE = (2e-4, 8.0)  # eigenvalues that are shown; their logarithm is on the axis
BINS, PLACES = 36, 36
ZERO = 1e-10
"""Eigenvalues below this fraction of the largest count as zero; rounding leaves 1e-15, the smallest others 1e-6."""


def compute(run: Run) -> Data:
    """Densities for a few P, and fractions of zero modes over P for several D."""
    s = run.settings
    curves = [density(run, s["D"], s["N"], P) for P in s["P"]]
    prompts = [int(P) for P in np.linspace(*s["zero_P"]).astype(int)]
    zeros = [{"D": D, "P": prompts, "fraction": [zero_fraction(D, P) for P in prompts]} for D in s["zero_D"]]
    for one in zeros:
        D = one["D"]
        counted = run.cell("ranks", lambda D=D: {"zeros": [count_zeros(run, D, P) for P in s["rank_P"]]}, D=D)
        one |= {"at": s["rank_P"], "counted": counted["zeros"], "exact": [zero_fraction(D, P) for P in s["rank_P"]]}
    return {"D": s["D"], "N": s["N"], "densities": curves, "zeros": zeros}


def zero_fraction(D: int, P: int) -> float:
    """Fraction of zero modes among all (D + 1)^2 weights: P prompts span P of the D (D + 1) acting ones."""
    return 1 - min(P, D * (D + 1)) / (D + 1) ** 2


def count_zeros(run: Run, D: int, P: int) -> float:
    """The same of one realisation, from the rank of its feature rows."""
    features = draw_instance(Setting(D=D, N=run.settings["N"], P=P, ridge=1.0), run.seed).features
    with one_thread():
        found = np.linalg.eigvalsh(features.kernel() / P if P < features.acting_weights else features.gram())
    rank = np.sum(found > ZERO * found[-1])
    return 1 - float(rank) / (D + 1) ** 2


def density(run: Run, D: int, N: int, P: int) -> Data:
    """Theory and sampled histogram of the logarithm of the eigenvalues, and cumulative distributions."""
    setting = Setting(D=D, N=N, P=P, ridge=1.0)  # S itself: the ridge only shifts it
    n, count = setting.acting_weights, run.settings["realisations"]
    x = np.geomspace(*RANGE, run.settings["curve"])
    edges, places = np.geomspace(*RANGE, BINS + 1), np.geomspace(*RANGE, PLACES)

    def sample() -> Data:
        histogram, below = np.zeros((count, BINS)), np.zeros((count, PLACES))
        for i in range(count):
            features = draw_instance(setting, run.seed, i).features
            with one_thread():
                found = np.linalg.eigvalsh(features.kernel() / P if n > P else features.gram())
            histogram[i] = np.histogram(found, edges)[0] / n
            below[i] = 1 - (len(found) - np.searchsorted(found, places, side="right")) / n
        mean, sem = np.mean, lambda a, axis: np.std(a, axis, ddof=1) / np.sqrt(count)
        return {
            "bins": mean(histogram, 0),
            "bins sem": sem(histogram, 0),
            "cdf": mean(below, 0),
            "cdf sem": sem(below, 0),
        }

    sampled = run.cell("sample", sample, D=D, N=N, P=P, realisations=count)
    theory, at_edges, at_places = (checked(hessian_density(setting, points)) for points in (x, edges, places))
    return {
        "P": P,
        "x": x,
        "density": theory.density * x * D / (D + 1),
        "last row": theory.last_row_density * x * D / (D + 1),
        "zero": zero_fraction(D, P),
        "edges": edges,
        "bins": np.diff(at_edges.cdf),
        "places": places,
        "cdf": at_places.cdf,
        "sampled": sampled,
        "realisations": count,
    }


def checked(found: Spectrum) -> Spectrum:
    """A spectrum that converged at every point.

    Raises:
        ArithmeticError: it did not.
    """
    if not np.all(found.status == 0):
        raise ArithmeticError(f"the spectrum did not converge at {found.x[found.status != 0]}")
    return found


def draw(data: Data) -> Any:
    """Densities of the logarithm of the eigenvalue, and fractions of zero modes."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.3), width_ratios=(1.35, 1))
    D = data["D"]
    for color, one in zip(style.SERIES, data["densities"], strict=False):
        x = np.array(one["x"])
        left.plot(x, one["density"], **style.theory("finite size", color, f"$P={one['P']}$, zeros {one['zero']:.3f}"))
        left.plot(x, one["last row"], color=color, linewidth=0.9, linestyle=":")
        edges, sampled = np.array(one["edges"]), one["sampled"]
        width = np.diff(np.log(edges)) * (D + 1) / D
        mean, sem = np.array(sampled["bins"]) / width, np.array(sampled["bins sem"]) / width
        seen = mean > 2 * sem  # a logarithmic axis: bins that are hardly ever hit have no place on it
        look = {**style.simulation(color, "_"), "markersize": 3.2, "markeredgewidth": 0.9, "capsize": 0}
        left.errorbar(np.sqrt(edges[1:] * edges[:-1])[seen], mean[seen], yerr=sem[seen], **look)
    left.plot([], [], **style.theory("finite size", "black"))
    left.plot([], [], color="black", linewidth=0.9, linestyle=":", label="of these, last row")
    left.errorbar([], [], yerr=[], **{**style.simulation("black", "sampled"), "markersize": 3.2, "capsize": 0})
    left.set(xscale="log", yscale="log", xlim=RANGE, ylim=(1e-4, 10))
    left.set(xlabel="eigenvalue of the Hessian at $\\lambda_0=0$", ylabel="density per unit of its logarithm")
    left.legend(frameon=False, loc="upper left", ncols=2, columnspacing=1.0, handlelength=1.4)
    for color, one in zip(style.SERIES, data["zeros"], strict=False):
        right.plot(one["P"], one["fraction"], **style.theory("finite size", color, f"$D={one['D']}$"))
        right.plot(one["at"], one["counted"], **drop(style.simulation(color, "_"), "capsize"))
    right.set(xlabel="number of prompts $P$", ylabel="fraction of zero modes", xlim=(0, None), ylim=(0, 1.02))
    right.legend(frameon=False)
    for letter, axes in zip("ab", (left, right), strict=True):
        style.panel_label(axes, letter)
    return figure


def drop(look: dict[str, Any], name: str) -> dict[str, Any]:
    """Arguments of `plot` out of those of `errorbar`."""
    return {key: value for key, value in look.items() if key != name}


def findings(data: Data) -> list[str]:
    """Cumulative distributions at fixed places, and zero modes."""
    sentences = []
    for one in data["densities"]:
        theory, mean, sem = (np.array(a) for a in (one["cdf"], one["sampled"]["cdf"], one["sampled"]["cdf sem"]))
        apart = np.abs(mean - theory)
        worst = int(np.argmax(apart))
        sentences.append(
            f"P = {one['P']}: largest distance of the cumulative distributions {apart[worst]:.5f} (standard error "
            f"{sem[worst]:.5f}), at eigenvalue {one['places'][worst]:.3g}."
        )
        expected = np.array(one["bins"])
        filled = expected > 1e-3
        inner = filled & np.append(filled[1:], True) & np.append(True, filled[:-1])
        for kind, chosen in (("with more than 1e-3 of all modes", filled), ("of these, away from edges", inner)):
            bins = (np.array(a)[chosen] for a in (expected, one["sampled"]["bins"], one["sampled"]["bins sem"]))
            sentences.append(agreement(*bins, one["realisations"]).sentence(f"P = {one['P']}, bins {kind}"))
    wrong = sum(abs(a - b) > 1e-12 for one in data["zeros"] for a, b in zip(one["counted"], one["exact"], strict=True))
    total = sum(len(one["exact"]) for one in data["zeros"])
    return [*sentences, f"Ranks that differ from min(P, D (D + 1)): {wrong} of {total}."]


FIGURE = Figure("li_figS7", compute, draw, findings)

if __name__ == "__main__":
    sys.exit(main(FIGURE))
