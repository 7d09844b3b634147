"""The limit solver against references, another precision, independent limits and the free entropy itself.

Formulas in this file are typed by hand on purpose: they are the witness, the package derives its own.
"""

import math
import tomllib
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy.optimize import brentq

from replica_icl.errors import ParameterError
from replica_icl.lowering.model import LINEAR_ATTENTION
from replica_icl.numeric.arithmetic import MpmathArithmetic
from replica_icl.numeric.limit import CHUNK, TOLERANCE, solve_limit
from replica_icl.numeric.questions.precision import refine_limit
from replica_icl.numeric.solution import Status
from replica_icl.numeric.solve import solve
from replica_icl.ratios import Ratios, ratios
from replica_icl.setting import Setting

REFERENCES = tomllib.loads((Path(__file__).parent.parent / "references" / "limit.toml").read_text("utf-8"))["limit"]
CONTROLS = ("alpha", "nu", "lam", "noise")
GROUND = ("e_icl", "train_error", "m", "q", "contrast", "replicon")
THERMAL = ("V", "e_gibbs", "train_gibbs")


def context_norm(nu: Any, noise: Any) -> Any:
    """a = |c|^2 in the limit."""
    return 1 + (1 + noise) / nu


def random_controls(count: int, seed: int, near: int = 0) -> dict[str, np.ndarray]:
    """`count` random points, the first `near` of them 1e-8 .. 1e-2 away from the transition; noise often exactly 0."""
    rng = np.random.default_rng(seed)
    alpha = 10 ** rng.uniform(-2, 2, count)
    alpha[:near] = 1 + rng.choice([-1, 1], near) * 10 ** rng.uniform(-8, -2, near)
    noise = np.where(rng.random(count) < 0.25, 0.0, rng.random(count))
    return {"alpha": alpha, "nu": 10 ** rng.uniform(-1, 4, count), "lam": 10 ** rng.uniform(-10, 2, count)} | {
        "noise": noise
    }


def points(controls: dict[str, np.ndarray]) -> list[dict[str, float]]:
    return [dict(zip(controls, map(float, row), strict=True)) for row in zip(*controls.values(), strict=True)]


@pytest.mark.parametrize("row", REFERENCES, ids=lambda row: f"alpha={row['alpha']}")
def test_the_limit_has_its_reference_values(row: dict[str, float]) -> None:
    solution = solve(Ratios(**{name: row[name] for name in CONTROLS}))
    for name in ("e_icl", "train_error", "m", "q", "replicon"):
        assert getattr(solution, name) == pytest.approx(row[name], rel=1e-9), name
    assert solution.contrast == pytest.approx(row["m"] / math.sqrt(row["q"]), rel=1e-9)
    assert solution.e_idg == solution.e_icl


def test_double_precision_keeps_twelve_digits_of_every_ground_state_observable() -> None:
    """1000 points, a quarter of them next to the transition, against the same expressions at 50 digits."""
    controls = random_controls(1000, seed=1, near=250)
    assert (controls["noise"] == 0).sum() > 100
    solution = solve_limit(Ratios(**controls))
    assert (solution.status == Status.CONVERGED).all()
    assert solution.residual.max() < 1e-13 < TOLERANCE
    exact = [refine_limit(**point) for point in points(controls)]
    for name in GROUND:
        error = [abs(float(x[name] / float(got) - 1)) for x, got in zip(exact, getattr(solution, name), strict=True)]
        assert max(error) < 1e-12, name
    assert set(solution.observables()) == {*GROUND, "e_idg"}


def test_double_precision_keeps_twelve_digits_of_every_thermal_observable() -> None:
    controls = random_controls(1000, seed=2, near=250)
    controls["beta_tilde"] = 10 ** np.random.default_rng(3).uniform(-3, 4, 1000)
    solution = solve_limit(Ratios(**controls), sizes=1)
    assert (solution.status == Status.CONVERGED).all()
    xp = MpmathArithmetic(50)
    exact = [refine_limit(**point) for point in points(controls)]
    for x in exact:
        density = {"D": xp.number(1), "free_entropy": x["free_entropy"]}
        x |= LINEAR_ATTENTION.fresh_tasks_limit.log_partition(xp, **density)._asdict()
    for name in (*GROUND, *THERMAL, "log_Z"):
        error = [abs(float(x[name] / float(got) - 1)) for x, got in zip(exact, getattr(solution, name), strict=True)]
        assert max(error) < 1e-12, name
    assert set(solution.observables()) == {*GROUND, *THERMAL, "e_idg", "log_Z"}


