"""A given set of K tasks at finite D, N, P: what one prompt of one task contributes.

Given the (K, D) task matrix the order parameters are matrices on the context side: V (D+1, D+1), the thermal covariance
of each of W's D columns, C the covariance of their means over prompts, and M the mean of W. A prompt of task w enters
through five numbers: T, its context's part p along w/|w|, the squared part x orthogonal to it, its corner l, and |w|.
With the orthogonal part isotropic given its norm, its residuals' covariance is that of `covariance` below, and its term
of the free entropy is the squared loss of the replica machinery. The coefficients with which prompts of a task enter
the matrix equations are derivatives of that term; how they are put together is told in `numeric.given_tasks`.
"""

from __future__ import annotations

import sympy as sp

from replica_icl.lowering.source import Axis, Matrix, Program, Vector, VectorArgument
from replica_icl.model.attention.merged import Attention
from replica_icl.model.losses.squared import SquaredLoss
from replica_icl.model.prompts.gaussian import fresh_task_prompts
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric, per_replica

along = sp.Symbol("p", real=True)
"""p = c.w / |w|: the context along its task."""
across = sp.Symbol("x", positive=True)
"""x = |c|^2 - p^2, over D - 1 directions."""
SCALARS = (s.query_norm, along, across, s.corner)

PARTS = Axis("PARTS", ("task", "rest", "corner", "cross"))
"""How a quadratic form in (c, l) is read: c c^T along the task, c c^T in all directions, l^2, and l times c along the
task. With F_task = u u^T, F_rest = I_D, F_corner = e e^T and F_cross = u e^T + e u^T (u = w/|w|, e the last unit
vector), < (c, l) (c, l)^T > is a combination of the F with the coefficients of `coefficients`."""

PULLS = Axis("PULLS", ("task", "corner"))
"""What pulls the mean of W: the context along the task, and the corner."""

fluctuations = sp.symbols("v_task v_rest v_corner v_cross", real=True)
"""tr(F V) of the four parts."""
overlaps = sp.symbols("g_task g_rest g_corner g_cross", real=True)
"""tr(F G) of the four parts, G = M M^T / D + C."""
mean_task, mean_corner = sp.symbols("m_task m_corner", real=True)
"""u^T M w / sqrt(D) and e^T M w / sqrt(D)."""


linear = sp.symbols("vv_task vv_corner vv_cross vg_task vg_corner vg_cross vm_task vm_corner", real=True)
"""Products across the task, Pi = I - u u^T on the tokens: of Pi V u and Pi V e with themselves, with Pi G u and
Pi G e (cross: u with e, both ways), and with Pi M w / sqrt(D)."""
quadratic = sp.symbols("vv_rest vg_rest", real=True)
"""tr(Pi V Pi V) - (tr Pi V)^2 / (D - 1), and the same with one G: zero for isotropic V."""


def spread() -> sp.Expr:
    """What the spread of c~^T V c~ over the directions of the orthogonal part of c adds to a prompt's -R s / 2.

    That part is sqrt(x) times a uniform unit vector of D - 1 components. To second order, with its exact moments:
    half the second derivatives of -R s / 2 times the variance of T D c~^T V c~ and its covariance with R.
    """
    vv_task, vv_corner, vv_cross, vg_task, vg_corner, vg_cross, vm_task, vm_corner = linear
    per_direction, on_sphere = across / (s.D - 1), (s.D - 1) / (s.D + 1)
    squares = 2 * per_direction**2 * on_sphere
    variance = 4 * per_direction * (along**2 * vv_task + 2 * along * s.corner * vv_cross + s.corner**2 * vv_corner)
    variance = (s.query_norm * s.D) ** 2 * (variance + squares * quadratic[0])
    shared = along**2 * vg_task + along * s.corner * vg_cross + s.corner**2 * vg_corner
    pull = along * vm_task + s.corner * vm_corner
    covariance_with_R = (
        s.query_norm**2 * s.D * (4 * per_direction * (s.D * shared - pull) + squares * s.D * quadratic[1])
    )
    chi, R = sp.symbols("chi R", positive=True)
    ground = -R / (1 + chi) / 2
    value = ground.diff(chi, 2) / 2 * variance + ground.diff(chi, R) * covariance_with_R
    one = loss()
    return Average(value.subs({chi: one.fluctuation, R: one.covariance.off_diagonal}), SCALARS)


def coefficients() -> tuple[sp.Expr, ...]:
    """Of u u^T, I_D, e e^T and u e^T + e u^T in (c, l)(c, l)^T, averaged over the directions orthogonal to the task."""
    per_direction = across / (s.D - 1)
    return along**2 - per_direction, per_direction, s.corner**2, along * s.corner


