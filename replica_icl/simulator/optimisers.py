"""First-order optimisers: what to run, and the update rule of one step.

The conventions are those of the common training libraries: the loss is the plain mean squared error
(1/P) sum (y~ - y^)^2, without the 1/2 of the energy, and weight decay wd adds wd W to its gradient. That gradient is
twice the energy's at lambda_0 = wd/2, which is therefore the fixed point. AdamW shrinks the weights directly instead,
past the adaptive scale of the step; it has another fixed point, which is not a ridge solution.
Sources: Polyak (1964) for momentum; Kingma and Ba, arXiv:1412.6980 (Adam); Loshchilov and Hutter, arXiv:1711.05101.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import ParameterError
from replica_icl.setting import check_integer, check_real

Array = NDArray[np.float64]
OptimiserName = Literal["gradient-flow", "gd", "sgd", "momentum", "adam", "adamw"]
OPTIMISERS: tuple[OptimiserName, ...] = get_args(OptimiserName)
CLOSED_FORM: tuple[OptimiserName, ...] = ("gradient-flow", "gd")
"""Those whose weights are known at any step without the steps before it."""

_LEARNING_RATES: dict[OptimiserName, float] = {"adam": 1e-3, "adamw": 1e-3}


@dataclass(frozen=True)
class Training:
    """How to train; the weight decay is not here: it is 2 lambda_0.

    Attributes:
        optimiser: gradient-flow (the small-step limit of gd at the same learning_rate epochs), gd (full batches, both
            in closed form), sgd, momentum, adam or adamw.
        epochs: passes over the prompts, >= 1.
        learning_rate: > 0; None: 1e-3 for adam and adamw, otherwise 0.05.
        batch: prompts in a mini-batch, drawn without replacement anew in every epoch; None: all of them.
        initial_scale: standard deviation of the independent Gaussian entries that training starts from; 0: zero.
        inner: inner dimension of separate W_Q and W_K; None: the merged W.
        record: every how many epochs the errors are recorded; the start and the end always are.
        friction: the momentum of "momentum", in [0, 1).
        decay_rates: of Adam's two averages, each in [0, 1).
        epsilon: Adam's, > 0.

    Raises:
        ParameterError: naming the attribute, its value and what is allowed.
    """

    optimiser: OptimiserName = "adam"
    epochs: int = 1000
    learning_rate: float | None = None
    batch: int | None = None
    initial_scale: float = 0.0
    inner: int | None = None
    record: int = 1
    friction: float = 0.9
    decay_rates: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        if self.optimiser not in OPTIMISERS:
            raise ParameterError("optimiser", self.optimiser, f"must be one of {', '.join(OPTIMISERS)}")
        for name in ("epochs", "record"):
            put(name, check_integer(name, getattr(self, name), 1))
        for name in ("batch", "inner"):
            if getattr(self, name) is not None:
                put(name, check_integer(name, getattr(self, name), 1))
                if self.optimiser in CLOSED_FORM:
                    raise ParameterError(
                        name, getattr(self, name), f"must not be given for {self.optimiser}: its closed form has none"
                    )
        rate = _LEARNING_RATES.get(self.optimiser, 0.05) if self.learning_rate is None else self.learning_rate
        put("learning_rate", check_real("learning_rate", rate, positive=True))
        put("initial_scale", check_real("initial_scale", self.initial_scale))
        put("epsilon", check_real("epsilon", self.epsilon, positive=True))
        for name, value in (("friction", self.friction), *(("decay_rates", rate) for rate in self.decay_rates)):
            if not 0 <= check_real(name, value) < 1:
                raise ParameterError(name, value, "must be at least 0 and below 1")

    @property
    def rate(self) -> float:
        """The learning rate, with its default filled in."""
        return self.learning_rate or math.nan

    def steps(self, P: int) -> int:
        """Number of parameter updates over all epochs."""
        return self.epochs * (1 if self.batch is None else -(-P // self.batch))

    def recorded(self) -> NDArray[np.int64]:
        """The epochs after which errors are recorded: 0, every `record`-th and the last."""
        return np.unique(np.append(np.arange(0, self.epochs + 1, self.record), self.epochs))


class Optimiser(Protocol):
    """An update rule with whatever it remembers."""

    def step(self, parameters: Array, gradient: Array) -> None:
        """Change the parameters in place, given the gradient of the mean squared error without decay."""


class Momentum:
    """v <- friction v + g, W <- W - rate v, with g = gradient + decay W; plain (stochastic) descent at friction 0."""

    def __init__(self, rate: float, decay: float, friction: float = 0.0) -> None:
        self._rate, self._decay, self._friction = rate, decay, friction
        self._velocity: Array | float = 0.0

    def step(self, parameters: Array, gradient: Array) -> None:
        """One update."""
        self._velocity = self._friction * self._velocity + (gradient + self._decay * parameters)
        parameters -= self._rate * self._velocity


class Adam:
    """Steps of the size of the learning rate: an average gradient divided by the root of its average square.

    Args:
        rate, decay: learning rate and weight decay.
        decay_rates, epsilon: as in `Training`.
        decoupled: AdamW: the decay shrinks the weights by 1 - rate decay and stays out of the averages.
    """

    def __init__(
        self, rate: float, decay: float, decay_rates: tuple[float, float], epsilon: float, decoupled: bool
    ) -> None:
        self._rate, self._decay, self._epsilon, self._decoupled = rate, decay, epsilon, decoupled
        self._first_rate, self._second_rate = decay_rates
        self._first: Array | float = 0.0
        self._second: Array | float = 0.0
        self._count = 0

    def step(self, parameters: Array, gradient: Array) -> None:
        """One update."""
        if self._decoupled:
            parameters *= 1 - self._rate * self._decay
        else:
            gradient = gradient + self._decay * parameters
        self._count += 1
        self._first = self._first_rate * self._first + (1 - self._first_rate) * gradient
        self._second = self._second_rate * self._second + (1 - self._second_rate) * gradient**2
        root = np.sqrt(self._second / (1 - self._second_rate**self._count)) + self._epsilon
        parameters -= self._rate / (1 - self._first_rate**self._count) * self._first / root


def optimiser_of(how: Training, decay: float) -> Optimiser:
    """A fresh optimiser; gradient descent is that of friction 0."""
    match how.optimiser:
        case "adam" | "adamw":
            return Adam(how.rate, decay, how.decay_rates, how.epsilon, how.optimiser == "adamw")
        case "momentum":
            return Momentum(how.rate, decay, how.friction)
    return Momentum(how.rate, decay)
