"""Priors that are defined here, outside the package: stated, derived, solved, and met by exact optima.

One is separable and stated by its potential, Huber's: quadratic near zero, an absolute value beyond. The other is not
separable: a group penalty on whole rows of W, which forgets context directions; it states its entropic part. No file of
the package knows either.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import sympy as sp
from numpy.typing import NDArray

from replica_icl.errors import ParameterError
from replica_icl.meeting.message_passing import MessagePassing
from replica_icl.meeting.validation import validate
from replica_icl.numeric.priors.finite_size import solve_finite_size_prior
from replica_icl.numeric.priors.limit import solve_limit_prior
from replica_icl.numeric.solution import Solution, Status
from replica_icl.numeric.solve import solve
from replica_icl.priors import Prior
from replica_icl.ratios import Ratios
from replica_icl.setting import Setting
from replica_icl.simulator.ensemble import simulate
from replica_icl.simulator.features import Features, FeatureSource, draw_features
from replica_icl.simulator.observables import icl_error, overlaps
from replica_icl.simulator.optima.descent import Optimum
from replica_icl.simulator.optima.registry import MINIMISERS, register
from replica_icl.simulator.realisation import draw_instance
from replica_icl.symbolic.action import WeightBlock
from replica_icl.symbolic.conjugates import Fields, SeparableWeights, frozen_constraint

Array = NDArray[np.float64]
Z_MAX, BIAS = 4.0, 0.3
"""Standard errors, and a relative bias of BIAS / D."""


@dataclass(frozen=True)
class Huber(Prior):
    """l1 |W| beyond `width`, l1 W^2 / (2 width) below."""

    l1: Any
    width: Any

    name = "huber"

    @staticmethod
    def potential(w: Any, l1: Any, width: Any) -> Any:
        return (width, l1 * w**2 / (2 * width)), (sp.oo, l1 * (w - width / 2))


@dataclass(frozen=True)
class RowWeights:
    """Ground state of weights under P gamma sum over rows of |row|, beside a ridge; rows that are alive.

    A row's field has the squared norm h^2 + D X up to 1/sqrt(D); the row shrinks along it by P gamma / |g|.
    """

    blocks: tuple[WeightBlock, ...]
    fields: tuple[Fields, ...]
    threshold: sp.Expr
    ridge: sp.Expr

    def _rows(self) -> list[tuple[sp.Expr, sp.Expr, Fields]]:
        tokens, last_row = self.blocks
        length = tokens.count / tokens.scale
        return [(tokens.scale, length, self.fields[0]), (sp.S.One, last_row.count, self.fields[1])]

    def ground_state(self) -> sp.Expr:
        total = sum((frozen_constraint(b, f) for b, f in zip(self.blocks, self.fields, strict=True)), sp.S.Zero)
        for rows, length, f in self._rows():
            norm = sp.sqrt(f.pull**2 + length * f.variance)
            total += rows * (norm - self.threshold) ** 2 / (2 * (f.stiffness + self.ridge))
        return total

    def curvature(self, direction: sp.Matrix) -> tuple[sp.Expr, ...]:
        found = []
        for block, (rows, length, f) in zip(self.blocks, self._rows(), strict=True):
            across = 1 - self.threshold / sp.sqrt(f.pull**2 + length * f.variance)
            squares = rows * (1 + (length - 1) * across**2) / (f.stiffness + self.ridge) ** 2
            found.append(SeparableWeights.curvature_of(block.scale, squares, direction))
        return tuple(found)


@dataclass(frozen=True)
class Rows(Prior):
    """gamma sum_i |W_i|, over rows of W."""

    gamma: Any

    @staticmethod
    def entropic(blocks: Any, fields: Any, P: Any, ridge: Any, gamma: Any) -> RowWeights:
        return RowWeights(blocks, fields, P * gamma, P * ridge)

    @staticmethod
    def denoiser(g: Array, A: Array, P: int, ridge: float, gamma: float) -> tuple[Array, Array]:
        norm = np.linalg.norm(g, axis=1, keepdims=True)
        kept = np.maximum(1 - P * gamma / norm, 0)
        along = np.where(kept > 0, (1 - kept) * (g / norm) ** 2, 0)
        return kept * g / (A + P * ridge), (kept + along) / (A + P * ridge)


def optimum(features: Features, proximal: Callable[[Array, Array], Array]) -> Array:
    """Accelerated proximal gradient on the explicit features, rows of the last row of W scaled to the others.

    Args:
        proximal: (sigma, step) -> argmin r(x) + |x - sigma|^2 / (2 step), step per row.
    """
    D, Phi = features.D, features.explicit()
    curvature = np.repeat([1.0 / D, 1.0], [D * D, D]) * 2
    gram, pull = Phi.T @ Phi / features.P, Phi.T @ features.target / features.P
    bound = np.linalg.eigvalsh(gram / np.sqrt(np.outer(curvature, curvature)))[-1]
    step = (1 / (bound * curvature)).reshape(D + 1, D)
    x = y = np.zeros((D + 1, D))
    t = 1.0
    for _ in range(4000):
        new = proximal(y - step * (gram @ y.ravel() - pull).reshape(D + 1, D), step)
        if np.abs(new - y).max() < 1e-10:
            break
        restart = float(np.sum((y - new) * (new - x))) > 0
        t_new = 1.0 if restart else (1 + math.sqrt(1 + 4 * t * t)) / 2
        x, y, t = new, new + (0.0 if restart else (t - 1) / t_new) * (new - x), t_new
    else:
        raise AssertionError("not solved")
    return np.pad(x, ((0, 0), (0, 1)))


def huber_map(l1: float, width: float) -> Callable[[Array, Array], Array]:
    def proximal(sigma: Array, step: Array) -> Array:
        inside = sigma / (1 + step * l1 / width)
        return np.where(np.abs(inside) <= width, inside, sigma - np.sign(sigma) * step * l1)

    return proximal


def row_map(gamma: float, ridge: float) -> Callable[[Array, Array], Array]:
    def proximal(sigma: Array, step: Array) -> Array:
        norms = np.linalg.norm(sigma, axis=1, keepdims=True)
        shrunk = sigma * np.maximum(1 - gamma * step / np.maximum(norms, 1e-300), 0)
        return shrunk / (1 + ridge * step)

    return proximal


def measured(setting: Setting, proximal: Callable[[Array, Array], Array], realisations: int) -> dict[str, Array]:
    values: dict[str, list[float]] = {name: [] for name in ("e_icl", "train_error", "m", "q")}
    for i in range(realisations):
        features = draw_features(setting, np.random.default_rng([11, i]))
        W = optimum(features, proximal)
        own = overlaps(W)
        for name, value in (
            ("e_icl", icl_error(W, setting.N, setting.noise, D=setting.D)),
            ("train_error", features.mean_squared_residual(W)),
            ("m", own.m),
            ("q", own.q),
        ):
            values[name].append(value)
    return {name: np.array(x) for name, x in values.items()}


def disagreements(theory: Solution, simulated: dict[str, Array], D: int, bias: float) -> list[str]:
    found = []
    for name, values in simulated.items():
        mean, sem = values.mean(), values.std(ddof=1) / math.sqrt(values.size)
        if abs(mean - getattr(theory, name)) > Z_MAX * sem + bias / D * abs(mean):
            found.append(f"{name}: theory {getattr(theory, name):.5g}, simulation {mean:.5g} +- {sem:.2g}")
    return found


def test_a_potential_from_outside_the_package_is_solved_and_right() -> None:
    setting = Setting(D=12, N=40, P=120, ridge=0.0, noise=0.1, minimum_norm=True)
    theory = solve_finite_size_prior([setting], Huber(0.02, 0.05)).point(0)
    assert theory.status == Status.CONVERGED
    assert theory.replicon > 0
    assert disagreements(theory, measured(setting, huber_map(0.02, 0.05), 60), 12, BIAS) == []


def test_a_prior_that_is_not_separable_goes_through_the_same_protocol() -> None:
    """Its channel is taken at the mean norm of a row's field, an approximation of order 1/D: bound 1/D."""
    setting = Setting(D=14, N=40, P=250, ridge=0.005, noise=0.1)
    theory = solve_finite_size_prior([setting], Rows(0.01)).point(0)
    assert theory.status == Status.CONVERGED
    assert 0 < theory.replicon < 1
    assert disagreements(theory, measured(setting, row_map(0.01, 0.005), 40), 14, 1.0) == []
    without = solve_finite_size_prior([setting], Rows(1e-9)).point(0)
    assert disagreements(without, measured(setting, row_map(0.01, 0.005), 40), 14, 1.0) != []


