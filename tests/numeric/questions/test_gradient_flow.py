"""Gradient flow in the limit: its end points, its bookkeeping, and finite transformers with their 1/D."""

import math

import numpy as np
import pytest

from replica_icl.errors import ParameterError
from replica_icl.numeric.limit import solve_limit
from replica_icl.numeric.questions.gradient_flow import end_point, gradient_flow, marchenko_pastur
from replica_icl.numeric.solution import Status
from replica_icl.ratios import Ratios
from replica_icl.setting import Setting
from replica_icl.simulator.eigenmodes import Eigenmodes, initial_weights
from replica_icl.simulator.laws import PromptLaw
from replica_icl.simulator.observables import icl_error
from replica_icl.simulator.realisation import draw_instance

Z_MAX = 4.0
ALPHAS = (0.3, 0.97, 1.0, 1.04, 5.0)


def point(alpha: float, lam: float, noise: float = 0.25, nu: float = 2.0) -> Ratios:
    return Ratios(alpha=alpha, nu=nu, lam=lam, noise=noise, minimum_norm=True)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_spectral_law_has_the_moments_of_marchenko_and_pastur(alpha: float) -> None:
    a = 1.7
    x, weights, _ = marchenko_pastur(alpha, a, 2000)
    moments = [weights @ x**power for power in range(4)]
    ratio = 1 / alpha
    assert moments == pytest.approx([1, a, a**2 * (1 + ratio), a**3 * (1 + 3 * ratio + ratio**2)], rel=1e-12)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_with_a_ridge_the_flow_ends_in_the_ridge_solution_whatever_the_start(alpha: float) -> None:
    """Two derivations meet: spectral averages here, the replicated action there."""
    end, ridge = gradient_flow(point(alpha, 0.1), math.inf, 0.7), solve_limit(point(alpha, 0.1))
    assert end.status == Status.CONVERGED
    for name in ("e_icl", "train_error", "m", "q"):
        assert getattr(end, name) == pytest.approx(getattr(ridge, name), rel=1e-11), name


@pytest.mark.parametrize("alpha", [0.3, 0.97, 1.04, 5.0])
@pytest.mark.parametrize("variance", [0.0, 0.7])
def test_without_a_ridge_the_flow_ends_in_the_closed_forms(alpha: float, variance: float) -> None:
    flow = gradient_flow(point(alpha, 0.0), [1e9, math.inf], variance)
    assert (flow.status == Status.CONVERGED).all()
    assert flow.e_icl == pytest.approx(end_point(point(alpha, 0.0), variance), rel=1e-9)
    if alpha < 1:
        assert flow.train_error[1] == pytest.approx(0, abs=1e-14)
        forgotten = end_point(point(alpha, 0.0), 0.0)
        a = 1 + 1.25 / 2
        assert flow.e_icl[1] - forgotten == pytest.approx((1 - alpha) * a * variance)


def test_the_transition_without_a_ridge_is_singular_at_infinite_time_only() -> None:
    flow = gradient_flow(point(1.0, 0.0), [0.0, 1.0, 1e4, math.inf])
    assert list(flow.status) == [Status.CONVERGED] * 3 + [Status.SINGULAR]
    assert np.isnan(flow.e_icl[3])
    assert flow.e_icl[2] > 10 > flow.e_icl[1]
    assert end_point(point(1.0, 0.0)) == math.inf


@pytest.mark.parametrize("alpha", ALPHAS)
def test_errors_and_overlaps_belong_to_each_other_and_to_the_flow(alpha: float) -> None:
    """e = 1 + rho - 2 m + a q, and dE/dtau = -(gradient)^2 <= 0 with E = (e_tr + lam q)/2: it falls at all times."""
    times, lam, noise, a = np.linspace(0, 6, 61), 0.2, 0.25, 1 + 1.25 / 2
    flow = gradient_flow(point(alpha, lam), times, 0.4)
    assert (flow.status == Status.CONVERGED).all()
    np.testing.assert_allclose(flow.e_icl, 1 + noise - 2 * flow.m + a * flow.q, rtol=1e-12)
    assert (np.diff(flow.train_error + lam * flow.q) < 0).all()
    assert flow.e_icl[0] == pytest.approx(1 + noise + a * 0.4)
    assert flow.train_error[0] == pytest.approx(1 + noise + a * 0.4)


