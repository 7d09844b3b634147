"""Exact moments against the prompt law's chi-squares, against each other, and against token-level simulation.

The simulation is written out here, from tokens to h and J, and shares nothing with the package.
"""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import sympy as sp

from replica_icl.symbolic import moments
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.moments import CORNER, Block, context_moment, feature_moment, field_moment

D, N, P, rho, nu = s.D, s.N, s.P, s.noise, s.nu
Z_MAX = 4.0


def vanishes(expression: sp.Expr) -> bool:
    return sp.simplify(expression) == 0


# Means known in closed form


def test_mean_squared_context_norm() -> None:
    assert vanishes(context_moment(norm=1) - (1 + (D + 1) / N + rho * D / N))


def test_context_is_correlated_with_the_task_component_by_component() -> None:
    """E[c w^T] / sqrt(D) = I / D: its trace, and as the mean field on the diagonal and off it."""
    assert context_moment(aligned=1) == 1
    assert vanishes(field_moment((1, 1)) - 1 / D)
    assert field_moment((1, 2)) == 0


def test_feature_matrix_has_the_mean_of_theory() -> None:
    """G = E c~ c~^T is diagonal, with E|c|^2 / D on the D block and E l^2 in the corner."""
    corner = (1 + 2 / N) * ((1 + 2 / D) + 2 * rho + rho**2)
    assert vanishes(feature_moment((1, 1), (1, 1)) - context_moment(norm=1) / D)
    assert vanishes(feature_moment((CORNER, 1), (CORNER, 1)) - corner)
    assert vanishes(context_moment(corner=2) - corner)
    assert feature_moment((1, 1), (2, 1)) == 0
    assert feature_moment((1, 1), (CORNER, 1)) == 0


def chi_square(degrees: sp.Expr, power: int) -> sp.Expr:
    return math.prod((degrees + 2 * r for r in range(power)), start=sp.S.One)


@pytest.mark.parametrize("powers", [p for p in product(range(4), repeat=3) if sum(p) <= 3] + [(0, 0, 4)])
def test_noiseless_moments_are_those_of_the_chi_square_prompt_law(powers: tuple[int, int, int]) -> None:
    """c.w/sqrt(D) = l = omega A and |c|^2 = omega A^2 + omega A (D - 1) g / N; omega, A, g chi-squares."""
    omega, A, g = sp.symbols("omega A g")
    aligned, norm, corner = omega * A, omega * A**2 + omega * A * (D - 1) * g / N, omega * A
    polynomial = sp.Poly(aligned ** powers[0] * norm ** powers[1] * corner ** powers[2], omega, A, g)
    law = sum(
        coefficient * (chi_square(D, a) / D**a) * (chi_square(N, b) / N**b) * (chi_square(D - 1, c) / (D - 1) ** c)
        for (a, b, c), coefficient in polynomial.terms()
    )
    assert vanishes(context_moment(*powers).subs(rho, 0) - law)


# Consistency


def test_squared_norm_is_the_sum_of_its_components() -> None:
    """E|c|^4 = D E c_1^4 + D (D - 1) E c_1^2 c_2^2, components read off the couplings' moments."""
    fourth = feature_moment((1, 1), (1, 2), 2)
    mixed = feature_moment((1, 1), (2, 2), 2)
    assert vanishes(context_moment(norm=2) - D * fourth - D * (D - 1) * mixed)


def test_context_is_isotropic() -> None:
    """E c_1^4 = 3 E c_1^2 c_2^2."""
    assert vanishes(feature_moment((1, 1), (1, 2), 2) - 3 * feature_moment((1, 1), (2, 2), 2))


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize(
    "pairs",
    [
        [((1, 2), (1, 3)), ((1, 1), (1, 2)), ((3, 4), (3, 3))],
        [((1, 3), (2, 3)), ((1, 1), (2, 1))],
        [((1, 2), (3, 4)), ((1, 1), (2, 2)), ((1, 2), (2, 1)), ((1, 2), (2, 3)), ((1, 2), (3, 1))],
        [((1, 2), (CORNER, 2)), ((1, 1), (CORNER, 1)), ((CORNER, 1), (3, 1))],
        [((1, 2), (CORNER, 3)), ((1, 1), (CORNER, 2)), ((1, 2), (CORNER, 1))],
        [((CORNER, 1), (CORNER, 2)), ((CORNER, 4), (CORNER, 3))],
    ],
)
def test_couplings_see_coincidences_of_context_and_of_query_only(pairs: list, power: int) -> None:
    assert len({feature_moment(*pair, power) for pair in pairs}) == 1


