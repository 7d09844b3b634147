"""Trained weights from a file, .npy, .npz or .safetensors, read by NumPy alone, as one W of the package's units.

A .safetensors file is eight bytes (the length of the header, little-endian), the header (JSON: name -> dtype, shape and
data_offsets), and the raw arrays one after another. Source: the format's own description, huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import ParameterError
from replica_icl.parameter import check_real

Array = NDArray[np.float64]

ROLES = ("W", "W_K", "W_Q", "W_V")
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""Kinds of numbers that are read, of a .safetensors file; a BF16 is the upper half of an F32."""
READABLE = "a readable .npy, .npz or .safetensors file of f64, f32 or f16 numbers (bf16 in .safetensors)"
BROKEN = (OSError, ValueError, EOFError, OverflowError, MemoryError, KeyError, zipfile.BadZipFile, NotImplementedError)


def read_weights(path: str | Path, D: int, names: Mapping[str, str] | None = None, scale: float = 1.0) -> Array:
    """W in the package's units, shape (D+1, D+1), first index context side, of a trained checkpoint.

    The prediction is the entry (D+1, N+1) of (1/N) Z Z^T W Z. W is `scale` times W_K^T W_Q (or the W of the file), and
    times a of a W_V whose last row is (0, ..., 0, a).

    Args:
        path: .npy (one array, W), .npz or .safetensors.
        D: token dimension.
        names: role -> name of the array in the file, the roles W, or W_K and W_Q, and W_V; None: the arrays that are
            called so. W_K and W_Q have the shape (inner, D+1), as torch's Linear keeps them; W and W_V (D+1, D+1).
        scale: what multiplies the file's W: 1 for features divided by N, N/(N+1) for N + 1, N for an undivided sum,
            and times 1/sqrt(inner) where keys . queries are divided by sqrt(inner).

    Raises:
        ParameterError: a file, an array or a name that is not what it must be.
    """
    factor = check_real("scale", scale, positive=True)
    found = _arrays(Path(path))
    chosen = _roles(path, found, names)
    arrays = {role: _finite(path, name, found[name]) for role, name in chosen.items()}
    for role, array in arrays.items():
        square = role in ("W", "W_V")
        if array.ndim != 2 or array.shape[1] != D + 1 or (square and len(array) != D + 1):
            wanted = f"({D + 1}, {D + 1})" if square else f"(inner, {D + 1})"
            raise _refused(path, f"{role} ({chosen[role]}) must have shape {wanted} at D = {D}, not {array.shape}")
    if "W" in arrays:
        W = arrays["W"]
    elif len(arrays["W_K"]) != len(arrays["W_Q"]):
        shapes = f"{arrays['W_K'].shape} and {arrays['W_Q'].shape}"
        raise _refused(path, f"W_K and W_Q must have one inner dimension, not {shapes}")
    else:
        W = arrays["W_K"].T @ arrays["W_Q"]
    if "W_V" in arrays:
        last = arrays["W_V"][D]
        if np.linalg.norm(last[:D]) > 1e-6 * abs(last[D]) or last[D] == 0:
            text = f"the last row of W_V must be (0, ..., 0, a), not of norms {np.linalg.norm(last[:D]):.3g} and"
            raise _refused(
                path, f"{text} {abs(last[D]):.3g}: other values read the tokens out, which the model has not"
            )
        W = W * last[D]
    with np.errstate(over="ignore"):
        W = np.asarray(W * factor, dtype=np.float64)
    if not np.isfinite(W).all():
        raise _refused(path, "the product W must be finite")
    return W


def _refused(path: str | Path, allowed: str) -> ParameterError:
    return ParameterError("FILE", path, allowed)


