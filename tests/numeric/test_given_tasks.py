"""The theory of a given task set: its equations, its limits, and exact simulation."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from replica_icl import ParameterError, Ratios, Setting, simulate, solve
from replica_icl.lowering.loading import derived
from replica_icl.lowering.model import LINEAR_ATTENTION, Model, derive_model
from replica_icl.model.attention.merged import Attention, prediction
from replica_icl.model.losses import squared
from replica_icl.numeric import task_nodes
from replica_icl.numeric import task_saddle as module
from replica_icl.numeric.averages.prompt_nodes import factor_rules
from replica_icl.numeric.averages.quadrature import Rule
from replica_icl.numeric.given_tasks import average_over_tasks, solve_given_tasks, solve_saddle, task_set
from replica_icl.numeric.solution import NextOrderStatus, Status
from replica_icl.numeric.task_check import JudgedTaskSet
from replica_icl.numeric.task_fluctuations import Slopes
from replica_icl.numeric.task_matrix import check_task_matrix, draw_task_set
from replica_icl.numeric.task_saddle import Order, TaskSet

SETTING = Setting(D=8, N=12, P=60, K=5, ridge=0.02, noise=0.25)


@pytest.fixture(scope="module")
def solved() -> tuple[TaskSet, Order]:
    tasks, shares = draw_task_set(SETTING, 3)
    given = task_set(SETTING, tasks, shares, tolerance=1e-6)
    return given, given.solve(given.start(0.2))


def test_order_parameters_make_the_free_energy_stationary(solved: tuple[TaskSet, Order]) -> None:
    """Finite differences of log Z in every direction of V, C and M that was tried, scaled by its curvature."""
    given, found = solved
    rng = np.random.default_rng(0)
    start = {name: getattr(found, name) for name in "VCM"}
    for name in "VCM":
        for _ in range(4):
            direction = rng.standard_normal(start[name].shape)
            if name in "VC":
                root = np.linalg.cholesky(start["V"])
                direction = root @ (direction + direction.T) @ root.T
            else:
                direction = np.linalg.cholesky(start["V"]) @ direction

            def free(step: float, name: str = name, direction: np.ndarray = direction) -> float:
                return given.free_entropy(**{**start, name: start[name] + step * direction})

            h = 1e-4
            slope = (free(h) - free(-h)) / (2 * h)
            wrong = abs((free(0.1) - free(0.0)) / 0.1)
            assert abs(slope) < 1e-5 * max(wrong, 1.0), name
    away = {**start, "V": 1.1 * start["V"]}
    assert abs(given.free_entropy(**away) - given.free_entropy(**start)) > 1e-3


def test_newton_matrix_is_the_derivative_of_the_equations(solved: tuple[TaskSet, Order]) -> None:
    given, found = solved
    y = given.forms.gathered(given.averages(found.V).a, given.shares)

    def mapped(x: np.ndarray) -> np.ndarray:
        return given.forms.gathered(given.averages(given.fluctuations(x)).a, given.shares)

    change = np.random.default_rng(1).standard_normal(y.size) * np.abs(y)
    h = 1e-5
    numeric = (mapped(y + h * change) - mapped(y - h * change)) / (2 * h)
    exact = SETTING.P * given.curvature(given.averages(found.V).slopes) @ given.forms.gram(found.V) @ change
    np.testing.assert_allclose(numeric, exact, rtol=1e-6, atol=1e-9 * np.abs(exact).max())


def test_prompt_averages_have_converged() -> None:
    tasks, shares = draw_task_set(SETTING, 3)
    coarse, fine = (solve_given_tasks(SETTING, tasks, shares, tolerance) for tolerance in (1e-5, 1e-8))
    for name, value in fine.observables().items():
        assert getattr(coarse, name) == pytest.approx(value, rel=3e-5), name


@pytest.mark.parametrize("noise", [0.0, 0.25, 0.8])
def test_many_tasks_are_fresh_tasks(noise: float) -> None:
    """Isotropic limit: with hundreds of tasks, the finite-size theory of fresh tasks up to 1/K and 1/D."""
    fresh = Setting(D=10, N=20, P=4000, ridge=0.01, noise=noise)
    expected = solve(fresh)
    many = Setting(D=10, N=20, P=4000, ridge=0.01, noise=noise, K=200)
    tasks, _ = draw_task_set(many, 0)
    whitened = tasks @ np.linalg.inv(np.linalg.cholesky(tasks.T @ tasks / len(tasks))).T
    found = solve_given_tasks(many, whitened, tolerance=1e-3)
    for name in ("e_icl", "e_idg", "train_error", "m", "q", "replicon"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=2e-2), name


def test_rotating_or_permuting_the_tasks_changes_nothing() -> None:
    tasks, _ = draw_task_set(SETTING, 0)
    rotation = np.linalg.qr(np.random.default_rng(2).standard_normal((8, 8)))[0]
    first = solve_given_tasks(SETTING, tasks)
    for other in (tasks @ rotation, tasks[::-1]):
        found = solve_given_tasks(SETTING, other)
        for name in ("e_icl", "e_idg", "train_error", "q", "u", "replicon"):
            assert getattr(found, name) == pytest.approx(getattr(first, name), rel=1e-8), name


def test_large_sizes_approach_the_limit() -> None:
    limit = solve(Ratios(alpha=1.5, nu=2.0, kappa=0.5, lam=0.2, noise=0.1))
    gaps = []
    for D in (20, 60):
        setting = Setting(D=D, N=2 * D, P=3 * D * D // 2, K=D // 2, ridge=0.2 / D, noise=0.1)
        found = average_over_tasks(setting, 6 if D == 20 else 2, sphere=True)
        gaps.append(abs(found.with_next_order().e_icl / limit.e_icl - 1))
    assert gaps[1] < 0.6 * gaps[0]


@pytest.mark.parametrize(("P", "ridge"), [(10_000, 1e-8), (10_100, 1e-8), (10_000, 1e-4), (5_000, 1e-8)])
def test_a_hundred_dimensions_converge_near_the_transition(P: int, ridge: float) -> None:
    setting = Setting(D=100, N=100, P=P, K=50, ridge=ridge, noise=0.01)
    tasks, shares = draw_task_set(setting, 0, sphere=True)
    found = solve_given_tasks(setting, tasks, shares)
    assert found.status is Status.CONVERGED
    assert found.replicon > 0


def test_a_task_without_prompts_is_solved_and_scored() -> None:
    """Drawn at random, a task can be left out; rounding must not give it prompts. It counts in e_idg as any other."""
    setting = Setting(D=4, N=36, P=20, K=11, ridge=4e-7, noise=0.25)
    tasks, _ = draw_task_set(setting, 10)
    shares = np.array([2, 3, 2, 2, 3, 2, 2, 1, 0, 2, 1]) / 20
    found = solve_given_tasks(setting, tasks, shares)
    used = np.flatnonzero(shares)
    alone = solve_given_tasks(replace(setting, K=10), tasks[used], shares[used])
    for name in ("e_icl", "train_error", "m", "q", "u", "replicon"):
        assert getattr(found, name) == pytest.approx(getattr(alone, name), rel=1e-8), name
    assert found.e_idg != pytest.approx(alone.e_idg, rel=1e-3)


@pytest.mark.parametrize("K", [2, 4])
def test_few_tasks_without_noise_and_ridge_converge(K: int) -> None:
    """l is then tied to the part of c along the task, and one direction of V is held by the ridge alone."""
    for P in (60, 272, 900):
        setting = Setting(D=16, N=51, P=P, K=K, ridge=1e-8)
        found = solve_given_tasks(setting, draw_task_set(setting, 65, sphere=True)[0])
        assert found.status is Status.CONVERGED
        near = solve_given_tasks(replace(setting, ridge=2e-8), draw_task_set(setting, 65, sphere=True)[0])
        if P != 272:
            assert found.e_icl == pytest.approx(near.e_icl, rel=1e-3)


def test_coefficients_of_a_task_may_change_sign_on_the_way() -> None:
    """One noisy label per prompt says more across some tasks than along them."""
    setting = Setting(D=7, N=1, P=60, K=12, ridge=9.1e-9, noise=0.25)
    tasks, shares = draw_task_set(setting, 343)
    found = solve_given_tasks(setting, tasks, shares, 1e-2)
    assert found.status is Status.CONVERGED
    solved = solve_saddle(setting, tasks, shares, 1e-2, None)
    assert np.min(solved.order.y[:12]) < 0


@pytest.mark.parametrize(
    "shares", [np.full(4, 0.25), np.array([0.5, 0.5, 0.5, -0.5, 0.0]), np.full(5, 0.3), np.array(["a"] * 5)]
)
def test_bad_shares_are_named(shares: np.ndarray) -> None:
    with pytest.raises(ParameterError) as caught:
        solve_given_tasks(SETTING, draw_task_set(SETTING, 0)[0], shares)
    assert caught.value.parameter == "shares"


def test_averages_in_pieces_are_those_in_one(solved: tuple[TaskSet, Order], monkeypatch: pytest.MonkeyPatch) -> None:
    given, found = solved
    monkeypatch.setattr(task_nodes, "PIECE", 500)
    pieces = given.averages(found.V)
    monkeypatch.setattr(task_nodes, "PIECE", 10**9)
    whole = given.averages(found.V)
    pairs = [*zip(pieces.a, whole.a, strict=True), *zip(pieces.b, whole.b, strict=True)]
    pairs += [pair for rows in zip(pieces.slopes, whole.slopes, strict=True) for pair in zip(*rows, strict=True)]
    for value, other in pairs:
        np.testing.assert_allclose(value, other, rtol=1e-11, atol=1e-14)


def test_theory_agrees_with_exact_simulation_of_the_same_tasks() -> None:
    setting = Setting(D=20, N=40, P=600, K=10, ridge=0.005, noise=0.25)
    tasks, _ = draw_task_set(setting, 0)
    found = solve(setting, level="given-tasks", tasks=tasks)
    measured = simulate(setting, 24, tasks=tasks, seed=1, prompts="sufficient", usage="equal", workers=1)
    for name in ("e_icl", "e_idg"):
        theory, estimate = getattr(found, name), measured[name]
        assert estimate.sem is not None
        assert abs(estimate.mean - theory) < 4 * estimate.sem + 0.3 / setting.D * theory, name


def test_noise_of_the_order_of_the_signal_is_on_labels_and_targets() -> None:
    """At rho = 0.8 a target whose noise is multiplied by T moves e_icl by 6 % and the training error by 19 %."""
    setting = Setting(D=12, N=24, P=200, K=6, ridge=0.01, noise=0.8)
    tasks, _ = draw_task_set(setting, 0)
    found = solve(setting, level="given-tasks", tasks=tasks, tolerance=1e-3)
    measured = simulate(setting, 400, tasks=tasks, seed=1, prompts="sufficient", usage="equal", workers=1)
    for name, seen in (("e_icl", 0.03), ("e_idg", 0.03), ("train_error", 0.1)):
        theory, estimate = found[name], measured[name]
        assert estimate.sem is not None
        assert 4 * estimate.sem < seen * theory
        assert abs(estimate.mean - theory) < 4 * estimate.sem + 0.1 / setting.D * theory, name


def test_a_doubled_forward_pass_halves_the_weights_at_four_times_the_ridge() -> None:
    """y^ -> 2 y^ at ridge 4 lambda_0 has the weights W/2, and every error is what it was, next order and all."""
    twice = derive_model(Attention.of(lambda *args: 2 * prediction(*args)))
    tasks, shares = draw_task_set(SETTING, 3)
    plain = solve_given_tasks(SETTING, tasks, shares, 1e-3)
    doubled = solve_given_tasks(replace(SETTING, ridge=4 * SETTING.ridge), tasks, shares, 1e-3, twice)
    powers = {"m": 1, "q": 2, "u": 2, "e_icl": 0, "e_idg": 0, "train_error": 0, "contrast": 0, "replicon": 0}
    for name, power in powers.items():
        assert doubled[name] * 2**power == pytest.approx(plain[name], rel=1e-9), name
        if name != "replicon":
            gains = doubled.next_order[name] * 2**power, plain.next_order[name]
            assert gains[0] == pytest.approx(gains[1], rel=1e-7), name
    same = solve_given_tasks(SETTING, tasks, shares, 1e-3, twice)
    assert same.m != pytest.approx(plain.m, rel=1e-2)


def test_the_weight_of_a_prompt_is_that_of_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each prompt counted twice by the loss, and by nothing else, is twice as many prompts at half the ridge."""
    once = squared._log_gaussian_average
    monkeypatch.setattr(squared, "_log_gaussian_average", lambda log_det: 2 * once(log_det))
    twice = Model(lambda name: derived(name) if name == "given_tasks" else LINEAR_ATTENTION.functions(name))
    tasks, shares = draw_task_set(SETTING, 3)
    found = solve_given_tasks(SETTING, tasks, shares, 1e-3, twice)
    more = solve_given_tasks(replace(SETTING, P=120, ridge=SETTING.ridge / 2), tasks, shares, 1e-3)
    plain = solve_given_tasks(SETTING, tasks, shares, 1e-3)
    for name in ("e_icl", "e_idg", "m", "q", "u", "replicon"):
        assert found[name] == pytest.approx(more[name], rel=1e-7), name
    assert found.m != pytest.approx(plain.m, rel=1e-2)
    for name, value in plain.next_order.items():
        assert found.next_order[name] != pytest.approx(value, rel=1e-2), name


