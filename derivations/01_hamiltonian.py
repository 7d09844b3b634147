"""From linear attention to a spin glass: the forward pass, its loss, and the Hamiltonian that the loss is."""

import numpy as np
import sympy as sp

from replica_icl.model.attention.merged import Hamiltonian, SymbolicPrompt, loss, prediction, weight_matrix
from replica_icl.narration.derivation import Derivation, numerically, symbolically
from replica_icl.narration.telling import tell
from replica_icl.symbolic import symbols as s

derivation = Derivation(
    __file__,
    "From linear attention to a spin glass",
    symbols={
        r"\sigma": "spins: the weights as one vector",
        "A": "index of a spin, the pair (i, j) of its row and its column in $W$; B another",
        "B": "index of another spin",
        "i": "row of $W$, on the context side, 1 .. D + 1",
        "j": "column of $W$, on the query side, 1 .. D + 1",
        "h": "fields",
        "J": "couplings, symmetric, without a diagonal",
        r"\lambda_A": "stiffness of spin A",
        "F": "the attention, a map of prompts",
    },
)

D = N = P = 2
prompts = [SymbolicPrompt.numbered(D, N, mu) for mu in range(P)]
W = weight_matrix(D)
energy = loss(prompts, W)
glass = Hamiltonian.of(energy, W)
spins = range(len(glass.spins))
flat = [A for A in spins if A % (D + 1) == D]
"""Spins of the last column of W."""


def features(prompt: SymbolicPrompt) -> list[sp.Expr]:
    """f = c~ (outer) (x~; 0), from the definition of the context vector and not from the forward pass."""
    rows = prompt.tokens.col_join(prompt.labels.T)
    context = [sum(prompt.labels[t] * rows[i, t] for t in range(N)) / N for i in range(D + 1)]
    return [c * x for c in context for x in [*prompt.query, 0]]


of_prompt = [features(prompt) for prompt in prompts]


def mean_product(A: int, B: int) -> sp.Expr:
    return sum(f[A] * f[B] for f in of_prompt) / P


# ----------------------------------------------------------------------------------------------------------------------

derivation.step(
    "The forward pass",
    r"""
    A layer of linear attention reads a prompt of labelled tokens and completes the label of a query. The model is
    that of Li, Bai and Huang (arXiv:2408.02288), with features divided by $N$. A prompt is a matrix $Z$: its columns
    are the $N$ tokens $x_t$ with their labels $y_t$ below them, and the query $\tilde x$ with a zero where its label
    is missing. With one merged weight matrix $W$, which stands for keys and queries together, attention maps $Z$ to
    $F(Z) = \frac{1}{N} Z Z^T W Z$, and what it writes into the empty place is the prediction $\hat y$.

    Here everything is written out at $D = N = P = 2$: $x_{\mu t j}$ is component $j$ of token $t$ of prompt $\mu$,
    all counted from zero.
    """,
)
derivation.equation("Z", prompts[0].matrix)
derivation.text(
    r"""
    Only the last row of $\frac{1}{N} Z Z^T$ reaches that place: the context vector $\tilde c = (c, \ell)$ with $c =
    \frac{1}{N} \sum_t y_t x_t$ and $\ell = \frac{1}{N} \sum_t y_t^2$. So the prediction is bilinear in context and
    query, and linear in $W$, $\hat y = \sum_{ij} \tilde c_i W_{ij} \tilde x_j$: every weight sees one feature,
    $f_{ij} = \tilde c_i \tilde x_j$. The first index of $W$ is on the context side, the second on the query side.
    """
)
derivation.equation(
    r"\hat y = \sum_{ij} f_{ij} W_{ij}", prediction(prompts[0].gram, W, prompts[0].matrix), label="prediction"
)


@derivation.claim(
    r"the prediction of the forward pass is $\sum_{ij} \tilde c_i W_{ij} \tilde x_j$", symbolically("D = N = 2")
)
def prediction_is_bilinear() -> bool:
    return all(
        sp.expand(prediction(p.gram, W, p.matrix) - sum(f * w for f, w in zip(features(p), W, strict=True))) == 0
        for p in prompts
    )


