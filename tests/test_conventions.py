"""Units: every conversion has an inverse, and its factor is the one that the physics asks for."""

import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from replica_icl.conventions import (
    LuUnits,
    ratios_from_lu,
    ratios_to_lu,
    ridge_from_li,
    ridge_from_weight_decay,
    ridge_to_li,
    weight_decay_from_ridge,
)
from replica_icl.errors import ParameterError
from replica_icl.ratios import Ratios, ratios, setting_at
from replica_icl.setting import Setting
from replica_icl.simulator.features import draw_features
from replica_icl.simulator.ground_state import ground_state

positive = st.floats(1e-12, 1e12)


@st.composite
def settings(draw: st.DrawFn) -> Setting:
    """Any setting with a positive ridge."""
    P = draw(st.integers(1, 10**6))
    return Setting(
        D=draw(st.integers(2, 500)),
        N=draw(st.integers(2, 5000)),
        P=P,
        ridge=draw(positive),
        noise=draw(st.floats(0, 100)),
        beta=draw(st.one_of(positive, st.just(math.inf))),
        K=draw(st.one_of(st.none(), st.integers(1, P))),
    )


@given(settings())
def test_a_setting_comes_back_from_its_ratios(setting: Setting) -> None:
    back = setting_at(ratios(setting), setting.D)
    assert (back.D, back.N, back.P, back.K) == (setting.D, setting.N, setting.P, setting.K)
    assert (back.noise, back.minimum_norm) == (setting.noise, setting.minimum_norm)
    assert back.ridge == pytest.approx(setting.ridge, rel=1e-14)
    assert back.beta == pytest.approx(setting.beta, rel=1e-14)


@given(settings())
def test_ratios_are_the_powers_of_dimension_of_the_limit(setting: Setting) -> None:
    point, D = ratios(setting), setting.D
    assert point.alpha * D**2 == pytest.approx(setting.P, rel=1e-14)
    assert point.nu * D == pytest.approx(setting.N, rel=1e-14)
    assert point.lam / D == pytest.approx(setting.ridge, rel=1e-14)
    assert point.beta_tilde * D**2 == pytest.approx(setting.beta, rel=1e-14)
    assert point.noise == setting.noise
    assert (point.kappa is None) == (setting.K is None)
    if setting.K is not None:
        assert point.kappa * D == pytest.approx(setting.K, rel=1e-14)


def test_the_minimum_norm_survives_the_round_trip() -> None:
    setting = Setting(D=10, N=20, P=50, ridge=0.0, minimum_norm=True)
    assert setting_at(ratios(setting), 10) == setting


@pytest.mark.parametrize(
    ("name", "point", "value"),
    [
        ("N", Ratios(alpha=1.0, nu=0.25, lam=0.1), 2.5),
        ("P", Ratios(alpha=0.505, nu=1.0, lam=0.1), 50.5),
        ("K", Ratios(alpha=1.0, nu=1.0, lam=0.1, kappa=0.33), 3.3),
    ],
)
def test_a_fraction_of_a_prompt_is_refused_and_never_rounded(name: str, point: Ratios, value: float) -> None:
    with pytest.raises(ParameterError, match="at D = 10 these ratios give a fraction") as caught:
        setting_at(point, 10)
    assert caught.value.parameter == name
    assert caught.value.value == pytest.approx(value)


@given(positive, st.integers(1, 10**6))
def test_li_units_have_an_inverse(ridge: float, N: int) -> None:
    assert ridge_to_li(ridge_from_li(ridge, N), N) == pytest.approx(ridge, rel=1e-14)
    assert ridge_from_li(ridge, N) > ridge


def test_dividing_features_by_n_plus_one_is_a_larger_ridge_for_the_same_predictions() -> None:
    """Li et al.'s public code divides c~ by N + 1: with the converted ridge both make the same predictions."""
    features = draw_features(Setting(D=4, N=5, P=30, ridge=0.1), np.random.default_rng(0))
    theirs = replace(features, context=features.context * 5 / 6)
    li = ground_state(theirs, 0.01)
    ours = ground_state(features, ridge_from_li(0.01, N=5))
    np.testing.assert_allclose(theirs.predict(li.W), features.predict(ours.W), rtol=1e-9)


def test_weight_decay_on_the_plain_mse_is_twice_the_ridge() -> None:
    """The gradient of (1/P) sum r^2 + (wd/2) |W|^2 vanishes at the ground state of ridge wd / 2."""
    features = draw_features(Setting(D=4, N=8, P=30, ridge=0.1), np.random.default_rng(1))
    decay = 0.04
    W = ground_state(features, ridge_from_weight_decay(decay)).W
    residual = features.predict(W) - features.target
    gradient = 2 / features.P * features.apply_transpose(residual) + decay * W[:, :4]
    assert np.abs(gradient).max() < 1e-12


@given(positive)
def test_weight_decay_has_an_inverse(ridge: float) -> None:
    assert ridge_from_weight_decay(weight_decay_from_ridge(ridge)) == ridge


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (ridge_from_li, (-1.0, 5), "ridge"),
        (ridge_to_li, (math.nan, 5), "ridge"),
        (ridge_from_weight_decay, (-0.1,), "weight_decay"),
        (weight_decay_from_ridge, (math.inf,), "ridge"),
    ],
)
def test_a_conversion_refuses_what_is_no_ridge(function: Any, arguments: tuple[Any, ...], name: str) -> None:
    with pytest.raises(ParameterError) as caught:
        function(*arguments)
    assert caught.value.parameter == name


