"""The algorithms that find a ground state, what each costs, and which one to take.

dense: factor of the second moment, D(D+1) square. dual: factor of the kernel, P square. cg: no matrix, by
preconditioned conjugate gradients. proximal: under a penalty beside the ridge, by accelerated proximal gradient to a
duality gap. The first two also give the Boltzmann measure's determinants and traces.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

from replica_icl.errors import ParameterError
from replica_icl.options import UNDER_PRIORS
from replica_icl.simulator.optimisers import OPTIMISERS

Algorithm = Literal["dense", "dual", "cg", "proximal"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)
RIDGE_ALGORITHMS: tuple[Algorithm, ...] = ("dense", "dual", "cg")
"""Under the ridge alone; under any other prior there is proximal gradient."""

TOLERANCE = 1e-10
"""Relative residual of the normal equations to which conjugate gradients solve."""

_FLOP_SECONDS = 1 / 2e10  # one core, double precision matrix products
_THIN_FLOP_SECONDS = 1 / 1.3e10  # the same for products of blocks that are D wide
_STEP_SECONDS = 1e-4  # interpreter, one iteration
_PROXIMAL_STEPS = 400  # of order; tiny penalties take many more
_CG_ADVANTAGE = 2.0  # a factorisation is exact to rounding: iterate only where that is this much faster


def cg_iterations(P: int, D: int, ridge: float, scale: float) -> float:
    """Estimated iterations of preconditioned conjugate gradients, (1/2) sqrt(condition) log(2/tolerance).

    The features' second moment has, apart from the preconditioned spread of its two sides, the eigenvalues of a
    Wishart matrix, scale (1 -+ sqrt(D(D+1)/P))^2 at the edges of the bulk (Marchenko-Pastur).

    Args:
        P: prompts.
        D: token dimension.
        ridge: lambda_0.
        scale: typical eigenvalue of the second moment of c, of order 1/D.
    """
    ratio = math.sqrt(D * (D + 1) / P)
    lower, upper = (scale * (1 + sign * ratio) ** 2 + ridge for sign in (-1, 1))
    return 0.5 * math.sqrt(upper / lower) * math.log(2 / TOLERANCE) if lower > 0 else math.inf


def matrix_bytes(P: int, D: int, algorithm: Algorithm, thermal: bool = False) -> int:
    """Bytes of the square matrices of a solve: the factor, its ingredients, and at finite beta the inverse.

    Dense: S (D(D+1) square) plus its distinct entries (a quarter of it). Dual: the two kernels of which
    Phi Phi^T is the product (P square). Conjugate gradients: a dozen arrays of D(D+1) or P numbers.
    """
    n = D * (D + 1)
    match algorithm:
        case "dense":
            return int(8 * n**2 * (1.3 + thermal))
        case "dual":
            return 8 * P**2 * (5 if thermal else 2)
    return 8 * 12 * (n + P)


def solve_seconds(
    P: int,
    D: int,
    algorithm: Algorithm,
    *,
    ridge: float,
    scale: float,
    thermal: bool = False,
    pass_seconds: float = 0.0,
) -> float:
    """Estimated seconds of a solve on one core, good to a factor of two or so.

    Args:
        P, D, ridge, scale: as in `cg_iterations`.
        algorithm: of the solve.
        thermal: the determinant and traces of finite beta as well.
        pass_seconds: of one more pass over the prompts, where they are drawn again.
    """
    n = D * (D + 1)
    if algorithm == "proximal":
        return _PROXIMAL_STEPS * (_STEP_SECONDS + _THIN_FLOP_SECONDS * 4 * P * n + pass_seconds)
    if algorithm == "cg":
        passes = 1 if P >= n else 4
        step = _STEP_SECONDS + _THIN_FLOP_SECONDS * 4 * P * n + passes * pass_seconds
        return cg_iterations(P, D, ridge, scale) * step
    products = P * n**2 / 2 if algorithm == "dense" else 4 * P**2 * D
    size = n if algorithm == "dense" else P
    return _FLOP_SECONDS * (products + size**3 / 3 * (3 if thermal else 1)) + 6 * pass_seconds


def choose_algorithm(
    P: int,
    D: int,
    ridge: float,
    minimum_norm: bool = False,
    algorithm: str | None = None,
    *,
    scale: float,
    thermal: bool = False,
    pass_seconds: float = 0.0,
    memory: float = math.inf,
    prior: str = "",
) -> Algorithm:
    """The algorithm that a solve will use: the one asked for, or the cheapest.

    Without a wish it is the factorisation of the smaller matrix, unless that does not fit into memory or
    conjugate gradients are estimated to be clearly faster; at finite beta always the former.

    Args:
        P, D, ridge, scale, thermal, pass_seconds: as in `solve_seconds`.
        minimum_norm: at ridge 0 with P < D(D+1), take the solution of least norm.
        algorithm: a name, or None to choose.
        memory: bytes that the matrices may take.
        prior: name of a prior beside the ridge, "" without one.

    Raises:
        ParameterError: unknown algorithm, or one that a prior does not have; at ridge 0 one whose matrix is
            singular, or a ground state that is not unique without `minimum_norm`; conjugate gradients at finite beta.
    """
    n = D * (D + 1)
    if prior:
        if algorithm not in (None, "proximal"):
            raise ParameterError("algorithm", algorithm, f"must be {' or '.join(UNDER_PRIORS)} under the {prior} prior")
        return "proximal"
    if algorithm is not None and algorithm not in RIDGE_ALGORITHMS:
        names = ", ".join((*RIDGE_ALGORITHMS, *OPTIMISERS))
        raise ParameterError(
            "algorithm", algorithm, f"must be one of {names}, or an object like MessagePassing('gamp')"
        )
    if ridge == 0 and n > P and not minimum_norm:
        raise ParameterError(
            "ridge",
            ridge,
            f"must be positive when P = {P} is below D (D + 1) = {n}, or ask for the minimum norm",
        )
    if ridge == 0 and algorithm == "dense" and n > P:
        raise ParameterError("algorithm", algorithm, f"must be dual or cg at ridge 0 with P = {P} < D (D + 1) = {n}")
    if ridge == 0 and algorithm == "dual" and n < P:
        raise ParameterError("algorithm", algorithm, f"must be dense or cg at ridge 0 with P = {P} > D (D + 1) = {n}")
    if algorithm == "cg" and thermal:
        raise ParameterError(
            "algorithm", algorithm, "must be dense or dual at finite beta: log Z and the Gibbs errors need a factor"
        )
    if algorithm is not None:
        return next(known for known in RIDGE_ALGORITHMS if known == algorithm)
    factored: Algorithm = "dual" if n > P else "dense"
    if thermal:
        return factored
    if matrix_bytes(P, D, factored) > memory:
        return "cg"
    direct, iterated = (
        solve_seconds(P, D, one, ridge=ridge, scale=scale, pass_seconds=pass_seconds)
        for one in (factored, RIDGE_ALGORITHMS[2])
    )
    return "cg" if _CG_ADVANTAGE * iterated < direct else factored
