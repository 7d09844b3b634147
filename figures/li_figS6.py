"""Li et al., Fig. S6: the one solution that tasks of one prompt impose on the weights, D = 10, N = 50, P = 10.

The condition (w W_21 / sqrt(D) + W_11) C = 1 for P tasks w and one token covariance C = X X^T / N. Two different tasks
leave one solution, W_11 = C^-1 and W_21 = 0: Adam against it, and its distance from 1 against exact moments.

    python figures/li_figS6.py --out results
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from replica_icl.keys import entropy
from replica_icl.plotting import style
from replica_icl.plotting.figure import Data, Figure, Run, main
from replica_icl.simulator.optimisers import Adam
from replica_icl.threads import one_thread

BATCH, TRACES = 250, 25  # repeats of a cell; single runs that are drawn
EVERY = 10  # epochs between records


def exact_mean(D: int, N: int) -> float:
    """Mean over the tokens of |C^-1 - 1|^2 / D^2.

    E C^-1 = N / (N - D - 1) and E C^-2 = N^2 (N - 1) / ((N - D) (N - D - 1) (N - D - 3)), each times the unit matrix,
    for N > D + 3 Gaussian tokens. Source: von Rosen, Scand. J. Statist. 15, 97 (1988).
    """
    first = N / (N - D - 1)
    second = N**2 * (N - 1) / ((N - D) * (N - D - 1) * (N - D - 3))
    return (second - 2 * first + 1) / D


def token_covariances(rng: np.random.Generator, repeats: int, D: int, N: int) -> np.ndarray:
    """C = X X^T / N of D x N Gaussian tokens, shape (repeats, D, D)."""
    X = rng.standard_normal((repeats, D, N))
    return X @ X.transpose(0, 2, 1) / N


def distance(W: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean of (W_11 - target)^2 plus mean of W_21^2, for W = (W_11; W_21), shape (repeats, D+1, D)."""
    return np.mean((W[:, :-1] - target) ** 2, axis=(1, 2)) + np.mean(W[:, -1] ** 2, axis=1)


