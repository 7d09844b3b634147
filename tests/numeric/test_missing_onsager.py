"""Message passing without the Onsager reaction: its theory against prompts, couplings and an iteration made here.

Nothing of the simulator is used. Prompts are drawn token by token, J, h and lambda are built from their features, and
the published iteration (Li et al., arXiv:2408.02288) runs on them.
"""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from replica_icl.errors import SolveError
from replica_icl.lowering.model import LINEAR_ATTENTION
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.finite_size import solve_finite_size
from replica_icl.numeric.missing_onsager import effective_ridges, solve_without_reaction
from replica_icl.setting import Setting

BLOCKS = LINEAR_ATTENTION.missing_onsager.BLOCKS
Z_MAX = 4.0
BIAS = 0.1
"""Relative allowance times 1/D, the one that the finite-size theory is granted everywhere."""


@dataclass(frozen=True)
class Instance:
    """Spin glasses of a setting: h (n,), J (n, n) without its diagonal and lambda (n,), each behind (count,)."""

    h: np.ndarray
    J: np.ndarray
    lam: np.ndarray


def instances(setting: Setting, count: int, seed: int) -> Instance:
    """n = (D + 1) D spins, row-major in (context side, query side); the last D are the last row."""
    D, N, P = setting.D, setting.N, setting.P
    rng = np.random.default_rng(seed)
    w, query = rng.standard_normal((2, count, P, D))
    tokens = rng.standard_normal((count, P, N, D))
    labels = np.einsum("kpnd,kpd->kpn", tokens, w) / math.sqrt(D)
    labels += math.sqrt(setting.noise) * rng.standard_normal((count, P, N))
    target = np.sum(w * query, axis=2) / math.sqrt(D) + math.sqrt(setting.noise) * rng.standard_normal((count, P))
    context = np.concatenate([np.einsum("kpn,kpnd->kpd", labels, tokens), np.sum(labels**2, 2, keepdims=True)], 2) / N
    features = (context[..., None] * query[..., None, :]).reshape(count, P, -1)
    gram = np.einsum("kpi,kpj->kij", features, features, optimize=True) / P
    diagonal = np.einsum("kii->ki", gram).copy()
    J = -gram
    J[:, np.arange(J.shape[1]), np.arange(J.shape[1])] = 0
    return Instance(np.einsum("kp,kpi->ki", target, features) / P, J, setting.ridge + diagonal)


def block_means(values: np.ndarray, D: int) -> np.ndarray:
    """Means over the D^2 token weights and over the D of the last row, shape (count, 2)."""
    return np.stack([values[:, : D * D].mean(axis=1), values[:, D * D :].mean(axis=1)], axis=1)


def icl_error(sigma: np.ndarray, setting: Setting) -> float:
    """1 + rho - 2 tr(W_DD)/D + tr(W W^T E c~ c~^T), with the moments of a Gaussian prompt typed in."""
    D, N, rho = setting.D, setting.N, setting.noise
    W = sigma.reshape(D + 1, D)
    squares = np.sum(W[:D] ** 2) * (1 + (D + 1) / N + rho * D / N) / D
    squares += np.sum(W[D] ** 2) * (1 + 2 / N) * ((1 + 2 / D) + 2 * rho + rho**2)
    return float(1 + rho - 2 * np.trace(W[:D]) / D + squares)


