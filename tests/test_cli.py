"""The command line as scripts use it: JSON keys, exit codes, one line for wrong usage, no heavy import for --help."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from replica_icl import __version__
from replica_icl.cli import main
from replica_icl.numeric.levels import LEVELS
from replica_icl.numeric.solve import solve
from replica_icl.ratios import Ratios
from replica_icl.setting import Setting
from replica_icl.simulator.ensemble import simulate

POINT = ["--D", "6", "--N", "12", "--P", "72", "--ridge", "0.05"]
RATIOS = ["--alpha", "2", "--nu", "2", "--lam", "0.3"]
LIMIT = ["--level", "limit"]
RUN = ["--realisations", "3", "--workers", "1"]
SOUGHT = ["--D", "6", "--N", "12", "--ridge", "0.05", "--target-error", "0.9"]
SMALL = ["--D", "4", "--N", "8", "--P", "19", "--ridge", "0"]

OBSERVABLES = {"e_icl", "e_idg", "train_error", "m", "q", "contrast"}
GROUND_KEYS = OBSERVABLES | {"level", "status", "residual", "iterations", "replicon"}
THERMAL_KEYS = {"V", "e_gibbs", "train_gibbs", "log_Z"}
SIMULATED_KEYS = OBSERVABLES | {"u"}


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in an empty directory, so that a file written there is noticed."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def strict(text: str) -> Any:
    """One JSON document without NaN or Infinity."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    assert text.count("\n") == 1
    return json.loads(text, parse_constant=refuse)


