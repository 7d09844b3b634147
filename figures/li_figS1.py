"""Li et al., Fig. S1: training merged and separate attention matrices without weight decay, D = 20, N = 100.

Where gradient flow ends, in theory and simulated, below alpha = 1 with the start it never forgets, and where Adam does:

    python figures/li_figS1.py --out results
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from replica_icl import Ratios, Setting, solve
from replica_icl.numeric.questions.gradient_flow import end_point
from replica_icl.plotting import style
from replica_icl.plotting.agreement import agreement
from replica_icl.plotting.figure import Data, Figure, Run, main
from replica_icl.simulator.optimisers import Training
from replica_icl.simulator.realisation import realise

VANISHING = 1e-8
"""Ridge in place of none: from 1e-7 to 1e-8 no error with P 9 % or more away from D (D + 1) changes by 0.1 %."""
NEAR = 0.15
"""Where |P / (D (D + 1)) - 1| is below this, errors have no finite variance or nearly so: no z there."""
KINDS = {
    "flow": ("gradient flow", {"marker": "o", "color": style.GREEN}),
    "merged": ("Adam, merged $W$", {"marker": "s", "color": style.ORANGE}),
    "separate": ("Adam, separate $W_Q, W_K$", {"marker": "^", "color": style.PURPLE}),
}


def start(D: int, N: int) -> float:
    """Standard deviation of the initial weights: the authors' 1 / sqrt(D + 1), in units of features divided by N."""
    return N / (N + 1) / math.sqrt(D + 1)


def adam(s: dict[str, Any], kind: str, epochs: int, rate: float, record: int) -> Training:
    """The authors' Adam. Weights are N / (N + 1) of theirs, and so are steps; each of two factors takes the root."""
    D, N = s["D"], s["N"]
    if kind == "merged":
        return Training("adam", epochs, rate * N / (N + 1), initial_scale=start(D, N), record=record)
    root = math.sqrt(N / (N + 1))
    scale = root / math.sqrt(D + 1)
    return Training("adam", epochs, rate * root, initial_scale=scale, inner=D + 1, record=record)


def flow(D: int, N: int) -> Training:
    """Gradient flow for so long (t = 1e11) that every mode with an eigenvalue has come to its end."""
    return Training("gradient-flow", 10**9, 50.0, initial_scale=start(D, N), record=10**9)


def ends(D: int, N: int, prompts: list[int]) -> Data:
    """Theory of gradient flow's end: test and training error.

    From Gaussian weights of variance s^2 it ends in the minimum-norm solution plus the start's part in the null space.
    That is a Gibbs sample at vanishing ridge and temperature with beta lambda_0 = 1 / s^2, whose error is known.
    """
    beta = 1 / (VANISHING * start(D, N) ** 2)
    found = solve([Setting(D=D, N=N, P=P, ridge=VANISHING, beta=beta) for P in prompts])
    variance = D * start(D, N) ** 2
    return {
        "finite size": found.e_gibbs,
        "training": found.train_error,
        "limit": [end_point(ratio(D, N, P), variance) for P in prompts],
    }


def ratio(D: int, N: int, P: int) -> Ratios:
    """alpha and nu at no ridge."""
    return Ratios(alpha=P / D**2, nu=N / D, lam=0.0, minimum_norm=P < D**2)


