"""Fresh tasks: every pre-training prompt has a task of its own, w ~ N(0, I_D) (Li et al., arXiv:2408.02288).

This file states the ensemble, i.e. its weight blocks, order parameters and residuals, and hands them to the replica
machinery. The average over a prompt's scalars (T, omega, c.w/sqrt(D), |c|^2, l) stays unevaluated: which law they
follow is decided when the expressions are lowered (exact prompt law) or concentrated (thermodynamic limit).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import sympy as sp

from replica_icl.lowering.source import Axis, Matrix, Program, Vector
from replica_icl.model.attention.merged import Attention, ResidualCovariance, linear_attention, residual_covariance
from replica_icl.model.losses.squared import SquaredLoss
from replica_icl.model.priors.ridge import GaussianPrior
from replica_icl.model.prompts import gaussian as prompt_law
from replica_icl.model.prompts import gaussian_context as prompt_law_by_context
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.action import WeightBlock
from replica_icl.symbolic.averages import Average, expand_averages
from replica_icl.symbolic.moments import scalar_moment
from replica_icl.symbolic.next_order import Meetings, NextOrder, next_order
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric
from replica_icl.symbolic.saddle import SaddlePoint
from replica_icl.symbolic.stability import replicon_matrix, smallest_eigenvalue

ORDER_PARAMETERS = (s.m, s.q, s.V, s.u, s.V_u)
ORDER = Axis("ORDER_PARAMETERS", tuple(x.name for x in ORDER_PARAMETERS))
BLOCKS = Axis("BLOCKS", ("tokens", "last_row"))
"""The D^2 weights on tokens and the D of the last row, whose fluctuations are V and V_u."""
SIDES = Axis("SIDES", ("left", "size"))
"""What is left of an equation, and the sum of the sizes of its terms."""


def product_meetings() -> Meetings:
    """How directions of c (outer) x~ meet beyond what Gaussian vectors would, exactly in D.

    A unit vector's (c.c')^2 has eigenvalues 1/D on constants and 2 / (D (D + 2)) on the (D - 1) (D + 2) / 2 harmonics
    of second degree. Contexts and queries each have them, the last entry of a context is one number. So (s . s')^4 has
    3 x 3 pairings in place of 3 where both blocks are tokens, and 1 x 3 of last rows; and three prompts that meet
    pairwise twice have a relative 8/D more. Four meet like Gaussian vectors, but for a relative 1/D^2. Counted from
    moments by `narration.fresh_tasks_next_order`.
    """
    sphere = 1 + 2 / s.D
    tokens, mixed, corner = 9 / sphere**2 - 3, 9 / sphere - 3, 3 / sphere - 3

    def thrice(X: sp.Matrix) -> sp.Expr:
        harmonics = (s.D - 1) * (s.D + 2) / 2 * (2 / (s.D + 2)) ** 3
        one_each = sp.sqrt(X[0, 1] * X[1, 0] / s.D)  # c.c' l l', an average as small as tokens and last row together
        contexts = (X**3).trace() + s.D * (2 * one_each) ** 3 + harmonics * X[0, 0] ** 3
        return contexts * (1 + harmonics) - (X**3).trace()

    return Meetings(sp.Matrix([[tokens, mixed], [mixed, corner]]), thrice)


@dataclass(frozen=True)
class FreshTasks:
    """The theory of fresh tasks at finite D, N, P, with the prompt average unevaluated.

    Attributes:
        covariance: residual covariance of two replicas, from the forward pass.
        entropic: weights and ridge; blocks: the D^2 weights on tokens (m, q, V) and the D of the last row (u, V_u).
        energetic: prompts and squared loss.
    """

    covariance: ResidualCovariance
    entropic: GaussianPrior
    energetic: SquaredLoss

    @property
    def free_entropy(self) -> sp.Expr:
        """log Z over the D^2 + D acting weights, to be extremised over the order parameters."""
        return self.entropic.free_entropy() + self.energetic.free_entropy()

    @property
    def saddle(self) -> SaddlePoint:
        return SaddlePoint(self.free_entropy, ORDER_PARAMETERS)

    @property
    def observables(self) -> dict[str, sp.Expr]:
        """Observables at the saddle, each from a source field or a derivative of the same free energy.

        e_icl, train_error: squared residual of the mean weights (two different replicas), on new and on training
        prompts. e_gibbs, train_gibbs: the same for one Gibbs sample (a replica with itself). weight_norm: |W|^2 of
        the mean weights. contrast: tr W / (|W| sqrt(D + 1)) over the full matrix (Li et al., Fig. 4a).
        """
        test, training = self.energetic.source(), self.energetic.tilted_residuals()
        norm = sum((b.scale * b.overlap.off_diagonal for b in self.entropic.blocks), sp.S.Zero)
        return {
            "e_icl": Average(test.off_diagonal, s.SCALARS),
            "train_error": Average(training.off_diagonal, s.SCALARS),
            "e_gibbs": Average(test.diagonal, s.SCALARS),
            "train_gibbs": Average(training.diagonal, s.SCALARS),
            "weight_norm": norm,
            "contrast": s.D * s.m / sp.sqrt((s.D + 1) * norm),
        }

    @property
    def replicon(self) -> sp.Matrix:
        """Stability matrix I - X over the two weight blocks; stable while its eigenvalues are positive."""
        return replicon_matrix(self.entropic, self.energetic)

    @property
    def linear_rule(self) -> sp.Expr:
        """The multiple of the identity that the prompts ask for: c.w regressed on |c|^2, as the fluctuations weigh it.

        W minus this rule is what fluctuations of the overlaps see. With it, those of m and of Q are independent.
        """
        pull, norm = -self.covariance.overlap, self.covariance.self_overlap
        weight = norm * (self.energetic.shrinkage / self.energetic.identity) ** 2
        return Average(pull * weight, s.SCALARS) / Average(norm * weight, s.SCALARS)

    @property
    def next_order(self) -> NextOrder:
        """What fluctuations around the saddle point add to the free entropy, of relative order 1/D^2."""
        return next_order(self.entropic, self.energetic, self.linear_rule, product_meetings())


def derive_fresh_tasks(covariance: ResidualCovariance | None = None) -> FreshTasks:
    """Derive the theory of fresh tasks.

    Args:
        covariance: residual covariance of the forward pass; by default the one of linear attention.
    """
    covariance = covariance or residual_covariance()
    tokens = ReplicaSymmetric(s.q + s.V, s.q)
    last_row = ReplicaSymmetric(s.u + s.V_u, s.u)
    residuals = ReplicaSymmetric(
        covariance.entry(s.m, s.m, tokens.diagonal, last_row.diagonal),
        covariance.entry(s.m, s.m, tokens.off_diagonal, last_row.off_diagonal),
    )
    return FreshTasks(
        covariance=covariance,
        entropic=GaussianPrior(
            (
                WeightBlock("tokens", s.D**2, s.D, tokens, s.m),
                WeightBlock("last_row", s.D, sp.S.One, last_row, sp.S.Zero),
            )
        ),
        energetic=SquaredLoss(residuals),
    )


unit = sp.Symbol("c", nonnegative=True)
field, last_row_field = sp.symbols("field field_u", nonnegative=True)
"""m, q and u do not depend on beta and V is proportional to 1/beta, so the saddle is solved at the beta = P/c that
suits it, where a block's ridge is c times its field: c = 1 in general, and c -> 0 at field = 1 for the minimum-norm
ground state, whose V diverges in other units.
"""
last_row_ridge = sp.Symbol("lambda_u", nonnegative=True)
"""Ridge of the last row, where it is not lambda_0."""


def with_ridges(theory: FreshTasks, *ridges: sp.Expr) -> FreshTasks:
    """The same theory with a ridge of its own for each weight block."""
    return replace(theory, entropic=replace(theory.entropic, ridges=ridges))


def in_response_units(theory: FreshTasks) -> FreshTasks:
    """The same theory at beta = P / c, written so that c = 0 is regular."""
    theory = with_ridges(theory, field, last_row_field)
    return replace(
        theory,
        entropic=replace(theory.entropic, inverse_temperature=s.P),
        energetic=replace(theory.energetic, inverse_scale=sp.S.One, identity=unit),
    )


def _terms(expression: sp.Expr) -> tuple[sp.Expr, ...]:
    return sp.Add.make_args(expand_averages(expression))


def balance(terms: Iterable[sp.Expr]) -> tuple[sp.Expr, sp.Expr]:
    """What is left of an equation, and the sum of the sizes of its terms: along SIDES."""
    terms = tuple(terms)
    return sp.Add(*terms, evaluate=False), sp.Add(*(sp.Abs(term) for term in terms), evaluate=False)


def programs(attention: Attention | None = None) -> tuple[Program, ...]:
    """The functions that the finite-size solver runs: averages over the prompt law stay open."""
    theory = derive_fresh_tasks((attention or linear_attention()).covariance)
    response = in_response_units(theory)
    equations = response.saddle.equations
    sizes = (s.D, s.P, unit, field, last_row_field)
    blocks = theory.entropic.blocks
    # (self-overlap, its fluctuation, weights per 2/V) of each block; d/dq and d/du hold V and V_u alone.
    pairs = ((s.q, s.V, blocks[0].count), (s.u, s.V_u, blocks[1].count))

    balances = [expand_averages(2 * x / count * equations[y]) for y, x, count in pairs]
    widths = [x for _, x, _ in pairs]
    fluctuations = Program(
        name="fluctuations",
        summary="Saddle-point equations d/dq and d/du in units of their entropic part, and their logarithmic Jacobian.",
        arguments=(s.V, s.V_u, *sizes),
        outputs={
            "left": Vector.of(BLOCKS, balances),
            "jacobian": Matrix.of(BLOCKS, BLOCKS, [[expand_averages(y * b.diff(y)) for y in widths] for b in balances]),
        },
    )

    # m from d/dm, linear; q and u from d/dV - d/dq and d/dV_u - d/du, linear in both with the stability matrix.
    at_zero = {s.q: 0, s.u: 0}
    in_m = expand_averages(equations[s.m])
    overlap = -in_m.subs(s.m, 0) / in_m.diff(s.m)
    linear = [expand_averages(-2 * x**2 / count * (equations[x] - equations[y])) for y, x, count in pairs]
    matrix = [[equation.diff(y) for y in (s.q, s.u)] for equation in linear]
    constant = [-equation.subs(at_zero) for equation in linear]
    a11, a12, a21, a22, b1, b2 = sp.symbols("A11 A12 A21 A22 B1 B2", real=True)
    order = sp.Matrix([[a11, a12], [a21, a22]]).LUsolve(sp.Matrix([b1, b2]))
    order_parameters = Program(
        name="order_parameters",
        summary="m, q, u at given V, V_u, and observables of the mean weights.",
        arguments=(s.V, s.V_u, *sizes, s.noise),
        definitions=(
            (s.m, overlap),
            *zip((a11, a12, a21, a22), (x for row in matrix for x in row), strict=True),
            *zip((b1, b2), constant, strict=True),
            (s.q, sp.factor(order[0])),
            (s.u, sp.factor(order[1])),
        ),
        outputs={
            "m": s.m,
            "q": s.q,
            "u": s.u,
            **{x: expand_averages(response.observables[x]) for x in ("e_icl", "train_error", "contrast")},
            "replicon": smallest_eigenvalue(response.replicon),
        },
    )
    stationarity = Program(
        name="stationarity",
        summary="Per order parameter: what is left of its saddle-point equation, and the sum of the terms' sizes.",
        arguments=(*ORDER_PARAMETERS, *sizes, s.noise),
        outputs={"balances": Matrix.of(ORDER, SIDES, [balance(_terms(equation)) for equation in equations.values()])},
    )
    warm = {s.inverse_scale: s.beta / s.P}
    theory = with_ridges(theory, s.ridge, last_row_ridge)
    thermal = Program(
        name="thermal",
        summary="Observables of a Gibbs sample at inverse temperature beta, and log Z over the acting weights.",
        arguments=(*ORDER_PARAMETERS, s.D, s.P, s.ridge, last_row_ridge, s.noise, s.beta),
        outputs={
            **{name: theory.observables[name].subs(warm) for name in ("e_gibbs", "train_gibbs")},
            "log_Z": (log_partition := theory.free_entropy.subs(warm)),
            "entropy": log_partition - s.beta * log_partition.diff(s.beta),
        },
    )
    test_error = theory.observables["e_icl"]
    transfer = Program(
        name="transfer",
        summary="e_icl of given overlaps on prompts of another context length N and noise rho, from exact moments.",
        arguments=(s.m, s.q, s.u, s.D, s.N, s.noise),
        outputs={"e_icl": expand_averages(test_error).replace(lambda e: isinstance(e, Average), _exact_mean)},
    )
    return (
        *prompt_law.programs(),
        *prompt_law_by_context.programs(),
        fluctuations,
        order_parameters,
        stationarity,
        thermal,
        transfer,
    )


def _exact_mean(average: Average) -> sp.Expr:
    """The average of a product of scalars, by Wick's theorem."""
    powers = average.integrand.as_powers_dict()
    return scalar_moment(*(scalar for scalar, power in powers.items() for _ in range(int(power))))
