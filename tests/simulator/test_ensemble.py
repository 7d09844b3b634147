"""Ensembles are reproducible, keep every realisation, and fail loudly."""

import io
import logging
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from replica_icl import __version__
from replica_icl.errors import MemoryEstimateError, ParameterError, SolveError
from replica_icl.setting import Setting
from replica_icl.simulator import budget, ensemble, outcomes
from replica_icl.simulator.ensemble import SimulatedEnsemble, simulate
from replica_icl.simulator.observables import icl_error, idg_error
from replica_icl.simulator.realisation import draw_instance, realise
from replica_icl.simulator.streams import setting_key

WARM = Setting(D=6, N=9, P=30, ridge=1e-2, noise=0.1, beta=50.0, K=4)
COLD = Setting(D=6, N=9, P=60, ridge=1e-2)
GROUND = ["e_icl", "e_idg", "train_error", "m", "q", "u", "contrast"]


def equal(one: SimulatedEnsemble, other: SimulatedEnsemble) -> bool:
    return all(np.array_equal(one.values[name], other.values[name]) for name in one.values)


def test_results_are_bit_identical_for_any_number_of_workers() -> None:
    for setting in (WARM, replace(WARM, P=60)):  # dual and dense
        assert equal(simulate(setting, 3, workers=1), simulate(setting, 3, workers=2))


def test_a_realisation_does_not_depend_on_the_others() -> None:
    many, few = simulate(WARM, 5, seed=3), simulate(WARM, 2, seed=3)
    for name, values in few.values.items():
        np.testing.assert_array_equal(values, many.values[name][:2])
        assert len(set(many.values[name])) == 5
    alone = realise(WARM, seed=3, realisation=4)
    assert alone.values["e_icl"] == pytest.approx(many.values["e_icl"][4], rel=1e-12)


def test_seeds_and_settings_have_streams_of_their_own() -> None:
    base = draw_instance(WARM, seed=0).features.target
    np.testing.assert_array_equal(draw_instance(WARM, seed=0).features.target, base)
    others = [draw_instance(WARM, seed=1), draw_instance(WARM, realisation=1)]
    others += [draw_instance(replace(WARM, ridge=0.02)), draw_instance(replace(WARM, beta=math.inf))]
    assert all(not np.any(np.isin(other.features.target, base)) for other in others)


