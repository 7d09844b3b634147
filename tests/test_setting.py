"""A setting refuses bad input by name before any work, and holds plain raw numbers."""

import math
from dataclasses import FrozenInstanceError
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from replica_icl.errors import ParameterError
from replica_icl.setting import Setting, check_integer, check_real

GOOD: dict[str, Any] = {"D": 4, "N": 8, "P": 20, "ridge": 0.1, "noise": 0.25, "beta": 10.0, "K": 5}

NOT_INTEGERS = [True, False, 4.0, 4.5, "4", None, np.float64(4.0), np.True_, math.nan, 4j, Fraction(4)]
NOT_REALS = [True, False, "1", None, 1j, np.True_, Decimal(1)]

BAD = [
    *(("D", value, "integer of at least 2") for value in (1, 0, -4, np.int64(1), *NOT_INTEGERS)),
    *(("N", value, "integer of at least 1") for value in (0, -4, np.int64(0), *NOT_INTEGERS)),
    *(("P", value, "integer of at least 1") for value in (0, -4, np.int64(0), *NOT_INTEGERS)),
    *(("K", value, "integer of at least 1") for value in (0, -4, *NOT_INTEGERS) if value is not None),
    ("K", 21, "at most the number of prompts, P = 20"),
    *((name, 10**400, "at most 1e+15") for name in ("D", "N", "P")),
    *(("ridge", value, "number of at least 0") for value in (-1e-300, -1.0, math.nan, math.inf, 10**400, *NOT_REALS)),
    *(("noise", value, "number of at least 0") for value in (-1e-300, -1.0, math.nan, -math.inf, math.inf, *NOT_REALS)),
    *(("beta", value, "positive number or inf") for value in (0, 0.0, -1.0, math.nan, -math.inf, *NOT_REALS)),
]


