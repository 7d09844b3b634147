"""The scalar channel of a weight prior: what one weight does in the conjugate fields of the overlaps.

    W(g) = argmin_W [ A W^2 / 2 - g W + p r(W) ],    g = h + sqrt(X) z,    z ~ N(0, 1),

with the prior's potential r, which is all that a separable prior states. Its proximal map W(g) is derived branch by
branch from stationarity; averages over z follow in closed form. Those of W, W^2 and dW/dg are derivatives of the
average of the least energy (envelope theorem). The same map is the denoiser of message passing. A is the stiffness, X
the variance and h the mean of the field, p the number of prompts that the energy is an average over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import sympy as sp

from replica_icl.symbolic.normal import NormalDensity, NormalTail, above

weight = sp.Symbol("w", positive=True)
"""|W|, what a potential is written in."""
stiffness = sp.Symbol("A", positive=True)
variance = sp.Symbol("X", positive=True)
pull = sp.Symbol("h", real=True)
price = sp.Symbol("p", positive=True)
"""What one unit of r costs beside the fields: P, or alpha at thermodynamic scales."""
field = sp.Symbol("g", positive=True)
"""g of the positive half, where W >= 0."""


@dataclass(frozen=True)
class Potential:
    """An even convex potential r(W), by its branches on w = |W|.

    Attributes:
        branches: (upper end, r) in order, the last upper end infinite; r in `weight` and penalties.
    """

    branches: tuple[tuple[sp.Expr, sp.Expr], ...]

    @classmethod
    def of(cls, potential: sp.Expr) -> Potential:
        """A potential with one branch."""
        return cls(((sp.oo, sp.sympify(potential)),))

    @property
    def penalties(self) -> tuple[sp.Symbol, ...]:
        """The parameters of r, by name."""
        found = set().union(*(sp.sympify(end).free_symbols | r.free_symbols for end, r in self.branches)) - {weight}
        return tuple(sorted(found, key=lambda x: x.name))

    def plus(self, potential: sp.Expr) -> Potential:
        """The sum with another smooth potential in `weight`."""
        return Potential(tuple((end, r + potential) for end, r in self.branches))


@dataclass(frozen=True)
class Region:
    """An interval of the field g > 0 in which W(g) is given by one expression.

    Attributes:
        lower, upper: of g.
        response: W(g).
        energy: the least energy there, with r(0) = 0.
    """

    lower: sp.Expr
    upper: sp.Expr
    response: sp.Expr
    energy: sp.Expr


@dataclass(frozen=True)
class ScalarChannel:
    """One weight under an even convex potential."""

    potential: Potential

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """Where W moves and where it rests: at zero below p r'(0), and at every later kink while g crosses its jump.

        Raises:
            ValueError: if a branch has no closed-form minimiser, or the potential jumps.
        """
        found: list[Region] = []
        start, reached = sp.S.Zero, sp.S.Zero  # of w, of g
        previous = self.potential.branches[0][1].subs(weight, 0)
        for end, r in self.potential.branches:
            if sp.simplify(r.subs(weight, start) - previous) != 0:
                raise ValueError(f"the potential jumps at {start}")
            moves_from = self._force(r).subs(weight, start)
            if sp.simplify(moves_from - reached) != 0:
                found.append(self._region(reached, moves_from, sp.sympify(start), r))
            moves_to = sp.oo if end == sp.oo else self._force(r).subs(weight, end)
            found.append(self._region(moves_from, moves_to, self._minimiser(r, start), r))
            start, reached, previous = end, moves_to, r.subs(weight, end) if end != sp.oo else sp.oo
        return tuple(found)

    def _force(self, r: sp.Expr) -> sp.Expr:
        """The field that holds W at w."""
        return stiffness * weight + price * r.diff(weight)

    def _minimiser(self, r: sp.Expr, start: sp.Expr) -> sp.Expr:
        try:
            found = sp.solve(self._force(r) - field, weight)
        except NotImplementedError:  # SymPy knows no closed form
            found = []
        edge = self._force(r).subs(weight, start)
        solutions = [x for x in found if sp.simplify(x.subs(field, edge) - start) == 0]
        if len(solutions) != 1:
            raise ValueError(f"no unique closed-form minimiser on the branch {r}")
        return solutions[0]

    def _region(self, lower: sp.Expr, upper: sp.Expr, response: sp.Expr, r: sp.Expr) -> Region:
        zero = self.potential.branches[0][1].subs(weight, 0)
        energy = stiffness * response**2 / 2 - field * response + price * (r.subs(weight, response) - zero)
        return Region(lower, upper, response, sp.factor(energy))

    def proximal(self) -> tuple[sp.Expr, sp.Expr]:
        """W and dW/dg at |g|: the minimiser for g >= 0, of which W is the odd continuation."""
        pieces = [(region.response, field < region.upper) for region in self.regions[:-1]]
        last = self.regions[-1].response
        slopes = [(w.diff(field), where) for w, where in pieces]
        return sp.Piecewise(*pieces, (last, True)), sp.Piecewise(*slopes, (last.diff(field), True))

    def _average(self, values: Sequence[sp.Expr], parity: int = 1) -> sp.Expr:
        """< f > over the regions on both sides of zero, f by its value in each region of g > 0 and its parity."""
        total = sp.S.Zero
        for region, value in zip(self.regions, values, strict=True):
            for sign, mean in ((1, pull), (parity, -pull)):
                total += sign * above(value, field, region.lower, mean, variance)
                total -= sign * above(value, field, region.upper, mean, variance)
        return tidy(_halves_joined(total))

    @cached_property
    def energy(self) -> sp.Expr:
        """< min_W [ A W^2 / 2 - g W + p r(W) ] > over z."""
        return self._average([region.energy for region in self.regions])

    @cached_property
    def mean(self) -> sp.Expr:
        """< W >, which is -d energy / dh."""
        return self._average([region.response for region in self.regions], parity=-1)

    @cached_property
    def square(self) -> sp.Expr:
        """< W^2 >, which is 2 d energy / dA."""
        return self._average([region.response**2 for region in self.regions])

    @cached_property
    def response(self) -> sp.Expr:
        """< dW/dg >, which is -2 d energy / dX."""
        return self._average([region.response.diff(field) for region in self.regions])

    @cached_property
    def squared_response(self) -> sp.Expr:
        """< (dW/dg)^2 >, which stability needs."""
        return self._average([region.response.diff(field) ** 2 for region in self.regions])

    def at(self, name: str, fields: Sequence[sp.Expr]) -> sp.Expr:
        """One of the averages above at given A, X, h, p."""
        given = dict(zip((stiffness, variance, pull, price), fields, strict=True))
        return getattr(self, name).subs(given, simultaneous=True)

    @cached_property
    def least_energy(self) -> type[sp.Function]:
        """`energy` as a function of A, X, h, p that is written out by `doit`, with the derivatives stated above."""
        own = self

        class LeastEnergy(sp.Function):
            nargs = 4
            is_real = True

            def fdiff(self, argindex: int = 1) -> sp.Expr:
                factor, name = {1: (sp.S.Half, "square"), 2: (-sp.S.Half, "response"), 3: (-sp.S.One, "mean")}[argindex]
                return factor * own.at(name, self.args)

            def doit(self, **_: object) -> sp.Expr:
                return own.at("energy", self.args)

        return LeastEnergy


def _halves_joined(expression: sp.Expr) -> sp.Expr:
    """Where a region begins at g = 0, both halves together are the whole line: tail(-t) = 1 - tail(t)."""
    edge = pull / sp.sqrt(variance)
    joined = expression.subs(NormalTail(-edge), 1 - NormalTail(edge))
    return joined.subs(NormalDensity(-edge), NormalDensity(edge))


def tidy(expression: sp.Expr) -> sp.Expr:
    """A sum over tails and densities with factored coefficients."""
    functions = sorted(expression.atoms(NormalTail, NormalDensity), key=str)
    return sp.collect(sp.expand(expression), functions, sp.factor)
