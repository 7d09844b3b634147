"""The next order at given tasks: against its definition written out over prompts, fresh tasks, and simulation."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from replica_icl import Setting, simulate, solve
from replica_icl.lowering.model import LINEAR_ATTENTION
from replica_icl.numeric.given_tasks import solve_given_tasks
from replica_icl.numeric.task_fluctuations import Fluctuations, Slopes
from replica_icl.numeric.task_forms import TaskForms
from replica_icl.numeric.task_matrix import draw_task_set, equal_shares
from replica_icl.numeric.task_saddle import Order, TaskNodes, TaskSet

Z_MAX = 4.0
PARTS = ("overlaps_fluctuate", "one_fellow_less", "contexts_scatter", "pairs_meet_twice")
D, K, NODES = 3, 2, 4
SETTING = Setting(D=D, N=4, P=11, K=K, ridge=0.1, noise=0.3)


def example() -> tuple[TaskSet, Order]:
    """Two tasks in three dimensions, four prompts of each, and order parameters that solve nothing."""
    rng = np.random.default_rng(4)
    scalars = (
        rng.uniform(0.5, 1.5, (1, NODES)),
        rng.uniform(0.4, 1.2, (K, NODES)),
        rng.uniform(0.5, 1.5, (K, NODES)),
        rng.uniform(0.5, 1.5, (K, NODES)),
    )
    weights = rng.uniform(1, 2, NODES)
    nodes = TaskNodes(scalars, weights / weights.sum())
    given = TaskSet(SETTING, TaskForms(rng.standard_normal((K, D))), np.array([4, 7]) / 11, nodes, LINEAR_ATTENTION)
    first, second = (np.eye(D + 1) + 0.3 * x @ x.T for x in rng.standard_normal((2, D + 1, D + 1)))
    V, C = 0.1 * first, 0.05 * second
    order: Any = Order(V, C, rng.standard_normal((D + 1, D)), *[None] * 8)  # type: ignore[arg-type]
    return given, order


def written_out(given: TaskSet, V: np.ndarray, G: np.ndarray, M: np.ndarray) -> dict[str, float]:
    """Each part's share that replicas share: its derivative along V -> V + epsilon G, over prompts without modes.

    The task is a row below W, c^ = (c, l, -1 at the task); directions across it go round a circle at D = 3.
    """
    forms, noise = given.forms, given.setting.noise
    size, step = D + 1 + K, 1e-30
    along = np.zeros((size, size))
    answer = M @ forms.scaled.T / D
    along[: D + 1, : D + 1], along[: D + 1, D + 1 :], along[D + 1 :, : D + 1] = G, answer, answer.T
    along[D + 1 :, D + 1 :] = forms.scaled @ forms.scaled.T / D
    S = np.pad(V, ((0, K), (0, K))) + 1j * step * along
    T, p, x, corner = (np.broadcast_to(a, (K, NODES)) for a in given.nodes.scalars)
    angles = np.arange(16) * np.pi / 8  # exact for polynomials of degree 8 in the direction
    prompts = []
    for k, u in enumerate(forms.directions):
        across = np.linalg.svd(u[None, :])[2][1:]
        for n in range(NODES):
            fixed = np.zeros(size)
            fixed[:D], fixed[D], fixed[D + 1 + k] = p[k, n] * u, corner[k, n], -1.0
            turning = np.pad(np.stack([np.cos(angles), np.sin(angles)], axis=1) @ across, ((0, 0), (0, size - D)))
            contexts = fixed + np.sqrt(x[k, n]) * turning
            chi = T[k, n] * D * np.einsum("ai,ij,aj->a", contexts, S, contexts) + 1j * step * noise
            Pi = np.pad(across.T @ across, ((0, size - D), (0, size - D)))
            count = given.setting.P * given.shares[k] * given.nodes.weights[n]
            form = np.outer(fixed, fixed) + x[k, n] / (D - 1) * Pi
            s = 1 / (1 + chi.mean())
            prompts.append(
                (k, count, T[k, n], s, form, fixed, x[k, n] / (D - 1) * Pi, np.mean(chi**2) - chi.mean() ** 2)
            )
    total: dict[str, Any] = {}
    L = np.array([[D * n * T * t * s * r * np.trace(F @ S @ H @ S) for _, n, T, s, F, *_ in prompts]
                  for _, _, t, r, H, *_ in prompts])  # fmt: skip
    total["overlaps_fluctuate"] = -(np.log(np.linalg.det(np.eye(len(L)) - L)) + np.trace(L)) / 4
    total["one_fellow_less"], total["contexts_scatter"], total["pairs_meet_twice"] = 0.0, 0.0, 0.0
    for k in range(K):
        count = given.setting.P * given.shares[k]
        B = sum(n / count * T * s * F for j, n, T, s, F, *_ in prompts if j == k)
        total["one_fellow_less"] -= D / 4 * count * np.trace(B @ S @ B @ S)
    for _, n, T, s, _, fixed, across, variance in prompts:
        total["contexts_scatter"] += n * s**2 * variance / 4
        for _, m, t, r, _, other, beyond, _ in prompts:
            a1 = (fixed @ S @ other) ** 2
            a2, a3, a4 = (
                fixed @ S @ beyond @ S @ fixed,
                other @ S @ across @ S @ other,
                np.trace(across @ S @ beyond @ S),
            )
            b = a2 + a3 + a4
            pairings = 3 * (4 * a1 * b + 2 * b**2) - 4 * a1 * (a2 + a3) - 2 * (a2**2 + a3**2)
            total["pairs_meet_twice"] += n * m * (D * T * t * s**2 * r**2 * T * t * D) * pairings / 8
    return {name: float(np.imag(value) / step) for name, value in total.items()}


def slopes_of(given: TaskSet, order: Order, parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> Slopes:
    """Slopes with these parts only."""
    with monkeypatch.context() as patch:
        for name in set(PARTS) - set(parts):
            patch.setattr(Fluctuations, name, lambda self: None)
        return given.fluctuation_slopes(order)


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_what_it_is_over_prompts(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given, order = example()
    expected = written_out(given, order.V, order.G, order.M)
    found = {name: slopes_of(given, order, (name,), monkeypatch).value for name in PARTS}
    assert min(map(abs, expected.values())) > 1e-3
    assert found[part] == pytest.approx(expected[part], rel=1e-9)


@pytest.mark.parametrize("part", PARTS)
def test_slopes_are_the_gradient(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given, order = example()
    at = slopes_of(given, order, (part,), monkeypatch)
    rng = np.random.default_rng(1)
    for name in "VCM":
        matrix = getattr(order, name)
        direction = rng.standard_normal(matrix.shape)
        direction = 0.05 * (direction if name == "M" else direction + direction.T)
        h = 1e-5

        def moved(step: float, name: str = name, matrix: Any = matrix, direction: Any = direction) -> float:
            return slopes_of(given, replace(order, **{name: matrix + step * direction}), (part,), monkeypatch).value

        slope = {"V": at.by_V, "C": at.by_G, "M": at.by_M + 2 * at.by_G @ order.M / D}[name]
        assert (moved(h) - moved(-h)) / (2 * h) == pytest.approx(np.sum(slope * direction), rel=1e-5, abs=1e-9), name
    # The thermal part is a function of b V alone, and what is shared enters as b G and b rho.
    assert at.by_scale == pytest.approx(at.value + np.sum(at.by_V * order.V), rel=1e-9)


def over_task_sets(setting: Setting, count: int) -> tuple[dict[str, tuple[float, float]], tuple[float, float]]:
    """With the next order m, e_icl and the training error, and m without: means and standard errors over task sets."""
    shares = equal_shares(setting.P, setting.K or 1)
    sets = [draw_task_set(setting, 7, index)[0] for index in range(count)]
    solved = [solve_given_tasks(setting, tasks, shares, 1e-2) for tasks in sets]

    def mean(values: list[float]) -> tuple[float, float]:
        return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(count))

    names = ("m", "e_icl", "train_error")
    return {name: mean([x.with_next_order()[name] for x in solved]) for name in names}, mean([x.m for x in solved])


@pytest.mark.parametrize("noise", [0.1, 0.9])
def test_as_many_tasks_as_prompts_are_fresh_tasks(noise: float) -> None:
    """K = P, each task used once: the ensemble is that of fresh tasks. Without the next order m is too small.

    What the two next orders leave out is of relative order 1/D^2 times the first correction, 4 % of 4 % at D = 6 and a
    few times that: 0.5 % of the values are granted beside four standard errors over task sets.
    """
    fresh = Setting(D=6, N=12, P=36, ridge=0.1 / 6, noise=noise)
    expected = solve(fresh, tolerance=1e-4)
    found, (saddle, error) = over_task_sets(replace(fresh, K=36), 12)
    for name, (mean, sem) in found.items():
        assert abs(mean - expected[name]) < Z_MAX * sem + 0.005 * expected[name], name
    assert expected.saddle["m"] - saddle > Z_MAX * error


@pytest.mark.long
def test_the_levels_differ_by_the_square_of_the_inverse_dimension() -> None:
    """D = 8 and 16 at fixed ratios: with the next order m, e_icl and the training error are those of fresh tasks."""
    for size, count in ((8, 60), (16, 12)):
        fresh = Setting(D=size, N=2 * size, P=size**2, ridge=0.1 / size, noise=0.1)
        expected = solve(fresh, tolerance=1e-4)
        for name, (mean, sem) in over_task_sets(replace(fresh, K=size**2), count)[0].items():
            print(f"D = {size}, {name}: {mean / expected[name] - 1:+.2%} +- {sem / expected[name]:.2%}")
            assert abs(mean - expected[name]) < Z_MAX * sem + 0.3 / size**2 * expected[name], name


def paired(setting: Setting, sets: int, realisations: int) -> dict[str, tuple[float, float, float]]:
    """Per observable simulation - saddle, what the next order adds, and the standard error, relative to the saddle."""
    rows: dict[str, list[tuple[float, ...]]] = {}
    for index in range(sets):
        tasks, _ = draw_task_set(setting, 3, index)
        shares = equal_shares(setting.P, len(tasks))
        found = solve_given_tasks(setting, tasks, shares, 1e-3)
        measured = simulate(setting, realisations, index, tasks=tasks, usage="equal", prompts="sufficient", workers=1)
        for name in ("e_icl", "e_idg", "train_error", "m", "q"):
            estimate = measured[name]
            row = found.values[name], estimate.mean - found.values[name], found.next_order[name], estimate.sem
            rows.setdefault(name, []).append(row)
    results = {}
    for name, each in rows.items():
        values, differences, added, sems = np.array(each).T
        sem = np.sqrt(np.sum(sems**2)) / sets
        results[name] = differences.mean() / values.mean(), added.mean() / values.mean(), sem / values.mean()
    return results


def test_the_next_order_is_seen_where_the_saddle_point_alone_is_not_enough() -> None:
    """D = 10, K = 5: the training error is 4 % above the saddle point, m is not; 0.1/D is granted."""
    found = paired(Setting(D=10, N=20, P=100, K=5, ridge=0.01, noise=0.1), 4, 250)
    deviation, added, sem = found["train_error"]
    assert deviation > Z_MAX * sem
    assert added > 0.02
    for name, (deviation, added, sem) in found.items():
        assert abs(deviation - added) < Z_MAX * sem + 0.1 / 10, name


@pytest.mark.long
@pytest.mark.parametrize("K", [1, 2, 6, 20, 100])
def test_the_next_order_accounts_for_simulation_from_one_task_to_one_per_prompt(K: int) -> None:
    found = paired(Setting(D=10, N=20, P=100, K=K, ridge=0.01, noise=0.1), 10, 800)
    for name, (deviation, added, sem) in found.items():
        print(f"K = {K}, {name}: {deviation:+.2%} +- {sem:.2%} from the saddle point, next order {added:+.2%}")
        assert abs(deviation - added) < Z_MAX * sem + 0.1 / 10, name