def test_setting_key_is_the_same_in_every_process() -> None:
    command = (
        "from replica_icl.setting import Setting; from replica_icl.simulator.streams import setting_key;"
        f"print(setting_key({WARM!r}))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, env=environment)
    assert int(done.stdout) == setting_key(WARM)


def test_observables_are_scores_of_the_ground_state() -> None:
    one = realise(WARM, seed=5)
    assert one.instance.tasks is not None
    assert one.instance.tasks.shape == (4, 6)
    assert one.values["e_icl"] == icl_error(one.ground.W, 9, 0.1, D=COLD.D)
    assert one.values["e_idg"] == idg_error(one.ground.W, one.instance.tasks, 9, 0.1)
    assert list(one.values) == [*GROUND, "e_gibbs", "train_gibbs", "log_Z", "entropy"]
    assert one.values["e_gibbs"] > one.values["e_icl"]
    assert one.values["train_gibbs"] > one.values["train_error"]


def test_fresh_tasks_have_one_test_error_and_no_temperature_no_gibbs() -> None:
    cold = simulate(COLD, 2)
    assert list(cold.values) == GROUND
    np.testing.assert_array_equal(cold.values["e_idg"], cold.values["e_icl"])


def test_ground_state_statistics_do_not_depend_on_temperature_or_algorithm() -> None:
    dense, dual = (simulate(WARM, 2, algorithm=name) for name in ("dense", "dual"))
    assert (dense.provenance.algorithm, dual.provenance.algorithm) == ("dense", "dual")
    for name in dense.values:
        np.testing.assert_allclose(dense.values[name], dual.values[name], rtol=1e-9)


def test_conjugate_gradients_give_the_ground_state_statistics_and_refuse_a_temperature() -> None:
    exact, iterated = simulate(COLD, 2, algorithm="dense"), simulate(COLD, 2, algorithm="cg")
    assert iterated.provenance.algorithm == "cg"
    for name in exact.values:
        np.testing.assert_allclose(iterated.values[name], exact.values[name], rtol=1e-7)
    with pytest.raises(ParameterError, match="algorithm = cg: must be dense or dual at finite beta"):
        simulate(WARM, 2, algorithm="cg")


def test_other_laws_are_simulated_scored_and_recorded() -> None:
    signs = simulate(replace(COLD, K=4), 2, law="rademacher", task_law="sparse:0.5")
    law = signs.provenance.law
    assert (str(law.tokens), str(law.tasks), law.sampler) == ("rademacher", "sparse:0.5", "tokens")
    one = realise(replace(COLD, K=4), law=law)
    assert one.instance.tasks is not None
    assert np.any(one.instance.tasks == 0)
    assert signs.values["e_icl"][0] == pytest.approx(
        icl_error(one.ground.W, 9, 0.0, law, D=len(one.ground.W) - 1), rel=1e-12
    )
    assert signs.values["e_idg"][0] == pytest.approx(idg_error(one.ground.W, one.instance.tasks, 9, 0.0, law))
    assert not equal(signs, simulate(replace(COLD, K=4), 2))
    with pytest.raises(ParameterError, match="prompts = sufficient"):
        simulate(COLD, 2, prompts="sufficient", law="uniform")


def test_long_jobs_are_announced(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    with caplog.at_level(logging.INFO, logger="replica_icl"):
        simulate(COLD, 2)
        assert not caplog.records
        monkeypatch.setattr(ensemble, "run_jobs", stop)
        with pytest.raises(KeyboardInterrupt):
            simulate(COLD, 10**9, workers=2)
    told = r"estimated: about \d+ days for 1000000000 realisations in 2 processes, with 0\.\d GiB of memory"
    assert re.fullmatch(told, caplog.records[-1].getMessage())
    huge = Setting(D=5000, N=5000, P=10**8, ridge=0.01)
    monkeypatch.setattr(budget, "available_bytes", lambda: 2**30)
    with pytest.raises(MemoryEstimateError, match=r"GiB of memory, 1\.0 GiB are available \(and about \d+ years on"):
        simulate(huge, 1)


def stop(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (3, "3 s"),
        (300, "5 min"),
        (7200, "2.0 h"),
        (5e5, "6 days"),
        (5e7, "1.6 years"),
        (8e9, "253 years"),
        (math.inf, "inf years"),
    ],
)
def test_times_are_told_in_units_of_their_size(seconds: float, told: str) -> None:
    assert budget.duration(seconds) == told


@pytest.mark.parametrize("point", [3, None, Setting(D=6, N=9, P=[60, 70], ridge=0.01), "limit"])
def test_what_is_no_single_setting_is_refused(point: Any) -> None:
    with pytest.raises(ParameterError, match="must be one setting in raw numbers"):
        simulate(point, 2)


def test_mean_and_standard_error_over_realisations() -> None:
    result = simulate(COLD, 4, seed=1)
    values = result.values["m"]
    assert values.shape == (4,)
    assert result.n == result["m"].n == 4
    assert result.mean["m"] == pytest.approx(values.sum() / 4)
    expected = math.sqrt(np.sum((values - values.mean()) ** 2) / 3 / 4)
    assert result.sem["m"] == pytest.approx(expected)
    assert result.to_dict()["m"] == {
        "mean": result.mean["m"],
        "sem": result.sem["m"],
        "spread": result.spread["m"],
        "n": 4,
    }
    assert simulate(COLD, 1).to_dict()["q"]["sem"] is None


def test_given_tasks_fix_k_and_are_recorded() -> None:
    tasks = np.random.default_rng(0).standard_normal((3, 6))
    result = simulate(COLD, 2, tasks=tasks)
    assert result.provenance.setting == replace(COLD, K=3)
    assert result.provenance.tasks_sha256 is not None
    assert equal(result, simulate(replace(COLD, K=3), 2, tasks=tasks))
    other = simulate(COLD, 2, tasks=2 * tasks)
    assert other.provenance.tasks_sha256 != result.provenance.tasks_sha256
    assert not equal(result, other)
    np.testing.assert_array_equal(draw_instance(COLD, tasks=tasks).tasks, tasks)
    with pytest.raises(ParameterError, match="K = 2: must equal the number of given tasks, 3"):
        simulate(replace(COLD, K=2), 2, tasks=tasks)


def test_provenance_says_what_was_run() -> None:
    made = simulate(COLD, 2, seed=9).provenance
    assert (made.setting, made.seed, made.realisations) == (COLD, 9, 2)
    assert (made.algorithm, made.version, made.tasks_sha256) == ("dense", __version__, None)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("realisations", 0), ("realisations", 2.0), ("seed", -1), ("workers", 0), ("algorithm", "magic")],
)
def test_bad_arguments_are_named(argument: str, value: object) -> None:
    arguments: dict[str, Any] = {"realisations": 2, argument: value}
    with pytest.raises(ParameterError) as caught:
        simulate(COLD, **arguments)
    assert caught.value.parameter == argument