def test_fields_see_only_whether_the_weight_is_diagonal() -> None:
    assert field_moment((1, 1), 2) == field_moment((4, 4), 2)
    assert field_moment((1, 2), 2) == field_moment((2, 1), 2) == field_moment((3, 5), 2)
    assert field_moment((1, 1), 2) != field_moment((1, 2), 2)


def test_couplings_have_no_mean_and_the_field_has_one_on_the_diagonal_only() -> None:
    assert {block.mean for block in moments.coupling_blocks()} == {0}
    assert [block.name for block in moments.field_blocks() if block.mean != 0] == ["diagonal"]


def test_scalar_covariance_is_positive_semidefinite() -> None:
    covariance = moments.scalar_covariances()
    at = {D: 5, N: 7, rho: sp.Rational(1, 4)}
    upper = {pair: float(value.subs(at)) for pair, value in covariance.items()}
    matrix = np.array([[upper.get((a, b), upper.get((b, a))) for b in s.SCALARS] for a in s.SCALARS], dtype=float)
    assert np.linalg.eigvalsh(matrix).min() > 0


def test_norms_of_query_and_task_are_chi_square() -> None:
    means = moments.scalar_means()
    assert means[s.query_norm] == means[s.task_norm] == 1
    assert vanishes(moments.scalar_covariance(s.query_norm, s.query_norm) - 2 / D)
    assert vanishes(moments.scalar_covariance(s.task_norm, s.task_norm) - 2 / D)
    assert moments.scalar_covariance(s.query_norm, s.context_norm) == 0


def test_unknown_scalar_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="beta is no scalar of a prompt"):
        moments.scalar_moment(s.beta)


def test_negative_power_is_refused() -> None:
    with pytest.raises(ValueError, match="powers must be at least 0"):
        context_moment(corner=-1)


# The thermodynamic limit


def test_concentrated_means_are_the_limit_of_theory() -> None:
    limit = moments.concentrated_means()
    expected = {
        s.aligned: 1,
        s.context_norm: 1 + (1 + rho) / nu,
        s.corner: 1 + rho,
        s.task_norm: 1,
        s.query_norm: 1,
    }
    assert set(limit) == set(expected)
    assert all(vanishes(limit[which] - value) for which, value in expected.items())


@pytest.mark.parametrize("which", s.SCALARS, ids=str)
def test_relative_variances_decay_like_inverse_dimension(which: sp.Symbol) -> None:
    variance = moments.relative_variances()[which]
    assert sp.limit(variance, D, sp.oo) == 0
    assert sp.limit(D * variance, D, sp.oo).is_positive


# Token-level simulation


def hamiltonians(
    rng: np.random.Generator, draws: int, sizes: tuple[int, int, int], noise: float
) -> tuple[np.ndarray, np.ndarray]:
    """h, shape (draws, D + 1, D), and the feature matrix S, shape (draws, D + 1, D, D + 1, D).

    Off its diagonal S is -J, on its diagonal lambda - lambda_0.
    """
    dim, length, prompts = sizes
    task = rng.standard_normal((draws, prompts, dim))
    tokens = rng.standard_normal((draws, prompts, length, dim))
    labels = np.einsum("rpia,rpa->rpi", tokens, task) / np.sqrt(dim)
    labels += np.sqrt(noise) * rng.standard_normal(labels.shape)
    query = rng.standard_normal((draws, prompts, dim))
    target = np.einsum("rpa,rpa->rp", query, task) / np.sqrt(dim)
    target += np.sqrt(noise) * rng.standard_normal(target.shape)
    c = np.einsum("rpi,rpia->rpa", labels, tokens) / length
    corner = np.sum(labels**2, axis=2, keepdims=True) / length
    features = np.concatenate([c, corner], axis=2)[:, :, :, None] * query[:, :, None, :]
    field = np.einsum("rp,rpij->rij", target, features) / prompts
    flat = features.reshape(draws, prompts, -1)
    second = np.matmul(flat.transpose(0, 2, 1), flat) / prompts
    return field, second.reshape(draws, dim + 1, dim, dim + 1, dim)


