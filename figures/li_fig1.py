"""Li et al., Fig. 1: fields and couplings of in-context learning, D = 5, N = 100, P = 1000.

One instance, and the distribution of entries over many beside the law that exact moments give, nothing fitted:

    python figures/li_fig1.py --out results
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from replica_icl import Setting
from replica_icl.plotting import style
from replica_icl.plotting.agreement import z_scores
from replica_icl.plotting.entries import BLOCKS, entry_index, entry_mixtures, with_tails
from replica_icl.plotting.figure import Data, Figure, Run, main
from replica_icl.simulator.hamiltonian import hamiltonian
from replica_icl.simulator.laws import PromptLaw
from replica_icl.simulator.realisation import draw_instance
from replica_icl.threads import one_thread

BINS, REACH = 60, 6.0
"""Bins of a histogram, and how many standard deviations of its widest class it reaches."""
CELL = 5000  # instances
COLORS = dict(zip(BLOCKS, style.SERIES, strict=False))


def edges(D: int, N: int, P: int) -> dict[str, np.ndarray]:
    """Block -> edges of bins."""
    return {
        block: np.linspace(
            law.means.min() - REACH * np.sqrt(law.variances.max()),
            law.means.max() + REACH * np.sqrt(law.variances.max()),
            BINS + 1,
        )
        for block, law in entry_mixtures(D, N, P).items()
    }


def sample(setting: Setting, seed: int, first: int, count: int) -> Data:
    """Of instances first, first + 1, ...: counts in bins, mean over entries of (x - mean) and its square by class."""
    D, N, P = setting.D, setting.N, setting.P
    index, bins, laws = entry_index(D), edges(D, N, P), entry_mixtures(D, N, P)
    counts = {block: np.zeros(BINS, int) for block in BLOCKS}
    sums = {name: np.zeros(4) for classes in BLOCKS.values() for name in classes}
    for r in range(first, first + count):
        features = draw_instance(setting, seed, r, law=PromptLaw(sampler="sufficient")).features
        spins = hamiltonian(features, 0.0)
        h = spins.h.reshape(D + 1, D)
        for block, classes in BLOCKS.items():
            for name, mean in zip(classes, laws[block].means, strict=True):
                x = (h if block in "AB" else spins.J)[index[name]]
                counts[block] += np.histogram(x, bins[block])[0]
                one = np.array([x.mean() - mean, np.mean((x - mean) ** 2)])
                sums[name] += np.append(one, one**2)
    return {"counts": counts, "sums": sums}


def compute(run: Run) -> Data:
    """One instance, histograms, and moments class by class."""
    s = run.settings
    D, N, P, count = (s[name] for name in ("D", "N", "P", "realisations"))
    setting = Setting(D=D, N=N, P=P, ridge=1.0)  # the ridge enters neither h nor J

    def instance() -> Data:
        spins = hamiltonian(draw_instance(setting, run.seed, 0).features, 0.0, all_weights=True)
        return {"h": spins.h.reshape(D + 1, D + 1), "J": spins.J}

    cells = []
    with one_thread():
        for first in range(1, count + 1, CELL):
            size = min(CELL, count + 1 - first)
            one = run.cell("sample", lambda f=first, n=size: sample(setting, run.seed, f, n), first=first, count=size,
                           D=D, N=N, P=P)  # fmt: skip
            cells.append(one)
    blocks: Data = {}
    laws = entry_mixtures(D, N, P)
    tails = with_tails(laws, D, N, P)
    for block, law in laws.items():
        bins = edges(D, N, P)[block]
        counts = np.sum([cell["counts"][block] for cell in cells], axis=0)
        fine = np.linspace(bins[0], bins[-1], 400)
        classes = []
        for name, mean, variance in zip(law.classes, law.means, law.variances, strict=True):
            m, v, m2, v2 = np.sum([cell["sums"][name] for cell in cells], axis=0) / count
            sem = np.sqrt(np.array([m2 - m**2, v2 - v**2]) / (count - 1))
            classes.append({"name": name, "mean": mean, "variance": variance,
                            "sampled mean": mean + m, "sampled variance": v, "sem": sem})  # fmt: skip
        blocks[block] = {
            "edges": bins,
            "counts": counts,
            "probabilities": np.diff(law.cdf(bins)),
            "x": fine,
            "density": law.density(fine),
            "with tails": {"probabilities": np.diff(tails[block].cdf(bins)), "density": tails[block].density(fine)},
            "entries": law.entries,
            "classes": classes,
        }
    return {"D": D, "N": N, "P": P, "n": count, "instance": run.cell("instance", instance, D=D, N=N, P=P),
            "blocks": blocks}  # fmt: skip


def apart(block: Data, n: int, probabilities: list[float]) -> tuple[float, float]:
    """Total-variation and Kolmogorov distance (at the bins' edges) of a histogram of n instances and a law."""
    gaps = np.array(block["counts"]) / (block["entries"] * n) - np.array(probabilities)
    return float(np.abs(gaps).sum() / 2), float(np.abs(np.cumsum(gaps)).max())


def draw(data: Data) -> Any:
    """Matrices of one instance; histograms and laws."""
    import matplotlib.pyplot as plt

    D = data["D"]
    figure = plt.figure(figsize=(7.0, 5.2))
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.25, 1))
    (left, right), spins = upper.subplots(1, 2, width_ratios=(1, 1.25)), data["instance"]
    for axes, name, letter, cut in ((left, "h", "a", D), (right, "J", "b", D * (D + 1))):
        matrix = np.array(spins[name])
        top = np.abs(matrix).max()
        image = axes.imshow(matrix, vmin=-top, vmax=top, **style.IMAGE)
        figure_bar = upper.colorbar(image, ax=axes, shrink=0.85, pad=0.02)
        figure_bar.ax.set_title(f"${name}$", fontsize=9)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
        axes.axhline(cut - 0.5, color=style.GREY, linewidth=0.8)
        style.panel_label(axes, letter)
        if name == "J":
            axes.axvline(cut - 0.5, color=style.GREY, linewidth=0.8)
    places = {"A": (left, 0.42, 0.55), "B": (left, 0.42, 0.09), "C": (right, 0.42, 0.55),
              "D": (right, 0.42, 0.09), "E": (right, 0.92, 0.09)}  # fmt: skip
    for block, (axes, x, y) in places.items():
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85}
        axes.text(x, y, block, transform=axes.transAxes, color=COLORS[block], fontsize=12, fontweight="bold",
                  ha="center", va="center", bbox=box)  # fmt: skip
    for number, (axes, (block, found)) in enumerate(zip(lower.subplots(1, 5), data["blocks"].items(), strict=True)):
        bins = np.array(found["edges"])
        counts, width = np.array(found["counts"]), bins[1] - bins[0]
        density = counts / (found["entries"] * data["n"] * width)
        seen = counts > 0
        axes.plot(found["x"], found["with tails"]["density"], **style.theory("finite size", COLORS[block]))
        axes.plot(found["x"], found["density"], **style.theory("limit"))
        look = {**style.simulation(COLORS[block]), "markersize": 2.6, "markeredgewidth": 0.8}
        axes.errorbar(((bins[1:] + bins[:-1]) / 2)[seen], density[seen], **look)
        top = max(found["density"])
        axes.set(yscale="log", ylim=(top * 2e-6, top * 6), xlabel="$h$" if block in "AB" else "$J$")
        axes.tick_params(labelsize=7.5)
        axes.locator_params(axis="x", nbins=3)
        axes.set_title(block, color=COLORS[block], fontsize=10.5, fontweight="bold")
        if number == 0:
            axes.set_ylabel("density")
            style.panel_label(axes, "c")
            look = {**style.simulation(style.GREY), "markersize": 2.6, "markeredgewidth": 0.8}
            handles = [axes.errorbar([], [], **look), *axes.plot([], [], **style.theory("finite size", style.GREY)),
                       *axes.plot([], [], **style.theory("limit"))]  # fmt: skip
            names = ["simulation", "exact moments up to the fourth", "Gaussian mixture"]
            lower.legend(handles, names, frameon=False, ncols=3, loc="outside lower center", handlelength=1.6)
    return figure