def test_a_rule_that_its_check_contradicts_is_no_solution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Equations that balance on a single node for T: solved, but not for these prompts."""

    def rules(*args: Any, gauss: bool, **options: Any) -> dict[str, Rule]:
        found = factor_rules(*args, gauss=gauss, **options)
        return {**found, "T": (np.ones(1), np.ones(1))} if gauss else found

    monkeypatch.setattr(task_nodes, "factor_rules", rules)
    found = solve_given_tasks(SETTING, draw_task_set(SETTING, 3)[0], tolerance=1e-3)
    assert found.residual < module.TOLERANCE
    assert found.status is Status.QUADRATURE
    assert np.isnan(found.e_icl)


@pytest.mark.parametrize(
    ("setting", "seed"),
    [
        (Setting(D=10, N=8, P=97, K=1, ridge=0.0461), 3),  # e_idg was off by more than the tolerance
        (Setting(D=6, N=5, P=31, K=1, ridge=0.167), 3),
        (Setting(D=20, N=3, P=60, K=5, ridge=1e-8), 0),
        # One direction of the context that only label noise moves, and a ridge that sees it: rules for smooth
        # functions of the noise are off by up to 1e-2.
        (Setting(D=7, N=100, P=64, K=1, ridge=2e-6, noise=0.01), 243),
        (Setting(D=14, N=20, P=60, K=1, ridge=2e-6, noise=0.25), 53),
    ],
)
def test_values_are_as_accurate_as_the_tolerance_says(setting: Setting, seed: int) -> None:
    """Beside a rule of its own: trapezoid sums for every factor, 30 times as far out and 100 times as fine."""
    tasks, shares = draw_task_set(setting, seed)
    found = solve_given_tasks(setting, tasks, shares)
    assert found.status is Status.CONVERGED
    with np.errstate(all="ignore"):
        solved = solve_saddle(setting, check_task_matrix(tasks, setting), shares, 1e-5, None)
    equations, steepest = solved.response.equations, 30 * float(np.max(solved.order.averages.chi))
    given = equations.arguments(solved.order.V, solved.order.G, solved.order.M)
    nodes = task_nodes.task_nodes(
        equations.model, setting, given["omega"], 1e-7, max(steepest, 1.0), check=True, seen=given["v"]
    )
    exact = replace(equations, nodes=nodes)
    expected = exact.observables(exact.solve(solved.order.y))
    for name in ("e_icl", "e_idg", "train_error", "m", "q", "u", "contrast"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name


def test_a_next_order_that_a_second_rule_contradicts_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, shares = draw_task_set(SETTING, 3)
    found = solve_given_tasks(SETTING, tasks, shares, 1e-3)
    assert found.next_order_status is NextOrderStatus.ADDED
    judged = JudgedTaskSet.fluctuation_slopes

    def other(self: JudgedTaskSet, at: Order) -> Slopes:
        slopes = judged(self, at)
        return replace(slopes, by_M=1.2 * slopes.by_M)

    monkeypatch.setattr(JudgedTaskSet, "fluctuation_slopes", other)
    without = solve_given_tasks(SETTING, tasks, shares, 1e-3)
    assert without.status is Status.CONVERGED
    assert without.next_order_status is NextOrderStatus.INACCURATE
    assert np.isnan(without.next_order["m"])
    assert without.with_next_order().e_icl == found.e_icl


def test_draws_are_reproducible_and_have_a_spread() -> None:
    found = average_over_tasks(SETTING, 3, seed=4)
    again = average_over_tasks(SETTING, 3, seed=4)
    assert found.to_dict() == again.to_dict()
    assert found.draws == 3
    assert found.spread["e_idg"] > 0
    assert found.spread["e_idg"] != average_over_tasks(SETTING, 2, seed=4).spread["e_idg"]
    sphere, shares = draw_task_set(SETTING, 4, sphere=True)
    np.testing.assert_allclose(np.sum(sphere**2, axis=1), SETTING.D)
    assert np.all(shares == 1 / 5)


@pytest.mark.parametrize(
    ("tasks", "name", "words"),
    [
        (np.ones((3, 7)), "tasks", r"shape \(K, 8\)"),
        (np.ones(8), "tasks", r"shape \(K, 8\)"),
        (np.full((5, 8), np.nan), "tasks", "finite"),
        (np.vstack([np.ones((4, 8)), np.zeros((1, 8))]), "tasks", "zero task"),
        (np.array([["a"] * 8] * 5), "tasks", "real numbers"),
        (np.ones((4, 8)), "K", "number of given tasks, 4"),
    ],
)
def test_bad_task_matrices_are_named(tasks: np.ndarray, name: str, words: str) -> None:
    with pytest.raises(ParameterError, match=words) as caught:
        solve_given_tasks(SETTING, tasks)
    assert caught.value.parameter == name


def test_more_tasks_than_prompts_are_refused() -> None:
    with pytest.raises(ParameterError, match="P = 60") as caught:
        solve_given_tasks(Setting(D=8, N=12, P=60, ridge=0.02), np.ones((61, 8)))
    assert caught.value.parameter == "K"


def test_what_this_level_does_not_cover_is_refused() -> None:
    for setting, name in (
        (Setting(D=3, N=5, P=60, K=2, ridge=0.0), "ridge"),
        (Setting(D=3, N=5, P=60, K=2, ridge=0.1, beta=5.0), "beta"),
        (Setting(D=3, N=5, P=60, ridge=0.1), "K"),
    ):
        with pytest.raises(ParameterError) as caught:
            solve(setting, level="given-tasks")
        assert caught.value.parameter == name
    with pytest.raises(ParameterError) as caught:
        solve(SETTING, tasks=np.ones((5, 8)), level="limit")
    assert caught.value.parameter == "tasks"
