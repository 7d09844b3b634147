"""Covariances of tokens and tasks as they are declared: a named family or a matrix, in training and in test.

What theory and simulator share of a covariance is its matrix and nothing else. Tokens are x ~ N(0, S) and tasks
w ~ N(0, C), in one and the same basis; a family is diagonal in it and has trace D, so that it keeps the size of what it
replaces. A matrix is taken as it is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replica_icl.errors import ParameterError
from replica_icl.keys import array_digest
from replica_icl.parameter import Parameter, is_array, read_npy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FAMILIES = {
    "identity": "",
    "power-law": "EXPONENT",
    "low-rank": "FRACTION",
    "spike": "INDEX",
}
"""Name -> what follows it after a colon. Eigenvalues, before they are brought to trace D: all 1; k^-EXPONENT,
k = 1 .. D; 1 for the first FRACTION of the directions (the nearest number of at least one) and 0 for the others; 1 for
direction INDEX (0 .. D - 1) alone."""
SPEC = ", ".join(name + (f":{argument}" if argument else "") for name, argument in FAMILIES.items())

COVARIANCES: Mapping[str, Parameter] = {
    name: Parameter(name, symbol, f"covariance of {what}: {SPEC} (trace D), or FILE.npy", "array", metavar="SPEC")
    for name, symbol, what in (
        ("task_covariance", "C", "the training tasks (default identity)"),
        ("token_covariance", "S", "the training tokens (default identity)"),
        ("test_task_covariance", "C'", "the test tasks of e_icl_test (default: as trained)"),
        ("test_token_covariance", "S'", "the test tokens of e_icl_test (default: as trained)"),
    )
}
"""The options, by name."""

ASYMMETRY = 1e-10
"""Largest difference from the transpose, and most negative eigenvalue, relative to the largest."""
SMALLEST = 1e-20
"""Covariances whose largest eigenvalue is below it, or above its inverse, have powers that are no numbers."""


def check_spec(name: str, spec: Any) -> None:
    """Refuse what cannot be a covariance, as far as it can be told without D and without reading a file.

    Raises:
        ParameterError: a text that is neither a family with its number nor a .npy file, or something else.
    """
    if isinstance(spec, Covariance) or is_array(spec):
        return
    if not isinstance(spec, str | Path):
        raise ParameterError(name, spec, f"must be {SPEC}, a .npy file or a (D, D) matrix")
    if _family(name, spec) is None and not Path(spec).is_file():
        raise ParameterError(name, spec, f"must be {SPEC}, or a readable .npy file with a (D, D) matrix")


def _family(name: str, spec: str | Path) -> tuple[str, float] | None:
    """The family of a text and its number; None for a file.

    Raises:
        ParameterError: a family with a number that it cannot have.
    """
    family, colon, text = str(spec).partition(":")
    if family not in FAMILIES:
        return None
    if not FAMILIES[family]:
        if colon:
            raise ParameterError(name, spec, f"must have nothing after {family}")
        return family, 0.0
    wanted = {
        "power-law": "a number of at least 0 after power-law:",
        "low-rank": "a number above 0 and at most 1 after low-rank:",
        "spike": "an integer of at least 0 after spike:",
    }[family]
    try:
        number = float(int(text)) if family == "spike" else float(text)
    except (ValueError, OverflowError):
        raise ParameterError(name, spec, f"must have {wanted}") from None
    good = {"power-law": 0 <= number <= 1e3, "low-rank": 0 < number <= 1, "spike": number >= 0}[family]
    if not good:
        raise ParameterError(name, spec, f"must have {wanted}")
    return family, number


def file_digests(options: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of the files among the covariances of some options, by option; of one that is gone an empty text."""
    found = {}
    for name in COVARIANCES:
        spec = options.get(name)
        if isinstance(spec, str) and _family(name, spec) is None:
            path = Path(spec)
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return found