def test_early_stopping_beats_the_end_point_below_the_transition() -> None:
    flow = gradient_flow(point(0.9, 0.0), np.append(np.geomspace(0.1, 100, 40), math.inf))
    assert flow.e_icl.min() < 0.5 * flow.e_icl[-1]


def test_a_pointwise_failure_is_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replica_icl.numeric.questions.gradient_flow.MOST_NODES", 128)
    flow = gradient_flow(point(1.0001, 0.0), [0.0, math.inf])
    assert flow.status[1] == Status.MAX_ITERATIONS
    assert np.isnan(flow.e_icl[1])
    assert flow.residual[1] > 1e-11


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"times": -1.0}, "times"),
        ({"times": math.nan}, "times"),
        ({"initial_variance": -1.0}, "initial_variance"),
        ({"point": Ratios(alpha=[1, 2], nu=2.0, lam=0.1)}, "point"),
        ({"point": Ratios(alpha=1.0, nu=2.0, lam=0.1, kappa=1.0)}, "kappa"),
        ({"point": Ratios(alpha=1.0, nu=2.0, lam=0.1, beta_tilde=1.0)}, "beta_tilde"),
    ],
)
def test_bad_arguments_are_named(bad: dict, name: str) -> None:
    with pytest.raises(ParameterError) as caught:
        gradient_flow(**{"point": point(2.0, 0.1), "times": 1.0, **bad})
    assert caught.value.parameter == name
    with pytest.raises(ParameterError, match="lam"):
        end_point(point(2.0, 0.1))


TIMES = np.array([0.3, 1.0, 4.0])


def simulated(D: int, alpha: float, lam: float, realisations: int) -> np.ndarray:
    """e_icl and training error at D TIMES, from initial variance 0.5/D; shape (realisations, 3, 2)."""
    setting = Setting(D=D, N=2 * D, P=round(alpha * D * D), ridge=lam / D, noise=0.25, minimum_norm=True)
    law, found = PromptLaw.of("sufficient"), []
    for r in range(realisations):
        features = draw_instance(setting, realisation=r, law=law).features
        modes = Eigenmodes(features, setting.ridge, initial_weights(D, math.sqrt(0.5 / D), np.random.default_rng(r)))
        found.append([(icl_error(at.W, 2 * D, 0.25, D=D), at.training_error) for at in modes.flow(D * TIMES)])
    return np.array(found)


def check_against_transformers(alpha: float, lam: float, sizes: dict[int, int], bias: float) -> None:
    """The distance is within bias/D plus Z_MAX standard errors, and the larger size is closer by their ratio."""
    flow = gradient_flow(point(alpha, lam), TIMES, 0.5)
    theory = np.stack((flow.e_icl, flow.train_error), axis=1)
    scaled, errors = [], []
    for D, realisations in sizes.items():
        values = simulated(D, alpha, lam, realisations)
        scaled.append(D * (values.mean(axis=0) - theory))
        errors.append(D * values.std(axis=0, ddof=1) / math.sqrt(realisations))
        assert (np.abs(scaled[-1]) < bias * (1 + flow.e_icl[:, None]) + Z_MAX * errors[-1]).all(), D
    noise = Z_MAX * np.hypot(errors[0], errors[1])
    # D times the distance is the same at both sizes up to the next order, half of it.
    assert (np.abs(scaled[0] - scaled[1]) < 0.5 * np.abs(scaled[0]) + noise).all()


@pytest.mark.parametrize(("alpha", "lam"), [(0.5, 0.0), (0.5, 0.1), (2.0, 0.0), (2.0, 0.1)])
def test_transformers_follow_the_flow_up_to_one_over_d(alpha: float, lam: float) -> None:
    """Test error at three times on both sides of the transition, D = 10 and 20 (the rate, not only the distance)."""
    check_against_transformers(alpha, lam, {10: 24, 20: 6}, bias=3.0)


@pytest.mark.long
@pytest.mark.parametrize(("alpha", "lam"), [(0.5, 0.0), (0.5, 0.1), (2.0, 0.0), (2.0, 0.1)])
def test_larger_transformers_follow_the_flow_up_to_one_over_d(alpha: float, lam: float) -> None:
    check_against_transformers(alpha, lam, {20: 40, 40: 6}, bias=3.0)
