"""Relaxed belief propagation on couplings and fields, as published (Li et al., arXiv:2408.02288): without reaction.

On (J, h, lambda), all messages from a weight taken to be its own mean and variance:

    m_i <- (beta h_i + M_i) / (beta lambda_i - V_i),    v_i <- 1 / (beta lambda_i - V_i),
    M_i = beta sum_j J_ij m_j,    V_i = beta^2 sum_j J_ij^2 v_j,    j != i,

each step taken by a share 1 - theta. What a weight itself has caused in the field on it, V_i m_i, is not taken off
(the Onsager reaction): a fixed point solves (beta lambda_i - V_i) m_i = beta (h_i + sum_j J_ij m_j), the ground state
with lambda_i - V_i / beta in place of lambda_i. The mean does not depend on beta, and beta v is one fixed point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse.linalg
from numpy.typing import NDArray

from replica_icl.parameter import check_fraction, check_integer, check_real
from replica_icl.simulator.hamiltonian import Hamiltonian
from replica_icl.status import Status
from replica_icl.threads import one_thread

Array = NDArray[np.float64]

BETA, DAMPING, MAX_ITERATIONS, TOLERANCE = 100.0, 0.9, 100, 1e-3
"""As published; the tolerance is that of the root of the mean squared undamped changes of means and variances."""
DIVERGED = 1e12
"""Size of a mean or of beta v beyond which nothing returns."""


@dataclass(frozen=True, eq=False)
class Beliefs:
    """Where the iteration ended.

    Attributes:
        mean: m, shape (n,), spins ordered as in the Hamiltonian.
        variance: v, shape (n,), at the inverse temperature of the run.
        status: converged, max iterations, non-finite (diverged), or inadmissible (a variance that is not positive).
        change: root of the mean squared undamped change of m plus that of v, in the last iteration.
        iterations: each two products with matrices of n x n.
    """

    mean: Array
    variance: Array
    status: Status
    change: float
    iterations: int


def relaxed_belief_propagation(
    spins: Hamiltonian,
    *,
    beta: float = BETA,
    damping: float = DAMPING,
    max_iterations: int = MAX_ITERATIONS,
    tolerance: float = TOLERANCE,
    rng: np.random.Generator | None = None,
) -> Beliefs:
    """Iterate the published equations, by default with the published settings.

    Args:
        spins: fields, couplings (symmetric or not) and stiffnesses.
        beta: inverse temperature, finite.
        damping: theta in [0, 1), the share of the old messages that is kept.
        max_iterations, tolerance: where to stop.
        rng: draws means and variances to start from, standard Gaussian as published; None: both start at zero.

    Raises:
        ParameterError: naming the parameter.
    """
    inverse = check_real("beta", beta, positive=True)
    kept = check_fraction("damping", damping)
    limit, accuracy = check_integer("max_iterations", max_iterations, 1), check_real("tolerance", tolerance)
    n = len(spins.h)
    mean, variance = np.zeros((2, n)) if rng is None else rng.standard_normal((2, n))
    status, change, iteration = Status.MAX_ITERATIONS, np.inf, 0
    squares = spins.J**2
    with one_thread(), np.errstate(all="ignore"):
        while iteration < limit:
            iteration += 1
            stiffness = inverse * spins.lam - inverse**2 * (squares @ variance)
            new_mean = inverse * (spins.h + spins.J @ mean) / stiffness
            new_variance = 1 / stiffness
            change = float(np.sqrt(np.mean((new_mean - mean) ** 2) + np.mean((new_variance - variance) ** 2)))
            mean = kept * mean + (1 - kept) * new_mean
            variance = kept * variance + (1 - kept) * new_variance
            if not max(np.abs(mean).max(), inverse * np.abs(variance).max()) < DIVERGED:
                status = Status.NON_FINITE
                break
            if change <= accuracy:
                status = Status.CONVERGED
                break
    if status == Status.CONVERGED and not np.all(variance > 0):
        status = Status.INADMISSIBLE
    return Beliefs(mean, variance, status, change, iteration)


def reduced_stiffness(spins: Hamiltonian, tolerance: float = 1e-14, max_iterations: int = 10_000) -> Array | None:
    """lambda_i - V_i / beta at the fixed point of the variances, shape (n,); None where there is none.

    From no reduction downwards: as long as all stay positive the iteration is monotone and ends at the fixed point.
    """
    squares, reduced = spins.J**2, spins.lam.copy()
    for _ in range(max_iterations):
        following = spins.lam - squares @ (1 / reduced)
        if not np.all(following > 0):
            return None
        settled = np.max(np.abs(following / reduced - 1)) <= tolerance
        reduced = following
        if settled:
            return reduced
    return None


def spectral_radius(spins: Hamiltonian, stiffness: Array) -> float:
    """Largest |eigenvalue| of the undamped iteration of the means, J_ij / stiffness_i, for symmetric J.

    Damped by theta an eigenvalue x becomes theta + (1 - theta) x: for x below 1 and theta = 0.9 it diverges only where
    x < -19. Above one, whatever the damping, the fixed point is no minimum: lambda - J reduced is not positive.
    """
    low, high = extreme_eigenvalues(spins, stiffness)
    return max(-low, high)


def extreme_eigenvalues(spins: Hamiltonian, stiffness: Array) -> tuple[float, float]:
    """Least and largest eigenvalue of that iteration."""
    root = 1 / np.sqrt(stiffness)
    scaled = root[:, None] * spins.J * root
    with one_thread():
        found = [
            scipy.sparse.linalg.eigsh(scaled, k=1, which=which, return_eigenvectors=False, tol=1e-8)[0]
            for which in ("SA", "LA")
        ]
    return float(found[0]), float(found[1])