@dataclass(frozen=True, eq=False)
class Covariance:
    """A positive semi-definite matrix.

    Attributes:
        matrix: (D, D), symmetric, read-only. Two covariances are equal if their matrices are.
        told: what it was made from, for messages.
    """

    matrix: NDArray[np.float64]
    told: str = "array"

    @classmethod
    def of(cls, spec: Any, D: int, name: str = "covariance") -> Covariance:
        """Of a family, a .npy file or a matrix, at dimension D.

        Raises:
            ParameterError: (`name`) a file that cannot be read, another shape than (D, D), numbers that are not real
                or not finite, a matrix that is not symmetric or not positive semi-definite, or zero.
        """
        if isinstance(spec, Covariance):
            spec = spec.matrix
        check_spec(name, spec)
        if not isinstance(spec, str | Path):
            return cls(_checked(spec, D, name))
        family = _family(name, spec)
        if family is None:
            return cls(_checked(read_npy(name, spec, "(D, D)"), D, name), str(spec))
        return cls(_diagonal(family, D, name, spec), str(spec))

    @property
    def D(self) -> int:
        return len(self.matrix)

    @cached_property
    def spectrum(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Eigenvalues, (D,), and eigenvectors in columns, (D, D)."""
        import numpy as np

        if self.is_diagonal:
            return np.diag(self.matrix).copy(), np.eye(self.D)
        values, vectors = np.linalg.eigh(self.matrix)
        return np.maximum(values, 0.0), vectors

    @cached_property
    def is_diagonal(self) -> bool:
        import numpy as np

        return not np.any(self.matrix - np.diag(np.diag(self.matrix)))

    @cached_property
    def root(self) -> NDArray[np.float64]:
        """The symmetric square root, (D, D)."""
        import numpy as np

        values, vectors = self.spectrum
        return np.asarray((vectors * np.sqrt(values)) @ vectors.T)

    def mixed(self, entries: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rows of independent entries of unit variance, (..., D), as rows of this covariance."""
        import numpy as np

        return entries * np.sqrt(np.diag(self.matrix)) if self.is_diagonal else entries @ self.root

    @cached_property
    def digest(self) -> str:
        """Of the matrix, see `keys.array_digest`."""
        return array_digest(self.matrix)

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Covariance) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return self.told


def _diagonal(family: tuple[str, float], D: int, name: str, spec: Any) -> NDArray[np.float64]:
    import numpy as np

    kind, number = family
    place = np.arange(D)
    if kind == "spike" and number >= D:
        raise ParameterError(name, spec, f"must have an index from 0 to D - 1 = {D - 1}")
    shape = {
        "identity": np.ones(D),
        "power-law": (place + 1.0) ** -number,
        "low-rank": (place < max(1, math.floor(number * D + 0.5))).astype(float),
        "spike": (place == number).astype(float),
    }[kind]
    return _read_only(np.diag(shape * (D / shape.sum())))


def _checked(given: Any, D: int, name: str) -> NDArray[np.float64]:
    import numpy as np

    try:
        array = np.asarray(given)
    except ValueError:
        raise ParameterError(name, "ragged", f"must be a ({D}, {D}) matrix") from None
    if array.dtype.kind not in "iuf":
        raise ParameterError(name, f"array of {array.dtype}", "must be real numbers")
    if array.shape != (D, D):
        raise ParameterError(name, f"array of shape {array.shape}", f"must have shape (D, D) = ({D}, {D})")
    matrix = np.array(array, dtype=np.float64)
    if not np.isfinite(matrix).all():
        raise ParameterError(name, "array with nan or inf", "must be finite")
    largest = float(np.abs(matrix).max())
    difference = float(np.abs(matrix - matrix.T).max())
    if difference > ASYMMETRY * largest:
        raise ParameterError(
            name, "array", f"must be symmetric: it differs from its transpose by up to {difference:.3g}"
        )
    matrix = (matrix + matrix.T) / 2
    values = np.linalg.eigvalsh(matrix)
    if values[0] < -ASYMMETRY * max(values[-1], 0.0) or (values[-1] <= 0 and values[0] < 0):
        wanted = f"must be positive semi-definite: its smallest eigenvalue is {values[0]:.6g}"
        raise ParameterError(name, "array", wanted)
    if not SMALLEST <= values[-1] <= 1 / SMALLEST:
        wanted = f"must have a largest eigenvalue from {SMALLEST:g} to {1 / SMALLEST:g}, not {values[-1]:.3g}"
        raise ParameterError(name, "array", wanted)
    return _read_only(matrix)


def _read_only(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix.setflags(write=False)
    return matrix


@dataclass(frozen=True)
class Covariances:
    """Those that are given, of tasks and tokens, in training and in test; None for identity, in test for as trained."""

    task: Covariance | None = None
    token: Covariance | None = None
    test_task: Covariance | None = None
    test_token: Covariance | None = None

    @classmethod
    def of(cls, D: int, options: Mapping[str, Any]) -> Covariances:
        """Those among options by name, at dimension D.

        Raises:
            ParameterError: naming the option.
        """
        given = {
            name.removesuffix("_covariance"): Covariance.of(options[name], D, name)
            for name in COVARIANCES
            if options.get(name) is not None
        }
        return cls(**given)

    @property
    def tested(self) -> bool:
        """Whether the test has a covariance of its own."""
        return self.test_task is not None or self.test_token is not None

    def in_test(self) -> Covariances:
        """Those of the test as if they had been trained on."""
        return Covariances(self.test_task or self.task, self.test_token or self.token)
