"""The theory of fresh tasks as a derivation that can be read and checked: from the forward pass to closed forms.

Every equation shown is an expression that the package computed, and every claim compares it with something computed
in another way. Source of the model: Li et al., arXiv:2408.02288.
"""

from __future__ import annotations

from collections.abc import Mapping

import sympy as sp

from replica_icl.ensembles.fresh_tasks import FreshTasks, derive_fresh_tasks
from replica_icl.ensembles.fresh_tasks_limit import (
    FreshTasksLimit,
    derive_fresh_tasks_limit,
    effective_ridge,
    excess,
    response,
    shrinkage,
    test_error,
)
from replica_icl.symbolic import moments
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.attention import Hamiltonian, SymbolicPrompt, loss, residual_covariance, weight_matrix
from replica_icl.symbolic.averages import Average, concentrate
from replica_icl.symbolic.derivation import Claim, Derivation, Equation, Step
from replica_icl.symbolic.free_energy import SquaredLoss
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric, determinant
from replica_icl.symbolic.stability import replicon_direction, replicon_matrix

residual = sp.Symbol("R", positive=True)
"""R: squared residual of the mean weights on one prompt, given its scalars."""
susceptibility = sp.Symbol("chi", positive=True)
"""chi = V |c|^2 + V_u l^2: T chi is the thermal variance of a residual."""
LABELS = {
    "e_icl": r"e_{\mathrm{ICL}}",
    "train_error": r"e_{\mathrm{train}}",
    "e_gibbs": r"e_{\mathrm{Gibbs}}",
    "train_gibbs": r"e_{\mathrm{train, Gibbs}}",
    "weight_norm": "|W|^2",
    "contrast": r"\mathrm{contrast}",
    "replicon": r"\mathrm{replicon}",
}
"""LaTeX of the observables' names."""
NAMED = (residual, susceptibility, shrinkage)


def vanishes(expression: sp.Expr) -> bool:
    """Whether `expression` (rational, or with square roots) is identically zero, by algebra."""
    return sp.expand(sp.numer(sp.together(expression))) == 0


def agree(first: sp.Expr, second: sp.Expr, points: int = 3, tolerance: str = "1e-30") -> bool:
    """Whether two expressions have the same values, at a few points and with the law of averages at one value.

    For expressions with logarithms, where algebra needs choices of branch; evaluated with 60 digits.
    """
    difference = sp.sympify(first) - second
    bound = {v for average in difference.atoms(Average) for v in average.variables}
    names = sorted(difference.free_symbols | bound, key=str)
    for start in range(points):
        values = {
            x: sp.Float(sp.Rational(sp.prime(2 * i + start + 3), sp.prime(i + 2 * start + 5)), 60)
            for i, x in enumerate(names)
        }
        at_values = sp.N(concentrate(difference, values).subs(values), 60)
        if not abs(at_values) < sp.Float(tolerance):
            return False
    return True


def named(theory: FreshTasks, expression: sp.Expr) -> sp.Expr:
    """`expression` with R, chi and s = 1 / (1 + b T chi) written in its averages."""
    fluctuation = theory.energetic.fluctuation
    short = [
        (1 / theory.energetic.shrinkage, 1 / shrinkage),
        (fluctuation, s.query_norm * susceptibility),
        (theory.energetic.covariance.off_diagonal, residual),
    ]

    def shortened(average: Average) -> sp.Expr:
        integrand = sp.expand_log(average.integrand.subs(short))
        return Average(integrand, (*s.SCALARS, *NAMED))

    return expression.replace(lambda e: isinstance(e, Average), shortened)


def written_out(theory: FreshTasks, expression: sp.Expr) -> sp.Expr:
    """The inverse of `named`."""
    energetic = theory.energetic
    long = {
        residual: energetic.covariance.off_diagonal,
        susceptibility: energetic.fluctuation / s.query_norm,
        shrinkage: energetic.shrinkage,
    }
    return expression.replace(
        lambda e: isinstance(e, Average), lambda average: Average(average.integrand.subs(long), s.SCALARS)
    )