def _roles(path: str | Path, found: Mapping[str, Any], names: Mapping[str, str] | None) -> dict[str, str]:
    """Role -> name of its array."""
    listed = ", ".join(sorted(found)) or "nothing"
    if names is None:
        chosen = {role: role for role in ROLES if role in found}
        if len(found) == 1 and next(iter(found)) == "":
            chosen = {"W": ""}
    else:
        chosen = dict(names)
        for role, name in chosen.items():
            if role not in ROLES:
                raise ParameterError("names", f"{role}={name}", f"must name {', '.join(ROLES)}")
            if name not in found:
                raise ParameterError("names", f"{role}={name}", f"must name an array of {path}, which holds: {listed}")
    if set(chosen) - {"W_V"} not in ({"W"}, {"W_K", "W_Q"}):
        raise _refused(path, f"must hold W, or W_K and W_Q (and W_V); name them with --names; found: {listed}")
    return chosen


def _finite(path: str | Path, name: str, load: Callable[[], Any]) -> Array:
    try:
        array = np.asarray(load())
    except ParameterError:
        raise
    except BROKEN:
        raise _refused(path, f"must be {READABLE}; {name or 'the array'} cannot be read") from None
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise _refused(path, f"must be {READABLE}; {name or 'the array'} holds {array.dtype}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise _refused(path, f"{name or 'the array'} must be finite")
    return array


def _arrays(path: Path) -> dict[str, Callable[[], Any]]:
    """Name -> what loads it; the one array of a .npy file has the name ""."""
    kind = path.suffix.lower()
    if kind not in (".npy", ".npz", ".safetensors") or not path.is_file():
        raise _refused(path, f"must be {READABLE}")
    try:
        if kind == ".safetensors":
            return _safetensors(path)
        if kind == ".npy":
            array = np.load(path, allow_pickle=False, mmap_mode="r")
            if not isinstance(array, np.ndarray):
                raise ValueError
            return {"": lambda: array}
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError
        return {name: lambda name=name: archive[name] for name in archive.files}  # type: ignore[misc]
    except ParameterError:
        raise
    except BROKEN:
        raise _refused(path, f"must be {READABLE}; this one is broken, or not what its name says") from None


def _safetensors(path: Path) -> dict[str, Callable[[], Any]]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, 100_000_000):
            claims = f"its header claims {length} bytes of a file of {size}"
            raise _refused(path, f"must be a whole .safetensors file; {claims}")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            header = None
    if not isinstance(header, dict):
        raise _refused(path, "must be a .safetensors file; its header is no JSON object")
    header.pop("__metadata__", None)
    return {name: _entry(path, name, one, 8 + length, size) for name, one in header.items()}


def _entry(path: Path, name: str, one: Any, begin: int, size: int) -> Callable[[], Any]:
    """What loads an array of a .safetensors file, once its claims are checked."""

    def counts(value: Any) -> bool:
        return isinstance(value, list) and all(type(x) is int and x >= 0 for x in value)

    offsets, shape, kind = (one.get(x) if isinstance(one, dict) else None for x in ("data_offsets", "shape", "dtype"))
    if not (counts(offsets) and counts(shape) and isinstance(kind, str) and len(offsets or ()) == 2):
        raise _refused(path, f"must be a .safetensors file; {name} has no dtype, shape and data_offsets")
    assert offsets is not None
    assert shape is not None
    first, last = offsets
    if not first <= last <= size - begin:
        claim = f"{name} claims bytes {first} to {last} of {size - begin}"
        raise _refused(path, f"must be a whole .safetensors file; {claim}")
    if kind in FLOATS and math.prod(shape) * np.dtype(FLOATS[kind]).itemsize != last - first:
        claim = f"{name} claims {kind} of shape {tuple(shape)} in {last - first} bytes"
        raise _refused(path, f"must be a whole .safetensors file; {claim}")

    def load() -> Any:
        if kind not in FLOATS:
            raise _refused(path, f"must hold {', '.join(FLOATS)}; {name} holds {kind}")
        raw = np.fromfile(path, FLOATS[kind], math.prod(shape), offset=begin + first)
        if kind == "BF16":
            raw = (raw.astype("<u4") << 16).view("<f4")
        return raw.reshape(shape)

    return load
