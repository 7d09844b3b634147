"""Keys: the same for the same work, another for any other, and blind to what was added later."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from replica_icl import keys
from replica_icl.keys import as_data, code_version, digest, entropy, plain
from replica_icl.setting import Setting

SETTING = Setting(D=6, N=9, P=60, ridge=0.01)


def test_the_code_version_is_of_the_parts_that_are_named() -> None:
    assert code_version("simulator", "setting") != code_version("simulator") != code_version("setting")
    with pytest.raises(FileNotFoundError):
        code_version("no_such_part")


def test_a_changed_source_anywhere_below_a_part_is_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "part" / "below").mkdir(parents=True)
    source = tmp_path / "part" / "below" / "module.py"
    monkeypatch.setattr(keys, "PACKAGE", tmp_path)
    found = set()
    for text in ("a = 1", "a = 2"):
        source.write_text(text)
        found.add(code_version.__wrapped__("part"))
    assert len(found) == 2


def test_what_is_not_finite_keeps_its_name_or_becomes_none() -> None:
    value = {"a": np.array([1.0, np.inf]), "b": (np.float64("nan"), np.int64(3), True, None, "x")}
    assert plain(value) == {"a": [1.0, "inf"], "b": ["nan", 3, True, None, "x"]}
    assert as_data(value) == {"a": [1.0, None], "b": [None, 3, True, None, "x"]}
    with pytest.raises(TypeError, match="no data"):
        plain({"a": {1, 2}})


@dataclass(frozen=True)
class Later(Setting):
    """A setting with a field that did not exist when results were stored."""

    prior: Any = "ridge"


def test_a_later_field_with_its_default_leaves_every_key_as_it_was() -> None:
    later = Later(D=6, N=9, P=60, ridge=0.01)
    assert digest(plain(later)) == digest(plain(SETTING))
    assert digest(plain(Later(D=6, N=9, P=60, ridge=0.01, prior="laplace"))) != digest(plain(SETTING))


def test_numbers_of_more_than_a_word_are_confused_with_no_others() -> None:
    assert entropy(5, 7) == (5, 7)
    assert entropy(2**32 - 1) == (2**32 - 1,)
    numbers = [(5 + 7 * 2**32, 1), (5, 7 + 2**32), (5 + 7 * 2**32,), (5, 2**32), (2**64, 0), (0, 2**64)]
    found = {entropy(*each) for each in numbers}
    assert len(found) == len(numbers)
    states = {tuple(np.random.SeedSequence(each).generate_state(4)) for each in (*found, (5, 7, 1), (5, 7))}
    assert len(states) == len(numbers) + 2