def _hamiltonian() -> Step:
    size = 2
    prompts = [SymbolicPrompt.numbered(size, size, mu) for mu in range(size)]
    weights = weight_matrix(size)
    energy = loss(prompts, weights)
    glass = Hamiltonian.of(energy, weights)
    spins = range(len(glass.spins))
    last_column = [i for i in spins if i % (size + 1) == size]

    def features(prompt: SymbolicPrompt) -> list[sp.Expr]:
        """s = c~ (outer) (x~; 0), from the definition of the context vector."""
        tokens = prompt.tokens.col_join(prompt.labels.T)
        context = [sum(prompt.labels[i] * tokens[row, i] for i in range(size)) / size for row in range(size + 1)]
        return [c * x for c in context for x in [*prompt.query, 0]]

    s_mu = [features(p) for p in prompts]

    def overlap(i: int, j: int) -> sp.Expr:
        return sum(f[i] * f[j] for f in s_mu) / len(prompts)

    return Step(
        title="Attention to Hamiltonian",
        text=r"""
        A prompt is the matrix $Z$ of its tokens and labels, with a zero where the label of the query is
        missing. Linear attention with one merged weight matrix $W$ writes $F(Z) = \frac{1}{N} Z Z^T W Z$, and
        the entry below the query is the prediction $\hat y$. The loss $E(W)$ is quadratic in $W$: read
        $\sigma = \mathrm{vec}\, W$ as real spins and it is the Hamiltonian of a spin glass, $E =
        \mathrm{const} - h \cdot \sigma - \sum_{i<j} J_{ij} \sigma_i \sigma_j + \frac{1}{2} \sum_i \lambda_i
        \sigma_i^2$.

        Here everything is written out at $D = N = P = 2$. The first index of $W$ is on the context side, the
        second on the query side; $x_{\mu i a}$ is component $a$ of token $i$ of prompt $\mu$, counted from
        zero. The last column of $W$ meets the zero of the prompt and never acts: these $D + 1$ directions are
        flat, and the ridge alone fixes them. The diagonal of the feature matrix is in $\lambda_i$ and nowhere
        else.
        """,
        equations=(
            Equation("h_1", glass.fields[0]),
            Equation("J_{1,2}", glass.couplings[0, 1]),
            Equation(r"\lambda_1", glass.precisions[0]),
        ),
        claims=(
            Claim(
                r"the expanded loss and the Hamiltonian are the same polynomial in $W$",
                lambda: sp.expand(energy - glass.energy) == 0,
            ),
            Claim(
                r"the last column of $W$ is flat: no field, no coupling, and the ridge as its only precision",
                lambda: all(
                    glass.fields[i] == 0 and not any(glass.couplings[i, :]) and glass.precisions[i] == s.ridge
                    for i in last_column
                ),
            ),
            Claim(
                r"$J$ is symmetric with zero diagonal, so that the diagonal is counted once, in "
                r"$\lambda_i = \lambda_0 + \frac{1}{P} \sum_\mu s_i^2$",
                lambda: (
                    glass.couplings == glass.couplings.T
                    and all(glass.couplings[i, i] == 0 for i in spins)
                    and all(sp.expand(glass.precisions[i] - s.ridge - overlap(i, i)) == 0 for i in spins)
                ),
            ),
            Claim(
                r"$J_{ij} = -\frac{1}{P} \sum_\mu s_i s_j$ for $i \neq j$, with features "
                r"$s = \frac{1}{N} \sum_i y_i (x_i, y_i) \otimes (\tilde x, 0)$",
                lambda: all(sp.expand(glass.couplings[i, j] + overlap(i, j)) == 0 for i in spins for j in range(i)),
            ),
            Claim(
                r"$h_i = \frac{1}{P} \sum_\mu \tilde y s_i$",
                lambda: all(
                    sp.expand(glass.fields[i] - sum(p.target * f[i] for p, f in zip(prompts, s_mu, strict=True)) / 2)
                    == 0
                    for i in spins
                ),
            ),
        ),
    )