@given(settings())
def test_lu_symbols_come_back_as_the_same_setting(setting: Setting) -> None:
    lu = LuUnits.of(setting)
    assert (lu.d, lu.l, lu.n, lu.k) == (setting.D, setting.N, setting.P, setting.K)
    assert (lu.ridge, lu.rho) == (setting.ridge * setting.D, setting.noise)
    back = lu.setting()
    assert replace(back, ridge=1.0) == replace(setting, ridge=1.0, beta=math.inf)
    assert back.ridge == pytest.approx(setting.ridge, rel=1e-14)


@given(positive, positive, st.one_of(st.none(), positive), positive, st.floats(0, 100))
def test_lu_ratios_swap_their_alpha_and_tau_into_our_nu_and_alpha(
    alpha: float, tau: float, kappa: float | None, ridge: float, rho: float
) -> None:
    point = ratios_from_lu(alpha, tau, kappa, ridge, rho)
    assert (point.nu, point.alpha, point.kappa, point.lam, point.noise) == (alpha, tau, kappa, ridge, rho)
    back = ratios_to_lu(point)
    assert back == {"alpha": alpha, "tau": tau, "kappa": kappa, "ridge": ridge, "rho": rho}


@given(settings())
def test_lu_symbols_and_lu_ratios_name_the_same_point(setting: Setting) -> None:
    assume(math.isinf(setting.beta))
    lu = LuUnits.of(setting)
    kappa = None if lu.k is None else lu.k / lu.d
    point = ratios_from_lu(lu.l / lu.d, lu.n / lu.d**2, kappa, lu.ridge, lu.rho)
    assert point == ratios(setting)


GOOD: dict[str, Any] = {"alpha": 2.0, "nu": 3.0, "lam": 0.1, "noise": 0.2, "beta_tilde": 5.0, "kappa": 0.5}
BAD = [
    *((name, value) for name in ("alpha", "nu", "beta_tilde", "kappa") for value in (0, -1.0, math.nan, "1", True)),
    *((name, value) for name in ("lam", "noise") for value in (-1e-9, math.nan, math.inf, "1", False)),
    *((name, math.inf) for name in ("alpha", "nu", "kappa")),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_ratios_are_refused_alone_and_inside_an_array(name: str, value: Any) -> None:
    with pytest.raises(ParameterError) as caught:
        Ratios(**{**GOOD, name: value})
    assert caught.value.parameter == name
    np.testing.assert_equal(caught.value.value, value)
    if isinstance(value, float | int) and not isinstance(value, bool):
        with pytest.raises(ParameterError) as caught:
            Ratios(**{**GOOD, name: np.array([[1.0], [value]])})
        assert caught.value.parameter == name
        np.testing.assert_equal(caught.value.value, float(value))


def test_an_array_of_anything_but_numbers_is_refused() -> None:
    for value in (["1", "2"], [None, 1.0], [[1.0], [1.0, 2.0]], [True, True], [1j, 2.0]):
        with pytest.raises(ParameterError, match=r"must be a positive number \(or an array of them\)") as caught:
            Ratios(alpha=value, nu=1.0, lam=0.1)
        assert caught.value.parameter == "alpha"


def test_arrays_broadcast_and_the_shape_says_how() -> None:
    assert Ratios(alpha=1.0, nu=1.0, lam=0.1).shape == ()
    assert Ratios(alpha=np.ones((3, 1)), nu=np.ones(4), lam=0.1, kappa=np.ones((2, 1, 1))).shape == (2, 3, 4)


def test_arrays_that_do_not_broadcast_are_refused_with_their_shapes() -> None:
    with pytest.raises(ParameterError, match="must broadcast") as caught:
        Ratios(alpha=np.ones(3), nu=np.ones(4), lam=0.1)
    assert "(3,)" in caught.value.allowed
    assert "(4,)" in caught.value.allowed


def test_zero_dimensional_arrays_and_numpy_scalars_become_floats() -> None:
    point = Ratios(alpha=np.array(2.0), nu=np.float32(3.0), lam=np.int64(1))
    assert [type(x) for x in (point.alpha, point.nu, point.lam)] == [float] * 3


def test_lam_zero_below_the_transition_needs_the_minimum_norm_by_name() -> None:
    alpha = np.array([2.0, 0.5])
    with pytest.raises(ParameterError, match="ground state is not unique") as caught:
        Ratios(alpha=alpha, nu=1.0, lam=0.0)
    assert caught.value.parameter == "lam"
    with pytest.raises(ParameterError, match="must be inf at lam = 0") as caught:
        Ratios(alpha=alpha, nu=1.0, lam=0.0, beta_tilde=1.0, minimum_norm=True)
    assert caught.value.parameter == "beta_tilde"
    assert Ratios(alpha=alpha, nu=1.0, lam=0.0, minimum_norm=True).shape == (2,)
    assert Ratios(alpha=alpha, nu=1.0, lam=np.array([0.0, 0.1]), beta_tilde=1.0).shape == (2,)
    assert Ratios(alpha=1.0, nu=1.0, lam=0.0).lam == 0.0


def test_ratios_are_frozen_down_to_their_arrays() -> None:
    grid = np.array([1.0, 2.0])
    point = Ratios(alpha=grid, nu=1.0, lam=0.1)
    with pytest.raises(FrozenInstanceError):
        point.nu = 2.0  # type: ignore[misc]
    grid[0] = -1.0
    assert point.alpha.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        point.alpha[0] = -1.0
