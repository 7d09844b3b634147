"""Published numbers beside theory: the table is consistent, its units are ours, and every point agrees."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from replica_icl import ParameterError, solve
from replica_icl.conventions import LuUnits
from replica_icl.meeting import published
from replica_icl.meeting.published import (
    FIGURES,
    PublishedComparison,
    against_theory,
    li_ridge,
    lu_settings,
    published_points,
    table,
)
from replica_icl.meeting.validation import Z_MAX
from replica_icl.numeric.given_tasks import solve_given_tasks, task_set
from replica_icl.numeric.task_matrix import draw_task_set
from replica_icl.numeric.task_saddle import TaskSet


@cache
def rows() -> tuple[PublishedComparison, ...]:
    return against_theory()


@pytest.mark.parametrize("figure", FIGURES)
def test_the_table_has_a_mean_and_a_deviation_for_every_point(figure: str) -> None:
    entry = table()[figure]
    assert "arXiv:" in entry["source"]
    series = {name: value for name, value in entry.items() if isinstance(value, dict)}
    assert {p.series for p in published_points(figure)} == set(series)
    for name, value in series.items():
        points = [p for p in published_points(figure) if p.series == name]
        assert [p.mean for p in points] == value["mean"]
        assert [p.sem * math.sqrt(entry["repeats"]) for p in points] == pytest.approx(value["std"], rel=1e-14)
        assert len(points) == len(value["std"]) > 0


def test_every_entry_of_the_table_is_compared() -> None:
    assert set(table()) == set(FIGURES) == {row.point.figure for row in rows()}
    assert len(rows()) == 10 + 6


@pytest.mark.parametrize("index", range(16))
def test_every_published_point_is_within_four_standard_errors(index: int) -> None:
    row = rows()[index]
    assert abs(row.z) < Z_MAX, row.to_dict()


def test_a_misprinted_value_would_be_noticed() -> None:
    """Ten published standard errors, 1 to 4 % of the value, are seen in every row."""
    for row in rows():
        wrong = replace(row, point=replace(row.point, mean=row.point.mean + 10 * row.point.sem))
        assert abs(wrong.z) > Z_MAX


def test_z_is_in_units_of_both_uncertainties() -> None:
    row = rows()[0]
    point = replace(row.point, mean=2.0, sem=0.3)
    assert replace(row, point=point, theory=1.0, theory_sem=0.4).z == pytest.approx(2.0)
    assert replace(row, point=point, theory=1.0).z == pytest.approx(1 / 0.3)


def test_the_ridges_of_li_are_rescaled_to_features_divided_by_N() -> None:
    assert li_ridge("sgd", 20) == pytest.approx(0.005 * (21 / 20) ** 2, rel=1e-15)
    assert li_ridge("amp", 180) == pytest.approx(0.01 * (181 / 180) ** 2, rel=1e-15)


def test_the_settings_of_lu_are_theirs_in_our_units() -> None:
    first, *_ = settings = [p.setting for p in published_points("lu_fig1") if p.series == "e_icl"]
    assert (first.D, first.N, first.P, first.K, first.noise) == (100, 100, 5000, 50, 0.01)
    assert [s.P for s in settings] == [5000, 15000, 20000]
    assert all(s.ridge == pytest.approx(1e-7) and LuUnits.of(s).ridge == pytest.approx(1e-5) for s in settings)
    assert settings == [p.setting for p in published_points("lu_fig1") if p.series == "e_idg"]


class LastRowOfLu(TaskSet):
    """The equations with the last feature divided by sqrt(D): its weights are sqrt(D) larger, their ridge D times."""

    def fluctuations(self, y: Any) -> Any:
        inverse = np.linalg.inv(super().fluctuations(y))
        inverse[-1, -1] += self.setting.P * self.setting.ridge * (self.setting.D - 1)
        return np.linalg.inv(inverse)


@pytest.mark.parametrize(("index", "e_icl", "e_idg"), [(0, 0.02, 0.003), (1, 0.0, 0.0), (2, 0.0, 0.0)])
def test_the_last_row_in_the_units_of_lu_matters_below_the_transition_only(
    index: int, e_icl: float, e_idg: float
) -> None:
    setting = lu_settings()[index]
    own = task_set(setting, *draw_task_set(setting, seed=5, sphere=True))
    theirs = LastRowOfLu(**{field.name: getattr(own, field.name) for field in fields(own)})
    limit = solve(setting, level="limit")
    start = math.sqrt(limit.train_error / limit.e_idg)
    points = own.solve(own.start(start)), theirs.solve(theirs.start(start))
    assert max(point.residual for point in points) < 1e-9
    ours, lu = (equations.observables(point) for equations, point in zip((own, theirs), points, strict=True))
    assert 1 - lu["e_icl"] / ours["e_icl"] == pytest.approx(e_icl, rel=0.25, abs=1e-4)
    assert 1 - lu["e_idg"] / ours["e_idg"] == pytest.approx(e_idg, rel=0.5, abs=1e-4)


def test_the_ridge_of_lu_is_small_enough_to_be_none() -> None:
    for setting in lu_settings():
        given = draw_task_set(setting, seed=5, sphere=True)
        at, below = (solve_given_tasks(replace(setting, ridge=ridge), *given) for ridge in (1e-7, 1e-8))
        assert at.e_icl == pytest.approx(below.e_icl, rel=2e-4)
        assert at.e_idg == pytest.approx(below.e_idg, rel=2e-4)


def test_the_points_of_message_passing_are_not_explained_by_the_ground_state() -> None:
    amp = [row for row in rows() if row.point.series == "amp"]
    assert max(abs(row.point.mean - row.ground_state) / row.uncertainty for row in amp) > 2 * Z_MAX


def test_one_figure_is_computed_alone_and_an_unknown_one_is_named() -> None:
    assert against_theory("li_fig4b") == tuple(row for row in rows() if row.point.figure == "li_fig4b")
    with pytest.raises(ParameterError, match="figure = fig9: must be one of li_fig4b, lu_fig1"):
        against_theory("fig9")


def test_the_table_of_the_comparison_has_a_line_per_point() -> None:
    lines = published.comparison_table(rows()).splitlines()
    assert len(lines) == 1 + len(rows())
    for line, row in zip(lines[1:], rows(), strict=True):
        assert line.split()[:2] == [row.point.figure, row.point.series]
        assert f"{row.z:.2f}" in line
    assert np.isfinite([row.theory_sem for row in rows()]).all()