def _couplings() -> Step:
    fields = {block.name: block for block in moments.field_blocks()}
    couplings = {block.name: block for block in moments.coupling_blocks()}
    precisions = {block.name: block for block in moments.precision_blocks()}
    within = couplings["different context, different query"]

    def limit(expression: sp.Expr) -> sp.Expr:
        return sp.limit(expression.subs({s.N: s.nu * s.D, s.P: s.alpha * s.D**2}), s.D, sp.oo)

    return Step(
        title="Exact moments of the random fields and couplings",
        text=r"""
        Over random prompts, $h$, $J$ and $\lambda$ are random. Their moments are Gaussian averages of
        polynomials in tokens, tasks and noise, and Wick's theorem gives them exactly at every $D$, $N$ and
        $P$. The field has a mean on the diagonal of $W$ only, of order $1/D$: that is the ferromagnetic
        signal which makes the model copy the task. The couplings have no mean. Their variance is of order
        $1/(D^2 P)$, like the variance of couplings in a glass with $D^2$ spins and $P \sim D^2$ patterns.
        """,
        equations=(
            Equation(r"\mathrm{E}\, h_{ii}", fields["diagonal"].mean),
            Equation(r"\mathrm{Var}\, h_{ii}", fields["diagonal"].variance),
            Equation(r"\mathrm{Var}\, h_{ij}", fields["off-diagonal"].variance),
            Equation(r"\mathrm{Var}\, h_{D+1,j}", fields["last row"].variance),
            Equation(r"\mathrm{E}\, \lambda_{ij} - \lambda_0", precisions["D block"].mean),
            Equation(r"\mathrm{E}\, \lambda_{D+1,j} - \lambda_0", precisions["last row"].mean),
            *(Equation(rf"\mathrm{{Var}}\, J \text{{ ({b.name})}}", b.variance) for b in couplings.values()),
        ),
        claims=(
            Claim(
                "the field has a mean on the diagonal only, $1/D$",
                lambda: (
                    vanishes(fields["diagonal"].mean - 1 / s.D)
                    and fields["off-diagonal"].mean == fields["last row"].mean == 0
                ),
            ),
            Claim("no coupling has a mean", lambda: all(block.mean == 0 for block in couplings.values())),
            Claim(
                r"$\mathrm{E}\, \lambda_{ij} - \lambda_0 = \mathrm{E} |c|^2 / D$, with $|c|^2$ of the prompt law",
                lambda: vanishes(precisions["D block"].mean - moments.context_moment(norm=1) / s.D),
            ),
            Claim(
                r"$D^4 \mathrm{Var} J \to (1 + (1 + \rho)/\nu)^2 / \alpha$ within the $D^2$ block at "
                r"$N = \nu D$, $P = \alpha D^2$",
                lambda: vanishes(limit(s.D**4 * within.variance) - (1 + (1 + s.noise) / s.nu) ** 2 / s.alpha),
            ),
        ),
    )


