"""The arithmetics that lowered functions run in: NumPy arrays of float64, or mpmath numbers of any precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
from scipy.special import erfc


def _power(base: Any, exponent: int) -> Any:
    """base^exponent by repeated multiplication, for a positive integer exponent."""
    result = None
    while exponent:
        if exponent & 1:
            result = base if result is None else result * base
        exponent >>= 1
        if exponent:
            base = base * base
    return result


class NumpyArithmetic:
    """Vectorised float64; every function works elementwise and broadcasts."""

    pi = np.pi
    log = staticmethod(np.log)
    sqrt = staticmethod(np.sqrt)
    absolute = staticmethod(np.abs)
    atan2 = staticmethod(np.arctan2)
    power = staticmethod(_power)
    matmul = staticmethod(np.matmul)
    inverse = staticmethod(np.linalg.inv)

    @staticmethod
    def normal_tail(t: Any) -> Any:
        """Probability that a standard normal variable exceeds t."""
        return erfc(np.asarray(t) / np.sqrt(2)) / 2

    @staticmethod
    def normal_density(t: Any) -> Any:
        """Density of a standard normal variable."""
        return np.exp(-np.square(t) / 2) / np.sqrt(2 * np.pi)

    @staticmethod
    def rational(numerator: int, denominator: int) -> float:
        return numerator / denominator

    @staticmethod
    def identity(size: float) -> np.ndarray:
        return np.eye(round(size))

    @staticmethod
    def where(condition: Any, first: Callable[[], Any], second: Callable[[], Any]) -> Any:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.where(condition, first(), second())


class MpmathArithmetic:
    """One point at `digits` decimal digits. Arguments have to be made with `number`."""

    def __init__(self, digits: int = 50) -> None:
        self.context = mpmath.MPContext()
        self.context.dps = digits
        self.log = self.context.log
        self.sqrt = self.context.sqrt
        self.absolute = self.context.fabs
        self.atan2 = self.context.atan2
        self.pi = +self.context.pi

    power = staticmethod(_power)

    def normal_tail(self, t: Any) -> Any:
        """Probability that a standard normal variable exceeds t."""
        return self.context.erfc(t / self.sqrt(2)) / 2

    def normal_density(self, t: Any) -> Any:
        """Density of a standard normal variable."""
        return self.context.exp(-t * t / 2) / self.sqrt(2 * self.pi)

    def number(self, value: Any) -> Any:
        """A float or a decimal string as a number of this precision."""
        return self.context.mpf(value)

    def rational(self, numerator: int, denominator: int) -> Any:
        return self.context.mpf(numerator) / denominator

    def identity(self, size: Any) -> Any:
        return self.context.eye(round(size))

    def inverse(self, matrix: Any) -> Any:
        return self.context.inverse(matrix)

    @staticmethod
    def matmul(left: Any, right: Any) -> Any:
        return left * right

    @staticmethod
    def where(condition: Any, first: Callable[[], Any], second: Callable[[], Any]) -> Any:
        return first() if condition else second()


NUMPY = NumpyArithmetic()