def compute(run: Run) -> Data:
    """Curves of two training runs with their matrices, and end points over alpha."""
    s = dict(run.settings)
    D, N = s["D"], s["N"]
    prompts = [int(alpha * D**2) for alpha in s["alpha"]]
    fine = [P for P in range(prompts[0], prompts[-1] + 1, 5) if P != D**2]
    points: Data = {"P": prompts, "theory": ends(D, N, prompts)}
    for kind in KINDS:
        how = flow(D, N) if kind == "flow" else adam(s, kind, s["epochs"], s["rate"], s["epochs"])
        count = s["flow_realisations"] if kind == "flow" else s["realisations"]
        found = [run.simulate(unridged(D, N, P), count, algorithm=how) for P in prompts]
        values = np.array([one.values["e_icl"] for one in found])
        points[kind] = {"mean": values.mean(1), "sem": values.std(1, ddof=1) / math.sqrt(count), "n": count}
        if kind == "flow":
            flowed = values
        else:  # realisation r has the same prompts for all, and merged weights the same start
            same = values[:, : flowed.shape[1]] / flowed[:, : values.shape[1]]
            points[kind]["to flow"] = np.median(same, axis=1)
    runs = [training(run, s, P, rate) for P, rate in zip(s["P"], s["rates"], strict=True)]
    return {"D": D, "N": N, "points": points, "curves": {"P": fine, **ends(D, N, fine)}, "runs": runs}


def unridged(D: int, N: int, P: int) -> Setting:
    """No weight decay; fewer prompts than weights leave the solution to the start."""
    return Setting(D=D, N=N, P=P, ridge=0.0, minimum_norm=P < D * (D + 1))


def training(run: Run, s: dict[str, Any], P: int, rate: float) -> Data:
    """Errors over epochs of both kinds of weights, and the matrices of the first realisation."""
    D, N, epochs = s["D"], s["N"], s["curve_epochs"]
    setting, count = unridged(D, N, P), s["curve_realisations"]
    out: Data = {"P": P, "ends": {name: float(one[0]) for name, one in ends(D, N, [P]).items()}}
    for kind in ("merged", "separate"):
        how = adam(s, kind, epochs, rate, 1)
        curves = run.simulate(setting, count, algorithm=how).curves
        out[kind] = {
            name: {"mean": values.mean(0), "sem": values.std(0, ddof=1) / math.sqrt(count)}
            for name, values in curves.items()
            if name in ("train_error", "e_icl")
        }

        def weights(how: Training = how) -> Data:
            trained = realise(setting, run.seed, 0, how).ground
            return {"W": trained.W, "parameters": getattr(trained, "parameters", None)}

        out[kind]["weights"] = run.cell("weights", weights, P=P, kind=kind, epochs=epochs, rate=rate, D=D, N=N)
    return out