def reaction_free_variances(J: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """V_i / beta at the fixed point of V_i = beta^2 sum_j J_ij^2 v_j, v_j = 1 / (beta lambda_j - V_j)."""
    fields = np.zeros_like(lam)
    for _ in range(2000):
        following = np.einsum("kij,kj->ki", J**2, 1 / (lam - fields))
        if np.abs(following - fields).max() < 1e-13 * np.abs(following).max():
            return following
        fields = following
    raise AssertionError("no fixed point")


def test_moments_of_couplings_are_those_of_sampled_instances() -> None:
    """Mean lambda_i - lambda_0 and sum over j != i of J_ij^2 by block, 40 000 instances."""
    setting = Setting(D=3, N=5, P=6, ridge=0.1, noise=0.25)
    D = setting.D
    columns: dict[str, list[np.ndarray]] = {}
    for seed in range(4):
        glass = instances(setting, 10_000, seed)
        squares = glass.J**2
        for block, values in zip(BLOCKS, block_means(glass.lam, D).T, strict=True):
            columns.setdefault(block, []).append(values - setting.ridge)
        for partner, part in zip(BLOCKS, (squares[..., : D * D], squares[..., D * D :]), strict=True):
            for block, values in zip(BLOCKS, block_means(part.sum(axis=2), D).T, strict=True):
                columns.setdefault(f"{block}_{partner}", []).append(values)
    functions = LINEAR_ATTENTION.missing_onsager
    moments = functions.coupling_moments(NUMPY, D=float(D), N=float(setting.N), P=float(setting.P), rho=setting.noise)
    exact = dict(zip(BLOCKS, moments.precisions, strict=True))
    for block, row in zip(BLOCKS, moments.squares, strict=True):
        exact |= {f"{block}_{partner}": value for partner, value in zip(BLOCKS, row, strict=True)}
    assert set(columns) == set(exact)
    for name, parts in columns.items():
        values = np.concatenate(parts)
        sem = values.std(ddof=1) / math.sqrt(values.size)
        assert sem < 0.1 * values.mean(), name
        assert abs(values.mean() - exact[name]) < Z_MAX * sem, name


def test_the_published_iteration_ends_at_the_ground_state_of_reduced_ridges() -> None:
    """The damped iteration itself on one instance, beside one linear solve with lambda_i - V_i / beta."""
    setting, beta = Setting(D=6, N=12, P=600, ridge=0.5), 500.0
    glass = instances(setting, 1, seed=1)
    h, J, lam = glass.h[0], glass.J[0], glass.lam[0]
    m, v = np.zeros_like(h), 1 / (beta * lam)
    for _ in range(3000):
        M, V = beta * J @ m, beta**2 * J**2 @ v
        m = 0.7 * m + 0.3 * (beta * h + M) / (beta * lam - V)
        v = 0.7 * v + 0.3 / (beta * lam - V)
    fields = reaction_free_variances(glass.J, glass.lam)[0]
    np.testing.assert_allclose(V / beta, fields, rtol=1e-10)
    np.testing.assert_allclose(m, np.linalg.solve(np.diag(lam - fields) - J, h), rtol=1e-8, atol=1e-12)
    ground = np.linalg.solve(np.diag(lam) - J, h)
    assert np.linalg.norm(m - ground) > 1e-3 * np.linalg.norm(ground)  # it is not the ground state


@pytest.mark.parametrize(
    "setting",
    [Setting(D=10, N=20, P=600, ridge=0.5), Setting(D=10, N=15, P=800, ridge=1.0, noise=0.25)],
    ids=["noiseless", "label noise"],
)
def test_theory_agrees_with_the_fixed_points_of_many_instances(setting: Setting) -> None:
    """200 instances, at ridges where each has a fixed point; its shift from the ground state is as predicted, too."""
    theory, ground = solve_without_reaction([setting]), solve_finite_size([setting]).point(0)
    found: dict[str, list[tuple[float, float]]] = {"e_icl": [], "m": [], "q": []}
    for seed in range(20):
        glass = instances(setting, 10, seed)
        reduced = glass.lam - reaction_free_variances(glass.J, glass.lam)
        assert (reduced > 0).all()
        for k, h in enumerate(glass.h):
            fixed, exact = (np.linalg.solve(np.diag(lam[k]) - glass.J[k], h) for lam in (reduced, glass.lam))
            tokens = [sigma.reshape(setting.D + 1, setting.D)[: setting.D] for sigma in (fixed, exact)]
            found["e_icl"].append((icl_error(fixed, setting), icl_error(exact, setting)))
            found["m"].append((float(np.trace(tokens[0])) / setting.D, float(np.trace(tokens[1])) / setting.D))
            found["q"].append((float(np.sum(tokens[0] ** 2)) / setting.D, float(np.sum(tokens[1] ** 2)) / setting.D))
    for name, pairs in found.items():
        values, shifts = np.array(pairs)[:, 0], -np.diff(np.array(pairs), axis=1)[:, 0]
        sem, shift_sem = (x.std(ddof=1) / math.sqrt(x.size) for x in (values, shifts))
        predicted = getattr(theory, name)[0]
        shift = predicted - getattr(ground, name)
        assert abs(predicted - values.mean()) < Z_MAX * sem + BIAS / setting.D * abs(predicted), name
        assert abs(shifts.mean()) > Z_MAX * shift_sem, name
        # V_i / beta comes from one typical lambda_j, whose relative variance is of order 10/P: 2 %.
        assert abs(shift - shifts.mean()) < Z_MAX * shift_sem + 0.1 * abs(shift), name


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_large_ridge_is_reduced_by_the_sum_of_squared_couplings_over_it(noise: float) -> None:
    """V_i / beta = sum_j J_ij^2 / lambda_j + O(1/lambda^2), lambda_j = lambda_0 + O(1); the sum is measured."""
    setting = Setting(D=8, N=20, P=30, ridge=1e4, noise=noise)
    squares = np.concatenate([block_means(np.sum(instances(setting, 400, s).J ** 2, axis=2), 8) for s in range(5)])
    sem = squares.std(axis=0, ddof=1) / math.sqrt(len(squares))
    reduction = (setting.ridge - np.array(effective_ridges(setting))) * setting.ridge
    assert (np.abs(reduction - squares.mean(axis=0)) < Z_MAX * sem + 0.01 * squares.mean(axis=0)).all()
    theory, ground = solve_without_reaction([setting]), solve_finite_size([setting]).point(0)
    for name in ("e_icl", "m", "q", "train_error"):
        assert getattr(theory, name)[0] == pytest.approx(getattr(ground, name), rel=1e-6), name


def test_with_many_prompts_the_reaction_is_small_and_falls_like_one_over_their_number() -> None:
    reductions = [
        setting.ridge - effective_ridges(setting)[0]
        for setting in (Setting(D=10, N=20, P=P, ridge=0.5) for P in (10**5, 10**6, 10**7))
    ]
    assert reductions[1] / reductions[0] == pytest.approx(0.1, rel=1e-2)
    assert reductions[2] / reductions[1] == pytest.approx(0.1, rel=1e-3)


def test_few_prompts_at_a_small_ridge_have_no_fixed_point_and_the_iteration_diverges() -> None:
    setting = Setting(D=6, N=12, P=20, ridge=0.01)
    with pytest.raises(SolveError, match="has no fixed point"):
        effective_ridges(setting)
    with pytest.raises(SolveError, match="has no fixed point"):
        solve_without_reaction([setting])
    glass = instances(setting, 1, seed=2)
    fields = np.zeros_like(glass.lam[0])
    for _ in range(200):
        fields = glass.J[0] ** 2 @ (1 / (glass.lam[0] - fields))
        if (fields >= glass.lam[0]).any():
            break
    assert (fields >= glass.lam[0]).any()
