"""The energy of the weights, as a regression loss and as a spin glass with real spins.

    E(W) = (1/2P) sum_mu (y~ - y^)^2 + (lambda_0/2) |W|^2
         = const - sum_i h_i sigma_i - sum_(i<j) J_ij sigma_i sigma_j + (1/2) sum_i lambda_i sigma_i^2

with h_i = (1/P) sum y~ s_i, J_ij = -(1/P) sum s_i s_j off the diagonal, lambda_i = lambda_0 + (1/P) sum s_i^2
and const = (1/2P) sum y~^2. The diagonal of the coupling is in lambda_i and nowhere else.
Source: Li et al., arXiv:2408.02288.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl.errors import ParameterError
from replica_icl.setting import check_real
from replica_icl.simulator.attention import check_weights
from replica_icl.simulator.features import FeatureSource

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Hamiltonian:
    """Fields, couplings and quadratic coefficients over the spins sigma.

    Attributes:
        h: local fields, shape (n,).
        J: couplings, shape (n, n), symmetric with zero diagonal.
        lam: lambda_i, shape (n,), all > 0 when the ridge is.
        constant: (1/2P) sum y~^2.
        D: token dimension.
        all_weights: True: n = (D+1)^2, sigma = W.ravel(), sigma[i (D+1) + j] = W[i, j]. False: n = D(D+1),
            sigma = W[:, :D].ravel(), sigma[i D + j] = W[i, j]. Both row-major, first index context side.
    """

    h: Array
    J: Array
    lam: Array
    constant: float
    D: int
    all_weights: bool

    def spins(self, W: ArrayLike) -> Array:
        """The spin vector sigma of a (D+1, D+1) weight matrix, shape (n,).

        Raises:
            ParameterError: bad W, or a last column that the acting spins cannot hold.
        """
        matrix = check_weights(W, self.D)
        if self.all_weights:
            return matrix.ravel()
        if matrix[:, -1].any():
            raise ParameterError("W", "last column not zero", "must be zero there, over the acting weights only")
        return matrix[:, :-1].ravel()

    def weights(self, sigma: Array) -> Array:
        """The (D+1, D+1) weight matrix of a spin vector, last column zero over the acting weights."""
        if self.all_weights:
            return sigma.reshape(self.D + 1, self.D + 1).copy()
        return np.pad(sigma.reshape(self.D + 1, self.D), ((0, 0), (0, 1)))

    def energy(self, sigma: Array) -> float:
        """E(sigma) from (J, h, lambda); J is symmetric, so the sum over pairs is half the quadratic form."""
        pairs = 0.5 * sigma @ self.J @ sigma
        return float(self.constant - self.h @ sigma - pairs + 0.5 * np.sum(self.lam * sigma**2))


def hamiltonian(features: FeatureSource, ridge: float, all_weights: bool = False) -> Hamiltonian:
    """Map features to (J, h, lambda) explicitly.

    Args:
        features: P prompts.
        ridge: lambda_0 >= 0.
        all_weights: over all (D+1)^2 weights, with the D+1 flat ones of the last column, instead of the
            D(D+1) acting ones.

    Raises:
        ParameterError: bad ridge.
    """
    lambda_0 = check_real("ridge", ridge)
    rows = features.explicit(all_weights)
    P = features.P
    second_moment = rows.T @ rows / P
    lam = lambda_0 + np.diag(second_moment)
    J = -second_moment
    np.fill_diagonal(J, 0.0)
    constant = float(features.target @ features.target / (2 * P))
    return Hamiltonian(rows.T @ features.target / P, J, lam, constant, features.D, all_weights)


def energy(features: FeatureSource, W: ArrayLike, ridge: float) -> float:
    """E(W) = (1/2P) sum (y~ - y^)^2 + (lambda_0/2) |W|^2, directly; |W|^2 over the full matrix."""
    matrix = check_weights(W, features.D)
    lambda_0 = check_real("ridge", ridge)
    return 0.5 * features.mean_squared_residual(matrix) + 0.5 * lambda_0 * float(np.sum(matrix**2))


def gradient(features: FeatureSource, W: ArrayLike, ridge: float) -> Array:
    """dE/dW over the full matrix, shape (D+1, D+1); on the last column it is lambda_0 W alone."""
    matrix = check_weights(W, features.D)
    result = check_real("ridge", ridge) * matrix
    result[:, :-1] += features.apply_gram(np.ascontiguousarray(matrix[:, :-1])) - features.fields()
    return result
