"""A model is one forward pass in every number: what a doubled forward pass gives, by every public way to a number.

2 y^(W) at ridge 4 lambda_0 is y^(2 W) at ridge lambda_0: half the weights, four times the Hessian, the same errors. No
number can be right here that takes a part of its equations from the package's own forward pass.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from replica_icl.lowering.model import Model, derive_model
from replica_icl.model.attention.merged import Attention, linear_attention, prediction
from replica_icl.numeric.finite_size import solve_finite_size
from replica_icl.numeric.limit import solve_limit
from replica_icl.numeric.missing_onsager import effective_ridges, solve_without_reaction
from replica_icl.numeric.questions.gradient_flow import end_point, gradient_flow
from replica_icl.numeric.questions.optimal_penalty import optimal_ridge
from replica_icl.numeric.questions.precision import refine_limit
from replica_icl.numeric.questions.sample_spread import sample_spread
from replica_icl.numeric.questions.spectrum import hessian_cdf, hessian_density
from replica_icl.numeric.questions.susceptibility import susceptibility, susceptibility_peak
from replica_icl.numeric.questions.target import smallest_value
from replica_icl.numeric.questions.transfer import transfer_error
from replica_icl.numeric.solution import Solution
from replica_icl.numeric.solve import solve
from replica_icl.numeric.task_diversity import solve_task_diversity
from replica_icl.ratios import Ratios
from replica_icl.setting import Setting

SAME = dict.fromkeys(
    (
        *("e_icl", "e_idg", "e_icl_test", "train_error", "contrast", "replicon"),
        *("e_gibbs", "train_gibbs", "log_Z", "entropy"),
    ),
    1.0,
)
SCALED = {**SAME, "m": 1 / 2, **dict.fromkeys(("q", "u", "V", "V_u"), 1 / 4)}
"""Value of the doubled model over that of the package's."""
POINT = Setting(D=8, N=16, P=60, ridge=0.02, noise=0.3)
SETTINGS = [POINT, replace(POINT, P=150, beta=200.0, noise=0.0), replace(POINT, P=40, ridge=0.0, minimum_norm=True)]
RATIOS = Ratios(
    alpha=np.array([0.3, 0.9, 2.5]), nu=1.7, lam=np.array([0.02, 0.5, 1.3]), noise=0.3, beta_tilde=np.array([2, 9, 5e3])
)


@pytest.fixture(scope="module")
def doubled() -> Model:
    return derive_model(Attention.of(lambda *args: 2 * prediction(*args)))


def ridged(point: Any) -> Any:
    """At four times the ridge."""
    if isinstance(point, list):
        return [ridged(one) for one in point]
    return replace(point, ridge=4 * point.ridge) if isinstance(point, Setting) else replace(point, lam=4 * point.lam)


def assert_doubled(found: Solution, plain: Solution, weights: float = 0.0, rtol: float = 1e-6) -> None:
    """Every value that there is, and what it is made of; log Z and entropy are smaller by log 2 for each weight."""
    assert np.all(plain.converged)
    assert np.all(found.converged)
    values, others = plain.observables(), found.observables()
    assert values.keys() == others.keys()
    for name, value in values.items():
        shift = weights * math.log(2) if name in ("log_Z", "entropy") else 0.0
        np.testing.assert_allclose(others[name], SCALED[name] * value - shift, rtol=rtol, err_msg=name)
    for part in ("next_order", "theory_error", "spread"):
        by_name, other = getattr(plain, part) or {}, getattr(found, part) or {}
        assert by_name.keys() == other.keys()
        for name, value in by_name.items():
            np.testing.assert_allclose(other[name], SCALED[name] * value, rtol=1e-3, atol=1e-12, err_msg=(part, name))


def test_limit(doubled: Model) -> None:
    found = solve_limit(ridged(RATIOS), sizes=9, model=doubled)
    assert_doubled(found, solve_limit(RATIOS, sizes=9), weights=81, rtol=1e-11)


def test_limit_of_finite_task_diversity(doubled: Model) -> None:
    point = replace(RATIOS, kappa=np.array([0.4, 1.0, 3.0]))
    found = solve_task_diversity(ridged(point), sizes=9, model=doubled)
    assert_doubled(found, solve_task_diversity(point, sizes=9), weights=81, rtol=1e-11)


def test_finite_size_with_next_order_and_temperature(doubled: Model) -> None:
    found, plain = solve_finite_size(ridged(SETTINGS), model=doubled), solve_finite_size(SETTINGS)
    assert plain.next_order is not None
    assert np.isfinite(plain.log_Z).tolist() == [False, True, False]
    assert_doubled(found, plain, weights=72)


@pytest.mark.parametrize(
    ("level", "options"), [("limit", {}), ("finite-size", {"spread": True, "test_N": 50, "test_noise": 0.7})]
)
def test_the_entry_point_hands_the_model_on(doubled: Model, level: str, options: dict[str, Any]) -> None:
    assert_doubled(solve(ridged(POINT), level, model=doubled, **options), solve(POINT, level, **options))
    diverse = replace(POINT, K=12)
    assert_doubled(solve(ridged(diverse), "limit", model=doubled), solve(diverse, "limit"))


def test_gradient_flow(doubled: Model) -> None:
    """Weights that are half as large from the start follow the same errors at a quarter of the time."""
    point = Ratios(alpha=0.7, nu=1.7, lam=0.3, noise=0.3)
    times = np.array([0.0, 0.4, 3.0, math.inf])
    plain, found = gradient_flow(point, times, 0.8), gradient_flow(ridged(point), times / 4, 0.2, doubled)
    for name, factor in {"e_icl": 1.0, "train_error": 1.0, "m": 1 / 2, "q": 1 / 4}.items():
        np.testing.assert_allclose(getattr(found, name), factor * getattr(plain, name), rtol=1e-9, err_msg=name)
    bare = replace(point, lam=0.0, minimum_norm=True)
    assert end_point(bare, 0.2, doubled) == pytest.approx(end_point(bare, 0.8), rel=1e-12)


