"""Training by first-order optimisers, with training error and exact test error along the way.

The loss is quadratic in W, so a full batch enters through its sufficient statistics, S, h and (1/P) sum y~^2: one
product with a D(D+1) square matrix per epoch instead of a pass over the prompts, or two thin products where there are
too few prompts for that to pay. Full-batch methods without memory are known in closed form (`eigenmodes.py`).
Conventions of the optimisers, and which of them end in the ridge solution lambda_0 = wd/2: `optimisers.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl.errors import ParameterError, SolveError
from replica_icl.setting import check_real
from replica_icl.simulator.algorithms import matrix_bytes
from replica_icl.simulator.budget import available_bytes
from replica_icl.simulator.eigenmodes import Eigenmodes
from replica_icl.simulator.features import Features, FeatureSource
from replica_icl.simulator.laws import GAUSSIAN_PROMPTS, PromptLaw
from replica_icl.simulator.observables import icl_error
from replica_icl.simulator.optimisers import CLOSED_FORM, Training, optimiser_of
from replica_icl.simulator.parametrisation import parametrisation
from replica_icl.threads import one_thread

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """What training recorded.

    Attributes:
        how: optimiser and its options.
        epochs: after which the errors were recorded, first 0 and last the end, shape (n,).
        train_errors: (1/P) sum (y~ - y^)^2 at these, shape (n,). Through sufficient statistics it is a difference:
            good to about 1e-15 of (1/P) sum y~^2, whatever is left of it.
        test_errors: e_ICL, exact for the weights, shape (n,).
        W: weights at the end, shape (D+1, D+1), first index context side.
        parameters: what was trained: W, or (W_K, W_Q), shape (2, inner, D+1).
    """

    how: Training
    epochs: NDArray[np.int64]
    train_errors: Array
    test_errors: Array
    W: Array
    parameters: Array

    @property
    def times(self) -> Array:
        """Time t of dW/dt = -grad E that a flow would have reached: 2 learning_rate epochs (full batches)."""
        return (2 * self.how.rate) * self.epochs.astype(np.float64)

    @property
    def training_error(self) -> float:
        """At the end."""
        return float(self.train_errors[-1])


class FullBatch:
    """Mean squared error over all prompts and its gradient, by the cheaper of two exact ways.

    Attributes:
        by_moments: through S and h; otherwise by two thin products with the features.
    """

    def __init__(self, features: FeatureSource, by_moments: bool | None = None) -> None:
        """Compute the sufficient statistics.

        Args:
            features: P prompts.
            by_moments: None: if one product with S is cheaper and S fits into memory.
        """
        n = features.acting_weights
        fits = matrix_bytes(features.P, features.D, "dense") <= available_bytes()
        self.by_moments = (n <= 2 * features.P and fits) if by_moments is None else by_moments
        self._features, self._D = features, features.D
        if self.by_moments:
            self._gram, self._fields = features.gram(), features.fields().ravel()
            self._power = float(features.target @ features.target) / features.P

    def __call__(self, W: Array) -> tuple[float, Array]:
        """(1/P) sum (y~ - y^)^2 and its gradient over W, shape (D+1, D+1), zero in the last column."""
        if not self.by_moments:
            return batch_loss(self._features, W)
        acting = W[:, :-1].ravel()
        slope = self._gram @ acting - self._fields
        gradient = np.zeros_like(W)
        gradient[:, :-1] = 2 * slope.reshape(self._D + 1, self._D)
        return self._power + float(acting @ slope) - float(acting @ self._fields), gradient


def batch_loss(features: FeatureSource, W: Array) -> tuple[float, Array]:
    """(1/n) sum (y~ - y^)^2 over some prompts and its gradient over W, by two thin products."""
    acting = np.ascontiguousarray(W[:, :-1])
    residual = features.target - features.apply(acting)
    gradient = np.zeros_like(W)
    gradient[:, :-1] = features.apply_transpose(residual) * (-2 / features.P)
    return float(residual @ residual) / features.P, gradient


def train(
    features: FeatureSource,
    ridge: float,
    how: Training,
    *,
    N: int,
    noise: float = 0.0,
    law: PromptLaw = GAUSSIAN_PROMPTS,
    start: ArrayLike | None = None,
    rng: np.random.Generator | None = None,
) -> Trajectory:
    """Train on given prompts; the weight decay is wd = 2 ridge.

    Where the problem is well conditioned the end point is the ridge solution of `ground_state` (not for adamw, nor for
    separate matrices), and without decay the interpolating solution nearest to the start.

    Args:
        features: P prompts.
        ridge: lambda_0 >= 0, half the weight decay.
        how: optimiser and options.
        N, noise, law: of the test prompts of e_ICL.
        start: weights to start from, (D+1, D+1), or with an inner dimension (W_K, W_Q), (2, inner, D+1); None: by
            `how.initial_scale`. The last column of W never acts: it only decays.
        rng: for a random start and mini-batches; None: seed 0.

    Raises:
        ParameterError: bad ridge, start or batch.
        SolveError: the weights are no longer finite.
    """
    lambda_0 = check_real("ridge", ridge)
    if how.batch is not None and how.batch > features.P:
        raise ParameterError("batch", how.batch, f"must be at most the number of prompts, P = {features.P}")
    generator = np.random.default_rng(0) if rng is None else rng
    model = parametrisation(features.D, how.inner)
    parameters = model.start(how.initial_scale, generator) if start is None else model.check(start)
    epochs = how.recorded()
    with one_thread():
        if how.optimiser in CLOSED_FORM:
            modes = Eigenmodes(features, lambda_0, parameters)
            flow = how.optimiser == "gradient-flow"
            moments = modes.flow(2 * how.rate * epochs) if flow else modes.descent(how.rate, epochs)
            records = []
            for moment in moments:
                records.append((moment.training_error, icl_error(moment.W, N, noise, law, D=len(moment.W) - 1)))
                W = parameters = moment.W
        else:
            records = []
            full, optimiser = FullBatch(features), optimiser_of(how, 2 * lambda_0)
            memory = None if how.batch is None else features.collect()
            wanted = set(epochs.tolist())
            for epoch in range(how.epochs + 1):
                if epoch in wanted or memory is None:
                    W = model.weights(parameters)
                    with np.errstate(over="ignore", invalid="ignore"):
                        error, gradient = full(W)
                if epoch in wanted:
                    if not (np.isfinite(error) and np.isfinite(W).all()):
                        raise SolveError(f"{how.optimiser} diverged by epoch {epoch}: try a smaller learning rate")
                    records.append((error, icl_error(W, N, noise, law, D=len(W) - 1)))
                if epoch == how.epochs:
                    break
                with np.errstate(over="ignore", invalid="ignore"):
                    if memory is None:
                        optimiser.step(parameters, model.pull_back(parameters, gradient))
                        continue
                    order = generator.permutation(memory.P)
                    for first in range(0, memory.P, how.batch or memory.P):
                        chosen = order[first : first + (how.batch or memory.P)]
                        part = Features(memory.context[chosen], memory.query[chosen], memory.target[chosen])
                        _, gradient = batch_loss(part, model.weights(parameters))
                        optimiser.step(parameters, model.pull_back(parameters, gradient))
    train_errors, test_errors = np.array(records).T
    return Trajectory(how, epochs, train_errors, test_errors, W.copy(), parameters.copy())
