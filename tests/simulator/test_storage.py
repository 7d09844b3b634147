"""Stored realisations survive whatever ends a run, and a second call goes on to the same bytes."""

import errno
import json
import multiprocessing
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from replica_icl import store as ground
from replica_icl.errors import ParameterError, SolveError, StorageError
from replica_icl.setting import Setting
from replica_icl.simulator import outcomes, storage
from replica_icl.simulator.ensemble import simulate
from replica_icl.simulator.optimisers import Training
from replica_icl.simulator.outcomes import RealisationError
from replica_icl.simulator.realisation import realise
from replica_icl.simulator.storage import Store
from replica_icl.store import write_whole

COLD = Setting(D=6, N=9, P=60, ridge=1e-2)
R = 4


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def finished(folder: Path) -> list[int]:
    return sorted(json.loads(path.read_text())["realisation"] for path in folder.glob("*/realisation-*.json"))


def test_every_realisation_and_the_merged_file_read_back_bit_by_bit(tmp_path: Path) -> None:
    result = simulate(COLD, R, seed=3, out=tmp_path)
    merged = json.loads(next(tmp_path.glob("simulate-*.json")).read_text())
    assert finished(tmp_path) == [0, 1, 2, 3]
    assert merged["estimates"] == result.to_dict()
    assert merged["experiment"]["setting"]["beta"] == "inf"
    for name, values in result.values.items():
        assert merged["values"][name] == values.tolist()
    np.testing.assert_array_equal(simulate(COLD, R, seed=3).values["q"], result.values["q"])


def test_what_is_stored_is_not_simulated_again_and_more_realisations_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(setting: Setting, seed: int, index: int, *rest: Any) -> Any:
        asked.append(index)
        return realise(setting, seed, index, *rest)

    monkeypatch.setattr(outcomes, "realise", counted)
    how = Training("adam", epochs=4, record=2)
    first = simulate(COLD, 2, workers=1, out=tmp_path, algorithm=how)
    again = simulate(COLD, 3, workers=1, out=tmp_path, algorithm=how)
    assert asked == [0, 1, 2]
    np.testing.assert_array_equal(again.curves["e_icl"][:2], first.curves["e_icl"])
    assert again.curves["epoch"].shape == (3, 3)
    simulate(COLD, 1, workers=1, out=tmp_path, seed=1, algorithm=how)
    simulate(COLD, 1, workers=1, out=tmp_path)
    monkeypatch.setattr(storage, "model_version", lambda: "another")
    simulate(COLD, 1, workers=1, out=tmp_path)
    assert asked == [0, 1, 2, 0, 0, 0]  # another seed, algorithm or model is another experiment
    assert len(list(tmp_path.glob("simulate-*.json"))) == 4


def test_a_damaged_file_is_simulated_again(tmp_path: Path) -> None:
    simulate(COLD, 2, out=tmp_path)
    before = content(tmp_path)
    next(tmp_path.glob("*/realisation-000001.json")).write_text('{"realisation": 1, "val')
    simulate(COLD, 2, out=tmp_path)
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: re.sub(r'("e_icl": \d\.\d)\d', r"\g<1>0", text),
        lambda text: text.replace('"m"', '"n"'),
        lambda text: '{"realisation": 1, "values": 3}',
        lambda text: '{"realisation": 1, "values": {"e_icl": "x"}}',
        lambda text: "[]",
        lambda text: text.replace('"realisation": 1', '"realisation": 0'),
    ],
)
def test_a_realisation_that_was_changed_is_noticed_and_simulated_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[str], str]
) -> None:
    simulate(COLD, 2, out=tmp_path)
    before = content(tmp_path)
    path = next(tmp_path.glob("*/realisation-000001.json"))
    path.write_text(damage(path.read_text()))
    assert content(tmp_path) != before
    caplog.clear()
    simulate(COLD, 2, out=tmp_path)
    assert content(tmp_path) == before
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        message for message in caplog.messages if f"{path} is damaged" in message
    ]
    assert "is damaged" in caplog.text


def test_a_realisation_of_another_experiment_is_none_of_this_one(tmp_path: Path) -> None:
    simulate(COLD, 2, out=tmp_path)
    before = content(tmp_path)
    simulate(COLD, 2, seed=1, out=tmp_path / "other")
    path, other = (next(folder.glob("*/realisation-000001.json")) for folder in (tmp_path, tmp_path / "other"))
    path.write_bytes(other.read_bytes())
    simulate(COLD, 2, out=tmp_path)
    assert {name: data for name, data in content(tmp_path).items() if not name.startswith("other")} == before


