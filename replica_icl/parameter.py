"""What one parameter is: name, symbol, meaning, kind and range, and how a value of it is checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal

from replica_icl.errors import ParameterError

LARGEST_SIZE = 10**15
"""Above it integers are no longer exact as floating-point numbers."""

Kind = Literal["integer", "real", "flag", "choice", "array", "text"]


@dataclass(frozen=True)
class Parameter:
    """One control parameter.

    Attributes:
        name: in Python, in grid files and datasets; the command line's option with a dash for every underscore.
        symbol: LaTeX, as in the derivations; other_names: what else it is called on the way to the free energy.
        meaning: one line; for ratios their definition.
        kind: integer, real, flag, one of some choices, or an array or a text that its user checks.
        least: smallest value that is allowed; most: the largest.
        positive: the smallest value is not allowed itself (real numbers).
        infinite: infinity is allowed.
        default: value where none is given; `REQUIRED` if there is none.
        metavar: what stands for the value in the command line's help.
    """

    name: str
    symbol: str
    meaning: str
    kind: Kind = "real"
    least: float = 0
    most: float = math.inf
    choices: tuple[str, ...] = ()
    positive: bool = False
    infinite: bool = False
    default: Any = None
    metavar: str = ""
    other_names: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """What is allowed, as the end of a sentence."""
        if self.kind == "flag":
            return "must be true or false"
        if self.kind == "choice":
            return f"must be one of {', '.join(self.choices)}"
        if self.kind == "integer":
            return f"must be an integer of at least {int(self.least)}"
        if self.kind == "real" and not math.isinf(self.most):
            return f"must be a number from {self.least:g} to {self.most:g}"
        if self.positive and self.least == 0:
            return "must be a positive number" + " or inf" * self.infinite
        return f"must be a number of at least {self.least:g}" + " or inf" * self.infinite

    def check(self, value: object) -> Any:
        """One value as int, float or bool.

        Raises:
            ParameterError: another kind of thing, NaN, or out of range.
        """
        if self.kind == "flag":
            if not is_flag(value):
                raise ParameterError(self.name, value, self.allowed)
            return bool(value)
        if self.kind == "choice":
            if not isinstance(value, str) or value not in self.choices:
                raise ParameterError(self.name, value, self.allowed)
            return value
        if self.kind in ("array", "text"):
            return value
        return self._integer(value) if self.kind == "integer" else self._real(value)

    def _integer(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < self.least:
            raise ParameterError(self.name, value, self.allowed)
        if int(value) > self.most:
            raise ParameterError(self.name, value, f"must be at most {self.most:.0e}")
        return int(value)

    def _real(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ParameterError(self.name, value, self.allowed)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        out = not self.least <= number <= self.most or (self.positive and number == self.least)
        if out or (math.isinf(number) and not self.infinite):
            raise ParameterError(self.name, value, self.allowed)
        if number > LARGEST_REAL and not math.isinf(number):
            raise ParameterError(self.name, value, f"must be at most {LARGEST_REAL:g}" + " or inf" * self.infinite)
        return number

    @property
    def flag(self) -> str:
        """Its option on the command line."""
        return f"--{self.name.replace('_', '-')}"

    def parse(self, text: str) -> Any:
        """A value from the command line.

        Raises:
            ParameterError: no such number; the message shows what was typed.
        """
        number: object = text
        try:
            if self.kind == "integer":
                number = int(text) if len(text) < 4000 else text
            elif self.kind == "real":
                number = float(text)
                if math.isinf(number) and "inf" not in text.lower():
                    number = text
        except ValueError:
            pass
        try:
            return self.check(number)
        except ParameterError as error:
            raise ParameterError(self.name, text, error.allowed) from None


LARGEST_REAL = 1e100
"""Largest finite real parameter: its powers in the equations stay floating-point numbers."""


class _Required:
    def __repr__(self) -> str:
        return "(required)"


REQUIRED = _Required()


def is_flag(value: object) -> bool:
    """Whether a value is true or false (Python's or NumPy's) and nothing else that Python takes for one."""
    return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")


def is_array(value: object) -> bool:
    """Whether a value is to be read as an array: a list, a tuple or an array with dimensions."""
    return isinstance(value, list | tuple) or getattr(value, "ndim", 0) > 0


def check_integer(name: str, value: object, least: int) -> int:
    """Return `value` as an int, or raise `ParameterError` when it is no integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ParameterError(name, value, f"must be an integer of at least {least}")
    return int(value)


def check_real(name: str, value: object, *, positive: bool = False, infinite: bool = False) -> float:
    """Return `value` as a float, or raise `ParameterError` when it is NaN, negative or not a number.

    Args:
        positive: zero is not allowed either.
        infinite: positive infinity is allowed.
    """
    return Parameter(name, "", "", positive=positive, infinite=infinite)._real(value)


def check_fraction(name: str, value: object) -> float:
    """Return `value` as a float in [0, 1), or raise `ParameterError` otherwise."""
    number = check_real(name, value)
    if number >= 1:
        raise ParameterError(name, value, "must be at least 0 and below 1")
    return number


def read_npy(name: str, path: str | Path, shape: str) -> Any:
    """The array of a .npy file that parameter `name` gives, mapped into memory.

    Raises:
        ParameterError: a file that is not there or not readable; it says that a matrix of `shape` is expected.
    """
    import numpy as np

    allowed = f"must be a readable .npy file with a {shape} matrix"
    if not Path(path).is_file():
        raise ParameterError(name, path, allowed)
    try:
        return np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError, OverflowError, MemoryError):
        raise ParameterError(name, path, allowed) from None
