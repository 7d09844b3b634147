"""Li et al., Fig. 2: training on few and on many prompts, and the Gibbs measure of the weights, D = 10, N = 100.

Test loss over epochs, trained matrices, and the exact mean and variance of every weight beside the theory:

    python figures/li_fig2.py --out results
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from replica_icl import Setting, solve
from replica_icl.cavity.relaxed_bp import relaxed_belief_propagation
from replica_icl.plotting import style
from replica_icl.plotting.agreement import agreement, z_scores
from replica_icl.plotting.figure import Data, Figure, Run, main
from replica_icl.ratios import ratios
from replica_icl.simulator.hamiltonian import hamiltonian
from replica_icl.simulator.observables import context_moments
from replica_icl.simulator.optimisers import Training
from replica_icl.simulator.realisation import draw_instance, realise
from replica_icl.status import Status
from replica_icl.threads import one_thread

VANISHING = 1e-8
"""Ridge in place of none, where theory asks for one (see Fig. S1)."""
CLASSES = {
    "mean, diagonal": r"$\langle W_{ii}\rangle$",
    "variance, D block": "var $W_{ij}$",
    "variance, last row": "var $W_{D+1,j}$",
}
"""Averages over weights that the theory knows -> how they are labelled."""


def start(D: int, N: int) -> float:
    """Standard deviation of the initial weights: the authors' 1 / sqrt(D + 1), in units of features divided by N."""
    return N / (N + 1) / math.sqrt(D + 1)


def training(s: Any) -> Training:
    """The authors' Adam; weights, and so steps, are N / (N + 1) of theirs."""
    D, N = s["D"], s["N"]
    return Training("adam", s["epochs"], s["rate"] * N / (N + 1), initial_scale=start(D, N))


def ends(D: int, N: int, P: int) -> Data:
    """Exact mean error of the start, and where gradient flow from it ends: a Gibbs sample, beta lambda_0 = 1 / s^2."""
    variance = start(D, N) ** 2
    found = solve(Setting(D=D, N=N, P=P, ridge=VANISHING, beta=1 / (VANISHING * variance)))
    return {"flow": found.e_gibbs, "start": 1 + D * variance * float(np.sum(context_moments(D, N)))}


def compute(run: Run) -> Data:
    """Training curves with one trained matrix each; the Gibbs measure of one instance and of many."""
    s, D, N = run.settings, run.settings["D"], run.settings["N"]
    runs = []
    for P in s["P"]:
        setting = Setting(D=D, N=N, P=P, ridge=0.0, minimum_norm=P < D * (D + 1))
        curves = run.simulate(setting, s["realisations"], algorithm=training(s)).curves["e_icl"]

        def weights(setting: Setting = setting) -> Data:
            return {"W": realise(setting, run.seed, 0, training(s)).ground.W}

        trained = run.cell("weights", weights, P=P, D=D, N=N, epochs=s["epochs"], rate=s["rate"])
        sem = curves.std(0, ddof=1) / math.sqrt(len(curves))
        runs.append({"P": P, "curves": curves[: s["shown"]], "mean": curves.mean(0), "sem": sem, **trained,
                     "n": len(curves), **ends(D, N, P)})  # fmt: skip
    warm = Setting(D=D, N=N, P=s["gibbs_P"], ridge=s["ridge"], beta=s["beta"])
    count = s["gibbs_realisations"]
    with one_thread():
        gibbs = run.cell("gibbs", lambda: measure(warm, run.seed, count), setting=warm, count=count)
    theory = {}
    for level, found in (("finite size", solve(warm)), ("limit", solve(ratios(warm)))):
        theory[level] = {"mean, diagonal": found.m, "variance, D block": found.V / D}
        if level == "finite size":
            theory[level]["variance, last row"] = found.V_u / D
    return {"D": D, "runs": runs, "gibbs": gibbs, "theory": theory, "n": count, "flat": 1 / (s["beta"] * s["ridge"])}