def draw(data: Data) -> Any:
    """Training curves, end points, and learned matrices."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(7.0, 4.4))
    upper, lower = figure.subfigures(2, 1, height_ratios=(2.5, 1))
    left, middle, right = upper.subplots(1, 3, sharey=True)
    images = lower.subplots(1, 8)
    for axes, one in ((left, data["runs"][0]), (right, data["runs"][1])):
        _training_curves(axes, one)
        axes.set_title(f"$P={one['P']}$", fontsize=9, loc="right")
    _end_points(middle, data)
    handles, labels = middle.get_legend_handles_labels()
    handles.append(right.plot([], [], color="black", linestyle=":")[0])
    right.legend(handles, [*labels, "training error"], frameon=False, loc="upper right", borderaxespad=0.2)
    for axes in (left, middle, right):
        axes.set_ylim(0, 4.2)
    left.set_ylabel("mean squared error")
    for letter, axes in zip("abc", (left, middle, right), strict=True):
        style.panel_label(axes, letter)
    for letter, four, one in zip("de", (images[:4], images[4:]), data["runs"], strict=True):
        key, query = np.array(one["separate"]["weights"]["parameters"])
        shown = {"$W_Q$": query, "$W_K$": key, r"$W_K^\top W_Q$": key.T @ query, "$W$": one["merged"]["weights"]["W"]}
        for axes, (name, matrix) in zip(four, shown.items(), strict=True):
            image = axes.imshow(matrix, vmin=-1, vmax=1, **style.IMAGE)
            axes.set(xticks=[], yticks=[], xlabel=name)
            axes.spines[:].set_visible(True)
        style.panel_label(four[0], letter)
    lower.colorbar(image, ax=images, aspect=8, ticks=(-1, 0, 1), shrink=0.9, pad=0.01)
    return figure


def _training_curves(axes: Any, one: Data) -> None:
    """Test (filled line) and training error (dotted) over epochs, and where gradient flow ends."""
    for name in ("limit", "finite size"):
        axes.axhline(one["ends"][name], **style.theory(name, label="_"))
    axes.axhline(one["ends"]["training"], **{**style.theory("finite size", label="_"), "linewidth": 1.1})
    for kind in ("merged", "separate"):
        look = KINDS[kind][1]
        for name, line in (("e_icl", "-"), ("train_error", ":")):
            mean, sem = (np.array(one[kind][name][x]) for x in ("mean", "sem"))
            epochs = np.arange(len(mean))
            axes.plot(epochs, mean, color=look["color"], linestyle=line, linewidth=1.0)
            every = slice(10, None, max(1, len(mean) // 10))
            small = {**style.simulation(look["color"], "_"), "marker": look["marker"], "markersize": 3.2, "capsize": 0}
            axes.errorbar(epochs[every], mean[every], yerr=sem[every], **{**small, "markeredgewidth": 0.9})
    axes.set(xlabel="epochs", xlim=(0, len(mean)))


def _end_points(axes: Any, data: Data) -> None:
    """Test error at the end over alpha."""
    D, curves, points = data["D"], data["curves"], data["points"]
    for name in ("limit", "finite size"):
        values = np.array([math.nan if y is None else y for y in curves[name]])
        axes.plot(np.array(curves["P"]) / D**2, values, **style.theory(name, label=style.THEORY[name][0] + ", flow"))
    for kind, (label, look) in KINDS.items():
        found = points[kind]
        small = {**style.simulation(look["color"], label), "marker": look["marker"], "markersize": 4, "capsize": 0}
        axes.errorbar(np.array(points["P"]) / D**2, found["mean"], yerr=found["sem"], **{**small, "markeredgewidth": 1})
    axes.set(xlabel=r"$\alpha=P/D^2$", xlim=(0, 2.05))


def findings(data: Data) -> list[str]:
    """Gradient flow against its theory; where Adam ends instead."""
    points, D = data["points"], data["D"]
    prompts = np.array(points["P"])
    away = np.abs(prompts / (D * (D + 1)) - 1) >= NEAR
    theory = np.array(points["theory"]["finite size"])
    limit = 100 * (np.array(points["theory"]["limit"], float) / theory - 1)[away]
    simulated = (np.array(points["flow"][name])[away] for name in ("mean", "sem"))
    sentences = [
        agreement(theory[away], *simulated, points["flow"]["n"]).sentence(
            f"Gradient flow simulated against its finite-size theory, {100 * NEAR:.0f} % or more from P = D (D + 1)"
        ),
        f"There the limit is {limit.min():+.1f} to {limit.max():+.1f} % off at D = {D}.",
    ]
    below, above = away & (prompts < D * (D + 1)), away & (prompts > D * (D + 1))
    for kind in ("merged", "separate"):
        apart = 100 * (np.array(points[kind]["to flow"]) - 1)
        sentences.append(
            f"{KINDS[kind][0].replace('$', '')}, beside gradient flow on the same prompts (median): "
            f"{apart[below].min():+.0f} to {apart[below].max():+.0f} % where P is below D (D + 1), "
            f"{apart[above].min():+.1f} to {apart[above].max():+.1f} % above."
        )
    for one in data["runs"]:
        last = "; ".join(
            f"{kind} test {one[kind]['e_icl']['mean'][-1]:.3f} +- {one[kind]['e_icl']['sem'][-1]:.3f}, "
            f"training {one[kind]['train_error']['mean'][-1]:.3f}"
            for kind in ("merged", "separate")
        )
        to = f"{one['ends']['finite size']:.3f} and {one['ends']['training']:.3f}"
        sentences.append(f"P = {one['P']}, last epoch: {last}; gradient flow would end at {to}.")
    return sentences


FIGURE = Figure("li_figS1", compute, draw, findings)

if __name__ == "__main__":
    sys.exit(main(FIGURE))
