"""The Boltzmann measure against formulas on the explicit Hessian, and against its own samples."""

import math

import numpy as np
import pytest
from scipy.integrate import dblquad

from replica_icl.errors import ParameterError
from replica_icl.setting import Setting
from replica_icl.simulator.features import Features, draw_features
from replica_icl.simulator.gibbs import gibbs_errors, gibbs_samples, log_determinant, log_partition
from replica_icl.simulator.ground_state import GroundState, ground_state
from replica_icl.simulator.hamiltonian import energy, hamiltonian
from replica_icl.simulator.laws import PromptLaw
from replica_icl.simulator.observables import Estimate, icl_error, training_error

D, N, NOISE, RIDGE, BETA = 3, 5, 0.3, 0.2, 7.0
ACTING = D * (D + 1)
Z_MAX = 4.0


def ground_of(P: int, algorithm: str | None = None, ridge: float = RIDGE) -> GroundState:
    setting = Setting(D=D, N=N, P=P, ridge=0.1, noise=NOISE)
    return ground_state(draw_features(setting, np.random.default_rng(0)), ridge, algorithm=algorithm)


def hessian_of(ground: GroundState) -> np.ndarray:
    spin_glass = hamiltonian(ground.features, ground.ridge)
    return np.diag(spin_glass.lam) - spin_glass.J


@pytest.mark.parametrize("algorithm", ["dense", "dual"])
@pytest.mark.parametrize("P", [5, 12, 30])
def test_log_partition_is_the_gaussian_integral_of_the_explicit_hessian(P: int, algorithm: str) -> None:
    ground = ground_of(P, algorithm)
    sign, log_det = np.linalg.slogdet(BETA * hessian_of(ground))
    assert sign == 1
    expected = -BETA * energy(ground.features, ground.W, RIDGE) + 0.5 * (ACTING * math.log(2 * math.pi) - log_det)
    assert log_partition(ground, BETA) == pytest.approx(expected, rel=1e-11)
    assert log_determinant(ground) == pytest.approx(log_det - ACTING * math.log(BETA), rel=1e-11)


def test_log_partition_is_the_integral_itself_in_one_dimension() -> None:
    """D = 1 has two acting weights: integrate exp(-beta E) over the plane numerically."""
    rng = np.random.default_rng(1)
    features = Features(rng.standard_normal((4, 2)), rng.standard_normal((4, 1)), rng.standard_normal(4))
    ground = ground_state(features, 0.5)

    def weight(second: float, first: float) -> float:
        residual = features.target - features.apply(np.array([[first], [second]]))
        return math.exp(-2.0 * (0.5 * np.mean(residual**2) + 0.25 * (first**2 + second**2)))

    integral, _ = dblquad(weight, -12, 12, -12, 12, epsabs=1e-10, epsrel=1e-10)
    first, second = ground.W[0, 0], ground.W[1, 0]
    at_minimum = -math.log(weight(second, first)) / 2.0
    determinant = np.linalg.det(features.gram() + 0.5 * np.eye(2))
    by_formula = -2.0 * at_minimum + math.log(2 * math.pi / 2.0) - 0.5 * math.log(determinant)
    assert by_formula == pytest.approx(math.log(integral), abs=1e-8)
    assert log_determinant(ground) == pytest.approx(math.log(determinant), rel=1e-12)


def test_log_partition_derivative_in_ridge_is_the_mean_square_weight() -> None:
    """d log Z/d lambda_0 = -(beta/2) <|W|^2>, by central differences."""
    ground, step = ground_of(8), 1e-5
    up, down = (log_partition(ground_of(8, ridge=RIDGE + s), BETA) for s in (step, -step))
    mean_square = np.sum(ground.W**2) + np.trace(np.linalg.inv(hessian_of(ground))) / BETA
    assert (up - down) / (2 * step) == pytest.approx(-0.5 * BETA * mean_square, rel=1e-8)


@pytest.mark.parametrize(
    ("algorithm", "P", "n"), [("dense", 8, 6000), ("dual", 8, 6000), ("cg", 8, 1000), ("cg", 30, 1500)]
)
def test_samples_have_the_mean_covariance_and_energy_of_the_measure(algorithm: str, P: int, n: int) -> None:
    """Conjugate gradients perturb and solve in prompt space for P = 8 and in weight space for P = 30."""
    ground = ground_of(P, algorithm)
    samples = gibbs_samples(ground, BETA, n, np.random.default_rng(2))
    assert samples.shape == (n, D + 1, D + 1)
    np.testing.assert_array_equal(samples[:, :, D], 0.0)
    shifts = (samples - ground.W)[:, :, :D].reshape(n, ACTING)
    covariance = np.linalg.inv(hessian_of(ground)) / BETA
    scale = np.diag(covariance)
    assert np.all(np.abs(shifts.mean(axis=0)) < Z_MAX * np.sqrt(scale / n))
    spread = np.sqrt((np.outer(scale, scale) + covariance**2) / n)
    assert np.all(np.abs(shifts.T @ shifts / n - covariance) < Z_MAX * spread)
    excess = Estimate.of(np.array([energy(ground.features, W, RIDGE) for W in samples]) - ground.energy)
    assert excess.sem is not None
    assert abs(excess.mean - ACTING / (2 * BETA)) < Z_MAX * excess.sem