RUN = ["simulate", "--D", "14", "--N", "28", "--P", "400", "--ridge", "0.01", "--seed", "5", "--json"]
Start = Callable[..., Any]


def survives(start: Start, tmp_path: Path, kills: int, *options: str) -> None:
    """Kill a run again and again, at random moments while it is simulating and storing, then let it end."""
    arguments = [*RUN, "--realisations", "40", *options, "--out"]
    code, printed, _ = start(*arguments, str(tmp_path / "whole")).ended()
    assert code == 0
    chance, killed = random.Random(11), tmp_path / "killed"
    for kill in range(1, kills + 1):
        run = start(*arguments, str(killed))
        run.wait_for(lambda kill=kill: len(finished(killed)) >= kill * 40 // (kills + 2))
        time.sleep(chance.uniform(0, 0.02))
        run.run.kill()
        assert run.ended()[0] == -signal.SIGKILL
        assert run.left() == []
    assert 0 < len(finished(killed)) < 40
    assert start(*arguments, str(killed)).ended()[:2] == (0, printed)
    assert content(killed) == content(tmp_path / "whole")


def test_a_run_killed_at_random_moments_and_resumed_gives_the_same_bytes(start: Start, tmp_path: Path) -> None:
    survives(start, tmp_path, 4, "--workers", "1")


@pytest.mark.long
@pytest.mark.parametrize("workers", ["1", "2"])
def test_ten_kills_change_no_byte(start: Start, tmp_path: Path, workers: str) -> None:
    survives(start, tmp_path, 10, "--workers", workers)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("sent", "code", "told"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_run_that_is_to_end_does_so_promptly_and_keeps_what_is_finished(
    start: Start, tmp_path: Path, workers: str, sent: signal.Signals, code: int, told: str
) -> None:
    """An interrupt goes to every process of a terminal, a termination to one."""
    run = start(*RUN, "--workers", workers, "--realisations", "100000", "--out", str(tmp_path))
    run.wait_for(lambda: finished(tmp_path))
    (os.killpg if sent == signal.SIGINT else os.kill)(run.run.pid, sent)
    found, _, err = run.ended()  # the rest would take hours
    assert (found, err.splitlines()[-1]) == (code, f"replica-icl simulate: {told}")
    assert "Traceback" not in err
    assert finished(tmp_path)
    assert run.left() == []


def test_a_full_disk_is_one_error_and_keeps_what_was_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from replica_icl.cli import main

    def filling(path: Path, data: Any) -> None:
        if path.name == "realisation-000002.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_whole(path, data)

    monkeypatch.setattr(ground, "write_whole", filling)
    options = ["simulate", "--D", "6", "--N", "9", "--P", "60", "--ridge", "0.01", "--workers", "1", "--json"]
    options += ["--realisations", "4", "--out", str(tmp_path)]
    assert main(options) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "No space left on device; 2 finished realisations are kept in" in err
    assert finished(tmp_path) == [0, 1]
    monkeypatch.undo()
    assert main(options) == 0
    assert finished(tmp_path) == [0, 1, 2, 3]


LIMITED = """
import resource, signal, sys
from replica_icl.cli import main
from replica_icl.simulator import outcomes

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
run = outcomes.run_job

def limiting(job):
    if job.index == 2:  # from here on no file can grow beyond 100 bytes
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    return run(job)

outcomes.run_job = limiting
raise SystemExit(main(sys.argv[1:]))
"""


def test_a_write_that_the_system_refuses_is_one_error_and_keeps_what_was_finished(tmp_path: Path) -> None:
    """Not injected: the operating system fails the write in the middle of a file."""
    options = ["simulate", "--D", "6", "--N", "9", "--P", "60", "--ridge", "0.01", "--workers", "1", "--json"]
    options += ["--realisations", "4", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", LIMITED, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "File too large; 2 finished realisations are kept in" in done.stderr
    assert finished(tmp_path) == [0, 1]
    assert not list(tmp_path.rglob("*.part"))
    again = subprocess.run(
        [sys.executable, "-m", "replica_icl.cli", *options], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0
    assert finished(tmp_path) == [0, 1, 2, 3]


def test_a_write_that_fails_half_way_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.json"
    write_whole(path, {"good": 1})
    before = content(tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, {"bad": 2})
    assert content(tmp_path) == before
    with pytest.raises(StorageError, match=r"could not write to .*: No space left on device"):
        Store(tmp_path, {})


def test_a_path_that_cannot_be_written_is_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "as_finished", lambda *_, **__: pytest.fail("work was started"))
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", "/proc/nothing"):
        with pytest.raises(ParameterError, match="must be a place that can be written") as caught:
            simulate(COLD, 2, out=out)
        assert caught.value.parameter == "out"


def test_two_runs_of_one_experiment_do_not_write_at_once(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    held = Store(tmp_path, {"one": 1})
    with pytest.raises(ParameterError, match="another process works there"):
        Store(tmp_path, {"one": 1})
    Store(tmp_path, {"one": 2}).close()
    held.close()
    Store(tmp_path, {"one": 1}).close()


RUN_JOB = outcomes.run_job


def dying(job: Any) -> Any:
    """A realisation whose process is killed for index 1."""
    if job.index == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return RUN_JOB(job)


def test_a_worker_that_dies_is_reported_by_its_realisation_and_the_rest_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "run_job", dying)
    with pytest.raises(SolveError, match=r"realisation 1 of 5 \(seed 0\): its worker process died \(exit code -9\)"):
        simulate(COLD, 5, workers=2, out=tmp_path)
    assert finished(tmp_path) == [0, 2, 3, 4]
    assert not list(tmp_path.glob("simulate-*.json"))
    monkeypatch.undo()
    result = simulate(COLD, 5, out=tmp_path)
    np.testing.assert_array_equal(result.values["m"], simulate(COLD, 5).values["m"])


def test_a_worker_that_dies_takes_no_other_realisation_with_it_without_a_store_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outcomes, "run_job", dying)
    with pytest.raises(RealisationError, match=r"realisation 1 of 5 \(seed 0\): its worker process died") as caught:
        simulate(COLD, 5, workers=2)
    assert list(caught.value.failures) == [1]
    monkeypatch.undo()
    whole = simulate(COLD, 5).values["m"]
    assert {index: values["m"] for index, values in caught.value.finished.items()} == {
        index: whole[index] for index in (0, 2, 3, 4)
    }


def test_what_a_failed_run_finished_comes_back_from_another_process() -> None:
    """As from `concurrent.futures.ProcessPoolExecutor` around `simulate`."""
    error = RealisationError("realisation 1 of 2 (seed 0): why", {1: "why"}, {0: {"m": 0.5}})
    back = pickle.loads(pickle.dumps(error))
    assert (str(back), back.failures, back.finished) == (str(error), error.failures, error.finished)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        caught = pool.submit(fail).exception(timeout=120)
    assert isinstance(caught, RealisationError)
    assert list(caught.failures) == [0, 1]


def fail() -> None:
    """Two realisations that cannot be solved."""

    def broken(*_: Any) -> Any:
        raise SolveError("numerically singular")

    outcomes.realise = broken
    simulate(COLD, 2, workers=1)


def test_realisations_are_made_as_they_are_worked_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A billion of them are no list, and none of what is stored is looked for a billion times."""

    def three(setting: Setting, seed: int, index: int, *rest: Any) -> Any:
        if index == 3:
            raise KeyboardInterrupt
        return realise(setting, seed, index, *rest)

    monkeypatch.setattr(outcomes, "realise", three)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            simulate(COLD, 10**9, workers=1, out=tmp_path)
    assert finished(tmp_path) == [0, 1, 2]


@pytest.mark.parametrize("out", [3, "", b"here"])
def test_a_place_that_is_no_path_is_refused(out: Any) -> None:
    with pytest.raises(ParameterError, match="must be the path") as caught:
        simulate(COLD, 2, out=out)
    assert caught.value.parameter == "out"


def test_a_failed_solve_does_not_keep_the_others_from_being_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(setting: Setting, seed: int, index: int, *rest: Any) -> Any:
        if index == 0:
            raise SolveError("numerically singular")
        return realise(setting, seed, index, *rest)

    monkeypatch.setattr(outcomes, "realise", broken)
    with pytest.raises(
        SolveError, match=r"realisation 0 of 3 .*numerically singular; the others are finished and kept in"
    ):
        simulate(COLD, 3, workers=1, out=tmp_path)
    assert finished(tmp_path) == [1, 2]
