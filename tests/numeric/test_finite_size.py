"""The finite-size solver against references, limits, thermodynamic identities and a saddle typed in by hand."""

import math
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import changed_model, times_nan
from scipy.optimize import root
from scipy.special import roots_genlaguerre

from replica_icl.errors import ParameterError, SolveError
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric import finite_size
from replica_icl.numeric.averages.prompt_nodes import PromptNodes, mean_prompt, prompt_nodes
from replica_icl.numeric.finite_size import TOLERANCE, solve_finite_size
from replica_icl.numeric.solution import Solution, Status
from replica_icl.numeric.solve import solve
from replica_icl.ratios import Ratios, setting_at
from replica_icl.setting import Setting

REFERENCES = tomllib.loads((Path(__file__).parent.parent / "references" / "finite_size.toml").read_text("utf-8"))
FIELDS = ("D", "N", "P", "ridge", "noise", "beta")
ACCURATE = ("e_icl", "train_error", "m", "q")
"""What the requested tolerance is promised for."""
GROUND = (*ACCURATE, "u", "contrast", "replicon")
POINT = Setting(D=20, N=40, P=300, ridge=0.02, noise=0.1)


def at_saddle(point: Any, **how: Any) -> Solution:
    """`solve` without the next order: the saddle point by itself."""
    solution = solve(point, **how)
    return replace(solution, values=solution.saddle)


def setting_of(row: dict[str, Any]) -> Setting:
    return Setting(**{name: row[name] for name in FIELDS if name in row})


def random_settings(count: int, seed: int, beta: float = math.inf) -> list[Setting]:
    """Both sides of the transition, ridges over six decades, with and without label noise."""
    rng = np.random.default_rng(seed)
    settings = []
    for i in range(count):
        D = int(rng.integers(8, 40))
        N, P, ridge = np.exp(rng.uniform(np.log([D / 2, 0.2 * D**2, 1e-5]), np.log([10 * D, 10 * D**2, 1.0])))
        noise = 0.0 if i % 2 else 0.25
        settings.append(Setting(D=D, N=round(N), P=round(P), ridge=float(ridge), noise=noise, beta=beta))
    return settings


PLAIN = LINEAR_ATTENTION.fresh_tasks


def changed(**functions: Any) -> Model:
    return changed_model("fresh_tasks", **functions)


def assert_has_no_values(solution: Solution) -> None:
    assert all(np.isnan(value).all() for value in solution.observables().values())
    assert not np.any(solution.converged)


# References


@pytest.mark.parametrize("row", REFERENCES["finite_size"], ids=lambda r: f"D={r['D']} N={r['N']} P={r['P']}")
def test_references_are_reproduced_to_the_digits_given(row: dict[str, Any]) -> None:
    """Half a unit of the last digit that is claimed."""
    solution = at_saddle(setting_of(row), tolerance=1e-7 if row["digits"] <= 6 else 1e-11)
    values = {name: value for name, value in row.items() if name not in (*FIELDS, "digits")}
    assert {"e_icl", "m"} <= set(values)
    for name, value in values.items():
        digits = min(row["digits"], 9) if name == "u" else row["digits"]  # u is given to nine figures
        unit = 10.0 ** (math.floor(math.log10(abs(value))) + 1 - digits)
        assert abs(getattr(solution, name) - value) <= 0.5 * unit, name


def test_the_stability_of_one_block_alone_is_not_enough() -> None:
    """I - X with X from section-by-section formulas typed here: its smallest eigenvalue and its first entry."""
    row = REFERENCES["stability"]
    D, P = row["D"], row["P"]
    setting = setting_of(row)
    assert at_saddle(setting).replicon == pytest.approx(row["replicon"], abs=5e-5)
    warm = at_saddle(replace(setting, beta=float(P)))  # b = beta / P = 1
    nodes = prompt_nodes(LINEAR_ATTENTION, D, row["N"], 0.0, 1e-7, 1e6)
    v, v_u = warm.V, warm.V_u

    def squares(T: Any, omega: Any, g: Any, a: Any, ell: Any) -> tuple[Any, ...]:
        s = 1 / (1 + T * (v * a + v_u * ell**2))
        return ((s**2, ((T * a) ** 2, T**2 * a * ell**2, (T * ell**2) ** 2)),)

    aa, al, ll = (x.item() for x in nodes.average(squares))
    x = np.array([[P * v**2 / D**2 * aa, P * v**2 / D**2 * al], [P * v_u**2 / D * al, P * v_u**2 / D * ll]])
    eigenvalues = np.linalg.eigvals(np.eye(2) - x)
    assert min(eigenvalues) == pytest.approx(warm.replicon, rel=1e-3)
    assert 1 - x[0, 0] == pytest.approx(row["token_entry"], abs=5e-4)


