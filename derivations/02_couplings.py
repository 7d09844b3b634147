"""What kind of spin glass in-context learning is: exact moments of its fields, couplings and stiffnesses."""

import numpy as np
import sympy as sp

from replica_icl.narration.checks import vanishes
from replica_icl.narration.derivation import Derivation, Found, by_simulation, symbolically
from replica_icl.narration.shorthand import in_label_variance
from replica_icl.narration.telling import tell
from replica_icl.symbolic import moments
from replica_icl.symbolic import symbols as s

derivation = Derivation(
    __file__,
    "Exact moments of fields and couplings",
    needs=["hamiltonian"],
    symbols={
        "i": "row of $W$, on the context side; i' another",
        "j": "column of $W$, on the query side; j' another",
        "h": "fields, one per weight",
        "J": "couplings of two weights",
        r"\lambda_{ij}": "stiffness of a weight",
    },
)

fields = {block.name: block for block in moments.field_blocks()}
couplings = {block.name: block for block in moments.coupling_blocks()}
stiffnesses = {block.name: block for block in moments.precision_blocks()}
within = couplings["different context, different query"]
scaling = {s.N: s.nu * s.D, s.P: s.alpha * s.D**2}


def limit(expression: sp.Expr) -> sp.Expr:
    return sp.factor(sp.limit(expression.subs(scaling), s.D, sp.oo))


# ----------------------------------------------------------------------------------------------------------------------

derivation.step(
    "Fields",
    r"""
    Prompts are random, and with them fields $h$, couplings $J$ and stiffnesses: tokens, tasks and queries are
    standard Gaussian, labels are $y_t = w \cdot x_t / \sqrt{D}$ plus noise of variance $\rho$, and so is the target.
    Everything that is a polynomial in them has moments by Wick's theorem, exactly at every $D$, $N$ and $P$.

    The field of a weight is $h_{ij} = \frac{1}{P} \sum_\mu \tilde y c_i \tilde x_j$. Target and context share the
    task, and this gives the field a mean where row and column are the same, and nowhere else: a ferromagnetic signal
    along the identity, which makes the model copy the task from context to query.
    """,
)
derivation.equation(r"\mathrm{E}\, h_{ii}", fields["diagonal"].mean)
derivation.equation(r"\mathrm{Var}\, h_{ii}", in_label_variance(fields["diagonal"].variance))
derivation.equation(r"\mathrm{Var}\, h_{ij}", in_label_variance(fields["off-diagonal"].variance))
derivation.equation(r"\mathrm{Var}\, h_{D+1,j}", in_label_variance(fields["last row"].variance))


@derivation.claim("the field has a mean on the diagonal only, $1/D$", symbolically("by Wick's theorem at any D, N, P"))
def mean_on_the_diagonal() -> bool:
    others = fields["off-diagonal"].mean == fields["last row"].mean == 0
    return vanishes(fields["diagonal"].mean - 1 / s.D) and others


derivation.step(
    "Couplings and stiffnesses",
    r"""
    The coupling of two different weights, $J = -\frac{1}{P} \sum_\mu c_i \tilde x_j c_{i'} \tilde x_{j'}$, has no
    mean. On the context side the entry $D + 1$ is $\ell$ instead of $c_i$. The variance is three times as large for
    two weights that share a row or a column: that is $\mathrm{E} \tilde x_j^4 = 3$.
    """,
)
for block in couplings.values():
    derivation.equation(rf"\mathrm{{Var}}\, J \text{{ ({block.name})}}", in_label_variance(block.variance))
derivation.text(r"A stiffness has a mean besides the ridge, the mean square of its feature:")
derivation.equation(r"\mathrm{E}\, \lambda_{ij} - \lambda_0", in_label_variance(stiffnesses["D block"].mean))
derivation.equation(r"\mathrm{E}\, \lambda_{D+1,j} - \lambda_0", in_label_variance(stiffnesses["last row"].mean))


@derivation.claim("no coupling has a mean", symbolically("by Wick's theorem"))
def no_mean_coupling() -> bool:
    return all(block.mean == 0 for block in couplings.values())


