"""Random streams keyed by what is simulated, so that a result depends on nothing else.

Realisation r of a setting draws from a stream fixed by the raw numbers of the setting (and the bytes of a
given task matrix), the seed and r: not by the number of workers, the order of work, the other realisations or
the grid that the setting is a point of.
"""

from __future__ import annotations

import hashlib
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from replica_icl.setting import Setting, check_integer

Array = NDArray[np.float64]


def tasks_digest(tasks: Array) -> str:
    """SHA-256 of the shape and the little-endian float64 bytes of a task matrix, in hexadecimal."""
    content = np.ascontiguousarray(tasks, dtype="<f8")
    return hashlib.sha256(repr(content.shape).encode() + content.tobytes()).hexdigest()


def setting_key(setting: Setting, tasks: Array | None = None) -> int:
    """A 128-bit integer that names an experiment: a hash over the repr of every field of the setting.

    It is the same in every process and on every machine (unlike `hash`).
    """
    numbers = ";".join(f"{field.name}={getattr(setting, field.name)!r}" for field in fields(setting))
    given = "" if tasks is None else f";tasks={tasks_digest(tasks)}"
    return int.from_bytes(hashlib.sha256((numbers + given).encode()).digest()[:16], "little")


def random_stream(setting: Setting, seed: int, realisation: int, tasks: Array | None = None) -> np.random.Generator:
    """The generator of one disorder realisation.

    Args:
        setting: the experiment, with K set when `tasks` is given.
        seed: integer >= 0.
        realisation: index r >= 0.
        tasks: (K, D) task matrix when one is given.

    Raises:
        ParameterError: negative seed or index.
    """
    entropy = [setting_key(setting, tasks), check_integer("seed", seed, 0)]
    index = check_integer("realisation", realisation, 0)
    return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(index,)))
