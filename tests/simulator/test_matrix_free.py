"""Conjugate gradients reach the ground state of the factorisations, and say so when they do not."""

import tracemalloc

import numpy as np
import pytest

from replica_icl.errors import ParameterError, SolveError
from replica_icl.setting import Setting
from replica_icl.simulator.algorithms import TOLERANCE, cg_iterations, choose_algorithm, matrix_bytes
from replica_icl.simulator.features import Features, draw_features
from replica_icl.simulator.ground_state import ground_state
from replica_icl.simulator.hamiltonian import gradient
from replica_icl.simulator.krylov import conjugate_gradients
from replica_icl.simulator.laws import PromptLaw
from replica_icl.simulator.matrix_free import Dual, NormalEquations, Primal
from replica_icl.simulator.observables import icl_error

SUFFICIENT = PromptLaw.of("sufficient")


def features_of(D: int, N: int, P: int, K: int | None = None, noise: float = 0.0) -> Features:
    setting = Setting(D=D, N=N, P=P, ridge=0.1, K=K, noise=noise)
    return draw_features(setting, np.random.default_rng(0), law=SUFFICIENT)


@pytest.mark.parametrize("P", [5, 19, 20, 21, 60])
@pytest.mark.parametrize("ridge", [1e-4, 0.3])
@pytest.mark.parametrize("K", [None, 2])
def test_weights_are_those_of_the_factorisation(P: int, ridge: float, K: int | None) -> None:
    features = features_of(4, 6, P, K, 0.2)
    exact, iterated = ground_state(features, ridge, algorithm="dense"), ground_state(features, ridge, algorithm="cg")
    np.testing.assert_allclose(iterated.W, exact.W, rtol=0, atol=1e-6 * np.max(np.abs(exact.W)))
    assert iterated.factor is None
    assert iterated.training_error == pytest.approx(exact.training_error, rel=1e-6)
    assert iterated.energy == pytest.approx(exact.energy, rel=1e-9)
    assert exact.iterations == 0 < iterated.iterations


@pytest.mark.parametrize(("P", "ridge"), [(200, 1e-4), (800, 1e-3), (1500, 0.0)])
def test_residual_of_the_normal_equations_is_below_tolerance_and_as_reported(P: int, ridge: float) -> None:
    features = features_of(25, 40, P)
    ground = ground_state(features, ridge, algorithm="cg")
    relative = np.linalg.norm(gradient(features, ground.W, ridge)) / np.linalg.norm(features.fields())
    assert relative <= TOLERANCE
    assert ground.residual == pytest.approx(relative, rel=1e-3)
    exact = ground_state(features, ridge, algorithm="dual" if P < 650 else "dense")
    assert icl_error(ground.W, 40, D=len(ground.W) - 1) == pytest.approx(
        icl_error(exact.W, 40, D=len(exact.W) - 1), rel=1e-7
    )


@pytest.mark.parametrize("P", [8, 20, 50])
def test_systems_apply_the_explicit_matrices(P: int) -> None:
    features, ridge, rng = features_of(4, 6, P), 0.1, np.random.default_rng(1)
    rows = features.explicit()
    acting, dual = rng.standard_normal((5, 4)), rng.standard_normal(P)
    gram, kernel = rows.T @ rows / P + ridge * np.eye(20), rows @ rows.T + P * ridge * np.eye(P)
    primal_system, dual_system = Primal(features, ridge), Dual(features, ridge)
    np.testing.assert_allclose(primal_system.apply(acting).ravel(), gram @ acting.ravel(), atol=1e-12)
    np.testing.assert_allclose(dual_system.apply(dual), kernel @ dual, atol=1e-11)
    context, query = features.context.T @ features.context / P, features.query.T @ features.query / P
    expected = np.linalg.solve(np.kron(context, query) + ridge * np.eye(20), acting.ravel())
    np.testing.assert_allclose(primal_system.precondition(acting).ravel(), expected, atol=1e-11)
    corner = features.context[:, -1:] * features.query
    block = np.sum(rows.reshape(P, 5, 4)[:, :4] ** 2, axis=(1, 2))
    approximate = corner @ corner.T + np.diag(block + P * ridge)
    np.testing.assert_allclose(dual_system.precondition(dual), np.linalg.solve(approximate, dual), atol=1e-11)


def test_the_form_with_fewer_unknowns_is_taken_and_preconditioning_pays() -> None:
    for P, ridge in ((225, 1e-3), (1800, 1e-3)):
        features = features_of(25, 40, P)
        equations = NormalEquations(features, ridge)
        assert equations.primal == (P > 650)
        kind, right = (Primal, features.fields()) if equations.primal else (Dual, features.target)

        class Plain(kind):  # type: ignore[misc, valid-type]
            def precondition(self, residual: np.ndarray) -> np.ndarray:
                return residual

        plain = conjugate_gradients(Plain(features, ridge), right, tolerance=TOLERANCE)
        assert equations.ground_state().iterations < 0.7 * plain.iterations


