"""Both halves of the theory under a weight prior: the stated equations, the ridge given back, and the scales."""

import pytest
import sympy as sp

from replica_icl.model.priors import laplace
from replica_icl.narration.checks import agree
from replica_icl.symbolic import channel
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average
from replica_icl.symbolic.channel import Potential
from replica_icl.theory.conjugate_fields import CONJUGATE, DIRECTION, LAST_ROW, TOKENS
from replica_icl.theory.fresh_tasks import derive_fresh_tasks
from replica_icl.theory.prompt_fields import at_prompts, fields_of, kept_weights
from replica_icl.theory.weight_priors import SeparablePrior, orders, overlaps

FINITE = at_prompts(derive_fresh_tasks())
LAPLACE = SeparablePrior(laplace.POTENTIAL)


def test_fields_are_the_stated_averages() -> None:
    """A = (P/D) < T |c|^2 s >, h = (P/D) < T c.w/sqrt(D) s >, X = (P/D) < T |c|^2 R s^2 >, and of the last row."""
    T, a, g, corner = s.query_norm, s.context_norm, s.aligned, s.corner
    shrunk, R = FINITE.energetic.shrinkage, FINITE.energetic.covariance.off_diagonal
    stated = {
        TOKENS.stiffness: s.P / s.D * Average(T * a * shrunk, s.SCALARS),
        TOKENS.variance: s.P / s.D * Average(T * a * R * shrunk**2, s.SCALARS),
        TOKENS.pull: s.P / s.D * Average(T * g * shrunk, s.SCALARS),
        LAST_ROW.stiffness: s.P * Average(T * corner**2 * shrunk, s.SCALARS),
        LAST_ROW.variance: s.P * Average(T * corner**2 * R * shrunk**2, s.SCALARS),
    }
    found = fields_of(kept_weights(FINITE).ground_state() + FINITE.energetic.ground_state(), CONJUGATE)
    for field, value in zip(CONJUGATE, found, strict=True):
        assert agree(value, stated[field]), field


def test_overlaps_are_sums_over_the_two_populations_and_the_last_row() -> None:
    """m = < W_ii >, q = < W_ii^2 > + (D - 1) < W_ij^2 > and so on, of one scalar channel."""
    weights = LAPLACE.weights
    tokens, last_row = weights.blocks
    diagonal, others = tokens.populations
    (row,) = last_row.populations

    def mean(name: str, population: object, fields: object) -> sp.Expr:
        return weights.of_weight(name, population, fields)

    stated = {
        s.m: mean("mean", diagonal, TOKENS),
        s.q: mean("square", diagonal, TOKENS) + (s.D - 1) * mean("square", others, TOKENS),
        s.V: mean("response", diagonal, TOKENS) + (s.D - 1) * mean("response", others, TOKENS),
        s.u: s.D * mean("square", row, LAST_ROW),
        s.V_u: s.D * mean("response", row, LAST_ROW),
    }
    found = overlaps(weights)
    assert (diagonal.count, others.count, row.count) == (s.D, s.D * (s.D - 1), s.D)
    for overlap, value in stated.items():
        assert agree(found[overlap], value), overlap


def test_the_ridge_in_a_channel_gives_the_saddle_point_equations_of_the_gaussian_prior() -> None:
    """m, q, V, u, V_u from the fields put back into the fields' equations: today's saddle point, term by term."""
    found = overlaps(kept_weights(FINITE))
    A, X, h = TOKENS.symbols
    B = A + s.P * s.ridge
    assert sp.simplify(found[s.m] - h / B) == 0
    assert sp.simplify(found[s.q] - (h**2 + s.D * X) / B**2) == 0
    assert sp.simplify(found[s.V] - s.D / B) == 0
    equations = FINITE.saddle.equations
    A_value, X_value, h_value, *_ = fields_of(
        kept_weights(FINITE).ground_state() + FINITE.energetic.ground_state(), CONJUGATE
    )
    cold = {s.beta: s.P}
    assert agree(equations[s.m].subs(cold) / s.D, h_value - s.D * s.m / s.V)
    assert agree(2 * equations[s.q].subs(cold) / s.D, s.D / s.V - s.P * s.ridge - A_value)
    difference = 2 * (equations[s.V] - equations[s.q]).subs(cold) / s.D
    assert agree(difference, X_value - s.D * (s.q - s.m**2) / s.V**2)


def test_an_absolute_value_acts_at_two_scales_and_a_square_at_one() -> None:
    l1, l2, width = sp.symbols("l1 l2 width", positive=True)
    assert orders(Potential.of(l1 * channel.weight)) == {l1: (sp.Rational(3, 2), 1)}
    assert orders(Potential.of(l1 * channel.weight + l2 * channel.weight**2)) == {
        l1: (sp.Rational(3, 2), 1),
        l2: (1, 1),
    }
    with pytest.raises(ValueError, match=r"the thermodynamic scale of (l1|width) cannot be read off"):
        orders(Potential.of(l1 * channel.weight**2 / (channel.weight + width)))


def test_finite_size_tends_to_the_limit() -> None:
    """At fields of order D and penalties at their scales, by numbers at D = 10^10; off-diagonal penalty alone."""
    D = sp.Integer(10) ** 10
    values = {s.alpha: sp.Rational(3, 2), s.lam: sp.Rational(1, 5), laplace.l1: sp.Rational(2, 5)}
    fields = {TOKENS.stiffness: sp.Rational(4, 3), TOKENS.variance: sp.Rational(3, 7), TOKENS.pull: sp.Rational(6, 5)}
    raw = {x: D * value for x, value in fields.items()} | {s.D: D, s.P: values[s.alpha] * D**2}
    raw |= {s.ridge: values[s.lam] / D, laplace.l1: values[laplace.l1] / D ** sp.Rational(3, 2)}
    raw |= {LAST_ROW.stiffness: D**2, LAST_ROW.variance: D**2}
    finite = overlaps(LAPLACE.weights)
    order, curvature = LAPLACE.limit
    (on_diagonal,) = order[s.m].free_symbols - {*fields, *values}
    at = {**fields, **values, on_diagonal: values[laplace.l1] / sp.sqrt(D)}
    m = order[s.m].subs(at)
    for overlap in (s.m, s.q, s.V):
        limit = order[overlap].subs(s.m, m).subs(at)
        assert abs(sp.N(finite[overlap].subs(raw) / limit - 1, 30)) < 1e-8, overlap
    of_tokens, _ = LAPLACE.weights.curvature(DIRECTION)
    assert abs(sp.N(of_tokens.subs(raw) / D**2 / curvature.subs(at) - 1, 30)) < 1e-8