@pytest.mark.parametrize("algorithm", ["dense", "dual"])
@pytest.mark.parametrize("P", [5, 30])
def test_errors_are_the_traces_of_the_explicit_hessian(P: int, algorithm: str) -> None:
    """Independent traces: G from its definition in the test, (S + lambda_0)^-1 by a general inverse."""
    ground = ground_of(P, algorithm)
    test_N, rho = 9, 0.1
    corner = (1 + 2 / test_N) * (1 + 2 / D + 2 * rho + rho**2)
    block = (1 + (D + 1) / test_N + rho * D / test_N) / D
    G = np.diag([block] * D + [corner])
    inverse = np.linalg.inv(hessian_of(ground))
    S = ground.features.explicit().T @ ground.features.explicit() / P
    errors = gibbs_errors(ground, BETA, test_N, rho)
    thermal = np.trace(inverse @ np.kron(G, np.eye(D))) / BETA
    assert errors.test == pytest.approx(icl_error(ground.W, test_N, rho, D=len(ground.W) - 1) + thermal, rel=1e-11)
    assert errors.training == pytest.approx(
        training_error(ground.W, ground.features) + np.trace(inverse @ S) / BETA, rel=1e-11
    )


@pytest.mark.parametrize("P", [8, 30])
def test_errors_agree_with_sampled_weights(P: int) -> None:
    ground = ground_of(P)
    samples = gibbs_samples(ground, BETA, 3000, np.random.default_rng(3))
    exact = gibbs_errors(ground, BETA, N, NOISE)
    test = Estimate.of(np.array([icl_error(W, N, NOISE, D=len(W) - 1) for W in samples]))
    training = Estimate.of(np.array([training_error(W, ground.features) for W in samples]))
    assert test.sem is not None
    assert training.sem is not None
    assert abs(test.mean - exact.test) < Z_MAX * test.sem
    assert abs(training.mean - exact.training) < Z_MAX * training.sem


def test_ridgeless_measure_has_a_norm_with_enough_prompts_only() -> None:
    ground = ground_of(30, ridge=0.0)
    errors = gibbs_errors(ground, BETA, N, NOISE)
    assert errors.training == pytest.approx(ground.training_error + ACTING / BETA, rel=1e-12)
    few = ground_state(ground_of(5).features, 0.0, minimum_norm=True)
    for measure in (
        lambda: log_partition(few, BETA),
        lambda: gibbs_errors(few, BETA, N),
        lambda: gibbs_samples(few, BETA, 1, np.random.default_rng(0)),
    ):
        with pytest.raises(ParameterError, match="must be inf at ridge 0"):
            measure()


def test_determinants_and_traces_are_not_to_be_had_without_a_factor() -> None:
    ground = ground_of(8, "cg")
    for measure in (
        lambda: log_determinant(ground),
        lambda: log_partition(ground, BETA),
        lambda: gibbs_errors(ground, BETA, N),
    ):
        with pytest.raises(ParameterError, match="algorithm = cg: must be dense or dual"):
            measure()


def test_errors_know_the_law_of_the_test_prompts() -> None:
    ground, law = ground_of(8), PromptLaw.of(law="rademacher")
    samples = gibbs_samples(ground, BETA, 3000, np.random.default_rng(4))
    measured = Estimate.of(np.array([icl_error(W, N, NOISE, law, D=len(W) - 1) for W in samples]))
    assert measured.sem is not None
    assert abs(measured.mean - gibbs_errors(ground, BETA, N, NOISE, law).test) < Z_MAX * measured.sem
    assert abs(gibbs_errors(ground, BETA, N, NOISE).test - measured.mean) > Z_MAX * measured.sem


@pytest.mark.parametrize("beta", [0.0, -1.0, math.inf, math.nan])
def test_beta_must_be_positive_and_finite(beta: float) -> None:
    with pytest.raises(ParameterError, match="beta"):
        log_partition(ground_of(5), beta)