def test_the_effective_ridge_is_the_root_that_a_bracketing_search_finds() -> None:
    """k = lam + (k/alpha) a/(a + k): divided by k, the right side falls with k, so that the root is unique."""
    for point in points(random_controls(200, seed=4, near=50)):
        a = context_norm(point["nu"], point["noise"])

        def excess(log_k: float, a: float = a, alpha: float = point["alpha"], lam: float = point["lam"]) -> float:
            k = math.exp(log_k)
            return 1 - lam / k - a / (alpha * (a + k))

        above = point["lam"] + a / point["alpha"]  # excess > 0 there, and < 0 at lam
        k = math.exp(brentq(excess, math.log(point["lam"]), math.log(above), xtol=1e-15, rtol=1e-15))
        solution = solve(Ratios(**point))
        replicon = 1 - a**2 / (point["alpha"] * (a + k) ** 2)
        e_icl = (1 + point["noise"] - 1 / a + k**2 / (a * (a + k) ** 2)) / replicon
        # `excess` is a difference of numbers of order one, and so is `replicon`: both know k to 1e-16 / replicon.
        digits = 1e-13 / solution.replicon**2
        assert solution.m == pytest.approx(1 / (a + k), rel=digits)
        assert solution.replicon == pytest.approx(replicon, rel=digits)
        assert solution.e_icl == pytest.approx(e_icl, rel=digits)
        assert solution.train_error == pytest.approx(e_icl * (point["lam"] / k) ** 2, rel=3 * digits)


def free_entropy(m: Any, q: Any, V: Any, alpha: Any, nu: Any, lam: Any, noise: Any, beta_tilde: Any) -> Any:
    """lim log Z / D^2 without the volume constant, typed from the replica-symmetric action with T = omega = 1."""
    a, b = context_norm(nu, noise), beta_tilde / alpha
    residual, chi = 1 + noise - 2 * m + a * q, a * V
    entropic = (mpmath.log(V) + (q - m**2) / V) / 2
    energetic = -alpha / 2 * (mpmath.log(1 + b * chi) + b * residual / (1 + b * chi))
    return entropic + energetic - beta_tilde * lam / 2 * (q + V)


@pytest.mark.parametrize("seed", range(10))
def test_the_free_entropy_is_stationary_at_the_solution(seed: int) -> None:
    (point,) = points(random_controls(1, seed=100 + seed))
    with mpmath.workdps(50):
        controls = {name: mpmath.mpf(x) for name, x in point.items()} | {"beta_tilde": mpmath.mpf(3)}
        found = refine_limit(**point, beta_tilde=3)
        m, q, V = (mpmath.mpf(found[name]) for name in ("m", "q", "V"))

        def phi(m: Any, q: Any, V: Any) -> Any:
            return free_entropy(m, q, V, **controls)

        assert abs(phi(m, q, V) - found["free_entropy"]) < mpmath.mpf("1e-40") * (1 + abs(phi(m, q, V)))
        for order in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
            slope = mpmath.diff(phi, (m, q, V), order)
            elsewhere = mpmath.diff(phi, (m * 1.01, q * 1.02, V * 1.01), order)
            assert abs(slope) < mpmath.mpf("1e-15") * abs(elsewhere), order


