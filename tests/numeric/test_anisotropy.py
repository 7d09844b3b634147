"""The spread of c~^T V c~ at given tasks: errors as derivatives, size of the correction, and what it buys."""

import math
from dataclasses import fields

import numpy as np
import pytest

from replica_icl import Setting, simulate
from replica_icl.numeric.anisotropy import SourcedTaskSet, errors_with_spread
from replica_icl.numeric.given_tasks import draw_task_set, equal_shares, solve_given_tasks, task_set

Z_MAX = 4.0


def few_tasks(D: int) -> Setting:
    """K < D and few prompts, where V is anisotropic and the spread is largest."""
    return Setting(D=D, N=2 * D, P=D * D // 2, K=3 * D // 10, ridge=0.05 / D, noise=0.01)


def test_error_is_the_derivative_of_the_free_energy_by_its_source() -> None:
    """-(2/P) d log Z / dh = e_icl - 1 - rho + D tr(A V): the test error and its thermal part."""
    setting = few_tasks(10)
    tasks, D, P, rho = draw_task_set(setting, 0)[0], setting.D, setting.P, setting.noise
    plain = task_set(setting, tasks, None, 1e-4)
    G = np.full(D + 1, (1 + (D + 1) / setting.N + rho * D / setting.N) / D)
    G[D] = (1 + 2 / setting.N) * (1 + 2 / D + 2 * rho + rho**2)
    A, B = np.diag(G), np.eye(D + 1, D) / D
    own = {field.name: getattr(plain, field.name) for field in fields(plain)}

    def log_Z(h: float) -> float:
        sourced = SourcedTaskSet(**own, A=h * A, B=h * B)
        V, C, M = sourced.saddle(0.2)
        source = D * np.trace(A @ (V + C)) + np.sum(M * (A @ M)) - 2 * np.sum(M * B)
        return sourced.free_entropy(V, C, M) - P * h / 2 * source

    h = 2e-6
    V, _, _ = SourcedTaskSet(**own, A=0 * A, B=0 * B).saddle(0.2)
    found = 1 + rho - (log_Z(h) - log_Z(-h)) / (h * P) - D * np.trace(A @ V)
    assert found == pytest.approx(solve_given_tasks(setting, tasks, tolerance=1e-4).e_icl, rel=1e-5)


def test_correction_is_small_and_falls_with_the_dimension() -> None:
    sizes = {}
    for D in (10, 30):
        setting = few_tasks(D)
        changes = []
        for index in range(4):
            tasks, _ = draw_task_set(setting, 1, index, sphere=True)
            plain = solve_given_tasks(setting, tasks, tolerance=1e-3)
            changes.append(errors_with_spread(setting, tasks, tolerance=1e-3)["e_idg"] / plain.e_idg - 1)
        sizes[D] = abs(float(np.mean(changes)))
    assert sizes[30] < sizes[10] < 0.05


@pytest.mark.long
def test_the_spread_removes_the_bias_of_few_tasks_and_prompts() -> None:
    """D = 20, K = 6, P = 200: the bias of e_idg is seen without the spread, and is gone within 0.1/D with it."""
    setting = few_tasks(20)
    differences: dict[str, list[np.ndarray]] = {"plain": [], "with spread": []}
    level = []
    for index in range(8):
        tasks, _ = draw_task_set(setting, 3, index)
        shares = equal_shares(setting.P, len(tasks))
        plain = solve_given_tasks(setting, tasks, shares, 1e-4).e_idg
        corrected = errors_with_spread(setting, tasks, shares, 1e-4)["e_idg"]
        found = simulate(setting, 800, 5, tasks=tasks, usage="equal", prompts="sufficient").values["e_idg"]
        differences["plain"].append(found - plain)
        differences["with spread"].append(found - corrected)
        level.append(plain)
    bias = {name: float(np.mean(x) / np.mean(level)) for name, x in differences.items()}
    sem = float(np.std(differences["plain"], ddof=1) / math.sqrt(6400) / np.mean(level))
    print(f"bias of e_idg: {bias['plain']:+.2%} without and {bias['with spread']:+.2%} with the spread, +- {sem:.2%}")
    assert abs(bias["plain"]) > Z_MAX * sem
    assert abs(bias["with spread"]) < Z_MAX * sem + 0.1 / setting.D
