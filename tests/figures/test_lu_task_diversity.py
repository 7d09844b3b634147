"""Lu et al., Figs. 1 to 4, and the kappa transition at small size: files are written, and what they claim holds."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from replica_icl import Ratios, solve
from replica_icl.plotting.agreement import agreement
from replica_icl.plotting.task_points import agreement_of, setting_of

Make = Callable[..., dict[str, Any]]
Script = Callable[[str], ModuleType]

FEW = {"task_sets": 2, "realisations": 3, "curve": 24, "seed": 3}


def test_errors_peak_between_few_and_many_prompts_and_published_points_agree(make: Make) -> None:
    settings = {"alpha": [0.3, 0.9, 1.6], "nu": [2.0], "kappa": 0.5, "noise": 0.01, "lam": 1e-4, "fresh_D": 6}
    fresh = {"fresh_nu": 2.0, "fresh_lam": [0.01], "fresh_realisations": 4}
    data = make("lu_fig1", D=8, **settings, **fresh, **FEW)
    (few,) = data["few"]
    for name in ("e_icl", "e_idg"):
        theory = [p[name]["theory"]["mean"] for p in few["points"]]
        assert theory[1] > 1.5 * max(theory[0], theory[2])
        assert max(few["limit"][name]) > 4 * max(few["limit"][name][0], few["limit"][name][-1])
    assert len(data["published"]) == 6
    for row in data["published"]:
        assert abs(row["mean"] - row["theory"]) < 4 * np.hypot(row["sem"], row["theory_sem"])
    rows = [[p[x] for x in ("theory", "mean", "sem", "n")] for p in data["fresh"][0]["points"]]
    assert agreement(*zip(*rows, strict=True)).worst_z < 4


def test_more_context_hurts_with_few_tasks_and_helps_with_many(make: Make) -> None:
    panel = {"error": "e_icl", "alpha": 0.5, "noise": 0.1, "kappa": [0.25, 2.0]}
    panels = [panel, panel, {**panel, "error": "e_idg"}]
    data = make("lu_fig2", D=8, nu=[1.0, 8.0, 80.0], lam=1e-4, panels=panels, **FEW)
    few, many = data["panels"][0]["series"]
    errors = {kappa: [p["e_icl"]["theory"]["mean"] for p in one["points"]] for kappa, one in ((0.25, few), (2, many))}
    assert errors[0.25][2] > 1.5 * errors[0.25][1]
    assert errors[2][2] < errors[2][1] < errors[2][0]
    assert np.diff(many["limit"]).max() < 0


def test_first_minimum_is_found_where_there_is_one(make: Make, script: Script) -> None:
    first_minimum = script("lu_fig3").first_minimum
    nu = np.geomspace(0.1, 100, 400)
    errors = np.stack([1 / nu, nu / 7 + 7 / nu, np.log(nu), 1 / nu + 1e-9 * nu])
    found = first_minimum(nu, errors)
    np.testing.assert_allclose(found[1], 7, rtol=0.02)
    assert np.isnan(found[[0, 2, 3]]).all()
    panels = [{"error": "e_idg", "alpha": 0.5}, {"error": "e_icl", "alpha": 0.5}, {"error": "e_icl", "alpha": 20.0}]
    cut = {"alpha": 0.5, "noise": 0.5, "kappa": [0.5], "nu": [1.0, 10.0]}
    settings = {"kappa": [0.1, 2.1, 9], "rho": [0.01, 1.0, 4], "nu": [0.01, 1000.0, 60], "lam": 1e-4, "panels": panels}
    data = make("lu_fig3", D=8, cut=cut, task_sets=2, realisations=2, seed=1, **settings)
    best = np.array(data["panels"][1]["best"], float)  # e_icl at alpha = 0.5, rows are noises
    assert np.isfinite(best[:, 0]).all()  # few tasks: always one
    assert np.isnan(best[:, -1]).all()  # many: none
    row, column = 2, 1
    at = {"alpha": 0.5, "kappa": data["kappa"][column], "noise": data["rho"][row], "lam": 0.0, "minimum_norm": True}
    around = [solve(Ratios(nu=best[row, column] * x, **at)).e_icl for x in (0.6, 1.0, 1.7)]
    assert around[1] < min(around[0], around[2])


def test_gap_closes_with_task_diversity(make: Make) -> None:
    data = make("lu_fig4", D=8, kappa=[0.25, 1.0, 8.0], nu=[5.0, 20.0], share=0.4, lam=1e-3, noise=0.01, **FEW)
    for one in data["series"]:
        gaps = [p["gap"]["theory"]["mean"] for p in one["points"]]
        assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0
        for p in one["points"]:
            by_errors = p["e_icl"]["simulation"]["mean"] - p["e_idg"]["simulation"]["mean"]
            assert p["gap"]["simulation"]["mean"] == pytest.approx(by_errors, rel=1e-9)
    points = [p for one in data["series"] for p in one["points"]]
    assert agreement_of(points, ["gap"]).worst_z < 5


def test_kappa_transition_is_at_one(make: Make) -> None:
    settings = {"kappa": [0.4, 2.0], "nu": [4.0], "alpha": 3.0, "lam": 0.05, "noise": 0.01, "scale": [1, 200]}
    data = make("kappa_transition", D=8, **settings, **FEW)
    kappa = np.array(data["kappa"])
    near, far = (np.array(one["gap"]) - np.maximum(0, 1 - kappa) for one in data["gaps"])
    assert np.abs(far).max() < 0.02 < np.abs(near).max()
    (one,) = data["series"]
    assert one["points"][0]["e_icl"]["theory"]["mean"] > 2 * one["points"][0]["e_idg"]["theory"]["mean"]
    assert [p["kappa"] for p in one["points"]] == [3 / 8, 2.0]


def test_settings_are_those_nearest_to_ratios() -> None:
    setting = setting_of(10, alpha=1.234, nu=2.04, kappa=0.36, lam=0.2, noise=0.1)
    assert (setting.P, setting.N, setting.K, setting.ridge) == (123, 20, 4, 0.02)