# An independent saddle: the free energy typed in by hand, a plain product rule, a general root finder.


def hand_typed_saddle(setting: Setting, order: int, start: tuple[float, ...]) -> dict[str, float]:
    D, N, P, beta, ridge = setting.D, setting.N, setting.P, setting.beta, setting.ridge
    assert setting.noise == 0
    rules = []
    for dof in (D, D, N, D - 1):
        x, w = roots_genlaguerre(order, dof / 2 - 1)
        rules.append((2 * x / dof, w / w.sum()))
    T, omega, A, h = (x.ravel() for x in np.meshgrid(*(x for x, _ in rules), indexing="ij"))
    weight = np.einsum("i,j,k,l->ijkl", *(w for _, w in rules)).ravel()
    aligned, norm, corner = omega * A, omega * A**2 + omega * A * (D - 1) * h / N, omega * A
    b = beta / P

    def log_z(m: Any, q: Any, V: Any, u: Any, V_u: Any) -> Any:
        chi = V * norm + V_u * corner**2
        R = T * (omega - 2 * m * aligned + q * norm + u * corner**2)
        entropic = D**2 / 2 * (np.log(V) + (q - m**2) / V) + D / 2 * (np.log(V_u) + u / V_u)
        energetic = P / 2 * (weight @ (np.log(1 + b * T * chi) + b * R / (1 + b * T * chi)))
        constant = (D**2 + D) / 2 * (1 + math.log(2 * math.pi / D))
        return entropic - energetic - beta * ridge / 2 * (D * (q + V) + u + V_u) + constant

    def parameters(x: Any) -> tuple[Any, ...]:
        return x[0], x[1], np.exp(x[2]), x[3], np.exp(x[4])

    def gradient(x: np.ndarray) -> np.ndarray:
        """By complex steps, exact to rounding; each in units of D^2."""
        return np.array([log_z(*parameters(x + 1e-30j * e)).imag / 1e-30 for e in np.eye(5)]) / D**2

    found = root(gradient, np.array([start[0], start[1], np.log(start[2]), start[3], np.log(start[4])]), tol=1e-12)
    assert np.abs(gradient(found.x)).max() < 1e-10
    m, q, V, u, V_u = parameters(found.x)
    s = 1 / (1 + b * T * (V * norm + V_u * corner**2))
    R = T * (omega - 2 * m * aligned + q * norm + u * corner**2)
    chi = V * norm + V_u * corner**2
    return {
        "m": m,
        "q": q,
        "V": V,
        "u": u,
        "V_u": V_u,
        "log_Z": float(log_z(m, q, V, u, V_u)),
        "e_icl": weight @ R,
        "train_error": weight @ (R * s**2),
        "e_gibbs": weight @ (R + T * chi),
        "train_gibbs": weight @ (R * s**2 + T * chi * s),
    }


@pytest.mark.parametrize("P", [80, 300], ids=["below the transition", "above"])
def test_a_saddle_typed_in_by_hand_is_the_solution(P: int) -> None:
    """Nothing shared: Gauss-Laguerre product rule, all five parameters at once, gradient of log Z itself."""
    setting = Setting(D=12, N=24, P=P, ridge=0.05, beta=1000.0)
    found = hand_typed_saddle(setting, order=16, start=(0.5, 0.4, 0.3, 0.02, 0.03))
    solution = at_saddle(setting)
    for name, value in found.items():
        assert getattr(solution, name) == pytest.approx(value, rel=2e-6), name


# Extreme controls