def train(
    rng: np.random.Generator, repeats: int, D: int, N: int, P: int, epochs: int, published_epochs: int, rate: float
) -> Data:
    """Adam on the mean square of all P D^2 outputs, from standard normal weights; the same steps for all repeats.

    With T_mu = (1, w_mu / sqrt(D)), D x (D+1), and W = (W_11; W_21) the residual is T_mu W C - 1, and the gradient is
    (2 / D^2) (K W C - B) C with K = <T^T T>, B = <T^T> over the tasks.
    """
    C = token_covariances(rng, repeats, D, N)
    tasks = rng.standard_normal((repeats, P, D)) / math.sqrt(D)
    K = np.zeros((repeats, D + 1, D + 1))
    K[:, :D, :D] = np.eye(D)
    K[:, D, :D] = K[:, :D, D] = tasks.mean(axis=1)
    K[:, D, D] = np.sum(tasks**2, axis=(1, 2)) / P
    B = K[:, :, :D]
    W = rng.standard_normal((repeats, D + 1, D))
    one, solution = np.eye(D), np.linalg.inv(C)
    optimiser = Adam(rate, 0.0, (0.9, 0.999), 1e-8, decoupled=False)
    from_one, from_solution = [], []
    for epoch in range(epochs + 1):
        if epoch % EVERY == 0:
            from_one.append(distance(W, one))
            from_solution.append(distance(W, solution))
        optimiser.step(W, 2 / D**2 * (K @ W @ C - B) @ C)
    return {
        "traces": np.array(from_one)[:, :TRACES].T,
        "mean": np.mean(from_one, axis=1),
        "to solution": np.mean(from_solution, axis=1),
        "published end": from_one[published_epochs // EVERY],
        "end": from_one[-1],
        "end of flow": np.mean((solution - one) ** 2, axis=(1, 2)),
    }


def compute(run: Run) -> Data:
    """Adam runs in batches, and the law of the end point of gradient flow from many C."""
    s = run.settings
    D, N = s["D"], s["N"]
    held = {name: s[name] for name in ("D", "N", "P", "epochs", "published_epochs", "rate")}

    def batch(index: int, repeats: int) -> Data:
        with one_thread():
            return train(np.random.default_rng(entropy(run.seed, 0, index)), repeats, **held)

    def law() -> Data:
        rng = np.random.default_rng(entropy(run.seed, 1))
        ends = [
            np.mean((np.linalg.inv(token_covariances(rng, 1000, D, N)) - np.eye(D)) ** 2, axis=(1, 2))
            for _ in range(s["law"] // 1000)
        ]
        found = np.concatenate(ends)
        histogram = np.histogram(found, np.linspace(*s["bins"]))[0] / len(found)
        return {
            "mean": found.mean(),
            "sem": found.std(ddof=1) / math.sqrt(len(found)),
            "n": len(found),
            "bins": histogram,
        }

    batches = []
    for index, first in enumerate(range(0, s["repeats"], BATCH)):
        repeats = min(BATCH, s["repeats"] - first)
        work = run.cell("adam", lambda i=index, n=repeats: batch(i, n), index=index, repeats=repeats, **held)
        batches.append((repeats, work))
    shares = [repeats / s["repeats"] for repeats, _ in batches]
    averaged = {
        name: np.sum([share * np.array(one[name]) for share, (_, one) in zip(shares, batches, strict=True)], axis=0)
        for name in ("mean", "to solution")
    }
    drawn = run.cell("law", law, D=D, N=N, law=s["law"], bins=s["bins"])
    return {
        "traces": batches[0][1]["traces"],
        **averaged,
        **{name: np.concatenate([one[name] for _, one in batches]) for name in ("published end", "end", "end of flow")},
        "epochs": np.arange(0, s["epochs"] + 1, EVERY),
        "published epochs": s["published_epochs"],
        "edges": np.linspace(*s["bins"]),
        "law": drawn,
        "exact mean": exact_mean(D, N),
    }


def draw(data: Data) -> Any:
    """Distances over epochs, and the law of the distance at the end."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.0))
    for trace in data["traces"]:
        left.plot(data["epochs"], trace, color=style.GREEN, linewidth=0.4, alpha=0.5)
    left.plot([], [], color=style.GREEN, linewidth=0.8, label="Adam, single runs")
    left.plot(data["epochs"], data["mean"], color="black", linewidth=1.4, label=r"mean, to $\mathbf{1}$")
    left.plot(
        data["epochs"],
        data["to solution"],
        color="black",
        linewidth=1.4,
        linestyle=":",
        label=r"mean, to $(C^{-1}, 0)$",
    )
    left.axhline(data["exact mean"], **style.theory("finite size", label="theory, exact mean"))
    left.set(xlabel="epochs", ylabel="mean squared distance", yscale="log", xlim=(0, data["epochs"][-1]))
    left.axvline(data["published epochs"], ymin=0.34, color="black", linewidth=0.6)
    left.annotate("end in the paper", (data["published epochs"], 3), (3, 0), textcoords="offset points", fontsize=7.5)
    left.set_ylim(1e-5, 5)
    left.legend(frameon=False, loc="lower left")
    edges = np.array(data["edges"])
    width, middle, n = np.diff(edges), (edges[1:] + edges[:-1]) / 2, len(data["end"])
    right.stairs(
        np.array(data["law"]["bins"]) / width, edges, **style.theory("finite size", label=r"theory, law of $C^{-1}$")
    )
    right.axvline(data["exact mean"], color=style.BLUE, linewidth=1.0, label="exact mean")
    kinds = {
        "end": style.simulation(label=f"Adam, {data['epochs'][-1]} epochs"),
        "published end": style.simulation(style.ORANGE, f"Adam, {data['published epochs']} epochs"),
    }
    for name, look in kinds.items():
        counts = np.histogram(data[name], edges)[0]
        hit = counts > 0
        shape = {"markersize": 3.6, "capsize": 0, "marker": "o" if name == "end" else "s"}
        high, error = counts / (n * width), np.sqrt(counts) / (n * width)
        right.errorbar(middle[hit], high[hit], yerr=error[hit], **{**look, **shape})
    right.set(xlabel=r"distance to $\mathbf{1}$ at the end", ylabel="density", xlim=(0, 0.2), ylim=(0, None))
    right.legend(frameon=False)
    for letter, axes in zip("ab", (left, right), strict=True):
        style.panel_label(axes, letter)
    return figure


def findings(data: Data) -> list[str]:
    """Means against exact moments, and every run against the solution of its own C."""
    from scipy.stats import chi2

    exact, law, flow = data["exact mean"], data["law"], np.array(data["end of flow"])
    sem = flow.std(ddof=1) / math.sqrt(len(flow))
    edges, expected = np.array(data["edges"]), len(flow) * np.array(law["bins"])
    sentences = [
        f"Exact mean distance of the solutions from 1: {exact:.5f}. Those of these runs: {flow.mean():.5f} +- "
        f"{sem:.5f} (z = {(flow.mean() - exact) / sem:+.1f}); of {law['n']} sampled C: {law['mean']:.5f} +- "
        f"{law['sem']:.5f} (z = {(law['mean'] - exact) / law['sem']:+.1f})."
    ]
    published = data["published epochs"]
    for name, epoch in (("published end", published), ("end", data["epochs"][-1])):
        ends = np.array(data[name])
        counts, full = np.histogram(ends, edges)[0], expected >= 5
        statistic = np.sum((counts[full] - expected[full]) ** 2 / expected[full])
        left = data["to solution"][epoch // EVERY]
        sentences.append(
            f"Adam after {epoch} epochs: mean squared distance to the solution of the run's own tokens {left:.1e}; "
            f"distance from 1 {ends.mean():.5f}, {100 * (ends.mean() / flow.mean() - 1):+.2f} % off that of the "
            f"solutions; its histogram against the law of C^-1: chi^2 = {statistic:.1f} in {full.sum()} bins, "
            f"p = {chi2.sf(statistic, full.sum()):.2g}."
        )
    return sentences


FIGURE = Figure("li_figS6", compute, draw, findings)

if __name__ == "__main__":
    sys.exit(main(FIGURE))
