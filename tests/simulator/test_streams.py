"""Random streams: one for every seed and realisation, the same for ever, and no two of them alike."""

import hashlib
from itertools import combinations

import numpy as np
import pytest

from replica_icl.numeric.task_matrix import draw_task_set
from replica_icl.setting import Setting
from replica_icl.simulator.laws import PromptLaw
from replica_icl.simulator.streams import Streams, random_streams

FRESH = Setting(D=6, N=9, P=60, ridge=0.01)
TASKS = Setting(D=6, N=9, P=60, ridge=0.01, K=5, noise=0.25)


def digest(*arrays: np.ndarray) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array, "<f8").tobytes())
    return found.hexdigest()[:16]


def numbers(streams: Streams) -> tuple[np.ndarray, ...]:
    return tuple(rng.standard_normal(4) for rng in (streams.tasks(), streams.block(2), streams.training()))


def test_streams_of_seeds_of_one_word_are_those_of_stored_results() -> None:
    assert digest(*numbers(random_streams(FRESH, 0, 0))) == "8694d53b59432aeb"
    assert digest(*numbers(random_streams(FRESH, 2**32 - 1, 3))) == "04df7015239f7bc6"
    law = PromptLaw.of("sufficient")
    assert digest(*numbers(random_streams(TASKS, 7, 1, np.eye(6)[:5], law))) == "883661b58176d8fb"
    assert digest(*draw_task_set(TASKS, 5, 7)) == "9014140fa656ffa8"
    assert digest(*draw_task_set(TASKS, 2**32 - 1, 0, sphere=True)) == "86f78534b3f0dd28"


def test_a_seed_of_two_words_is_no_other_seed() -> None:
    """With the words of a seed sequence alone, the tasks of the first are the first block of the second."""
    first, second = random_streams(TASKS, 5 + 7 * 2**32, 1), random_streams(TASKS, 5, 7)
    assert not np.any(first.tasks().standard_normal(4) == second.block(0).standard_normal(4))
    pairs = [(5 + 7 * 2**32, 1), (5, 7), (5, 7 + 2**32), (7, 5), (2**32, 0), (0, 2**32), (0, 0), (2**80, 3), (2**80, 4)]
    drawn = [np.concatenate(numbers(random_streams(FRESH, *pair))) for pair in pairs]
    drawn += [random_streams(FRESH, *pair).block(0).standard_normal(12) for pair in pairs]
    assert not any(np.any(a == b) for a, b in combinations(drawn, 2))


def test_task_sets_of_long_seeds_are_no_others() -> None:
    """With the words alone, the sizes of the second would be read as a part of the first one's seed."""
    one = Setting(D=20, N=40, P=6, ridge=0.1, K=6)
    other = Setting(D=7, N=20, P=40 + 6 * 2**32, ridge=0.1, K=6)
    first, second = draw_task_set(one, 5 + 3 * 2**32, 7)[0], draw_task_set(other, 5, 3)[0]
    assert not np.any(first.ravel()[: second.size] == second.ravel())
    with pytest.raises(ValueError, match="index"):
        draw_task_set(one, 5, -1)
