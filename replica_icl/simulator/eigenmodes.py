"""Gradient flow and gradient descent in closed form, in the eigenbasis of the Hessian.

The energy is quadratic with Hessian S + lambda_0 and fields h = Phi^T y~/P, so every mode evolves alone. With mu =
s + lambda_0 and the factor f by which a mode forgets where it started,

    flow dW/dt = -grad E:                   f = exp(-mu t)
    k steps W <- W - 2 eta grad E:          f = (1 - 2 eta mu)^k

a mode is f w_0 + (1 - f) h/mu; one with mu = 0 keeps w_0 (its field is zero too). A learning rate eta on the plain mean
squared error, whose gradient is twice the energy's, advances the time of the flow by 2 eta per step.
Energy: Li et al., arXiv:2408.02288.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from replica_icl.errors import ParameterError, SolveError
from replica_icl.setting import check_real
from replica_icl.simulator.attention import check_weights
from replica_icl.simulator.features import FeatureSource

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Moment:
    """One moment of a trajectory.

    Attributes:
        W: weights, shape (D+1, D+1).
        training_error: (1/P) sum (y~ - y^)^2.
    """

    W: Array
    training_error: float


class Eigenmodes:
    """The modes of the second moment S of the features, and how each relaxes.

    Attributes:
        values: eigenvalues s of S of the modes that the prompts span, shape (r,), r = min(P, D(D+1)), ascending.
        ridge: lambda_0.
        start: W at the beginning, shape (D+1, D+1).
    """

    def __init__(self, features: FeatureSource, ridge: float, start: ArrayLike | None = None) -> None:
        """Find the modes: of S, or with fewer prompts than weights from the singular values of the features.

        Args:
            features: P prompts.
            ridge: lambda_0 >= 0.
            start: weights at the beginning; None: zero.

        Raises:
            ParameterError: bad ridge or weights.
        """
        D, P = features.D, features.P
        self.ridge = check_real("ridge", ridge)
        self.start = np.zeros((D + 1, D + 1)) if start is None else check_weights(start, D)
        if P >= features.acting_weights:
            self.values, self._modes = scipy.linalg.eigh(features.gram(), overwrite_a=True, check_finite=False)
            self.values = np.maximum(self.values, 0.0)  # S is a second moment: below zero there is only rounding
        else:
            rows = features.explicit() / np.sqrt(P)
            _, singular, modes = scipy.linalg.svd(rows, full_matrices=False, check_finite=False)
            self.values, self._modes = singular[::-1] ** 2, modes[::-1].T
        acting = self.start[:, :D].ravel()
        self._fields = self._modes.T @ features.fields().ravel()
        self._start = self._modes.T @ acting
        self._outside = acting - self._modes @ self._start  # directions that no prompt sees: they only decay
        self._D = D
        # (1/P) sum r^2 = floor + sum_k s_k (w_k - b_k)^2 with b the least-squares solution of each mode.
        seen = self.values > features.acting_weights * np.finfo(float).eps * self.values.max(initial=0.0)
        self._least = np.divide(self._fields, self.values, out=np.zeros_like(self._fields), where=seen)
        least = (self._modes @ self._least).reshape(D + 1, D)
        self._floor = features.mean_squared_residual(np.pad(least, ((0, 0), (0, 1))))

    def flow(self, times: Iterable[float]) -> Iterator[Moment]:
        """The moments of gradient flow at times t >= 0 of dW/dt = -grad E; inf is the end point.

        Raises:
            ParameterError: a bad time.
        """
        for time in times:
            t = check_real("time", time, infinite=True)
            yield self._at(*(_exponential(mu, t) for mu in self._rates()))

    def descent(self, learning_rate: float, steps: Iterable[int]) -> Iterator[Moment]:
        """The moments of gradient descent after these numbers of steps of a learning rate on the mean squared error.

        Raises:
            ParameterError: bad learning rate.
            SolveError: the learning rate is too large and the weights have overflowed.
        """
        rate = check_real("learning_rate", learning_rate, positive=True)
        for step in steps:
            with np.errstate(over="ignore", invalid="ignore"):
                moment = self._at(*((1 - 2 * rate * mu) ** int(step) for mu in self._rates()))
            if not (np.isfinite(moment.W).all() and np.isfinite(moment.training_error)):
                raise SolveError(f"gradient descent diverged: a learning rate below {self.stability:.2g} is stable")
            yield moment

    @property
    def stability(self) -> float:
        """The learning rate from which gradient descent diverges, 1/(largest s + lambda_0)."""
        return 1 / (float(self.values[-1]) + self.ridge)

    def _rates(self) -> tuple[Array, Array]:
        return self.values + self.ridge, np.array(self.ridge)

    def _at(self, forgotten: Array, outside: Array) -> Moment:
        """The weights whose modes have kept a fraction `forgotten` of their start."""
        rates = self._rates()[0]
        target = np.divide(self._fields, rates, out=self._start.copy(), where=rates > 0)
        modes = forgotten * self._start + (1 - forgotten) * target
        acting = self._modes @ modes + outside * self._outside
        W = outside * self.start
        W[:, : self._D] = acting.reshape(self._D + 1, self._D)
        return Moment(W, self._floor + float(np.sum(self.values * (modes - self._least) ** 2)))


def _exponential(rate: Array, time: float) -> Array:
    """exp(-rate time); at infinite time 0, or 1 for a rate that is exactly 0."""
    if np.isinf(time):
        return np.where(rate > 0, 0.0, 1.0)
    return np.exp(-rate * time)


def initial_weights(D: int, scale: float, rng: np.random.Generator) -> Array:
    """Independent Gaussian entries of a given standard deviation, shape (D+1, D+1); |W_DD|^2/D is about D scale^2.

    Raises:
        ParameterError: bad scale.
    """
    deviation = check_real("initial_scale", scale)
    if D < 2:
        raise ParameterError("D", D, "must be at least 2")
    return deviation * rng.standard_normal((D + 1, D + 1))
