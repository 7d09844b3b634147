"""Laws of the entries of tokens, queries and tasks, and the way in which a prompt is drawn.

Every law is symmetric with zero mean and unit variance; apart from the Gaussian they probe universality. Label
noise is always Gaussian. The exact test errors of `observables` need of a law its fourth moment and no more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from replica_icl.covariances import Covariances
from replica_icl.errors import ParameterError
from replica_icl.keys import LATER
from replica_icl.options import CONTEXTS

Array = NDArray[np.float64]
Family = Literal["gaussian", "rademacher", "uniform", "student-t", "sparse"]
FAMILIES: tuple[Family, ...] = get_args(Family)
Sampler = Literal["tokens", "sufficient"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
Usage = Literal["random", "equal"]
USAGES: tuple[Usage, ...] = get_args(Usage)

_DEFAULTS: dict[Family, float] = {"student-t": 5.0, "sparse": 0.1}


@dataclass(frozen=True)
class Law:
    """A symmetric law of zero mean and unit variance; entries are independent.

    A law of your own is a subclass, frozen like this one, with its own name as default of `family`, its own `draw` and
    its own `fourth_moment`: what is drawn, and what exact scores take from it. Random streams and stored realisations
    are told apart by the name and the parameter.

    Attributes:
        family: gaussian; rademacher (signs); uniform on [-sqrt 3, sqrt 3]; student-t, rescaled; sparse, zero
            but for a fraction of Gaussian entries of variance 1/density.
        parameter: student-t: degrees of freedom, above 4 (default 5); sparse: density in (0, 1] (default 0.1);
            None for the others.

    Raises:
        ParameterError: unknown family, or a parameter that is missing, superfluous or out of range.
    """

    family: str = "gaussian"
    parameter: float | None = None

    def __post_init__(self) -> None:
        own = type(self)
        if own is not Law:
            if self.family in FAMILIES or own.draw is Law.draw or own.fourth_moment is Law.fourth_moment:
                wanted = "must have a family of its own name, its own draw and its own fourth_moment"
                raise ParameterError("law", own.__name__, wanted)
            return
        if self.family not in FAMILIES:
            raise ParameterError("law", self.family, f"must be one of {', '.join(FAMILIES)}")
        value, has_parameter = self.parameter, self.family in _DEFAULTS
        if has_parameter != (value is not None):
            raise ParameterError("law", self, "must have a parameter" if has_parameter else "must have no parameter")
        if value is not None and self.family == "student-t" and not 4 < value < math.inf:
            raise ParameterError("law", self, "must have more than 4 degrees of freedom: a finite fourth moment")
        if value is not None and self.family == "sparse" and not 0 < value <= 1:
            raise ParameterError("law", self, "must have a density above 0 and at most 1")

    def __str__(self) -> str:
        return self.family if self.parameter is None else f"{self.family}:{self.parameter!r}"

    @classmethod
    def parse(cls, text: str | Law, name: str = "law") -> Law:
        """A law as it is, or of a name: "gaussian", "rademacher", "uniform", "student-t[:DOF]", "sparse[:DENSITY]".

        Raises:
            ParameterError: no such law; `name` is the parameter that the message names.
        """
        if isinstance(text, Law):
            return text
        family, colon, number = str(text).partition(":")
        known = next((one for one in FAMILIES if one == family), None)
        if known is None:
            raise ParameterError(
                name, text, "must be one of gaussian, rademacher, uniform, student-t[:DOF], sparse[:DENSITY]"
            )
        try:
            return cls(known, float(number) if colon else _DEFAULTS.get(known))
        except ParameterError as error:
            raise ParameterError(name, text, error.allowed) from None
        except ValueError:
            raise ParameterError(name, text, f"must have a number after {family}:") from None

    @property
    def fourth_moment(self) -> float:
        """E x^4; 3 for the Gaussian."""
        value = self.parameter or 0.0
        match self.family:
            case "rademacher":
                return 1.0
            case "uniform":
                return 9 / 5
            case "student-t":
                return 3 * (value - 2) / (value - 4)
            case "sparse":
                return 3 / value
        return 3.0

    @property
    def excess(self) -> float:
        """Excess kurtosis E x^4 - 3: zero for the Gaussian, -2 for signs."""
        return self.fourth_moment - 3

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Independent entries."""
        value = self.parameter or 0.0
        match self.family:
            case "rademacher":
                return np.where(rng.random(shape) < 0.5, -1.0, 1.0)
            case "uniform":
                return rng.uniform(-math.sqrt(3), math.sqrt(3), shape)
            case "student-t":
                return math.sqrt((value - 2) / value) * rng.standard_t(value, shape)
            case "sparse":
                occupied = rng.random(shape) < value
                entries = np.zeros(shape)
                entries[occupied] = rng.standard_normal(np.count_nonzero(occupied)) / math.sqrt(value)
                return entries
        return rng.standard_normal(shape)


GAUSSIAN = Law()


