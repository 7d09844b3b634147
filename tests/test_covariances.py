"""Covariances as they are declared: families, matrices, files, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from replica_icl.cli import main
from replica_icl.covariances import COVARIANCES, FAMILIES, Covariance, Covariances
from replica_icl.errors import ParameterError
from replica_icl.setting import Setting
from replica_icl.simulator.ensemble import simulate
from replica_icl.simulator.laws import PromptLaw
from replica_icl.sweep.grid import grid_of
from replica_icl.sweep.work import compute, tasks_of

SETTING = ["--D", "4", "--N", "6", "--P", "30", "--ridge", "0.1"]


@pytest.mark.parametrize("D", [1, 4, 7])
@pytest.mark.parametrize(
    "spec", ["identity", "power-law:0", "power-law:1.5", "low-rank:0.5", "low-rank:0.01", "spike:0"]
)
def test_families_are_diagonal_and_have_trace_d(spec: str, D: int) -> None:
    matrix = Covariance.of(spec, D).matrix
    assert np.trace(matrix) == pytest.approx(D, rel=1e-14)
    assert np.array_equal(matrix, np.diag(np.diag(matrix)))
    assert {spec.partition(":")[0] for spec in ("identity", "power-law:1", "low-rank:1", "spike:0")} == set(FAMILIES)


def test_families_are_what_they_say() -> None:
    diagonal = {spec: np.diag(Covariance.of(spec, 4).matrix) for spec in ("power-law:1", "low-rank:0.5", "spike:2")}
    assert diagonal["power-law:1"] / diagonal["power-law:1"][0] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert diagonal["low-rank:0.5"].tolist() == [2, 2, 0, 0]
    assert diagonal["spike:2"].tolist() == [0, 0, 4, 0]


def test_a_matrix_is_taken_as_it_is_and_its_root_squares_to_it(tmp_path: Path) -> None:
    factor = np.random.default_rng(0).standard_normal((5, 3))
    given = factor @ factor.T
    np.save(tmp_path / "C.npy", given)
    one, other = Covariance.of(given, 5), Covariance.of(tmp_path / "C.npy", 5)
    assert one == other
    assert hash(one) == hash(other)
    assert one != Covariance.of("identity", 5)
    assert one.root @ one.root == pytest.approx(given, rel=1e-12, abs=1e-12)
    assert one.mixed(np.eye(5)) == pytest.approx(one.root)


BAD: list[tuple[Any, str]] = [
    ("power-law", "after power-law:"),
    ("power-law:x", "after power-law:"),
    ("power-law:nan", "after power-law:"),
    ("low-rank:0", "after low-rank:"),
    ("low-rank:1.5", "after low-rank:"),
    ("spike:-1", "after spike:"),
    ("spike:1.5", "after spike:"),
    ("spike:4", "from 0 to D - 1 = 3"),
    ("identity:C.npy", "nothing after identity"),
    ("isotropic", "must be identity, power-law:EXPONENT"),
    (3, "must be identity, power-law:EXPONENT"),
    (np.eye(3), r"must have shape \(D, D\) = \(4, 4\)"),
    (np.eye(4)[0], r"must have shape \(D, D\) = \(4, 4\)"),
    (np.diag([1.0, 1.0, 1.0, -0.25]), "smallest eigenvalue is -0.25"),
    (-np.eye(4), "smallest eigenvalue is -1"),
    (np.zeros((4, 4)), "largest eigenvalue"),
    (1e30 * np.eye(4), "largest eigenvalue"),
    (np.eye(4) + np.eye(4, k=1), "must be symmetric: it differs from its transpose by up to 1"),
    (np.diag([1.0, np.nan, 1.0, 1.0]), "must be finite"),
    (1j * np.eye(4), "must be real numbers"),
    ([[1.0], [1.0, 2.0]], "must be a"),
]


@pytest.mark.parametrize(("spec", "told"), BAD)
def test_what_is_no_covariance_is_refused_by_name(spec: Any, told: str) -> None:
    with pytest.raises(ParameterError, match=told) as caught:
        Covariance.of(spec, 4, "token_covariance")
    assert caught.value.parameter == "token_covariance"


@pytest.mark.parametrize("name", COVARIANCES)
def test_the_command_line_tells_bad_covariances_in_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    option, text = f"--{name.replace('_', '-')}", tmp_path / "C.npy"
    text.write_text("no matrix")
    np.save(indefinite := tmp_path / "indefinite.npy", np.diag([1.0, 1.0, 1.0, -0.25]))
    cases = [
        ([option, "spike:9"], "from 0 to D - 1 = 3"),
        ([option, str(text)], "must be a readable .npy file"),
        ([option, str(tmp_path / "absent.npy")], "or a readable .npy file"),
        ([option, str(indefinite)], "smallest eigenvalue is -0.25"),
        ([option, "identity", option, str(text)], "must be given once"),
    ]
    for arguments, told in cases:
        with pytest.raises(SystemExit) as ended:
            raise SystemExit(main(["simulate", *SETTING, "--realisations", "1", *arguments]))
        assert ended.value.code == 2
        error = capsys.readouterr().err
        assert option in error
        assert told in error
        assert len(error.splitlines()) == 1


def test_a_covariance_mixes_gaussian_entries_at_zero_temperature() -> None:
    setting = Setting(D=4, N=6, P=30, ridge=0.1)
    for how, name in (
        ({"law": "rademacher", "token_covariance": "identity"}, "token_covariance"),
        ({"task_law": "uniform", "test_task_covariance": "identity"}, "test_task_covariance"),
    ):
        with pytest.raises(ParameterError, match="must not be given beside") as caught:
            simulate(setting, 1, **how)  # type: ignore[arg-type]
        assert caught.value.parameter == name
    with pytest.raises(ParameterError, match="finite beta"):
        simulate(Setting(D=4, N=6, P=30, ridge=0.1, beta=9.0), 1, task_covariance="identity")
    with pytest.raises(TypeError, match="unexpected keyword argument 'covariance'"):
        simulate(setting, 1, covariance="identity")


def test_what_is_absent_leaves_keys_and_descriptions_as_they_were() -> None:
    law = PromptLaw.of(usage="equal", test_N=7, test_task_covariance="identity", D=4)
    assert law.key == PromptLaw.of(usage="equal").key  # test prompts draw nothing
    assert PromptLaw.of(test_N=7).key == ""
    assert PromptLaw.of(D=4, task_covariance="identity").key != PromptLaw.of(D=4, token_covariance="identity").key != ""
    grid = {"fixed": {"D": 4, "N": 6, "P": 30, "ridge": 0.1}, "simulation": {"realisations": 1}}
    (cell,) = tasks_of(grid_of(grid))
    assert not any(name in str(cell.described) for name in (*COVARIANCES, "test_N", "files"))


def test_a_sweep_takes_families_and_files_and_notices_another_file(tmp_path: Path) -> None:
    np.save(path := tmp_path / "C.npy", np.diag([2.0, 1.0, 1.0, 0.0]))
    simulation = {"realisations": 2, "task_covariance": str(path), "token_covariance": "power-law:1", "test_N": 9}
    grid = {"fixed": {"D": 4, "N": 6, "P": 30, "ridge": 0.1}, "simulation": simulation}
    (cell,) = tasks_of(grid_of(grid))
    found = compute(cell.described)["values"]
    how = {name: x for name, x in simulation.items() if name != "realisations"}
    expected = simulate(Setting(D=4, N=6, P=30, ridge=0.1), 2, **how)  # type: ignore[arg-type]
    assert found["e_icl_test"] == expected.values["e_icl_test"].tolist()
    np.save(path, np.eye(4))
    (other,) = tasks_of(grid_of(grid))
    assert other.described != cell.described
    with pytest.raises(Exception, match="holds something else"):
        compute(cell.described)
    for bad in ({"task_covariance": [[1.0]]}, {"token_covariance": "spike:4"}, {"test_task_covariance": "x"}):
        with pytest.raises(ParameterError):
            grid_of({**grid, "simulation": {"realisations": 2, **bad}})


def test_the_test_covariances_are_those_of_the_training_where_they_are_not_given() -> None:
    given = Covariances.of(4, {"task_covariance": "spike:1", "test_token_covariance": "power-law:1"})
    assert given.in_test() == Covariances(Covariance.of("spike:1", 4), Covariance.of("power-law:1", 4))
    assert given.tested
    assert not Covariances(task=given.task).tested
