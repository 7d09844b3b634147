"""A derivation as an object: prose, equations that were computed, and claims that can fail, in reading order.

Prose and left-hand sides are LaTeX, with mathematics between dollar signs; right-hand sides are SymPy expressions.
[[label]] in prose is a reference: to an equation of the chapter by its label, or to another chapter by its name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from replica_icl.errors import ReplicaICLError
from replica_icl.narration.chapters import number_and_name


class FailedClaim(ReplicaICLError):
    """A claim of a derivation does not hold, or could not be checked.

    Attributes:
        statement: of the claim.
    """

    def __init__(self, derivation: str, step: str, statement: str, numbers: str = "") -> None:
        self.statement = statement
        self._given = (derivation, step, statement, numbers)
        seen = f" ({numbers})" if numbers else ""
        super().__init__(f"{derivation}, step {step!r}: the claim does not hold: {statement}{seen}")

    def __reduce__(self) -> tuple[type, tuple[str, ...]]:
        """Survive the way back from a worker process."""
        return type(self), self._given


class Method(Enum):
    """How a claim is checked."""

    SYMBOLS = "symbolically"
    INTEGERS = "with all matrices written out"
    DIGITS = "to many digits"
    NUMBERS = "numerically"
    SIMULATION = "against simulation"


@dataclass(frozen=True)
class How:
    """How one claim is checked.

    Attributes:
        method: the kind of check.
        words: the end of a sentence that begins with "checked": with what, where, which seed.
        long: takes longer than a few seconds, so that it runs only when asked for.
    """

    method: Method
    words: str
    long: bool = False


def _words(method: Method, detail: str) -> str:
    return f"{method.value}, {detail}" if detail else method.value


def symbolically(detail: str = "") -> How:
    """An identity of expressions, by algebra."""
    return How(Method.SYMBOLS, _words(Method.SYMBOLS, detail))


def at_integers(*replicas: int, detail: str = "") -> How:
    """At integer numbers of replicas, where every matrix can be written out."""
    listed = ", ".join(map(str, replicas))
    return How(Method.INTEGERS, _words(Method.INTEGERS, f"n = {listed}") + (f"; {detail}" if detail else ""))


def to_digits(digits: int = 30, detail: str = "averages over a law of two unequal points") -> How:
    """An identity of values, at a few points and to many digits: where algebra would need branches of logarithms."""
    return How(Method.DIGITS, f"to {digits} digits at random points" + (f"; {detail}" if detail else ""))


def numerically(detail: str, long: bool = False) -> How:
    """Against another numerical way to the same number."""
    return How(Method.NUMBERS, _words(Method.NUMBERS, detail), long)


def by_simulation(seed: int, detail: str, long: bool = False) -> How:
    """Against simulation with this seed."""
    return How(Method.SIMULATION, f"{Method.SIMULATION.value}, seed {seed}: {detail}", long)


class Found(NamedTuple):
    """What a check found: whether the claim holds, and the numbers that say so."""

    holds: bool
    numbers: str


@dataclass(frozen=True)
class Equation:
    """`left` = `right`.

    Attributes:
        left: LaTeX source.
        right: an expression or a matrix that was computed, or LaTeX source of a definition.
        number: as it is printed and referred to, "4.3".
        label: how prose refers to it; none for an equation that nobody refers to.
    """

    left: str
    right: Any
    number: str = ""
    label: str = ""


@dataclass(frozen=True)
class Claim:
    """A statement, a function of no argument that says whether it holds, and how it does so."""

    statement: str
    check: Callable[[], bool | Found]
    how: How


@dataclass(frozen=True)
class Step:
    """One step of a derivation: prose, equations and claims in reading order."""

    number: str
    title: str
    parts: list[str | Equation | Claim] = field(default_factory=list)

    @property
    def equations(self) -> tuple[Equation, ...]:
        return tuple(part for part in self.parts if isinstance(part, Equation))

    @property
    def claims(self) -> tuple[Claim, ...]:
        return tuple(part for part in self.parts if isinstance(part, Claim))


class Outcome(NamedTuple):
    """A claim that held."""

    claim: Claim
    numbers: str
    seconds: float


class Derivation:
    """A chapter that is told step by step.

    Attributes:
        number, name: from the name of the script, 4 and "fresh-tasks" for "04_fresh_tasks.py".
        title: one line.
        needs: names of the chapters to read before.
        symbols: LaTeX -> meaning, of the symbols that only this chapter has (`notation` holds the others).
        steps: in reading order.
    """

    def __init__(
        self, path: str, title: str, needs: Sequence[str] = (), symbols: Mapping[str, str] | None = None
    ) -> None:
        self.number, self.name = number_and_name(path)
        self.title = title
        self.needs = tuple(needs)
        self.symbols = dict(symbols or {})
        self.steps: list[Step] = []
        self._equations = 0

    # Telling: each call adds to the step that was begun last.

    def step(self, title: str, text: str) -> None:
        """Begin a step."""
        self.steps.append(Step(f"{self.number}.{len(self.steps) + 1}", title, [text]))

    def text(self, text: str) -> None:
        """Go on with prose."""
        self.steps[-1].parts.append(text)

    def equation(self, left: str, right: Any, label: str = "") -> None:
        """Show `left` = `right`, numbered.

        Raises:
            ValueError: for a label that there is already.
        """
        if label and label in self.labels:
            raise ValueError(f"two equations are labelled {label}")
        self._equations += 1
        self.steps[-1].parts.append(Equation(left, right, f"{self.number}.{self._equations}", label))

    def claim(self, statement: str, how: How) -> Callable[[Callable[[], bool | Found]], Callable[[], bool | Found]]:
        """Decorator: the function says whether the statement holds."""

        def added(check: Callable[[], bool | Found]) -> Callable[[], bool | Found]:
            self.steps[-1].parts.append(Claim(statement, check, how))
            return check

        return added

    # What has been told.

    @property
    def labels(self) -> dict[str, str]:
        """Number of each labelled equation."""
        return {e.label: e.number for step in self.steps for e in step.equations if e.label}

    @property
    def claims(self) -> tuple[Claim, ...]:
        return tuple(claim for step in self.steps for claim in step.claims)

    def outcomes(self, long: bool = False) -> Iterator[Outcome]:
        """Run the claims one after another; those that take long only if asked for.

        Raises:
            FailedClaim: at the first claim that does not hold, with its statement.
        """
        for step in self.steps:
            for claim in step.claims:
                if long or not claim.how.long:
                    yield self.verify(step, claim)

    def verify(self, step: Step, claim: Claim) -> Outcome:
        """Run one claim.

        Raises:
            FailedClaim: it does not hold, or its check raised an exception.
        """
        start = time.perf_counter()
        try:
            found = claim.check()
        except Exception as error:
            raise FailedClaim(self.name, step.title, claim.statement) from error
        holds, numbers = found if isinstance(found, Found) else (found, "")
        if not holds:
            raise FailedClaim(self.name, step.title, claim.statement, numbers)
        return Outcome(claim, numbers, time.perf_counter() - start)

    def check(self, long: bool = False) -> tuple[str, ...]:
        """Run the claims; returns the statements that were checked. Raises as `outcomes`."""
        return tuple(outcome.claim.statement for outcome in self.outcomes(long))
