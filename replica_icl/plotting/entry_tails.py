"""Third and fourth moments of one prompt's terms in h and J, for the next order of the laws of their entries.

At no label noise a prompt is its task w, A = |y|^2 / (N omega) with omega = |w|^2 / D (a chi-square), the query, and a
context that is Gaussian given these: c ~ N(A w/sqrt(D), (A/N) (omega - w w^T/D)), l = omega A. All moments are those of
polynomials, so Gauss quadrature of enough nodes is exact. `symbolic.moments` derives the same (its `power`), in up to a
minute where this takes a second. Model: Li et al., arXiv:2408.02288.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import roots_genlaguerre, roots_hermitenorm

Array = NDArray[np.float64]

NODES = 10
"""Exact to degree 19; the largest is 16, in the components of the task."""


def _normal() -> tuple[Array, Array]:
    x, weights = roots_hermitenorm(NODES)
    return x, weights / weights.sum()


def _chi_square(dof: int) -> tuple[Array, Array]:
    x, weights = roots_genlaguerre(NODES, dof / 2 - 1)
    return 2 * x, weights / weights.sum()


def prompt_moments(D: int, N: int) -> dict[str, tuple[float, float]]:
    """Class of entries -> E t^3 and E t^4 of a prompt's term t (y~ s_ij of h, s_ij s_kn of J), at D >= 3, no noise."""
    (w, weight), (rest, weight_rest), (A, weight_A) = _normal(), _chi_square(D - 2), _chi_square(N)
    grids = np.meshgrid(w, w, rest, A / N, indexing="ij")
    w1, w2, R, A = (grid.ravel() for grid in grids)
    chance = np.einsum("a,b,c,d->abcd", weight, weight, weight_rest, weight_A).ravel()
    omega = (w1**2 + w2**2 + R) / D
    corner = omega * A
    first, second = (grid.ravel() for grid in np.meshgrid(w, w, indexing="ij"))
    pairs = np.outer(weight, weight).ravel()
    # Cholesky factor of the covariance omega - w w^T/D of the context's first two components.
    b11 = np.sqrt(omega - w1**2 / D)
    b21 = -w1 * w2 / D / b11
    b22 = np.sqrt(omega - w2**2 / D - b21**2)
    root = np.sqrt(A / N)
    c1 = (A * w1 / np.sqrt(D))[:, None] + (root * b11)[:, None] * first
    c2 = (A * w2 / np.sqrt(D))[:, None] + root[:, None] * (b21[:, None] * first + b22[:, None] * second)

    def field(power: int, component: Array) -> Array:
        """E (y~ x~_j)^power given the task, x~_j and the query's other part along it being independent Gaussians."""
        other = np.sqrt(np.maximum(D * omega - component**2, 0.0))
        target = (component[:, None] * first + other[:, None] * second) / np.sqrt(D)
        return (target * first) ** power @ pairs

    found = {}
    for name, context, component in (
        ("diagonal", lambda power: c1**power @ pairs, w1),
        ("off-diagonal", lambda power: c1**power @ pairs, w2),
        ("last row", lambda power: corner**power, w1),
    ):
        third, fourth = (float(chance @ (context(power) * field(power, component))) for power in (3, 4))
        found[name] = (third, fourth)
    contexts = {
        "same context": c1**8 @ pairs,
        "different context": (c1 * c2) ** 4 @ pairs,
        "context and corner": c1**4 @ pairs * corner**4,
        "corner": corner**8,
    }
    for left, values in contexts.items():  # odd moments vanish: query or context change sign
        for right, query in (("same query", 105.0), ("different query", 9.0)):  # E x^8 and (E x^4)^2
            found[f"{left}, {right}"] = (0.0, query * float(chance @ values))
    return found
