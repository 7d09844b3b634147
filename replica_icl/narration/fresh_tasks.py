"""The theory of fresh tasks as a derivation that can be read and checked: from the forward pass to closed forms.

Every equation shown is an expression that the package computed, and every claim compares it with something computed
in another way. Source of the model: Li et al., arXiv:2408.02288.
"""

from __future__ import annotations

import sympy as sp

from replica_icl.model.losses.squared import SquaredLoss
from replica_icl.narration.attention import couplings_step, covariance_step, hamiltonian_step
from replica_icl.narration.common import (
    COLDER,
    LABELS,
    NAMED,
    agree,
    named,
    residual,
    shrinkage,
    susceptibility,
    temperature_factor,
    vanishes,
    written_out,
)
from replica_icl.narration.derivation import Claim, Derivation, Equation, Step
from replica_icl.narration.fresh_tasks_limit import elimination_step, limit_step, ridgeless_step
from replica_icl.narration.fresh_tasks_next_order import next_order_step
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric, determinant
from replica_icl.symbolic.stability import replicon_direction, replicon_matrix
from replica_icl.theory.fresh_tasks import FreshTasks, derive_fresh_tasks
from replica_icl.theory.fresh_tasks_limit import (
    derive_fresh_tasks_limit,
)


def _replicated_action(theory: FreshTasks) -> Step:
    n = s.replicas
    diagonal, off_diagonal = sp.symbols("C_aa C_ab", positive=True)
    matrix = ReplicaSymmetric(diagonal, off_diagonal)
    (difference, many), (uniform, once) = matrix.spectrum(n)
    dressed = ReplicaSymmetric(
        1 + s.inverse_scale * (residual + s.query_norm * susceptibility), s.inverse_scale * residual
    )
    tokens, last_row = theory.entropic.blocks

    def eigenvectors_at(k: int) -> bool:
        explicit, ones = matrix.explicit(k), sp.ones(k, 1)
        differences = [sp.eye(k)[:, 0] - sp.eye(k)[:, j] for j in range(1, k)]
        return all(
            (explicit * vector - value.subs(n, k) * vector).expand().is_zero_matrix
            for value, vectors in ((uniform, [ones]), (difference, differences))
            for vector in vectors
        )

    def determinant_at(k: int) -> bool:
        return sp.expand(determinant(matrix.explicit(k)) - difference ** (k - 1) * uniform.subs(n, k)) == 0

    def action_at(k: int) -> bool:
        return all(
            agree(part.explicit(k), part.replica_symmetric().subs(n, k), points=2)
            for part in (theory.entropic, theory.energetic)
        )

    return Step(
        title="Replicated action at an integer number of replicas",
        text=r"""
        For integer $n$ the average over prompts couples $n$ replicas. One prompt contributes $\langle
        \exp(-\frac{b}{2} \sum_a r_a^2) \rangle = \langle \det(I + b C)^{-1/2} \rangle$ with $b = \beta/P$,
        and the prompts are independent. The weights contribute the volume of matrices with given overlaps,
        $\frac{D^2}{2} \log\det(Q - m m^T)$ for the $D^2$ block and $\frac{D}{2} \log\det U$ for the last row,
        and the ridge. The sum is $\log \langle Z^n \rangle$ at its extremum.

        Replica-symmetric overlaps, $Q_{aa} = q + V$ and $Q_{ab} = q$, $U_{aa} = u + V_u$ and $U_{ab} = u$,
        leave matrices with one value on and one off the diagonal. Their spectrum needs no integer $n$: the
        uniform vector, once, and differences of two replicas, $n - 1$ times. With $T \chi = C_{aa} - C_{ab}$
        and $R = C_{ab}$:
        """,
        equations=(
            Equation(r"\log\det C", many * sp.log(difference) + once * sp.log(uniform)),
            Equation(r"\log\det(I + b C)", dressed.log_determinant(n)),
            Equation(r"\log\det(Q - m m^T)", tokens.gram.log_determinant(n)),
            Equation(r"\log\det U", last_row.gram.log_determinant(n)),
        ),
        claims=(
            Claim(
                "the uniform vector and the replica differences are eigenvectors of the explicit matrix, $n = 1 .. 4$",
                lambda: all(eigenvectors_at(k) for k in range(1, 5)),
            ),
            Claim(
                "explicit determinants agree with the spectrum, $n = 1 .. 4$",
                lambda: all(determinant_at(k) for k in range(1, 5)),
            ),
            Claim(
                "the action with all matrices written out is the replica-symmetric one, $n = 1, 2, 3$",
                lambda: all(action_at(k) for k in (1, 2, 3)),
            ),
        ),
    )


