"""The arithmetics that lowered functions run in: NumPy arrays of float64, or mpmath numbers of any precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np


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
    power = staticmethod(_power)

    @staticmethod
    def rational(numerator: int, denominator: int) -> float:
        return numerator / denominator

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
        self.pi = +self.context.pi

    power = staticmethod(_power)

    def number(self, value: Any) -> Any:
        """A float or a decimal string as a number of this precision."""
        return self.context.mpf(value)

    def rational(self, numerator: int, denominator: int) -> Any:
        return self.context.mpf(numerator) / denominator

    @staticmethod
    def where(condition: Any, first: Callable[[], Any], second: Callable[[], Any]) -> Any:
        return first() if condition else second()


NUMPY = NumpyArithmetic()
