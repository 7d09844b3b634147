"""The next order at a setting's own temperature: what it adds, whether that is of use, and the theory's own error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.setting import Setting
from replica_icl.status import NextOrderStatus

Array = NDArray[np.floating[Any]]

ESTIMATED = ("e_icl", "train_error", "m", "q")
"""Observables whose accuracy is asked for and checked, and that come with an estimate of the theory's own error."""
THERMAL = ("V", "V_u", "e_gibbs", "train_gibbs", "log_Z", "entropy")
"""What exists at finite beta only."""
MEAN = ("m", "q", "u", "e_icl", "train_error", "contrast")
"""Of the mean weights."""
VALUES = (*MEAN, *THERMAL)
"""What the next order adds something to."""
USEFUL = 1.0
"""Largest correction relative to the value that it corrects; a larger one is of no use and is not added."""
CHECKED = 0.01
"""Relative difference between two rules, beside the tolerance of the values, up to which the next order is accurate:
what follows it is a relative 1/D of it at best."""


def corrections(
    settings: Sequence[Setting],
    ridges: Array,
    saddle: dict[str, Array],
    found: dict[str, Array],
    judged: dict[str, Array],
    tolerance: float,
) -> dict[str, Array]:
    """next_VALUE for each of VALUES, error_VALUE for each of ESTIMATED, and next_order_status, of shape (points,).

    Args:
        ridges: of both weight blocks, shape (points, 2).
        saddle: values at the saddle point.
        found, judged: `numeric.next_order` on the nodes of the solution and on those of its check.
        tolerance: relative accuracy of the values.
    """
    added = _at_temperature(settings, ridges, found)
    sizes = {name: np.abs(saddle[name]) for name in VALUES}
    estimated = {name: sizes[name] for name in ESTIMATED}
    status = next_order_status(estimated, found, judged, tolerance)
    kept = (status == NextOrderStatus.ADDED) | (status == NextOrderStatus.NO_USE)
    useful = {name: np.abs(change) <= USEFUL * sizes[name] for name, change in added.items()}
    for name in added:  # the contrast is a ratio of its own; u, V and V_u go with q, and the last two may be zero
        with_all = (status == NextOrderStatus.ADDED) & (name != "contrast")
        useful[name] = useful[name] | with_all | (name in ("log_Z", "entropy"))
    next_order = {f"next_{name}": np.where(kept & useful[name], change, np.nan) for name, change in added.items()}
    largest = {name: np.maximum(np.abs(found[name]), np.abs(judged[name])) for name in ESTIMATED}
    errors = theory_error(settings[0].D, estimated, largest)
    return next_order | {f"error_{name}": error for name, error in errors.items()} | {"next_order_status": status}


def next_order_status(
    sizes: Mapping[str, Any], found: Mapping[str, Any], judged: Mapping[str, Any], tolerance: float
) -> Any:
    """`NextOrderStatus` of each point.

    Args:
        sizes: absolute values of the observables that decide.
        found, judged: what the next order adds to them, by two rules.
        tolerance: relative accuracy of the values.
    """
    size, one, other = (np.array([of[name] for name in sizes]) for of in (sizes, found, judged))
    finite = (np.isfinite(one) & np.isfinite(other)).all(axis=0)
    accurate = (np.abs(one - other) <= CHECKED * np.abs(one) + tolerance * size).all(axis=0)
    useful = (np.abs(one) <= USEFUL * size).all(axis=0)
    status = np.where(useful, NextOrderStatus.ADDED, NextOrderStatus.NO_USE)
    status = np.where(accurate, status, NextOrderStatus.INACCURATE)
    return np.where(finite, status, NextOrderStatus.NO_MEAN)


def _at_temperature(settings: Sequence[Setting], ridges: Array, found: dict[str, Array]) -> dict[str, Array]:
    """What is added to each of VALUES, useful or not."""
    # Fluctuations are proportional to 1/beta and the energy's part of log Z to beta; both were solved at beta = P.
    scale = np.array([float(setting.P) / setting.beta for setting in settings])
    warm = np.where(scale > 0, 1.0, np.nan)
    V, V_u = warm * scale * found["V"], warm * scale * found["V_u"]
    # <E> = E_0 + (D^2 + D) / (2 beta) at every order: what thermal training errors gain, the thermal norm loses.
    thermal_training = -(ridges[:, 0] * settings[0].D * V + ridges[:, 1] * V_u)
    return {name: found[name] for name in MEAN} | {
        "V": V,
        "V_u": V_u,
        "e_gibbs": warm * (found["e_icl"] + scale * found["thermal_test"]),
        "train_gibbs": found["train_error"] + thermal_training,
        "log_Z": warm * (found["thermal"] + found["shared"] / scale),
        "entropy": warm * found["thermal"],
    }


def theory_error(D: int, sizes: Mapping[str, Any], corrections: Mapping[str, Any]) -> dict[str, Any]:
    """Estimate of what the saddle point neglects; an order of magnitude, not a bound.

    That is what the next order adds, and of the orders after it a relative kappa (kappa + 4/D): kappa is the relative
    correction, the largest one of all but the training error, as each may pass through zero, and 4/D stands for the
    last row, which has D weights and not D^2, and for pairings that the next order leaves out. Infinite where the mean
    over samples is.

    Args:
        sizes, corrections: absolute values of the observables, train_error among them, and of what the next order adds.
    """
    relative = {}
    for name, size in sizes.items():
        first = np.where(np.isnan(corrections[name]), np.inf, corrections[name])
        relative[name] = np.where(size > 0, first / np.where(size > 0, size, 1.0), 0.0)
    weights = np.max([first for name, first in relative.items() if name != "train_error"], axis=0)
    errors = {}
    for name, first in relative.items():
        kappa = first if name == "train_error" else weights
        errors[name] = sizes[name] * (first + kappa * (kappa + 4 / D))
    return errors
