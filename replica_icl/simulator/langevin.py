"""Boltzmann samples of any differentiable energy, by Metropolis-adjusted Langevin dynamics.

For energies that are not quadratic, where `gibbs.py` has no closed form. A proposal is a Langevin step of
exp(-beta E) with a diagonal metric A and step h,

    W' = W - (h^2/2) beta A grad E(W) + h A^(1/2) xi,     xi ~ N(0, I),

accepted with the Metropolis-Hastings probability, so the Boltzmann measure is stationary at any step: the step
decides how fast the chain moves, not where to. Source: Roberts and Tweedie, Bernoulli 2 (1996) 341.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl.errors import ParameterError, SolveError
from replica_icl.setting import check_integer, check_real

Array = NDArray[np.float64]
StateFunction = Callable[[Array], Array]

TARGET_ACCEPTANCE = 0.574
"""Acceptance at which the chain moves fastest in many dimensions (Roberts and Rosenthal, 1998)."""


@dataclass(frozen=True, eq=False)
class Chains:
    """Langevin trajectories of several independent chains.

    Attributes:
        states: shape (kept, chains, ...), every `thin`-th state after the warm-up.
        energies: E of these, shape (kept, chains).
        acceptance: accepted share of the proposals after the warm-up, by chain, shape (chains,).
        step: h, after its adaptation.
    """

    states: Array
    energies: Array
    acceptance: Array
    step: float


def langevin(
    energy: StateFunction,
    gradient: StateFunction,
    start: ArrayLike,
    beta: float,
    *,
    step: float,
    n_steps: int,
    rng: np.random.Generator,
    metric: ArrayLike = 1.0,
    warm_up: int = 0,
    thin: int = 1,
) -> Chains:
    """Run Metropolis-adjusted Langevin dynamics at inverse temperature beta.

    Args:
        energy: E of a stack of states, (chains, ...) -> (chains,); +inf forbids a state.
        gradient: dE/dW of a stack of states, (chains, ...) -> (chains, ...).
        start: first states, shape (chains, ...), all of finite energy.
        beta: inverse temperature, positive and finite.
        step: h > 0, the first one if there is a warm-up.
        n_steps: steps after the warm-up.
        rng: source of randomness.
        metric: diagonal of A, positive, broadcast against a state: the relative variances of the coordinates
            where they are known (the corner row of W is stiffer than the D block).
        warm_up: steps before, in which the step of all chains is adapted to `TARGET_ACCEPTANCE`; they are
            not kept. With none the chain is stationary from the start if its first states are.
        thin: keep every thin-th state.

    Raises:
        ParameterError: bad input, or a first state without a finite energy.
        SolveError: an energy or gradient that is not a number.
    """
    inverse_temperature, h = check_real("beta", beta, positive=True), check_real("step", step, positive=True)
    kept_steps, warm = check_integer("n_steps", n_steps, 1), check_integer("warm_up", warm_up, 0)
    every = check_integer("thin", thin, 1)
    states = np.array(start, dtype=np.float64)
    if states.ndim < 2 or states.size == 0:
        raise ParameterError("start", f"array of shape {states.shape}", "must have shape (chains, ...)")
    scale = np.asarray(metric, dtype=np.float64)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise ParameterError("metric", metric, "must be positive and finite")
    energies = np.asarray(energy(states), dtype=np.float64)
    if energies.shape != states.shape[:1] or not np.isfinite(energies).all():
        raise ParameterError("start", f"energies {energies}", "must have one finite energy for each chain")
    slopes = _checked(gradient(states), states)
    kept_states, kept_energies, accepted = [], [], np.zeros(len(states))
    axes = tuple(range(1, states.ndim))
    column = (-1, *(1,) * (states.ndim - 1))
    for index in range(-warm, kept_steps):
        drift = -0.5 * h**2 * inverse_temperature * scale * slopes
        proposal = states + drift + h * np.sqrt(scale) * rng.standard_normal(states.shape)
        proposed = np.asarray(energy(proposal), dtype=np.float64)
        if np.isnan(proposed).any():
            raise SolveError("the energy of a Langevin proposal is not a number")
        allowed = np.isfinite(proposed)
        inside = np.where(allowed.reshape(column), proposal, states)
        new_slopes = _checked(gradient(inside), states)
        forward = np.sum((inside - states - drift) ** 2 / scale, axis=axes)
        backward = states - inside + 0.5 * h**2 * inverse_temperature * scale * new_slopes
        log_ratio = (forward - np.sum(backward**2 / scale, axis=axes)) / (2 * h**2)
        log_ratio -= inverse_temperature * (np.where(allowed, proposed, 0.0) - energies)
        accept = allowed & (np.log(rng.random(len(states))) < log_ratio)
        chosen = accept.reshape(column)
        states, slopes = np.where(chosen, inside, states), np.where(chosen, new_slopes, slopes)
        energies = np.where(accept, proposed, energies)
        if index < 0:
            h *= math.exp((float(np.mean(accept)) - TARGET_ACCEPTANCE) / math.sqrt(index + warm + 1))
            continue
        accepted += accept
        if (index + 1) % every == 0:
            kept_states.append(states)
            kept_energies.append(energies)
    shape = (len(kept_states), *states.shape)
    return Chains(
        np.array(kept_states).reshape(shape), np.array(kept_energies).reshape(shape[:2]), accepted / kept_steps, h
    )


def _checked(slopes: Array, states: Array) -> Array:
    """A gradient of the shape of the states and finite.

    Raises:
        ParameterError: another shape.
        SolveError: not finite.
    """
    if np.shape(slopes) != states.shape:
        raise ParameterError(
            "gradient", f"shape {np.shape(slopes)}", f"must have the shape of the states, {states.shape}"
        )
    if not np.isfinite(slopes).all():
        raise SolveError("the gradient of a Langevin state is not finite")
    return slopes