@dataclass(frozen=True)
class PromptLaw:
    """The law of a prompt beyond the numbers of a `Setting`, and how prompts are drawn from it.

    Attributes:
        tokens: law of the entries of context tokens and queries.
        tasks: law of the entries of tasks, the training tasks and the new ones of e_icl.
        sampler: "tokens": every context token is drawn; "sufficient": the features are drawn directly
            (`sufficient.py`), the same law, for Gaussian tokens only.
        usage: of a finite number of training tasks: "random": every prompt takes one uniformly at random; "equal":
            prompt i takes task i mod K, so that each is used equally often (P/K times, up to one).
        sphere: drawn training tasks are rescaled to |w| = sqrt(D); new tasks are not. With usage "equal" the choice
            of Lu et al., arXiv:2405.11751.
        covariances: of tokens and tasks, in training and in test; those that are given mix Gaussian entries.
        test_N, test_noise: of the test prompts of e_icl_test; None: as trained.

    Raises:
        ParameterError: unknown sampler or usage, tokens that the sampler cannot draw, or a covariance of entries that
            are not Gaussian.
    """

    tokens: Law = GAUSSIAN
    tasks: Law = GAUSSIAN
    sampler: Sampler = "tokens"
    usage: Usage = "random"
    sphere: bool = False
    covariances: Covariances = field(default=Covariances(), metadata=LATER)
    test_N: int | None = field(default=None, metadata=LATER)
    test_noise: float | None = field(default=None, metadata=LATER)

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ParameterError("prompts", self.sampler, f"must be one of {', '.join(SAMPLERS)}")
        if self.usage not in USAGES:
            raise ParameterError("usage", self.usage, f"must be one of {', '.join(USAGES)}")
        if self.sampler == "sufficient" and self.tokens != GAUSSIAN:
            raise ParameterError(
                "prompts", self.sampler, f"must be tokens for {self.tokens} tokens: Gaussian ones have the shortcut"
            )
        given = self.covariances
        for one, other, law, name in (
            (given.token, given.test_token, self.tokens, "token_covariance"),
            (given.task, given.test_task, self.tasks, "task_covariance"),
        ):
            if (one or other) and law != GAUSSIAN:
                name = name if one else f"test_{name}"
                raise ParameterError(
                    name, one or other, f"must not be given beside {law} entries: it mixes Gaussian ones"
                )

    @classmethod
    def of(
        cls,
        prompts: str = "tokens",
        law: str | Law = "gaussian",
        task_law: str | Law | None = None,
        usage: str = "random",
        sphere: bool = False,
        D: int = 0,
        **structure: Any,
    ) -> PromptLaw:
        """From names or laws, as `simulate` takes them; without `task_law` tasks have the law of the tokens.

        Args:
            D: token dimension, of the covariances.
            structure: of `options.STRUCTURE`, None where not given.

        Raises:
            ParameterError: naming the argument.
        """
        tokens = Law.parse(law)
        tasks = tokens if task_law is None else Law.parse(task_law, "task_law")
        contexts = {name: CONTEXTS[name].check(x) for name in CONTEXTS if (x := structure.get(name)) is not None}
        covariances = Covariances.of(D, structure)
        return cls(tokens, tasks, prompts, usage, sphere, covariances, **contexts)  # type: ignore[arg-type]

    @property
    def tested(self) -> bool:
        """Whether the test prompts of e_icl_test are other ones than the training prompts."""
        return self.covariances.tested or self.test_N is not None or self.test_noise is not None

    def in_test(self) -> PromptLaw:
        """The law of the test prompts of e_icl_test, as if it had been trained on."""
        return replace(self, covariances=self.covariances.in_test(), test_N=None, test_noise=None)

    def draw_tokens(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Tokens or queries, shape (..., D)."""
        entries, covariance = self.tokens.draw(rng, shape), self.covariances.token
        return entries if covariance is None else covariance.mixed(entries)

    def draw_fresh_tasks(self, rng: np.random.Generator, n: int, D: int) -> Array:
        """n new tasks, shape (n, D)."""
        entries, covariance = self.tasks.draw(rng, (n, D)), self.covariances.task
        return entries if covariance is None else covariance.mixed(entries)

    def draw_tasks(self, rng: np.random.Generator, K: int, D: int) -> Array:
        """K training tasks, shape (K, D)."""
        tasks = self.draw_fresh_tasks(rng, K, D)
        return tasks * (math.sqrt(D) / np.linalg.norm(tasks, axis=1, keepdims=True)) if self.sphere else tasks

    def assigned(self, rng: np.random.Generator, K: int, first: int, n: int) -> NDArray[np.intp]:
        """Index of the training task of the prompts number first .. first + n - 1, shape (n,)."""
        return np.arange(first, first + n) % K if self.usage == "equal" else rng.integers(K, size=n)

    @property
    def key(self) -> str:
        """What tells the random streams of two laws apart; empty for Gaussian prompts token by token."""
        names = f"prompts={self.sampler};law={self.tokens};task_law={self.tasks}"
        used = f";usage={self.usage};sphere={self.sphere}"
        trained = {"task": self.covariances.task, "token": self.covariances.token}
        mixed = "".join(f";{name}={one.digest}" for name, one in trained.items() if one is not None)
        plain = PromptLaw(self.tokens, self.tasks, self.sampler, self.usage, self.sphere) == PromptLaw()
        return "" if plain and not mixed else names + used * (self.usage != "random" or self.sphere) + mixed


GAUSSIAN_PROMPTS = PromptLaw()
"""Li's prompts, token by token."""