def test_a_prior_from_outside_is_simulated_and_validated() -> None:
    """Its exact optimum is registered by the prior's name."""

    def find(features: FeatureSource, *, ridge: float, l1: float, width: float) -> Optimum:
        W = optimum(features.collect(), huber_map(l1, width))
        return Optimum(W, features, energy=0.0, gap=0.0, iterations=0)

    setting = Setting(D=8, N=24, P=60, ridge=0.0, noise=0.1, minimum_norm=True)
    prior = Huber(0.02, 0.05)
    with pytest.raises(ParameterError, match=r"prior = huber: must be one with a minimiser"):
        simulate(setting, 2, prior=prior)
    register("huber", find)
    try:
        checked = validate(setting, 30, prior=prior)
        assert checked.agrees
        assert checked.solution.e_icl == solve(setting, prior=prior).e_icl
        with pytest.raises(ParameterError, match="no other prior has"):
            register("laplace", find)
    finally:
        MINIMISERS.pop("huber")


@pytest.mark.parametrize(
    ("prior", "ridge", "proximal"),
    [(Huber(0.02, 0.05), 0.0, huber_map(0.02, 0.05)), (Rows(0.01), 0.01, row_map(0.01, 0.01))],
)
def test_message_passing_needs_no_minimiser_and_finds_the_exact_optimum(
    prior: Prior, ridge: float, proximal: Callable[[Array, Array], Array]
) -> None:
    setting = Setting(D=8, N=24, P=60, ridge=ridge, noise=0.1, minimum_norm=ridge == 0)
    found = simulate(setting, 3, prior=prior, algorithm=MessagePassing("gamp"))
    assert "distance" not in found.values
    for i in range(3):
        features = draw_instance(setting, 0, i).features.collect()
        assert found.values["m"][i] == pytest.approx(overlaps(optimum(features, proximal)).m, rel=1e-6)
    assert validate(setting, 30, prior=prior, algorithm=MessagePassing("gamp")).agrees