def _covariance(theory: FreshTasks) -> Step:
    covariance = theory.covariance
    m_a, m_b, Q_ab, U_ab = sp.symbols("m_a m_b Q_ab U_ab", real=True)
    entry = covariance.entry(m_a, m_b, Q_ab, U_ab)
    T, omega, g, a = s.query_norm, s.task_norm, s.aligned, s.context_norm

    return Step(
        title="Residuals of replicas on one prompt",
        text=r"""
        Replicas $W^a$ see the same prompt. What a prompt says through its norms is kept as five scalars: $T =
        |\tilde x|^2/D$, $\omega = |w|^2/D$, $g = c \cdot w/\sqrt{D}$, $a = |c|^2$ and $\ell = |y|^2/N$, where
        $(c, \ell)$ is the context vector. Given these, the prompt's directions are isotropic, and the
        residuals $r_a = \tilde y - \hat y_a$ of the replicas are taken as jointly Gaussian. Their covariance
        needs the overlaps $m_a = \mathrm{tr} W^a_{DD} / D$, $Q_{ab} = \mathrm{tr} W^a_{DD} (W^b_{DD})^T / D$
        over the $D^2$ block, and $U_{ab} = u^a \cdot u^b$ over the last row. It is found by averaging the
        product of two residuals of the forward pass at an explicit $D$.
        """,
        equations=(Equation(r"C_{ab} = \langle r_a r_b \rangle", entry),),
        claims=(
            Claim("the covariance is the same at $D = 2$ and $D = 3$", lambda: residual_covariance(3) == covariance),
            Claim(
                r"replicas $W^a = m_a I$ have $C_{ab} = T (w/\sqrt{D} - m_a c) \cdot (w/\sqrt{D} - m_b c) + \rho$",
                lambda: vanishes(
                    covariance.entry(m_a, m_b, m_a * m_b, 0) - T * (omega - (m_a + m_b) * g + m_a * m_b * a) - s.noise
                ),
            ),
            Claim(
                "replicas without weights have the target's variance",
                lambda: covariance.constant == T * omega + s.noise,
            ),
        ),
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
    factor = sp.Symbol("f", positive=True)
    colder = {
        s.beta: factor * s.beta,
        s.inverse_scale: factor * s.inverse_scale,
        s.V: s.V / factor,
        s.V_u: s.V_u / factor,
    }
    gibbs_norm = s.D * (s.q + s.V) + s.u + s.V_u

    def covariant(equation: sp.Expr, power: int) -> bool:
        return agree(equation.subs(colder, simultaneous=True), factor**power * equation)

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


def _limit(limit: FreshTasksLimit) -> Step:
    cold, warm = limit.ground_state, limit.saddle
    means, spreads = moments.concentrated_means(), moments.relative_variances()
    at_response = {s.V: response / s.beta_tilde}

    def same_saddle() -> bool:
        in_v = {x: equation.subs(at_response) for x, equation in warm.equations.items()}
        tilde = s.beta_tilde
        own, by_q, by_v = (cold.equations[x] for x in (s.m, s.q, response))
        return (
            vanishes(in_v[s.m] - tilde * own)
            and vanishes(in_v[s.q] - tilde * by_q)
            and vanishes(in_v[s.V] - tilde * by_q - tilde**2 * by_v)
        )

    return Step(
        title="Thermodynamic limit",
        text=r"""
        Now $D \to \infty$ with $P = \alpha D^2$, $N = \nu D$, $\lambda_0 = \lambda / D$ and $\beta =
        \tilde\beta D^2$. The relative variances of the prompt's scalars, exact at any size, vanish like
        $1/D$: the prompt law concentrates at its mean, and every average becomes a value at one point. The
        last row of $W$ has $D$ weights only and decouples. What is left is the free entropy density in $m$,
        $q$, $V$ (without the constant $\frac{1}{2}(1 + \log(2 \pi / D))$ of the weights' volume). For
        $\tilde\beta \to \infty$ the fluctuation $V$ vanishes and $v = \tilde\beta V$ stays: the response of
        the ground state to a field.
        """,
        equations=(
            *(Equation(rf"\lim \mathrm{{E}}\, {sp.latex(x)}", value) for x, value in means.items() if value != 1),
            *(
                Equation(
                    rf"\lim D\, \mathrm{{Var}}({sp.latex(x)}) / (\mathrm{{E}}\, {sp.latex(x)})^2",
                    sp.factor(sp.limit(s.D * value, s.D, sp.oo)),
                )
                for x, value in spreads.items()
            ),
            Equation(r"\lim \Phi / D^2", warm.free_entropy),
            Equation(r"\lim \Phi / (\tilde\beta D^2)", cold.free_entropy),
            *(
                Equation(rf"\partial (\lim \Phi / (\tilde\beta D^2)) / \partial {x.name}", y)
                for x, y in cold.equations.items()
            ),
        ),
        claims=(
            Claim(
                "every relative variance vanishes like $1/D$, and none faster",
                lambda: all(
                    sp.limit(x, s.D, sp.oo) == 0 and sp.limit(s.D * x, s.D, sp.oo).is_positive for x in spreads.values()
                ),
            ),
            Claim(
                r"finite temperature and ground state have the same $m$, $q$ and $v = \tilde\beta V$",
                same_saddle,
            ),
            Claim(
                r"the stationarity of the limit is the limit of the stationarity, for $m$, $q$ and $V$",
                lambda: all(
                    vanishes(limit._concentrated(limit.finite.saddle.equations[x] / s.D**2) - warm.equations[x])
                    for x in (s.m, s.q, s.V)
                ),
            ),
        ),
    )


def _elimination(limit: FreshTasksLimit) -> Step:
    k, a = effective_ridge, s.context_norm
    shrunk = 1 - a / (s.alpha * (a + k))
    to_a = {excess: a - 1}
    e_in_k = limit.test_error.subs(to_a).subs(shrinkage, shrunk)
    on_saddle: Mapping[sp.Symbol, sp.Expr] = {
        s.m: limit.m,
        s.q: limit.q.subs(s.m, limit.m).subs(test_error, e_in_k),
        response: (limit.V * s.beta_tilde).subs(shrinkage, shrunk),
        s.lam: k * shrunk,
    }

    def stationary() -> bool:
        equations = limit.ground_state.equations.values()
        return all(vanishes(equation.subs(on_saddle, simultaneous=True)) for equation in equations)

    def roots() -> bool:
        return all(
            vanishes(sp.numer(sp.together(polynomial.as_expr().subs(polynomial.gen, branch))))
            for polynomial, root in (
                (limit.ridge_polynomial, limit.effective_ridge),
                (limit.shrinkage_polynomial, limit.shrinkage),
            )
            for branch, _ in root.args
        )

    def energy() -> bool:
        ground = limit.ground_observables["train_error"].subs(shrinkage, shrunk).subs(test_error, e_in_k)
        energy = (ground + s.lam * s.q) / 2
        left = limit.ground_state.free_entropy + energy
        return vanishes(left.subs(on_saddle, simultaneous=True))

    published = (1 + s.noise - 1 / a + k**2 / (a * (a + k) ** 2)) / (1 - a**2 / (s.alpha * (a + k) ** 2))

    return Step(
        title="Elimination: closed forms",
        text=r"""
        With $s = 1/(1 + \tilde\beta a V / \alpha)$, the equation for $q$ is a quadratic for $s$ without
        $\tilde\beta$. In the effective ridge $k = \lambda/s$ it is again a quadratic, $k = \lambda +
        \frac{k}{\alpha} \frac{a}{a + k}$: the samples that are spent on $D^2$ weights raise the ridge from
        $\lambda$ to $k$. Both are solved by the root whose digits survive on either side of $\alpha = 1$. The
        other order parameters are then rational in $k$, and $e = e_{ICL}$ is a ratio whose denominator is the
        replicon eigenvalue. The excess of the context norm is $\delta = a - 1 = (1 + \rho)/\nu$.
        """,
        equations=(
            Equation("0", limit.shrinkage_polynomial.as_expr()),
            Equation("0", limit.ridge_polynomial.as_expr()),
            Equation("s", limit.shrinkage),
            Equation("k", limit.effective_ridge),
            Equation("m", limit.m),
            Equation("q", limit.q),
            Equation("V", limit.V),
            Equation("I - X", limit.replicon),
            Equation("e", limit.test_error),
            Equation(r"\delta", limit.excess_value),
            *(Equation(LABELS[n], x) for n, x in limit.ground_observables.items() if n != "e_icl"),
        ),
        claims=(
            Claim("both branches of both roots satisfy their polynomial", roots),
            Claim(
                r"the quadratic for $k$ says $k = \lambda + \frac{k}{\alpha} \frac{a}{a + k}$",
                lambda: vanishes(
                    limit.ridge_polynomial.as_expr()
                    - sp.expand(s.alpha * (a + k) * (k - s.lam - k / s.alpha * a / (a + k))),
                ),
            ),
            Claim("the closed forms put back into the saddle-point equations give zero", stationary),
            Claim(
                r"$e$ is the squared residual at the saddle, $1 + \rho - 2 m + a q$",
                lambda: vanishes((limit.residual - test_error).subs(test_error, e_in_k).subs(on_saddle)),
            ),
            Claim(
                r"$e = [1 + \rho - \frac{1}{a} + \frac{k^2}{a (a + k)^2}] / [1 - \frac{a^2}{\alpha (a + k)^2}]$, "
                "the published form (arXiv:2405.11751)",
                lambda: vanishes(e_in_k - published),
            ),
            Claim(
                r"the ground state's free entropy density is minus its energy, $-\frac{1}{2} (e s^2 + \lambda q)$",
                energy,
            ),
        ),
    )


def _ridgeless(limit: FreshTasksLimit) -> Step:
    sides = limit.ridgeless()
    in_controls = {s.context_norm: 1 + limit.excess_value}

    def independent(alpha: sp.Rational, nu: sp.Rational, rho: sp.Rational) -> dict[str, sp.Expr]:
        """m and e_icl for lam -> 0, from the saddle-point equations at rational numbers: v, then m, then q."""
        numbers = {s.alpha: alpha, s.nu: nu, s.noise: rho}
        equations = [e.subs(in_controls).subs(numbers) for e in limit.ground_state.equations.values()]
        roots = sp.solve(equations[1], response)
        (v,) = (root for root in roots if root.subs(s.lam, sp.Rational(1, 100)) > 0)
        (m,) = sp.solve(equations[0].subs(response, v), s.m)
        (q,) = sp.solve(equations[2].subs(response, v).subs(s.m, m), s.q)
        error = limit.residual.subs(in_controls).subs(numbers).subs({s.m: m, s.q: q})
        return {name: sp.limit(x, s.lam, 0, "+") for name, x in (("m", m), ("e_icl", error))}

    def same_limit(side: str, alpha: sp.Rational) -> bool:
        nu, rho = sp.Rational(5, 4), sp.Rational(1, 4)  # a = 2
        numbers = {s.alpha: alpha, s.nu: nu, s.noise: rho}
        found = independent(alpha, nu, rho)
        return all(sp.simplify(sides[side][x].subs(in_controls).subs(numbers) - found[x]) == 0 for x in found)

    def diverges() -> bool:
        below, above = (sides[side]["e_icl"].subs(in_controls) for side in ("alpha < 1", "alpha > 1"))
        weights = [
            sp.limit(abs_gap * error, s.alpha, 1) for abs_gap, error in ((1 - s.alpha, below), (s.alpha - 1, above))
        ]
        return vanishes(weights[0] - weights[1]) and bool(weights[0].subs({s.nu: 2, s.noise: 0}) > 0)

    return Step(
        title=r"Ridgeless limits on both sides of $\alpha = 1$",
        text=r"""
        For $\lambda \to 0$ the two sides of $\alpha = 1$ differ. Above, the data fix all $D^2$ weights: $k =
        0$ and the training error stays. Below, $k$ stays positive, all prompts are fitted ($s = 0$), and the
        limit is the ground state of least norm. At $\alpha = 1$ the zero modes vanish, the ground state
        becomes unique, the replicon eigenvalue is zero and $e_{ICL}$ diverges.
        """,
        equations=tuple(
            Equation(rf"{LABELS.get(name, name)} \text{{ at }} \{side}", value)
            for side, values in sides.items()
            for name, value in values.items()
        ),
        claims=(
            Claim(
                r"above, at $\alpha = 3$: the limit of the solved saddle-point equations",
                lambda: same_limit("alpha > 1", sp.Integer(3)),
            ),
            Claim(
                r"below, at $\alpha = 1/3$: the limit of the solved saddle-point equations",
                lambda: same_limit("alpha < 1", sp.Rational(1, 3)),
            ),
            Claim(r"$e_{ICL} |\alpha - 1|$ has the same positive limit from both sides", diverges),
        ),
    )


def chain() -> Derivation:
    """The theory of fresh tasks, from linear attention to the closed forms of its thermodynamic limit."""
    theory = derive_fresh_tasks()
    limit = derive_fresh_tasks_limit(theory)
    return Derivation(
        name="fresh-tasks",
        title="In-context learning with fresh tasks: from linear attention to closed forms",
        steps=(
            _hamiltonian(),
            _couplings(),
            _covariance(theory),
            _replicated_action(theory),
            _free_entropy(theory),
            _saddle(theory),
            _observables(theory),
            _stability(theory),
            _limit(limit),
            _elimination(limit),
            _ridgeless(limit),
        ),
    )