def once(arguments: Sequence[str]) -> list[str]:
    """Arguments in which a later option takes the place of an earlier one."""
    found: list[str] = []
    for text in arguments:
        if text.startswith("--") and text in found:
            del found[found.index(text) : found.index(text) + 2]
        found.append(text)
    return found


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command in this process; the last of an option counts."""
    try:
        code = main(once(arguments))
    except SystemExit as end:  # argparse leaves this way
        code = int(end.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_solve_prints_one_object_with_the_keys_of_the_ground_state(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "solve", *POINT, *LIMIT, "--noise", "0.1", "--json")
    data = strict(out)
    assert code == 0
    assert set(data) == GROUND_KEYS
    assert data["level"] == "limit"
    assert data["status"] == "converged"
    assert data == solve(Setting(D=6, N=12, P=72, ridge=0.05, noise=0.1), level="limit").to_dict()


def test_solve_at_finite_temperature_adds_the_thermal_keys(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "solve", *POINT, *LIMIT, "--beta", "40", "--json")
    data = strict(out)
    assert code == 0
    assert set(data) == GROUND_KEYS | THERMAL_KEYS
    assert data["log_Z"] == solve(Setting(D=6, N=12, P=72, ridge=0.05, beta=40.0), level="limit").log_Z


def test_solve_takes_ratios_instead_of_integers(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "solve", *RATIOS, "--noise", "0.1", "--json")
    assert code == 0
    assert strict(out) == solve(Ratios(alpha=2.0, nu=2.0, lam=0.3, noise=0.1)).to_dict()


def test_integers_and_the_ratios_that_they_make_are_the_same_point(capsys: pytest.CaptureFixture[str]) -> None:
    (_, raw, _), (_, ratios, _) = (run(capsys, "solve", *given, *LIMIT, "--json") for given in (POINT, RATIOS))
    for name in ("e_icl", "train_error", "m", "q", "replicon"):
        assert strict(ratios)[name] == pytest.approx(strict(raw)[name], rel=1e-13)


def test_minimum_norm_is_solved_when_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for given in ([*SMALL[:4], "--P", "8", "--ridge", "0"], ["--alpha", "0.5", "--nu", "2", "--lam", "0"]):
        code, out, _ = run(capsys, "solve", *given, *LIMIT, "--minimum-norm", "--json")
        assert code == 0
        assert strict(out)["train_error"] == 0
        assert strict(out)["e_icl"] == solve(Ratios(alpha=0.5, nu=2.0, lam=0.0, minimum_norm=True)).e_icl


def test_text_output_has_one_line_per_observable(capsys: pytest.CaptureFixture[str]) -> None:
    setting = Setting(D=6, N=12, P=72, ridge=0.05)
    for level in ("limit", "finite-size"):
        code, out, err = run(capsys, "solve", *POINT, "--level", level)
        solution = solve(setting, level=level)
        lines = [line.split() for line in out.splitlines()]
        assert code == 0
        assert err == ""
        assert lines[0][:2] == [f"{level}:", "converged,"]
        assert [line[0] for line in lines[2:]] == list(solution.observables())
        assert [float(line[1]) for line in lines[2:]] == pytest.approx(list(solution.observables().values()), rel=1e-9)
        if solution.next_order is None:
            assert all(len(line) == 2 for line in lines[2:])
        else:
            beside = {line[0]: float(line[2]) for line in lines[2:] if len(line) > 2}
            assert beside == pytest.approx(dict(solution.next_order), rel=6e-3)
            assert {line[0] for line in lines if len(line) == 4} == {*solution.theory_error}


def test_a_point_without_solution_is_exit_code_one_and_null_values(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "solve", "--alpha", "1", "--nu", "2", "--lam", "0", "--json")
    data = strict(out)
    assert code == 1
    assert data["status"] == "singular"
    assert data["e_icl"] is None
    assert set(data) == GROUND_KEYS


def test_simulate_prints_mean_standard_error_and_count_of_each_observable(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "simulate", *POINT, *RUN, "--seed", "4", "--json")
    data = strict(out)
    assert code == 0
    assert set(data) == SIMULATED_KEYS
    assert all(set(value) == {"mean", "sem", "spread", "n"} and value["n"] == 3 for value in data.values())
    assert data == simulate(Setting(D=6, N=12, P=72, ridge=0.05), 3, seed=4).to_dict()


def test_simulate_at_finite_temperature_adds_the_gibbs_errors_and_log_z(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "simulate", *POINT, *RUN, "--beta", "40", "--json")
    assert code == 0
    assert set(strict(out)) == SIMULATED_KEYS | {"e_gibbs", "train_gibbs", "log_Z", "entropy"}


def test_the_accuracy_of_prompt_averages_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """A coarse answer is near the fine one, and not the same."""
    given = ["solve", "--D", "6", "--N", "8", "--P", "60", "--ridge", "0.05", "--json"]
    values = [strict(run(capsys, *given, *more)[1])["e_icl"] for more in ([], ["--tolerance", "1e-3"])]
    assert 0 < abs(values[1] / values[0] - 1) < 1e-3
    for option in ("0", "-1", "nan", "1", "x"):
        code, _, err = run(capsys, *given, "--tolerance", option)
        assert code == 2
        assert err.startswith(f"replica-icl solve: error: --tolerance {option}: must be")
    assert run(capsys, "solve", "--alpha", "2", "--nu", "1", "--lam", "0.1", "--tolerance", "0.01")[0] == 2


def test_one_realisation_has_no_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "simulate", *POINT, "--realisations", "1", "--json")
    assert code == 0
    assert all(value["sem"] is None for value in strict(out).values())
    code, out, _ = run(capsys, "simulate", *POINT, "--realisations", "1")
    assert code == 0
    assert out.count("unknown") == 2 * len(SIMULATED_KEYS)


def test_algorithms_agree_and_the_seed_decides(capsys: pytest.CaptureFixture[str]) -> None:
    outputs = {
        extra: strict(run(capsys, "simulate", *POINT, *RUN, *extra, "--json")[1])["e_icl"]["mean"]
        for extra in (("--algorithm", "dense"), ("--algorithm", "dual"), ("--seed", "1"), ("--seed", "0"), ())
    }
    assert outputs["--algorithm", "dense"] == pytest.approx(outputs["--algorithm", "dual"], rel=1e-9)
    assert outputs["--seed", "0"] == outputs[()]
    assert outputs["--seed", "0"] != outputs["--seed", "1"]


def test_validate_that_disagrees_is_exit_code_one_with_both_sides_and_z(capsys: pytest.CaptureFixture[str]) -> None:
    """The limit is 20 % off at D = 6, which 40 realisations see."""
    code, out, _ = run(capsys, "validate", *POINT, *LIMIT, "--realisations", "40", "--workers", "1", "--json")
    data = strict(out)
    assert code == 1
    assert set(data) == {"theory", "simulation", "comparison", "agrees"}
    assert data["agrees"] is False
    assert set(data["theory"]) == GROUND_KEYS
    assert set(data["simulation"]) == SIMULATED_KEYS
    assert set(data["comparison"]) == OBSERVABLES
    row = data["comparison"]["e_icl"]
    simulated = data["simulation"]["e_icl"]
    assert row["z"] == pytest.approx((simulated["mean"] - data["theory"]["e_icl"]) / simulated["sem"])
    assert row["agrees"] is False
    assert row["z"] > 4


def test_validate_that_agrees_is_exit_code_zero_and_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a bound that any two numbers satisfy: the verdict and the exit code follow the bound that is stated."""
    monkeypatch.setattr("replica_icl.meeting.validation.Z_MAX", 1e9)
    code, out, _ = run(capsys, "validate", *POINT, *LIMIT, *RUN)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["observable", "theory", "simulation", "std.", "error", "z"]
    assert {line.split()[0] for line in lines[1:-1]} == OBSERVABLES
    assert lines[-1].startswith("theory (limit) and simulation agree")
    assert lines[-1].endswith("|z| < 1e+09")


def test_validate_of_a_singular_point_is_exit_code_one_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--D", "4", "--N", "8", "--P", "16", "--ridge", "0", "--minimum-norm"]  # alpha = 1
    code, out, err = run(capsys, "validate", *given, *LIMIT, *RUN)
    assert (code, out) == (1, "")
    assert err == "replica-icl validate: the limit solve ended with status singular\n"