@derivation.claim("couplings that share a column have three times the variance", symbolically())
def three_times() -> bool:
    return vanishes(couplings["different context, same query"].variance - 3 * within.variance)


@derivation.claim(
    r"$\mathrm{E}\, \lambda_{ij} - \lambda_0 = \mathrm{E} |c|^2 / D$",
    symbolically("against the moment of the prompt law"),
)
def stiffness_is_context_norm() -> bool:
    return vanishes(stiffnesses["D block"].mean - moments.context_moment(norm=1) / s.D)


derivation.step(
    "How large is the signal?",
    r"""
    At $N = \nu D$ and $P = \alpha D^2$ the mean field is $1/D$ on each of $D$ diagonal weights, while each of $D^2$
    weights has a random field of order $D^{-3/2}$. In sums of squares both are of order $1/D$: signal and noise
    compete at a finite ratio $\alpha$ of prompts to weights. The couplings have variance of order $1/(D^2 P)$, like
    those of a glass with $D^2$ spins and $P \sim D^2$ patterns.
    """,
)
derivation.equation(r"\lim D^3\, \mathrm{Var}\, h_{ij}", limit(s.D**3 * fields["off-diagonal"].variance))
derivation.equation(r"\lim D^4\, \mathrm{Var}\, J", limit(s.D**4 * within.variance))


@derivation.claim(
    r"$D^4 \mathrm{Var}\, J \to a^2 / \alpha$ within the token block, $a = 1 + (1 + \rho)/\nu$ the limit of $|c|^2$",
    symbolically(),
)
def couplings_of_mean_field_theory() -> bool:
    return vanishes(limit(s.D**4 * within.variance) - (1 + (1 + s.noise) / s.nu) ** 2 / s.alpha)


@derivation.claim(
    "means and variances of fields and couplings are those of random prompts, written token by token in NumPy, "
    "within 4 "
    "standard errors",
    by_simulation(11, "D = 5, N = 7, P = 2, 20000 samples"),
)
def seen_in_prompts() -> Found:
    D, N, P, rho, draws, batches = 5, 7, 2, 0.25, 200, 100
    rng = np.random.default_rng(11)
    samples: dict[str, list[tuple[float, float]]] = {"diagonal": [], "off-diagonal": [], within.name: []}
    for _ in range(batches):
        task = rng.standard_normal((draws, P, D))
        tokens = rng.standard_normal((draws, P, N, D))
        labels = np.einsum("rpia,rpa->rpi", tokens, task) / np.sqrt(D)
        labels += np.sqrt(rho) * rng.standard_normal(labels.shape)
        query = rng.standard_normal((draws, P, D))
        target = np.sum(task * query, axis=2) / np.sqrt(D) + np.sqrt(rho) * rng.standard_normal((draws, P))
        c = np.einsum("rpi,rpia->rpa", labels, tokens) / N
        h = np.einsum("rp,rpi,rpj->rij", target, c, query) / P
        J = -np.mean(c[:, :, 0] * query[:, :, 0] * c[:, :, 1] * query[:, :, 1], axis=1)
        samples["diagonal"].append((h[:, 0, 0].mean(), np.mean((h[:, 0, 0] - 1 / D) ** 2)))
        samples["off-diagonal"].append((h[:, 0, 1].mean(), np.mean(h[:, 0, 1] ** 2)))
        samples[within.name].append((J.mean(), np.mean(J**2)))
    at_size = {s.D: D, s.N: N, s.P: P, s.noise: sp.Rational(rho)}
    worst = 0.0
    for name, values in samples.items():
        block = {**fields, **couplings}[name]
        mean, sem = np.mean(values, axis=0), np.std(values, axis=0, ddof=1) / np.sqrt(batches)
        exact = [float(x.subs(at_size)) for x in (block.mean, block.variance)]
        worst = max(worst, float(np.max(np.abs(mean - exact) / sem)))
    return Found(worst < 4, f"largest |z| {worst:.1f}")


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