def covariance() -> ReplicaSymmetric:
    """Residual covariance of a prompt: C_aa - C_ab = T D tr(V F), C_ab = R."""
    parts = coefficients()
    chi = s.query_norm * s.D * sum((x * v for x, v in zip(parts, fluctuations, strict=True)), sp.S.Zero)
    shared = s.D * sum((x * g for x, g in zip(parts, overlaps, strict=True)), sp.S.Zero)
    pull = along * mean_task + s.corner * mean_corner
    residual = s.noise + s.query_norm * (s.task_norm - 2 * pull + shared)
    return ReplicaSymmetric(chi + residual, residual)


def loss() -> SquaredLoss:
    """One prompt's term, at beta = P (b = 1): V is proportional to 1/beta and nothing else depends on it."""
    return SquaredLoss(covariance(), prompts=sp.S.One, inverse_scale=sp.S.One)


def free_entropy() -> sp.Expr:
    """One prompt's term of log Z, averaged over prompts of its task."""
    one = loss()
    chi, shared = sp.symbols("chi R", positive=True)
    plain = ReplicaSymmetric(1 + chi + shared, shared).log_determinant(s.replicas) / -2
    value = per_replica(plain, s.replicas).subs({chi: one.fluctuation, shared: one.covariance.off_diagonal})
    return Average(value, SCALARS)


def programs(attention: Attention | None = None) -> tuple[Program, ...]:
    """Averages over the prompts of a task, as derivatives of its term; the law of a prompt given its task."""
    term = free_entropy()
    law = fresh_task_prompts()
    p = sp.expand(law.scalars[s.aligned] / sp.sqrt(s.task_norm))
    scalars = Program(
        name="scalars",
        summary="The scalars of a prompt at given factors and task norm.",
        arguments=(*law.chi_squares, *law.gaussians, s.D, s.N, s.noise),
        outputs={
            "T": law.scalars[s.query_norm],
            "p": p,
            "x": sp.expand(law.scalars[s.context_norm] - p**2),
            "l": law.scalars[s.corner],
        },
    )
    v, g, m = (
        VectorArgument(name, axis, symbols)
        for name, axis, symbols in (
            ("v", PARTS, fluctuations),
            ("g", PARTS, overlaps),
            ("m", PULLS, (mean_task, mean_corner)),
        )
    )
    # d/dg: what V is made of. -2/D d/dg_i = < T (coefficient i) s >; its derivatives in v are those of V's equation.
    response = [-2 / s.D * term.diff(x) for x in overlaps]
    averages = Program(
        name="averages",
        summary="a: < T f s > per part f, and its slopes in v; b: what pulls M.",
        arguments=(v, s.D),
        outputs={
            "a": Vector.of(PARTS, response),
            "slopes": Matrix.of(PARTS, PARTS, [[value.diff(x) for x in fluctuations] for value in response]),
            "b": Vector.of(PULLS, [term.diff(mean_task), term.diff(mean_corner)]),
        },
    )
    # d/dv: -2/D d/dv_i = a_i - < T R (coefficient i) s^2 >.
    tilted = [
        2 / s.D * term.diff(own) - 2 / s.D * term.diff(shared)
        for own, shared in zip(fluctuations, overlaps, strict=True)
    ]
    one = loss()
    residuals = Program(
        name="residuals",
        summary="c: < T R f s^2 > per part f; squared residuals on new and on training prompts; the term of log Z.",
        arguments=(v, g, m, s.task_norm, s.D, s.noise),
        outputs={
            "c": Vector.of(PARTS, tilted),
            "error": Average(one.covariance.off_diagonal, SCALARS),
            "training": Average(one.covariance.off_diagonal * one.shrinkage**2, SCALARS),
            "free_entropy": term,
        },
    )
    beyond = Program(
        name="spread",
        summary="Second-order term of the ground state's free energy from the spread of c~^T V c~, per task.",
        arguments=(v, g, m, s.task_norm, s.D, s.noise, *linear, *quadratic),
        outputs={"spread": spread()},
    )
    moments = Program(
        name="moments",
        summary="Means over the prompts of a task: p, l and the parts of (c, l)(c, l)^T.",
        arguments=(s.D,),
        outputs={
            "p": Average(along, SCALARS),
            "l": Average(s.corner, SCALARS),
            "f": Vector.of(PARTS, [Average(x, SCALARS) for x in coefficients()]),
        },
    )
    return scalars, averages, residuals, beyond, moments
