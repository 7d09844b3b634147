"""State evolution against message passing, iteration by iteration, and its fixed point against the saddle point.

Bound fixed beforehand: Z_MAX standard errors plus a relative BIAS / D, at every one of the first ten iterations.
"""

import numpy as np
import pytest

from replica_icl.cavity.gamp import message_passing
from replica_icl.meeting.message_passing import denoiser_of
from replica_icl.numeric.priors.finite_size import solve_finite_size_prior
from replica_icl.numeric.priors.state_evolution import state_evolution
from replica_icl.priors import Laplace, Prior, Ridge
from replica_icl.setting import Setting
from replica_icl.simulator.observables import icl_error
from replica_icl.simulator.realisation import draw_instance

Z_MAX, BIAS, ITERATIONS, SEED = 4.0, 0.5, 10, 3


def trajectories(setting: Setting, prior: Prior, realisations: int) -> np.ndarray:
    """e_icl after each iteration, shape (realisations, ITERATIONS)."""
    rows = []
    for i in range(realisations):
        errors: list[float] = []

        def note(W: np.ndarray, errors: list[float] = errors) -> None:
            errors.append(icl_error(W, setting.N, setting.noise, D=setting.D))

        features = draw_instance(setting, SEED, i).features
        message_passing(
            features,
            denoiser_of(prior, setting.ridge),
            damping=0.0,
            tolerance=1e-300,
            max_iterations=ITERATIONS,
            watch=note,
        )
        rows.append(errors)
    return np.array(rows)


@pytest.mark.parametrize(
    ("D", "realisations"),
    [(20, 40), pytest.param(50, 16, marks=pytest.mark.long), pytest.param(100, 6, marks=pytest.mark.long)],
)
@pytest.mark.parametrize(("prior", "ridge", "alpha"), [(Ridge(), 0.2, 1.5), (Laplace(0.4), 0.0, 1.0)])
def test_the_error_after_every_iteration_is_predicted(
    D: int, realisations: int, prior: Prior, ridge: float, alpha: float
) -> None:
    """Ridge 0.2 / D; lambda_1 = 0.4 / D^(3/2). Nothing is fitted."""
    scaled = Laplace(prior.l1 * D**-1.5) if isinstance(prior, Laplace) else prior
    setting = Setting(D=D, N=3 * D, P=round(alpha * D * D), ridge=ridge / D, noise=0.1, minimum_norm=True)
    theory = state_evolution(setting, scaled, ITERATIONS)["e_icl"]
    found = trajectories(setting, scaled, realisations)
    mean, sem = found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(realisations)
    print(np.round(theory[1:], 4), np.round(mean, 4), np.round((mean - theory[1:]) / sem, 2), sep="\n")
    assert (np.abs(mean - theory[1:]) < Z_MAX * sem + BIAS / D * theory[1:]).all()
    assert theory[0] == pytest.approx(1.1, rel=1e-5)
    assert abs(theory[1] - theory[-1]) > 0.05


@pytest.mark.parametrize(("prior", "ridge"), [(Ridge(), 0.01), (Laplace(0.01), 0.0)])
def test_its_fixed_point_is_the_saddle_point(prior: Prior, ridge: float) -> None:
    setting = Setting(D=20, N=100, P=300, ridge=ridge, noise=0.1, minimum_norm=True)
    last = state_evolution(setting, prior, 200, tolerance=1e-7)
    saddle = solve_finite_size_prior([setting], prior).point(0)
    for name in ("m", "q", "u", "e_icl"):
        assert last[name][-1] == pytest.approx(saddle[name], rel=2e-6), name
