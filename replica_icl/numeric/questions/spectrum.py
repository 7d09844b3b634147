"""Densities of eigenvalues: the Hessian of the energy (Li et al., Fig. S7) and one prompt's tokens (Fig. S5).

Hessian. S = (1/P) sum s s^T over the n = D (D + 1) acting weights. At beta = P the Boltzmann covariance is
(1/P) (S + lambda_0)^-1, so the saddle point in V and V_u at the ridge -z, z = x + i eta, is the resolvent
G(z) = (S - z)^-1 in two blocks:

    P D V = tr over the D^2 weights on tokens of G(z),        P V_u = tr over the D weights of the last row of G(z),

and the density of eigenvalues is Im tr G / (pi n). The number of eigenvalues below x is -Im tr log(S - z) / pi, which
is the free entropy at the same saddle point: no integral over the density is needed, and no small eta either. The
poles of the prompt average in T = |x~|^2 / D lie in the upper half plane, so T is integrated along a ray below the real
axis. That is the analytic continuation of the resolvent to the real axis, and beyond.

The law of the prompts' norms has no bounds, so at finite D the spectrum has no sharp edges, only steep tails.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import convolve
from scipy.special import gammaln

from replica_icl.errors import ParameterError
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.lattice import LatticeMeasure, spacing_for
from replica_icl.numeric.averages.prompt_nodes import Contexts, PromptNodes
from replica_icl.numeric.averages.quadrature import Rule, trapezoid_chi_square
from replica_icl.numeric.finite_size import solve_finite_size
from replica_icl.numeric.saddle import ELEMENTS
from replica_icl.numeric.solution import Status
from replica_icl.priors import refuse_penalties
from replica_icl.setting import Setting, check_integer, check_real, one_setting

Array = NDArray[np.floating[Any]]
Complex = NDArray[np.complexfloating[Any, Any]]

TOLERANCE = 1e-10
"""Largest imbalance of the equations for V and V_u, relative to their entropic part, that counts as solved."""
ACCURACY = 1e-5
"""Largest imbalance of the same equations on another contour, that is with another quadrature, that is accepted."""
COARSE, FINE = 3e-3, 1e-6
"""Relative accuracy of the rules for the prompt law: to follow a solution, and to end with."""
TURNS = 20
"""Steps in which the argument of z is turned from the negative to the positive real axis; doubled where that fails."""
MAX_ITERATIONS = 40


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalue density of S at the points x + i eta; add lambda_0 to x for the Hessian.

    Attributes:
        x: eigenvalues, shape (points,).
        eta: distance from the real axis; at 0 the density itself, otherwise its convolution with a Lorentzian of that
            half-width, zero modes included.
        density: per unit of x, of all n = D (D + 1) eigenvalues. At eta = 0 it integrates to 1 - zero_weight.
        token_density: of the D^2 weights on tokens: each eigenvector counts by its weight there, in units of 1 / n.
        last_row_density: of the D weights of the last row; the two add to `density`.
        cdf: fraction of eigenvalues up to x, zero modes included.
        zero_weight: fraction of eigenvalues that vanish, max(0, 1 - P / n), exact.
        status: `Status` of each point; values are NaN where it is not CONVERGED.
        residual: largest imbalance of the equations, relative to their entropic part.
        quadrature: the same on another contour of integration, an estimate of the quadrature's error.
    """

    x: Array
    eta: float
    density: Array
    token_density: Array
    last_row_density: Array
    cdf: Array
    zero_weight: float
    status: NDArray[np.int8]
    residual: Array
    quadrature: Array


def _strip_step(dof: float, power: int, angle: float, tolerance: float) -> float:
    """Step of the trapezoid rule in log x, for integrands in x^power that are analytic in a strip of width `angle`."""
    log = math.log(4 / tolerance)
    width = math.sqrt(2 / (dof + 4 * power))
    return 0.85 * min(width * math.pi * math.sqrt(2 / log), 2 * math.pi * angle / (power * log))


def _ray_rule(dof: float, step: float, angle: float, tolerance: float) -> tuple[Array, Complex]:
    """Lattice t and weights for the chi-square x = chi2_dof / dof = exp(t - i angle), on a ray below the real axis."""
    half = dof / 2

    def log_weight(t: Array) -> Complex:
        z = t - 1j * angle
        return half * (np.log(half) + z - np.exp(z)) - gammaln(half)

    t = step * np.arange(-math.ceil(60 / step), math.ceil(8 / step))
    logs = log_weight(t)
    keep = logs.real > logs.real.max() + math.log(tolerance) - 5
    weights = np.exp(logs[keep])
    return t[keep], weights / weights.sum()