def _free_entropy(theory: FreshTasks) -> Step:
    n = s.replicas
    energetic = theory.energetic.free_entropy()
    short = named(theory, energetic)
    action = theory.entropic.replica_symmetric() + theory.energetic.replica_symmetric()
    tiny = sp.Float("1e-20", 60)

    def without_prompts() -> bool:
        equations = {x: equation.subs(s.P, 0) for x, equation in theory.saddle.equations.items()}
        (solved,) = sp.solve(list(equations.values()), list(equations), dict=True)
        count = s.D**2 + s.D
        exact = count / 2 * sp.log(2 * sp.pi / (s.beta * s.ridge))
        at_rest = solved[s.m] == solved[s.q] == solved[s.u] == 0
        return at_rest and agree(theory.free_entropy.subs(s.P, 0).subs(solved), exact)

    return Step(
        title=r"The limit $n \to 0$: free entropy",
        text=r"""
        The quenched average of $\log Z$ is the derivative of $\log \langle Z^n \rangle$ at $n = 0$. The
        entropic part counts the weights, $\log Z$ being over the $D^2 + D$ acting weights; the energetic part
        is what the prompts cost. With $\chi = V a + V_u \ell^2$, $s = 1/(1 + b T \chi)$ and $R$ the squared
        residual of the mean weights, $C_{ab}$ for $a \neq b$:
        """,
        equations=(
            Equation(r"\Phi_{\mathrm{entropic}}", theory.entropic.free_entropy()),
            Equation(r"\Phi_{\mathrm{energetic}}", short),
            Equation(r"T \chi", theory.energetic.fluctuation),
            Equation("R", theory.energetic.covariance.off_diagonal),
        ),
        claims=(
            Claim(
                r"at $n = 0$ the action vanishes: $\langle Z^0 \rangle = 1$",
                lambda: agree(action.subs(n, 0), sp.S.Zero),
            ),
            Claim(
                r"the action divided by $n$ at $n = 10^{-20}$ is the free entropy to 15 digits",
                lambda: agree(action.subs(n, tiny) / tiny, theory.free_entropy, tolerance="1e-13"),
            ),
            Claim(
                "the energetic part written with $R$, $\\chi$ and $s$ is the one that is solved",
                lambda: agree(written_out(theory, short), energetic),
            ),
            Claim(
                r"without prompts the saddle point has the exact Gaussian volume, "
                r"$\log Z = \frac{D^2 + D}{2} \log(2 \pi / (\beta \lambda_0))$",
                without_prompts,
            ),
        ),
    )


def _saddle(theory: FreshTasks) -> Step:
    equations = theory.saddle.equations
    short = {x: named(theory, equation) for x, equation in equations.items()}
    moved = Average(1 - theory.energetic.shrinkage, s.SCALARS)
    freedom = 2 * s.V * equations[s.q] + 2 * s.V_u * equations[s.u]
    counted = s.D**2 + s.D - s.beta * s.ridge * (s.D * s.V + s.V_u) - s.P * moved

    return Step(
        title="Saddle-point equations",
        text=r"""
        The free entropy is stationary in $m$, $q$, $V$, $u$ and $V_u$. Each left-hand side below vanishes at
        the saddle. The equations for $q$ and $u$ together count degrees of freedom: of the $D^2 + D$ acting
        weights, $P \langle 1 - s \rangle$ are fixed by the prompts and the ridge fixes the rest.
        """,
        equations=tuple(Equation(rf"\partial \Phi / \partial {x.name}", equation) for x, equation in short.items()),
        claims=(
            Claim(
                "the equations written with $R$ and $s$ are the derivatives of the free entropy",
                lambda: all(agree(written_out(theory, short[x]), theory.free_entropy.diff(x)) for x in short),
            ),
            Claim(
                r"$2 V \partial \Phi / \partial q + 2 V_u \partial \Phi / \partial u = "
                r"D^2 + D - \beta \lambda_0 (D V + V_u) - P \langle 1 - s \rangle$",
                lambda: agree(freedom, counted),
            ),
        ),
    )


