"""Entries of the fields h and couplings J by class, with the exact mean and variance of each class at a size.

Blocks as in Li et al. (arXiv:2408.02288), Fig. 1: A and B are the fields of the D^2 block and of the last row; C, D
and E are the couplings within the D^2 block, between it and the last row, and within the last row. A block holds one
to three classes of entries (`symbolic.moments`). At many prompts an entry is a sum of P independent terms and so
nearly Gaussian, which makes the law of a block's entries a mixture of Gaussians over its classes, without a parameter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from replica_icl.plotting.entry_tails import prompt_moments
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.moments import coupling_blocks, field_blocks

Array = NDArray[np.float64]
Index = tuple[NDArray[np.int64], ...]

BLOCKS: dict[str, tuple[str, ...]] = {
    "A": ("diagonal", "off-diagonal"),
    "B": ("last row",),
    "C": (
        "same context, different query",
        "different context, same query",
        "different context, different query",
    ),
    "D": ("context and corner, same query", "context and corner, different query"),
    "E": ("corner, different query",),
}
"""Block -> classes of its entries: of h for A and B, of J for C, D and E."""


def entry_index(D: int) -> dict[str, Index]:
    """Class -> its entries: (i, j) of h, shape (D+1, D), or pairs of spins, each once, of J over D(D+1) spins."""
    i, j = np.divmod(np.arange(D * (D + 1)), D)
    fields = {
        "diagonal": (i < D) & (i == j),
        "off-diagonal": (i < D) & (i != j),
        "last row": i == D,
    }
    first, second = np.triu_indices(D * (D + 1), 1)
    a, b = i[first], i[second]
    context = {
        "same context": (a == b) & (b < D),
        "different context": (a != b) & (b < D),
        "context and corner": (a < D) & (b == D),
        "corner": a == D,
    }
    query = {"same query": j[first] == j[second], "different query": j[first] != j[second]}
    index: dict[str, Index] = {name: (i[where], j[where]) for name, where in fields.items()}
    for left, one in context.items():
        for right, other in query.items():
            if (one & other).any():
                index[f"{left}, {right}"] = (first[one & other], second[one & other])
    return index


@dataclass(frozen=True, eq=False)
class Mixture:
    """The law of a block's entries: a Gaussian for each class.

    Attributes:
        classes: names.
        weights: share of the block's entries, summing to 1.
        means, variances: of the classes, exact.
        entries: how many entries the block has in one instance, each pair of spins once.
        skewness, excess: of the classes: third cumulant and fourth, in units of the standard deviation; both vanish at
            many prompts. With them density and cdf are Edgeworth's to order 1/P.
    """

    classes: tuple[str, ...]
    weights: Array
    means: Array
    variances: Array
    entries: int
    skewness: ArrayLike = 0.0
    excess: ArrayLike = 0.0

    def density(self, x: ArrayLike) -> Array:
        """Density at x, of the shape of x."""
        z, width = self._standardised(x)
        g, k = np.asarray(self.skewness), np.asarray(self.excess)
        order = g / 6 * hermite(3, z) + k / 24 * hermite(4, z) + g**2 / 72 * hermite(6, z)
        return np.asarray(stats.norm.pdf(z) / width * (1 + order) @ self.weights)

    def cdf(self, x: ArrayLike) -> Array:
        """Fraction of entries up to x, of the shape of x."""
        z, _ = self._standardised(x)
        g, k = np.asarray(self.skewness), np.asarray(self.excess)
        order = g / 6 * hermite(2, z) + k / 24 * hermite(3, z) + g**2 / 72 * hermite(5, z)
        return np.asarray((stats.norm.cdf(z) - stats.norm.pdf(z) * order) @ self.weights)

    def _standardised(self, x: ArrayLike) -> tuple[Array, Array]:
        width = np.sqrt(self.variances)
        return (np.asarray(x, float)[..., None] - self.means) / width, width

    def without(self, name: str) -> Mixture:
        """The same without one class."""
        kept = np.array([one != name for one in self.classes])
        share = float(self.weights[kept].sum())
        g, k = (np.broadcast_to(x, kept.shape)[kept] for x in (self.skewness, self.excess))
        classes = tuple(np.array(self.classes)[kept].tolist())
        means, variances, entries = self.means[kept], self.variances[kept], round(share * self.entries)
        return Mixture(classes, self.weights[kept] / share, means, variances, entries, g, k)


def hermite(order: int, z: Array) -> Array:
    """The Hermite polynomial He_order of the normal law."""
    return np.asarray(np.polynomial.hermite_e.hermeval(z, [0.0] * order + [1.0]))


def with_tails(laws: dict[str, Mixture], D: int, N: int, P: int) -> dict[str, Mixture]:
    """The laws of `entry_mixtures` with exact third and fourth cumulants; D >= 3, no noise."""
    terms, result = prompt_moments(D, N), {}
    for block, law in laws.items():
        third, fourth = np.array([terms[name] for name in law.classes]).T
        square = P * law.variances + law.means**2  # of one prompt's term
        c2, c3 = square - law.means**2, third - 3 * law.means * square + 2 * law.means**3
        c4 = fourth - 4 * law.means * third + 6 * law.means**2 * square - 3 * law.means**4 - 3 * c2**2
        result[block] = replace(law, skewness=c3 / c2**1.5 / np.sqrt(P), excess=c4 / c2**2 / P)
    return result


def entry_mixtures(D: int, N: int, P: int, noise: float = 0.0) -> dict[str, Mixture]:
    """Block -> mixture, from the exact moments at this size; D >= 2."""
    size = {s.D: D, s.N: N, s.P: P, s.noise: noise}
    exact = {
        one.name: (float(one.mean.subs(size)), float(one.variance.subs(size)))
        for one in (*field_blocks(), *coupling_blocks())
    }
    counts = {name: len(index[0]) for name, index in entry_index(D).items()}
    mixtures = {}
    for block, classes in BLOCKS.items():
        number = np.array([counts[name] for name in classes])
        means, variances = np.array([exact[name] for name in classes]).T
        mixtures[block] = Mixture(classes, number / number.sum(), means, variances, int(number.sum()))
    return mixtures
