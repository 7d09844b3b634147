"""Gaussian averages of tensor polynomials with symbolic dimensions: the theorem of Isserlis and Wick.

A monomial is a product of entries of Gaussian tensors, such as x[i,a] x[i,b] w[a] w[b]. An index that is a
string is summed over its whole dimension, an index that is an integer is a fixed label, and different
integers are different values. The average is a sum over the pairings of like factors. A pairing identifies
the indices of the two factors slot by slot, so every set of identified indices ends as one of three things:
a free loop, worth its dimension; a set with one label, worth 1; a set with two different labels, worth 0.

The pairings are summed by recursion: pair the first factor with each like factor, identify, go on with what
remains. Monomials that differ in the names of their summed indices only are computed once, which is what
keeps the (2k - 1)!! pairings per tensor affordable (l^4, with 8 w and 8 x, has 11025 of them).

Source: L. Isserlis, Biometrika 12, 134 (1918); G. C. Wick, Phys. Rev. 80, 268 (1950).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import sympy as sp
from sympy.polys.rings import PolyElement, PolyRing

Index = str | int
"""A name: summed over. An integer: a fixed label."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of independent centred Gaussian entries.

    Attributes:
        name: unique among the tensors of an expression; tensors of different names are independent.
        shape: one dimension symbol per index; () for a single Gaussian number, written `tensor[()]`.
        variance: of every entry.
    """

    name: str
    shape: tuple[sp.Symbol, ...]
    variance: sp.Expr = sp.S.One

    def __getitem__(self, indices: Index | tuple[Index, ...]) -> TensorPolynomial:
        indices = indices if isinstance(indices, tuple) else (indices,)
        if len(indices) != len(self.shape):
            raise ValueError(f"{self.name} has {len(self.shape)} indices, not {len(indices)}: {indices}")
        return TensorPolynomial(((sp.S.One, ((self, indices),)),))


Factor = tuple[Tensor, tuple[Index, ...]]
Monomial = tuple[Factor, ...]


@dataclass(frozen=True)
class TensorPolynomial:
    """A sum of coefficient times monomial; it can be added, multiplied and scaled by SymPy expressions.

    Equal names within a term are one summed index, also across a product: w["a"] * w["a"] times itself is the
    sum of w_a^4. Powers of a sum over indices are therefore built from copies with names of their own.
    """

    terms: tuple[tuple[sp.Expr, Monomial], ...]

    @classmethod
    def of(cls, value: Any) -> TensorPolynomial:
        """`value` itself, or the constant polynomial of a number or SymPy expression."""
        return value if isinstance(value, TensorPolynomial) else cls(((sp.sympify(value), ()),))

    def __add__(self, other: Any) -> TensorPolynomial:
        return TensorPolynomial(self.terms + TensorPolynomial.of(other).terms)

    __radd__ = __add__

    def __mul__(self, other: Any) -> TensorPolynomial:
        right = TensorPolynomial.of(other).terms
        return TensorPolynomial(tuple((c * d, f + g) for c, f in self.terms for d, g in right))

    __rmul__ = __mul__

    def __truediv__(self, scale: Any) -> TensorPolynomial:
        return self * (1 / sp.sympify(scale))


def expectation(polynomial: TensorPolynomial) -> sp.Expr:
    """The Gaussian average of a tensor polynomial: exact, a polynomial in dimensions and variances per term.

    Raises:
        ValueError: if one index name is summed over two different dimensions.
    """
    collected: defaultdict[Monomial, sp.Expr] = defaultdict(lambda: sp.S.Zero)
    for coefficient, monomial in polynomial.terms:
        _check_dimensions(monomial)
        collected[_canonical(monomial)] += coefficient
    total = sp.S.Zero
    for monomial, coefficient in collected.items():
        counts = Counter(tensor for tensor, _ in monomial)
        if any(count % 2 for count in counts.values()):
            continue
        variance = prod((tensor.variance ** (count // 2) for tensor, count in counts.items()), start=sp.S.One)
        sizes = sorted({size for tensor in counts for size in tensor.shape}, key=str)
        ring = PolyRing(sizes, sp.ZZ)
        total += coefficient * variance * _pairings(monomial, ring).as_expr()
    return sp.expand(total)


@cache
def _pairings(monomial: Monomial, ring: PolyRing) -> PolyElement:
    """The sum over all pairings at unit variance, a polynomial in the dimensions."""
    if not monomial:
        return ring.one
    (tensor, indices), *others = monomial
    total = ring.zero
    for position, (other, partner) in enumerate(others):
        identified = _identify(indices, partner) if other == tensor else None
        if identified is None:
            continue
        remaining = tuple(
            (left, tuple(identified.get(index, index) for index in its_indices))
            for left, its_indices in others[:position] + others[position + 1 :]
        )
        alive = set(_summed(remaining))
        closed = {(identified[index], size) for index, size in zip(indices, tensor.shape, strict=True)}
        loops = prod((ring(size) for index, size in closed if isinstance(index, str) and index not in alive))
        total += loops * _pairings(_canonical(remaining), ring)
    return total


def _identify(first: tuple[Index, ...], second: tuple[Index, ...]) -> dict[Index, Index] | None:
    """What each index of two paired factors becomes, a label if there is one; None where two labels meet."""
    becomes: dict[Index, Index] = {index: index for index in first + second}
    for left, right in zip(first, second, strict=True):
        kept, dropped = becomes[left], becomes[right]
        if kept == dropped:
            continue
        if isinstance(dropped, int):
            kept, dropped = dropped, kept
        if isinstance(dropped, int):
            return None
        becomes = {index: kept if current == dropped else current for index, current in becomes.items()}
    return becomes


def _summed(monomial: Monomial) -> Iterator[str]:
    return (index for _, indices in monomial for index in indices if isinstance(index, str))


def _check_dimensions(monomial: Monomial) -> None:
    size_of: dict[str, sp.Symbol] = {}
    for tensor, indices in monomial:
        for index, size in zip(indices, tensor.shape, strict=True):
            if isinstance(index, str) and size_of.setdefault(index, size) != size:
                raise ValueError(f"{index} of {tensor.name} is summed over both {size_of[index]} and {size}")


def _canonical(monomial: Monomial) -> Monomial:
    """The monomial with its factors ordered and its summed indices renamed by the part they play.

    Indices are told apart by colour refinement: the colour of an index is the set of slots where it stands,
    with the colours beside it. Indices left with equal colours are named in the order met; two names for one
    monomial cost a second computation and no more.
    """
    colour: dict[Index, int] = dict.fromkeys(_summed(monomial), 0)

    def described(factor: Factor) -> tuple[str, tuple[tuple[bool, int], ...]]:
        tensor, indices = factor
        return tensor.name, tuple((True, colour[i]) if isinstance(i, str) else (False, i) for i in indices)

    distinct = 0
    while distinct < len(set(colour.values())):
        distinct = len(set(colour.values()))
        roles: defaultdict[Index, list[tuple[Any, int]]] = defaultdict(list)
        for factor in monomial:
            for slot, index in enumerate(factor[1]):
                if isinstance(index, str):
                    roles[index].append((described(factor), slot))
        role = {index: tuple(sorted(places)) for index, places in roles.items()}
        rank = {places: position for position, places in enumerate(sorted(set(role.values())))}
        colour = {index: rank[places] for index, places in role.items()}

    ordered = sorted(monomial, key=described)
    name = {index: f"_{position}" for position, index in enumerate(dict.fromkeys(_summed(tuple(ordered))))}
    renamed = ((t, tuple(name[i] if isinstance(i, str) else i for i in indices)) for t, indices in ordered)
    return tuple(sorted(renamed, key=lambda factor: (factor[0].name, [str(i) for i in factor[1]])))
