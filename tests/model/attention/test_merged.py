"""The forward pass in symbols, its Hamiltonian, and the covariance of residuals."""

import numpy as np
import pytest
import sympy as sp

from replica_icl.model.attention.merged import (
    Hamiltonian,
    SymbolicPrompt,
    loss,
    prediction,
    residual_covariance,
    weight_matrix,
)
from replica_icl.symbolic import symbols as s


@pytest.fixture(scope="module", params=[(1, 2, 1), (2, 1, 2)], ids=str)
def glass(request: pytest.FixtureRequest) -> tuple[sp.Expr, Hamiltonian]:
    D, N, P = request.param
    W = weight_matrix(D)
    energy = loss([SymbolicPrompt.numbered(D, N, mu) for mu in range(P)], W)
    return energy, Hamiltonian.of(energy, W)


def test_hamiltonian_is_the_loss(glass: tuple[sp.Expr, Hamiltonian]) -> None:
    energy, hamiltonian = glass
    assert sp.expand(energy - hamiltonian.energy) == 0


def test_diagonal_is_in_the_precisions_and_nowhere_else(glass: tuple[sp.Expr, Hamiltonian]) -> None:
    _, hamiltonian = glass
    count = len(hamiltonian.spins)
    assert all(hamiltonian.couplings[i, i] == 0 for i in range(count))
    assert hamiltonian.couplings.is_symmetric()
    assert hamiltonian.precisions[0] != s.ridge


def test_last_column_is_flat(glass: tuple[sp.Expr, Hamiltonian]) -> None:
    _, hamiltonian = glass
    size = int(len(hamiltonian.spins) ** 0.5)
    for i in range(size - 1, size * size, size):
        assert hamiltonian.fields[i] == 0
        assert hamiltonian.precisions[i] == s.ridge
        assert not any(hamiltonian.couplings[i, :])


def test_prediction_agrees_with_numpy() -> None:
    D, N = 3, 4
    prompt, W = SymbolicPrompt.numbered(D, N, 0), weight_matrix(D)
    rng = np.random.default_rng(3)
    tokens, labels, query = rng.standard_normal((D, N)), rng.standard_normal(N), rng.standard_normal(D)
    weights = rng.standard_normal((D + 1, D + 1))
    values = dict(zip([*prompt.tokens, *prompt.labels, *prompt.query], [*tokens.ravel(), *labels, *query], strict=True))
    values |= dict(zip(W, weights.ravel(), strict=True))
    c = np.array([*(tokens @ labels), labels @ labels]) / N
    assert float(prediction(prompt.gram, W, prompt.matrix).subs(values)) == pytest.approx(c @ weights[:, :D] @ query)


def test_covariance_is_the_stated_one() -> None:
    """R = T (omega - 2 m c.w/sqrt(D) + q |c|^2 + u l^2) + rho."""
    covariance = residual_covariance()
    T = s.query_norm
    stated = T * (s.task_norm - 2 * s.m * s.aligned + s.q * s.context_norm + s.u * s.corner**2) + s.noise
    assert sp.expand(covariance.entry(s.m, s.m, s.q, s.u) - stated) == 0


def test_covariance_does_not_depend_on_the_dimension_it_is_derived_at() -> None:
    assert residual_covariance(2) == residual_covariance(3)


def test_prediction_without_weights_leaves_the_target() -> None:
    silent = residual_covariance(predict=lambda gram, W, prompt: sp.S.Zero)
    assert (silent.overlap, silent.self_overlap, silent.last_row) == (0, 0, 0)
    assert silent.constant == residual_covariance().constant


def test_doubled_prediction_doubles_overlap_and_quadruples_self_overlap() -> None:
    twice = residual_covariance(predict=lambda *args: 2 * prediction(*args))
    once = residual_covariance()
    assert sp.expand(twice.overlap - 2 * once.overlap) == 0
    assert sp.expand(twice.self_overlap - 4 * once.self_overlap) == 0
    assert sp.expand(twice.last_row - 4 * once.last_row) == 0


def test_forward_pass_that_needs_other_overlaps_is_refused() -> None:
    """A prediction by one entry of W singles out a direction; m, Q and U do not describe it."""
    with pytest.raises(ValueError, match="no function of the overlaps"):
        residual_covariance(predict=lambda gram, W, prompt: W[0, 1] * gram[2, 0] * prompt[1, 0])


def test_covariance_agrees_with_sampled_directions() -> None:
    """Averages over the query by hand, and over (c, w) as a sum over turns and reflections, exact at D = 2."""
    rng = np.random.default_rng(5)
    D, ell, rho = 2, 0.7, 0.3
    W, u = rng.standard_normal((2, D, D)), rng.standard_normal((2, D))
    c, w = rng.standard_normal(D), rng.standard_normal(D)
    angles = np.arange(8) * 2 * np.pi / 8
    sign = np.array([1.0, -1.0])
    total = 0.0
    for angle in angles:
        for mirror in sign:
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([1, mirror])
            r = [(turn @ w) / np.sqrt(D) - (turn @ c) @ W[i] - ell * u[i] for i in range(2)]
            total += r[0] @ r[1] / 16
    covariance = residual_covariance()
    values = {
        s.query_norm: 1.0,
        s.task_norm: w @ w / D,
        s.aligned: c @ w / np.sqrt(D),
        s.context_norm: c @ c,
        s.corner: ell,
        s.noise: rho,
    }
    m = [np.trace(W[i]) / D for i in range(2)]
    entry = covariance.entry(m[0], m[1], np.sum(W[0] * W[1]) / D, u[0] @ u[1]).subs(values)
    assert float(entry) == pytest.approx(total + rho)