@pytest.mark.parametrize("P", [60, 300], ids=["below", "above"])
def test_ridges_down_to_a_tenth_of_a_billionth_converge_on_both_sides(P: int) -> None:
    """The change of e_icl from one ridge to the next shrinks with the ridge itself: a regular limit."""
    ridges = (1e-4, 1e-6, 1e-8, 1e-10)
    solutions = [at_saddle(Setting(D=10, N=20, P=P, ridge=ridge)) for ridge in ridges]
    assert all(solution.residual < TOLERANCE for solution in solutions)
    errors = [solution.e_icl for solution in solutions]
    assert abs(errors[1] - errors[0]) < 0.05 * errors[-1]
    assert abs(errors[2] - errors[1]) < 0.05 * abs(errors[1] - errors[0])
    assert abs(errors[3] - errors[2]) < 2e-7 * errors[-1] + 0.05 * abs(errors[2] - errors[1])


def test_minimum_norm_is_the_limit_of_vanishing_ridge() -> None:
    for noise in (0.0, 0.1):
        setting = Setting(D=12, N=40, P=80, ridge=0.0, noise=noise, minimum_norm=True)
        exact, vanishing = at_saddle(setting), at_saddle(replace(setting, ridge=1e-10))
        assert exact.train_error == 0
        assert vanishing.train_error < 1e-15
        for name in ("e_icl", "m", "q", "u", "contrast", "replicon"):
            assert getattr(vanishing, name) == pytest.approx(getattr(exact, name), rel=2e-6), name


def test_without_ridge_above_the_transition_the_solution_is_least_squares() -> None:
    setting = Setting(D=10, N=20, P=300, ridge=0.0)
    exact, vanishing = at_saddle(setting), at_saddle(replace(setting, ridge=1e-11))
    for name in GROUND:
        assert getattr(vanishing, name) == pytest.approx(getattr(exact, name), rel=1e-6), name


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_an_infinite_ridge_leaves_the_variance_of_the_target(noise: float) -> None:
    """W = h / lambda_0 to first order, E h_ii = 1/D: m = 1/(D lambda_0), e_icl = 1 + rho - 2 m."""
    setting = Setting(D=10, N=20, P=200, ridge=1e5, noise=noise)
    solution = at_saddle(setting)
    m = 1 / (setting.D * setting.ridge)
    assert solution.m == pytest.approx(m, rel=1e-4)
    assert solution.e_icl - (1 + noise) == pytest.approx(-2 * m, rel=1e-2, abs=1e-7)
    assert solution.train_error == pytest.approx(1 + noise, rel=1e-5)
    assert solution.replicon == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("alpha", "noise"), [(0.5, 0.0), (2.0, 0.25)])
def test_the_difference_from_the_limit_decays_like_inverse_dimension(alpha: float, noise: float) -> None:
    """D = 50 .. 800 at fixed ratios: doubling D halves the difference, up to the next order."""
    point = Ratios(alpha=alpha, nu=2.0, lam=0.2, noise=noise, beta_tilde=5.0)
    sizes = (50, 100, 200, 400, 800)
    grid, limit = at_saddle([setting_at(point, D) for D in sizes], tolerance=1e-9), at_saddle(point)
    for name in ("e_icl", "train_error", "m", "q", "V", "e_gibbs", "train_gibbs"):
        difference = getattr(grid, name) - getattr(limit, name)
        assert (difference != 0).all(), name
        for D, ratio in zip(sizes, difference[1:] / difference[:-1], strict=False):
            assert abs(ratio - 0.5) < 5 / D, (name, D)
    np.testing.assert_allclose(grid.u * np.array(sizes), (grid.u * np.array(sizes))[-1], rtol=0.1)


def test_a_dimension_of_ten_thousand_is_the_limit_to_a_thousandth() -> None:
    point = Ratios(alpha=2.0, nu=2.0, lam=0.2)
    big, limit = at_saddle(setting_at(point, 10_000)), at_saddle(point)
    for name in (*ACCURATE, "contrast", "replicon"):
        assert getattr(big, name) == pytest.approx(getattr(limit, name), rel=1e-3), name


# Grids


