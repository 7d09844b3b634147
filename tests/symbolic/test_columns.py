"""Columns of weights with matrix overlaps: the inverse of a replica matrix of matrices as n -> 0, and the slopes."""

import numpy as np
import sympy as sp

from replica_icl.symbolic import columns
from replica_icl.symbolic import symbols as s


def replica_matrix(K: np.ndarray, Delta: np.ndarray, n: int) -> np.ndarray:
    """K delta_ab - Delta, written out."""
    return np.kron(np.eye(n), K) - np.kron(np.ones((n, n)), Delta)


def test_covariance_is_the_inverse_of_the_replica_matrix_as_n_goes_to_zero() -> None:
    """Off the diagonal C at n = 1, 2, 3 extrapolates to V Delta V at n = 0; V, the difference, is that at every n."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((3, 3))
    K, Delta = root @ root.T + np.eye(3), 1e-4 * np.diag([1.0, 2.0, 3.0])
    V = np.linalg.inv(K)
    off = []
    for n in (2, 3, 4):
        inverse = np.linalg.inv(replica_matrix(K, Delta, n))
        np.testing.assert_allclose(inverse[:3, :3] - inverse[:3, 3:6], V, rtol=1e-10, atol=1e-12)
        off.append(inverse[:3, 3:6])
    at_zero = 6 * off[0] - 8 * off[1] + 3 * off[2]  # through n = 2, 3, 4
    np.testing.assert_allclose(at_zero, V @ Delta @ V, rtol=1e-8)


def test_slopes_of_the_ridge_alone_give_the_prior() -> None:
    """Without prompts V = 1 / (beta lambda_0), M = 0 and C = 0 at every slope by M of zero."""
    at = columns.stationary(s.P)
    none = {a: sp.ZeroMatrix(columns.size, columns.size) for a in (columns.slope_V, columns.slope_G)}
    assert at.V.subs(none).doit() == sp.Identity(columns.size) / (s.P * s.ridge)
    assert at.C.subs(none).doit() == sp.ZeroMatrix(columns.size, columns.size)
    assert at.M.subs({columns.slope_M: sp.ZeroMatrix(columns.size, s.D)}).doit() == sp.ZeroMatrix(columns.size, s.D)
