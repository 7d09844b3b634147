"""Penalties beside the ridge: fields of a setting, options of every command, keys of grid files, or refused by name."""

import json
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from replica_icl.cli import main
from replica_icl.conventions import LuUnits
from replica_icl.errors import ParameterError
from replica_icl.keys import named_fields
from replica_icl.meeting.validation import PRIOR_BIAS, validate
from replica_icl.numeric.given_tasks import solve_given_tasks
from replica_icl.numeric.missing_onsager import effective_ridges
from replica_icl.numeric.questions.sample_spread import sample_spread
from replica_icl.numeric.questions.spectrum import hessian_density
from replica_icl.numeric.questions.susceptibility import susceptibility
from replica_icl.numeric.solve import solve
from replica_icl.priors import PENALTIES, PRIORS, prior_of
from replica_icl.ratios import ratios
from replica_icl.setting import Setting
from replica_icl.simulator.ensemble import simulate
from replica_icl.simulator.optima.registry import MINIMISERS
from replica_icl.simulator.realisation import draw_instance
from replica_icl.simulator.streams import setting_key
from replica_icl.sweep.grid import grid_of
from replica_icl.sweep.run import run_sweep

RIDGE = Setting(D=6, N=12, P=30, ridge=0.02)
WITH: dict[str, Any] = {"l1": 0.02}
NUMBERS = ["--D", "6", "--N", "12", "--P", "30"]


def test_every_penalty_is_a_field_of_a_prior_and_of_a_setting_and_has_both_halves() -> None:
    named = {name: prior for prior in PRIORS for name in prior.penalty_names()}
    assert set(named) == set(PENALTIES) == set(WITH)
    assert set(PENALTIES) < {field.name for field in fields(Setting)}
    assert {prior.name for prior in PRIORS} <= set(MINIMISERS)
    for name, value in WITH.items():
        assert prior_of(replace(RIDGE, **{name: value})) == named[name](value)


@pytest.mark.parametrize("name", WITH)
def test_an_absent_penalty_leaves_keys_and_streams_as_they_were(name: str) -> None:
    assert setting_key(RIDGE) == 0x2F7A2308CE8C1643053047B82E45FBD9  # as it was before there was a penalty
    assert name not in dict(named_fields(RIDGE))
    assert setting_key(replace(RIDGE, **{name: 0.0})) == setting_key(RIDGE)
    assert setting_key(replace(RIDGE, **{name: WITH[name]})) != setting_key(RIDGE)


@pytest.mark.parametrize("name", WITH)
def test_theory_and_simulation_are_those_of_the_prior_and_meet(name: str) -> None:
    point = replace(RIDGE, ridge=0.01, **{name: WITH[name]})
    theory = solve(point)
    bare = replace(point, **{name: 0.0})
    assert theory.e_icl == solve(bare, prior=prior_of(point)).e_icl != solve(bare).e_icl
    limit = solve(point, "limit")
    assert limit.converged
    assert limit.e_icl != solve(bare, "limit").e_icl
    found = simulate(point, 3, seed=5)
    features = draw_instance(point, 5, 1).features
    optimum = MINIMISERS[type(prior_of(point)).name](features, ridge=0.01, **{name: WITH[name]})
    assert found.values["train_error"][1] == optimum.training_error
    assert 0 <= found.gap.mean < 1e-9
    checked = validate(point, 30, seed=2)
    assert checked.agrees
    assert checked.bias == PRIOR_BIAS