@lru_cache(maxsize=32)
def ray_nodes(model: Model, D: int, N: int, noise: float, angle: float, tolerance: float = FINE) -> PromptNodes:
    """Nodes of the prompt law with T on the ray of argument -angle, for V and V_u in the upper half plane.

    1 + T (V |c|^2 + V_u l^2) then stays at an angle of at least `angle` from the negative real axis, whatever V is.
    """
    degrees, powers = model.fresh_tasks.context_degrees(NUMPY, D=D, N=N), model.fresh_tasks.context_powers(NUMPY)
    rules: dict[str, Rule] = {}
    for name in ("signal", "silent", "Y"):
        dof = float(getattr(degrees, name))
        step = _strip_step(dof, getattr(powers, name), angle, tolerance)
        rules[name] = trapezoid_chi_square(dof, step, math.log(tolerance) - 3)
    contexts = Contexts.of(model, rules, D, N, noise).without(0.01 * tolerance)
    spacing = spacing_for(tolerance, angle)
    lattice = LatticeMeasure.of(contexts.log_x, contexts.log_corner, contexts.weights[None], spacing)
    t, kernel = _ray_rule(float(degrees.T), spacing, angle, tolerance)
    weights = convolve(lattice.values[0].astype(complex), kernel[:, None], method="direct")
    log_x = lattice.log_x[0] + t[0] + lattice.spacing * np.arange(weights.shape[0])
    rows, columns = np.nonzero(np.abs(weights) > 1e-3 * tolerance * np.abs(weights).max())
    a = np.exp(log_x[rows])
    unused = np.ones_like(a)  # the task's norm and its overlap with the context: S knows nothing of the targets
    ray = np.full_like(a, np.exp(-1j * angle), dtype=complex)
    scalars = (ray, unused, unused, a, np.exp((lattice.log_corner[columns] + log_x[rows]) / 2))
    chosen: Any = weights[rows, columns]
    return PromptNodes(tuple(x[None, :] for x in scalars), chosen / chosen.sum())


def _angle(D: int) -> float:
    """Angle of the ray: wide for few nodes, but the weights grow like exp(D angle^2 / 4)."""
    return min(0.8, 2.5 / math.sqrt(D))


def _equations(model: Model, nodes: PromptNodes, D: int, P: int, z: Complex, logs: Complex) -> tuple[Complex, Complex]:
    """What is left of the equations for (V, V_u), shape (points, 2), and its Jacobian in (log V, log V_u)."""
    V, V_u, ridge = np.exp(logs[:, :1]), np.exp(logs[:, 1:]), -z[:, None]
    sizes = {"D": float(D), "P": float(P), "c": 1.0, "field": ridge, "field_u": ridge}
    out = model.fresh_tasks.fluctuations(NUMPY, nodes.average, V=V, V_u=V_u, **sizes)
    rows = [np.concatenate(row, axis=1) for row in out.jacobian]
    return np.concatenate(out.left, axis=1), np.stack(rows, axis=1)


def _newton(
    model: Model, nodes: PromptNodes, D: int, P: int, z: Complex, logs: Complex, limit: int
) -> tuple[Complex, Array]:
    """Newton for (log V, log V_u) at every z; logs, shape (points, 2), and the residual."""
    logs = logs.copy()
    residual = np.full(len(z), np.inf)
    active = np.arange(len(z))
    for _ in range(limit):
        left, jacobian = _equations(model, nodes, D, P, z[active], logs[active])
        residual[active] = np.abs(left).max(axis=1)
        moving = (residual[active] > 1e-13) & np.isfinite(residual[active])
        active, left, jacobian = active[moving], left[moving], jacobian[moving]
        if not active.size:
            break
        determinant = jacobian[:, 0, 0] * jacobian[:, 1, 1] - jacobian[:, 0, 1] * jacobian[:, 1, 0]
        step = -np.stack(
            [
                jacobian[:, 1, 1] * left[:, 0] - jacobian[:, 0, 1] * left[:, 1],
                jacobian[:, 0, 0] * left[:, 1] - jacobian[:, 1, 0] * left[:, 0],
            ],
            axis=1,
        )
        step /= determinant[:, None]
        logs[active] += step * np.minimum(1, 1 / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-300))
    return logs, residual