def test_fifty_digits(doubled: Model) -> None:
    at = {"alpha": "1.3", "nu": "2", "noise": "0.1", "beta_tilde": "7"}
    plain, found = refine_limit(lam="0.1", **at), refine_limit(lam="0.4", model=doubled, **at)
    for name, factor in {"m": 2, "q": 4, "V": 4, "e_icl": 1, "train_gibbs": 1}.items():
        assert abs(found[name] * factor / plain[name] - 1) < 1e-45, name


def test_susceptibility(doubled: Model) -> None:
    plain, found = susceptibility(SETTINGS[:2]), susceptibility(ridged(SETTINGS[:2]), model=doubled)
    for name, factor in {"chi_SG": 1, "raw": 16, "trace": 4, "blocks": 16, "replicon": 1}.items():
        np.testing.assert_allclose(factor * getattr(found, name), getattr(plain, name), rtol=1e-6, err_msg=name)
    plain_peak, peak = susceptibility_peak(5, 9, 0.01), susceptibility_peak(5, 9, 0.04, model=doubled)
    assert (peak.P, peak.height) == (plain_peak.P, pytest.approx(plain_peak.height, rel=1e-6))


@pytest.mark.parametrize("eta", [0.0, 0.1])
def test_hessian_spectrum(doubled: Model, eta: float) -> None:
    """The density's own equations and the determinant that counts: 0.736 was once counted where 0.558 is."""
    x = np.array([0.1, 0.5, 1.2])
    plain, found = hessian_density(POINT, x, eta), hessian_density(POINT, 4 * x, 4 * eta, model=doubled)
    for name, factor in {"density": 4, "token_density": 4, "last_row_density": 4, "cdf": 1}.items():
        np.testing.assert_allclose(factor * getattr(found, name), getattr(plain, name), rtol=1e-5, err_msg=name)
    if eta == 0:
        np.testing.assert_allclose(hessian_cdf(POINT, 4 * x, model=doubled), plain.cdf, rtol=1e-5)


def test_spread_over_samples(doubled: Model) -> None:
    plain, found = sample_spread(SETTINGS[:2]), sample_spread(ridged(SETTINGS[:2]), model=doubled)
    for name, value in plain.items():
        np.testing.assert_allclose(found[name], SCALED[name] * value, rtol=1e-6, err_msg=name)


def test_transfer(doubled: Model) -> None:
    plain, found = solve(POINT), solve(ridged(POINT), model=doubled)
    error = transfer_error(POINT, plain, N=50, noise=0.7)
    assert transfer_error(POINT, found, N=50, noise=0.7, model=doubled) == pytest.approx(error, rel=1e-7)
    assert transfer_error(POINT, found, N=50, noise=0.7) != pytest.approx(error, rel=0.1)


def test_optimal_ridge(doubled: Model) -> None:
    quick = replace(POINT, noise=0.0)
    plain = optimal_ridge(quick, lowest=1e-4, highest=10.0, tolerance=1e-4)
    found = optimal_ridge(quick, lowest=4e-4, highest=40.0, tolerance=1e-4, model=doubled)
    assert plain.interior
    assert found.value == pytest.approx(4 * plain.value, rel=1e-2)
    assert found.test_error == pytest.approx(plain.test_error, rel=1e-4)


def test_smallest_size_for_a_target(doubled: Model) -> None:
    for at, sought in ((replace(POINT, noise=0.0, ridge=0.05), "P"), (Ratios(alpha=1.0, nu=2.0, lam=0.3), "alpha")):
        plain, found = smallest_value(at, 0.7, sought), smallest_value(ridged(at), 0.7, sought, model=doubled)
        assert found.value == pytest.approx(plain.value, rel=1e-9)
        assert smallest_value(ridged(at), 0.7, sought).value != pytest.approx(plain.value, rel=0.05)


def test_message_passing_without_the_onsager_reaction(doubled: Model) -> None:
    setting = replace(POINT, P=600, ridge=0.5)
    ridges = effective_ridges(ridged(setting), model=doubled)
    assert ridges == pytest.approx([4 * ridge for ridge in effective_ridges(setting)], rel=1e-12)
    found, plain = solve_without_reaction([ridged(setting)], model=doubled), solve_without_reaction([setting])
    assert_doubled(found, plain)


def test_a_pass_with_another_self_overlap_has_fresh_tasks_as_its_limit_of_many_tasks() -> None:
    """C_ab with 2 T |c|^2 Q_ab is no rescaling: finite task diversity still ends in this model's own fresh tasks."""
    own = linear_attention()
    changed = derive_model(
        replace(own, covariance=replace(own.covariance, self_overlap=2 * own.covariance.self_overlap))
    )
    point = Ratios(alpha=1.3, nu=2.0, lam=0.1, noise=0.2)
    fresh = solve_limit(point, model=changed)
    for kappa in (1e2, 1e4):
        found = solve_task_diversity(replace(point, kappa=kappa), model=changed)
        for name in ("e_icl", "e_idg", "train_error", "m", "q"):
            assert abs(getattr(found, name) / getattr(fresh, name) - 1) < 1 / kappa, name
    assert abs(fresh.m / solve_limit(point).m - 1) > 0.05


def test_prompts_of_a_forward_pass_that_the_moments_cannot_follow_are_refused() -> None:
    with pytest.raises(ValueError, match="no multiple, by a function of the corner"):
        _ = replace(linear_attention(), predict=lambda *args: prediction(*args) ** 2).feature_factor
