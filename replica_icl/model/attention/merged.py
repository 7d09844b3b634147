"""Linear attention as a user would write it, its loss as a Hamiltonian, and its residuals' covariance.

Source: Li, Bai, Huang, arXiv:2408.02288, eqs. for the transformer and for J, h, lambda; derived again here.
Index order: the first index of W is the context side, the second the query side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import sympy as sp

from replica_icl.symbolic import symbols as s

Prediction = Callable[[sp.Matrix, sp.Matrix, sp.Matrix], sp.Expr]


@dataclass(frozen=True)
class SymbolicPrompt:
    """One prompt in symbols: tokens (D, N), labels (N,), query (D,) and its target."""

    tokens: sp.Matrix
    labels: sp.Matrix
    query: sp.Matrix
    target: sp.Symbol

    @classmethod
    def numbered(cls, D: int, N: int, mu: int) -> SymbolicPrompt:
        return cls(
            tokens=sp.Matrix(D, N, lambda a, i: sp.Symbol(f"x_{mu}{i}{a}", real=True)),
            labels=sp.Matrix(N, 1, lambda i, _: sp.Symbol(f"y_{mu}{i}", real=True)),
            query=sp.Matrix(D, 1, lambda a, _: sp.Symbol(f"xq_{mu}{a}", real=True)),
            target=sp.Symbol(f"yq_{mu}", real=True),
        )

    @property
    def matrix(self) -> sp.Matrix:
        """Z = [[x_1 .. x_N, x~], [y_1 .. y_N, 0]], shape (D + 1, N + 1)."""
        last_row = sp.Matrix.hstack(self.labels.T, sp.zeros(1, 1))
        return sp.Matrix.vstack(sp.Matrix.hstack(self.tokens, self.query), last_row)

    @property
    def gram(self) -> sp.Matrix:
        """(1/N) Z Z^T, shape (D + 1, D + 1); its last row is the context vector c~ = (c, l)."""
        return self.matrix * self.matrix.T / self.tokens.shape[1]


def prediction(gram: sp.Matrix, weights: sp.Matrix, prompt: sp.Matrix) -> sp.Expr:
    """The label that attention writes below the query: entry (D + 1, N + 1) of F(Z) = (1/N) Z Z^T W Z."""
    return (gram * weights * prompt)[gram.shape[0] - 1, prompt.shape[1] - 1]


def weight_matrix(D: int, replica: str = "") -> sp.Matrix:
    """The merged weights W in symbols, shape (D + 1, D + 1)."""
    return sp.Matrix(D + 1, D + 1, lambda i, j: sp.Symbol(f"W{replica}_{i + 1}{j + 1}", real=True))


def loss(prompts: list[SymbolicPrompt], weights: sp.Matrix, predict: Prediction = prediction) -> sp.Expr:
    """E(W) = (1/2P) sum_mu (y~ - y_hat)^2 + (lambda_0 / 2) |W|^2."""
    residuals = [p.target - predict(p.gram, weights, p.matrix) for p in prompts]
    return sum(r**2 for r in residuals) / (2 * len(prompts)) + s.ridge / 2 * sum(w**2 for w in weights)


@dataclass(frozen=True)
class Hamiltonian:
    """E = constant - h.sigma - sum_{i<j} J_ij sigma_i sigma_j + (1/2) sum_i lambda_i sigma_i^2.

    Attributes:
        spins: sigma = vec W, row by row, all (D + 1)^2 of them.
        fields: h, one per spin.
        couplings: J, symmetric with zero diagonal: the diagonal lives in `precisions` and nowhere else.
        precisions: lambda_i = lambda_0 + (1/P) sum_mu s_i^2.
        constant: (1/2P) sum_mu y~^2.
    """

    spins: list[sp.Symbol]
    fields: list[sp.Expr]
    couplings: sp.Matrix
    precisions: list[sp.Expr]
    constant: sp.Expr

    @classmethod
    def of(cls, energy: sp.Expr, weights: sp.Matrix) -> Hamiltonian:
        """Read h, J and lambda off an energy that is quadratic in the weights."""
        spins = list(weights)
        origin = dict.fromkeys(spins, 0)
        slopes = [energy.diff(spin) for spin in spins]
        curvature = sp.Matrix(len(spins), len(spins), lambda i, j: sp.expand(slopes[i].diff(spins[j])))
        couplings = sp.Matrix(len(spins), len(spins), lambda i, j: 0 if i == j else -curvature[i, j])
        return cls(
            spins=spins,
            fields=[sp.expand(-slope.subs(origin)) for slope in slopes],
            couplings=couplings,
            precisions=[curvature[i, i] for i in range(len(spins))],
            constant=sp.expand(energy.subs(origin)),
        )

    @property
    def energy(self) -> sp.Expr:
        """The energy written with h, J and lambda."""
        count = len(self.spins)
        pairs = sum(
            self.couplings[i, j] * self.spins[i] * self.spins[j] for i in range(count) for j in range(i + 1, count)
        )
        own = sum(lam * spin**2 for lam, spin in zip(self.precisions, self.spins, strict=True)) / 2
        return self.constant - sum(h * x for h, x in zip(self.fields, self.spins, strict=True)) - pairs + own


@dataclass(frozen=True)
class ResidualCovariance:
    """Covariance of the residuals of two replicas on one prompt, given the prompt's scalars.

    C_ab = constant + overlap (m_a + m_b) + self_overlap Q_ab + last_row U_ab, each coefficient a function of the
    scalars (T, omega, c.w/sqrt(D), |c|^2, l) and rho, with m_a = tr(W_a)/D, Q_ab = tr(W_a W_b^T)/D over the D^2 block
    and U_ab = u_a.u_b over the last row. Derived by `residual_covariance`.
    """

    constant: sp.Expr
    overlap: sp.Expr
    self_overlap: sp.Expr
    last_row: sp.Expr

    def entry(self, m_a: sp.Expr, m_b: sp.Expr, Q_ab: sp.Expr, U_ab: sp.Expr) -> sp.Expr:
        return self.constant + self.overlap * (m_a + m_b) + self.self_overlap * Q_ab + self.last_row * U_ab


def _moments(expression: sp.Expr, rules: dict[tuple[sp.Symbol, ...], sp.Expr], variables: list[sp.Symbol]) -> sp.Expr:
    """Replace every monomial of `variables` by its moment; monomials without a rule have mean zero."""
    polynomial = sp.Poly(sp.expand(expression), *variables)
    total = sp.S.Zero
    for powers, coefficient in polynomial.terms():
        names = tuple(v for v, power in zip(variables, powers, strict=True) for _ in range(power))
        total += coefficient * (1 if not names else rules.get(names, 0))
    return total


def _prompt(D: int) -> tuple[sp.Matrix, list[sp.Symbol], list[sp.Symbol]]:
    """Gram matrix, context and query of a prompt in symbols.

    The prompt's last column is the query; the columns before it do not reach the query's entry.
    """
    c = list(sp.symbols(f"c_1:{D + 1}", real=True))
    x = list(sp.symbols(f"xq_1:{D + 1}", real=True))
    gram = sp.Matrix(D + 1, D + 1, lambda i, j: sp.Symbol(f"G_{i}{j}", real=True))
    gram[D, :] = sp.Matrix([[*c, s.corner]])
    return gram, c, x


def feature_factor(predict: Prediction = prediction, D: int = 2) -> sp.Expr:
    """What the features of a forward pass are multiples of c~_i x~_j by: one for linear attention, at most f(l).

    Raises:
        ValueError: if the prediction is another function of weights and prompt.
    """
    gram, c, x = _prompt(D)
    weights = weight_matrix(D)
    predicted = sp.expand(predict(gram, weights, sp.Matrix([*x, 0])))
    factor = predicted.coeff(weights[0, 0]) / (c[0] * x[0])
    linear = sum(a * weights[i, j] * x[j] for i, a in enumerate([*c, s.corner]) for j in range(D))
    if sp.expand(predicted - factor * linear) != 0 or not factor.free_symbols <= {s.corner}:
        raise ValueError("the prediction is no multiple, by a function of the corner, of c~ W x~")
    return sp.factor(factor)


def residual_covariance(D: int = 2, predict: Prediction = prediction) -> ResidualCovariance:
    """Derive the residual covariance from the forward pass at an explicit D.

    The attention of a prompt enters through the last row of its Gram matrix, the context vector (c, l). Given the
    norms, a prompt's directions are isotropic: the query's, and jointly those of context and task. Averaging the
    product of two replicas' residuals over them leaves the overlaps, and the coefficients no longer depend on D.

    Raises:
        ValueError: if the average cannot be written with the overlaps m, Q and U (another forward pass may need more).
    """
    gram, c, x = _prompt(D)
    w = list(sp.symbols(f"w_1:{D + 1}", real=True))
    eps = sp.Symbol("epsilon", real=True)
    query_column = sp.Matrix([*x, 0])
    replica = [weight_matrix(D, name) for name in ("a", "b")]
    target = sum(wi * xi for wi, xi in zip(w, x, strict=True)) / sp.sqrt(D) + eps
    residual = [target - predict(gram, W, query_column) for W in replica]

    over_query = {(xi, xi): s.query_norm for xi in x} | {(eps, eps): s.noise}
    over_context = {(ci, ci): s.context_norm / D for ci in c} | {(wi, wi): s.task_norm for wi in w}
    over_context |= {(ci, wi): s.aligned / sp.sqrt(D) for ci, wi in zip(c, w, strict=True)}
    product = _moments(residual[0] * residual[1], over_query, [*x, eps])
    product = sp.expand(_moments(product, over_context, [*c, *w]))

    first, second = replica
    covariance = ResidualCovariance(
        constant=product.subs(dict.fromkeys([*first, *second], 0)),
        overlap=product.coeff(first[0, 0], 1).subs(dict.fromkeys(second, 0)) * D,
        self_overlap=product.coeff(first[0, 0] * second[0, 0]) * D,
        last_row=product.coeff(first[D, 0] * second[D, 0]),
    )
    block = range(D)
    m_a, m_b = (sum(W[i, i] for i in block) / D for W in replica)
    Q_ab = sum(first[i, j] * second[i, j] for i in block for j in block) / D
    U_ab = sum(first[D, j] * second[D, j] for j in block)
    if sp.expand(product - covariance.entry(m_a, m_b, Q_ab, U_ab)) != 0:
        raise ValueError("the residual covariance of this forward pass is no function of the overlaps m, Q and U")
    return ResidualCovariance(*(sp.factor(getattr(covariance, name)) for name in covariance.__dataclass_fields__))


@dataclass(frozen=True)
class Attention:
    """A forward pass, as the theory knows it. Every theory of a model is derived from one.

    Attributes:
        predict: the label that it writes below the query, linear in the weights.
        covariance: of the residuals of two replicas on one prompt.
    """

    predict: Prediction
    covariance: ResidualCovariance

    @cached_property
    def feature_factor(self) -> sp.Expr:
        """f in the features s_ij = f c~_i x~_j that the weights multiply.

        Raises:
            ValueError: as `feature_factor`.
        """
        return feature_factor(self.predict)

    @classmethod
    def of(cls, predict: Prediction) -> Attention:
        """The forward pass `predict`, its residual covariance derived.

        Raises:
            ValueError: as `residual_covariance`.
        """
        return cls(predict, residual_covariance(predict=predict))


@cache
def linear_attention() -> Attention:
    """The package's own forward pass."""
    return Attention.of(prediction)
