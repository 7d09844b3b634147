"""The exact ground state of the energy, by one Cholesky factorisation.

Dense: (S + lambda_0) sigma = h over the D(D+1) acting weights. Dual: (Phi Phi^T + P lambda_0) alpha = y~ over
the P prompts, sigma = Phi^T alpha. The two agree for lambda_0 > 0; the smaller matrix is taken. At
lambda_0 = 0 the dense system is the least-squares solution (P >= D(D+1)) and the dual one the interpolating
solution of least norm (P <= D(D+1)). Energy: Li et al., arXiv:2408.02288.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from replica_icl.errors import ParameterError, SolveError
from replica_icl.setting import check_real
from replica_icl.simulator.features import Features
from replica_icl.simulator.hamiltonian import energy

Array = NDArray[np.float64]
Algorithm = Literal["dense", "dual"]
ALGORITHMS: tuple[Algorithm, ...] = ("dense", "dual")

RESIDUAL_MAX = 1e-7
"""Largest relative residual of the linear system (recomputed from the features) that counts as solved."""


@dataclass(frozen=True, eq=False)
class GroundState:
    """Weights of least energy, which are also the Boltzmann mean at any temperature.

    Attributes:
        W: shape (D+1, D+1), first index context side; the last column, which never acts, is zero.
        features: the prompts that it was trained on.
        ridge: lambda_0.
        algorithm: "dense" or "dual".
        factor: lower Cholesky factor of S + lambda_0 (dense, D(D+1) square) or of Phi Phi^T + P lambda_0
            (dual, P square); its upper triangle is zero.
    """

    W: Array
    features: Features
    ridge: float
    algorithm: Algorithm
    factor: Array

    @cached_property
    def training_error(self) -> float:
        """(1/P) sum (y~ - y^)^2."""
        return float(np.mean((self.features.target - self.features.predict(self.W)) ** 2))

    @cached_property
    def energy(self) -> float:
        """Ground-state energy E_0 = E(W)."""
        return energy(self.features, self.W, self.ridge)


def choose_algorithm(
    P: int, D: int, ridge: float, minimum_norm: bool = False, algorithm: str | None = None
) -> Algorithm:
    """The algorithm that a solve will use: the one asked for, or the smaller matrix.

    Raises:
        ParameterError: unknown algorithm; or at ridge 0 one whose matrix is singular, or a ground state
            that is not unique without `minimum_norm`.
    """
    n = D * (D + 1)
    if algorithm is not None and algorithm not in ALGORITHMS:
        raise ParameterError("algorithm", algorithm, f"must be one of {', '.join(ALGORITHMS)}")
    if ridge == 0 and n > P and not minimum_norm:
        raise ParameterError(
            "ridge",
            ridge,
            f"must be positive when P = {P} is below D (D + 1) = {n}, or ask for the minimum norm",
        )
    if ridge == 0 and algorithm == "dense" and n > P:
        raise ParameterError("algorithm", algorithm, f"must be dual at ridge 0 with P = {P} < D (D + 1) = {n}")
    if ridge == 0 and algorithm == "dual" and n < P:
        raise ParameterError("algorithm", algorithm, f"must be dense at ridge 0 with P = {P} > D (D + 1) = {n}")
    if algorithm is not None:
        return "dense" if algorithm == "dense" else "dual"
    return "dual" if n > P else "dense"


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


def _solve(factor: Array, apply: Callable[[Array], Array], right: Array, name: str) -> Array:
    """Solve with a factor, refine once against the matrix applied through the features, and check."""
    solution = scipy.linalg.cho_solve((factor, True), right, check_finite=False)
    residual = right - apply(solution)
    solution += scipy.linalg.cho_solve((factor, True), residual, check_finite=False)
    relative = float(np.linalg.norm(right - apply(solution)) / max(float(np.linalg.norm(right)), 1e-300))
    if not relative < RESIDUAL_MAX:
        raise SolveError(f"the {name} was solved to a relative residual of {relative:.1e} only")
    return solution


def ground_state(
    features: Features, ridge: float, *, algorithm: str | None = None, minimum_norm: bool = False
) -> GroundState:
    """The weights of least energy, exactly.

    Args:
        features: P prompts.
        ridge: lambda_0 >= 0.
        algorithm: "dense", "dual" or None for the smaller matrix (dual when P < D(D+1)).
        minimum_norm: at ridge 0 and P < D(D+1), the interpolating solution of least norm. Without effect
            where the ground state is unique.

    Raises:
        ParameterError: bad ridge or algorithm, or no unique ground state.
        SolveError: numerically singular, or not solved to `RESIDUAL_MAX`.
    """
    lambda_0 = check_real("ridge", ridge)
    P, D = features.P, features.D
    chosen = choose_algorithm(P, D, lambda_0, minimum_norm, algorithm)
    if chosen == "dense":
        matrix, shift, name = features.gram(), lambda_0, "second moment of the features plus ridge"
    else:
        matrix, shift, name = features.kernel(), P * lambda_0, "kernel of the prompts plus P ridge"
    matrix[np.diag_indices_from(matrix)] += shift
    factor = cholesky(matrix, name)

    def regularised_gram(sigma: Array) -> Array:
        acting = sigma.reshape(D + 1, D)
        return (features.apply_transpose(features.apply(acting)) / P + lambda_0 * acting).ravel()

    def regularised_kernel(alpha: Array) -> Array:
        return features.apply(features.apply_transpose(alpha)) + P * lambda_0 * alpha

    if chosen == "dense":
        fields = (features.apply_transpose(features.target) / P).ravel()
        acting = _solve(factor, regularised_gram, fields, name).reshape(D + 1, D)
    else:
        alpha = _solve(factor, regularised_kernel, features.target, name)
        acting = features.apply_transpose(alpha)
    return GroundState(np.pad(acting, ((0, 0), (0, 1))), features, lambda_0, chosen, factor)