WRONG = {
    "D below two": (["solve", *POINT, "--D", "1"], ["--D 1", "integer of at least 2"]),
    "D zero": (["simulate", *POINT, "--D", "0"], ["--D 0", "integer of at least 2"]),
    "D negative": (["validate", *POINT, "--D", "-3"], ["--D -3", "integer of at least 2"]),
    "D a fraction": (["solve", *POINT, "--D", "6.5"], ["--D 6.5", "integer of at least 2"]),
    "D a float": (["simulate", *POINT, "--D", "1e1"], ["--D 1e1", "integer of at least 2"]),
    "D a word": (["validate", *POINT, "--D", "many"], ["--D many", "integer of at least 2"]),
    "D nan": (["solve", *POINT, "--D", "nan"], ["--D nan", "integer of at least 2"]),
    "D beyond floats": (["solve", *POINT, "--D", "1" + "0" * 400], ["--D 1000", "at most 1e+15"]),
    "N below one": (["simulate", *POINT, "--N", "0"], ["--N 0", "integer of at least 1"]),
    "N a fraction": (["validate", *POINT, "--N", "2.5"], ["--N 2.5", "integer of at least 1"]),
    "P below one": (["solve", *POINT, "--P", "0"], ["--P 0", "integer of at least 1"]),
    "P negative": (["simulate", *POINT, "--P", "-7"], ["--P -7", "integer of at least 1"]),
    "P a float": (["validate", *POINT, "--P", "72.0"], ["--P 72.0", "integer of at least 1"]),
    "P beyond floats": (["simulate", *POINT, "--P", "1" + "0" * 400], ["--P 1000", "at most 1e+15"]),
    "K zero": (["simulate", *POINT, "--K", "0"], ["--K 0", "integer of at least 1"]),
    "K above P": (["simulate", *POINT, "--K", "73"], ["--K 73", "at most the number of prompts, P = 72"]),
    "K without theory": (["solve", *POINT, "--K", "5", "--level", "finite-size"], ["--K 5", "fresh tasks"]),
    "negative ridge": (["solve", *POINT, "--ridge", "-0.1"], ["--ridge -0.1", "at least 0"]),
    "negative ridge, exponent": (["simulate", *POINT, "--ridge", "-1e-3"], ["--ridge -1e-3", "at least 0"]),
    "nan ridge": (["validate", *POINT, "--ridge", "nan"], ["--ridge nan", "at least 0"]),
    "infinite ridge": (["solve", *POINT, "--ridge", "inf"], ["--ridge inf", "at least 0"]),
    "ridge a word": (["solve", *POINT, "--ridge", "small"], ["--ridge small", "must be a number"]),
    "negative noise": (["simulate", *POINT, "--noise", "-0.5"], ["--noise -0.5", "at least 0"]),
    "minus infinite noise": (["solve", *POINT, "--noise", "-inf"], ["--noise -inf", "at least 0"]),
    "nan noise": (["solve", *POINT, "--noise", "nan"], ["--noise nan", "at least 0"]),
    "nan noise in the limit": (["solve", *RATIOS, "--noise", "nan"], ["--noise nan", "at least 0"]),
    "beta zero": (["solve", *POINT, "--beta", "0"], ["--beta 0", "positive number or inf"]),
    "beta negative": (["simulate", *POINT, "--beta", "-1"], ["--beta -1", "positive number or inf"]),
    "beta nan": (["validate", *POINT, "--beta", "nan"], ["--beta nan", "positive number or inf"]),
    "no unique ground state (solve)": (["solve", *SMALL], ["--ridge 0:", "P = 19 is below D (D + 1) = 20"]),
    "no unique ground state (simulate)": (["simulate", *SMALL], ["--ridge 0:", "P = 19 is below D (D + 1) = 20"]),
    "no unique ground state (validate)": (["validate", *SMALL], ["--ridge 0:", "P = 19 is below D (D + 1) = 20"]),
    "no unique ground state (limit)": (
        ["solve", "--alpha", "0.5", "--nu", "2", "--lam", "0"],
        ["--lam 0:", "must be positive below alpha = 1"],
    ),
    "temperature without norm": (["simulate", *SMALL, "--minimum-norm", "--beta", "9"], ["--beta 9:", "must be inf"]),
    "alpha and P": (["solve", *POINT, "--alpha", "2"], ["--alpha 2", "--P 72", "same quantity twice"]),
    "nu and N": (["solve", *POINT, "--nu", "2"], ["--nu 2", "--N 12", "same quantity twice"]),
    "lam and ridge": (["solve", *POINT, "--lam", "1"], ["--lam 1", "--ridge 0.05", "same quantity twice"]),
    "kappa and K": (["solve", *RATIOS, "--kappa", "1", "--K", "3"], ["--kappa 1", "--K 3", "same quantity twice"]),
    "ratios and a stray integer": (["solve", *RATIOS, "--D", "6"], ["--alpha 2", "must not be mixed with --D"]),
    "beta without integers": (["solve", *RATIOS, "--beta", "9"], ["--alpha 2", "must not be mixed with --beta"]),
    "alpha zero": (["solve", *RATIOS, "--alpha", "0"], ["--alpha 0", "positive number"]),
    "nu nan": (["solve", *RATIOS, "--nu", "nan"], ["--nu nan", "positive number"]),
    "negative lam": (["solve", *RATIOS, "--lam", "-1e-9"], ["--lam -1e-9", "at least 0"]),
    "given tasks without any": (["solve", *POINT, "--level", "given-tasks"], ["--K", "is required"]),
    "tasks at another level": (["solve", *POINT, "--tasks", "x.npy"], ["--tasks x.npy", "readable .npy file"]),
    "missing task file": (
        ["solve", *POINT, "--level", "given-tasks", "--tasks", "no-such.npy"],
        ["--tasks no-such.npy", "readable .npy file"],
    ),
    "more tasks than prompts": (["solve", *POINT, "--K", "100", "--level", "given-tasks"], ["--K 100", "P = 72"]),
    "no draws": (["solve", *POINT, "--K", "3", "--level", "given-tasks", "--draws", "0"], ["--draws 0", "at least 1"]),
    "error without parameter": (["solve", *POINT, "--target-error", "1"], ["--target-error 1", "--for P, N, K"]),
    "parameter without error": (["solve", *POINT, "--for", "P"], ["--for P", "must be given with --target-error"]),
    "unknown parameter to find": (["solve", *SOUGHT, "--for", "D"], ["--for D", "must be one of P, N, K, alpha"]),
    "parameter to find is given": (["solve", *SOUGHT, "--for", "N"], ["--N 12", "must not be given with --for N"]),
    "error is negative": (["solve", *SOUGHT, "--for", "P", "--target-error", "-1"], ["--target-error -1", "must be"]),
    "error is a word": (
        ["solve", *SOUGHT, "--for", "P", "--target-error", "low"],
        ["--target-error low", "positive number"],
    ),
    "error below the floor": (
        ["solve", *SOUGHT, *LIMIT, "--for", "P", "--target-error", "0.01"],
        ["--target-error 0.01", "must be at least the floor 0.", "approached as P grows"],
    ),
    "error at other test contexts": (
        ["solve", *SOUGHT, "--for", "P", "--test-N", "9"],
        ["--test-N 9", "would not act"],
    ),
    "error with given tasks": (
        ["solve", *SOUGHT, "--for", "P", "--level", "given-tasks"],
        ["--level given-tasks", "must be finite-size or limit"],
    ),
    "integer to find among ratios": (
        ["solve", "--nu", "2", "--lam", "1", "--for", "P", "--target-error", "1"],
        ["--for P", "must not be mixed with --nu"],
    ),
    "ratio to find among integers": (["solve", *SOUGHT, "--for", "nu"], ["--for nu", "must not be mixed with --D"]),
    "ratio missing": (["solve", "--alpha", "1", "--nu", "2"], ["--lam", "is required"]),
    "integer missing": (["simulate", "--D", "6", "--N", "12", "--ridge", "1"], ["--P", "is required"]),
    "ridge missing": (["validate", "--D", "6", "--N", "12", "--P", "9"], ["--ridge", "is required"]),
    "nothing given": (["solve"], ["--D", "is required"]),
    "no realisation": (["simulate", *POINT, "--realisations", "0"], ["--realisations 0", "at least 1"]),
    "no realisation to validate": (["validate", *POINT, "--realisations", "0"], ["--realisations 0", "at least 2"]),
    "one realisation to validate": (["validate", *POINT, "--realisations", "1"], ["--realisations 1", "at least 2"]),
    "realisations a float": (["simulate", *POINT, "--realisations", "2.5"], ["--realisations 2.5", "integer"]),
    "negative seed": (["simulate", *POINT, "--seed", "-1"], ["--seed -1", "at least 0"]),
    "no workers": (["simulate", *POINT, "--workers", "0"], ["--workers 0", "at least 1"]),
    "too much memory (weights)": (
        ["simulate", "--D", "2000", "--N", "4000", "--P", "8000000", "--ridge", "0.1", "--algorithm", "dense"],
        ["--D 2000", "GiB of memory", "are available"],
    ),
    "too much memory (prompts)": (
        ["simulate", "--D", "2000", "--N", "4000", "--P", "2000000", "--ridge", "0.1", "--algorithm", "dual"],
        ["--P 2000000", "GiB of memory", "are available"],
    ),
    "too much memory (temperature)": (
        ["validate", *LIMIT, "--D", "2000", "--N", "4000", "--P", "8000000", "--ridge", "0.1", "--beta", "9"],
        ["--D 2000", "GiB of memory", "are available"],
    ),
    "unknown algorithm": (["simulate", *POINT, "--algorithm", "magic"], ["--algorithm magic", "must be one of"]),
    "epochs of a solve": (["simulate", *POINT, "--epochs", "9"], ["--epochs 9", "without --algorithm gradient-flow"]),
    "no epoch": (["simulate", *POINT, "--algorithm", "adam", "--epochs", "0"], ["--epochs 0", "at least 1"]),
    "batch without meaning": (["simulate", *POINT, "--algorithm", "gd", "--batch", "9"], ["--batch 9", "closed form"]),
    "training at a temperature": (
        ["simulate", *POINT, "--algorithm", "adam", "--beta", "9"],
        ["--beta 9:", "training has no temperature"],
    ),
    "too much memory (few prompts)": (
        ["simulate", "--D", "1000000", "--N", "2", "--P", "10", "--ridge", "0.1"],
        ["--D 1000000", "GiB of memory", "are available"],
    ),
    "unknown level": (["solve", *POINT, "--level", "exact"], ["--level exact", "must be one of"]),
    "unknown level to validate": (["validate", *POINT, "--level", "exact"], ["--level exact", "must be one of"]),
    "unknown command": (["guess"], ["guess", "choose from", "solve", "simulate", "validate"]),
    "no command": ([], ["COMMAND"]),
    "unknown option": (["solve", *POINT, "--temperature", "1"], ["--temperature"]),
    "ratios to simulate": (["simulate", *RATIOS], ["--alpha"]),
    "option without value": (["solve", *POINT, "--noise"], ["--noise", "expected one argument"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage_is_one_line_and_exit_code_two(
    case: str, capsys: pytest.CaptureFixture[str], empty_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object) -> None:
        raise AssertionError("work was started before the options were checked")

    monkeypatch.setattr("replica_icl.simulator.outcomes.as_finished", start)
    arguments, named = WRONG[case]
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("replica-icl")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    for part in named:
        assert part in err
    assert list(empty_directory.iterdir()) == []


BAD_TASKS = {
    "transposed": (np.ones((6, 3)), "must have shape (K, 6)"),
    "one task as a vector": (np.ones(6), "must have shape (K, 6)"),
    "no task": (np.ones((0, 6)), "must have shape (K, 6)"),
    "nan": (np.where(np.eye(3, 6) > 0, np.nan, 1.0), "must be finite"),
    "infinite": (np.full((3, 6), np.inf), "must be finite"),
    "zero task": (np.ones((3, 6)) * [[1], [0], [1]], "row 1 is zero): must hold no zero task"),
    "complex": (np.ones((3, 6)) * 1j, "must be real numbers"),
    "pickled objects": (np.array([[None] * 6]), "must be a readable .npy file"),
}


@pytest.mark.parametrize("case", BAD_TASKS)
@pytest.mark.parametrize("command", ["solve", "validate"])
def test_a_bad_task_file_is_one_line_and_exit_code_two(
    command: str, case: str, capsys: pytest.CaptureFixture[str], empty_directory: Path
) -> None:
    tasks, allowed = BAD_TASKS[case]
    np.save(empty_directory / "tasks.npy", tasks)
    code, out, err = run(capsys, command, *POINT, "--level", "given-tasks", "--tasks", "tasks.npy")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith(f"replica-icl {command}: error: --tasks ")
    assert allowed in err


@pytest.mark.parametrize(
    ("count", "extra", "named"),
    [
        (3, ["--K", "4"], "--K 4: must equal the number of given tasks, 3"),
        (80, [], "--K 80: must be at most the number of prompts, P = 72"),
        (3, ["--sphere"], "--sphere: must not be given beside tasks: nothing is drawn"),
    ],
)
def test_tasks_that_contradict_the_options_are_one_line_and_exit_code_two(
    count: int, extra: list[str], named: str, capsys: pytest.CaptureFixture[str], empty_directory: Path
) -> None:
    np.save(empty_directory / "tasks.npy", np.ones((count, 6)))
    code, out, err = run(capsys, "solve", *POINT, "--level", "given-tasks", "--tasks", "tasks.npy", *extra)
    assert (code, out) == (2, "")
    assert err == f"replica-icl solve: error: {named}\n"


def test_a_target_error_is_answered_with_the_size_its_floor_and_the_solution(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = run(capsys, "solve", *SOUGHT, *LIMIT, "--for", "P", "--json")
    data = strict(out)
    assert (code, err) == (0, "")
    assert set(data) == GROUND_KEYS | {"P", "target_error", "floor"}
    at = [solve(Setting(D=6, N=12, P=data["P"] - less, ridge=0.05), level="limit").e_icl for less in (0, 1)]
    assert data["e_icl"] == at[0] <= 0.9 < at[1]
    assert data["floor"] < 0.9


@pytest.mark.parametrize("sought", ["alpha", "nu", "kappa"])
def test_a_target_error_is_answered_with_a_ratio(sought: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"alpha": "2", "nu": "2", "kappa": "3", "lam": "0.3"}
    options = [text for name, value in given.items() if name != sought for text in (f"--{name}", value)]
    code, out, _ = run(capsys, "solve", *options, "--target-error", "0.8", "--for", sought)
    found = float(out.split()[2])
    assert code == 0
    assert out.startswith(f"{sought} = {found!r} reaches e_icl 0.8 (its floor is ")
    point: dict[str, Any] = {name: float(value) for name, value in given.items()} | {sought: found}
    assert solve(Ratios(**point)).e_icl == pytest.approx(0.8, rel=1e-7)


def test_a_target_error_is_answered_with_a_number_of_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--D", "20", "--N", "60", "--P", "900", "--ridge", "0.01", "--target-error", "0.7", "--for", "K"]
    code, out, _ = run(capsys, "solve", *given, "--json")
    K = strict(out)["K"]
    setting = Setting(D=20, N=60, P=900, ridge=0.01, K=K)
    assert code == 0
    assert solve(setting, level="limit").e_icl == strict(out)["e_icl"] <= 0.7
    assert solve(replace(setting, K=K - 1), level="limit").e_icl > 0.7


def test_published_prints_every_point(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "published", "--json")
    points = strict(out)["points"]
    assert code == 0
    assert {(p["figure"], p["series"]) for p in points} == {
        ("li_fig4b", "sgd"),
        ("li_fig4b", "amp"),
        ("lu_fig1", "e_icl"),
        ("lu_fig1", "e_idg"),
    }
    assert all(abs(p["z"]) < 4 for p in points)


@pytest.mark.parametrize("command", ["solve", "simulate", "validate"])
def test_minimum_norm_makes_ridge_zero_right_usage(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--D", "4", "--N", "8", "--P", "8", "--ridge", "0", "--minimum-norm"]
    options = {"solve": LIMIT, "simulate": RUN, "validate": [*LIMIT, *RUN]}[command]
    code, out, err = run(capsys, command, *given, *options, "--json")
    assert code in ((0, 1) if command == "validate" else (0,))
    assert err == ""
    strict(out)


def python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=120,
        check=False,
    )


HEAVY = ("numpy", "scipy", "sympy", "matplotlib", "mpmath", "xarray")
REPORT = f"import sys; print('imported:', sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)"


@pytest.mark.parametrize("arguments", [["--help"], ["solve", "--help"], ["simulate", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str], empty_directory: Path) -> None:
    code = f"""
import runpy, sys
sys.argv = ["replica-icl", *{arguments!r}]
try:
    runpy.run_module("replica_icl.cli", run_name="__main__")
except SystemExit as end:
    assert end.code == 0, end.code
{REPORT}
"""
    done = python(code, empty_directory)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "imported: []\n"
    assert done.stdout.strip() == __version__ if arguments == ["--version"] else "usage: replica-icl" in done.stdout


def test_the_help_says_what_each_level_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["solve", "--help"])
    told = capsys.readouterr().out
    for level in LEVELS.values():
        assert f"{level.name:<12} {level.neglects.replace('`', '')}\n" in told


def test_importing_the_package_imports_nothing_heavy(empty_directory: Path) -> None:
    code = f"import replica_icl; replica_icl.Setting(D=2, N=2, P=1, ridge=1.0); dir(replica_icl); {REPORT}"
    done = python(code, empty_directory)
    assert (done.returncode, done.stderr) == (0, "imported: []\n")


def test_solving_needs_no_symbolic_algebra(empty_directory: Path) -> None:
    """The derivation runs ahead of time: a solve reads the lowered functions (fails while those are stale)."""
    code = f"""
import sys
from replica_icl.cli import main
from replica_icl.numeric.levels import LEVELS
assert main(["solve", *{POINT!r}, "--json"]) == 0
print("sympy" in sys.modules, "matplotlib" in sys.modules, file=sys.stderr)
"""
    done = python(code, empty_directory)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "False False\n"
    assert strict(done.stdout)["status"] == "converged"


def test_the_module_exits_with_the_code_of_its_command(empty_directory: Path) -> None:
    def module(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "replica_icl.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=empty_directory, timeout=120, check=False)

    wrong = module("simulate", *once([*POINT, "--ridge", "-1e-3"]))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "replica-icl simulate: error: --ridge -1e-3: must be a number of at least 0\n"
    singular = module("solve", "--alpha", "1", "--nu", "2", "--lam", "0", "--json")
    assert singular.returncode == 1
    good = module("simulate", *POINT, *RUN, "--json")
    assert good.returncode == 0
    assert all(math.isfinite(value["mean"]) for value in strict(good.stdout).values())
    assert list(empty_directory.iterdir()) == []


def test_the_public_names_are_reached_from_the_package_and_no_other() -> None:
    import replica_icl

    assert replica_icl.solve is solve
    assert replica_icl.simulate is simulate
    assert {"Setting", "Ratios", "solve", "simulate", "validate"} <= set(dir(replica_icl))
    with pytest.raises(AttributeError, match="no attribute 'guess'"):
        _ = replica_icl.guess


def test_how_tasks_are_drawn_used_and_given(capsys: pytest.CaptureFixture[str], empty_directory: Path) -> None:
    """The choice of Lu et al., and one task matrix for all realisations, are what the API does."""
    setting = Setting(D=5, N=6, P=40, K=3, ridge=0.1)
    given = ["--D", "5", "--N", "6", "--P", "40", "--ridge", "0.1", "--realisations", "2", "--json"]
    code, out, _ = run(capsys, "simulate", *given, "--K", "3", "--usage", "equal", "--sphere")
    assert code == 0
    assert strict(out)["e_idg"]["mean"] == simulate(setting, 2, usage="equal", sphere=True)["e_idg"].mean
    tasks = np.arange(1.0, 16.0).reshape(3, 5) / 8
    np.save(empty_directory / "tasks.npy", tasks)
    code, out, _ = run(capsys, "simulate", *given, "--tasks", "tasks.npy")
    assert code == 0
    assert strict(out)["e_idg"]["mean"] == simulate(setting, 2, tasks=tasks)["e_idg"].mean
    for more, option in (
        (["--usage", "sometimes", "--K", "3"], "usage"),
        (["--sphere"], "sphere"),
        (["--tasks", "nothing.npy"], "tasks"),
        (["--tasks", "tasks.npy", "--K", "4"], "K"),
    ):
        code, _, err = run(capsys, "simulate", *given, *more)
        assert code == 2
        assert err.startswith(f"replica-icl simulate: error: --{option}")
        assert err.count("\n") == 1


def test_the_spread_is_asked_for_at_finite_size(capsys: pytest.CaptureFixture[str]) -> None:
    from replica_icl.numeric.questions.sample_spread import sample_spread

    code, out, _ = run(capsys, "solve", *POINT, "--spread", "--json")
    expected = sample_spread([Setting(D=6, N=12, P=72, ridge=0.05)])
    assert code == 0
    assert strict(out)["spread"] == {name: values[0] for name, values in expected.items()}
    for refused in (
        [*POINT, *LIMIT, "--spread"],
        [*POINT, "--level", "given-tasks", "--K", "3", "--spread"],
        ["--alpha", "2", "--nu", "2", "--lam", "0.1", "--spread"],
        ["--D", "6", "--N", "12", "--P", "72", "--optimal-ridge", "--spread"],
        ["--D", "6", "--N", "12", "--P", "20", "--ridge", "0", "--minimum-norm", "--spread"],
    ):
        code, out, err = run(capsys, "solve", *refused)
        assert (code, out) == (2, "")
        assert "spread" in err


STRANGE = {
    "noise beyond equations": (["solve", *POINT, "--noise", "1e300"], "--noise 1e300"),
    "ridge beyond floats": (["solve", *POINT, "--ridge", "1e400"], "--ridge 1e400"),
    "abbreviated": (["solve", *POINT[:-2], "--rid", "0.05"], "--rid 0.05"),
    "doubled": (["solve", *POINT, "--D=7"], "--D 7: must be given once"),
    "seed a word": (["solve", *POINT, "--K", "3", "--seed", "abc"], "--seed abc"),
    "seed that draws nothing": (["solve", *POINT, "--seed", "3"], "--seed 3"),
    "tasks and draws": (["solve", *POINT, "--tasks", "tasks.npy", "--draws", "5"], "--draws 5"),
    "tasks and their law": (["simulate", *POINT, "--tasks", "tasks.npy", "--task-law", "rademacher"], "--task-law"),
    "best ridge of a temperature": (
        ["solve", *POINT[:-2], "--optimal-ridge", "--beta", "9"],
        "--beta 9: must not be given",
    ),
    "best ridge coarsely": (["solve", *POINT[:-2], "--optimal-ridge", "--tolerance", "3"], "--tolerance 3"),
    "best ridge of a ridge": (["solve", *POINT, "--optimal-ridge"], "--ridge 0.05"),
    "best ridge of the limit, coarsely": (
        ["solve", *POINT[:-2], *LIMIT, "--optimal-ridge", "--tolerance", "0.01"],
        "--tolerance 0.01",
    ),
    "minimum norm with a ridge": (["solve", *POINT, "--minimum-norm"], "--minimum-norm"),
    "minimum norm above the transition": (
        ["simulate", "--D", "4", "--N", "8", "--P", "40", "--ridge", "0", "--minimum-norm"],
        "--minimum-norm",
    ),
    "no test context": (["solve", *POINT, "--test-N", "0"], "--test-N 0"),
    "test context of the limit": (["solve", *POINT, *LIMIT, "--test-N", "9"], "--test-N 9"),
    "draws at finite size": (["solve", *POINT, "--draws", "3"], "--draws 3"),
    "sphere at finite size": (["solve", *POINT, "--sphere"], "--sphere"),
    "no such derivation": (["derive", "foo"], "NAME foo"),
    "no such format": (["derive", "fresh-tasks", "--format", "pdf"], "--format pdf"),
    "no such figure": (["figure", "foo"], "NAME foo"),
    "published without realisations": (["published", "--out", "new", "--realisations", "0"], "--realisations 0"),
    "published with a negative seed": (["published", "--out", "new", "--seed", "-1"], "--seed -1"),
    "published realisations of nothing": (["published", "--realisations", "5"], "--realisations 5"),
    "published on a file": (["published", "--out", "tasks.npy"], "--out tasks.npy"),
    "no such executor": (["sweep", "g.toml", "--out", "new.nc", "--executor", "foo"], "--executor foo"),
    "no such grid": (["sweep", "none.toml", "--out", "new.nc"], "GRID.toml none.toml"),
    "no such scheduler file": (
        ["sweep", "g.toml", "--out", "new.nc", "--executor", "dask", "--scheduler", "none.json"],
        "--scheduler none.json",
    ),
    "other tasks than the setting's": (
        ["solve", "--D", "7", *POINT[2:], "--tasks", "tasks.npy"],
        "--tasks tasks.npy (array of shape (3, 6)): must have shape (K, 7)",
    ),
    "contexts beyond memory": (
        ["simulate", "--D", "6", "--N", "100000000000", "--P", "72", "--ridge", "0.1"],
        "--N 100000000000: one realisation",
    ),
    "the grid as its own result": (["sweep", "g.toml", "--out", "g.toml"], "--out g.toml"),
}
GRID = '[fixed]\nD = 6\nN = 12\nP = 72\nridge = 0.1\n[theory]\nlevels = ["limit"]\n'


@pytest.mark.parametrize("case", STRANGE)
def test_what_users_try_is_refused_by_what_they_typed(
    case: str, capsys: pytest.CaptureFixture[str], empty_directory: Path
) -> None:
    np.save(empty_directory / "tasks.npy", np.ones((3, 6)))
    (empty_directory / "g.toml").write_text(GRID)
    before = {path: path.read_bytes() for path in empty_directory.iterdir()}
    arguments, named = STRANGE[case]
    try:
        code = main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert named in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in empty_directory.iterdir()} == before


@pytest.mark.parametrize("scale", [1e77, 1e200, 1e-320])
def test_task_files_of_any_size_end_in_one_line(
    scale: float, capsys: pytest.CaptureFixture[str], empty_directory: Path
) -> None:
    np.save(empty_directory / "tasks.npy", np.random.default_rng(0).standard_normal((3, 6)) * scale)
    for command in ("solve", "simulate", "validate"):
        more = [] if command == "solve" else ["--realisations", "2"]
        code, out, err = run(capsys, command, *POINT, "--tasks", "tasks.npy", *more)
        assert (code, out) == (2, "")
        assert err.startswith(f"replica-icl {command}: error: --tasks tasks.npy (")
        assert err.count("\n") == 1


def test_a_header_that_claims_more_than_there_is_is_one_line(
    capsys: pytest.CaptureFixture[str], empty_directory: Path
) -> None:
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1666666666667, 6), }"
    header = header.ljust(117) + "\n"
    (empty_directory / "tasks.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00" + header.encode() + b"\0" * 48)
    code, _, err = run(capsys, "solve", *POINT, "--tasks", "tasks.npy")
    assert code == 2
    assert err == "replica-icl solve: error: --tasks tasks.npy: must be a readable .npy file with a (K, D) matrix\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["solve", *POINT, "--draws", "3"],
        ["solve", *POINT, "--noise", "-1"],
        ["simulate", *POINT, "--realisations", "0"],
        ["validate", *POINT, "--realisations", "1"],
        ["figure", "foo"],
        ["published", "--realisations", "5"],
        ["sweep", "none.toml", "--out", "new.nc"],
        ["sweep", "g.toml", "--out", "g.toml"],
        ["sweep", "g.toml", "--out", "new.nc", "--executor", "foo"],
        ["derive", "foo"],
        ["derive", "fresh-tasks", "--format", "pdf"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_answered_before_anything_heavy_is_imported(arguments: list[str], empty_directory: Path) -> None:
    (empty_directory / "g.toml").write_text(GRID)
    code = f"""
import sys
from replica_icl.cli import main
from replica_icl.numeric.levels import LEVELS
assert main({arguments!r}) == 2
{REPORT}
"""
    done = python(code, empty_directory)
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith("imported: []\n"), done.stderr


def test_the_package_runs_as_a_module(empty_directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "replica_icl", "--version"], capture_output=True, text=True, cwd=empty_directory
    )
    assert (done.returncode, done.stdout.strip()) == (0, __version__)
