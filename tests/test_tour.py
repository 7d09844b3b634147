"""The tour runs as it is printed, from top to bottom in one folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from replica_icl.cli import main

TOUR = (Path(__file__).parent.parent / "docs" / "tour.md").read_text(encoding="utf-8")


def test_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(\w+)\n(.*?)```", TOUR, flags=re.DOTALL)
    assert {kind for kind, _ in blocks} == {"sh", "toml", "python"}
    printed: dict[str, str] = {}
    for kind, text in blocks:
        if kind == "toml":
            (tmp_path / "grid.toml").write_text(text)
        elif kind == "python":
            exec(compile(text, "tour.md", "exec"), {})
            assert "mean squared error" in capsys.readouterr().out
        else:
            for command in text.splitlines():
                assert main(shlex.split(command)[1:]) == 0, command
                printed[command.split()[1]] = capsys.readouterr().out
    assert set(printed) == {"solve", "validate", "sweep", "figure", "derive"}
    assert "agree" in printed["validate"]
