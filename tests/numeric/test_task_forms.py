"""Linear algebra of a task set, against the forms written out as matrices."""

import numpy as np
import pytest

from replica_icl.numeric.task_forms import LOCAL, TaskForms
from replica_icl.numeric.task_scatter import Across, Scatter

K, D = 3, 4
RNG = np.random.default_rng(0)
FORMS = TaskForms(RNG.standard_normal((K, D)))


def modes() -> np.ndarray:
    """F_i, (2 K + 2, D + 1, D + 1)."""
    u = np.pad(FORMS.directions, ((0, 0), (0, 1)))
    e = np.eye(D + 1)[-1]
    tokens = np.diag(np.r_[np.ones(D), 0.0])
    crosses = [np.outer(x, e) + np.outer(e, x) for x in u]
    return np.array([*(np.outer(x, x) for x in u), *crosses, tokens, np.outer(e, e)])


def symmetric() -> np.ndarray:
    X = RNG.standard_normal((D + 1, D + 1))
    return X + X.T


def test_modes_are_combined_and_traced() -> None:
    F, G, y = modes(), symmetric(), RNG.standard_normal(2 * K + 2)
    np.testing.assert_allclose(FORMS.combine(y), np.einsum("i,iab->ab", y, F))
    np.testing.assert_allclose(FORMS.traces(G), np.einsum("iab,ab->i", F, G))


def test_parts_of_a_task_are_its_modes_without_the_directions_across() -> None:
    F, G = modes(), symmetric()
    across = F[2 * K] - F[:K]
    seen = FORMS.seen(FORMS.traces(G))
    np.testing.assert_allclose(np.ravel(seen[1]), np.einsum("kab,ab->k", across, G))
    parts, shares = RNG.standard_normal((4, K)), np.array([0.2, 0.5, 0.3])
    F_parts = F[:K], across, np.broadcast_to(F[-1], across.shape), F[K : 2 * K]
    expected = sum(np.einsum("k,kab->ab", shares * x, Fk) for x, Fk in zip(parts, F_parts, strict=True))
    np.testing.assert_allclose(FORMS.combine(FORMS.gathered(parts, shares)), expected)


def test_gram_matrices_are_traces_of_products_and_slopes_their_gradients() -> None:
    F, X, Y, W = modes(), symmetric(), symmetric(), RNG.standard_normal((2 * K + 2, 2 * K + 2))
    W = W + W.T
    products = np.einsum("iab,bc,jcd,da->ij", F, X, F, Y)
    np.testing.assert_allclose(FORMS.gram(X, Y), (products + products.T) / 2)
    np.testing.assert_allclose(FORMS.gram_slope(W, Y), np.einsum("ij,jab,bc,icd->ad", W, F, Y, F))


def test_modes_between_rows() -> None:
    F, left, right = modes(), RNG.standard_normal((5, D + 1)), RNG.standard_normal((5, D + 1))
    W = RNG.standard_normal((2 * K + 2, 5))
    np.testing.assert_allclose(FORMS.between(left, right), np.einsum("za,iab,zb->iz", left, F, right))
    np.testing.assert_allclose(FORMS.applied(W, right), np.einsum("iz,iab,zb->za", W, F, right))


def test_blocks_of_tasks_act_as_the_matrix_that_they_make() -> None:
    size = 4 * K + 2
    local, dense = RNG.standard_normal((K, 6, 6)), RNG.standard_normal((size, size))
    matrix = FORMS.placed(local, FORMS.every, FORMS.every, (size, size))
    np.testing.assert_allclose(FORMS.times(local, dense), matrix @ dense)
    product = dense @ matrix
    blocks = product[FORMS.every[:, :, None], FORMS.every[:, None, :]]
    np.testing.assert_allclose(FORMS.blocks(dense, matrix), blocks)
    parts = RNG.standard_normal((K, 4, 4))
    embedded = FORMS.placed(LOCAL @ parts @ LOCAL.T, FORMS.places, FORMS.places, (2 * K + 2, 2 * K + 2))
    np.testing.assert_allclose(FORMS.embedded(parts), embedded)


def test_scatter_is_that_of_projected_matrices_and_its_slopes_are_gradients() -> None:
    X, Y, M = symmetric(), symmetric(), RNG.standard_normal((D + 1, D))
    weights, pulls = RNG.standard_normal((K, 4)), RNG.standard_normal((K, 2))
    e = np.eye(D + 1)[-1]
    found = Across(FORMS, X).parts(Across(FORMS, Y))
    scatter = Scatter(FORMS, X, Y, M)
    np.testing.assert_allclose(scatter.shared, 2 * found)
    for k, u in enumerate(np.pad(FORMS.directions, ((0, 0), (0, 1)))):
        Pi = np.diag(np.r_[np.ones(D), 0.0]) - np.outer(u, u)
        inner = np.trace(Pi @ X @ Pi @ Y) - np.trace(Pi @ X) * np.trace(Pi @ Y) / (D - 1)
        cross = (u @ X @ Pi @ Y @ e + e @ X @ Pi @ Y @ u) / 2
        assert found[k] == pytest.approx([u @ X @ Pi @ Y @ u, inner, e @ X @ Pi @ Y @ e, cross])
        answer = M @ FORMS.scaled[k]
        assert scatter.pulls[k] == pytest.approx([u @ X @ Pi @ answer, e @ X @ Pi @ answer])
    direction, step = symmetric(), 1e-6
    slope = Across(FORMS, X).slope(weights)
    assert np.sum(weights * Across(FORMS, X).parts(Across(FORMS, direction))) == pytest.approx(
        np.sum(slope * direction)
    )
    ahead, behind = (Scatter(FORMS, X + h * direction, Y, M).pulls for h in (step, -step))
    numeric = np.sum(pulls * (ahead - behind)) / (2 * step)
    assert numeric == pytest.approx(np.sum(scatter.pull_slope_V(pulls) * direction), rel=1e-6)
    moved = RNG.standard_normal(M.shape)
    numeric = np.sum(pulls * (Scatter(FORMS, X, Y, M + moved).pulls - scatter.pulls))
    assert numeric == pytest.approx(np.sum(scatter.pull_slope_M(pulls) * moved))
