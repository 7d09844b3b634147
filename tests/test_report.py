"""The report: every published number with theory and simulation, in files that need nothing else."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from replica_icl import Setting, simulate, solve
from replica_icl.cli import main
from replica_icl.meeting import published
from replica_icl.meeting.published import Figure, PublishedComparison, PublishedPoint
from replica_icl.plotting.manifest import figure_names
from replica_icl.report import check_by_simulation, write_report

SETTING = Setting(D=5, N=10, P=60, ridge=0.05)


def points() -> list[PublishedPoint]:
    """Two invented results: one that theory agrees with, and one far away."""
    e = solve(SETTING).e_icl
    return [
        PublishedPoint("li_fig4b", name, "e_icl", SETTING, mean, 0.01, 7) for name, mean in (("a<b", e), ("far", 2 * e))
    ]


def theory(rows: list[PublishedPoint]) -> list[PublishedComparison]:
    e = solve(SETTING).e_icl
    return [PublishedComparison(row, e, e) for row in rows]


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "FIGURES", {"li_fig4b": Figure(points, theory)})
    monkeypatch.setattr("replica_icl.report.FIGURES", published.FIGURES)


class Links(HTMLParser):
    """Everything that a page would load or point to, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_holds_the_numbers_and_needs_no_network(
    invented: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "li_fig4b.png").write_bytes(b"not really a picture")
    made = {"quick": True, "findings": ["First finding.", "Second."]}
    (tmp_path / "li_fig4b.json").write_text(json.dumps(made))
    arguments = ["published", "--out", str(tmp_path), "--realisations", "3", "--seed", "4", "--json"]
    assert main(arguments) == 1  # the invented point is far away
    rows = json.loads(capsys.readouterr().out)["points"]
    measured = simulate(SETTING, 3, seed=4)["e_icl"]
    assert [row["simulation"]["mean"] for row in rows] == [measured.mean] * 2
    assert rows[0]["z"] == 0
    assert rows[1]["z"] > 4
    page = (tmp_path / "published.html").read_text(encoding="utf-8")
    text = (tmp_path / "published.md").read_text(encoding="utf-8")
    for content in (page, text):
        assert f"{measured.mean:.4f} ± {measured.sem:.4f}" in content
        assert "First finding." in content
        assert all(f"replica-icl figure {name} " in content for name in figure_names() if name != "li_fig4b")
    links = Links()
    links.feed(page)
    assert links.open == []
    assert [link.split(",")[0] for link in links.found] == ["data:image/png;base64"]
    assert not re.search(r"https?:|@import|url\(", page)
    assert "a&lt;b" in page


def test_simulations_of_the_report_are_found_again(
    invented: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = published.against_theory()
    first = check_by_simulation(rows, tmp_path, 3, 0)
    stored = sorted((tmp_path / "cells").rglob("realisation-*.json"))
    assert len(stored) == 3
    times = [path.stat().st_mtime_ns for path in stored]
    second = check_by_simulation(rows, tmp_path, 3, 0)
    assert [c.to_dict() for c in first] == [c.to_dict() for c in second]
    assert [path.stat().st_mtime_ns for path in stored] == times
    paths = write_report(first, tmp_path, 0)
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_report(second, tmp_path, 0)] == before


def test_a_report_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(published, "against_theory", lambda: pytest.fail("work was started"))
    (tmp_path / "file").write_text("kept")
    for out in (tmp_path / "file", "/proc/nothing"):
        assert main(["published", "--out", str(out)]) == 2
        assert f"--out {out}: must be a folder that can be written" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "kept"