def _turned(
    model: Model, nodes: PromptNodes, D: int, P: int, z: Complex, logs: Complex, turns: int
) -> tuple[Complex, Array]:
    """Follow the solution from the ridge |z|, where V and V_u are `logs`, along the arc to z."""
    target = np.angle(z)
    residual = np.full(len(z), np.inf)
    for turn in range(1, turns + 1):
        angle = np.pi + (target - np.pi) * turn / turns
        last = turn == turns
        point = z if last else np.abs(z) * np.exp(1j * angle)
        logs, residual = _newton(model, nodes, D, P, point, logs, MAX_ITERATIONS if last else 3)
    return logs, residual


def _admissible(logs: Complex, tolerance: float) -> NDArray[np.bool_]:
    """V and V_u in the closed upper half plane, up to the quadrature's error: there the solution is unique."""
    return np.all(np.sin(logs.imag) > -tolerance, axis=1) & np.all(np.abs(logs.imag) < 4, axis=1)


def hessian_density(setting: Setting, x: ArrayLike, eta: float = 0.0, model: Model | None = None) -> Spectrum:
    """Density of the eigenvalues of S = (1/P) sum s s^T over the acting weights, averaged over the prompts.

    Args:
        setting: D, N, P and noise are used. The eigenvalues of the Hessian are larger by lambda_0.
        x: where, positive numbers, shape (points,).
        eta: distance from the real axis; 0 is allowed and the default, see the head of this file.
        model: lowered theories; by default the package's own.

    Returns:
        `Spectrum`, with a status beside every point. Status INADMISSIBLE: a solution off the physical branch, of
        negative density; MAX_ITERATIONS: unsolved, or the quadrature is not accurate to `ACCURACY`.

    Raises:
        ParameterError: no single setting, finite task diversity K, x not positive and finite, or negative eta.
    """
    one_setting(setting)
    points = np.atleast_1d(np.asarray(x, dtype=float))
    distance = check_real("eta", eta)
    if points.ndim != 1 or not np.all((points > 0) & np.isfinite(points)):
        raise ParameterError("x", x, "must be positive finite numbers, in one dimension")
    refuse_penalties(setting, "for the Hessian")
    model = model or LINEAR_ATTENTION
    P = setting.P
    z = points + 1j * distance
    ridged = [replace(setting, ridge=float(r), beta=float(P), minimum_norm=False) for r in np.abs(z)]
    start = solve_finite_size(ridged, tolerance=COARSE, model=model)
    with np.errstate(all="ignore"):
        begin = np.log(np.stack([start.V, start.V_u], axis=1)).astype(complex)
        size = max(1, ELEMENTS // _nodes(model, setting).weights.size)
        pieces = [slice(i, i + size) for i in range(0, len(z), size)]
        found = [_solve_piece(model, setting, z[piece], begin[piece]) for piece in pieces]
    logs = np.concatenate([piece.pop("logs") for piece in found])
    values = {name: np.concatenate([piece[name] for piece in found]) for name in found[0]}
    residual, quadrature = values.pop("residual"), values.pop("quadrature")
    status = np.where((residual <= TOLERANCE) & (quadrature <= ACCURACY), Status.CONVERGED, Status.MAX_ITERATIONS)
    status = np.where(_admissible(logs, ACCURACY), status, Status.INADMISSIBLE)
    status = np.where(np.isfinite(residual) & np.isfinite(values["cdf"]), status, Status.NON_FINITE).astype(np.int8)
    shown = {name: np.where(status == Status.CONVERGED, value, np.nan) for name, value in values.items()}
    zero_weight = max(0.0, 1 - P / setting.acting_weights)
    return Spectrum(
        points, distance, **shown, zero_weight=zero_weight, status=status, residual=residual, quadrature=quadrature
    )


def _nodes(model: Model, setting: Setting, narrowed: float = 1.0, tolerance: float = FINE) -> PromptNodes:
    return ray_nodes(model, setting.D, setting.N, setting.noise, _angle(setting.D) * narrowed, tolerance)


def _solve_piece(model: Model, setting: Setting, z: Complex, begin: Complex) -> dict[str, Any]:
    """log V and log V_u of a few points, their residuals on two rays, and what follows from them."""
    D, P = setting.D, setting.P
    coarse, fine = _nodes(model, setting, tolerance=COARSE), _nodes(model, setting)
    logs, residual = _turned(model, coarse, D, P, z, begin, TURNS)
    for turns in (4 * TURNS, 16 * TURNS):
        bad = np.flatnonzero(~((residual <= TOLERANCE) & _admissible(logs, COARSE)))
        if bad.size:
            logs[bad], residual[bad] = _turned(model, coarse, D, P, z[bad], begin[bad], turns)
    logs, residual = _newton(model, fine, D, P, z, logs, MAX_ITERATIONS)
    # At a steep edge Newton may land on the mirror image below the real axis.
    bad = np.flatnonzero(~_admissible(logs, ACCURACY))
    if bad.size:
        mirrored = logs[bad].real + 1j * np.abs(logs[bad].imag)
        again, left = _newton(model, fine, D, P, z[bad], mirrored, MAX_ITERATIONS)
        better = _admissible(again, ACCURACY) & (left <= TOLERANCE)
        logs[bad[better]], residual[bad[better]] = again[better], left[better]
    other, _ = _equations(model, _nodes(model, setting, narrowed=0.8), D, P, z, logs)
    values = _densities(model, fine, setting, z, logs)
    return values | {"logs": logs, "residual": residual, "quadrature": np.abs(other).max(axis=1)}


def _densities(model: Model, nodes: PromptNodes, setting: Setting, z: Complex, logs: Complex) -> dict[str, Array]:
    """Densities and cumulative distribution at a saddle point."""
    D, P, n = setting.D, setting.P, setting.acting_weights
    V, V_u = np.exp(logs[:, :1]), np.exp(logs[:, 1:])
    determinant = model.hessian_spectrum.log_determinant(
        NUMPY, nodes.average, V=V, V_u=V_u, D=float(D), P=float(P), field=-z[:, None]
    )
    counting = determinant.trace_log[:, 0]
    # Where the density is zero up to rounding, log V is at the cut of the logarithm and was followed across it.
    turns = np.rint((logs.imag - np.angle(np.exp(logs))) / (2 * np.pi))
    counting = counting - 2j * np.pi * (turns @ [D**2, D])
    tokens, last_row = (P * D * V[:, 0]).imag / (np.pi * n), (P * V_u[:, 0]).imag / (np.pi * n)
    return {
        "density": tokens + last_row,
        "token_density": tokens,
        "last_row_density": last_row,
        "cdf": -counting.imag / (np.pi * n),
    }


def hessian_cdf(setting: Setting, x: ArrayLike, model: Model | None = None) -> Array:
    """Fraction of the eigenvalues of S up to x, zero modes included; NaN where the density did not converge."""
    return hessian_density(setting, x, model=model).cdf


@dataclass(frozen=True, eq=False)
class TokenSpectrum:
    """Eigenvalue density of X X^T / N for the D x N tokens of one prompt.

    Attributes:
        x: eigenvalues, shape (points,).
        density: per unit of x, of all D eigenvalues; integrates to 1 - zero_weight.
        cdf: fraction of eigenvalues up to x, zero modes included.
        zero_weight: fraction of eigenvalues that vanish, max(0, 1 - N / D).
        edges: ends of the support, (1 -+ sqrt(D / N))^2.
    """

    x: Array
    density: Array
    cdf: Array
    zero_weight: float
    edges: tuple[float, float]


def token_density(D: int, N: int, x: ArrayLike) -> TokenSpectrum:
    """The Marchenko-Pastur law of X X^T / N (`theory.marchenko_pastur`), the limit at fixed N / D (Li et al., Fig. S5).

    Raises:
        ParameterError: for D or N below 1, or x not one-dimensional.
    """
    D, N = check_integer("D", D, 1), check_integer("N", N, 1)
    points = np.atleast_1d(np.asarray(x, dtype=float))
    if points.ndim != 1 or np.isnan(points).any():
        raise ParameterError("x", x, "must be numbers, in one dimension")
    law, kappa = LINEAR_ATTENTION.marchenko_pastur, N / D
    low, high = law.edges(NUMPY, kappa=kappa)
    within = (points > low) & (points < high)
    inside = np.clip(points, low, high)
    with np.errstate(divide="ignore", invalid="ignore"):  # the density at zero, which is not used
        found = law.law(NUMPY, below=inside - low, above=high - inside, x_low=low, kappa=kappa)
    zero_weight = max(0.0, 1 - kappa)
    cdf = np.where(points >= 0, zero_weight + found.distribution, 0.0)
    return TokenSpectrum(points, np.where(within, found.density, 0.0), cdf, zero_weight, (low, high))