derivation.step(
    "The loss is a Hamiltonian",
    r"""
    Training minimises the squared error of $P$ prompts with a ridge, $E(W) = \frac{1}{2P} \sum_\mu (\tilde y_\mu -
    \hat y_\mu)^2 + \frac{\lambda_0}{2} |W|^2$. It is quadratic in $W$. Read the weights as one vector of real spins,
    $\sigma_A = W_{ij}$ with $A = (i, j)$, and it is the energy of a spin glass, $E = \mathrm{const} - \sum_A h_A
    \sigma_A - \sum_{A < B} J_{AB} \sigma_A \sigma_B + \frac{1}{2} \sum_A \lambda_A \sigma_A^2$. Slopes at $W = 0$ are
    fields, curvatures are couplings; the curvature of a spin with itself is no coupling but part of $\lambda_A$, so
    that the diagonal of the feature matrix is counted once: $h_A = \frac{1}{P} \sum_\mu \tilde y_\mu f_{\mu A}$,
    $J_{AB} = -\frac{1}{P} \sum_\mu f_{\mu A} f_{\mu B}$ for $A \neq B$, and $\lambda_A = \lambda_0 + \frac{1}{P}
    \sum_\mu f_{\mu A}^2$. Written out for the first spins:
    """,
)
derivation.equation("h_1", glass.fields[0])
derivation.equation("J_{1,2}", glass.couplings[0, 1])
derivation.equation(r"\lambda_1", glass.precisions[0])


@derivation.claim(
    "the expanded loss of the forward pass and the Hamiltonian are the same polynomial in $W$",
    symbolically("D = N = P = 2"),
)
def same_polynomial() -> bool:
    return sp.expand(energy - glass.energy) == 0


@derivation.claim(r"$h_A = \frac{1}{P} \sum_\mu \tilde y_\mu f_{\mu A}$", symbolically("D = N = P = 2"))
def fields_are_products_with_the_target() -> bool:
    stated = [sum(p.target * f[A] for p, f in zip(prompts, of_prompt, strict=True)) / P for A in spins]
    return all(sp.expand(glass.fields[A] - stated[A]) == 0 for A in spins)


@derivation.claim(
    r"$J$ is symmetric without a diagonal, $J_{AB} = -\frac{1}{P} \sum_\mu f_{\mu A} f_{\mu B}$, and the diagonal is "
    r"in $\lambda_A = \lambda_0 + \frac{1}{P} \sum_\mu f_{\mu A}^2$ alone",
    symbolically("D = N = P = 2"),
)
def couplings_are_products_of_features() -> bool:
    off = all(sp.expand(glass.couplings[A, B] + mean_product(A, B)) == 0 for A in spins for B in spins if A != B)
    on = all(sp.expand(glass.precisions[A] - s.ridge - mean_product(A, A)) == 0 for A in spins)
    return off and on and all(glass.couplings[A, A] == 0 for A in spins)


derivation.step(
    "Spins that are free",
    r"""
    The last column of $W$ meets the zero of the prompt. Its $D + 1$ spins have no field and no coupling; only the
    ridge holds them, at zero. Every chapter that follows is about the other $D (D + 1)$ weights, which act: $D^2$ on
    tokens, the block $W_{DD}$, and the $D$ of the last row, which meet $\ell$.
    """,
)


@derivation.claim(
    "the last column of $W$ has no field, no coupling, and the ridge as its only stiffness",
    symbolically("D = N = P = 2"),
)
def last_column_is_free() -> bool:
    return all(glass.fields[A] == 0 and not any(glass.couplings[A, :]) and glass.precisions[A] == s.ridge for A in flat)


@derivation.claim(
    "for random prompts the loss of a forward pass written in NumPy is the energy of the glass with fields, couplings "
    "and stiffnesses of the features",
    numerically("D = 3, N = 5, P = 7, to 12 digits"),
)
def loss_is_energy_in_numbers() -> bool:
    rng = np.random.default_rng(1)
    D, N, P, ridge = 3, 5, 7, 0.1
    weights = rng.standard_normal((D + 1, D + 1))
    direct, rows, targets = ridge / 2 * np.sum(weights**2), [], []
    for _ in range(P):
        tokens, labels, query = rng.standard_normal((N, D)), rng.standard_normal(N), rng.standard_normal(D)
        target = rng.standard_normal()
        Z = np.vstack([np.column_stack([tokens.T, query]), [*labels, 0]])
        direct += (target - (Z @ Z.T @ weights @ Z / N)[D, N]) ** 2 / (2 * P)
        context = np.array([*(labels @ tokens), labels @ labels]) / N
        rows.append(np.outer(context, [*query, 0]).ravel())
        targets.append(target)
    f, spin = np.array(rows), weights.ravel()
    h, second = f.T @ targets / P, f.T @ f / P
    J, stiffness = -(second - np.diag(np.diag(second))), ridge + np.diag(second)
    glassy = np.sum(np.square(targets)) / (2 * P) - h @ spin - spin @ J @ spin / 2 + stiffness @ spin**2 / 2
    return bool(abs(direct - glassy) < 1e-12 * abs(direct))


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