def log_partition(point: dict[str, float], beta_tilde: Any, lam: Any = None) -> Any:
    """lim log Z / D^2 at 50 digits, as a function of temperature."""
    return refine_limit(**{**point, "lam": point["lam"] if lam is None else lam}, beta_tilde=beta_tilde)["free_entropy"]


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_energy_is_minus_the_derivative_of_log_z(seed: int) -> None:
    """<E> = E_0 + (number of weights) / (2 beta), E_0 = train_error / 2 + lam q / 2."""
    (point,) = points(random_controls(1, seed=200 + seed))
    solution, beta, step = solve(Ratios(**point)), 7.0, 2.0**-20
    up, down = (log_partition(point, beta + sign * step) for sign in (1, -1))
    ground = (solution.train_error + point["lam"] * solution.q) / 2
    assert float(-(up - down) / (2 * step)) == pytest.approx(ground + 1 / (2 * beta), rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_gibbs_training_error_is_the_derivative_at_fixed_beta_times_ridge(seed: int) -> None:
    (point,) = points(random_controls(1, seed=300 + seed))
    beta, step = 7.0, 2.0**-20
    solution = solve(Ratios(**point, beta_tilde=beta))
    with mpmath.workdps(50):
        product = mpmath.mpf(beta) * point["lam"]
        up, down = (log_partition(point, beta + sign * step, lam=product / (beta + sign * step)) for sign in (1, -1))
    assert float(-(up - down) / (2 * step)) == pytest.approx(solution.train_gibbs / 2, rel=1e-9)


def test_log_z_of_a_setting_is_extensive_and_its_slope_the_energy() -> None:
    """log Z = D^2 (density + (1 + log(2 pi / D)) / 2) at leading order, of beta in raw units."""

    def at(D: int, beta_tilde: float) -> Any:
        setting = Setting(D=D, N=2 * D, P=D**2, ridge=0.3 / D, noise=0.1, beta=beta_tilde * D**2)
        return solve(setting, level="limit")

    densities = [at(D, 5.0).log_Z / D**2 - (1 + math.log(2 * math.pi / D)) / 2 for D in (10, 20, 40)]
    assert densities == pytest.approx([densities[0]] * 3, rel=1e-12)
    D, middle = 20, at(20, 5.0)
    slope = (at(20, 5.0005).log_Z - at(20, 4.9995).log_Z) / (0.001 * D**2)
    energy = middle.train_error / 2 + 0.3 * middle.q / 2 + 1 / (2 * 5.0)  # raw: E_0 + D^2 / (2 beta)
    assert -slope == pytest.approx(energy, rel=1e-6)


def test_temperature_moves_nothing_but_the_gibbs_errors_and_the_fluctuation() -> None:
    controls = random_controls(50, seed=5)
    cold, hot = (solve(Ratios(**controls, beta_tilde=beta)) for beta in (100.0, 1.0))
    for name in GROUND:
        np.testing.assert_array_equal(getattr(cold, name), getattr(hot, name))
    np.testing.assert_allclose(hot.V, 100 * cold.V, rtol=1e-14)
    assert (hot.e_gibbs > cold.e_gibbs).all()
    assert (cold.e_gibbs > cold.e_icl).all()
    np.testing.assert_allclose(hot.e_gibbs - hot.e_icl, 100 * (cold.e_gibbs - cold.e_icl), rtol=1e-6)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_an_infinite_ridge_leaves_the_variance_of_the_target(noise: float) -> None:
    """m = 1/lam - a (1 + 1/alpha)/lam^2 and e = 1 + rho - 2/lam + c/lam^2: expand k = lam + a/alpha + O(1/lam)."""
    alpha, nu = 0.7, 2.0
    a = context_norm(nu, noise)
    exact = refine_limit(alpha, nu, 1e8, noise)
    assert float((exact["m"] * 1e8 - 1) * 1e8) == pytest.approx(-a * (1 + 1 / alpha), rel=1e-6)
    second = 2 * a * (1 + 1 / alpha) + a + (1 + noise) * a**2 / alpha
    assert float(((exact["e_icl"] - (1 + noise)) * 1e8 + 2) * 1e8) == pytest.approx(second, rel=1e-6)
    solution = solve(Ratios(alpha=alpha, nu=nu, lam=1e8, noise=noise))
    assert solution.m == pytest.approx(1e-8, rel=1e-6)
    assert solution.e_icl == pytest.approx(1 + noise - 2e-8, rel=1e-14)
    assert solution.train_error == pytest.approx(solution.e_icl, rel=1e-6)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_without_prompts_nothing_is_learnt(noise: float) -> None:
    """alpha -> 0: m -> alpha/a and e -> (1 + rho)(1 + alpha) - 2 alpha/a, with corrections of order alpha^2."""
    nu, lam = 2.0, 0.1
    a = context_norm(nu, noise)
    for alpha in (1e-3, 1e-5):
        solution = solve(Ratios(alpha=alpha, nu=nu, lam=lam, noise=noise))
        assert solution.m == pytest.approx(alpha / a, rel=10 * alpha)
        first_order = (1 + noise) * (1 + alpha) - 2 * alpha / a
        assert abs(solution.e_icl - first_order) < 10 * alpha**2
    assert solution.e_icl == pytest.approx(1 + noise, rel=1e-4)


@pytest.mark.parametrize("noise", [0.01, 0.5])
@pytest.mark.parametrize("alpha", [1.5, 10.0])
def test_an_infinite_context_leaves_least_squares_on_noise(alpha: float, noise: float) -> None:
    """nu -> inf: c is the task itself; W has D^2 weights and P = alpha D^2 noisy linear equations for the identity."""
    solution = solve(Ratios(alpha=alpha, nu=1e10, lam=1e-10, noise=noise))
    assert solution.e_icl == pytest.approx(noise * alpha / (alpha - 1), rel=1e-6)
    assert solution.train_error == pytest.approx(noise * (alpha - 1) / alpha, rel=1e-6)
    assert solution.m == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("lam", [0.0, 0.3])
def test_infinitely_many_prompts_leave_the_population_ridge(lam: float) -> None:
    """alpha -> inf: the weights minimise 1 + rho - 2m + a m^2 + lam m^2, m = 1/(a + lam)."""
    nu, noise = 3.0, 0.2
    a = context_norm(nu, noise)
    solution = solve(Ratios(alpha=1e12, nu=nu, lam=lam, noise=noise))
    m = 1 / (a + lam)
    assert solution.m == pytest.approx(m, rel=1e-10)
    assert solution.e_icl == pytest.approx(1 + noise - 2 * m + a * m**2, rel=1e-10)
    assert solution.q == pytest.approx(m**2, rel=1e-10)
    assert solution.contrast == pytest.approx(1, rel=1e-10)


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("alpha", [1.01, 1.5, 4.0])
def test_ridgeless_above_the_transition_is_least_squares(alpha: float, noise: float) -> None:
    """k = lam + (k/alpha) a/(a + k) at lam = 0, alpha > 1 has k = 0: the unregularised estimator.

    m = 1/a, the floor 1 + rho - 1/a is inflated by 1/(1 - 1/alpha) and the training error deflated by as much.
    """
    nu = 2.5
    a = context_norm(nu, noise)
    solution = solve(Ratios(alpha=alpha, nu=nu, lam=0.0, noise=noise))
    floor = 1 + noise - 1 / a
    assert solution.m == pytest.approx(1 / a, rel=1e-12)
    assert solution.e_icl == pytest.approx(floor / (1 - 1 / alpha), rel=1e-12)
    assert solution.train_error == pytest.approx(floor * (1 - 1 / alpha), rel=1e-12)
    assert solution.replicon == pytest.approx(1 - 1 / alpha, rel=1e-12)
    assert solution.q == pytest.approx(1 / a**2 + solution.e_icl / (alpha * a), rel=1e-12)


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.99])
def test_ridgeless_below_the_transition_interpolates_with_the_minimum_norm(alpha: float, noise: float) -> None:
    """At lam = 0, alpha < 1: 1 = a/(alpha (a + k)), so that k = a (1/alpha - 1) and m = alpha/a.

    The weights are a projection on a fraction alpha of all directions: k/(a + k) = 1 - alpha is what it misses.
    """
    nu = 2.5
    a = context_norm(nu, noise)
    solution = solve(Ratios(alpha=alpha, nu=nu, lam=0.0, noise=noise, minimum_norm=True))
    assert solution.status is Status.CONVERGED
    assert solution.train_error == 0
    assert solution.m == pytest.approx(alpha / a, rel=1e-12)
    assert solution.replicon == pytest.approx(1 - alpha, rel=1e-12)
    assert solution.e_icl == pytest.approx((1 + noise - 1 / a + (1 - alpha) ** 2 / a) / (1 - alpha), rel=1e-12)
    vanishing = solve(Ratios(alpha=alpha, nu=nu, lam=1e-13, noise=noise))
    for name in ("m", "q", "e_icl", "replicon"):
        assert getattr(vanishing, name) == pytest.approx(getattr(solution, name), rel=1e-8)