def _observables(theory: FreshTasks) -> Step:
    observables, equations = theory.observables, theory.saddle.equations
    field = sp.Symbol("h", positive=True)
    at_field = theory.free_entropy.subs(s.inverse_scale, s.beta / s.P).subs(s.ridge, field / s.beta)
    gibbs_norm = s.D * (s.q + s.V) + s.u + s.V_u

    def covariant(equation: sp.Expr, power: int) -> bool:
        return agree(equation.subs(COLDER, simultaneous=True), temperature_factor**power * equation)

    def probe() -> bool:
        """One extra prompt of weight eta, seen by the free entropy itself."""
        eta = sp.Symbol("eta", positive=True)
        extra = SquaredLoss(theory.energetic.covariance, prompts=sp.S.One, inverse_scale=eta).free_entropy()
        thermal = Average(theory.energetic.fluctuation, s.SCALARS)
        return agree(-2 * extra.diff(eta).subs(eta, 0), observables["e_icl"] + thermal)

    def thermal_energy() -> bool:
        training = (observables["train_gibbs"] - observables["train_error"]) / 2
        ridge = s.ridge / 2 * (s.D * s.V + s.V_u)
        off_saddle = (s.V * equations[s.q] + s.V_u * equations[s.u]) / s.beta
        at_scale = {s.inverse_scale: s.beta / s.P}
        equipartition = (s.D**2 + s.D) / (2 * s.beta) - off_saddle
        return agree((training + ridge).subs(at_scale), equipartition.subs(at_scale))

    return Step(
        title="Observables, and what temperature changes",
        text=r"""
        Observables come from the same free entropy. A prompt that was not trained on, with weight
        $\exp(-\frac{\eta}{2} r \cdot M r)$, is a source field: the response to $\eta$ at zero gives the
        squared residual of one Gibbs sample ($M$ on one replica) or of the mean weights ($M$ between two
        different replicas), which is $e_{ICL}$. A derivative in $\beta$ at fixed $\beta \lambda_0$ gives the
        training error, one in $\beta \lambda_0$ the norm of the weights.

        The energy is quadratic, hence the mean weights are the ground state at any temperature: $m$, $q$,
        $u$, $e_{ICL}$ and the training error of the mean weights do not depend on $\beta$, while $V$ and
        $V_u$ are proportional to $1/\beta$. Temperature shows in $\log Z$, in the energy $\langle E \rangle =
        E_0 + \frac{D^2 + D}{2 \beta}$, and in the errors of single Gibbs samples.
        """,
        equations=tuple(Equation(LABELS[name], named(theory, expression)) for name, expression in observables.items()),
        claims=(
            Claim(
                r"at fixed $\beta \lambda_0$, $\partial \Phi / \partial \beta$ is $-\frac{1}{2}$ of the Gibbs "
                "training error",
                lambda: agree(
                    at_field.diff(s.beta), -observables["train_gibbs"].subs(s.inverse_scale, s.beta / s.P) / 2
                ),
            ),
            Claim(
                r"$-2 \partial \Phi / \partial (\beta \lambda_0) = |W|^2 = D (q + V) + u + V_u$",
                lambda: vanishes(-2 * at_field.diff(field) - gibbs_norm),
            ),
            Claim(
                r"the response of the free entropy to one extra prompt is $e_{ICL} + \langle T \chi \rangle$, "
                "the error of a Gibbs sample",
                lambda: (
                    probe()
                    and agree(
                        observables["e_gibbs"], observables["e_icl"] + Average(theory.energetic.fluctuation, s.SCALARS)
                    )
                ),
            ),
            Claim(
                r"the equations that fix $m$, $q$, $u$, $\beta V$ and $\beta V_u$ do not change with $\beta$",
                lambda: (
                    all(covariant(equations[x], 1) for x in (s.m, s.q, s.u))
                    and covariant(equations[s.V] - equations[s.q], 2)
                    and covariant(equations[s.V_u] - equations[s.u], 2)
                ),
            ),
            Claim(
                r"the thermal part of the energy is $(D^2 + D)/(2 \beta)$ at the saddle: equipartition",
                thermal_energy,
            ),
        ),
    )


