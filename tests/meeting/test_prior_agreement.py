"""Theory under weight priors against exact optima of token-level prompts and message passing, nothing fitted.

Settings, realisations and bounds were fixed before anything was simulated. At finite size: Z_MAX standard errors plus a
relative bias of BIAS / D. In the limit: what is left of the relative deviation after a fit a + b/D + c/D^2 over four
dimensions is zero within Z_MAX standard errors.
"""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from replica_icl.meeting.message_passing import MessagePassing
from replica_icl.numeric.priors.finite_size import solve_finite_size_prior
from replica_icl.numeric.priors.limit import solve_limit_prior, thermodynamic_penalties
from replica_icl.numeric.solve import solve
from replica_icl.priors import Laplace, prior_of
from replica_icl.ratios import Ratios
from replica_icl.setting import Setting
from replica_icl.simulator.ground_state import ground_state
from replica_icl.simulator.observables import icl_error, overlaps
from replica_icl.simulator.optima.laplace import laplace_optimum
from replica_icl.simulator.realisation import draw_instance
from replica_icl.status import Status

Array = NDArray[np.float64]
Z_MAX, BIAS, SEED = 4.0, 0.3, 1
OBSERVABLES = ("e_icl", "train_error", "m", "q", "u")


def setting(D: int, N: int, P: int, ridge: float, noise: float) -> Setting:
    return Setting(D=D, N=N, P=P, ridge=ridge, noise=noise, minimum_norm=True)


