"""A user's own trained weights beside theory and beside exact ground states of fresh samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from replica_icl.answers import lines
from replica_icl.errors import ParameterError, SolveError
from replica_icl.numeric.solution import Solution
from replica_icl.numeric.solve import solve
from replica_icl.parameter import check_integer
from replica_icl.setting import Setting
from replica_icl.simulator.attention import check_weights
from replica_icl.simulator.ensemble import SimulatedEnsemble, simulate
from replica_icl.simulator.observables import icl_error, overlaps

Array = NDArray[np.float64]

SCORES = ("e_icl", "m", "q", "u", "contrast")
FITTED = ("e_icl", "m", "q", "u")
RIDGES = np.logspace(-6, 1, 43)
"""Ridges among which the one that explains weights best is sought."""


@dataclass(frozen=True)
class BestRidge:
    """The ridge whose theory is nearest to the weights in e_icl, m, q and u, in units of the spread over samples.

    e_icl is a function of m, q and u, and these are correlated over samples: what a distance means, and how well the
    ridge is determined, is taken from exact ground states of fresh samples at that ridge, fitted in the same way.

    Attributes:
        value: lambda_0 of the nearest theory.
        determined: False where it is the first or last ridge of the range, or where a fresh sample's is: then the
            weights do not tell the ridge, only a bound at best.
        factor: the error, a factor: exp of the standard deviation of log lambda_0 over fresh samples; None where not
            determined.
        distance: sqrt of the sum of squares of (weights - theory)/spread over the four.
        as_far: share that is at least as far from its own best theory, of the fresh samples with the weights among
            them, so at least 1/(realisations + 1). A small one: no ridge explains these weights.
    """

    value: float
    determined: bool
    factor: float | None
    distance: float
    as_far: float


@dataclass(frozen=True, eq=False)
class WeightsComparison:
    """Trained weights, scored exactly, beside theory and simulation of the setting that they were trained at.

    Attributes:
        setting: of the training; D, N, noise also of the test.
        scores: e_icl, m, q, u and contrast of the weights.
        singular_values: of the acting D + 1 by D columns, the largest first, shape (D,).
        theory: at the setting, finite size, with its spread over samples.
        ensemble: exact ground states of fresh samples at the setting.
        best_ridge: what can be said about the optimiser.
    """

    setting: Setting
    scores: Mapping[str, float]
    singular_values: Array
    theory: Solution
    ensemble: SimulatedEnsemble
    best_ridge: BestRidge

    @property
    def distance(self) -> dict[str, float]:
        """(weights - theory) in standard deviations from sample to sample, by name."""
        spread = self.theory.spread or {}
        return {name: (self.scores[name] - self.theory[name]) / spread[name] for name in SCORES}

    def to_dict(self) -> dict[str, Any]:
        """Plain object for JSON; null for what is not finite or not determined."""

        def plain(value: float | None) -> float | None:
            return None if value is None or not math.isfinite(value) else float(value)

        spread, distance, best = self.theory.spread or {}, self.distance, self.best_ridge
        scores = {
            name: {
                "value": plain(self.scores[name]),
                "theory": plain(self.theory[name]),
                "spread": plain(spread[name]),
                "distance": plain(distance[name]),
                "simulation": self.ensemble[name].to_dict(),
            }
            for name in SCORES
        }
        ridge = {name: getattr(best, name) for name in ("value", "determined", "factor", "distance", "as_far")}
        return {**scores, "singular_values": self.singular_values.tolist(), "best_ridge": ridge}

    def table(self) -> str:
        """Text: every score beside theory and simulation, singular values, the ridge that explains it best."""
        spread, distance, best = self.theory.spread or {}, self.distance, self.best_ridge
        columns = {
            "observable": list(SCORES),
            "weights": [f"{self.scores[x]:.6g}" for x in SCORES],
            "theory": [f"{self.theory[x]:.6g}" for x in SCORES],
            "spread": [f"{spread[x]:.3g}" for x in SCORES],
            "distance": [f"{distance[x]:+.2f}" for x in SCORES],
            "ground states": [f"{self.ensemble[x].mean:.6g}" for x in SCORES],
            "their spread": [f"{self.ensemble[x].spread:.3g}" for x in SCORES],
        }
        values = self.singular_values
        shown = ", ".join(f"{x:.4g}" for x in values[:5]) + (" ..." if len(values) > 5 else "")
        told = f"nearest ridge {best.value:.3g}, at {best.distance:.2f} spreads over {', '.join(FITTED)}; "
        told += f"a factor of {best.factor:.2f} uncertain" if best.factor else "not determined by these scores"
        told += f"; with {self.ensemble.n} exact ground states there {best.as_far:.1%} are as far from theory"
        return "\n".join([lines(columns), f"singular values {shown}", told])


def compare(weights: ArrayLike, setting: Setting, realisations: int = 20, seed: int = 0) -> WeightsComparison:
    """Score trained weights and place them beside theory and exact ground states.

    Args:
        weights: W, shape (D+1, D+1), first index context side, of a prediction by (1/N) Z Z^T W Z; the last column does
            not act, and enters the contrast alone. `read_weights` reads it from a file and converts units.
        setting: that they were trained at: fresh tasks, no temperature; the ridge is half the weight decay of W.
        realisations: fresh samples, at least 2, at the setting's ridge and again at the nearest ridge.
        seed: of the fresh samples.

    Raises:
        ParameterError: bad weights, or a setting without a unique ground state, with K tasks or at a temperature.
        SolveError: the theory could not be solved.
    """
    for name, idle in (("K", None), ("beta", math.inf), ("minimum_norm", False)):
        if (value := getattr(setting, name)) != idle:
            raise ParameterError(name, value, "must not be given: trained weights are compared on fresh tasks, "
                                 "with the unique ground state")  # fmt: skip
    W = check_weights(weights, setting.D)
    check_integer("realisations", realisations, 2)  # one has no spread
    theory = solve(setting, spread=True).or_raise()
    ensemble = simulate(setting, realisations, seed=seed)
    found = overlaps(W)
    error = icl_error(W, setting.N, setting.noise, D=setting.D)
    scores = {"e_icl": error, **{name: getattr(found, name) for name in SCORES[1:]}}
    singular: Array = np.linalg.svd(W[:, :-1], compute_uv=False).astype(np.float64)
    best = _best_ridge(scores, setting, realisations, seed)
    return WeightsComparison(setting, scores, singular, theory, ensemble, best)


def _best_ridge(scores: Mapping[str, float], setting: Setting, realisations: int, seed: int) -> BestRidge:
    theory = solve(replace(setting, ridge=RIDGES), spread=True)
    assert theory.spread is not None
    expected = np.stack([theory[name] for name in FITTED])
    deviations = np.stack([theory.spread[name] for name in FITTED])
    good = np.isfinite(expected).all(axis=0) & (deviations > 0).all(axis=0)
    if np.sum(good) < 4:
        raise SolveError("the theory could not be solved at enough ridges to find the nearest")
    known = np.log(RIDGES[good])
    fine = np.linspace(known[0], known[-1], 4001)
    mean = CubicSpline(known, expected[:, good], axis=1)(fine)
    spread = np.exp(CubicSpline(known, np.log(deviations[:, good]), axis=1)(fine))

    def nearest(values: ArrayLike) -> tuple[int, float]:
        squares = np.sum(((np.asarray(values)[:, None] - mean) / spread) ** 2, axis=0)
        at = int(np.argmin(squares))
        return at, math.sqrt(squares[at])

    at, distance = nearest([scores[name] for name in FITTED])
    value = float(np.exp(fine[at]))
    fresh = simulate(replace(setting, ridge=value), realisations, seed=seed)
    fits = [nearest(each) for each in np.stack([fresh.values[name] for name in FITTED], axis=1)]
    inside = all(0 < index < len(fine) - 1 for index in (at, *(index for index, _ in fits)))
    factor = math.exp(np.std([fine[index] for index, _ in fits], ddof=1)) if inside else None
    return BestRidge(value, inside, factor, distance, (1 + sum(far >= distance for _, far in fits)) / (1 + len(fits)))
