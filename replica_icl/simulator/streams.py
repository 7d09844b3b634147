"""Random streams keyed by what is simulated, so that a result depends on nothing else.

Realisation r of a setting draws from streams fixed by the raw numbers of the setting (with the bytes of a given
task matrix and the law of the prompts, if it is another one), the seed and r: not by the number of workers, the
order of work, the other realisations or the grid that the setting is a point of. Within a realisation the tasks
have a stream and every block of prompts has one, so that any block can be drawn again on its own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replica_icl.keys import array_digest, entropy, named_fields
from replica_icl.setting import Setting, check_integer
from replica_icl.simulator.laws import GAUSSIAN_PROMPTS, PromptLaw

Array = NDArray[np.float64]


def setting_key(setting: Setting, tasks: Array | None = None, law: PromptLaw = GAUSSIAN_PROMPTS) -> int:
    """A 128-bit integer that names an experiment: a hash over the repr of the fields of the setting.

    It is the same in every process and on every machine (unlike `hash`).
    """
    numbers = ";".join(f"{name}={value!r}" for name, value in named_fields(setting))
    given = "" if tasks is None else f";tasks={array_digest(tasks)}"
    other = f";{law.key}" if law.key else ""
    return int.from_bytes(hashlib.sha256((numbers + given + other).encode()).digest()[:16], "little")


@dataclass(frozen=True)
class Streams:
    """The generators of one disorder realisation.

    Attributes:
        entropy: key of the experiment and seed.
        realisation: index r; 0 where seed and index are in one number of the entropy (`keys`).
    """

    entropy: tuple[int, ...]
    realisation: int

    def _child(self, *path: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.entropy, spawn_key=(self.realisation, *path)))

    def tasks(self) -> np.random.Generator:
        """The generator of the task matrix."""
        return self._child(0)

    def block(self, index: int) -> np.random.Generator:
        """The generator of block number `index` of the prompts, always in its initial state."""
        return self._child(1, index)

    def training(self) -> np.random.Generator:
        """The generator of initial weights and mini-batches."""
        return self._child(2)


def random_streams(
    setting: Setting, seed: int, realisation: int, tasks: Array | None = None, law: PromptLaw = GAUSSIAN_PROMPTS
) -> Streams:
    """The generators of one disorder realisation.

    Args:
        setting: the experiment, with K set when `tasks` is given.
        seed: integer >= 0.
        realisation: index r >= 0.
        tasks: (K, D) task matrix when one is given.
        law: of the prompts.

    Raises:
        ParameterError: negative seed or index.
    """
    numbers = check_integer("seed", seed, 0), check_integer("realisation", realisation, 0)
    key, words = setting_key(setting, tasks, law), entropy(*numbers)
    return Streams((key, *words), 0) if words != numbers else Streams((key, seed), realisation)
