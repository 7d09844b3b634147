"""Li et al., Figs. 1, 2, 3 and S2 at small size: files are written, and what they claim holds."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from replica_icl.plotting.agreement import z_scores
from replica_icl.plotting.entries import BLOCKS, Mixture, entry_index, entry_mixtures
from replica_icl.plotting.entry_tails import prompt_moments
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.moments import feature_moment, field_moment

Make = Callable[..., dict[str, Any]]
Script = Callable[[str], ModuleType]
Z_MAX = 4.0


def test_every_entry_is_in_one_class() -> None:
    """D = 3: (D+1) D fields and all pairs of D (D+1) spins; context and query say which class, entry by entry."""
    D = 3
    index = entry_index(D)
    assert set(index) == {name for classes in BLOCKS.values() for name in classes}
    seen = {"AB": np.zeros((D + 1, D), int), "CDE": np.zeros((D * (D + 1),) * 2, int)}
    for block, classes in BLOCKS.items():
        for name in classes:
            seen["AB" if block in "AB" else "CDE"][index[name]] += 1
            if block == "C":
                (i, j), (k, n) = (np.divmod(spins, D) for spins in index[name])
                assert ((i < D) & (k < D)).all()
                assert ((i == k) == name.startswith("same context")).all()
                assert ((j == n) == name.endswith("same query")).all()
    assert (seen["AB"] == 1).all()
    assert (seen["CDE"] + seen["CDE"].T == 1 - np.eye(D * (D + 1), dtype=int)).all()


def test_mixture_is_the_law_of_its_moments() -> None:
    """Mean and variance of the mixture from its density are those of the classes, and the cdf is its integral."""
    law = entry_mixtures(5, 20, 200)["A"]
    x = np.linspace(-1.5, 2.0, 20001)
    density = law.density(x)
    step = x[1] - x[0]
    mean = law.weights @ law.means
    assert density.sum() * step == pytest.approx(1, abs=1e-9)
    assert (x * density).sum() * step == pytest.approx(mean, abs=1e-9)
    square = law.weights @ (law.variances + law.means**2)
    assert (x**2 * density).sum() * step == pytest.approx(square, abs=1e-9)
    np.testing.assert_allclose(np.diff(law.cdf(x)), (density[1:] + density[:-1]) * step / 2, atol=1e-7)
    assert law.without("diagonal").means == pytest.approx([0.0])
    assert law.without("diagonal").entries == 20


@pytest.mark.parametrize(("D", "N"), [(5, 100), (3, 2)])
def test_tails_are_those_that_wick_contraction_derives(D: int, N: int) -> None:
    found = prompt_moments(D, N)
    size = {s.D: D, s.N: N, s.noise: 0}
    for name, spin in (("diagonal", (1, 1)), ("off-diagonal", (1, 2))):
        exact = [float(field_moment(spin, power).subs(size)) for power in (3, 4)]
        assert found[name] == pytest.approx(exact, rel=1e-10, abs=1e-12)
    for name, second in (("same context, different query", (1, 2)), ("different context, different query", (2, 2))):
        assert found[name][1] == pytest.approx(float(feature_moment((1, 1), second, 4).subs(size)), rel=1e-10)


def test_sampled_moments_of_entries_are_exact_ones(make: Make) -> None:
    data = make("li_fig1", D=3, N=6, P=60, realisations=300)
    for found in data["blocks"].values():
        assert sum(found["probabilities"]) == pytest.approx(1, abs=1e-8)
        for one in found["classes"]:
            exact, sampled = ([one[prefix + name] for name in ("mean", "variance")] for prefix in ("", "sampled "))
            assert np.abs(z_scores(exact, sampled, one["sem"], data["n"])).max() < Z_MAX
    J = np.array(data["instance"]["J"])
    assert not np.diag(J).any()
    assert np.array_equal(J, J.T)


def test_law_of_the_estimate_is_that_of_independent_entries(script: Script) -> None:
    """Binomial bins against multinomially drawn histograms, where the divergence itself is known: two Gaussians."""
    figure = script("li_figS2")
    one = np.ones(1)
    first, second = (Mixture(("last row",), one, 0 * one, width**2 * one, 60) for width in (0.06, 0.04))
    ratio = 0.06 / 0.04
    bits = (ratio**2 / 2 - 0.5 - np.log(ratio)) / np.log(2)
    assert figure.divergence(first, second) == pytest.approx(bits, rel=1e-8)
    rng, values = np.random.default_rng(3), []
    for _ in range(800):
        counts = [np.histogram(rng.normal(0, width, 60), figure.BINS, figure.RANGES["B"])[0] for width in (0.06, 0.04)]
        values.append(stats.entropy(*(1 + one for one in counts), base=2))
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert abs(np.mean(values) - figure.estimated("B", first, second)) < Z_MAX * error


def test_couplings_between_weights_change_most_with_the_context(make: Make) -> None:
    data = make("li_figS2", D=8, P=1000, N=[8, 16, 80], realisations=30)
    blocks = data["blocks"]
    infinite = {name: np.array(one["infinite"]) for name, one in blocks.items()}
    assert all((np.diff(values) > 0).all() for values in infinite.values())
    assert all(infinite["C"][-1] > infinite[name][-1] for name in "ABDE")
    for name in "ABE":
        one = blocks[name]
        assert np.abs(z_scores(one["theory"], one["mean"], one["sem"], data["n"])).max() < Z_MAX


def test_many_prompts_teach_and_few_leave_the_start(make: Make) -> None:
    data = make(
        "li_fig2",
        D=6,
        N=30,
        P=[6, 300],
        epochs=400,
        realisations=8,
        shown=3,
        rate=0.01,
        ridge=0.01,
        beta=100.0,
        gibbs_P=2000,
        gibbs_realisations=20,
    )
    few, many = data["runs"]
    for one in (few, many):
        assert abs(z_scores(one["start"], one["mean"][0], one["sem"][0], one["n"])) < Z_MAX
    assert many["mean"][-1] == pytest.approx(many["flow"], rel=0.05)
    assert few["mean"][-1] > 0.7 * few["start"]
    averages, theory = data["gibbs"]["averages"], data["theory"]["finite size"]
    for name, exact in theory.items():
        # What the theory neglects is of relative order 1/D and small here: many prompts.
        room = Z_MAX * averages[name]["sem"] + 0.02 / data["D"] * exact
        assert abs(averages[name]["mean"] - exact) < room, name
    assert averages["variance, last column"]["mean"] == pytest.approx(data["flat"], rel=1e-10)
    passed, name = data["gibbs"]["messages"], "mean, diagonal"
    assert passed[name]["n"] == data["n"]
    # Without the reaction means are too large, and variances are right.
    assert passed[name]["mean"] > theory[name] + Z_MAX * passed[name]["sem"]
    assert passed["variance, D block"]["mean"] == pytest.approx(averages["variance, D block"]["mean"], rel=0.01)


def test_few_prompts_make_a_valley_and_many_a_bowl(make: Make, script: Script) -> None:
    data = make("li_fig3", D=5, N=20, P=[5, 200], points=5, curve=12)
    figure = script("li_fig3")
    for one in data["systems"]:
        form = figure.quadratic(one, np.array(one["t"]))
        np.testing.assert_allclose(np.array(one["plane"]), form, atol=1e-9 * one["ground"], rtol=1e-9)
    few, many = (np.array(one["eigenvalues"]) for one in data["systems"])
    assert few[:25] == pytest.approx(data["ridge"])
    assert few[25] > 2 * data["ridge"]
    assert many[0] > 2 * data["ridge"]
