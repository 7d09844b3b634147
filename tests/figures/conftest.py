"""Making a figure at small size, for every test of one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from replica_icl.plotting.figure import load_figure, manifest, read_data

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make a figure at given settings; its data as they were written."""

    def made(name: str, **settings: Any) -> dict[str, Any]:
        monkeypatch.setitem(manifest()[name], "quick", settings)
        paths = load_figure(name).make(tmp_path, quick=True)
        assert [path.suffix for path in paths] == [".png", ".pdf", ".json", ".md"]
        assert all(path.stat().st_size > 500 for path in paths)
        found = read_data(tmp_path, name)
        assert found is not None
        assert found["findings"][0] in paths[-1].read_text(encoding="utf-8")
        return found["data"]

    return made


@pytest.fixture
def script() -> Callable[[str], ModuleType]:
    """The module of a figure script, by name."""

    def loaded(name: str) -> ModuleType:
        load_figure(name)
        return sys.modules[f"replica_icl_figures_{name}"]

    return loaded