def test_a_grid_is_its_points_in_the_order_given() -> None:
    settings = random_settings(8, seed=1)
    settings += [replace(s, P=2 * s.P) for s in settings[:3]] + [replace(settings[0], beta=100.0)]
    grid = at_saddle(settings)
    assert grid.e_icl.shape == (len(settings),)
    for i, setting in enumerate(settings):
        point = at_saddle(setting)
        assert isinstance(point.e_icl, float)
        assert point.status is Status.CONVERGED
        for name in ACCURATE:
            assert getattr(grid, name)[i] == pytest.approx(getattr(point, name), rel=2e-7), name
    assert np.isnan(grid.V[:-1]).all()
    assert grid.V[-1] == pytest.approx(at_saddle(settings[-1]).V, rel=1e-6)


def test_an_empty_grid_is_an_empty_solution() -> None:
    assert at_saddle(Setting(D=10, N=20, P=[], ridge=0.1), throw=False).e_icl.shape == (0,)


def test_the_grid_of_the_contrast_ratio_converges_everywhere() -> None:
    """Li et al., Fig. 4(a): 50 values of N from 2 to 100, 50 of P from 20 to 1000, D = 20, lambda_0 = 1."""
    contexts, prompts = np.arange(2, 101, 2), np.arange(20, 1001, 20)
    settings = [Setting(D=20, N=int(N), P=int(P), ridge=1.0) for N in contexts for P in prompts]
    grid = at_saddle(settings, throw=False)
    assert len(settings) == 2500
    assert (grid.status == Status.CONVERGED).all()
    assert grid.residual.max() < TOLERANCE
    for name in ("contrast", "m"):
        table = getattr(grid, name).reshape(50, 50)
        assert (np.diff(table, axis=1) > 0).all(), name  # more prompts, better
    # Longer contexts are better, except with P = 20 prompts: there they shrink |c|^2 more than they help.
    assert (np.diff(grid.e_icl.reshape(50, 50)[1:, 1:], axis=0) < 0).all()
    for index in (0, 49, 1275, 2450, 2499):
        accurate = at_saddle(settings[index], tolerance=1e-8)
        for name in ("e_icl", "m"):
            assert getattr(grid, name)[index] == pytest.approx(getattr(accurate, name), rel=1e-6), name


# Thermodynamics