def measure(setting: Setting, seed: int, count: int) -> Data:
    """Gibbs mean and variance of every weight from (J, h, lambda), exact and by the published message passing.

    Of the first instance, and averages of all; message passing only where it converged.
    """
    D, first = setting.D, {}
    values: dict[str, list[tuple[float, ...]]] = {"exact": [], "messages": []}

    def averages_of(mean: np.ndarray, variance: np.ndarray) -> tuple[float, ...]:
        blocks = variance[:D, :D], variance[D, :D], variance[:, D]
        return np.trace(mean[:D, :D]) / D, *(block.mean() for block in blocks)

    for r in range(count):
        spins = hamiltonian(draw_instance(setting, seed, r).features, setting.ridge, all_weights=True)
        precision = np.diag(spins.lam) - spins.J
        inverse = np.linalg.inv(precision)
        mean = spins.weights(inverse @ spins.h)
        variance = spins.weights(np.diag(inverse).copy()) / setting.beta
        values["exact"].append(averages_of(mean, variance))
        passed = relaxed_belief_propagation(spins, beta=setting.beta)
        beliefs = spins.weights(passed.mean), spins.weights(passed.variance)
        if passed.status == Status.CONVERGED:
            values["messages"].append(averages_of(*beliefs))
        if not first:
            first = {"mean": mean, "variance": variance, "passed mean": beliefs[0], "passed variance": beliefs[1]}
    names = (*CLASSES, "variance, last column")
    averages = {
        kind: {
            name: {"mean": x.mean(), "sem": x.std(ddof=1) / math.sqrt(len(rows)), "n": len(rows)}
            for name, x in zip(names, np.array(rows).T, strict=True)
        }
        for kind, rows in values.items()
        if len(rows) > 1
    }
    return {"first": first, "averages": averages["exact"], "messages": averages.get("messages", {})}