@pytest.mark.parametrize("workers", [1, 2])
def test_failed_solve_is_reported_by_its_index(workers: int) -> None:
    ridgeless = Setting(D=3, N=4, P=20, ridge=0.0)
    with pytest.raises(SolveError, match=r"realisation 0 of 2 \(seed 0\): .*numerically singular"):
        simulate(ridgeless, 2, workers=workers, tasks=np.zeros((1, 3)))


def test_one_failure_among_many_is_not_averaged_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(setting: Setting, seed: int, index: int, *rest: Any) -> Any:
        done = realise(setting, seed, index, *rest)
        return replace(done, values={**done.values, "q": math.nan}) if index == 2 else done

    monkeypatch.setattr(outcomes, "realise", broken)
    with pytest.raises(SolveError, match=r"realisation 2 of 4 \(seed 0\): not finite: q"):
        simulate(COLD, 4, workers=1)


@pytest.mark.parametrize(
    ("setting", "options", "parameter"),
    [
        (Setting(D=2000, N=4, P=5_000_000, ridge=0.1), {"algorithm": "dense"}, "D"),
        (Setting(D=2000, N=4, P=5_000_000, ridge=0.1, beta=10.0), {}, "D"),
        (Setting(D=2000, N=4, P=3_000_000, ridge=0.1), {"algorithm": "dual"}, "P"),
        (Setting(D=2, N=4, P=10**12, ridge=0.1), {"streaming": False}, "P"),
    ],
)
def test_too_large_a_job_is_refused_before_any_work(setting: Setting, options: dict[str, Any], parameter: str) -> None:
    with pytest.raises(MemoryEstimateError, match=r"would need .* GiB of memory, .* GiB are available") as caught:
        simulate(setting, 1, **options)
    assert (caught.value.parameter, caught.value.value) == (parameter, getattr(setting, parameter))


def test_workers_are_limited_by_memory_and_by_the_number_of_realisations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need = budget.realisation_bytes(COLD, "dense")
    monkeypatch.setattr(ensemble, "available_bytes", lambda: 2 * need)
    assert ensemble._choose_workers(8, COLD, 20, "dense") == 2
    monkeypatch.setattr(ensemble, "available_bytes", lambda: 100 * need)
    assert ensemble._choose_workers(8, COLD, 20, "dense") == 8
    assert ensemble._choose_workers(8, COLD, 3, "dense") == 3


def test_small_jobs_are_serial_and_long_ones_parallel_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensemble, "processors", lambda: 3)
    monkeypatch.setattr(ensemble, "available_bytes", lambda: 2**40)
    assert ensemble._choose_workers(None, COLD, 5, "dense") == 1
    assert ensemble._choose_workers(None, COLD, 10**6, "dense") == 3


def test_progress_is_log_lines_without_a_terminal_and_a_bar_on_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with caplog.at_level(logging.INFO, logger="replica_icl"):
        simulate(COLD, 2, workers=1, progress=True)
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 2 realisations",
        "2 of 2 realisations",
    ]
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    simulate(COLD, 2, workers=1, progress=True)
    assert "2/2" in terminal.getvalue()


def test_processes_do_not_need_a_guarded_main_module() -> None:
    script = (
        "from replica_icl.setting import Setting\n"
        "from replica_icl.simulator.ensemble import simulate\n"
        "print(simulate(Setting(6, 9, 20, 0.1), 2, workers=2).n)\n"
    )
    done = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.stderr) == ("2", "")
