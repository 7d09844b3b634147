"""Grids: what a TOML file means, and what it may not say."""

import math
import re
from pathlib import Path

import pytest

from replica_icl.cli import main
from replica_icl.errors import ParameterError
from replica_icl.ratios import Ratios
from replica_icl.setting import Setting
from replica_icl.sweep.grid import grid_of, read_grid

FIXED = {"D": 10, "N": 20, "P": 50, "ridge": 0.1}
LIMIT = {"levels": ["limit"]}


def without(*names: str) -> dict[str, object]:
    return {name: value for name, value in FIXED.items() if name not in names}


def test_swept_parameters_make_a_product_and_zipped_ones_one_dimension() -> None:
    grid = grid_of(
        {
            "fixed": without("N", "P", "ridge"),
            "swept": {"N": [5, 10], "noise": {"geomspace": [0.01, 1, 3]}},
            "zipped": [{"P": [50, 60], "ridge": [0.1, 0.2]}],
            "theory": LIMIT,
        }
    )
    assert grid.shape == (2, 3, 2)
    assert [axis.name for axis in grid.axes] == ["N", "noise", "P_ridge"]
    expected = [
        (N, pytest.approx(noise), P, ridge)
        for N in (5, 10)
        for noise in (0.01, 0.1, 1.0)
        for P, ridge in ((50, 0.1), (60, 0.2))
    ]
    assert [(s.N, s.noise, s.P, s.ridge) for s in grid.settings] == expected


def test_spacings_reach_both_ends_and_integers_stay_integers() -> None:
    table = {"fixed": without("N", "P"), "theory": LIMIT}
    grid = grid_of({**table, "swept": {"N": {"linspace": [2, 100, 50]}, "P": {"geomspace": [20, 1000, 5]}}})
    N, P = (axis.values[axis.name] for axis in grid.axes)
    assert N == tuple(range(2, 101, 2))
    assert (P[0], P[-1], len(P)) == (20, 1000, 5)
    assert all(isinstance(x, int) for x in (*N, *P))


def test_ratios_become_the_nearest_integers_beside_D_and_stay_ratios_without_it() -> None:
    ratios = {"alpha": 1.5, "nu": 2.0, "lam": 0.2, "beta_tilde": 3.0}
    swept = {"kappa": [0.26, 0.5]}
    sized = grid_of({"fixed": {"D": 10, **ratios}, "swept": swept, "theory": LIMIT})
    assert sized.points[0] == Setting(D=10, N=20, P=150, K=3, ridge=0.02, beta=300.0)
    grid = grid_of({"fixed": ratios, "swept": swept, "theory": LIMIT})
    assert grid.points[1] == Ratios(alpha=1.5, nu=2.0, lam=0.2, beta_tilde=3.0, kappa=0.5)
    assert grid.settings == ()


@pytest.mark.parametrize(
    ("table", "name", "words"),
    [
        ({"fixed": FIXED}, "theory", "nothing to compute"),
        ({"fixed": {**FIXED, "M": 3}, "theory": LIMIT}, "M", "must be one of D, N"),
        ({"fixed": FIXED, "swept": {"N": [2, 3]}, "theory": LIMIT}, "N", "once"),
        ({"fixed": {**FIXED, "alpha": 2}, "theory": LIMIT}, "alpha", "beside P"),
        ({"fixed": without("P"), "theory": LIMIT}, "P", "is required"),
        ({"fixed": {"alpha": 1.5, "nu": 2.0}, "theory": LIMIT}, "lam", "is required"),
        ({"fixed": without("D"), "theory": LIMIT}, "N", "needs D"),
        ({"fixed": without("N"), "swept": {"N": [2, 2]}, "theory": LIMIT}, "N", "none twice"),
        ({"fixed": without("N"), "swept": {"N": []}, "theory": LIMIT}, "N", "at least one"),
        ({"fixed": without("N"), "swept": {"N": {"linspace": [2, 3]}}, "theory": LIMIT}, "N", "how many"),
        ({"fixed": without("N"), "swept": {"N": {"linspace": [2, 4, 9]}}, "theory": LIMIT}, "N", "none twice"),
        (
            {"fixed": without("ridge"), "swept": {"ridge": {"geomspace": [0, 1, 3]}}, "theory": LIMIT},
            "ridge",
            "positive",
        ),
        ({"fixed": without("N"), "swept": {"N": 5}, "theory": LIMIT}, "N", "list of numbers"),
        ({"fixed": {**FIXED, "N": [5]}, "theory": LIMIT}, "N", "one number"),
        ({"fixed": {**FIXED, "N": 0}, "theory": LIMIT}, "N", "at least 1"),
        ({"fixed": without("N"), "zipped": [{"N": [2, 3], "noise": [0.1]}], "theory": LIMIT}, "zipped", "same number"),
        ({"fixed": FIXED, "theory": {"levels": ["exact"]}}, "levels", "must be a list out of"),
        ({"fixed": FIXED, "theory": {"levels": []}}, "levels", "list out of"),
        ({"fixed": FIXED, "theory": {**LIMIT, "draw": 3}}, "draw", r"in \[theory\]"),
        ({"fixed": FIXED, "theory": {**LIMIT, "draws": 0}}, "draws", "at least 1"),
        ({"fixed": FIXED, "simulation": {}}, "realisations", "is required"),
        ({"fixed": FIXED, "simulation": {"realisations": 2, "epochs": 5}}, "epochs", "needs an algorithm"),
        ({"fixed": FIXED, "simulation": {"realisations": 2, "prompts": "x"}}, "prompts", "must be"),
        ({"fixed": FIXED, "simulation": {"realisations": 2, "algorithm": "x"}}, "algorithm", "must be"),
        ({"fixed": {**FIXED, "K": 5}, "theory": {"levels": ["finite-size"]}}, "K", "must be absent"),
        ({"fixed": FIXED, "theory": {"levels": ["given-tasks"]}}, "K", "is required"),
        ({"fixed": {**FIXED, "K": 5, "beta": 9.0}, "theory": {"levels": ["given-tasks"]}}, "beta", "must be absent"),
        ({"fixed": {"alpha": 1, "nu": 1, "lam": 1}, "theory": {"levels": ["finite-size"]}}, "levels", "without D"),
        ({"fixed": {"alpha": 1, "nu": 1, "lam": 1}, "simulation": {"realisations": 2}}, "D", "no size"),
        ({"plot": {}}, "plot", "must be a table"),
    ],
)
def test_bad_grids_are_refused_before_any_work(table: dict[str, object], name: str, words: str) -> None:
    with pytest.raises(ParameterError, match=words) as caught:
        grid_of(table)
    assert caught.value.parameter == name