def draw(data: Data) -> Any:
    """Curves and trained matrices above; the Gibbs measure below."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import LogNorm

    figure = plt.figure(figsize=(7.0, 6.6))
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1.9))
    first, *images = upper.subplots(1, 3, width_ratios=(1.35, 1, 1))
    _curves(first, data)
    for axes, one in zip(images, data["runs"], strict=True):
        image = axes.imshow(np.array(one["W"]), vmin=-1, vmax=1, **style.IMAGE)
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"trained, $P={one['P']}$", fontsize=9, loc="right")
    upper.colorbar(image, ax=images, shrink=0.8, pad=0.02)
    grid = lower.add_gridspec(2, 3, width_ratios=(1, 1, 1.1))
    maps = [lower.add_subplot(grid[i, j]) for i in range(2) for j in range(2)]
    last = lower.add_subplot(grid[:, 2])
    gibbs = data["gibbs"]["first"]
    looks = ({"vmin": -1, "vmax": 1, **style.IMAGE}, {"norm": LogNorm(5e-3, 1.0), **style.MAP})
    kinds = (("mean", "exact mean"), ("variance", "exact variance"))
    kinds += (("passed mean", "as published, mean"), ("passed variance", "as published, variance"))
    for axes, (name, title), look in zip(maps, kinds, (*looks, *looks), strict=True):
        image = axes.imshow(np.array(gibbs[name]), **look)
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=9, loc="right")
        lower.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    for axes in (*images, *maps):
        axes.spines[:].set_visible(True)
    _averages(last, data)
    for letter, axes in zip("abcdefgh", (first, *images, *maps, last), strict=True):
        style.panel_label(axes, letter)
    return figure


def _curves(axes: Any, data: Data) -> None:
    """Single runs thin, their mean with theory's start and end."""
    for color, one in zip(style.SERIES, data["runs"], strict=False):
        mean, sem = np.array(one["mean"]), np.array(one["sem"])
        for curve in one["curves"]:
            axes.plot(curve, color=color, linewidth=0.5, alpha=0.5)
        every = slice(0, None, max(1, len(mean) // 10))
        small = {**style.simulation(color, f"Adam, $P={one['P']}$"), "markersize": 3.6, "markeredgewidth": 1.0}
        axes.errorbar(np.arange(len(mean))[every], mean[every], yerr=sem[every], **{**small, "capsize": 0})
        axes.axhline(one["flow"], **style.theory("finite size", color, "_"))
    axes.plot([], [], **style.theory("finite size", style.GREY, "theory, end of flow"))
    start = data["runs"][0]["start"]
    dash = {"marker": "_", "markersize": 12, "markeredgewidth": 2.2, "color": style.GREY, "linestyle": "none"}
    axes.plot([0], [start], **dash, label="theory, start")
    axes.set(xlabel="epochs", ylabel=r"test error $e_{\rm ICL}$", ylim=(0, 6.2))
    axes.legend(frameon=False, loc="upper right", borderaxespad=0.1)


def _averages(axes: Any, data: Data) -> None:
    """Averages over weights of a kind, relative to the finite-size theory, in per cent."""
    theory, limit = data["theory"]["finite size"], data["theory"]["limit"]
    for place, name in enumerate(CLASSES):
        found, exact = data["gibbs"]["averages"][name], theory[name]
        look = style.simulation(label="simulation" if place == 0 else "_")
        axes.errorbar(place, 100 * (found["mean"] / exact - 1), yerr=100 * found["sem"] / exact, **look)
        passed = data["gibbs"]["messages"].get(name)
        if passed:
            look = style.messages("message passing\nas published" if place == 0 else "_")
            axes.errorbar(place + 0.15, 100 * (passed["mean"] / exact - 1), yerr=100 * passed["sem"] / exact, **look)
        if name in limit:
            line = style.theory("limit", label=None if place == 0 else "_")
            axes.plot([place - 0.3, place + 0.3], [100 * (limit[name] / exact - 1)] * 2, **line)
    axes.axhline(0, **style.theory("finite size"))
    axes.set_xticks(range(len(CLASSES)), list(CLASSES.values()), fontsize=8)
    axes.set(xlim=(-0.5, len(CLASSES) - 0.5), ylabel="relative to theory (%)")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.55 * (high - low))
    axes.legend(frameon=False, loc="upper right", borderaxespad=0.1)


def findings(data: Data) -> list[str]:
    """Start and end of training, and the Gibbs measure, against theory."""
    averages, theory = data["gibbs"]["averages"], data["theory"]["finite size"]
    mean, sem = (np.array([averages[name][x] for name in CLASSES]) for x in ("mean", "sem"))
    exact = [theory[name] for name in CLASSES]
    flat = averages["variance, last column"]["mean"] / data["flat"] - 1
    sentences = [
        agreement(exact, mean, sem, data["n"]).sentence(
            "Gibbs mean of the diagonal and variances of D block and last row against the finite-size theory"
        )
        + f" The last column's variance is 1/(beta lambda_0) to {abs(flat):.0e} (relative).",
        "The limit is "
        + ", ".join(
            f"{100 * (x / theory[name] - 1):+.1f} % off for the {name}" for name, x in data["theory"]["limit"].items()
        )
        + ".",
    ]
    passed = data["gibbs"]["messages"]
    if passed:
        off = [f"{100 * (passed[name]['mean'] / theory[name] - 1):+.1f} % for the {name}" for name in CLASSES]
        how_many = passed["mean, diagonal"]["n"]
        sentences.append(
            f"The published message passing converges on {how_many} of {data['n']} instances, {', '.join(off)} off."
        )
    for one in data["runs"]:
        begin = z_scores(one["start"], one["mean"][0], one["sem"][0], one["n"])
        sentences.append(
            f"P = {one['P']}: test error starts at {one['mean'][0]:.2f} +- {one['sem'][0]:.2f} (exact mean "
            f"{one['start']:.3f}, z = {begin:+.1f}); Adam's last epoch has {one['mean'][-1]:.4f} +- "
            f"{one['sem'][-1]:.4f}, gradient flow ends at {one['flow']:.4f} in theory."
        )
    return sentences


FIGURE = Figure("li_fig2", compute, draw, findings)

if __name__ == "__main__":
    sys.exit(main(FIGURE))
