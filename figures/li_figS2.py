"""Li et al., Fig. S2: how the distributions of fields and couplings change with the context length, D = 20, P = 1000.

Kullback-Leibler divergences estimated from histograms, and the law of that estimate from exact moments:

    python figures/li_figS2.py --out results
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from scipy.stats import binom

from replica_icl import Setting
from replica_icl.plotting import style
from replica_icl.plotting.agreement import z_scores
from replica_icl.plotting.entries import BLOCKS, Mixture, entry_index, entry_mixtures, with_tails
from replica_icl.plotting.figure import Data, Figure, Run, main
from replica_icl.simulator.hamiltonian import hamiltonian
from replica_icl.simulator.laws import PromptLaw
from replica_icl.simulator.realisation import draw_instance
from replica_icl.threads import one_thread

BINS = 100
RANGES = {"A": (-0.2, 0.4), "B": (-0.3, 0.3), "C": (-0.1, 0.1), "D": (-0.3, 0.3), "E": (-0.5, 0.5)}
"""The authors' histograms, which start from one count in every bin and see pairs of spins in both orders."""
COPIES = {"A": 1, "B": 1, "C": 2, "D": 2, "E": 2}
MARKERS = dict(zip(BLOCKS, "osv^D", strict=True))
COLORS = dict(zip(BLOCKS, style.SERIES, strict=False))


def shown(block: str) -> tuple[str, ...]:
    """The classes of a block; A is without the diagonal of W here."""
    return tuple(name for name in BLOCKS[block] if name != "diagonal")


def sample(setting: Setting, seed: int, count: int) -> Data:
    """Histograms of every block, shape (count, BINS), first realisation 0."""
    D, index = setting.D, entry_index(setting.D)
    found: Data = {block: np.zeros((count, BINS), int) for block in BLOCKS}
    for r in range(count):
        spins = hamiltonian(draw_instance(setting, seed, r, law=PromptLaw(sampler="sufficient")).features, 0.0)
        h = spins.h.reshape(D + 1, D)
        for block in BLOCKS:
            x = np.concatenate([(h if block in "AB" else spins.J)[index[name]] for name in shown(block)])
            found[block][r] = np.histogram(x, BINS, RANGES[block])[0]
    return found


def laws_at(D: int, N: int, P: int) -> dict[str, Mixture]:
    """Of the entries of every block as shown, with exact third and fourth moments."""
    found = with_tails(entry_mixtures(D, N, P), D, N, P)
    return {**found, "A": found["A"].without("diagonal")}


def divergence(first: Mixture, second: Mixture) -> float:
    """D_KL[first || second] in bits, by the trapezoid rule: exponentially accurate for these densities."""
    reach = 12 * math.sqrt(first.variances.max())
    x = np.linspace(-reach, reach, 4001)
    p, q = first.density(x), second.density(x)
    seen = p > 1e-300
    return float(np.sum(p[seen] * np.log2(p[seen] / q[seen])) * (x[1] - x[0]))


def smoothed(block: str, counts: np.ndarray) -> np.ndarray:
    """The authors' shares: one count is added in every bin."""
    full = 1.0 + COPIES[block] * counts
    return full / full.sum(axis=-1, keepdims=True)


def estimated(block: str, first: Mixture, second: Mixture) -> float:
    """Mean of the histogram estimate for independent entries: a binomial number in every bin, all in range.

    With A = 1 + copies n_1 and B likewise, E sum (A/T) log2(A/B) over independent A and B and the fixed total T.
    """
    bins = np.linspace(*RANGES[block], BINS + 1)
    n, copies = first.entries, COPIES[block]
    total, k = BINS + copies * n, np.arange(n + 1)
    value = 0.0
    for p, q in np.maximum([np.diff(first.cdf(bins)), np.diff(second.cdf(bins))], 0.0).T:
        mean = {}
        for name, share in (("A", p), ("B", q)):
            middle, reach = n * share, 8 * math.sqrt(n * share) + 15
            some = slice(max(0, int(middle - reach)), int(middle + reach) + 1)
            counts, chance = 1 + copies * k[some], binom.pmf(k[some], n, share)
            mean[name] = (chance @ counts, chance @ (counts * np.log2(counts)), chance @ np.log2(counts))
        value += (mean["A"][1] - mean["A"][0] * mean["B"][2]) / total
    return float(value)


