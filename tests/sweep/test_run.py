"""Sweeps: the numbers of `solve` and `simulate`, the same from every executor, kept through kills and failures."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

import replica_icl
from replica_icl import Ratios, Setting, simulate, solve
from replica_icl.cli import main
from replica_icl.errors import ParameterError, SolveError
from replica_icl.numeric.solution import Status
from replica_icl.parameters import OBSERVABLES
from replica_icl.sweep import work
from replica_icl.sweep.dataset import read_dataset
from replica_icl.sweep.executors import run_cells
from replica_icl.sweep.grid import Grid, grid_of
from replica_icl.sweep.run import run_sweep
from replica_icl.sweep.work import tasks_of

TABLE = {
    "fixed": {"D": 6, "ridge": 0.1},
    "swept": {"N": [4, 9], "P": [10, 20, 40]},
    "theory": {"levels": ["finite-size", "limit"]},
    "simulation": {"realisations": 3, "seed": 5},
}
TOML = """
[fixed]
D = 6
ridge = 0.1
[swept]
N = [4, 9]
P = [10, 20, 40]
[theory]
levels = ["finite-size", "limit"]
[simulation]
realisations = 3
seed = 5
"""


@pytest.fixture(scope="module")
def grid() -> Grid:
    return grid_of(TABLE, TOML)


@pytest.fixture(scope="module")
def dataset(grid: Grid) -> xarray.Dataset:
    return run_sweep(grid, executor="serial")


def same(first: xarray.Dataset, second: xarray.Dataset) -> bool:
    """Bit by bit, but for attributes (the time)."""
    return first.drop_attrs().identical(second.drop_attrs())


def test_every_point_has_the_numbers_of_solve_and_simulate(dataset: xarray.Dataset) -> None:
    for N in (4, 9):
        for P in (10, 40):
            setting = Setting(D=6, N=N, P=P, ridge=0.1)
            at = dataset.sel(N=N, P=P)
            for level in ("finite-size", "limit"):
                found = solve(setting, level=level)
                for name, value in found.observables().items():
                    assert float(at[name].sel(level=level)) == pytest.approx(value, rel=1e-9), (level, name)
                assert int(at.status.sel(level=level)) == 0
            measured = simulate(setting, 3, seed=5)
            for name, estimate in measured.to_dict().items():
                assert float(at[f"{name}_mean"]) == estimate["mean"]
                assert float(at[f"{name}_sem"]) == estimate["sem"]
            assert int(at.n) == 3


def test_everything_is_labelled(dataset: xarray.Dataset, tmp_path: Path, grid: Grid) -> None:
    run_sweep(grid, tmp_path / "a.nc", executor="serial")
    stored = read_dataset(tmp_path / "a.nc")
    assert same(stored, dataset)
    for name, variable in stored.variables.items():
        assert variable.attrs.get("long_name"), name
    assert stored.e_icl.attrs["symbol"] == r"e_\mathrm{ICL}"
    assert stored.e_icl.attrs["units"] == "1"
    assert stored.attrs["grid"] == TOML
    assert stored.attrs["seed"] == 5
    for name in ("replica_icl_version", "created", "code_theory", "code_simulation", "python", "numpy"):
        assert stored.attrs[name]
    assert float(stored.ridge) == 0.1
    assert stored.status.attrs["flag_meanings"].split()[0] == "converged"
    assert set(OBSERVABLES) >= {name.removesuffix("_mean") for name in stored.data_vars if str(name).endswith("_mean")}


def test_processes_and_a_dask_cluster_give_the_same_numbers(grid: Grid, dataset: xarray.Dataset) -> None:
    """The cluster is a real scheduler with two worker processes, told by its address."""
    from distributed import LocalCluster

    assert same(run_sweep(grid, executor="processes", workers=2), dataset)
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        assert {worker.pid for worker in cluster.workers.values()}.isdisjoint({os.getpid()})
        assert same(run_sweep(grid, executor="dask", scheduler=cluster.scheduler_address), dataset)


def counted(monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> list[str]:
    """Record the kind of every cell that is computed in this process, and stop after some."""
    calls: list[str] = []
    original = work.compute

    def compute(described: dict[str, object]) -> dict[str, object]:
        if stop_after is not None and len(calls) == stop_after:
            raise KeyboardInterrupt
        calls.append(str(described["kind"]))
        return original(described)

    monkeypatch.setattr("replica_icl.sweep.work.compute", compute)
    return calls


def test_an_interrupted_sweep_goes_on_where_it_was(
    grid: Grid, dataset: xarray.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "results.nc"
    with monkeypatch.context() as patch:
        first = counted(patch, stop_after=5)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(grid, out, executor="serial")
    assert not out.exists()
    with monkeypatch.context() as patch:
        second = counted(patch)
        assert same(run_sweep(grid, out, executor="serial"), dataset)
    assert len(first) + len(second) == len(list(tasks_of(grid)))
    assert same(read_dataset(out), dataset)
    with monkeypatch.context() as patch:
        third = counted(patch)
        run_sweep(grid, out, executor="serial")
    assert third == []
    assert not list(tmp_path.rglob("*.part"))


def test_only_what_is_new_is_computed_and_nothing_old_is_taken_for_it(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "results.nc"
    run_sweep(grid, out, executor="serial")
    simulated = {**TABLE, "theory": {"levels": ["limit"]}}
    changes = {
        "one more P": ({**simulated, "swept": {"N": [4, 9], "P": [10, 20, 40, 50]}}, 2),
        "another ridge": ({**simulated, "fixed": {"D": 6, "ridge": 0.2}}, 6),
        "another seed": ({**simulated, "simulation": {"realisations": 3, "seed": 6}}, 6),
        "more realisations": ({**simulated, "simulation": {"realisations": 4, "seed": 5}}, 6),
        "another sampler": ({**simulated, "simulation": {"realisations": 3, "seed": 5, "prompts": "sufficient"}}, 6),
    }
    for name, (table, new) in changes.items():
        with monkeypatch.context() as patch:
            calls = counted(patch)
            run_sweep(grid_of(table), out, executor="serial")
        assert calls.count("simulation") == new, name
    with monkeypatch.context() as patch:
        calls = counted(patch)
        patch.setattr(work, "derivation_version", lambda: "another derivation")
        patch.setattr(work, "simulation_version", lambda algorithm: "another simulator")
        run_sweep(grid, out, executor="serial")
    assert len(calls) == len(list(tasks_of(grid)))


Start = Callable[..., Any]
SWEEP = ("sweep", "grid.toml", "--out", "results.nc")
LONG = TOML.replace("D = 6", "D = 14").replace("P = [10, 20, 40]", "P = [400, 500, 600]")
LONG = LONG.replace("realisations = 3", "realisations = 8").replace('"finite-size", ', "")


def cells_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "results.nc.cells").glob("*.json")}


def number_of_cells(folder: Path) -> int:
    return max(0, len(list((folder / "results.nc.cells").glob("*.json"))) - 1)  # cells.json says what the others are


def test_a_sweep_killed_at_random_moments_and_resumed_has_the_same_bytes(start: Start, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        (folder / "grid.toml").write_text(LONG)
    code, _, err = start(*SWEEP, "--executor", "serial", folder=whole).ended()
    assert code == 0, err
    chance = random.Random(7)
    for kill in range(1, 3):
        run = start(*SWEEP, "--workers", "2", folder=killed)
        run.wait_for(lambda kill=kill: number_of_cells(killed) >= 2 * kill)
        time.sleep(chance.uniform(0, 0.05))
        run.run.kill()
        assert run.ended()[0] == -signal.SIGKILL
        assert run.left() == []
    assert 2 <= number_of_cells(killed) < number_of_cells(whole)
    code, _, err = start(*SWEEP, "--executor", "joblib", folder=killed).ended()
    assert code == 0, err
    assert "cells were finished before" in err
    assert cells_of(killed) == cells_of(whole)
    first, second = (read_dataset(folder / "results.nc") for folder in (whole, killed))
    assert same(first, second)
    assert {**first.attrs, "created": ""} == {**second.attrs, "created": ""}


@pytest.mark.parametrize(
    ("executor", "sent", "code", "told"),
    [
        ("serial", signal.SIGINT, 130, "interrupted"),
        ("processes", signal.SIGINT, 130, "interrupted"),
        ("joblib", signal.SIGTERM, 143, "terminated"),
    ],
)
def test_a_sweep_that_is_to_end_does_so_in_one_line(
    start: Start, tmp_path: Path, executor: str, sent: signal.Signals, code: int, told: str
) -> None:
    """An interrupt goes to every process of a terminal, a termination to one."""
    (tmp_path / "grid.toml").write_text(LONG.replace("realisations = 8", "realisations = 300"))
    run = start(*SWEEP, "--executor", executor, "--workers", "2", folder=tmp_path)
    run.wait_for(lambda: number_of_cells(tmp_path))
    (os.killpg if sent == signal.SIGINT else os.kill)(run.run.pid, sent)
    found, _, err = run.ended()
    assert (found, err.splitlines()[-1]) == (code, f"replica-icl sweep: {told}")
    assert "Traceback" not in err
    assert run.left() == []
    assert number_of_cells(tmp_path)


@pytest.mark.long
def test_an_interrupted_dask_cluster_of_this_machine_ends_in_one_line(start: Start, tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text(LONG.replace("realisations = 8", "realisations = 300"))
    run = start(*SWEEP, "--executor", "dask", "--workers", "2", folder=tmp_path)
    run.wait_for(lambda: number_of_cells(tmp_path))
    os.killpg(run.run.pid, signal.SIGINT)
    found, _, err = run.ended()
    assert (found, err.splitlines()[-1]) == (130, "replica-icl sweep: interrupted")
    assert "Traceback" not in err
    assert run.left() == []


def test_failed_points_stay_as_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ridgeless at alpha = 1 there is no saddle."""
    path = tmp_path / "grid.toml"
    path.write_text(
        "[fixed]\nnu = 2.0\nlam = 0.0\nminimum_norm = true\n[swept]\nalpha = [0.5, 1.0, 2.0]\n"
        '[theory]\nlevels = ["limit"]\n'
    )
    out = tmp_path / "results.nc"
    assert main(["sweep", str(path), "--out", str(out), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["failed"] == {"status": 1}
    found = read_dataset(out).sel(level="limit")
    assert found.status.values.tolist() == [0, Status.SINGULAR, 0]
    assert np.isnan(found.e_icl.values).tolist() == [False, True, False]
    expected = solve(Ratios(alpha=2.0, nu=2.0, lam=0.0, minimum_norm=True))
    assert float(found.e_icl.sel(alpha=2.0)) == expected.e_icl


def test_a_failed_simulation_is_a_row_with_its_reason(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    original = work.simulate

    def failing(setting: Setting, *args: object, **how: object) -> object:
        if (setting.N, setting.P) == (9, 20):
            raise SolveError("realisation 1 of 3 (seed 5): not finite")
        return original(setting, *args, **how)

    monkeypatch.setattr(work, "simulate", failing)
    found = run_sweep(grid, executor="serial")
    assert int(found.simulation_status.sum()) == 1
    assert int(found.simulation_status.sel(N=9, P=20)) == 1
    assert np.isnan(found.e_icl_mean.sel(N=9, P=20))
    assert np.isfinite(found.e_icl_mean.sel(N=4)).all()
    assert "point 4: realisation 1 of 3" in found.attrs["simulation_failures"]


def test_ratios_and_task_sets_have_their_dimensions() -> None:
    limit = run_sweep(
        grid_of(
            {
                "fixed": {"lam": 0.1, "noise": 0.1},
                "swept": {"alpha": [0.5, 2], "nu": [1, 2, 3]},
                "zipped": [{"kappa": [0.5, 2.0]}],
                "theory": {"levels": ["limit"]},
            }
        ),
        executor="serial",
    )
    assert dict(limit.sizes) == {"alpha": 2, "nu": 3, "kappa": 2, "level": 1}
    assert limit.attrs["units"] == "ratios of the limit"
    one = solve(Ratios(alpha=2.0, nu=3.0, lam=0.1, noise=0.1, kappa=0.5))
    assert float(limit.e_idg.sel(alpha=2, nu=3, kappa=0.5, level="limit")) == one.e_idg
    table = {
        "fixed": {"D": 6, "ridge": 0.05},
        "zipped": [{"K": [3, 4], "P": [40, 50]}],
        "swept": {"nu": [1.0, 2.4]},
        "theory": {"levels": ["given-tasks", "limit"], "draws": 2, "seed": 3},
    }
    found = run_sweep(grid_of(table), executor="serial")
    assert found.e_idg.dims == ("level", "nu", "K_P")
    assert found.K.dims == ("K_P",)
    assert found.N.values.tolist() == [6, 14]
    expected = solve(Setting(D=6, N=14, P=50, K=4, ridge=0.05), draws=2, seed=3)
    at = found.sel(level="given-tasks").isel(nu=1, K_P=1)
    assert float(at.e_idg) == expected.e_idg
    assert float(at.e_idg_spread) == expected.spread["e_idg"]


def test_bad_executors_and_places_are_refused(grid: Grid, tmp_path: Path) -> None:
    for options, name in (
        ({"executor": "mpi"}, "executor"),
        ({"executor": "joblib", "scheduler": "tcp://1.2.3.4:5"}, "scheduler"),
        ({"executor": "dask", "scheduler": "tcp://1.2.3.4:5", "workers": 2}, "workers"),
        ({"workers": 0}, "workers"),
        ({"executor": "dask", "scheduler": "no such file.json"}, "scheduler"),
        ({"executor": "dask", "scheduler": __file__}, "scheduler"),
        ({"executor": "dask", "scheduler": ""}, "scheduler"),
    ):
        with pytest.raises(ParameterError) as caught:
            run_cells([], **options)
        assert caught.value.parameter == name
        with pytest.raises(ParameterError):
            run_sweep(grid, tmp_path / "new" / "results.nc", **options)
        assert list(tmp_path.iterdir()) == []  # refused before anything is written
    with pytest.raises(ParameterError, match="not a folder"):
        run_sweep(grid, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterError) as caught:
        run_sweep(grid, tmp_path / "file" / "results.nc")
    assert caught.value.parameter == "out"


def test_no_file_that_a_sweep_did_not_write_is_replaced(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grid.toml").write_text(TOML)
    Path("notes.txt").write_text("what nobody else knows")
    xarray.Dataset({"x": ("t", [1.0, 2.0])}, attrs={"title": "mine"}).to_netcdf("other.nc", engine="scipy")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name in before:
        assert main(["sweep", "grid.toml", "--out", name]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"replica-icl sweep: error: --out {name}: must be a new file, or a dataset that a sweep")
        assert err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    Path("empty.nc").touch()  # as `mktemp` makes it
    small = grid_of({"fixed": {"alpha": 2.0, "nu": 2.0, "lam": 0.1}, "theory": {"levels": ["limit"]}})
    run_sweep(small, "empty.nc", executor="serial")
    run_sweep(small, "empty.nc", executor="serial")  # its own is
    for out in (3, None):
        with pytest.raises(ParameterError, match="must be the path"):
            read_dataset(out)
    with pytest.raises(ParameterError, match="must be the path"):
        run_sweep(small, 3)


@pytest.mark.parametrize("content", [b"", b"CDF", b"CDF\x02" + bytes(99), b"[fixed]\nD = 6\n", bytes(range(256))])
def test_a_foreign_file_is_no_dataset(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.nc"
    path.write_bytes(content)
    with pytest.raises(ParameterError, match="must be a dataset that a sweep wrote") as caught:
        read_dataset(path)
    assert (caught.value.parameter, caught.value.value) == ("path", path)
    with pytest.raises(ParameterError, match="No such file"):
        read_dataset(tmp_path / "none.nc")


def test_a_scheduler_that_does_not_answer_is_one_line(grid: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        for scheduler in ("tcp://127.0.0.1:9", "nonsense://host:1"):
            with pytest.raises(ParameterError, match="must be a dask scheduler that answers"):
                run_sweep(grid, executor="dask", scheduler=scheduler)


def test_a_cell_whose_process_dies_takes_no_other_with_it(grid: Grid, tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from replica_icl.errors import WorkerError\n"
        "from replica_icl.sweep import run, work\n"
        "from replica_icl.sweep.grid import read_grid\n"
        "from tests.sweep.dying import compute\n"
        "work.compute = compute\n"
        "try:\n"
        "    run.run_sweep(read_grid(sys.argv[1]), sys.argv[2], workers=2)\n"
        "except WorkerError as error:\n"
        "    print(error)\n"
    )
    (tmp_path / "grid.toml").write_text(TOML.replace('"finite-size", ', ""))
    arguments = [sys.executable, "-c", script, str(tmp_path / "grid.toml"), str(tmp_path / "results.nc")]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=120)
    assert done.stdout == ("processes that computed 1 of 7 cells died (out of memory?); the others are finished\n"), (
        done.stderr
    )
    assert len(cells_of(tmp_path)) == 1 + 6


FORWARD = "(gram * weights * prompt)["
"""Of the forward pass, as `model.attention.merged` states it."""


@pytest.mark.long
def test_a_changed_forward_pass_finds_no_old_cell(tmp_path: Path) -> None:
    """The factor of the attention's output is doubled in a copy of the package, after a first sweep with it."""
    shutil.copytree(Path(replica_icl.__file__).parent, tmp_path / "replica_icl")
    (tmp_path / "grid.toml").write_text(
        "[fixed]\nlam = 0.1\nnu = 2.0\n[swept]\nalpha = [0.5, 2.0]\n[theory]\nlevels = ['limit']\n"
    )
    script = (
        "from replica_icl.sweep.grid import read_grid\n"
        "from replica_icl.sweep.run import run_sweep\n"
        "from replica_icl import Ratios, solve\n"
        "found = run_sweep(read_grid('grid.toml'), 'results.nc', executor='serial')\n"
        "solved = solve(Ratios(alpha=[0.5, 2.0], nu=2.0, lam=0.1)).m\n"
        "assert found.m.values[0].tolist() == solved.tolist(), (found.m.values, solved)\n"
        "print(*solved)\n"
    )

    def sweep() -> str:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = sweep()
    source = tmp_path / "replica_icl" / "model" / "attention" / "merged.py"
    text = source.read_text()
    assert text.count(FORWARD) == 1
    source.write_text(text.replace(FORWARD, f"2 * {FORWARD}"))
    second = sweep()
    assert second != first
    assert len(cells_of(tmp_path)) == 1 + 2


def test_a_sweep_that_will_take_long_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("replica_icl.sweep.run.run_cells", stop)
    for realisations, told in ((3, False), (10**9, True)):
        table = {**TABLE, "simulation": {"realisations": realisations}}
        with caplog.at_level("INFO", logger="replica_icl"), pytest.raises(KeyboardInterrupt):
            run_sweep(grid_of(table), executor="processes", workers=3)
        found = [message for message in caplog.messages if message.startswith("estimated: about ")]
        assert bool(found) == told
    assert found[0].endswith(" for 6 simulated points in 3 processes, without 2 cells of theory")
