"""What tells one piece of work from another: its description as JSON, a hash of it, and the entropy of its streams."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

PACKAGE = Path(__file__).parent

FIRST_FIELDS = frozenset(
    ["D", "N", "P", "ridge", "noise", "beta", "K", "minimum_norm", "alpha", "nu", "lam", "beta_tilde", "kappa"]
)
"""Of a setting or ratios: what every description names. A field that came later is named where it acts, so that it
leaves the random streams, stored results and keys of all that was there before as they were."""

LATER: Mapping[str, Any] = MappingProxyType({"later": True})
"""Metadata of a field of another dataclass that came later and is named where it acts, too."""

WORD = 2**32
"""Integers below it are one word of a seed sequence."""


def named_fields(value: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a dataclass that a description of it names: all, or of a setting or ratios see `FIRST_FIELDS`."""
    every = {field.name: field for field in fields(value)}
    point = "D" in every or "alpha" in every
    for name, one in every.items():
        found = getattr(value, name)
        always = name in FIRST_FIELDS if point else not one.metadata.get("later")
        if always or found != one.default:
            yield name, found


def plain(value: Any, unknown: Callable[[float], Any] = repr) -> Any:
    """Dataclasses, mappings, sequences and arrays of numbers and names as JSON; a `digest` stands for what has one.

    Args:
        unknown: what stands for a number that is not finite; by default its name, so that nothing is lost.

    Raises:
        TypeError: something else.
    """
    if isinstance(value, str | int | None):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else unknown(float(value))
    if isinstance(value, Mapping):
        return {str(name): plain(one, unknown) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one, unknown) for one in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist(), unknown)
    if isinstance(getattr(value, "digest", None), str):
        return value.digest  # large arrays by what they hold
    if is_dataclass(value):
        return {name: plain(one, unknown) for name, one in named_fields(value)}
    raise TypeError(f"{type(value).__name__} is no data: {value!r}")


def as_data(value: Any) -> Any:
    """Data as JSON, with None for what is not finite."""
    return plain(value, unknown=lambda _: None)


def digest(described: Any, length: int = 64) -> str:
    """Of the SHA-256 of JSON, the first `length` hexadecimal digits; the order of names does not matter."""
    text = json.dumps(described, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def array_digest(array: Any) -> str:
    """SHA-256 of the shape and the little-endian float64 bytes of an array, in hexadecimal."""
    import numpy as np

    content = np.ascontiguousarray(array, dtype="<f8")
    return hashlib.sha256(repr(content.shape).encode() + content.tobytes()).hexdigest()


def entropy(*numbers: int) -> tuple[int, ...]:
    """Numbers as the entropy of a random stream: themselves, or one 256-bit hash where one is longer than a word.

    A seed sequence is made of 32-bit words, and a longer integer would take two of them, the second of which is the
    first of what follows: with them, seed 5 + 7 * 2^32, realisation 1 would be seed 5, realisation 7.
    """
    return numbers if max(numbers) < WORD else (int(digest(numbers), 16),)


@cache
def code_version(*parts: str) -> str:
    """A hash over the source of parts of the package (names of modules or folders below it).

    Raises:
        FileNotFoundError: no such part.
    """
    sources: list[Path] = []
    for part in parts:
        folder, module = PACKAGE / part, PACKAGE / f"{part}.py"
        sources += sorted(folder.rglob("*.py")) if folder.is_dir() else [module]
    return digest({path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in sources}, 16)
