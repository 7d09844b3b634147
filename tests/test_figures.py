"""Figure scripts: settings from the manifest, data apart from drawing, captions with measured agreement."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from replica_icl.cli import main
from replica_icl.errors import ParameterError
from replica_icl.plotting import figure as figures
from replica_icl.plotting.agreement import agreement, z_scores
from replica_icl.plotting.figure import Figure, load_figure, read_data
from replica_icl.plotting.manifest import figure_names, manifest, scripts_folder


def test_every_figure_has_a_script_and_every_script_an_entry() -> None:
    scripts = {path.stem for path in scripts_folder().glob("*.py")}
    assert set(figure_names()) == scripts
    for name, entry in manifest().items():
        assert set(entry) <= {"source", "shows", "full", "quick"}, name
        assert set(entry.get("quick", {})) <= set(entry["full"]), f"{name}: quick overrides full"
        assert entry["source"]
        assert len(entry["shows"]) > 80
        assert load_figure(name).name == name


def test_fig4b_is_written_with_its_data_and_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = manifest()["li_fig4b"]
    monkeypatch.setitem(entry, "quick", {"realisations": 2})
    assert main(["figure", "li_fig4b", "--quick", "--out", str(tmp_path), "--seed", "5"]) == 0
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert names == {"li_fig4b.png", "li_fig4b.pdf", "li_fig4b.json", "li_fig4b.md"}
    made = read_data(tmp_path, "li_fig4b")
    assert made is not None
    assert made["settings"] == {"realisations": 2, "seed": 5}
    assert made["version"]
    assert made["quick"]
    for series in ("sgd", "amp"):
        points = made["data"]["series"][series]["points"]
        assert [p["N"] for p in points] == [20, 60, 100, 140, 180]
        # Two realisations at 1e4 prompts: within 2 % of the finite-size ground state (their spread is 0.3 %).
        assert all(abs(p["simulation"]["mean"] / p["ground state"] - 1) < 0.02 for p in points)
    caption = (tmp_path / "li_fig4b.md").read_text(encoding="utf-8")
    assert made["findings"][0] in caption
    assert "seed = 5" in caption


def tiny(calls: list[int]) -> Figure:
    """A figure of one cell that counts how often it is computed."""

    def compute(run: figures.Run) -> figures.Data:
        def cell() -> figures.Data:
            calls.append(1)
            return {"y": np.array([1.0, np.nan]), "n": np.int64(3)}

        return run.cell("line", cell, length=2)

    def draw(data: figures.Data) -> object:
        import matplotlib.pyplot as plt

        drawn, axes = plt.subplots()
        axes.plot(np.array(data["y"], float))
        return drawn

    return Figure("li_fig4b", compute, draw, lambda data: [f"n = {data['n']}"])


def test_a_second_run_finds_its_cells_unless_something_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    figure = tiny(calls)
    figure.make(tmp_path)
    first = (tmp_path / "li_fig4b.json").read_bytes()
    figure.make(tmp_path)
    assert len(calls) == 1
    assert (tmp_path / "li_fig4b.json").read_bytes() == first
    assert json.loads(first)["data"] == {"y": [1.0, None], "n": 3}
    figure.make(tmp_path, seed=7)
    assert len(calls) == 2
    monkeypatch.setattr(figures, "derivation_version", lambda: "another derivation")
    figure.make(tmp_path)
    assert len(calls) == 3


def test_unknown_figures_and_folders_that_cannot_be_written_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ParameterError, match="li_fig4b"):
        load_figure("li_fig99")
    (tmp_path / "file").write_text("")
    assert main(["figure", "li_fig4b", "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith("replica-icl figure: error: --out")


def test_agreement_counts_student_for_few_realisations() -> None:
    """Exact quantiles: the 97.5 % points of Student's t become 1.95996."""
    t = np.array([12.706205, 4.302653, 1.983972])
    z = z_scores(np.zeros(3), -t, np.ones(3), np.array([2, 3, 101]))
    np.testing.assert_allclose(z, -1.959964, rtol=1e-5)
    found = agreement([2.0, 1.0, np.nan], [2.2, 1.0, 1.0], [0.1, 0.1, 0.1], 10**9)
    assert (found.points, found.worst_relative) == (2, pytest.approx(0.1))
    assert found.worst_z == pytest.approx(2.0, rel=1e-6)
    assert found.mean_relative == pytest.approx(0.05)
    assert "2 points" in found.sentence("A")
