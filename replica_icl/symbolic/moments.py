"""Exact finite-size moments of a prompt's scalars and of the Hamiltonian's random fields and couplings.

The prompt is Li's (arXiv:2408.02288) with features divided by N and label noise rho: task w ~ N(0, I_D),
tokens x_i ~ N(0, I_D), labels y_i = w.x_i / sqrt(D) + eps_i, query x~, target y~ = w.x~ / sqrt(D) + eps~,
and the context vector c~ = (c, l) = (1/N) sum_i y_i (x_i, y_i). Everything here is a polynomial in these
Gaussian tensors, averaged by `wick.expectation`: rational functions of D, N, P and rho without any
large-size assumption.

Two uses. The scalars have relative variances of order 1/D, so in the thermodynamic limit N = nu D their law
has all its mass at the limits of the exact means. And the moments of h, J and lambda state the spin glass:
couplings without a mean, a field with a ferromagnetic mean on the diagonal of W only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement, count, product
from typing import Literal

import sympy as sp

from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.wick import Tensor, TensorPolynomial, expectation

TASK = Tensor("w", (s.D,))
TOKENS = Tensor("x", (s.N, s.D))
NOISE = Tensor("eps", (s.N,), s.noise)
QUERY = Tensor("x~", (s.D,))
TARGET_NOISE = Tensor("eps~", (), s.noise)

CORNER: Literal["l"] = "l"
"""Context-side index of the last row of W; the D block has the integers 1, 2, ..."""
ContextIndex = int | Literal["l"]
Spin = tuple[ContextIndex, int]
"""(i, j) of a weight W_ij: context side first, query side second."""


class _Prompt:
    """One prompt's polynomials; every call has summed indices of its own, so that calls can be multiplied."""

    def __init__(self) -> None:
        self._serial = count()

    def _fresh(self) -> str:
        return f"k{next(self._serial)}"

    def label(self, token: str) -> TensorPolynomial:
        """y_i = w.x_i / sqrt(D) + eps_i."""
        a = self._fresh()
        return TASK[a] * TOKENS[token, a] / sp.sqrt(s.D) + NOISE[token]

    def target(self) -> TensorPolynomial:
        """y~ = w.x~ / sqrt(D) + eps~."""
        a = self._fresh()
        return TASK[a] * QUERY[a] / sp.sqrt(s.D) + TARGET_NOISE[()]

    def context(self, component: str | int) -> TensorPolynomial:
        """c_a = (1/N) sum_i y_i x_ia, a summed name or a label."""
        i = self._fresh()
        return self.label(i) * TOKENS[i, component] / s.N

    def corner(self) -> TensorPolynomial:
        """l = (1/N) sum_i y_i^2."""
        i = self._fresh()
        return self.label(i) * self.label(i) / s.N

    def feature(self, spin: Spin, factor: sp.Expr) -> TensorPolynomial:
        """s_ij = f(l) c~_i x~_j, the factor f a polynomial in the corner.

        Raises:
            ValueError: if it is none; only polynomial moments follow from Wick's theorem.
        """
        if not factor.is_polynomial(s.corner):
            raise ValueError(f"the features' factor {factor} is no polynomial in the corner")
        i, j = spin
        plain = (self.corner() if i == CORNER else self.context(i)) * QUERY[j]
        total = TensorPolynomial.of(0)
        for (power,), coefficient in sp.Poly(factor, s.corner).terms():
            term = coefficient * plain
            for _ in range(power):
                term = term * self.corner()
            total = total + term
        return total

    def scalar(self, which: sp.Symbol) -> TensorPolynomial:
        """One of `symbols.SCALARS` as a polynomial in the Gaussian tensors."""
        a = self._fresh()
        match which:
            case s.query_norm:
                return QUERY[a] * QUERY[a] / s.D
            case s.task_norm:
                return TASK[a] * TASK[a] / s.D
            case s.aligned:
                return self.context(a) * TASK[a] / sp.sqrt(s.D)
            case s.context_norm:
                return self.context(a) * self.context(a)
            case s.corner:
                return self.corner()
        raise ValueError(f"{which} is no scalar of a prompt; these are: {', '.join(map(str, s.SCALARS))}")


def _average(factors: Iterable[TensorPolynomial]) -> sp.Expr:
    monomials = TensorPolynomial.of(1)
    for factor in factors:
        monomials = monomials * factor
    return sp.factor(expectation(monomials))


@cache
def scalar_moment(*scalars: sp.Symbol) -> sp.Expr:
    """E of a product of prompt scalars, out of T, omega, c.w/sqrt(D), |c|^2 and l; one symbol per factor."""
    prompt = _Prompt()
    return _average([prompt.scalar(which) for which in scalars])


def context_moment(aligned: int = 0, norm: int = 0, corner: int = 0) -> sp.Expr:
    """E[(c.w/sqrt(D))^aligned (|c|^2)^norm l^corner], a rational function of D, N and rho.

    Raises:
        ValueError: if a power is negative; only polynomial moments follow from Wick's theorem.
    """
    if min(aligned, norm, corner) < 0:
        raise ValueError(f"the powers must be at least 0, not {(aligned, norm, corner)}")
    return scalar_moment(*[s.aligned] * aligned, *[s.context_norm] * norm, *[s.corner] * corner)


@cache
def scalar_covariance(first: sp.Symbol, second: sp.Symbol) -> sp.Expr:
    """The exact covariance of two prompt scalars."""
    return sp.factor(scalar_moment(first, second) - scalar_moment(first) * scalar_moment(second))


