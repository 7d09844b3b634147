"""The next order of the free entropy, against its parts written by hand at one value of the prompt's scalars."""

import sympy as sp

from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import concentrate
from replica_icl.symbolic.next_order import fluctuation_entropy
from replica_icl.theory.fresh_tasks import EXTRA_PAIRINGS, derive_fresh_tasks

THEORY = derive_fresh_tasks()
SCALARS = dict(zip(s.SCALARS, (sp.Rational(x, 10) for x in (9, 11, 8, 14, 12)), strict=True))
NAMES = (s.D, s.P, s.inverse_scale, s.noise, s.m, s.q, s.V, s.u, s.V_u)
VALUES = dict(zip(NAMES, (sp.Rational(x, 90) for x in (540, 1800, 135, 30, 36, 45, 63, 10, 18)), strict=True))


def test_a_stable_function_of_one_block() -> None:
    r = sp.Symbol("r", positive=True)
    gaussian = fluctuation_entropy(sp.Matrix([[r]]), sp.zeros(1, 1))
    assert sp.simplify(gaussian + sp.log(1 - r) / 4 + r / 2) == 0
    with_pairings = fluctuation_entropy(sp.Matrix([[r]]), sp.Matrix([[6]]))
    assert sp.simplify(with_pairings - gaussian - sp.Rational(3, 4) * r**2) == 0


def by_hand(step: sp.Expr) -> sp.Expr:
    """phi with V, V_u and T chi moved along what the replicas share, all prompts at SCALARS."""
    T, omega, g, a, corner = SCALARS.values()
    D, P, b, noise, m, q, V, u, V_u = VALUES.values()
    rule = g / a
    R = T * (omega - 2 * m * g + q * a + u * corner**2) + noise
    shrunk = 1 / (1 + b * (T * (V * a + V_u * corner**2) + step * R))
    v, v_u = V + step * (q - 2 * rule * m + rule**2), V_u + step * u
    sizes = (a, corner**2)
    X = sp.Matrix(
        2,
        2,
        lambda i, j: P * (b * T * shrunk) ** 2 * sizes[i] * sizes[j] * ((v / D) ** 2 if i == 0 else v_u**2 / D),
    )
    return (
        -sp.log((sp.eye(2) - X).det()) / 4 - X.trace() / 2 + sp.Rational(3, 4) * (X[0, 0] ** 2 + 2 * X[0, 1] * X[1, 0])
    )


def test_both_parts_are_phi_and_its_derivative_along_what_the_replicas_share() -> None:
    step = sp.Symbol("epsilon")
    expected = by_hand(step)
    found = THEORY.next_order
    thermal, shared = (concentrate(x, SCALARS).subs(VALUES) for x in (found.thermal, found.shared))
    assert abs(sp.N(thermal - expected.subs(step, 0), 30)) < 1e-25
    assert abs(sp.N(shared - expected.diff(step).subs(step, 0), 30)) < 1e-25
    assert abs(sp.N(shared)) > 1e-3


def test_the_last_row_has_pairings_of_its_own() -> None:
    assert EXTRA_PAIRINGS == EXTRA_PAIRINGS.T
    assert EXTRA_PAIRINGS[1, 1] == 0  # its features are one number times a Gaussian vector
