"""Prompts that are not kept: every pass over them draws them again from their seeds.

Block k of a realisation has a random stream of its own (`streams.py`) whether its prompts are kept or not, so
prompts in memory are the streamed ones collected, and a result is the same to rounding either way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from replica_icl.setting import Setting
from replica_icl.simulator.features import Features, FeatureSource, block_size, draw_features, merged_size
from replica_icl.simulator.laws import PromptLaw
from replica_icl.simulator.streams import Streams

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StreamedFeatures(FeatureSource):
    """The training prompts of one realisation, by their seeds.

    Attributes:
        setting: the experiment, K set when there are tasks.
        tasks: (K, D) training tasks, None for fresh ones.
        law: of the prompts.
        streams: of the realisation.
    """

    setting: Setting
    tasks: Array | None
    law: PromptLaw
    streams: Streams

    @property
    def P(self) -> int:
        """Number of prompts."""
        return self.setting.P

    @property
    def D(self) -> int:
        """Token dimension."""
        return self.setting.D

    @cached_property
    def target(self) -> Array:  # type: ignore[override]
        """y~, shape (P,): one pass, then kept."""
        return np.concatenate([block.target for block in self.blocks()])

    def block(self, index: int) -> Features:
        """Block number `index`: `block_size(D)` prompts, the last block what is left."""
        size = block_size(self.D)
        n = min(size, self.P - index * size)
        rng = self.streams.block(index)
        return draw_features(self.setting, rng, self.tasks, n=n, law=self.law, first=index * size)

    def blocks(self, rows: int = 1) -> Iterator[Features]:
        """Freshly drawn, as in `FeatureSource.blocks`."""
        size = block_size(self.D)
        number, each = -(-self.P // size), merged_size(self.D, rows) // size
        for first in range(0, number, each):
            parts = [self.block(index) for index in range(first, min(first + each, number))]
            if len(parts) == 1:
                yield parts[0]
            else:
                arrays = ([getattr(part, name) for part in parts] for name in ("context", "query", "target"))
                yield Features(*(np.concatenate(array) for array in arrays))
