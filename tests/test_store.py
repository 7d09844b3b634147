"""Cells: whole or not there, never another's, one process at a time."""

from collections.abc import Callable
from pathlib import Path

import pytest

from replica_icl import store
from replica_icl.errors import ParameterError, StorageError
from replica_icl.keys import digest
from replica_icl.store import Cells, read_sealed, write_sealed

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
        cells.write(WHAT, {"x": 1})
        (path,) = [path for path in tmp_path.iterdir() if path.name != "cells.json"]
        whole = path.read_text()
        for text in (whole[: len(whole) // 2], "[]", "", whole.replace(path.stem, digest({"other": 1}, 24))):
            path.write_text(text)
            assert cells.read(WHAT) is None


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with Cells(tmp_path), pytest.raises(ParameterError, match="in use"):
        Cells(tmp_path)
    Cells(tmp_path).close()


def test_a_failed_write_is_one_error_and_keeps_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Cells(tmp_path) as cells:
        cells.write(WHAT, {"x": 1})

        def full(path: Path, data: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(store, "write_whole", full)
        with pytest.raises(StorageError, match=r"No space left.*1 finished cells"):
            cells.write({"a": 2}, {"x": 2})
        assert cells.read(WHAT) == {"x": 1}


DAMAGE = {
    "a digit": lambda text: text.replace("0.25", "0.35"),
    "another name": lambda text: text.replace('"x"', '"y"'),
    "another shape": lambda text: '{"cell": 3}',
    "no object": lambda text: "[1, 2]",
    "a number": lambda text: "7",
    "cut": lambda text: text[: len(text) // 2],
    "nothing": lambda text: "",
    "no text": lambda text: "\udcff\udcfe",
    "too deep": lambda text: "[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_cell_is_noticed_and_computed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[str], str]
) -> None:
    with Cells(tmp_path) as cells:
        cells.get(WHAT, lambda: {"x": 0.25})
        (path,) = [path for path in tmp_path.iterdir() if path.name != "cells.json"]
        whole = path.read_bytes()
        path.write_text(damage(path.read_text()), errors="surrogateescape")
        assert cells.get(WHAT, lambda: {"x": 0.25}) == {"x": 0.25}
        assert path.read_bytes() == whole
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"{path} is damaged" in caplog.text


def test_a_file_of_another_piece_is_none_of_this_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_sealed(tmp_path / "a.json", {"index": 1, "x": 2})
    assert read_sealed(tmp_path / "a.json", index=1) == {"index": 1, "x": 2}
    assert read_sealed(tmp_path / "a.json", index=2) is None
    assert "belongs to another piece of work" in caplog.text
    assert read_sealed(tmp_path / "b.json") is None
    assert len(caplog.records) == 1  # one that is not there is no damage


def test_where_nothing_was_finished_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Cells(tmp_path / "new" / "cells") as cells:
        cells.get(WHAT, interrupted)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old").mkdir()
    Cells(tmp_path / "old" / "cells").close()
    assert list(tmp_path.iterdir()) == [tmp_path / "old"]
    with Cells(tmp_path / "old" / "cells") as cells:
        cells.write(WHAT, {"x": 1})
    assert len(list((tmp_path / "old" / "cells").iterdir())) == 2


def interrupted() -> dict[str, object]:
    raise KeyboardInterrupt


def test_a_file_system_without_locks_is_used_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with Cells(tmp_path) as cells:
        assert cells.get(WHAT, lambda: {"x": 1}) == {"x": 1}


@pytest.mark.parametrize("out", [3, None, "", b"bytes", "a\0b", 1.5])
def test_what_is_no_path_is_refused_by_name(out: object) -> None:
    with pytest.raises(ParameterError, match="must be the path of a file or folder") as caught:
        store.as_path(out)
    assert caught.value.parameter == "out"


def test_a_folder_is_seen_to_be_writable_and_left_as_it_was(tmp_path: Path) -> None:
    store.check_folder(tmp_path / "new" / "below")
    assert list(tmp_path.iterdir()) == []
    store.check_folder(tmp_path)
    (tmp_path / "file").write_text("kept")
    for out in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nothing"):
        with pytest.raises(ParameterError, match="must be a folder that can be written") as caught:
            store.check_folder(out)
        assert caught.value.value == out
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "kept"