@pytest.mark.parametrize(("name", "value", "allowed"), BAD, ids=lambda x: repr(x)[:20])
def test_a_bad_value_is_refused_with_its_name_and_what_is_allowed(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Setting(**{**GOOD, name: value})
    error = caught.value
    assert error.parameter == name
    assert error.value is value
    assert allowed in error.allowed
    assert str(error) == f"{name} = {value}: {error.allowed}"
    assert isinstance(error, ValueError)


def test_ridge_zero_needs_a_unique_ground_state_or_the_minimum_norm_by_name() -> None:
    for P in (1, 16, 19):
        with pytest.raises(ParameterError, match=r"P = \d+ is below D \(D \+ 1\) = 20") as caught:
            Setting(D=4, N=8, P=P, ridge=0.0)
        assert caught.value.parameter == "ridge"
        assert Setting(D=4, N=8, P=P, ridge=0.0, minimum_norm=True).ridge == 0.0
    assert Setting(D=4, N=8, P=20, ridge=0.0).P == 20


def test_there_is_no_finite_temperature_where_the_weight_has_no_norm() -> None:
    with pytest.raises(ParameterError, match="must be inf at ridge 0") as caught:
        Setting(D=4, N=8, P=19, ridge=0.0, beta=5.0, minimum_norm=True)
    assert (caught.value.parameter, caught.value.value) == ("beta", 5.0)
    assert Setting(D=4, N=8, P=20, ridge=0.0, beta=5.0, minimum_norm=True).beta == 5.0


def test_a_setting_is_frozen_and_hashable() -> None:
    setting = Setting(**GOOD)
    for name in GOOD:
        with pytest.raises(FrozenInstanceError):
            setattr(setting, name, 7)
    assert hash(setting) == hash(Setting(**GOOD))


def test_numpy_numbers_become_plain_numbers_and_the_same_setting() -> None:
    integers = {"D": np.int64(4), "N": np.uint8(8), "P": np.int32(20), "K": np.int16(5)}
    reals = {"ridge": np.float64(0.1), "noise": np.float32(0.25), "beta": np.int64(10)}
    setting = Setting(**integers, **reals)
    assert setting == Setting(**GOOD)
    assert repr(setting) == repr(Setting(**GOOD))
    assert all(type(getattr(setting, name)) is int for name in integers)
    assert all(type(getattr(setting, name)) is float for name in reals)


def test_the_least_setting_is_allowed() -> None:
    setting = Setting(D=2, N=2, P=1, ridge=1e-300)
    assert (setting.noise, setting.beta, setting.K, setting.minimum_norm) == (0.0, math.inf, None, False)


@pytest.mark.parametrize(("D", "weights"), [(2, 6), (4, 20), (20, 420)])
def test_every_weight_acts_but_those_of_the_last_column(D: int, weights: int) -> None:
    assert Setting(D=D, N=2, P=1, ridge=1.0).acting_weights == weights == (D + 1) ** 2 - (D + 1)


def test_checks_give_back_plain_numbers_and_respect_their_bounds() -> None:
    assert check_integer("R", np.int64(3), 3) == 3
    assert type(check_real("x", Fraction(1, 4))) is float
    assert check_real("x", math.inf, infinite=True) == math.inf
    assert check_real("x", 0) == 0.0
    with pytest.raises(ParameterError, match=r"x = 0: must be a positive number$"):
        check_real("x", 0, positive=True)


def test_any_field_may_be_a_list_or_an_array_and_they_broadcast_as_arrays_do() -> None:
    grid = Setting(D=4, N=[2, 8, 16], P=[[20], [40]], ridge=0.1, K=np.array([5, 6, 7]), noise=(0.0, 0.1, 0.2))
    assert grid.shape == (2, 3)
    assert grid.dimensions == ("P", "N_noise_K")
    assert grid.point(1, 2) == Setting(D=4, N=16, P=40, ridge=0.1, K=7, noise=0.2)
    assert grid.points()[5] == grid.point(1, 2)
    assert [type(getattr(grid.point(0, 0), name)) for name in ("N", "P", "K", "noise")] == [int, int, int, float]
    assert Setting(**GOOD).points() == (Setting(**GOOD),)


def test_grids_are_equal_and_hash_alike_if_their_numbers_do() -> None:
    first, second = (Setting(D=4, N=[2, 8], P=20, ridge=np.array([0.1, 0.2])) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert first != Setting(D=4, N=[2, 9], P=20, ridge=[0.1, 0.2])
    assert first != Setting(D=4, N=2, P=20, ridge=0.1)
    with pytest.raises(ValueError, match="read-only"):
        first.N[0] = 3


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"N": [8, 0]}, "N", 0),
        ({"N": [8.0, 9.0]}, "N", "[8.0, 9.0]"),
        ({"ridge": [0.1, -0.1]}, "ridge", -0.1),
        ({"beta": [math.inf, math.nan]}, "beta", None),
        ({"noise": [[0.1], [0.1, 0.2]]}, "noise", "[[0.1], [0.1, 0.2]]"),
        ({"P": [20, 4]}, "K", 5),
        ({"ridge": [0.1, 0.0], "P": 19}, "ridge", 0.0),
        ({"minimum_norm": "no"}, "minimum_norm", "no"),
        ({"minimum_norm": 1}, "minimum_norm", 1),
        ({"noise": 1e300}, "noise", 1e300),
        ({"N": [8, 9], "P": [20, 21, 22]}, "N", None),
    ],
)
def test_a_grid_with_one_bad_number_is_refused_by_that_number(changes: dict[str, Any], name: str, value: Any) -> None:
    with pytest.raises(ParameterError) as caught:
        Setting(**{**GOOD, **changes})
    assert caught.value.parameter == name
    assert value is None or caught.value.value == value


def test_settings_stack_to_a_grid() -> None:
    one, other = Setting(**GOOD), Setting(D=4, N=9, P=30, ridge=0.2, K=2)
    grid = Setting.stack([one, other])
    assert grid.points() == (one, other)
    with pytest.raises(ParameterError, match="for every setting of a grid or for none"):
        Setting.stack([one, Setting(D=4, N=9, P=30, ridge=0.2)])
    for bad in ([], [one, 3], [grid]):
        with pytest.raises(ParameterError, match="point = "):
            Setting.stack(bad)


def test_sizes_of_a_grid_may_be_as_large_as_those_of_one_setting() -> None:
    assert Setting(D=[10**15], N=2, P=10**15, ridge=1.0).acting_weights[0] == pytest.approx(1e30)