def test_the_ridgeless_error_diverges_at_the_transition_like_the_inverse_distance() -> None:
    for side in (1, -1):
        near, nearer = (
            solve(Ratios(alpha=1 + side * t, nu=2.0, lam=0.0, minimum_norm=True)).e_icl for t in (1e-5, 1e-6)
        )
        assert nearer / near == pytest.approx(10, rel=1e-4)


def test_noise_and_context_length_enter_the_overlap_through_the_context_norm_alone() -> None:
    """At fixed a = 1 + (1 + rho)/nu the weights' law is the same; e_icl moves by the noise over the replicon."""
    few = solve(Ratios(alpha=1.3, nu=2.0, lam=0.2, noise=0.0))
    more = solve(Ratios(alpha=1.3, nu=3.0, lam=0.2, noise=0.5))
    for name in ("m", "replicon"):
        assert getattr(more, name) == pytest.approx(getattr(few, name), rel=1e-14)
    assert more.e_icl - few.e_icl == pytest.approx(0.5 / few.replicon, rel=1e-12)


def test_no_error_is_below_that_of_the_best_linear_attention() -> None:
    controls = random_controls(1000, seed=6)
    solution = solve(Ratios(**controls))
    floor = 1 + controls["noise"] - 1 / context_norm(controls["nu"], controls["noise"])
    assert (solution.e_icl >= floor * (1 - 1e-12)).all()
    assert (solution.train_error <= solution.e_icl).all()