def simulated(point: Setting, l1: float, realisations: int) -> dict[str, Array]:
    """Observables of exact optima, one value per realisation."""
    found: dict[str, list[float]] = {name: [] for name in OBSERVABLES}
    for i in range(realisations):
        features = draw_instance(point, SEED, i).features
        optimum = laplace_optimum(features, l1, point.ridge)
        own = overlaps(optimum.W)
        values = (icl_error(optimum.W, point.N, point.noise, D=point.D), optimum.training_error, own.m, own.q, own.u)
        for name, value in zip(OBSERVABLES, values, strict=True):
            found[name].append(value)
    return {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize(
    ("point", "l1", "realisations"),
    [
        (setting(14, 28, 150, 0.005, 0.1), 0.02, 60),
        pytest.param(setting(20, 100, 200, 0.0, 0.0), 0.01, 80, marks=pytest.mark.long),
        pytest.param(setting(20, 40, 600, 0.0, 0.25), 0.004, 60, marks=pytest.mark.long),
    ],
)
def test_finite_size_theory_is_what_exact_optima_have(point: Setting, l1: float, realisations: int) -> None:
    theory = solve_finite_size_prior([point], Laplace(l1)).point(0)
    rows = []
    for name, values in simulated(point, l1, realisations).items():
        mean, sem = values.mean(), values.std(ddof=1) / math.sqrt(realisations)
        rows.append((name, theory[name], mean, sem, (mean - theory[name]) / sem))
        print("{:<12} {:>10.5g} {:>10.5g} +- {:<9.2g} z = {:+.2f}".format(*rows[-1]))
    for name, expected, mean, sem, _ in rows:
        assert abs(mean - expected) < Z_MAX * sem + BIAS / point.D * abs(expected), name


PRIORS, SAMPLES = ("ridge", "laplace", "elastic net"), 24


def drawn(prior: str, count: int = 8) -> list[Setting]:
    """D = 20, by a rule that does not look at results: N, P and penalties log-uniform, every other with label noise."""
    rng = np.random.default_rng([2026, PRIORS.index(prior)])
    found = []
    for i in range(count):
        N, P = np.exp(rng.uniform(np.log([20, 60]), np.log([200, 1000])))
        ridge, l1 = np.exp(rng.uniform(np.log([0.003, 0.005]), np.log([0.3, 0.03])))
        found.append(
            Setting(
                D=20,
                N=round(N),
                P=round(P),
                noise=(0.0, 0.25)[i % 2],
                ridge=0.0 if prior == "laplace" else float(ridge) if prior == "ridge" else float(ridge) / 10,
                l1=0.0 if prior == "ridge" else float(l1),
            )
        )
    return found


@pytest.mark.long
@pytest.mark.parametrize("point", [point for prior in PRIORS for point in drawn(prior)], ids=repr)
def test_theory_exact_optima_and_message_passing_agree(point: Setting) -> None:
    """Message passing ends at the exact optimum of every sample; both have the errors and overlaps of the theory."""
    theory, passing, prior = solve(point), MessagePassing("gamp"), prior_of(point)
    accuracy = 1e-6 if prior is None else 1e-3  # what the duality gap of the exact optimum allows
    found: dict[str, dict[str, list[float]]] = {way: {name: [] for name in OBSERVABLES} for way in ("exact", "gamp")}
    for i in range(SAMPLES):
        features = draw_instance(point, SEED, i).features
        if prior is None:
            exact = ground_state(features, point.ridge).W
        else:
            exact = laplace_optimum(features, point.l1, point.ridge).W
        passed, status, iterations = passing.run(features, point.ridge, prior)
        assert status == Status.CONVERGED, (i, iterations)
        assert np.linalg.norm(passed - exact) < accuracy * np.linalg.norm(exact), i
        for way, W in (("exact", exact), ("gamp", passed)):
            own = overlaps(W)
            error = icl_error(W, point.N, point.noise, D=point.D)
            values = (error, features.mean_squared_residual(W), own.m, own.q, own.u)
            for name, value in zip(OBSERVABLES, values, strict=True):
                found[way][name].append(value)
    for way, values_of in found.items():
        for name, values in values_of.items():
            mean, sem = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(SAMPLES)
            told = f"{theory[name]:>10.5g} {mean:>10.5g} +- {sem:<9.2g} z = {(mean - theory[name]) / sem:+.2f}"
            print(f"{way:<6} {name:<12} {told}")
            assert abs(mean - theory[name]) < Z_MAX * sem + BIAS / point.D * abs(theory[name]), (way, name)


DIMENSIONS, REALISATIONS = (16, 20, 28, 40), (240, 160, 80, 40)


@pytest.mark.long
@pytest.mark.parametrize(
    ("alpha", "nu", "scale", "noise"), [(1.5, 3.0, 0.2, 0.25), (1.0, 5.0, 0.3, 0.0), (3.0, 2.0, 0.5, 0.0)]
)
def test_the_limit_is_what_exact_optima_tend_to(alpha: float, nu: float, scale: float, noise: float) -> None:
    """lambda_1 = scale / D^(3/2); the limit keeps the penalty on the diagonal at each D."""
    deviations: dict[str, list[tuple[float, float]]] = {name: [] for name in OBSERVABLES if name != "u"}
    for D, realisations in zip(DIMENSIONS, REALISATIONS, strict=True):
        point, prior = setting(D, round(nu * D), round(alpha * D * D), 0.0, noise), Laplace(scale * D**-1.5)
        ratios = Ratios(alpha=point.P / D**2, nu=point.N / D, lam=0.0, noise=noise, minimum_norm=True)
        limit = solve_limit_prior(ratios, Laplace, thermodynamic_penalties(prior, D))
        found = simulated(point, prior.l1, realisations)
        for name, values in deviations.items():
            relative = found[name] / limit[name] - 1
            values.append((relative.mean(), relative.std(ddof=1) / math.sqrt(realisations)))
    for name, values in deviations.items():
        mean, sem = np.array(values).T
        powers = np.stack([np.ones(4), *(np.array(DIMENSIONS, dtype=float) ** -k for k in (1, 2))], axis=1)
        weighted = powers / sem[:, None]
        covariance = np.linalg.inv(weighted.T @ weighted)
        left = (covariance @ weighted.T @ (mean / sem))[0]
        error = math.sqrt(covariance[0, 0])
        print(f"{name:<12} at D {np.round(mean, 4)}, extrapolated {left:+.4f} +- {error:.4f}, z = {left / error:+.2f}")
        assert abs(left) < Z_MAX * error, name
