"""First steps of every derivation: the forward pass as a Hamiltonian, its moments, and its residuals."""

from __future__ import annotations

import sympy as sp

from replica_icl.model.attention.merged import Hamiltonian, SymbolicPrompt, loss, residual_covariance, weight_matrix
from replica_icl.narration.common import (
    vanishes,
)
from replica_icl.narration.derivation import Claim, Equation, Step
from replica_icl.symbolic import moments
from replica_icl.symbolic import symbols as s
from replica_icl.theory.fresh_tasks import FreshTasks


def hamiltonian_step() -> Step:
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


def couplings_step() -> Step:
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


def covariance_step(theory: FreshTasks) -> Step:
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