def scalar_means() -> dict[sp.Symbol, sp.Expr]:
    """The exact mean of every prompt scalar at finite D and N."""
    return {which: scalar_moment(which) for which in s.SCALARS}


def scalar_covariances() -> dict[tuple[sp.Symbol, sp.Symbol], sp.Expr]:
    """The exact covariance of every pair of prompt scalars, each pair once, in the order of `SCALARS`."""
    return {pair: scalar_covariance(*pair) for pair in combinations_with_replacement(s.SCALARS, 2)}


@cache
def _limit(expression: sp.Expr) -> sp.Expr:
    return sp.factor(sp.limit(expression.subs(s.N, s.nu * s.D), s.D, sp.oo))


def concentrated_means() -> dict[sp.Symbol, sp.Expr]:
    """Where the law of the prompt concentrates for D -> infinity at N = nu D; see `relative_variances`."""
    return {which: _limit(mean) for which, mean in scalar_means().items()}


def relative_variances() -> dict[sp.Symbol, sp.Expr]:
    """Variance over squared mean of every prompt scalar at N = nu D: exact in D, nu and rho, of order 1/D."""
    return {
        which: sp.factor((scalar_covariance(which, which) / mean**2).subs(s.N, s.nu * s.D))
        for which, mean in scalar_means().items()
    }


@dataclass(frozen=True)
class Block:
    """Mean and variance, over prompts, of those entries of h, J or lambda that share them.

    Attributes:
        name: short, unique within h, J or lambda.
        description: the entry, with i, k components of c~ (context side) and j, n of x~ (query side).
        mean: exact, a factored rational function of D, N and rho.
        variance: exact, the same with P: prompts are independent, so it is one prompt's variance over P.
    """

    name: str
    description: str
    mean: sp.Expr
    variance: sp.Expr


def _prompt_average_block(name: str, description: str, mean: sp.Expr, square: sp.Expr) -> Block:
    """The block of (1/P) sum_mu of a variable whose mean and mean square on one prompt are given."""
    return Block(name, description, sp.factor(mean), sp.factor((square - mean**2) / s.P))


@cache
def field_moment(spin: Spin, power: int = 1, factor: sp.Expr = sp.S.One) -> sp.Expr:
    """E (y~ s_ij)^power on one prompt, for a weight given by labels such as (1, 2) or (CORNER, 1).

    Args:
        factor: f of the features s_ij = f(l) c~_i x~_j; one for linear attention.
    """
    prompt = _Prompt()
    return _average([f for _ in range(power) for f in (prompt.target(), prompt.feature(spin, factor))])


@cache
def feature_moment(first: Spin, second: Spin, power: int = 1, factor: sp.Expr = sp.S.One) -> sp.Expr:
    """E (s_ij s_kn)^power on one prompt, for two weights given by labels; `factor` as in `field_moment`."""
    prompt = _Prompt()
    return _average([f for _ in range(power) for f in (prompt.feature(first, factor), prompt.feature(second, factor))])


@cache
def field_blocks(factor: sp.Expr = sp.S.One) -> tuple[Block, ...]:
    """h_ij = (1/P) sum_mu y~ s_ij.

    Target and context vector share the task, and the target contains w.x~, so i = j matters: the diagonal of
    the D block carries the field's ferromagnetic mean.
    """
    representatives: dict[str, tuple[str, Spin]] = {
        "diagonal": ("h_ii", (1, 1)),
        "off-diagonal": ("h_ij, i != j", (1, 2)),
        "last row": ("h_(D+1)j", (CORNER, 1)),
    }
    return tuple(
        _prompt_average_block(name, text, field_moment(spin, 1, factor), field_moment(spin, 2, factor))
        for name, (text, spin) in representatives.items()
    )


_CONTEXT_PAIRS: dict[str, tuple[str, ContextIndex, ContextIndex]] = {
    "same context": ("i = k", 1, 1),
    "different context": ("i != k", 1, 2),
    "context and corner": ("k = D + 1", 1, CORNER),
    "corner": ("i = k = D + 1", CORNER, CORNER),
}
_QUERY_PAIRS: dict[str, tuple[str, int, int]] = {
    "same query": ("j = n", 1, 1),
    "different query": ("j != n", 1, 2),
}


@cache
def coupling_blocks(factor: sp.Expr = sp.S.One) -> tuple[Block, ...]:
    """J_(ij)(kn) = -(1/P) sum_mu s_ij s_kn of two different weights.

    Context vector and query are independent and each is isotropic, so only i against k and j against n
    matter; coincidences across the two sides, such as i = j, do not.
    """
    return tuple(
        _prompt_average_block(
            f"{context}, {query}",
            f"J_(ij)(kn), {context_text}, {query_text}",
            -feature_moment((i, j), (k, n), 1, factor),
            feature_moment((i, j), (k, n), 2, factor),
        )
        for (context, (context_text, i, k)), (query, (query_text, j, n)) in product(
            _CONTEXT_PAIRS.items(), _QUERY_PAIRS.items()
        )
        if (i, j) != (k, n)
    )


@cache
def precision_blocks(factor: sp.Expr = sp.S.One) -> tuple[Block, ...]:
    """lambda_ij - lambda_0 = (1/P) sum_mu s_ij^2: the diagonal of the feature matrix lives here only."""
    representatives: dict[str, tuple[str, Spin]] = {
        "D block": ("lambda_ij - lambda_0", (1, 1)),
        "last row": ("lambda_(D+1)j - lambda_0", (CORNER, 1)),
    }
    return tuple(
        _prompt_average_block(name, text, feature_moment(spin, spin, 1, factor), feature_moment(spin, spin, 2, factor))
        for name, (text, spin) in representatives.items()
    )