@pytest.mark.parametrize(("P", "ridge"), [(100, 1e-3), (350, 1e-4), (420, 1e-3), (700, 0.0), (4000, 1e-3)])
def test_iterations_are_predicted(P: int, ridge: float) -> None:
    """Marchenko-Pastur edges give the number of iterations to a factor of 1.5, which the choice rests on."""
    ground = ground_state(features_of(20, 100, P), ridge, algorithm="cg")
    predicted = cg_iterations(P, 20, ridge, (1 + 21 / 100) / 20)
    assert 1 / 1.5 < ground.iterations / predicted < 1.5


@pytest.mark.parametrize("P", [6, 15])
def test_minimum_norm_is_the_pseudoinverse_solution(P: int) -> None:
    features = features_of(4, 6, P, noise=0.2)
    ground = ground_state(features, 0.0, algorithm="cg", minimum_norm=True)
    expected = (np.linalg.pinv(features.explicit()) @ features.target).reshape(5, 4)
    np.testing.assert_allclose(ground.W[:, :4], expected, rtol=0, atol=1e-7 * np.max(np.abs(expected)))


def test_memory_is_far_below_that_of_the_matrix() -> None:
    features = features_of(50, 60, 4000)
    tracemalloc.start()
    ground_state(features, 1e-2, algorithm="cg")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.1 * matrix_bytes(4000, 50, "dense")


def test_choice_follows_size_conditioning_and_memory() -> None:
    def choose(P: int, D: int, ridge: float, **options: float) -> str:
        return choose_algorithm(P, D, ridge, True, scale=1.5 / D, **options)

    assert [choose(P, 6, 1e-2) for P in (20, 60)] == ["dual", "dense"]
    assert choose(15_000, 100, 1e-3) == "cg"
    assert choose(10_100, 100, 1e-9) == "dense"
    assert choose(10_100, 100, 1e-9, memory=1e8) == "cg"
    assert choose(10_100, 100, 0.0, memory=1e8) == "cg"
    assert choose(9_000, 100, 1e-3, thermal=True) == "dual"
    assert choose(15_000, 100, 1e-3, thermal=True, memory=1e8) == "dense"  # its refusal names the memory
    assert choose(10**5, 40, 1e-3) == "cg"
    assert choose(10**5, 40, 1e-3, pass_seconds=20.0) == "dense"


def test_failures_say_what_happened() -> None:
    features = features_of(4, 6, 60)
    with pytest.raises(SolveError, match=r"not solved after 3 iterations: relative residual \d"):
        ground_state(features, 0.1, algorithm="cg", max_iterations=3)
    with pytest.raises(ParameterError, match="max_iterations = 0"):
        ground_state(features, 0.1, algorithm="cg", max_iterations=0)
    rank_one = Features(np.ones((60, 5)), features.query, features.target)
    with pytest.raises(SolveError, match="numerically singular: the prompts do not span"):
        ground_state(rank_one, 0.0, algorithm="cg")
    empty = Features(np.zeros((6, 5)), features.query[:6], features.target[:6])
    with pytest.raises(SolveError, match="numerically singular: a prompt has no features"):
        ground_state(empty, 0.0, algorithm="cg", minimum_norm=True)
    assert not ground_state(empty, 0.1, algorithm="cg").W.any()


class Explicit:
    """A matrix as a linear system without a preconditioner, optionally with errors of its products."""

    name = "test matrix"

    def __init__(self, matrix: np.ndarray, error: float = 0.0) -> None:
        self.matrix, self.error, self.rng = matrix, error, np.random.default_rng(0)

    def apply(self, vector: np.ndarray) -> np.ndarray:
        exact = self.matrix @ vector
        return exact + self.error * np.linalg.norm(exact) * self.rng.standard_normal(len(exact))

    def precondition(self, residual: np.ndarray) -> np.ndarray:
        return residual


def test_the_recurrence_is_not_believed() -> None:
    """With inexact products the recurrence goes to zero while the residual does not: an error, and no solution."""
    right = np.ones(30)
    with pytest.raises(SolveError, match=r"test matrix was solved to a relative residual of .* only, not to 1e-12"):
        conjugate_gradients(Explicit(np.diag(np.linspace(1, 2, 30)), 1e-6), right, tolerance=1e-12)
    with pytest.raises(SolveError, match="test matrix is numerically singular"):
        conjugate_gradients(Explicit(np.diag(np.linspace(-1, 1, 30))), right, tolerance=1e-12)
    with pytest.raises(SolveError, match="test matrix"):
        conjugate_gradients(Explicit(np.full((30, 30), np.nan)), right, tolerance=1e-12)
    solved = conjugate_gradients(Explicit(np.diag(np.linspace(1, 2, 30))), right, tolerance=1e-12, start=right)
    np.testing.assert_allclose(solved.solution, 1 / np.linspace(1, 2, 30), rtol=1e-11)
