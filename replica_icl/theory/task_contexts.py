"""What a prompt of a given task says, averaged over the directions that its norms leave open.

A prompt's residual is linear in the weights W (D+1, D), which act between the context c~ = (c, l) and the query, and in
the task. With the task as one more row below W, and the context continued by what multiplies the task, a residual is
-x~.W^T c^ + noise, c^ = (c, l, target), so that the residuals of two replicas have the covariance

    C_ab = T c^.S_ab c^ + rho,    S_ab = W_a W_b^T  of the continued W.

Given the task the part of c across it has a uniform direction. Its average leaves the parts of `mean_form`; how far the
form scatters over it, `variance_form`. Derived from the forward pass, with the moments of a unit vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement

import sympy as sp

from replica_icl.lowering.source import Axis
from replica_icl.model.attention.merged import Attention, linear_attention
from replica_icl.symbolic import symbols as s

along = sp.Symbol("p", real=True)
"""p = c.w / |w|: the context along its task."""
across = sp.Symbol("x", positive=True)
"""x = |c|^2 - p^2, over D - 1 directions."""
SCALARS = (s.query_norm, along, across, s.corner)

PARTS = Axis("PARTS", ("task", "across", "corner", "cross"))
"""How S is read on (c, l): F_task = u u^T, F_across = I_D - u u^T, F_corner = e e^T and F_cross = u e^T + e u^T, with
u = w/|w| and e the last unit vector."""
PULLS = Axis("PULLS", ("task", "corner"))
"""How S is read between (c, l) and the task's row: along u, and along e."""

_ROWS = ("task", "first", "second", "corner", "target")
"""Rows of the continued W at D = 3: along the task, two across it, the corner, the task itself."""


@dataclass(frozen=True)
class Form:
    """A sum over entries of S.

    Attributes:
        parts: coefficients of tr(F S) for PARTS; in a variance those of the scatter that `variance_form` describes.
        pulls: coefficients of u.S_t and e.S_t, S_t the column of the task's row, for PULLS.
        target: coefficient of S_tt.
    """

    parts: tuple[sp.Expr, ...]
    pulls: tuple[sp.Expr, ...]
    target: sp.Expr


def _entry(first: str, second: str) -> sp.Symbol:
    low, high = sorted((first, second), key=_ROWS.index)
    return sp.Symbol(f"S_{low}_{high}", real=True)


def _continued_context(attention: Attention) -> dict[str, sp.Expr]:
    """c^ along the rows of the continued W, at directions h_1 and h_2 across the task.

    Raises:
        ValueError: if the features are no multiple of the context.
    """
    factor = attention.feature_factor
    return {
        "task": factor * along,
        "first": factor * sp.Symbol("h_1", real=True),
        "second": factor * sp.Symbol("h_2", real=True),
        "corner": factor * s.corner,
        "target": sp.S.NegativeOne,
    }


def _over_directions(expression: sp.Expr) -> sp.Expr:
    """Average over h = sqrt(x) times a uniform unit vector of D - 1 entries, two of which are written out."""
    entries = sp.symbols("h_1 h_2", real=True)
    size = s.D - 1
    pairs = {2: across / size, 4: across**2 / (size * (size + 2))}
    total = sp.S.Zero
    for powers, coefficient in sp.Poly(sp.expand(expression), *entries).terms():
        if not any(power % 2 for power in powers):
            pairings = sp.prod([sp.factorial2(power - 1) for power in powers])
            total += coefficient * pairings * pairs.get(sum(powers), sp.S.One)
    return sp.expand(total)


def _form(attention: Attention) -> sp.Expr:
    context = _continued_context(attention)
    return sum(context[a] * context[b] * _entry(a, b) for a in _ROWS for b in _ROWS)


@cache
def mean_form(attention: Attention | None = None) -> Form:
    """c^.S c^ averaged over the directions across the task."""
    mean = _over_directions(_form(attention or linear_attention()))
    parts = {
        "task": mean.coeff(_entry("task", "task")),
        "across": mean.coeff(_entry("first", "first")),
        "corner": mean.coeff(_entry("corner", "corner")),
        "cross": mean.coeff(_entry("task", "corner")) / 2,
    }
    pulls = tuple(mean.coeff(_entry(row, "target")) for row in PULLS.things)
    target = mean.coeff(_entry("target", "target"))
    rebuilt = parts["across"] * (_entry("first", "first") + _entry("second", "second"))
    rebuilt += parts["task"] * _entry("task", "task") + parts["corner"] * _entry("corner", "corner")
    rebuilt += 2 * parts["cross"] * _entry("task", "corner") + target * _entry("target", "target")
    rebuilt += sum(x * _entry(row, "target") for x, row in zip(pulls, PULLS.things, strict=True))
    if sp.expand(mean - rebuilt) != 0:
        raise ValueError("the residuals of this forward pass have other parts than the theory of given tasks")
    return Form(tuple(map(sp.factor, (parts[x] for x in PARTS.things))), pulls, target)


@cache
def variance_form(attention: Attention | None = None) -> Form:
    """Variance of c^.S c^ over the directions across the task.

    With Pi = F_across its parts multiply u.S Pi S u (task), e.S Pi S e (corner), u.S Pi S e (cross) and
    tr(Pi S Pi S) - (tr Pi S)^2 / (D - 1) (across), its pulls u.S Pi S_t and e.S Pi S_t, and its target S_t.Pi S_t.
    """
    form = _form(attention or linear_attention())
    variance = sp.expand(_over_directions(sp.expand(form**2)) - sp.expand(_over_directions(form) ** 2))

    def between(a: str, b: str) -> sp.Expr:
        """Coefficient of a.S Pi S b."""
        return variance.coeff(_entry(a, "first") * _entry(b, "first")) if a != b else variance.coeff(
            _entry(a, "first"), 2
        )  # fmt: skip

    scatter = variance.coeff(_entry("first", "second"), 2) / 2
    own, other = _entry("first", "first"), _entry("second", "second")
    square = own**2 + other**2 + 2 * _entry("first", "second") ** 2
    rebuilt = scatter * (square - (own + other) ** 2 / (s.D - 1))
    for a, b in combinations_with_replacement(("task", "corner", "target"), 2):
        products = sum(_entry(a, h) * _entry(b, h) for h in ("first", "second"))
        rebuilt += between(a, b) * products
    if sp.simplify(sp.expand(variance - rebuilt)) != 0:
        raise ValueError("the form scatters in another way than the theory of given tasks")
    parts = {"task": between("task", "task"), "corner": between("corner", "corner")}
    parts |= {"cross": between("task", "corner"), "across": scatter}
    return Form(
        tuple(sp.factor(parts[x]) for x in PARTS.things),
        tuple(sp.factor(between(row, "target")) for row in PULLS.things),
        sp.factor(between("target", "target")),
    )
