"""The thermodynamic limit of fresh tasks: against stated closed forms, and against changes far upstream."""

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp

from replica_icl.lowering.model import Model, derive_model
from replica_icl.model.attention.merged import (
    Attention,
    ResidualCovariance,
    linear_attention,
    prediction,
    residual_covariance,
)
from replica_icl.numeric.limit import solve_limit
from replica_icl.ratios import Ratios
from replica_icl.symbolic import symbols as s
from replica_icl.theory.fresh_tasks_limit import (
    FreshTasksLimit,
    derive_fresh_tasks_limit,
    effective_ridge,
    excess,
    response,
    shrinkage,
)
from replica_icl.theory.fresh_tasks_limit import test_error as error_symbol

a, k = s.context_norm, effective_ridge
SHRUNK = 1 - a / (s.alpha * (a + k))

ALPHA = np.array([0.3, 0.9, 1.1, 2.5])
NU, NOISE = 1.7, 0.3
LAM = np.array([0.02, 0.5, 0.1, 1.3])


@pytest.fixture(scope="module")
def limit() -> FreshTasksLimit:
    return derive_fresh_tasks_limit()


def vanishes(expression: sp.Expr) -> bool:
    return sp.expand(sp.numer(sp.together(expression))) == 0


def test_effective_ridge_solves_the_stated_equation(limit: FreshTasksLimit) -> None:
    stated = k - s.lam - k / s.alpha * a / (a + k)
    assert vanishes(limit.ridge_polynomial.as_expr() - sp.cancel(stated * s.alpha * (a + k)))


def test_order_parameters_and_error_are_the_stated_ones(limit: FreshTasksLimit) -> None:
    assert limit.m == 1 / (a + k)
    error = limit.test_error.subs(excess, a - 1).subs(shrinkage, SHRUNK)
    stated = (1 + s.noise - 1 / a + k**2 / (a * (a + k) ** 2)) / (1 - a**2 / (s.alpha * (a + k) ** 2))
    assert vanishes(error - stated)
    assert vanishes(limit.replicon.subs(shrinkage, SHRUNK) - 1 + a**2 / (s.alpha * (a + k) ** 2))
    assert vanishes(limit.excess_value - (1 + s.noise) / s.nu)
    assert limit.ground_observables["train_error"] == error_symbol * shrinkage**2


def test_closed_forms_solve_the_saddle_point_equations(limit: FreshTasksLimit) -> None:
    error = limit.test_error.subs(excess, a - 1).subs(shrinkage, SHRUNK)
    on_saddle = {
        s.m: limit.m,
        s.q: limit.q.subs(s.m, limit.m).subs(error_symbol, error),
        response: (limit.V * s.beta_tilde).subs(shrinkage, SHRUNK),
        s.lam: k * SHRUNK,
    }
    for equation in limit.ground_state.equations.values():
        assert vanishes(equation.subs(on_saddle, simultaneous=True))
        assert not vanishes(equation.subs({**on_saddle, s.m: 2 * limit.m}, simultaneous=True)) or not equation.has(s.m)


def test_ground_state_is_the_zero_temperature_limit(limit: FreshTasksLimit) -> None:
    """The free entropy over beta_tilde at beta_tilde = 10^12, numerically, at one point of the order parameters."""
    values = {s.m: 0.4, s.q: 0.5, a: 1.6, s.alpha: 1.3, s.lam: 0.2, s.noise: 0.1, response: 0.7}
    cold = sp.Float("1e12", 40)
    warm = (limit.saddle.free_entropy / s.beta_tilde).subs(s.V, response / s.beta_tilde).subs(s.beta_tilde, cold)
    assert abs(warm.subs(values) - limit.ground_state.free_entropy.subs(values)) < 1e-9


@pytest.mark.parametrize(("side", "alpha"), [("alpha > 1", 1.5), ("alpha < 1", 0.4)])
def test_ridgeless_limits_are_approached_by_small_ridges(limit: FreshTasksLimit, side: str, alpha: float) -> None:
    stated = limit.ridgeless()[side]
    solved = solve_limit(Ratios(alpha=alpha, nu=NU, lam=1e-9, noise=NOISE))
    values = {s.alpha: alpha, a: 1 + (1 + NOISE) / NU, s.noise: NOISE}
    for name in ("m", "e_icl", "replicon"):
        assert float(stated[name].subs(values)) == pytest.approx(getattr(solved, name), rel=1e-6)


# Upstream: a change of the forward pass, or of one coefficient, reaches the numbers through a new derivation.


def with_covariance(covariance: ResidualCovariance) -> Model:
    return derive_model(replace(linear_attention(), covariance=covariance))


def test_doubled_prediction_halves_the_overlap_at_four_times_the_ridge() -> None:
    """An exact statement: 2 y^(W) at ridge 4 lambda is y^(2 W) at ridge lambda."""
    twice = derive_model(Attention.of(lambda *args: 2 * prediction(*args)))
    doubled = solve_limit(Ratios(alpha=ALPHA, nu=NU, lam=4 * LAM, noise=NOISE), model=twice)
    plain = solve_limit(Ratios(alpha=ALPHA, nu=NU, lam=LAM, noise=NOISE))
    assert np.all(doubled.converged)
    np.testing.assert_allclose(doubled.m, plain.m / 2, rtol=1e-12)
    np.testing.assert_allclose(doubled.q, plain.q / 4, rtol=1e-12)
    for name in ("e_icl", "train_error", "replicon", "contrast"):
        np.testing.assert_allclose(getattr(doubled, name), getattr(plain, name), rtol=1e-12)


def test_doubled_self_overlap_is_twice_the_context_norm_in_the_ridge_equation() -> None:
    """C_ab with 2 T |c|^2 Q_ab: k = lam + (k/alpha) 2a/(2a + k) and m = 1/(2a + k)."""
    covariance = residual_covariance()
    changed = with_covariance(replace(covariance, self_overlap=2 * covariance.self_overlap))
    solved = solve_limit(Ratios(alpha=ALPHA, nu=NU, lam=LAM, noise=NOISE), model=changed)
    plain = solve_limit(Ratios(alpha=ALPHA, nu=NU, lam=LAM, noise=NOISE))
    assert np.all(solved.converged)
    norm = 2 * (1 + (1 + NOISE) / NU)
    ridge = 1 / solved.m - norm
    np.testing.assert_allclose(ridge, LAM + ridge / ALPHA * norm / (norm + ridge), rtol=1e-9)
    assert np.all(np.abs(solved.m / plain.m - 1) > 0.05)


def test_lost_label_noise_in_the_target_shows_in_the_error() -> None:
    """Without rho in the residual's constant the solution is the same but the error is lower."""
    covariance = residual_covariance()
    changed = with_covariance(replace(covariance, constant=covariance.constant.subs(s.noise, 0)))
    solved = solve_limit(Ratios(alpha=ALPHA, nu=NU, lam=LAM, noise=NOISE), model=changed)
    plain = solve_limit(Ratios(alpha=ALPHA, nu=NU, lam=LAM, noise=NOISE))
    np.testing.assert_allclose(solved.m, plain.m, rtol=1e-12)
    np.testing.assert_allclose(plain.e_icl - solved.e_icl, NOISE / plain.replicon, rtol=1e-10)