def findings(data: Data) -> list[str]:
    """Distances of histograms from mixtures; moments class by class."""
    sentences, z = [], []
    for found in data["blocks"].values():
        for one in found["classes"]:
            names = (("mean", "sampled mean"), ("variance", "sampled variance"))
            for (exact, measured), sem in zip(names, one["sem"], strict=True):
                z.append(float(z_scores(one[exact], one[measured], sem, data["n"])))
    sentences.append(
        f"Sampled mean and variance of the {len(z) // 2} classes of entries against exact moments: "
        f"|z| <= {np.abs(z).max():.1f} (rms {np.sqrt(np.mean(np.square(z))):.2f}), {data['n']} instances."
    )
    for block, found in data["blocks"].items():
        gauss, tails = (apart(found, data["n"], one["probabilities"]) for one in (found, found["with tails"]))
        sentences.append(
            f"Block {block}: histogram apart from the Gaussian mixture by {100 * gauss[0]:.2f} % (total variation) "
            f"and {100 * gauss[1]:.2f} % (Kolmogorov, at bin edges), with third and fourth moments by "
            f"{100 * tails[0]:.2f} % and {100 * tails[1]:.2f} %."
        )
    return sentences


FIGURE = Figure("li_fig1", compute, draw, findings)

if __name__ == "__main__":
    sys.exit(main(FIGURE))