def test_the_response_of_a_denoiser_of_rows_is_its_derivative() -> None:
    g, A = np.random.default_rng(0).standard_normal((4, 3)), np.ones((4, 1))
    W, response = Rows.denoiser(g, A, 10, 0.1, 0.1)
    step = 1e-6
    for j in range(3):
        moved, _ = Rows.denoiser(g + step * np.eye(3)[j], A, 10, 0.1, 0.1)
        assert np.allclose((moved - W)[:, j] / step, response[:, j], atol=1e-5)


def test_a_prior_that_is_not_separable_needs_a_denoiser_for_message_passing() -> None:
    @dataclass(frozen=True)
    class Silent(Rows):
        denoiser = None

    setting = Setting(D=8, N=24, P=60, ridge=0.1)
    with pytest.raises(
        ParameterError, match="prior = Silent: must state a denoiser for message passing, or a potential"
    ):
        simulate(setting, 2, prior=Silent(0.1), algorithm=MessagePassing("gamp"))
    with pytest.raises(ParameterError, match="algorithm = relaxed-bp: must be proximal or gamp under the huber prior"):
        simulate(setting, 2, prior=Huber(0.1, 0.1), algorithm=MessagePassing("relaxed-bp"))


def test_penalties_without_a_scale_have_no_limit() -> None:
    for prior, penalties in ((Huber, {"l1": 0.1, "width": 0.1}), (Rows, {"gamma": 0.1})):
        with pytest.raises(ParameterError, match=r"must be finite-size: penalties of .* have no scale in D"):
            solve_limit_prior(Ratios(alpha=2.0, nu=5.0, lam=0.1), prior, penalties)
