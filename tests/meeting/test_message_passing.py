"""Message passing as an algorithm of the simulator: what is reported and refused, and that failures do not count."""

import json
import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from replica_icl.cli import main
from replica_icl.errors import ParameterError
from replica_icl.meeting.message_passing import MessagePassing
from replica_icl.meeting.validation import validate
from replica_icl.setting import Setting
from replica_icl.simulator.ensemble import simulate
from replica_icl.simulator.outcomes import RealisationError
from replica_icl.simulator.realisation import realise
from replica_icl.sweep.grid import SimulationPlan
from replica_icl.sweep.work import simulation_version

SETTING = Setting(D=8, N=30, P=600, ridge=0.2)


def test_on_the_prompts_it_is_the_exact_simulation() -> None:
    exact, found = (simulate(SETTING, 5, algorithm=how) for how in (None, MessagePassing("gamp")))
    for name, values in exact.values.items():
        np.testing.assert_allclose(found.values[name], values, rtol=1e-7)
    assert found["distance"].mean < 1e-8
    assert 5 < found["iterations"].mean < 40


def test_as_published_it_is_the_simulation_of_another_fixed_point() -> None:
    exact, found = (simulate(SETTING, 5, algorithm=how) for how in (None, MessagePassing("relaxed-bp")))
    assert 1e-3 < found["distance"].mean < 0.2
    assert not np.allclose(found.values["e_icl"], exact.values["e_icl"], rtol=1e-4)


def test_distance_is_that_of_the_weights() -> None:
    how = MessagePassing("relaxed-bp")
    one, exact = realise(SETTING, 3, 1, how), realise(SETTING, 3, 1)
    away = np.linalg.norm(one.ground.W - exact.ground.W) / np.linalg.norm(exact.ground.W)
    assert one.values["distance"] == pytest.approx(away, rel=1e-9)


def test_one_failed_realisation_is_in_no_mean_and_is_counted() -> None:
    """Of ten instances at a limit of iterations between their needs some fail, and the answer is an error."""
    needs = simulate(SETTING, 10, algorithm=MessagePassing("gamp")).values["iterations"]
    limit = int(np.median(needs))
    failing = int((needs > limit).sum())
    assert 0 < failing < 10
    with pytest.raises(
        RealisationError, match=rf"^{failing} of 10 realisations failed: .*gamp did not converge"
    ) as caught:
        simulate(SETTING, 10, algorithm=MessagePassing("gamp", max_iterations=limit))
    assert len(caught.value.failures) == failing
    assert len(caught.value.finished) == 10 - failing


@pytest.mark.parametrize(("algorithm", "damping"), [("gamp", 0.0), ("relaxed-bp", 0.9)])
def test_defaults_are_filled_in_and_decide_the_key(algorithm: str, damping: float) -> None:
    default = MessagePassing(algorithm)
    assert default == MessagePassing(algorithm, damping=damping)
    assert default.described() != MessagePassing(algorithm, damping=0.5).described()
    assert simulation_version(algorithm) != simulation_version()


@pytest.mark.parametrize(
    ("how", "setting", "named"),
    [
        ("gamp", replace(SETTING, beta=10.0), "beta"),
        ("relaxed-bp", replace(SETTING, ridge=0.0), "ridge"),
        ("gamp", Setting(D=8, N=30, P=20, ridge=0.0, minimum_norm=True), "ridge"),
    ],
)
def test_settings_without_meaning_are_refused(how: str, setting: Setting, named: str) -> None:
    with pytest.raises(ParameterError, match=f"^{named} = "):
        simulate(setting, 2, algorithm=MessagePassing(how))


def test_a_name_alone_leads_to_the_class() -> None:
    with pytest.raises(ParameterError, match=re.escape("MessagePassing('gamp')")):
        simulate(SETTING, 2, algorithm="gamp")


def test_validation_takes_it() -> None:
    assert validate(SETTING, 8, algorithm=MessagePassing("gamp")).agrees
    biased = validate(replace(SETTING, P=2000, ridge=0.05), 20, algorithm=MessagePassing("relaxed-bp"))
    assert {row.observable: row.z for row in biased.rows}["m"] > 4


@pytest.mark.parametrize(
    ("plan", "named"),
    [
        ({"algorithm": "dense", "damping": 0.1}, "damping"),
        ({"algorithm": "adam", "max_iterations": 5}, "max_iterations"),
        ({"max_iterations": 5}, "max_iterations"),
        ({"algorithm": "gamp", "damping": 1.0}, "damping"),
    ],
)
def test_a_sweep_refuses_options_that_would_not_act(plan: dict[str, Any], named: str) -> None:
    with pytest.raises(ParameterError, match=f"^{named} = "):
        SimulationPlan(2, **plan)
    assert SimulationPlan(2, algorithm="gamp", damping=0.5).how() == MessagePassing("gamp", 0.5)


POINT = ("--D", "8", "--N", "30", "--P", "600", "--ridge", "0.2", "--realisations", "3")


@pytest.mark.parametrize("algorithm", ["gamp", "relaxed-bp"])
def test_command_line(algorithm: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", *POINT, "--algorithm", algorithm, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["distance"]["n"] == found["iterations"]["n"] == 3
    assert math.isfinite(found["e_icl"]["mean"])


@pytest.mark.parametrize(
    ("extra", "code", "told"),
    [
        (("--algorithm", "gamp", "--max-iterations", "3"), 1, "3 of 3 realisations failed"),
        (("--damping", "0.5"), 2, "--damping 0.5: must not be given without --algorithm gamp or relaxed-bp"),
        (("--algorithm", "dual", "--max-iterations", "5"), 2, "--max-iterations 5: must not be given without"),
        (("--algorithm", "gamp", "--damping", "1.5"), 2, "--damping 1.5: must be at least 0 and below 1"),
        (("--algorithm", "gamp", "--epochs", "5"), 2, "--epochs 5: must not be given without --algorithm gradient"),
        (("--algorithm", "gamp", "--beta", "5"), 2, "--beta 5: must be inf with gamp"),
    ],
)
def test_wrong_usage_and_failure_on_the_command_line(
    extra: tuple[str, ...], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *POINT, *extra]) == code
    written = capsys.readouterr()
    assert told in written.err
    assert written.out == ""