def _stability(theory: FreshTasks) -> Step:
    matrix = theory.replicon
    T, a, l2, b = s.query_norm, s.context_norm, s.corner**2, s.inverse_scale

    def stated(block: int, other: int) -> sp.Expr:
        power = (a, l2)[block] * (a, l2)[other]
        average = Average(T**2 * power * theory.energetic.shrinkage**2, s.SCALARS)
        scale = (s.V**2 / s.D**2, s.V_u**2 / s.D)[block]
        return sp.Integer(block == other) - s.P * b**2 * scale * average

    return Step(
        title="Stability of replica symmetry",
        text=r"""
        The dangerous fluctuations of $Q_{ab}$ keep every row sum; $\delta Q_{12} + \delta Q_{34} - \delta
        Q_{13} - \delta Q_{24}$ is one of them, and there is none below four replicas. The last-row overlaps
        can move along the same direction, so that the Hessian of the action, in units of its entropic part,
        is a $2 \times 2$ matrix. Replica symmetry is stable while its eigenvalues are positive, as they are
        for a convex energy; the smallest one vanishes at the ridgeless transition, where the spin-glass
        susceptibility diverges.
        """,
        equations=(Equation("I - X", matrix.applyfunc(lambda entry: _with_shrinkage(theory, entry))),),
        claims=(
            Claim(
                "the direction keeps every row sum and every diagonal entry, for four and five replicas",
                lambda: all(
                    not any(replicon_direction(k) * sp.ones(k, 1)) and not any(replicon_direction(k).diagonal())
                    for k in (4, 5)
                ),
            ),
            Claim(
                "four and five replicas give the same matrix",
                lambda: all(
                    agree(x, y)
                    for x, y in zip(replicon_matrix(theory.entropic, theory.energetic, 5), matrix, strict=True)
                ),
            ),
            Claim(
                r"its first entry is $1 - \frac{P b^2 V^2}{D^2} \langle (T a)^2 s^2 \rangle$, "
                r"and the other three have $\ell^2$ for $a$ and $V_u/\sqrt{D}$ for $V/D$ where the last row enters",
                lambda: all(agree(matrix[i, j], stated(i, j)) for i in range(2) for j in range(2)),
            ),
        ),
    )


def _with_shrinkage(theory: FreshTasks, expression: sp.Expr) -> sp.Expr:
    """Averages that are proportional to s^2, with it written as s."""

    def shortened(average: Average) -> sp.Expr:
        rest = sp.cancel(average.integrand / theory.energetic.shrinkage**2)
        return Average(rest * shrinkage**2, (*s.SCALARS, *NAMED))

    return expression.replace(lambda e: isinstance(e, Average), shortened)


def chain() -> Derivation:
    """The theory of fresh tasks, from linear attention to the closed forms of its thermodynamic limit."""
    theory = derive_fresh_tasks()
    limit = derive_fresh_tasks_limit(theory)
    return Derivation(
        name="fresh-tasks",
        title="In-context learning with fresh tasks: from linear attention to closed forms",
        steps=(
            hamiltonian_step(),
            couplings_step(),
            covariance_step(theory),
            _replicated_action(theory),
            _free_entropy(theory),
            _saddle(theory),
            _observables(theory),
            _stability(theory),
            next_order_step(theory),
            limit_step(limit),
            elimination_step(limit),
            ridgeless_step(limit),
        ),
    )
