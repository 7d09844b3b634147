"""Theory and simulation are read alike: by name, as a table, as a dataset, compared and hashed by their numbers."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

import replica_icl
from replica_icl import Laplace, Ratios, Setting, Status, simulate, solve
from replica_icl.errors import ParameterError
from replica_icl.parameters import OBSERVABLES, SETTING
from replica_icl.simulator.observables import icl_error

POINT = Setting(D=4, N=8, P=30, ridge=0.1)
GRID = Setting(D=4, N=[4, 8, 12], P=[[20], [30]], ridge=0.1)


def test_an_observable_is_read_by_name_or_as_an_attribute_on_both_sides() -> None:
    theory, measured = solve(POINT), simulate(POINT, 4, seed=1)
    assert theory["e_icl"] == theory.e_icl == theory.saddle["e_icl"] + theory.next_order["e_icl"]
    assert measured["e_icl"] == measured.e_icl
    assert (measured.e_icl.mean, measured.e_icl.n) == (float(measured["e_icl"]), 4)
    assert measured.e_icl.spread == pytest.approx(measured.e_icl.sem * 2)
    for answer in (theory, measured):
        assert "m" in answer
        assert "V" not in answer
        assert answer.V is None
        assert {"e_icl", "q"} <= set(answer) & set(dir(answer))
        with pytest.raises(KeyError, match="V is not there; there are e_icl"):
            answer["V"]
        with pytest.raises(AttributeError, match="no attribute 'e_idk'"):
            _ = answer.e_idk


def test_a_grid_has_the_shape_of_its_parameters_and_points_by_index() -> None:
    grid = solve(GRID)
    assert grid.e_icl.shape == grid.status.shape == (2, 3)
    at = grid.point(1, 2)
    alone = solve(GRID.point(1, 2))
    assert at.parameters == GRID.point(1, 2)
    assert at.status is Status.CONVERGED
    assert at.e_icl == pytest.approx(alone.e_icl, rel=1e-9)
    assert at.next_order["m"] == pytest.approx(alone.next_order["m"], rel=1e-6)
    for index in ((0,), (0, 0, 0), (2, 0)):
        with pytest.raises(IndexError):
            grid.point(*index)


def test_dimensions_of_a_dataset_are_what_was_an_array() -> None:
    dataset = solve(GRID).to_xarray()
    assert dict(dataset.sizes) == {"P": 2, "N": 3}
    assert dataset.N.values.tolist() == [4, 8, 12]
    assert float(dataset.ridge) == 0.1
    assert dataset.e_icl.attrs["symbol"] == OBSERVABLES["e_icl"].symbol
    assert dataset.P.attrs["long_name"] == SETTING["P"].meaning
    assert float(dataset.e_icl.sel(P=30, N=8)) == solve(GRID).e_icl[1, 1]
    assert {"status", "residual", "e_icl_next_order", "e_icl_saddle", "m_theory_error"} <= set(dataset.data_vars)
    zipped = solve(Ratios(alpha=[0.5, 2.0], nu=[1.0, 3.0], lam=0.1)).to_xarray()
    assert zipped.e_icl.dims == ("alpha_nu",)
    assert zipped.nu.dims == ("alpha_nu",)
    one = simulate(POINT, 3).to_xarray()
    assert one.e_icl_mean.dims == ()
    assert int(one.n) == 3


def test_answers_are_equal_and_hash_alike_if_their_numbers_do() -> None:
    failed = Ratios(alpha=[2.0, 1.0], nu=2.0, lam=0.0)
    for make in (
        lambda: solve(POINT),
        lambda: solve(GRID),
        lambda: solve(failed, throw=False),
        lambda: simulate(POINT, 3, seed=2),
    ):
        first, second = make(), make()
        assert first == second
        assert hash(first) == hash(second)
        assert first in {second}
        assert pickle.loads(pickle.dumps(first)) == copy.deepcopy(first) == first
    assert solve(POINT) != solve(POINT, level="limit")
    assert solve(POINT) != simulate(POINT, 3)
    assert simulate(POINT, 3, seed=1) != simulate(POINT, 3, seed=2)


def test_tables_are_for_people() -> None:
    text = solve(POINT).table()
    assert text.splitlines()[0].startswith("finite-size: converged")
    assert text.splitlines()[1].split() == ["observable", "value", "next", "order", "own", "error"]
    grid = solve(GRID).table().splitlines()
    assert grid[0] == "finite-size, 6 points"
    assert grid[1].split()[:4] == ["N", "P", "status", "e_icl"]
    assert len(grid) == 8
    assert simulate(POINT, 1).table().count("unknown") == 2 * len(simulate(POINT, 1).values)
    assert solve(Setting(D=4, N=8, P=30, K=3, ridge=0.1)).table().count("unknown") == 8
    assert "converged" in repr(solve(POINT))
    assert "6 of 6 converged" in repr(solve(GRID))


def test_with_K_tasks_the_answer_is_the_average_over_task_sets() -> None:
    setting = Setting(D=4, N=8, P=30, K=3, ridge=0.1)
    one, many = solve(setting), solve(setting, draws=4)
    each = [solve(setting, draws=1, seed=0).e_icl, many.e_icl]
    assert one.level == many.level == "given-tasks"
    assert one.spread == dict.fromkeys(one.names())
    assert (one.draws, many.draws) == (1, 4)
    assert many.spread["e_icl"] > 0
    assert one.e_icl == each[0] != each[1]
    grid = solve(Setting(D=4, N=[4, 8], P=30, K=3, ridge=0.1), draws=4)
    assert grid.e_icl[1] == many.e_icl
    assert grid.spread["m"][1] == many.spread["m"]


def test_weights_without_their_last_row_and_column_are_not_taken_for_smaller_ones() -> None:
    W = np.eye(4)
    assert icl_error(np.eye(5), 8, D=4) > 0
    with pytest.raises(ParameterError) as caught:
        icl_error(W, 8, D=4)
    assert caught.value.parameter == "W"


def test_the_public_names_are_there_with_their_hints() -> None:
    from pathlib import Path

    assert (Path(replica_icl.__file__).parent / "py.typed").is_file()
    for name in replica_icl.__all__:
        assert getattr(replica_icl, name) is not None
    assert set(replica_icl._PUBLIC) | {"__version__"} == set(replica_icl.__all__)


def test_a_prior_is_an_option_of_solve() -> None:
    """Sparse attention learns in context from far fewer tasks: 0.35 where a ridge has 0.8."""
    setting = Setting(D=20, N=100, P=200, ridge=0.0, minimum_norm=True)
    sparse = solve(setting, prior=Laplace(l1=0.01))
    assert sparse.e_icl == pytest.approx(0.348, abs=5e-4)
    assert sparse.next_order is None
    assert sparse.e_icl < 0.5 * solve(replace(setting, ridge=0.005, minimum_norm=False)).e_icl
    assert solve(setting, "limit", prior=Laplace(l1=0.01)).e_icl == pytest.approx(sparse.e_icl, rel=0.4)
    for point, options, name in (
        (setting, {"prior": 0.01}, "prior"),
        (replace(setting, ridge=0.1, beta=9.0), {"prior": Laplace(l1=0.01)}, "beta"),
        (replace(setting, ridge=0.1), {"prior": Laplace(l1=0.01), "spread": True}, "spread"),
        (replace(setting, ridge=0.1, K=4), {"prior": Laplace(l1=0.01)}, "prior"),
        (Ratios(alpha=1.0, nu=1.0, lam=0.1), {"prior": Laplace(l1=0.01)}, "prior"),
    ):
        with pytest.raises(ParameterError) as caught:
            solve(point, **options)
        assert caught.value.parameter == name
