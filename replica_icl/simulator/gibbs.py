"""The Boltzmann measure exp(-beta E(W)) of the acting weights, exactly.

It is Gaussian: mean the ground state, covariance (1/beta) (S + lambda_0)^(-1) over the n = D(D+1) acting
weights. The flat last column (independent N(0, 1/(beta lambda_0))) is left out everywhere: samples have it
zero and log Z does not count it. With a dual ground state no D^2 x D^2 matrix is formed: push-through
identities and the matrix determinant lemma reduce everything to P x P. With a matrix-free one there are
samples, by perturbing the energy and solving, but no determinant and no traces.
Energy and its Boltzmann measure: Li et al., arXiv:2408.02288.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from replica_icl.errors import ParameterError
from replica_icl.setting import check_integer, check_real
from replica_icl.simulator.ground_state import GroundState
from replica_icl.simulator.laws import GAUSSIAN_PROMPTS, PromptLaw
from replica_icl.simulator.matrix_free import NormalEquations
from replica_icl.simulator.observables import context_moments, icl_error

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GibbsErrors:
    """Errors of one sample of the Boltzmann measure, averaged over the measure.

    Attributes:
        test: mean squared error on new tasks, e_ICL(ground state) + (1/beta) tr((S + lambda_0)^-1 G (x) I_D).
        training: training error, that of the ground state + (1/beta) tr((S + lambda_0)^-1 S).
    """

    test: float
    training: float


def _check_beta(ground: GroundState, beta: float) -> float:
    """Return a finite beta for which the measure has a norm.

    Raises:
        ParameterError: beta not positive and finite, or a flat direction (ridge 0 and a ground state that is
            dual or not unique).
    """
    value = check_real("beta", beta, positive=True)
    flat = ground.algorithm == "dual" or ground.features.P < ground.features.acting_weights
    if ground.ridge == 0 and flat:
        raise ParameterError("beta", beta, "must be inf at ridge 0 with a dual ground state: no unique minimum")
    return value


def _factor(ground: GroundState) -> Array:
    """The Cholesky factor of a ground state.

    Raises:
        ParameterError: there is none.
    """
    if ground.factor is None:
        raise ParameterError(
            "algorithm", ground.algorithm, "must be dense or dual: determinants and traces need a factor"
        )
    return ground.factor


def log_determinant(ground: GroundState) -> float:
    """log det(S + lambda_0) over the acting weights.

    From the dual factor by det(S + lambda_0) = lambda_0^(n - P) det(Phi Phi^T/P + lambda_0).

    Raises:
        ParameterError: a matrix-free ground state.
    """
    from_factor = 2.0 * float(np.sum(np.log(np.diag(_factor(ground)))))
    if ground.algorithm == "dense":
        return from_factor
    n, P = ground.features.acting_weights, ground.features.P
    return (n - P) * math.log(ground.ridge) + from_factor - P * math.log(P)


def log_partition(ground: GroundState, beta: float) -> float:
    """log Z = log of the integral of exp(-beta E(W)) over the D(D+1) acting weights.

    E is the full energy with its constant (1/2P) sum y~^2, so
    log Z = -beta E_0 + (n/2) log(2 pi/beta) - (1/2) log det(S + lambda_0).

    Raises:
        ParameterError: beta not positive and finite, a measure without a norm, or a matrix-free ground state.
    """
    value = _check_beta(ground, beta)
    n = ground.features.acting_weights
    gaussian = 0.5 * n * math.log(2 * math.pi / value) - 0.5 * log_determinant(ground)
    return -value * ground.energy + gaussian


def gibbs_errors(
    ground: GroundState, beta: float, N: int, noise: float = 0.0, law: PromptLaw = GAUSSIAN_PROMPTS
) -> GibbsErrors:
    """Exact expected test and training error of a Boltzmann sample.

    Args:
        ground: ground state.
        beta: inverse temperature, positive and finite.
        N: context length of the test prompts.
        noise: label noise of the test prompts.
        law: of the test prompts.

    Raises:
        ParameterError: bad beta, N or noise, a measure without a norm, or a matrix-free ground state.
    """
    value, factor = _check_beta(ground, beta), _factor(ground)
    features, ridge = ground.features, ground.ridge
    moments = context_moments(features.D, N, noise, law)
    if ground.algorithm == "dense":
        inverse_factor, _ = scipy.linalg.lapack.dtrtri(factor, lower=1)
        variances = np.einsum("ij,ij->j", inverse_factor, inverse_factor).reshape(features.D + 1, features.D)
        test = float(moments @ variances.sum(axis=1))
        training = features.acting_weights - ridge * float(variances.sum())
    else:
        # (S + lambda_0)^-1 = (1 - Phi^T A^-1 Phi)/lambda_0 with A = Phi Phi^T + P lambda_0.
        inverse, _ = scipy.linalg.lapack.dpotri(factor, lower=1)
        diagonal = np.diag(inverse)
        metric = features.kernel(moments)
        overlap = 2 * float(np.einsum("ij,ij->", np.tril(inverse), metric)) - float(diagonal @ np.diag(metric))
        test = (features.D * float(moments.sum()) - overlap) / ridge
        training = features.P - features.P * ridge * float(diagonal.sum())
    at_rest = icl_error(ground.W, N, noise, law, D=len(ground.W) - 1)
    return GibbsErrors(at_rest + test / value, ground.training_error + training / value)


def gibbs_samples(ground: GroundState, beta: float, n: int, rng: np.random.Generator) -> Array:
    """Independent exact samples of the Boltzmann measure, shape (n, D+1, D+1), last column zero.

    Dense: W + L^-T z/sqrt(beta). Dual, by perturbing and solving: with sigma_0 ~ N(0, 1/(beta lambda_0)) and
    eta ~ N(0, P/beta), sigma_0 - Phi^T (Phi Phi^T + P lambda_0)^-1 (Phi sigma_0 + eta) has the covariance
    asked for. Matrix-free, the same with conjugate gradients, or its primal form (`matrix_free.py`).

    Raises:
        ParameterError: bad n or beta, or a measure without a norm.
        SolveError: conjugate gradients did not converge.
    """
    count, value = check_integer("n", n, 1), _check_beta(ground, beta)
    features = ground.features
    D, P = features.D, features.P
    samples = np.zeros((count, D + 1, D + 1))
    if ground.factor is None:
        equations = NormalEquations(features, ground.ridge)
        for sample in samples:
            sample[:, :D] = equations.fluctuation(value, rng)
    elif ground.algorithm == "dense":
        normal = rng.standard_normal((features.acting_weights, count))
        shift = scipy.linalg.solve_triangular(ground.factor, normal, lower=True, trans="T", check_finite=False)
        samples[:, :, :D] = shift.T.reshape(count, D + 1, D) / math.sqrt(value)
    else:
        for sample in samples:
            prior = rng.standard_normal((D + 1, D)) / math.sqrt(value * ground.ridge)
            noise = rng.standard_normal(P) * math.sqrt(P / value)
            seen = features.apply(prior) + noise
            dual = scipy.linalg.cho_solve((ground.factor, True), seen, check_finite=False)
            sample[:, :D] = prior - features.apply_transpose(dual)
    samples += ground.W
    return samples
