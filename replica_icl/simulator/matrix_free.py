"""The normal equations without their matrix, in weight space (primal) or prompt space (dual).

Primal: (S + lambda_0) sigma = h, with S sigma = (1/P) C^T diag((C A) . X) X, two thin products. Preconditioner:
the second moment if the two sides of a feature were independent, E[c~ c~^T] (x) E[x~ x~^T] with both measured,
plus the ridge, inverted in the eigenbases of the two sides. It removes the corner (l of order one beside c of
order 1/sqrt(D)) and the anisotropy of few tasks; what is left is the spread of a Wishart spectrum.

Dual: (Phi Phi^T + P lambda_0) alpha = y~. Preconditioner: the diagonal of the D block plus the corner's features
l x~, which have rank D, inverted by the Woodbury identity.

With P < D(D+1) the primal matrix has eigenvalues lambda_0 that the dual has not (measured at alpha = 0.25: 245
iterations against 56), so the form with fewer unknowns is taken. Source of the energy: Li et al., arXiv:2408.02288.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from replica_icl.errors import SolveError
from replica_icl.simulator.algorithms import TOLERANCE
from replica_icl.simulator.features import FeatureSource
from replica_icl.simulator.krylov import MAX_ITERATIONS, Iterated, conjugate_gradients
from replica_icl.threads import one_thread

Array = NDArray[np.float64]


class Primal:
    """S + lambda_0 over the acting weights, arrays of shape (D+1, D)."""

    name = "second moment of the features plus ridge"

    def __init__(self, features: FeatureSource, ridge: float) -> None:
        self._features, self._ridge = features, ridge
        context, query = features.side_moments()
        context_values, self._context = np.linalg.eigh(context)
        query_values, self._query = np.linalg.eigh(query)
        values = np.outer(np.maximum(context_values, 0), np.maximum(query_values, 0)) + ridge
        if not values.min() > features.acting_weights * np.finfo(float).eps * values.max():
            raise SolveError(f"the {self.name} is numerically singular: the prompts do not span all directions")
        self._inverse = 1 / values

    def apply(self, vector: Array) -> Array:
        """(S + lambda_0) sigma."""
        return self._features.apply_gram(vector) + self._ridge * vector

    def precondition(self, residual: Array) -> Array:
        """By the Kronecker approximation."""
        rotated = self._context.T @ residual @ self._query
        return self._context @ (rotated * self._inverse) @ self._query.T


class Dual:
    """Phi Phi^T + P lambda_0 over the prompts, arrays of shape (P,)."""

    name = "kernel of the prompts plus P ridge"

    def __init__(self, features: FeatureSource, ridge: float) -> None:
        self._features, self._shift = features, features.P * ridge
        D = features.D
        block_norms = [
            np.einsum("ij,ij->i", block.context[:, :D], block.context[:, :D])
            * np.einsum("ij,ij->i", block.query, block.query)
            for block in features.blocks()
        ]
        diagonal = np.concatenate(block_norms) + self._shift
        if not diagonal.min() > 0:
            raise SolveError(f"the {self.name} is numerically singular: a prompt has no features")
        self._inverse = 1 / diagonal
        self._capacity = scipy.linalg.cho_factor(np.eye(D) + self._corner_gram(), check_finite=False)

    def _corner_gram(self) -> Array:
        """L^T diag^-1 L of the corner's features L = l x~, shape (D, D)."""
        total, start = np.zeros((self._features.D, self._features.D)), 0
        for block in self._features.blocks():
            rows = slice(start, start := start + block.P)
            corner = block.context[:, -1:] * block.query
            total += corner.T @ (self._inverse[rows, None] * corner)
        return total

    def apply(self, vector: Array) -> Array:
        """(Phi Phi^T + P lambda_0) alpha."""
        return self._features.apply(self._features.apply_transpose(vector)) + self._shift * vector

    def precondition(self, residual: Array) -> Array:
        """By the diagonal plus the corner."""
        scaled, back, start = self._inverse * residual, np.zeros(self._features.D), 0
        for block in self._features.blocks():
            rows = slice(start, start := start + block.P)
            back += block.query.T @ (block.context[:, -1] * scaled[rows])
        inner = scipy.linalg.cho_solve(self._capacity, back, check_finite=False)
        corner = [block.context[:, -1] * (block.query @ inner) for block in self._features.blocks()]
        return scaled - self._inverse * np.concatenate(corner)


class NormalEquations:
    """(S + lambda_0) sigma = b, in the form with fewer unknowns.

    Attributes:
        features: prompts.
        ridge: lambda_0 >= 0.
    """

    def __init__(self, features: FeatureSource, ridge: float) -> None:
        self.features, self.ridge = features, ridge
        self.primal = features.P >= features.acting_weights
        with one_thread():
            self._system = Primal(features, ridge) if self.primal else Dual(features, ridge)

    def ground_state(self, max_iterations: int = MAX_ITERATIONS) -> Iterated:
        """The acting weights of least energy, (D+1, D), and the residual of the primal normal equations.

        At ridge 0 with P < D(D+1) it is the interpolating solution of least norm.

        Raises:
            SolveError: not solved to `TOLERANCE`.
        """
        with one_thread():
            if self.primal:
                return conjugate_gradients(
                    self._system, self.features.fields(), tolerance=TOLERANCE, max_iterations=max_iterations
                )
            fields = self.features.fields()
            norm = max(float(np.linalg.norm(fields)), np.finfo(float).tiny)

            def residual_of(alpha: Array) -> float:
                acting = self.features.apply_transpose(alpha)
                shift = self.features.apply_gram(acting) + self.ridge * acting
                return float(np.linalg.norm(fields - shift)) / norm

            solved = conjugate_gradients(
                self._system,
                self.features.target,
                tolerance=TOLERANCE,
                max_iterations=max_iterations,
                residual_of=residual_of,
            )
            acting = self.features.apply_transpose(solved.solution)
            return Iterated(acting, solved.iterations, solved.residual)

    def fluctuation(self, beta: float, rng: np.random.Generator) -> Array:
        """A sample of N(0, (1/beta) (S + lambda_0)^-1), shape (D+1, D), by perturbing and solving.

        With targets eta ~ N(0, P/beta) and fields zeta ~ N(0, lambda_0/beta), Phi^T eta/P + zeta has covariance
        (S + lambda_0)/beta, so (S + lambda_0)^-1 of it has the one asked for. Dual: with weights
        sigma_0 = zeta/lambda_0 it is sigma_0 - Phi^T (Phi Phi^T + P lambda_0)^-1 (Phi sigma_0 + eta).

        Raises:
            SolveError: not solved to `TOLERANCE`.
        """
        P, D = self.features.P, self.features.D
        normal, eta = rng.standard_normal((D + 1, D)), rng.standard_normal(P) * np.sqrt(P / beta)
        with one_thread():
            if self.primal:
                right = self.features.apply_transpose(eta) / P + np.sqrt(self.ridge / beta) * normal
                return conjugate_gradients(self._system, right, tolerance=TOLERANCE).solution
            prior = normal / np.sqrt(beta * self.ridge)
            seen = self.features.apply(prior) + eta
            alpha = conjugate_gradients(self._system, seen, tolerance=TOLERANCE).solution
            return prior - self.features.apply_transpose(alpha)