def test_the_transition_is_smooth_at_positive_ridge() -> None:
    """The two branches of the stable root meet where the sign of their coefficient changes."""
    a = context_norm(2.0, 0.0)
    for alpha, lam in ((1.0, 0.1), (1 / (1 - 0.1 / a), 0.1)):
        left, middle, right = (solve(Ratios(alpha=alpha + t, nu=2.0, lam=lam)) for t in (-1e-9, 0.0, 1e-9))
        for name in GROUND:
            values = [getattr(x, name) for x in (left, middle, right)]
            assert values[1] == pytest.approx((values[0] + values[2]) / 2, rel=1e-12)


def test_a_grid_is_its_points() -> None:
    """More points than one pass holds, of any shape; the points on both sides of a pass boundary among them."""
    count = CHUNK + 8
    controls = random_controls(count, seed=7)
    shape = (2, count // 2)
    grid = solve(Ratios(**{name: x.reshape(shape) for name, x in controls.items()}, beta_tilde=2.0))
    assert grid.status.shape == grid.residual.shape == grid.e_icl.shape == shape
    for index in (0, 1, 17, CHUNK - 1, CHUNK, count - 1):
        point = solve(Ratios(**{name: float(x[index]) for name, x in controls.items()}, beta_tilde=2.0))
        for name, value in point.observables().items():
            assert isinstance(value, float)
            assert np.ravel(getattr(grid, name))[index] == pytest.approx(value, rel=1e-14)


def test_broadcast_axes_make_a_table() -> None:
    table = solve(Ratios(alpha=np.array([[0.5], [2.0]]), nu=np.array([1.0, 2.0, 5.0]), lam=0.1))
    assert table.e_icl.shape == (2, 3)
    assert table.e_icl[1, 2] == solve(Ratios(alpha=2.0, nu=5.0, lam=0.1)).e_icl
    assert solve(Ratios(alpha=np.ones(0), nu=1.0, lam=0.1)).e_icl.shape == (0,)


def test_a_setting_is_solved_at_its_ratios() -> None:
    setting = Setting(D=20, N=40, P=300, ridge=0.01, noise=0.1)
    assert solve(setting, level="limit").values == solve(ratios(setting)).values


def test_a_gibbs_sample_errs_by_a_replica_with_itself() -> None:
    """e = 1 + rho - 2 m + a |W|^2/D, with q between two replicas and Q = q + V for one: <R> and <R + T chi>."""
    controls = random_controls(100, seed=8)
    solution = solve(Ratios(**controls, beta_tilde=3.0))
    a = context_norm(controls["nu"], controls["noise"])
    common = 1 + controls["noise"] - 2 * solution.m
    np.testing.assert_allclose(solution.e_icl, common + a * solution.q, rtol=1e-9)
    np.testing.assert_allclose(solution.e_gibbs, common + a * (solution.q + solution.V), rtol=1e-9)


def test_one_grid_holds_both_the_ground_state_and_temperatures() -> None:
    mixed = solve(Ratios(alpha=2.0, nu=2.0, lam=0.1, beta_tilde=np.array([math.inf, 4.0])))
    assert mixed.e_gibbs[0] == mixed.e_icl[0]
    assert mixed.V[0] == 0
    assert mixed.e_gibbs[1] == solve(Ratios(alpha=2.0, nu=2.0, lam=0.1, beta_tilde=4.0)).e_gibbs


def test_what_this_theory_does_not_cover_is_refused_by_name() -> None:
    with pytest.raises(ParameterError, match="fresh tasks") as caught:
        solve_limit(Ratios(alpha=1.0, nu=1.0, lam=0.1, kappa=0.5))  # another ensemble, which solve() goes to
    assert caught.value.parameter == "kappa"
    with pytest.raises(ParameterError, match="fresh tasks") as caught:
        solve(Setting(D=10, N=10, P=100, ridge=0.1, K=5), level="finite-size")
    assert caught.value.parameter == "K"
    with pytest.raises(ParameterError, match=r"must be one of .*\blimit\b") as caught:
        solve(Ratios(alpha=1.0, nu=1.0, lam=0.1), level="thermodynamic")
    assert (caught.value.parameter, caught.value.value) == ("level", "thermodynamic")
