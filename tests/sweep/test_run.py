"""Sweeps: the numbers of `solve` and `simulate`, the same from every executor, kept through kills and failures."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray

from replica_icl import Ratios, Setting, simulate, solve
from replica_icl.cli import main
from replica_icl.errors import ParameterError, SolveError
from replica_icl.numeric.given_tasks import average_over_tasks
from replica_icl.numeric.solution import Status
from replica_icl.sweep import work
from replica_icl.sweep.dataset import OBSERVABLES, read_dataset
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

    assert same(run_sweep(grid, executor="joblib", workers=2), dataset)
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

    monkeypatch.setattr("replica_icl.sweep.executors.compute", compute)
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
        patch.setattr(work, "code_version", lambda *parts: "another program")
        run_sweep(grid, out, executor="serial")
    assert len(calls) == len(list(tasks_of(grid)))


def command(folder: Path, *options: str) -> list[str]:
    (folder / "grid.toml").write_text(TOML)
    return [sys.executable, "-m", "replica_icl.cli", "sweep", "grid.toml", "--out", "results.nc", *options]


def test_a_killed_sweep_resumes_to_the_same_numbers(tmp_path: Path, dataset: xarray.Dataset) -> None:
    run = subprocess.Popen(command(tmp_path, "--workers", "2"), cwd=tmp_path, stderr=subprocess.DEVNULL)
    cells = tmp_path / "results.nc.cells"
    while run.poll() is None and len(list(cells.glob("*.json"))) < 4:
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    done = subprocess.run(command(tmp_path), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cells were finished before" in done.stderr
    assert same(read_dataset(tmp_path / "results.nc"), dataset)


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
    expected = average_over_tasks(Setting(D=6, N=14, P=50, K=4, ridge=0.05), 2, 3)
    at = found.sel(level="given-tasks").isel(nu=1, K_P=1)
    assert float(at.e_idg) == expected.mean("e_idg")
    assert float(at.e_idg_spread) == expected.spread("e_idg")


def test_bad_executors_and_places_are_refused(grid: Grid, tmp_path: Path) -> None:
    for options, name in (
        ({"executor": "mpi"}, "executor"),
        ({"executor": "joblib", "scheduler": "tcp://1.2.3.4:5"}, "scheduler"),
        ({"executor": "dask", "scheduler": "tcp://1.2.3.4:5", "workers": 2}, "workers"),
        ({"workers": 0}, "workers"),
    ):
        with pytest.raises(ParameterError) as caught:
            run_cells([], **options)
        assert caught.value.parameter == name
    with pytest.raises(ParameterError, match="not a folder"):
        run_sweep(grid, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ParameterError) as caught:
        run_sweep(grid, tmp_path / "file" / "results.nc")
    assert caught.value.parameter == "out"
