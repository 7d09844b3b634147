"""Cells: whole or not there, never another's, one process at a time."""

from pathlib import Path

import pytest

from replica_icl import cells as module
from replica_icl.cells import Cells, code_version, key_of
from replica_icl.errors import ParameterError
from replica_icl.simulator.storage import StorageError

WHAT = {"b": 1, "a": [0.1, None]}


def test_a_cell_is_computed_once_and_reads_back_bit_by_bit(tmp_path: Path) -> None:
    calls = []

    def compute() -> dict[str, object]:
        calls.append(1)
        return {"x": 0.1 + 0.2, "y": [1e-300, None]}

    with Cells(tmp_path / "cells") as cells:
        first = cells.get(WHAT, compute)
        assert cells.get(dict(reversed(WHAT.items())), compute) == first == {"x": 0.1 + 0.2, "y": [1e-300, None]}
        assert len(calls) == 1
        cells.get({**WHAT, "b": 2}, compute)
    assert len(calls) == 2


def test_half_written_and_foreign_files_are_no_cells(tmp_path: Path) -> None:
    with Cells(tmp_path) as cells:
        key = key_of(WHAT)
        cells.write(key, WHAT, {"x": 1})
        whole = cells.path(key).read_text()
        for text in (whole[: len(whole) // 2], "[]", "", whole.replace(key, key_of({"other": 1}))):
            cells.path(key).write_text(text)
            assert cells.read(key) is None


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with Cells(tmp_path), pytest.raises(ParameterError, match="in use"):
        Cells(tmp_path)
    Cells(tmp_path).close()


def test_a_failed_write_is_one_error_and_keeps_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Cells(tmp_path) as cells:
        cells.write(key_of(WHAT), WHAT, {"x": 1})

        def full(path: Path, data: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(module, "write_whole", full)
        with pytest.raises(StorageError, match=r"No space left.*1 finished cells"):
            cells.write(key_of({"a": 2}), {"a": 2}, {"x": 2})
        assert cells.read(key_of(WHAT)) == {"x": 1}


def test_the_code_version_is_of_the_parts_that_are_named() -> None:
    assert code_version("simulator", "setting") != code_version("simulator") != code_version("setting")
    with pytest.raises(FileNotFoundError):
        code_version("no_such_part")
