"""Solvers under a weight prior: the ridge given back, limits that are known, status, and what is refused."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from replica_icl.errors import ParameterError
from replica_icl.numeric.priors.finite_size import solve_finite_size_prior
from replica_icl.numeric.priors.limit import solve_limit_prior, thermodynamic_penalties
from replica_icl.numeric.solution import Status
from replica_icl.numeric.solve import solve
from replica_icl.priors import Laplace, Prior
from replica_icl.ratios import Ratios
from replica_icl.setting import Setting

OBSERVABLES = ("e_icl", "train_error", "m", "q", "contrast", "replicon")


@dataclass(frozen=True)
class Square(Prior):
    """The ridge, stated as a prior of a user's own."""

    l2: Any

    @staticmethod
    def potential(w: Any, l2: Any) -> Any:
        return l2 * w**2 / 2


def setting(**changes: Any) -> Setting:
    numbers = {"D": 20, "N": 100, "P": 200, "ridge": 0.0, "minimum_norm": True} | changes
    return Setting(**numbers)


def limit(alpha: Any = 1.0, nu: Any = 5.0, **others: Any) -> Ratios:
    return Ratios(alpha=alpha, nu=nu, **({"lam": 0.0, "minimum_norm": True} | others))


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_ridge_as_a_prior_is_the_ridge(noise: float) -> None:
    """By another route: fields kept and iterated, against the closed elimination."""
    P = (60, 200, 1000)
    found = solve_finite_size_prior([setting(P=p, noise=noise) for p in P], Square(0.005))
    known = solve([Setting(D=20, N=100, P=p, ridge=0.005, noise=noise) for p in P])
    for name in (*OBSERVABLES, "u"):
        assert np.allclose(found[name], known.saddle[name], rtol=1e-10, atol=0), name


def test_the_ridge_as_a_prior_is_the_ridge_in_the_limit() -> None:
    alpha = np.geomspace(0.1, 10, 7)
    found = solve_limit_prior(limit(alpha), Square, {"l2": 0.2, "l2_diagonal": 0.2})
    known = solve(Ratios(alpha=alpha, nu=5.0, lam=0.2))
    for name in OBSERVABLES:
        assert np.allclose(getattr(found, name), getattr(known, name), rtol=1e-11, atol=0), name


def test_a_vanishing_laplace_prior_leaves_the_ridge() -> None:
    found = solve_finite_size_prior([Setting(D=12, N=40, P=90, ridge=0.01)], Laplace(1e-12)).point(0)
    known = solve(Setting(D=12, N=40, P=90, ridge=0.01))
    for name in ("e_icl", "m", "q", "train_error"):
        assert math.isclose(found[name], known.saddle[name], rel_tol=1e-7), name


def test_a_strong_laplace_prior_leaves_no_weight() -> None:
    found = solve_finite_size_prior([setting(noise=0.2)], Laplace(50.0)).point(0)
    assert found.status == Status.CONVERGED
    assert (found.m, found.q, found.u) == (0.0, 0.0, 0.0)
    assert math.isclose(found.e_icl, 1.2, rel_tol=1e-6)


def test_every_point_of_a_wide_grid_is_solved() -> None:
    """From few prompts to many, around the transition, penalties over six decades; replica symmetry holds."""
    P, l1 = (a.ravel() for a in np.meshgrid(np.geomspace(20, 20000, 12).astype(int), np.geomspace(1e-6, 1, 7)))
    found = solve_finite_size_prior([setting(P=int(p)) for p in P], Laplace(l1), tolerance=1e-4)
    assert (found.status == Status.CONVERGED).all()
    assert found.residual.max() < 1e-11
    assert found.replicon.min() > 0
    assert (found.q >= found.m**2).all()


def test_the_limit_is_approached_like_one_over_the_dimension() -> None:
    """With the penalty on the diagonal kept, which alone would decay like 1/sqrt(D) only."""
    scale, errors = 0.3, []
    for D in (20, 80, 320):
        raw = Laplace(scale * D**-1.5)
        found = solve_finite_size_prior([setting(D=D, N=3 * D, P=D * D)], raw, tolerance=1e-5).point(0)
        at = solve_limit_prior(limit(nu=3.0), Laplace, thermodynamic_penalties(raw, D))
        errors.append(abs(found.e_icl / at.e_icl - 1))
    assert errors[0] < 0.3
    assert 3.3 < errors[0] / errors[1] < 5
    assert 3.6 < errors[1] / errors[2] < 4.4


def test_the_two_scales_of_an_absolute_value() -> None:
    scaled = thermodynamic_penalties(Laplace(0.02), 25)
    assert math.isclose(scaled["l1"], 0.02 * 125)
    assert math.isclose(scaled["l1_diagonal"], 0.02 * 25)
    # At the scale of the diagonal all off-diagonal weights are zero, and m is what soft thresholding leaves of 1/a.
    alone = solve_limit_prior(limit(), Laplace, {"l1": 1e3, "l1_diagonal": 0.05})
    s = math.sqrt(alone.train_error / alone.e_icl)
    assert math.isclose(s, 1, rel_tol=1e-12)
    assert math.isclose(alone.m, (1 - 0.05) / 1.2, rel_tol=1e-12)
    assert math.isclose(alone.q, alone.m**2, rel_tol=1e-12)


def test_grids_broadcast_in_the_limit() -> None:
    found = solve_limit_prior(limit(np.array([0.5, 1.0, 2.0])), Laplace, {"l1": np.array([[0.2], [0.4]])})
    assert found.e_icl.shape == (2, 3)
    one = solve_limit_prior(limit(2.0), Laplace, {"l1": 0.4})
    assert found.e_icl[1, 2] == one.e_icl


def test_a_point_without_its_accuracy_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replica_icl.numeric.priors.finite_size.MAX_ITERATIONS", 1)
    found = solve_finite_size_prior([setting()], Laplace(0.01))
    assert found.status[0] == Status.MAX_ITERATIONS
    assert np.isnan(found.e_icl[0])


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, "0.1", [0.1, -0.1], True])
def test_a_penalty_must_be_a_positive_number(value: Any) -> None:
    with pytest.raises(ParameterError, match=r"l1 = .*must be a"):
        Laplace(value)


def test_what_there_is_no_theory_for_is_refused_by_name() -> None:
    with pytest.raises(ParameterError, match=r"K = 3: must be absent"):
        solve_finite_size_prior([setting(K=3)], Laplace(0.1))
    with pytest.raises(ParameterError, match=r"beta = 10.0: must be inf"):
        solve_finite_size_prior([Setting(D=5, N=10, P=40, ridge=0.0, beta=10.0)], Laplace(0.1))
    with pytest.raises(ParameterError, match=r"kappa = 0.5: must be absent"):
        solve_limit_prior(limit(kappa=0.5), Laplace, {"l1": 0.1})
    with pytest.raises(ParameterError, match=r"beta_tilde = 2.0: must be inf"):
        solve_limit_prior(Ratios(alpha=2.0, nu=5.0, lam=0.1, beta_tilde=2.0), Laplace, {"l1": 0.1})
    with pytest.raises(ParameterError, match=r"l2 = 0.1: must be one of l1, l1_diagonal"):
        solve_limit_prior(limit(), Laplace, {"l2": 0.1})
    with pytest.raises(ParameterError, match=r"l1 = absent: must be given"):
        solve_limit_prior(limit(), Laplace, {})
    with pytest.raises(ParameterError, match=r"l1 = -1: must be a number of at least 0"):
        solve_limit_prior(limit(), Laplace, {"l1": -1})