def test_a_bad_file_is_one_line_with_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "grid.toml", tmp_path / "results.nc"
    path.write_text('[fixed]\nD = 10\nN = 0\nP = 50\nridge = 0.1\n[theory]\nlevels = ["limit"]\n')
    assert main(["sweep", str(path), "--out", str(out)]) == 2
    assert capsys.readouterr().err == (f"replica-icl sweep: error: {path}: N 0: must be an integer of at least 1\n")
    path.write_text("[fixed\n")
    assert main(["sweep", str(path), "--out", str(out)]) == 2
    assert "readable TOML file" in capsys.readouterr().err
    assert main(["sweep", str(path)]) == 2
    assert "--out" in capsys.readouterr().err
    assert not list(tmp_path.glob("results*"))


def test_infinite_beta_and_one_point_are_grids_too(tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    path.write_text('[fixed]\nD = 10\nN = 5\nP = 50\nridge = 0.1\n[theory]\nlevels = ["limit"]\n')
    grid = read_grid(path)
    assert (grid.shape, len(grid.points)) == ((), 1)
    assert grid.settings[0].beta == math.inf
    assert grid.text.startswith("[fixed]")


def test_spacings_have_numpys_meanings() -> None:
    table = {"fixed": without("ridge"), "theory": LIMIT}
    grids = {kind: grid_of({**table, "swept": {"ridge": {kind: [1, 3, 3]}}}) for kind in ("linspace", "geomspace")}
    grids["logspace"] = grid_of({**table, "swept": {"ridge": {"logspace": [1, 3, 3]}}})
    found = {kind: grid.axes[0].values["ridge"] for kind, grid in grids.items()}
    assert found["linspace"] == pytest.approx((1, 2, 3))
    assert found["geomspace"] == pytest.approx((1, 3**0.5, 3))
    assert found["logspace"] == pytest.approx((10, 100, 1000))


def test_ratios_that_become_the_same_integer_are_told(caplog: pytest.LogCaptureFixture) -> None:
    fixed = {"D": 5, "N": 10, "ridge": 0.1}
    with caplog.at_level("WARNING"):
        grid = grid_of({"fixed": fixed, "swept": {"alpha": [1.0, 1.01, 2.0]}, "theory": LIMIT})
    assert grid.rounded == ("alpha = 1, 1.01 are all P = 25 at D = 5",)
    assert grid.rounded[0] in caplog.text


HEAD = "[fixed]\nD = 5\nN = 9\nP = 50\nridge = 1\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "[" * 5000, "readable TOML"),
        ("[fixed]\nD = " + "9" * 4000, "at most"),
        ("[fixed]\nD = " + "9" * 5000, "readable TOML"),
        ("theory = 3", "must be a table out of"),
        ("zipped = [3]", r"\[\[zipped\]\]"),
        ("[zipped]\nridge = [1, 2]", r"\[\[zipped\]\]"),
        ("[fixed]\nD = 5\nN = 9\nP = 50\nridge = 0.1\n[theory]\nlevels = [['limit']]", "must be a list out of"),
        ("[fixed]\nD = 5\nN = 9\nP = 50\n[swept]\nridge = {linspace = [0, 1, 100000000000]}\n", "at most 10000000"),
        ("[fixed]\nminimum_norm = 'no'", "must be true or false"),
        ("[fixed]\nminimum_norm = 1", "must be true or false"),
        (
            HEAD + "K = 3\n[theory]\nlevels = ['given-tasks']\nsphere = 'x'",
            "true or",
        ),
        (HEAD + "noise = 1e300\n[theory]\nlevels = ['limit']", "at most"),
        (
            HEAD + "[theory]\nlevels = ['limit']\ntolerance = 1e-3",
            "at which it acts",
        ),
        (HEAD + "[theory]\nlevels = ['limit']\ndraws = 3", "at which it acts"),
    ],
)
def test_a_strange_file_is_one_line(text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "grid.toml"
    path.write_text(text)
    assert main(["sweep", str(path), "--out", str(tmp_path / "results.nc")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("replica-icl sweep: error: ")
    assert told.count("\n") == 1
    assert len(told) < 800
    assert re.search(words, told)
    assert list(tmp_path.iterdir()) == [path]