def field_masks(dim: int) -> dict[str, np.ndarray]:
    i, j = np.indices((dim + 1, dim))
    return {"diagonal": i == j, "off-diagonal": (i != j) & (i < dim), "last row": i == dim}


def coupling_masks(dim: int) -> dict[str, np.ndarray]:
    i, j, k, n = np.indices((dim + 1, dim, dim + 1, dim))
    last = (i == dim).astype(int) + (k == dim)
    context = {
        "same context": (last == 0) & (i == k),
        "different context": (last == 0) & (i != k),
        "context and corner": last == 1,
        "corner": last == 2,
    }
    query = {"same query": j == n, "different query": j != n}
    own = (i == k) & (j == n)
    return {f"{a}, {b}": context[a] & query[b] & ~own for a in context for b in query}


def precision_masks(dim: int) -> dict[str, np.ndarray]:
    i, j, k, n = np.indices((dim + 1, dim, dim + 1, dim))
    own = (i == k) & (j == n)
    return {"D block": own & (i < dim), "last row": own & (i == dim)}


Masks = Callable[[int], dict[str, np.ndarray]]


@pytest.mark.parametrize(
    ("blocks", "masks", "sign", "part"),
    [
        (moments.field_blocks, field_masks, 1, 0),
        (moments.coupling_blocks, coupling_masks, -1, 1),
        (moments.precision_blocks, precision_masks, 1, 1),
    ],
    ids=["fields", "couplings", "precisions"],
)
@pytest.mark.parametrize(("sizes", "noise"), [((8, 12, 3), 0.0), ((7, 10, 2), 0.25)])
def test_every_block_agrees_with_token_level_simulation(
    sizes: tuple[int, int, int],
    noise: float,
    blocks: Callable[[], tuple[Block, ...]],
    masks: Masks,
    sign: int,
    part: int,
) -> None:
    """Mean and variance per entry, averaged over the block, within Z_MAX standard errors.

    Standard errors are from batches. The variance of a corner coupling is an average of l^4, whose own
    relative variance is in the hundreds at D = 3, N = 5: too few large prompts are drawn for the batches to
    know their spread. At the sizes used it is below 100, and the finite-size terms are still large.
    """
    batches, draws = 100, 200
    rng = np.random.default_rng(np.random.SeedSequence([2024, *sizes]))
    chosen = {name: mask for name, mask in masks(sizes[0]).items() if mask.any()}
    assert set(chosen) == {block.name for block in blocks()}
    means: dict[str, list[float]] = {name: [] for name in chosen}
    variances: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(batches):
        entries = hamiltonians(rng, draws, sizes, noise)[part] * sign
        for name, mask in chosen.items():
            means[name].append(entries[:, mask].mean())
            variances[name].append(entries[:, mask].var(axis=0, ddof=1).mean())

    at = dict(zip((D, N, P, rho), (*sizes, sp.Rational(noise)), strict=True))
    for block in blocks():
        for simulated, exact in ((means, block.mean), (variances, block.variance)):
            sample = np.array(simulated[block.name])
            sem = sample.std(ddof=1) / np.sqrt(batches)
            assert abs(sample.mean() - float(exact.subs(at))) < Z_MAX * sem, f"{block.name}: {exact}"


def test_blocks_cover_every_acting_weight_and_every_pair_once() -> None:
    dim = 3
    assert np.all(sum(mask.astype(int) for mask in field_masks(dim).values()) == 1)
    pairs = [*coupling_masks(dim).values(), *precision_masks(dim).values()]
    assert np.all(sum(mask.astype(int) for mask in pairs) == 1)
