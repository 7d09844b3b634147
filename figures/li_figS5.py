"""Li et al., Fig. S5: eigenvalues of the token covariance X X^T / N of one prompt at D = 100.

The Marchenko-Pastur law against sampled tokens, and what is left at finite D against its leading correction:

    python figures/li_figS5.py --out results
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from replica_icl.keys import entropy
from replica_icl.numeric.questions.spectrum import token_density
from replica_icl.plotting import style
from replica_icl.plotting.agreement import agreement
from replica_icl.plotting.figure import Data, Figure, Run, main

CURVE, PLACES = 400, 24  # points of a curve, and where the cumulative distribution is compared


def correction(D: int, N: int, x: np.ndarray) -> np.ndarray:
    """D times what real Gaussian tokens add to the Marchenko-Pastur cumulative distribution, to leading order.

    The density gains (1/D) [(delta_a + delta_b) / 4 - 1 / (2 pi sqrt((x - a) (b - x)))] between the edges a and b;
    its integral is -arcsin((2 x - a - b) / (b - a)) / (2 pi), 1/4 at the lower edge and -1/4 at the upper.
    Source: Dumitriu and Edelman, J. Math. Phys. 47, 063302 (2006), at beta = 1.
    """
    low, high = token_density(D, N, [1.0]).edges
    return -np.arcsin((2 * x - low - high) / (high - low)) / (2 * np.pi)


def compute(run: Run) -> Data:
    """Density and cumulative distribution for every context length."""
    s = run.settings
    D = s["D"]
    return {"D": D, "spectra": [spectrum(run, D, N) for N in s["N"]]}


def spectrum(run: Run, D: int, N: int) -> Data:
    """Theory on a fine grid, sampled bins and cumulative distribution of `prompts` prompts."""
    low, high = token_density(D, N, [1.0]).edges
    # Equidistant in the angle of the semicircle: fine at the edges, where the density is steep.
    cosine = -np.cos(np.pi * (np.arange(CURVE) + 0.5) / CURVE)
    fine = (low + high) / 2 + (high - low) / 2 * cosine
    theory = token_density(D, N, fine)
    places = (low + high) / 2 - (high - low) / 2 * np.cos(np.pi * np.arange(1, PLACES) / PLACES)
    bins = np.linspace(max(0.0, low - 0.02), high + 0.02, run.settings["bins"] + 1)
    prompts = run.settings["prompts"]

    def sample() -> Data:
        rng = np.random.default_rng(np.random.SeedSequence(entropy(run.seed, D, N)))
        counts, below = np.zeros((prompts, len(bins) - 1)), np.zeros((prompts, len(places)))
        pooled = np.empty((prompts, D))
        for i in range(prompts):
            tokens = rng.standard_normal((D, N))
            pooled[i] = np.linalg.eigvalsh(tokens @ tokens.T / N)
            counts[i] = np.histogram(pooled[i], bins)[0]
            below[i] = np.searchsorted(pooled[i], places) / D
        every = np.sort(pooled.ravel())
        exact = token_density(D, N, every).cdf
        steps = np.arange(len(every) + 1) / len(every)
        return {
            "density": counts.mean(axis=0) / (D * np.diff(bins)),
            "density sem": counts.std(axis=0, ddof=1) / (D * np.diff(bins) * np.sqrt(prompts)),
            "cdf": below.mean(axis=0),
            "cdf sem": below.std(axis=0, ddof=1) / np.sqrt(prompts),
            "ks": max(np.max(np.abs(exact - steps[1:])), np.max(np.abs(exact - steps[:-1]))),
        }

    found = run.cell("sample", sample, D=D, N=N, prompts=prompts, bins=run.settings["bins"])
    return {
        "N": N,
        "x": fine,
        "density": theory.density,
        "correction": correction(D, N, fine),
        "places": places,
        "cdf": token_density(D, N, places).cdf,
        "corrected": token_density(D, N, places).cdf + correction(D, N, places) / D,
        "bins": bins,
        "prompts": prompts,
        "sampled": found,
    }


def draw(data: Data) -> Any:
    """Densities, and the deviation of the cumulative distributions from the limit times D."""
    import matplotlib.pyplot as plt

    figure, (density, deviation) = plt.subplots(1, 2, figsize=(7.0, 3.1))
    for color, found in zip(style.SERIES, data["spectra"], strict=False):
        label = f"$N/D={found['N'] / data['D']:g}$"
        density.plot(found["x"], found["density"], **style.theory("limit", color, "_"))
        bins, sampled = np.array(found["bins"]), found["sampled"]
        look = {**style.simulation(color, label), "markersize": 3.0, "markeredgewidth": 0.9, "capsize": 0}
        middle = (bins[1:] + bins[:-1]) / 2
        density.errorbar(middle, sampled["density"], yerr=sampled["density sem"], **look)
        places = np.array(found["places"])
        low, high = found["x"][0], found["x"][-1]
        scaled = (2 * places - low - high) / (high - low)
        rest = data["D"] * (np.array(sampled["cdf"]) - np.array(found["cdf"]))
        look["label"] = "_"
        deviation.errorbar(scaled, rest, yerr=data["D"] * np.array(sampled["cdf sem"]), **look)
    angle = np.linspace(-1, 1, 200)
    look = style.theory("finite size", "black", "theory, order $1/D$")
    deviation.plot(angle, -np.arcsin(angle) / (2 * np.pi), **look)
    deviation.axhline(0, **style.theory("limit"))
    density.plot([], [], **style.theory("limit", label="theory, limit"))
    density.set(xlabel=r"eigenvalue of $XX^\top/N$", ylabel="density", xlim=(-0.05, 4.1), ylim=(0, 3.3))
    density.legend(frameon=False)
    deviation.set(xlabel="place between the edges", ylabel=r"$D\,[F(x)-F_{\mathrm{MP}}(x)]$", ylim=(-0.42, 0.42))
    deviation.legend(frameon=False, loc="upper right")
    for letter, axes in zip("ab", (density, deviation), strict=True):
        style.panel_label(axes, letter)
    return figure


def findings(data: Data) -> list[str]:
    """Kolmogorov-Smirnov distances, and the finite-size correction against the samples."""
    spectra = data["spectra"]
    # The expansion in 1/D does not hold within about D^(-2/3) of an edge, where the correction would jump.
    inner = np.abs(np.cos(np.pi * np.arange(1, PLACES) / PLACES)) < 1 - data["D"] ** (-2 / 3)
    distances = ", ".join(f"{one['sampled']['ks']:.4f}" for one in spectra)
    theory = [np.array(one["corrected"])[inner] for one in spectra]
    mean, sem = ([np.array(one["sampled"][name])[inner] for one in spectra] for name in ("cdf", "cdf sem"))
    ratios = ", ".join(f"{one['N'] / data['D']:g}" for one in spectra)
    every = agreement(theory, mean, sem, spectra[0]["prompts"])
    return [
        every.sentence("Cumulative distribution, D^(-2/3) away from the edges, against Marchenko-Pastur with 1/D term"),
        f"Kolmogorov-Smirnov distance to the Marchenko-Pastur law itself: {distances} at N/D = {ratios}; "
        f"the 1/D term tends to {0.25 / data['D']:.4f} at the edges.",
    ]


FIGURE = Figure("li_figS5", compute, draw, findings)

if __name__ == "__main__":
    sys.exit(main(FIGURE))
