"""The exact ground state of the energy, by one Cholesky factorisation or by conjugate gradients.

Dense: (S + lambda_0) sigma = h over the D(D+1) acting weights. Dual: (Phi Phi^T + P lambda_0) alpha = y~ over
the P prompts, sigma = Phi^T alpha. The two agree for lambda_0 > 0. At lambda_0 = 0 the dense system is the
least-squares solution (P >= D(D+1)) and the dual one the interpolating solution of least norm (P <= D(D+1)).
Conjugate gradients (`matrix_free.py`) solve the smaller of the two without forming it.
Energy: Li et al., arXiv:2408.02288.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from replica_icl.errors import SolveError
from replica_icl.setting import check_integer, check_real
from replica_icl.simulator.algorithms import Algorithm, choose_algorithm
from replica_icl.simulator.budget import available_bytes
from replica_icl.simulator.features import FeatureSource
from replica_icl.simulator.krylov import MAX_ITERATIONS
from replica_icl.simulator.matrix_free import NormalEquations
from replica_icl.threads import one_thread

Array = NDArray[np.float64]

RESIDUAL_MAX = 1e-7
"""Largest relative residual of a factorised system (recomputed from the features) that counts as solved."""

THREADS_FROM = 1000
"""Size of a matrix from which BLAS may use several threads: below, on busy processors, they only wait."""


@dataclass(frozen=True, eq=False)
class GroundState:
    """Weights of least energy, which are also the Boltzmann mean at any temperature.

    Attributes:
        W: shape (D+1, D+1), first index context side; the last column, which never acts, is zero.
        features: the prompts that it was trained on.
        ridge: lambda_0.
        algorithm: "dense", "dual" or "cg".
        factor: lower Cholesky factor of S + lambda_0 (dense, D(D+1) square) or of Phi Phi^T + P lambda_0
            (dual, P square); its upper triangle is zero. None for cg.
        residual: relative residual, recomputed through the features: of the system that was factorised, or of
            the normal equations (S + lambda_0) sigma = h for cg.
        iterations: of conjugate gradients, 0 for a factorisation.
    """

    W: Array
    features: FeatureSource
    ridge: float
    algorithm: Algorithm
    factor: Array | None
    residual: float
    iterations: int = 0

    @cached_property
    def training_error(self) -> float:
        """(1/P) sum (y~ - y^)^2."""
        return self.features.mean_squared_residual(self.W)

    @cached_property
    def energy(self) -> float:
        """Ground-state energy E_0 = E(W)."""
        return 0.5 * self.training_error + 0.5 * self.ridge * float(np.sum(self.W**2))


def cholesky(matrix: Array, name: str) -> Array:
    """Lower Cholesky factor of a symmetric matrix, in place, refusing a numerically singular one.

    Raises:
        SolveError: not positive definite, or reciprocal condition number below size * machine epsilon.
    """
    norm = scipy.linalg.lapack.dlange("1", matrix.T)
    try:
        factor = scipy.linalg.cholesky(matrix.T, lower=True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError as error:
        raise SolveError(f"the {name} is numerically singular (no Cholesky factor)") from error
    reciprocal, _ = scipy.linalg.lapack.dpocon(factor, norm, uplo="L")
    if not reciprocal > len(matrix) * np.finfo(float).eps:
        raise SolveError(f"the {name} is numerically singular (reciprocal condition {reciprocal:.1e})")
    return factor


def _solve(factor: Array, apply: Callable[[Array], Array], right: Array, name: str) -> tuple[Array, float]:
    """Solve with a factor, refine once against the matrix applied through the features, check the residual."""
    solution = scipy.linalg.cho_solve((factor, True), right, check_finite=False)
    residual = right - apply(solution)
    solution += scipy.linalg.cho_solve((factor, True), residual, check_finite=False)
    relative = float(np.linalg.norm(right - apply(solution)) / max(float(np.linalg.norm(right)), 1e-300))
    if not relative < RESIDUAL_MAX:
        raise SolveError(f"the {name} was solved to a relative residual of {relative:.1e} only")
    return solution, relative


def ground_state(
    features: FeatureSource,
    ridge: float,
    *,
    algorithm: str | None = None,
    minimum_norm: bool = False,
    max_iterations: int | None = None,
) -> GroundState:
    """The weights of least energy, exactly.

    Args:
        features: P prompts.
        ridge: lambda_0 >= 0.
        algorithm: "dense", "dual", "cg" or None for the cheapest (`choose_algorithm`): the smaller matrix, or
            none when it is large and well conditioned or does not fit into memory.
        minimum_norm: at ridge 0 and P < D(D+1), the interpolating solution of least norm. Without effect
            where the ground state is unique.
        max_iterations: of conjugate gradients; None: `krylov.MAX_ITERATIONS`.

    Raises:
        ParameterError: bad ridge or algorithm, or no unique ground state.
        SolveError: numerically singular, or not solved to `RESIDUAL_MAX` (cg: `algorithms.TOLERANCE`).
    """
    lambda_0 = check_real("ridge", ridge)
    limit = MAX_ITERATIONS if max_iterations is None else check_integer("max_iterations", max_iterations, 1)
    P, D = features.P, features.D
    first = next(features.blocks()).context[:, :D]
    scale = float(np.mean(first**2))
    chosen = choose_algorithm(P, D, lambda_0, minimum_norm, algorithm, scale=scale, memory=available_bytes())
    if chosen == "cg":
        solved = NormalEquations(features, lambda_0).ground_state(limit)
        weights = np.pad(solved.solution, ((0, 0), (0, 1)))
        return GroundState(weights, features, lambda_0, chosen, None, solved.residual, solved.iterations)
    return _factorise(features, lambda_0, chosen)


def _factorise(features: FeatureSource, ridge: float, algorithm: Algorithm) -> GroundState:
    """The ground state by a Cholesky factor, kept for the Boltzmann measure."""
    P, D = features.P, features.D
    size = features.acting_weights if algorithm == "dense" else P
    with one_thread() if size < THREADS_FROM else nullcontext():
        if algorithm == "dense":
            matrix, shift, name = features.gram(), ridge, "second moment of the features plus ridge"
        else:
            matrix, shift, name = features.kernel(), P * ridge, "kernel of the prompts plus P ridge"
        matrix[np.diag_indices_from(matrix)] += shift
        factor = cholesky(matrix, name)

    def regularised_gram(sigma: Array) -> Array:
        acting = sigma.reshape(D + 1, D)
        return (features.apply_gram(acting) + ridge * acting).ravel()

    def regularised_kernel(alpha: Array) -> Array:
        return features.apply(features.apply_transpose(alpha)) + P * ridge * alpha

    with one_thread():
        if algorithm == "dense":
            sigma, residual = _solve(factor, regularised_gram, features.fields().ravel(), name)
            acting = sigma.reshape(D + 1, D)
        else:
            alpha, residual = _solve(factor, regularised_kernel, features.target, name)
            acting = features.apply_transpose(alpha)
    return GroundState(np.pad(acting, ((0, 0), (0, 1))), features, ridge, algorithm, factor, residual)
