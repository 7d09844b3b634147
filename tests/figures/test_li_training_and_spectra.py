"""Li et al., Figs. 4(a), S1, S5, S6 and S7 at small size: files are written, and what they claim holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from replica_icl import Setting
from replica_icl.plotting.agreement import z_scores
from replica_icl.simulator.features import Features
from replica_icl.simulator.realisation import draw_instance
from replica_icl.simulator.training import train

Make = Callable[..., dict[str, Any]]
Script = Callable[[str], ModuleType]


def columns(found: dict[str, Any], *names: str) -> list[np.ndarray]:
    return [np.array(found[name], float) for name in names]


def test_contrast_grows_with_context_and_prompts_as_simulated(make: Make) -> None:
    data = make("li_fig4a", D=12, N=[12, 48, 3], P=[60, 300, 3], step=1, realisations=8, cut=48)
    found = data["simulation"]
    theory, mean, sem = columns(found, "theory", "mean", "sem")
    assert (np.diff(theory, axis=0) > 0).all()
    assert (np.diff(theory, axis=1) > 0).all()
    assert np.abs(z_scores(theory, mean, sem, found["n"])).max() < 4
    curves, (_, middle, last) = data["cut"]["curves"], data["cut"]["messages"]
    assert middle["n"] == last["n"] == 8
    reaction = np.array(curves["without reaction"], float)
    for one, expected in ((middle, reaction[1]), (last, reaction[2])):
        assert abs(one["contrast"]["mean"] - expected) < 4 * one["contrast"]["sem"] + 0.3 / 12 * expected
    assert (np.array(curves["limit"]) > np.array(curves["finite size"])).all()


def test_gradient_flow_ends_where_theory_says_with_the_start_it_keeps(make: Make) -> None:
    small = {"D": 10, "N": 50, "alpha": [0.3, 0.6, 2.0], "epochs": 150, "realisations": 2, "flow_realisations": 60}
    data = make("li_figS1", **small, P=[40, 200], rates=[0.02, 0.02], curve_epochs=200, curve_realisations=2)
    points = data["points"]
    theory, limit = columns(points["theory"], "finite size", "limit")
    mean, sem = columns(points["flow"], "mean", "sem")
    assert np.abs(z_scores(theory, mean, sem, 60)).max() < 4
    assert np.abs((limit - mean) / sem).max() > 4  # the limit would be refuted
    few, many = data["runs"]
    assert few["merged"]["train_error"]["mean"][-1] < 0.01 < few["ends"]["finite size"]
    for one in (few, many):
        at_start = one["merged"]["e_icl"]["mean"][0]
        assert one["separate"]["weights"]["parameters"] is not None
        assert at_start > one["ends"]["finite size"]


@pytest.mark.parametrize("kind", ["merged", "separate"])
def test_adam_is_that_of_features_divided_by_n_plus_one(kind: str, script: Script) -> None:
    """The authors' run, with their features, start and rate, gives the same predictions as ours with ours."""
    D, N, P, g = 4, 10, 12, 10 / 11
    ours = draw_instance(Setting(D=D, N=N, P=P, ridge=1.0), 3).features.collect()
    theirs = Features(ours.context * g, ours.query, ours.target)
    how = script("li_figS1").adam({"D": D, "N": N}, kind, 30, 0.01, 30)
    weights = np.random.default_rng(5).standard_normal((2, D + 1, D + 1) if kind == "separate" else (D + 1, D + 1))
    scale = 1 / math.sqrt(D + 1)
    published = type(how)("adam", 30, 0.01, inner=how.inner, record=30)
    found = train(ours, 0.0, how, N=N, start=how.initial_scale * weights)
    expected = train(theirs, 0.0, published, N=N, start=scale * weights)
    np.testing.assert_allclose(found.train_errors, expected.train_errors, rtol=1e-5)
    assert found.train_errors[-1] < 0.95 * found.train_errors[0]


def test_token_eigenvalues_leave_marchenko_pastur_by_the_known_correction(make: Make) -> None:
    data = make("li_figS5", D=60, N=[60, 120], prompts=300, bins=20)
    inner = np.abs(np.cos(np.pi * np.arange(1, 24) / 24)) < 1 - 60 ** (-2 / 3)
    for one in data["spectra"]:
        mean, sem = (x[inner] for x in columns(one["sampled"], "cdf", "cdf sem"))
        limit, corrected = (x[inner] for x in columns(one, "cdf", "corrected"))
        assert np.abs(z_scores(corrected, mean, sem, 300)).max() < 4
        assert np.abs(z_scores(limit, mean, sem, 300)).max() > 4
        assert one["sampled"]["ks"] < 0.5 / 60


def test_few_tasks_force_the_inverse_of_the_token_covariance(make: Make) -> None:
    settings = {"D": 6, "N": 40, "P": 4, "repeats": 60, "law": 20000, "bins": [0.0, 0.3, 31]}
    data = make("li_figS6", **settings, epochs=1500, published_epochs=500, rate=0.01)
    exact, law = data["exact mean"], data["law"]
    assert abs(law["mean"] - exact) < 4 * law["sem"]
    assert data["to solution"][-1] < 1e-3 * data["to solution"][0]
    assert data["to solution"][-1] < 0.02 * exact


def test_inverse_wishart_moments_at_two_tokens_are_those_of_the_known_law(script: Script) -> None:
    """D = 1: C = chi2_N / N, so that E (1/C - 1)^2 = N^2 / ((N-2) (N-4)) - 2 N / (N-2) + 1."""
    N = 9
    assert script("li_figS6").exact_mean(1, N) == pytest.approx(N**2 / ((N - 2) * (N - 4)) - 2 * N / (N - 2) + 1)


def test_hessian_spectrum_and_its_zero_modes(make: Make) -> None:
    small = {"D": 12, "N": 60, "P": [60], "realisations": 40, "zero_D": [5, 8], "zero_P": [5, 100, 4]}
    data = make("li_figS7", **small, rank_P=[10, 50, 90], curve=100)
    for one in data["densities"]:
        x, density = columns(one, "x", "density")
        total = np.sum((density[1:] + density[:-1]) / 2 * np.diff(np.log(x)))
        assert total == pytest.approx(1 - one["zero"], abs=0.01)
        theory = np.array(one["cdf"])
        mean, sem = columns(one["sampled"], "cdf", "cdf sem")
        assert np.abs(mean - theory).max() < 1 / 156 + 4 * sem.max()  # one eigenvalue of D (D + 1), and noise
    for one in data["zeros"]:
        np.testing.assert_allclose(one["counted"], one["exact"], atol=1e-12)
        assert min(one["exact"]) == pytest.approx(1 / (one["D"] + 1))
