"""Finite task diversity in the thermodynamic limit: K = kappa D Gaussian tasks, each used by many prompts.

What a training prompt's context says depends on the spectrum of the task covariance R_K. Weights that act on
eigendirections of the same eigenvalue r form a class: a share p of the D eigenvalues with order parameters m, q, V of
its own. The ensemble states those classes; for the continuum the sums over classes become averages over the spectral
law (`task_spectrum`). Results are compared with arXiv:2405.11751 by the chapter "task-diversity" and by tests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import sympy as sp

from replica_icl.lowering.source import Axis, Matrix, Program
from replica_icl.model.attention.merged import Attention, linear_attention
from replica_icl.model.losses.squared import SquaredLoss
from replica_icl.model.priors.ridge import GaussianPrior
from replica_icl.model.prompts.gaussian import fresh_task_prompts
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.action import WeightBlock
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric
from replica_icl.symbolic.saddle import SaddlePoint
from replica_icl.symbolic.stability import replicon_matrix
from replica_icl.theory import task_spectrum as spectrum
from replica_icl.theory.fresh_tasks import SIDES, balance, derive_fresh_tasks
from replica_icl.theory.fresh_tasks_limit import (
    FreshTasksLimit,
    derive_fresh_tasks_limit,
    effective_ridge,
    excess,
    shrinkage,
)

CLASSES = 2
"""Classes that are written out; with two, what a class feels of itself is told from what it feels of the others."""

thermal_part = sp.Symbol("chi", positive=True)
"""chi = C_aa - C_ab, the thermal variance of a residual on a training prompt."""
task_error = sp.Symbol("e", positive=True)
"""e = C_ab = e_idg, the squared residual of the mean weights on a new prompt with a training task."""


@dataclass(frozen=True)
class SpectralClass:
    """Weights on the eigendirections of one eigenvalue of R_K.

    Attributes:
        share: p, the fraction of the D eigendirections.
        eigenvalue: r, with sum over classes p r = 1 (the tasks' mean norm).
        m, q, V: overlaps of these weights, each per direction of the class.
    """

    share: sp.Symbol
    eigenvalue: sp.Symbol
    m: sp.Symbol
    q: sp.Symbol
    V: sp.Symbol

    @classmethod
    def numbered(cls, i: int) -> SpectralClass:
        positive = dict.fromkeys(("p", "r", "V"), True)
        names = {
            name: sp.Symbol(f"{name}_{i}", **({"positive": True} if positive.get(name) else {"real": True}))
            for name in ("p", "r", "m", "q", "V")
        }
        return cls(names["p"], names["r"], names["m"], names["q"], names["V"])


def context_covariance() -> tuple[sp.Expr, sp.Expr]:
    """E c c^T given the task, exact: coefficients of w w^T / D and of the identity, from the prompt law."""
    law = fresh_task_prompts()
    given_task = replace(law, chi_squares={x: dof for x, dof in law.chi_squares.items() if x != s.task_norm})
    along = given_task.moment(sp.expand(law.scalars[s.aligned] ** 2 / s.task_norm))
    across = given_task.moment(sp.expand(law.scalars[s.context_norm] - law.scalars[s.aligned] ** 2 / s.task_norm))
    per_direction = sp.factor(across / (s.D - 1))
    return sp.factor((along - per_direction) / s.task_norm), per_direction


@dataclass(frozen=True)
class TaskDiversity:
    """The theory with spectral classes, and its solution in the continuum.

    Attributes:
        fresh: the limit theory of fresh tasks: prompts with new tasks, and the forward pass.
        classes: the classes that are written out.
    """

    fresh: FreshTasksLimit
    classes: tuple[SpectralClass, ...]

    @cached_property
    def excess_value(self) -> sp.Expr:
        """delta in nu and rho: the context meets R_K + delta in the limit."""
        on_task, everywhere = (x.subs({s.N: s.nu * s.D, s.task_norm: 1}) for x in context_covariance())
        if sp.limit(on_task, s.D, sp.oo) != 1:
            raise ValueError("the context's covariance is not R_K plus a multiple of the identity")
        return sp.factor(sp.limit(s.D * everywhere, s.D, sp.oo))

    @cached_property
    def covariance(self) -> ReplicaSymmetric:
        """Residual covariance on a training prompt: every class adds what its weights make of its part of c."""
        entry = self.fresh.finite.covariance
        point = {s.query_norm: 1, s.task_norm: 1}
        found = []
        for fluctuates in (1, 0):
            total = entry.constant
            for c in self.classes:
                of_class = {s.aligned: c.share * c.eigenvalue, s.context_norm: c.share * (c.eigenvalue + excess)}
                own = entry.entry(c.m, c.m, c.q + fluctuates * c.V, sp.S.Zero) - entry.constant
                total += own.subs(of_class)
            found.append(total.subs(point))
        return ReplicaSymmetric(*found)

    @cached_property
    def sums(self) -> dict[sp.Symbol, sp.Expr]:
        """chi and e = e_idg as sums over the classes."""
        chi = sp.expand(self.covariance.diagonal - self.covariance.off_diagonal)
        return {thermal_part: chi, task_error: self.covariance.off_diagonal}

    @cached_property
    def prior(self) -> GaussianPrior:
        """One weight block per class: p D context directions times D query directions."""
        blocks = (
            WeightBlock(f"class {i}", c.share * s.D**2, c.share * s.D, ReplicaSymmetric(c.q + c.V, c.q), c.m)
            for i, c in enumerate(self.classes, start=1)
        )
        return GaussianPrior(tuple(blocks))

    @cached_property
    def loss(self) -> SquaredLoss:
        """The energetic part in chi and e: a class feels the others through these two sums alone."""
        return SquaredLoss(ReplicaSymmetric(thermal_part + task_error, task_error))

    @staticmethod
    def _intensive(expression: sp.Expr) -> sp.Expr:
        scaled = expression.subs(s.inverse_scale, s.beta / s.P)
        intensive = {s.P: s.alpha * s.D**2, s.beta: s.beta_tilde * s.D**2, s.ridge: s.lam / s.D}
        return scaled.subs(intensive, simultaneous=True)

    @cached_property
    def entropic(self) -> sp.Expr:
        """Entropic part of lim log Z / D^2, without the volume constant: a sum over the classes."""
        return sp.expand(self._intensive((self.prior.free_entropy() - self.prior.constant()) / s.D**2))

    @cached_property
    def energetic(self) -> sp.Expr:
        """Energetic part of lim log Z / D^2 in chi and e."""
        return self._intensive(self.loss.free_entropy() / s.D**2)

    @cached_property
    def saddle(self) -> SaddlePoint:
        """lim log Z / D^2 in the classes' m, q, V."""
        value = self.entropic + self.energetic.subs(self.sums, simultaneous=True)
        return SaddlePoint(value, tuple(x for c in self.classes for x in (c.m, c.q, c.V)))

    # Elimination: at given s = 1 / (1 + b chi) and e every class can be solved for itself.

    @cached_property
    def _chi_of_shrinkage(self) -> sp.Expr:
        (chi,) = sp.solve(self._intensive(self.loss.shrinkage) - shrinkage, thermal_part)
        return chi

    def equation(self, c: SpectralClass, x: sp.Symbol) -> sp.Expr:
        """d/dx per direction of class c, in s, k and e."""
        through = sum(
            (self.energetic.diff(total) * value.diff(x) for total, value in self.sums.items()), sp.S.Zero
        ).subs(thermal_part, self._chi_of_shrinkage)
        value = sp.simplify((self.entropic.diff(x) + through) / c.share)
        return sp.expand(value.subs(s.lam, effective_ridge * shrinkage))

    @cached_property
    def _V_of_class(self) -> sp.Expr:
        """V of the first class in its eigenvalue, s and k."""
        c = self.classes[0]
        (V,) = sp.solve(self.equation(c, c.q), c.V)
        return V

    @cached_property
    def distance(self) -> sp.Expr:
        """z in delta and k, delta + k for linear attention: the classes' V have their pole at r = -z.

        Raises:
            ValueError: if there is not one pole, and it on the left of the spectrum.
        """
        poles = sp.roots(sp.denom(sp.together(self._V_of_class)), self.classes[0].eigenvalue)
        if len(poles) != 1 or not (distance := sp.expand(-next(iter(poles)))).is_positive:
            raise ValueError("a class's fluctuation is not that of a resolvent of the tasks' covariance")
        return distance

    @cached_property
    def ridge_of_distance(self) -> sp.Expr:
        """k at given z."""
        (ridge,) = sp.solve(self.distance - spectrum.distance, effective_ridge)
        return ridge

    @cached_property
    def of_eigenvalue(self) -> dict[str, sp.Expr]:
        """V, m and q - m^2 of the class at eigenvalue r, in z, s and e.

        Raises:
            ValueError: if a class feels another one beyond chi and e.
        """
        c, *others = self.classes
        V = self._V_of_class
        (m,) = sp.solve(self.equation(c, c.m).subs(c.V, V), c.m)
        (q,) = sp.solve(self.equation(c, c.V).subs(c.m, m).subs(c.V, V), c.q)
        in_r = {c.eigenvalue: spectrum.eigenvalue, effective_ridge: self.ridge_of_distance}
        found = {"V": V, "m": m, "own": sp.simplify(q - m**2)}
        foreign = {c.share, *(x for o in others for x in (o.share, o.eigenvalue, o.m, o.q, o.V))}
        if any(value.free_symbols & foreign for value in found.values()):
            raise ValueError("a class feels the others beyond chi and e")
        return {name: sp.factor(sp.simplify(value.subs(in_r))) for name, value in found.items()}

    def _per_direction(self, total: sp.Expr, by: str) -> sp.Expr:
        """Coefficient of a class's m, q or V in a sum over the classes, per direction, in r."""
        c = self.classes[0]
        return sp.expand(total).coeff(getattr(c, by)).subs(c.eigenvalue, spectrum.eigenvalue) / c.share

    @property
    def context(self) -> sp.Expr:
        """B, what the weights meet of the context in a direction of eigenvalue r: r + delta for linear attention."""
        return sp.factor(self._per_direction(self.sums[task_error], "q"))

    @property
    def aligned(self) -> sp.Expr:
        """A, what the target has in common with it: r for linear attention."""
        return self._per_direction(self.sums[task_error], "m") / -2

    @cached_property
    def seen(self) -> sp.Expr:
        """< B / (B + k) > in S, z: the share of a context that the weights can resolve."""
        share = self._chi_of_eigenvalue * shrinkage * s.beta_tilde
        return spectrum.spectral_average(sp.simplify(share))

    @property
    def _chi_of_eigenvalue(self) -> sp.Expr:
        return self.context * self.of_eigenvalue["V"]

    @cached_property
    def ridge_polynomial(self) -> sp.Poly:
        """The quadratic for k at given a = delta + S: that of fresh tasks with another context norm.

        From s (1 + b chi) = 1 with the classes' V summed up.

        Raises:
            ValueError: if it is another equation than that of fresh tasks.
        """
        balance = shrinkage * (1 + s.beta_tilde / s.alpha * spectrum.spectral_average(self._chi_of_eigenvalue)) - 1
        in_k = balance.subs(shrinkage, s.lam / effective_ridge).subs(spectrum.distance, self.distance)
        numerator = sp.numer(sp.together(in_k.subs(spectrum.signal, s.context_norm - excess)))
        polynomial = sp.Poly(sp.expand(numerator), effective_ridge)
        if sp.expand(polynomial.as_expr() + self.fresh.ridge_polynomial.as_expr()) != 0 and (
            sp.expand(polynomial.as_expr() - self.fresh.ridge_polynomial.as_expr()) != 0
        ):
            raise ValueError("the effective ridge does not have the equation of fresh tasks at a = delta + S")
        return self.fresh.ridge_polynomial

    @cached_property
    def replicon(self) -> sp.Expr:
        """Smallest stability eigenvalue, s plus a positive term.

        Raises:
            ValueError: if the stability matrix is not the identity minus a matrix of rank one.
        """
        loss = SquaredLoss(self.covariance)
        change = (sp.eye(len(self.classes)) - replicon_matrix(self.prior, loss)).applyfunc(sp.factor)
        if sp.simplify(change.det()) != 0:
            raise ValueError("the stability matrix is not the identity minus a matrix of rank one")
        # The one eigenvalue of the rank-one matrix is its trace, a sum over the classes. 1 + b chi is told as 1/s.
        c, *others = self.classes
        (last,) = sp.solve(self.sums[thermal_part] - self._chi_of_shrinkage, others[-1].V)
        own = sp.simplify(self._intensive(change[0, 0]).subs(others[-1].V, last) / c.share)
        own = own.subs(c.eigenvalue, spectrum.eigenvalue).subs(c.V, self.of_eigenvalue["V"])
        learnt = spectrum.spectral_average(sp.simplify(own))
        # s = 1 - < B / (B + k) > / alpha takes the place of the one that 1 - trace begins with.
        return shrinkage + sp.factor((self.seen / s.alpha - learnt).subs(spectrum.distance, self.distance))

    @cached_property
    def task_error(self) -> sp.Expr:
        """e_idg: e = sum over classes of the residual, solved for e; the denominator is the replicon."""
        m, own, r = self.of_eigenvalue["m"], self.of_eigenvalue["own"], spectrum.eigenvalue
        per_direction = r - 2 * self.aligned * m + self.context * m**2  # 1 = < r >
        per_error = spectrum.spectral_average(sp.simplify(self.context * own / task_error))
        gap = (1 - per_error - self.replicon).subs(shrinkage, 1 - self.seen / s.alpha)
        if sp.simplify(gap.subs(spectrum.distance, self.distance)) != 0:
            raise ValueError("the denominator of e_idg is not the replicon eigenvalue")
        return (s.noise + _by_distance(spectrum.spectral_average(per_direction))) / self.replicon

    @cached_property
    def m(self) -> sp.Expr:
        """Overlap m."""
        return spectrum.spectral_average(self.of_eigenvalue["m"])

    @cached_property
    def q(self) -> sp.Expr:
        """Self-overlap q in e = e_idg."""
        parts = self.of_eigenvalue["m"] ** 2, self.of_eigenvalue["own"]
        return sum((_by_distance(spectrum.spectral_average(x)) for x in parts), sp.S.Zero)

    @cached_property
    def V(self) -> sp.Expr:
        """Fluctuation V."""
        return spectrum.spectral_average(self.of_eigenvalue["V"])

    @cached_property
    def test_error(self) -> sp.Expr:
        """e_icl: the residual on prompts with new tasks, whose context covariance is isotropic."""
        at_new = self.fresh.residual.subs(s.context_norm, 1 + excess)
        m, own = self.of_eigenvalue["m"], self.of_eigenvalue["own"]
        per_direction = sp.expand(at_new.subs({s.m: m, s.q: m**2})) - s.noise
        learnt = _by_distance(spectrum.spectral_average(sp.cancel(sp.together(per_direction))))
        return s.noise + learnt + at_new.diff(s.q) * spectrum.spectral_average(own)

    @cached_property
    def ground_observables(self) -> dict[str, sp.Expr]:
        training = self.loss.tilted_residuals().off_diagonal
        return {
            "e_icl": self.test_error,
            "e_idg": task_error,
            "train_error": sp.simplify(self._intensive(training).subs(thermal_part, self._chi_of_shrinkage)),
            "contrast": s.m / sp.sqrt(s.q),
        }

    @cached_property
    def thermal_observables(self) -> dict[str, sp.Expr]:
        """Observables of one Gibbs sample, and lim log Z / D^2 without the volume constant."""
        on_new = self.fresh.fluctuation.subs(s.context_norm, 1 + excess)
        training = self._intensive(self.loss.tilted_residuals().diagonal).subs(thermal_part, self._chi_of_shrinkage)
        V, m, own = (self.of_eigenvalue[name] for name in ("V", "m", "own"))
        c = self.classes[0]
        of_class = sum((x for x in sp.Add.make_args(self.entropic) if x.has(c.share)), sp.S.Zero) / c.share
        of_class = sp.expand(of_class)
        weight = of_class.coeff(sp.log(c.V))
        smooth = sp.simplify((of_class - weight * sp.log(c.V)).subs({c.q: c.m**2 + own}).subs({c.m: m, c.V: V}))
        prefactor = sp.simplify(V * (spectrum.eigenvalue + spectrum.distance))
        entropic = weight * (sp.log(prefactor) - spectrum.log_average()) + spectrum.spectral_average(smooth)
        energetic = self.energetic.subs(thermal_part, self._chi_of_shrinkage)
        return {
            "V": self.V,
            "e_gibbs": _TEST + on_new.subs(s.V, self.V),
            "train_gibbs": sp.expand(sp.simplify(training)),
            "free_entropy": entropic + sp.simplify(energetic),
        }

    @cached_property
    def balances(self) -> Matrix:
        """What is left of each saddle-point equation in the continuum, and the sum of its terms' sizes.

        S: the spectral law; s: the fluctuation chi; lam: k s = lambda; m and q: the classes' sums; e: e = C_ab.
        """
        average, r, aligned = spectrum.spectral_average, spectrum.eigenvalue, self.aligned
        m, own = self.of_eigenvalue["m"], self.of_eigenvalue["own"]
        terms: dict[str, tuple[sp.Expr, ...]] = {
            "S": sp.Add.make_args(sp.expand(spectrum.quadratic().as_expr())),
            "s": (-sp.S.One, shrinkage, self.seen / s.alpha),
            "lam": (effective_ridge * shrinkage, -s.lam),
            "m": (-s.m, average(m)),
            "q": (-s.q, average(m**2), average(own)),
            # < r > = 1 is taken out of < A m > and < B m^2 >, which leaves functions that are bounded in r.
            "e": (
                -task_error,
                s.noise,
                -2 * average(sp.cancel(aligned * m - r)),
                average(sp.cancel(self.context * m**2 - r)),
                average(self.context * own),
            ),
        }
        return Matrix.of(Axis("EQUATIONS", tuple(terms)), SIDES, map(balance, terms.values()))


_TEST = sp.Symbol("e_icl", positive=True)
_DENSITY = sp.Symbol("free_entropy", real=True)


def _by_distance(expression: sp.Expr) -> sp.Expr:
    """Numerator in powers of z with factored coefficients: of S - 1 < 0 comes a minus sign, and all terms add."""
    numerator, denominator = sp.fraction(sp.factor(sp.together(expression)))
    return sp.collect(sp.expand(numerator), spectrum.distance, func=sp.factor) / denominator


def derive_task_diversity(fresh: FreshTasksLimit | None = None) -> TaskDiversity:
    """Derive the limit theory of K = kappa D tasks."""
    classes = tuple(SpectralClass.numbered(i) for i in range(1, CLASSES + 1))
    return TaskDiversity(fresh or derive_fresh_tasks_limit(), classes)


def programs(attention: Attention | None = None) -> tuple[Program, ...]:
    """The functions that the numerical solver runs."""
    finite = derive_fresh_tasks((attention or linear_attention()).covariance)
    theory = derive_task_diversity(derive_fresh_tasks_limit(finite))
    controls = (s.alpha, s.nu, s.lam, s.noise, spectrum.kappa)
    polynomial = theory.ridge_polynomial.as_expr()
    in_norm = -polynomial.diff(s.context_norm) / polynomial.diff(effective_ridge)
    given = sp.Symbol("k_given", nonnegative=True)
    law = (
        (excess, theory.excess_value),
        (spectrum.distance, theory.distance),
        (spectrum.signal, spectrum.signal_root()),
        (s.context_norm, excess + spectrum.signal),
    )
    at_given = (law[0], (spectrum.distance, theory.distance.subs(effective_ridge, given)), *law[2:])
    fixed_point = Program(
        name="fixed_point",
        summary="k that the tasks' spectrum as seen at k_given implies, and the derivative of this map.",
        arguments=(given, *controls),
        definitions=(*at_given, (effective_ridge, theory.fresh.effective_ridge)),
        outputs={
            "k": effective_ridge,
            "slope": sp.factor(in_norm) * spectrum.slope() * theory.distance.diff(effective_ridge),
        },
    )
    solution = Program(
        name="solution",
        summary="s, order parameters and observables of the mean weights at the effective ridge k.",
        arguments=(effective_ridge, *controls),
        definitions=(
            *law,
            (shrinkage, theory.fresh.shrinkage),
            (task_error, theory.task_error),
            (s.m, theory.m),
            (s.q, theory.q),
        ),
        outputs={
            "s": shrinkage,
            "S": spectrum.signal,
            "m": s.m,
            "q": s.q,
            "v_s": theory.V * s.beta_tilde * shrinkage,
            "replicon": theory.replicon,
            **theory.ground_observables,
        },
    )
    stationarity = Program(
        name="stationarity",
        summary="What is left of each saddle-point equation, and the sum of its terms' sizes.",
        arguments=(s.m, s.q, effective_ridge, shrinkage, spectrum.signal, task_error, *controls),
        definitions=law[:2],
        outputs={"balances": theory.balances},
    )
    thermal = Program(
        name="thermal",
        summary="Observables of a Gibbs sample and lim log Z / D^2 (without the volume constant) at finite beta_tilde.",
        arguments=(effective_ridge, shrinkage, spectrum.signal, task_error, _TEST, *controls, s.beta_tilde),
        definitions=law[:2],
        outputs=theory.thermal_observables,
    )
    volume = theory.fresh.finite.entropic.blocks[0].volume_constant()
    log_partition = Program(
        name="log_partition",
        summary="log Z at leading order in D, volume constant included.",
        arguments=(s.D, _DENSITY),
        outputs={"log_Z": s.D**2 * _DENSITY + volume},
    )
    return fixed_point, solution, stationarity, thermal, log_partition