@pytest.mark.parametrize("name", WITH)
def test_every_command_takes_it_alone_or_beside_a_ridge(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    penalty = [f"--{name}", str(WITH[name])]
    for beside in ([], ["--ridge", "0.01"]):
        assert main(["solve", *NUMBERS, *penalty, *beside, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        ridge = 0.01 if beside else 0.0
        assert told["e_icl"] == solve(Setting(D=6, N=12, P=30, ridge=ridge, **{name: WITH[name]})).e_icl
        assert 0 < told["replicon"] < 1
        assert main(["simulate", *NUMBERS, *penalty, *beside, "--realisations", "2", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["gap"]["n"] == 2
    assert main(["validate", *NUMBERS, *penalty, "--realisations", "20"]) == 0
    assert f"plus a bias of {PRIOR_BIAS}/D" in capsys.readouterr().out


@pytest.mark.parametrize("name", WITH)
def test_its_best_value_is_an_answer_of_the_command_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for ridge in ([], ["--ridge", "0.01"]):
        assert main(["solve", *NUMBERS, *ridge, f"--optimal-{name}", "--tolerance", "0.001", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        at = Setting(D=6, N=12, P=30, ridge=0.01 if ridge else 0.0, **{name: told[f"optimal_{name}"]})
        assert told["e_icl"] == pytest.approx(solve(at, tolerance=1e-3).e_icl, rel=1e-9)
    for options, message in (
        ([f"--{name}", "0.1"], f"--{name} 0.1: must not be given with --optimal-{name}, which finds it"),
        (["--optimal-ridge"], "one question at a time"),
        (["--K", "3", "--ridge", "0.1"], f"given-tasks: must be finite-size or limit with optimal-{name}"),
        (["--beta", "9"], "--beta 9: must not be given with the best penalty"),
    ):
        assert main(["solve", *NUMBERS, f"--optimal-{name}", *options]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert main(["solve", "--alpha", "1", "--nu", "2", "--lam", "0.1", f"--optimal-{name}"]) == 2
    assert "must be given with raw numbers" in capsys.readouterr().err


@pytest.mark.parametrize("name", WITH)
def test_grid_files_fix_or_sweep_it(name: str) -> None:
    table = {"fixed": {"D": 6, "N": 12, "P": 30}, "swept": {name: [WITH[name], 2 * WITH[name]]}}
    both = {"theory": {"levels": ["finite-size", "limit"]}, "simulation": {"realisations": 2}}
    swept = run_sweep(grid_of({**table, **both}), executor="serial")
    at = swept.sel({name: 2 * WITH[name]})
    point = Setting(D=6, N=12, P=30, ridge=0.0, **{name: 2 * WITH[name]})
    assert float(at.e_icl.sel(level="finite-size")) == pytest.approx(solve(point).e_icl, rel=1e-10)
    assert float(at.e_icl.sel(level="limit")) == pytest.approx(solve(point, "limit").e_icl, rel=1e-10)
    assert float(at.e_icl_mean) == simulate(point, 2).e_icl.mean
    assert swept[name].attrs["long_name"] == PENALTIES[name].meaning
    beside = {"fixed": {"D": 6, "N": 12, "P": 30, "ridge": 0.02}, "swept": {name: [0.0, WITH[name]]}}
    mixed = run_sweep(grid_of({**beside, **both}), executor="serial")
    assert float(mixed.e_icl.sel({name: 0.0, "level": "finite-size"})) == pytest.approx(solve(RIDGE).e_icl, rel=1e-10)


@pytest.mark.parametrize("name", WITH)
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["solve", "--K", "3"], "must be absent at level given-tasks"),
        (["solve", "--spread"], "must be absent with spread"),
        (["solve", "--beta", "20"], "must be inf with"),
        (["simulate", "--beta", "20"], "must be inf with"),
        (["simulate", "--algorithm", "cg"], "must be proximal or gamp under"),
        (["simulate", "--algorithm", "adam"], "must be proximal or gamp under"),
        (["validate", "--K", "3"], "must be absent at level given-tasks"),
        (["solve", "--minimum-norm"], "must not be given with a penalty"),
    ],
)
def test_what_has_no_such_prior_says_so_in_one_line(
    name: str, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *others = arguments
    assert main([command, *NUMBERS, f"--{name}", str(WITH[name]), *others]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", WITH)
def test_bad_penalties_are_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for value in ("-0.1", "nan", "inf", "x"):
        assert main(["solve", *NUMBERS, f"--{name}", value]) == 2
        assert f"--{name} {value}: must be a number of at least 0" in capsys.readouterr().err
    assert main(["solve", *NUMBERS, "--ridge", "0", f"--{name}", "0"]) == 2
    assert "the ground state is not unique" in capsys.readouterr().err
    assert main(["solve", "--alpha", "1", "--nu", "2", "--lam", "0.1", f"--{name}", "0.1"]) == 2
    assert f"must not be mixed with --{name}" in capsys.readouterr().err
    assert main(["simulate", *NUMBERS, "--ridge", "0.1", "--algorithm", "proximal"]) == 2
    assert "must be one of dense, dual, cg" in capsys.readouterr().err


@pytest.mark.parametrize("name", WITH)
def test_theories_of_the_ridge_refuse_it(name: str) -> None:
    point = replace(RIDGE, **{name: WITH[name]})
    for ask in (
        ratios,
        LuUnits.of,
        effective_ridges,
        lambda x: hessian_density(x, [0.1]),
        lambda x: susceptibility([x]),
        lambda x: sample_spread([x]),
        lambda x: solve_given_tasks(x, np.ones((3, 6))),
        lambda x: solve(x, prior=prior_of(x)),
    ):
        with pytest.raises(ParameterError, match=f"{name} = {WITH[name]}: must be absent"):
            ask(point)  # type: ignore[operator]