@pytest.mark.parametrize("seed", range(3))
def test_the_gibbs_training_error_is_the_derivative_at_fixed_beta_times_ridge(seed: int) -> None:
    """At fixed beta lambda_0 the weight's beta multiplies (1/2P) sum r^2 alone: d log Z / d beta = -<r^2> / 2.

    A centred difference over beta (1 +- h) leaves h^2 beta^2 (log Z)''' / 6 beside it; Richardson removes it.
    """
    (setting,) = random_settings(1, seed=100 + seed, beta=500.0)
    product = setting.beta * setting.ridge

    def log_z(h: float) -> float:
        beta = setting.beta * (1 + h)
        return at_saddle(replace(setting, beta=beta, ridge=product / beta), tolerance=1e-10).log_Z

    def slope(h: float) -> float:
        return (log_z(h) - log_z(-h)) / (2 * h * setting.beta)

    extrapolated = (4 * slope(0.01) - slope(0.02)) / 3
    assert extrapolated == pytest.approx(-at_saddle(setting, tolerance=1e-10).train_gibbs / 2, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_energy_is_the_ground_state_and_half_a_temperature_per_weight(seed: int) -> None:
    """-d log Z / d beta = E_0 + (D^2 + D) / (2 beta), E_0 = train_error / 2 + lambda_0 (D q + u) / 2.

    log Z = const - beta E_0 - (D^2 + D)/2 log beta exactly, so the centred difference over beta (1 +- h) is
    E_0 + (D^2 + D) / (2 beta) atanh(h) / h.
    """
    (setting,) = random_settings(1, seed=200 + seed, beta=500.0)
    solution, h = at_saddle(setting), 0.1
    up, down = (at_saddle(replace(setting, beta=setting.beta * (1 + sign * h))).log_Z for sign in (1, -1))
    ground = solution.train_error / 2 + setting.ridge * (setting.D * solution.q + solution.u) / 2
    thermal = setting.acting_weights / (2 * setting.beta) * math.atanh(h) / h
    assert -(up - down) / (2 * h * setting.beta) == pytest.approx(ground + thermal, rel=1e-7)


def test_temperature_moves_nothing_but_the_fluctuations() -> None:
    """m, q, u and the ground state's errors are the same at every beta; V and V_u are proportional to 1/beta."""
    cold, hot, frozen = (at_saddle(replace(POINT, beta=beta)) for beta in (1e5, 10.0, math.inf))
    for name in GROUND:
        assert getattr(hot, name) == pytest.approx(getattr(cold, name), rel=1e-13), name
        assert getattr(hot, name) == pytest.approx(getattr(frozen, name), rel=1e-13), name
    for name in ("V", "V_u"):
        assert getattr(hot, name) == pytest.approx(1e4 * getattr(cold, name), rel=1e-13), name
    assert hot.e_gibbs - hot.e_icl == pytest.approx(1e4 * (cold.e_gibbs - cold.e_icl), rel=1e-7)
    assert cold.e_gibbs > cold.e_icl
    assert frozen.V is frozen.log_Z is frozen.e_gibbs is None


def test_the_saddle_balances_at_the_solution() -> None:
    grid = solve_finite_size(random_settings(12, seed=3))
    assert (grid.status == Status.CONVERGED).all()
    assert grid.residual.max() < 1e-13
    assert (grid.q >= grid.m**2).all()
    assert (grid.replicon > 0).all()
    assert (grid.train_error < grid.e_icl).all()
    np.testing.assert_array_equal(grid.e_idg, grid.e_icl)


def test_labels_and_weights_rescale_together() -> None:
    """Labels k times as large, ridges k^2 (tokens, c ~ k) and k^4 (last row, l ~ k^2) times: the same D block, last-row
    weights 1/k as large, errors k^2 times."""
    k = 3.0

    def context(xp: Any, *, signal: Any, silent: Any, D: Any, N: Any, rho: Any) -> Any:
        own = PLAIN.context(xp, signal=signal, silent=silent, D=D, N=N, rho=rho / k**2)
        return own._replace(norm=k**2 * own.norm, corner=k**2 * own.corner)  # omega, g, a and l are k^2 as large

    scaled = replace(POINT, noise=k**2 * POINT.noise)
    ridges = np.array([[k**2 * POINT.ridge, k**4 * POINT.ridge]])
    found = solve_finite_size([scaled], block_ridges=ridges, model=changed(context=context)).point(0)
    own = at_saddle(POINT)
    for name, power in {"m": 0, "q": 0, "u": -2, "e_icl": 2, "train_error": 2, "replicon": 0}.items():
        assert getattr(found, name) == pytest.approx(k**power * getattr(own, name), rel=1e-6), name


def test_more_label_noise_is_a_larger_error() -> None:
    grid = at_saddle([replace(POINT, noise=noise) for noise in (0.0, 0.05, 0.2, 0.8)])
    assert (np.diff(grid.e_icl) > 0).all()
    assert (np.diff(grid.m) < 0).all()


# Accuracy and status


def test_results_are_as_accurate_as_asked_for_and_no_rule_is_exact() -> None:
    settings = random_settings(6, seed=4)
    exact = at_saddle(settings, tolerance=1e-9)
    for tolerance in (1e-3, 1e-5, 1e-7):
        rough = at_saddle(settings, tolerance=tolerance)
        for name in ACCURATE:
            error = np.abs(getattr(rough, name) / getattr(exact, name) - 1)
            assert (error < tolerance).all(), (name, tolerance)
    assert np.abs(at_saddle(settings, tolerance=1e-3).e_icl / exact.e_icl - 1).max() > 1e-9


def test_a_rule_that_its_check_contradicts_is_no_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    """All weight on the mean prompt: the equations balance, but another rule gives other values."""
    monkeypatch.setattr(
        finite_size,
        "prompt_nodes",
        lambda model, D, N, noise, *args, check=False, **_: (
            prompt_nodes(model, D, N, noise, 1e-7, 10.0) if check else mean_prompt(model, D, N, noise)
        ),
    )
    solution = at_saddle(POINT, throw=False)
    assert solution.residual < TOLERANCE
    assert solution.status is Status.QUADRATURE
    assert_has_no_values(solution)
    with pytest.raises(SolveError, match="finite-size solve ended with status quadrature"):
        at_saddle(POINT)


def test_equations_that_do_not_balance_are_out_of_iterations() -> None:
    def fluctuations(xp: Any, average: Any, **arguments: Any) -> Any:
        out = PLAIN.fluctuations(xp, average, **arguments)
        return out._replace(left=(out.left[0] + 1e-7, out.left[1]))

    solution = solve_finite_size([POINT], model=changed(fluctuations=fluctuations))
    assert solution.status[0] == Status.MAX_ITERATIONS
    assert 1e-9 < solution.residual[0] < 1e-6
    assert_has_no_values(solution)


@pytest.mark.parametrize("name", ["m", "q", "u"])
def test_a_value_off_the_saddle_is_out_of_iterations(name: str) -> None:
    def order_parameters(xp: Any, average: Any, **arguments: Any) -> Any:
        values = PLAIN.order_parameters(xp, average, **arguments)
        return values._replace(**{name: getattr(values, name) * (1 + 1e-7)})

    solution = solve_finite_size([POINT], model=changed(order_parameters=order_parameters))
    assert solution.status[0] == Status.MAX_ITERATIONS
    assert_has_no_values(solution)


@pytest.mark.parametrize("where", ["fluctuations", "order_parameters"])
def test_nan_on_the_way_is_non_finite_and_never_converged(where: str) -> None:
    def broken(xp: Any, average: Any, **arguments: Any) -> Any:
        return times_nan(getattr(PLAIN, where)(xp, average, **arguments))

    solution = solve_finite_size([POINT], model=changed(**{where: broken}))
    assert solution.status[0] == Status.NON_FINITE
    assert_has_no_values(solution)


def test_a_root_that_is_not_stable_is_inadmissible() -> None:
    def order_parameters(xp: Any, average: Any, **arguments: Any) -> Any:
        values = PLAIN.order_parameters(xp, average, **arguments)
        return values._replace(replicon=-values.replicon)

    solution = solve_finite_size([POINT], model=changed(order_parameters=order_parameters))
    assert solution.residual[0] < TOLERANCE
    assert solution.status[0] == Status.INADMISSIBLE
    assert_has_no_values(solution)


def test_the_ridgeless_transition_is_singular_and_its_neighbours_are_not() -> None:
    D = 10
    settings = [Setting(D=D, N=20, P=D * (D + 1) + step, ridge=0.0, minimum_norm=True) for step in (-1, 0, 1)]
    grid = at_saddle(settings, throw=False)
    assert grid.status.tolist() == [Status.CONVERGED, Status.SINGULAR, Status.CONVERGED]
    assert np.isfinite(grid.e_icl).tolist() == [True, False, True]
    assert grid.e_icl[0] > 10
    assert grid.e_icl[2] > 10


def test_failed_points_leave_their_neighbours_alone() -> None:
    settings = [POINT, replace(POINT, P=420, ridge=0.0), replace(POINT, P=500)]
    grid = at_saddle(settings, throw=False)
    assert grid.status.tolist() == [Status.CONVERGED, Status.SINGULAR, Status.CONVERGED]
    assert grid.e_icl[2] == pytest.approx(at_saddle(settings[2]).e_icl, rel=2e-7)
    with pytest.raises(SolveError, match=r"singular \(1 of 3 points\)"):
        at_saddle(settings)


def test_finite_task_diversity_is_refused_by_name() -> None:
    with pytest.raises(ParameterError, match="fresh tasks") as caught:
        at_saddle(replace(POINT, K=5), level="finite-size")
    assert caught.value.parameter == "K"


def test_nodes_of_the_solver_are_read_and_not_changed() -> None:
    nodes = prompt_nodes(LINEAR_ATTENTION, POINT.D, POINT.N, POINT.noise, 1e-7, 10.0)
    before = [x.copy() for x in (*nodes.scalars, nodes.weights)]
    at_saddle([POINT, replace(POINT, P=600)])
    assert isinstance(nodes, PromptNodes)
    for old, new in zip(before, (*nodes.scalars, nodes.weights), strict=True):
        np.testing.assert_array_equal(old, new)
