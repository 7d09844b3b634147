"""The next order at given tasks, a relative 1/D: what it asks of one prompt.

With A = D sum_mu T^2 s^2 f f^T over prompts and modes (V^-1 moves by -P F_i, tr(F_j V) answers: X = A g with the gram
matrix g_ij = tr(F_i V F_j V)), the log Z of the replicas' thermal fluctuations gains

    -(1/4) [log det(1 - X) + tr X]      overlaps fluctuate, one mode per task; the trace is in the law of the norms,
    -(D/4) sum_k n_k tr(B_k V B_k V)    a prompt meets n_k - 1 others of its task, not n_k: B_k = < T s c~ c~^T >,
    +(1/4) sum_mu s^2 Var(chi)          the form chi = T D c~.V c~ scatters over the directions of c across the task,
    +(1/8) sum_(mu nu) (pairings)       two prompts that meet twice, with directions across the tasks (`PAIRINGS`).

The first three are of relative order 1/D where K is of order D, the last of order 1/D^2. As n -> 0 the part that the
replicas share follows by a derivative along v -> v + epsilon g, m, omega, rho: what the mean weights leave of a
residual. Checked against fresh tasks, which P tasks used once are, and against simulation (tests and derivations/08).
"""

from __future__ import annotations

from itertools import combinations_with_replacement

import sympy as sp

from replica_icl.lowering.source import Axis, Program, Vector, VectorArgument
from replica_icl.model.attention.merged import Attention
from replica_icl.model.losses.squared import SquaredLoss
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric
from replica_icl.theory.task_contexts import PARTS, PULLS, SCALARS, mean_form, variance_form

fluctuations = sp.symbols(" ".join(f"v_{x}" for x in PARTS.things), real=True)
"""tr(F V) of the parts."""
overlaps = sp.symbols(" ".join(f"g_{x}" for x in PARTS.things), real=True)
"""tr(F G) of the parts, G = M M^T / D + C."""
means = sp.symbols(" ".join(f"m_{x}" for x in PULLS.things), real=True)
"""u^T M w / sqrt(D) and e^T M w / sqrt(D)."""

_own = sp.symbols("mu_task mu_corner target residue", real=True)
"""What the thermal fluctuations would have in the place of m, omega and rho; zero."""
_chi = sp.Symbol("chi", positive=True)

_PAIRS = tuple(combinations_with_replacement(PARTS.things, 2))
AVERAGES = Axis(
    "AVERAGES",
    (
        *(f"response_{part}" for part in PARTS.things),
        *(f"pull_{pull}" for pull in PULLS.things),
        *(f"curvature_{first}_{second}" for first, second in _PAIRS),
        *(f"pull_{pull}_{part}" for pull in PULLS.things for part in PARTS.things),
        *(f"scatter_{part}" for part in PARTS.things),
        *(f"scatter_pull_{pull}" for pull in PULLS.things),
    ),
)
"""Averages over the prompts of a task that the next order is made of. response: of B. pull: of B between (c, l) and the
task's row. curvature, pull_pull_part: of A. scatter: what multiplies the parts of `variance_form` at V = S."""


def _terms(attention: Attention | None) -> tuple[sp.Expr, list[tuple[sp.Expr, sp.Expr]]]:
    """T D c^.S c^ + residue, and each of AVERAGES as (a function of chi, a factor that does not depend on S)."""
    form, variance = mean_form(attention), variance_form(attention)
    b, T = s.inverse_scale, s.query_norm
    pulls, (target, residue) = _own[:2], _own[2:]
    quadratic = sum((f * v for f, v in zip(form.parts, fluctuations, strict=True)), sp.S.Zero)
    linear = sum((f * v for f, v in zip(form.pulls, pulls, strict=True)), sp.S.Zero)
    chi = T * (s.D * quadratic + linear + form.target * target) + residue
    # One replica's log < exp(-b r^2 / 2) >, its slope and its curvature.
    thermal = SquaredLoss(ReplicaSymmetric(_chi, sp.S.Zero), inverse_scale=b).log_weight()
    slope, curvature = thermal.diff(_chi), thermal.diff(_chi, 2)
    f = dict(zip(PARTS.things, form.parts, strict=True))
    z = {name: x / (2 * form.target) for name, x in zip(PULLS.things, form.pulls, strict=True)}
    scatter = curvature / 2
    found = [(-2 * slope, T * x) for x in f.values()]
    found += [(2 * slope, T * x) for x in z.values()]
    found += [(2 * curvature, s.D * T**2 * f[first] * f[second]) for first, second in _PAIRS]
    found += [(-2 * curvature, s.D * T**2 * pull * part) for pull in z.values() for part in f.values()]
    found += [(scatter, (T * s.D) ** 2 * x) for x in variance.parts]
    found += [(scatter, T**2 * s.D * x) for x in variance.pulls]
    return chi, found


