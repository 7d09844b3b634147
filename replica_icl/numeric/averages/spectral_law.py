"""Averages over the spectral law of a covariance of Gaussian vectors, the law of Marchenko and Pastur."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY

Array = NDArray[np.floating[Any]]


def marchenko_pastur(kappa: float, scale: float, nodes: int, model: Model | None = None) -> tuple[Array, Array]:
    """Nodes and weights of averages over the law at K = kappa D vectors, whose mean is `scale`.

    Gauss-Chebyshev quadrature of the second kind in x = (low + high) / 2 + (high - low) / 2 cos theta, where the
    half-chord of the density is sin theta times half the width; below kappa = 1 the first node is the atom at zero.
    """
    law = (model or LINEAR_ATTENTION).marchenko_pastur
    low, high, atom = (float(x) for x in law.support(NUMPY, kappa=kappa))
    theta = np.pi * np.arange(1, nodes + 1) / (nodes + 1)
    touching = low == 0  # the density does not vanish at the lower edge: half an end point
    if touching:
        theta = np.append(theta, np.pi)
    x = low + (high - low) * np.cos(theta / 2) ** 2  # no cancellation at the lower edge
    if touching:
        x[-1] = 0.0
    # sin^2 theta / x, as 4 sin^2 (theta / 2) / high where the edge is zero.
    squares = 4 * np.sin(theta / 2) ** 2 / high if touching else np.sin(theta) ** 2 / x
    per_chord = law.density(NUMPY, x=1.0, kappa=kappa).per_chord
    weights = np.pi / (nodes + 1) * per_chord * (high - low) ** 2 / 4 * squares
    if touching:
        weights[-1] /= 2
    if atom > 0:
        return scale * np.append(0.0, x), np.append(atom, weights)
    return scale * x, weights