def compute(run: Run) -> Data:
    """Divergences of every block at all N from that at the first."""
    s = run.settings
    D, P, count, lengths = s["D"], s["P"], s["realisations"], s["N"]
    histograms = []
    with one_thread():
        for N in lengths:
            setting = Setting(D=D, N=N, P=P, ridge=1.0)  # the ridge enters neither h nor J
            histograms.append(
                run.cell("histograms", lambda one=setting: sample(one, run.seed, count), D=D, N=N, P=P, count=count)
            )
    every = [laws_at(D, N, P) for N in lengths]
    blocks: Data = {}
    for block in BLOCKS:
        start = smoothed(block, np.array(histograms[0][block]))
        laws = [one[block] for one in every]
        found: Data = {"mean": [], "sem": [], "theory": [], "infinite": []}
        for number in range(1, len(lengths)):
            other = smoothed(block, np.array(histograms[number][block]))
            bits = np.sum(start * np.log2(start / other), axis=1)
            found["mean"].append(bits.mean())
            found["sem"].append(bits.std(ddof=1) / math.sqrt(count))
            found["theory"].append(estimated(block, laws[0], laws[number]))
            found["infinite"].append(divergence(laws[0], laws[number]))
        p = np.diff(laws[0].cdf(np.linspace(*RANGES[block], BINS + 1)))
        counts = np.array(histograms[0][block])
        found["spread"] = counts.var(axis=0, ddof=1).sum() / (laws[0].entries * p * (1 - p)).sum()
        blocks[block] = found
    return {"N": lengths, "n": count, "blocks": blocks}


def draw(data: Data) -> Any:
    """Estimates with the law of the estimate; what they are estimates of."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(7.0, 3.1), sharex=True, sharey=True)
    steps = np.array(data["N"][1:]) / data["N"][0] - 1
    for block, found in data["blocks"].items():
        left.plot(steps, found["theory"], **style.theory("finite size", COLORS[block], "_"))
        look = {**style.simulation(COLORS[block], block), "marker": MARKERS[block], "markersize": 4.2}
        left.errorbar(steps, found["mean"], yerr=found["sem"], **{**look, "markeredgewidth": 1.1})
        right.plot(steps, found["theory"], **style.theory("finite size", COLORS[block], "_"))
        right.plot(steps, found["infinite"], **style.theory("limit", COLORS[block], "_"))
    left.set(ylabel=r"$D_{\rm KL}[P_N \| P_{N+\Delta N}]$ (bits)", xlabel=r"$\Delta N/N$", ylim=(0, None))
    right.set(xlabel=r"$\Delta N/N$")
    left.plot([], [], **style.theory("finite size", style.GREY, "theory"))
    left.legend(frameon=False, ncols=2, title="block")
    for look, label in ((style.theory("limit", style.GREY), "of the densities"),
                        (style.theory("finite size", style.GREY), "as estimated in (a)")):  # fmt: skip
        right.plot([], [], **{**look, "label": label})
    right.legend(frameon=False)
    style.panel_label(left, "a")
    style.panel_label(right, "b")
    return figure


def findings(data: Data) -> list[str]:
    """Estimates against their law; how far they are from the divergence itself."""
    first = " + ".join(data["blocks"])
    sentences, step = [], data["N"][-1] / data["N"][0] - 1
    for block, one in {first: None, **data["blocks"]}.items():
        chosen = data["blocks"].values() if one is None else [one]
        theory, mean, sem = (np.ravel([x[name] for x in chosen]) for name in ("theory", "mean", "sem"))
        z = z_scores(theory, mean, sem, data["n"])
        apart = mean - theory
        named = f"{'Blocks' if one is None else 'Block'} {block}"
        sentence = (
            f"{named}: estimates against their theory, {len(z)} points, |z| <= {np.abs(z).max():.1f} "
            f"(rms {np.sqrt(np.mean(z**2)):.2f}), {apart.min():+.4f} to {apart.max():+.4f} bits apart."
        )
        if one is not None:
            sentence += (
                f" At Delta N / N = {step:g} the estimate means {one['theory'][-1]:.3f} bits, the densities are "
                f"{one['infinite'][-1]:.3f} bits apart. Counts in bins vary {one['spread']:.2g} times as much as those "
                "of independent entries."
            )
        sentences.append(sentence)
    sentences.append(
        "Counts that vary more than those of independent entries show what the theory leaves out: entries of one "
        "instance share the norms of its prompts, couplings most."
    )
    return sentences


FIGURE = Figure("li_figS2", compute, draw, findings)

if __name__ == "__main__":
    sys.exit(main(FIGURE))
