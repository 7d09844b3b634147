"""The same lowered functions in two arithmetics."""

import numpy as np
import pytest

from replica_icl.numeric.arithmetic import NUMPY, MpmathArithmetic
from replica_icl.numeric.questions.precision import refine_limit


def test_more_digits_agree_on_the_digits_that_fewer_have() -> None:
    few, many = (refine_limit("0.9", "2", "1e-9", "0.1", beta_tilde="3", digits=digits) for digits in (30, 80))
    assert set(few) == set(many) >= {"k", "s", "m", "q", "v", "V", "e_icl", "free_entropy", "replicon"}
    for name, value in few.items():
        assert abs(value - many[name]) < abs(many[name]) * 1e-27, name


def test_a_decimal_string_is_the_decimal_and_a_float_the_binary_number() -> None:
    from_string, from_float = (refine_limit(alpha, 2, "0.25")["e_icl"] for alpha in ("0.1", 0.1))
    assert 0 < abs(from_string - from_float) < 1e-15


def test_without_temperature_there_is_no_thermal_observable() -> None:
    assert not {"V", "e_gibbs", "train_gibbs", "free_entropy"} & set(refine_limit(2, 2, "0.1"))


@pytest.mark.parametrize("exponent", [1, 2, 3, 4, 7, 12])
def test_powers_by_multiplication_are_powers(exponent: int) -> None:
    base = np.array([0.5, -1.25, 3.0])
    np.testing.assert_allclose(NUMPY.power(base, exponent), base**exponent, rtol=1e-15)
    assert MpmathArithmetic(30).power(7, exponent) == 7**exponent


def test_a_branch_that_is_not_taken_may_not_exist() -> None:
    x = np.array([0.0, 4.0])
    values = NUMPY.where(x > 0, lambda: 1 / x, lambda: x)
    np.testing.assert_array_equal(values, [0.0, 0.25])
    exact = MpmathArithmetic(30)
    zero = exact.number(0)
    assert exact.where(zero > 0, lambda: 1 / zero, lambda: zero) == 0


def test_rational_constants_are_exact_in_both_arithmetics() -> None:
    assert NUMPY.rational(1, 3) == 1 / 3
    third = MpmathArithmetic(40).rational(1, 3)
    assert abs(3 * third - 1) < 1e-39