def _shared(expression: sp.Expr) -> sp.Expr:
    """Derivative along what the replicas share, where the thermal fluctuations have no m, omega and rho."""
    own = (*fluctuations, *_own)
    others = (*overlaps, *means, s.task_norm, s.noise)
    moved = sum((expression.diff(x) * y for x, y in zip(own, others, strict=True)), sp.S.Zero)
    return moved.subs(dict.fromkeys(_own, 0))


def programs(attention: Attention | None = None) -> tuple[Program, ...]:
    """The averages, and the slopes of a sum of them with given weights."""
    chi, terms = _terms(attention)
    v, g = VectorArgument("v", PARTS, fluctuations), VectorArgument("g", PARTS, overlaps)
    given = (v, g, VectorArgument("m", PULLS, means), s.task_norm, s.D, s.noise)
    at_one = {s.inverse_scale: 1}
    at_zero = at_one | dict.fromkeys(_own, 0)
    integrands = [kernel.subs(_chi, chi) * factor for kernel, factor in terms]
    local = Program(
        name="fluctuations",
        summary="The averages that the next order is made of: own, of one replica; shared, along what replicas share.",
        arguments=given,
        outputs={
            "own": Vector.of(AVERAGES, [Average(x.subs(at_zero), SCALARS) for x in integrands]),
            "shared": Vector.of(AVERAGES, [Average(_shared(x).subs(at_one), SCALARS) for x in integrands]),
        },
    )
    weights = {
        name: VectorArgument(f"{name}_weights", AVERAGES, sp.symbols(f"{name}_:{len(AVERAGES)}", real=True))
        for name in ("own", "shared")
    }

    def weighted(name: str) -> sp.Expr:
        """The sum of averages times weights, those with the same function of chi together."""
        kernels: dict[sp.Expr, sp.Expr] = {}
        for weight, (kernel, factor) in zip(weights[name].symbols, terms, strict=True):
            number, rest = kernel.as_coeff_Mul()
            kernels[rest] = kernels.get(rest, sp.S.Zero) + number * factor * weight
        return sum((kernel.subs(_chi, chi) * factor for kernel, factor in kernels.items()), sp.S.Zero)

    one, both = weighted("own"), weighted("shared")

    def slopes(symbols: tuple[sp.Symbol, ...], axis: Axis, first: sp.Expr) -> Vector:
        return Vector.of(axis, [Average(first.diff(x).subs(at_zero), SCALARS) for x in symbols])

    by_v = [both.diff(x).subs(at_zero) + _shared(one.diff(x)).subs(at_one) for x in fluctuations]
    by_scale = both.diff(s.inverse_scale).subs(at_zero) + _shared(one.diff(s.inverse_scale)).subs(at_one)
    pulled = Program(
        name="fluctuation_slopes",
        summary="Slopes of sum(own_weights shared + shared_weights own): by g, m and v, and by b.",
        arguments=(*given, *weights.values()),
        outputs={
            "by_g": slopes(fluctuations, PARTS, one),
            "by_m": slopes(_own[:2], PULLS, one),
            "by_v": Vector.of(PARTS, [Average(x, SCALARS) for x in by_v]),
            "by_scale": Average(by_scale, SCALARS),
        },
    )
    return local, pulled
