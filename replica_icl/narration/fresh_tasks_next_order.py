"""The step of the derivation of fresh tasks that goes beyond the saddle point: the next order of the free entropy."""

from __future__ import annotations

import mpmath
import sympy as sp

from replica_icl.narration.common import COLDER, agree, named, temperature_factor
from replica_icl.narration.derivation import Claim, Equation, Step
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import concentrate
from replica_icl.symbolic.next_order import fluctuation_entropy
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric, per_replica
from replica_icl.theory.fresh_tasks import EXTRA_PAIRINGS, FreshTasks

_NO_EXTRA = sp.zeros(1, 1)


def pairs_become_a_derivative() -> bool:
    """Sums over eigenvalues, and over pairs of them, become a function and its derivative along the shared part."""
    n, own, shared, g = s.replicas, s.V, s.q, sp.Symbol("g", positive=True)

    def of_pair(first: sp.Expr, second: sp.Expr) -> sp.Expr:
        return -sp.log(1 - g * first * second) / 2

    uniform = own + n * shared
    pairs = n * (n - 1) / 2 * of_pair(own, own) + (n - 1) * of_pair(own, uniform) + of_pair(uniform, uniform)
    single = (n - 1) * of_pair(own, own) + of_pair(uniform, uniform)
    step = sp.Symbol("epsilon")
    along = of_pair(own + step * shared, own + step * shared).diff(step).subs(step, 0)
    expected = of_pair(own, own) + along
    small = {g: g / 10}
    return agree(per_replica(pairs, n).subs(small), (expected / 2).subs(small)) and agree(
        per_replica(single, n).subs(small), expected.subs(small)
    )


def fluctuations_are_pairs(replicas: int) -> bool:
    """At an integer n every overlap is varied: the Hessian's determinant is a product over pairs of eigenvalues.

    One block with `count` weights whose prompts all have their mean norms; rational numbers, exact arithmetic.
    """
    own, error, b, norm, noise, count, prompts = (sp.Rational(x, 7) for x in (5, 3, 2, 9, 4, 840, 280))
    gram = ReplicaSymmetric(own + error, error)
    dressed = ReplicaSymmetric(1 + b * (norm * own + norm * error + noise), b * (norm * error + noise))
    inverse_gram, inverse = gram.explicit(replicas).inv(), dressed.explicit(replicas).inv()
    places = [(i, j) for i in range(replicas) for j in range(i, replicas)]

    def direction(i: int, j: int) -> sp.Matrix:
        step = sp.zeros(replicas, replicas)
        step[i, j] = step[j, i] = 1
        return step

    def hessian(matrix: sp.Matrix, weight: sp.Expr) -> sp.Matrix:
        varied = [matrix * direction(*place) for place in places]
        return sp.Matrix(len(places), len(places), lambda x, y: -weight / 2 * (varied[x] * varied[y]).trace())

    entropic, energetic = hessian(inverse_gram, count), hessian(inverse, -prompts * (b * norm) ** 2)
    eigenvalues = [(own, 1 / (1 + b * norm * own))] * (replicas - 1)
    uniform = own + replicas * error
    eigenvalues.append((uniform, 1 / (1 + b * (norm * uniform + replicas * noise))))
    product = sp.S.One
    for i, (v, shrunk) in enumerate(eigenvalues):
        for w, other in eigenvalues[i:]:
            product *= 1 - prompts * (b * norm) ** 2 / count * v * w * shrunk * other
    return (entropic + energetic).det() == entropic.det() * product


def gaussian_features() -> bool:
    """n Gaussian features without a ridge: E log det of a Wishart matrix is known, by digamma functions.

    There the norms are not given, so that -(1/2) tr X is left out.
    """
    errors = []
    for count in (200, 400):
        prompts = 3 * count
        exact = mpmath.fsum(mpmath.digamma(mpmath.mpf(prompts - i) / 2) for i in range(count)) + count * mpmath.log(2)
        rest = prompts - count
        saddle = prompts * mpmath.log(prompts) - rest * mpmath.log(rest) - count
        X = sp.Matrix([[sp.Rational(count, prompts)]])
        fluctuations = fluctuation_entropy(X, _NO_EXTRA) + X.trace() / 2
        errors.append(abs(exact - saddle + 2 * mpmath.mpf(sp.N(fluctuations, 30))))
    return bool(errors[0] < 1 / 200 and abs(errors[0] / errors[1] - 2) < 0.05)


def one_prompt() -> bool:
    """One prompt of known norm: log det(1 + phi) exactly, at every order in 1/n that the next order claims."""
    phi, order, shift = sp.symbols("phi epsilon v", positive=True)  # epsilon = 1/n

    # extr over v of log(1 + phi v) + n (v - 1 - log v), to second order in the shift of v from 1.
    function = sp.log(1 + phi * (1 + shift)) + (shift - sp.log(1 + shift)) / order
    moved = sp.series(function, shift, 0, 3).removeO()
    (at,) = sp.solve(moved.diff(shift), shift)
    shrunk = 1 / (1 + phi)
    saddle = sp.series(moved.subs(shift, at), order, 0, 2).removeO()
    X = sp.Matrix([[order * (phi * shrunk) ** 2]])
    correction = sp.series(-2 * fluctuation_entropy(X, _NO_EXTRA), order, 0, 2).removeO()
    return sp.simplify(saddle + correction - sp.log(1 + phi)) == 0


def product_features() -> bool:
    """P products of unit vectors in D^2 dimensions: E log det(1 + t K) by exact moments of the Gram matrix, to t^4.

    At P = alpha D^2 the saddle point and the next order leave nothing of order D^2 and nothing of order one.
    """
    t, D, alpha = sp.symbols("t D alpha", positive=True)
    P = alpha * D**2
    two, three = P * (P - 1), P * (P - 1) * (P - 2)
    edge, triangle, square = D**-2, D**-4, D**-6  # E K_12^2, E K_12 K_23 K_31 and the cycle of four
    twice = (3 / (D * (D + 2))) ** 2  # E K_12^4
    traces = (
        P,
        P + two * edge,
        P + 3 * two * edge + three * triangle,
        P + 6 * two * edge + two * twice + 4 * three * triangle + 2 * three * edge**2 + three * (P - 3) * square,
    )
    exact = [(-1) ** k * trace / (k + 1) for k, trace in enumerate(traces)]

    # The saddle: extr over v of P log(1 + t v) + D^2 (v - 1 - log v), v = 1 + c_1 t + ...
    coefficients = sp.symbols("c1:5")
    v = 1 + sum(c * t ** (k + 1) for k, c in enumerate(coefficients))
    balance = sp.expand(sp.series(alpha * t / (1 + t * v) + 1 - 1 / v, t, 0, 5).removeO())
    known: dict[sp.Symbol, sp.Expr] = {}
    for k, c in enumerate(coefficients):
        known[c] = sp.solve(balance.coeff(t, k + 1).subs(known), c)[0]
    v = v.subs(known)
    X = sp.Matrix([[alpha * (t * v / (1 + t * v)) ** 2]])
    saddle = D**2 * (alpha * sp.log(1 + t * v) + v - 1 - sp.log(v))
    predicted = sp.expand(sp.series(saddle - 2 * fluctuation_entropy(X, EXTRA_PAIRINGS[:1, :1]), t, 0, 5).removeO())
    return all(sp.limit(sp.expand(x - predicted.coeff(t, k + 1)), D, sp.oo) == 0 for k, x in enumerate(exact))


def pairings_counted() -> bool:
    """EXTRA_PAIRINGS from fourth moments of Gaussian vectors: of (c.c' + l l')^4, term by term, times (x.x')^4."""

    def fourth(dimension: sp.Expr) -> sp.Expr:
        return 3 * dimension * (dimension + 2)  # E (c.c')^4 = 3 E |c'|^4

    def pairings(context: sp.Expr, entries: sp.Expr) -> sp.Expr:
        return sp.limit(context * fourth(s.D) / (entries**2 * s.D**2), s.D, sp.oo)

    # (c.c' + l l')^4 has the mixed term six times, which belongs to two ordered pairs of blocks.
    tokens, mixed, corner = (
        pairings(fourth(s.D), s.D),
        6 * pairings(s.D, sp.sqrt(s.D)) / 2,
        pairings(sp.S.One, sp.S.One),
    )
    return sp.Matrix([[tokens, mixed], [mixed, corner]]) - 3 * sp.ones(2, 2) == EXTRA_PAIRINGS


def next_order_step(theory: FreshTasks) -> Step:
    """The next order of the free entropy, and what it is checked against."""
    correction = theory.next_order
    names = sp.Matrix(2, 2, lambda i, j: sp.Symbol(f"X_{i + 1}{j + 1}", positive=True))
    phi = fluctuation_entropy(names, EXTRA_PAIRINGS)
    X = sp.eye(2) - theory.replicon

    def scaled(expression: sp.Expr, power: int) -> bool:
        small = {s.P: s.P / 1000}  # inside the stable region, where the logarithm is real
        changed = expression.subs(COLDER, simultaneous=True)
        return agree(changed.subs(small), (temperature_factor**power * expression).subs(small))

    def thermal_part() -> bool:
        values = {name: entry for name, entry in zip(names, X, strict=True)}
        small = {s.P: s.P / 1000}
        return agree(correction.thermal.subs(small), phi.subs(values).subs(small))

    def rule_at_mean_norms() -> bool:
        means = {x: sp.Rational(k + 2, 3) for k, x in enumerate(s.SCALARS)}
        return sp.simplify(concentrate(theory.linear_rule, means) - means[s.aligned] / means[s.context_norm]) == 0

    return Step(
        title="Beyond the saddle point: the next order",
        text=r"""
        The saddle point is of order $n = D^2 + D$. What it leaves out is of order one: a relative $1/D^2$, beside the
        $1/D$ of the norms' fluctuations, which are in it exactly. It is a function of the matrix $X$ of the stability
        matrix $I - X$. Overlaps of pairs of replicas fluctuate; a pair of eigenvalues $V_a$, $V_b$ of the
        replica matrices contributes $-\frac{1}{2} \log\det(I - X_{ab})$. Gaussian features would also fluctuate in
        norm, which the prompt law has already: this is taken back, $-\frac{1}{2} \mathrm{tr} X$. And a feature is a
        product, context times query, whose direction has more fourth moments than a Gaussian vector: where two
        prompts meet twice, $3 \times 3$ pairings instead of 3. Together they are $\phi$ below.

        The replica matrices have $n - 1$ equal eigenvalues and one that also carries what the replicas share. As
        $n \to 0$ a sum over their eigenvalues is $\phi$ at $V$, and its derivative along what is shared: along
        $R$ in the residuals, $s = 1 / (1 + b (T \chi + \epsilon R))$, and along the distance of the mean weights from
        the rule $\bar a I$ that the prompts ask for, $V + \epsilon (q - 2 \bar a m + \bar a^2)$ and $V_u + \epsilon u$.
        The first part is thermal; the second is $-\beta$ times a correction of the ground-state energy, and by its
        derivatives corrects $m$, $q$, $u$, the errors and $\log Z$ at first order.
        """,
        equations=(
            Equation(r"\phi", phi),
            Equation(r"\bar a", named(theory, theory.linear_rule)),
        ),
        claims=(
            Claim(
                r"a sum over pairs of replica eigenvalues becomes, as $n \to 0$, half of the function and its "
                "derivative along the shared part; a sum over eigenvalues becomes all of it",
                pairs_become_a_derivative,
            ),
            Claim(
                "at $n = 2, 3$, with every overlap varied and all matrices written out, the Hessian's determinant is "
                r"the product of $1 - X_{ab}$ over pairs of eigenvalues",
                lambda: all(fluctuations_are_pairs(k) for k in (2, 3)),
            ),
            Claim(
                r"Gaussian features: $\mathrm{E} \log\det$ of a Wishart matrix, by digamma functions, to order $1/n$",
                gaussian_features,
            ),
            Claim("one prompt of known norm: exact at order $1/n$", one_prompt),
            Claim(
                "the extra pairings are those of the fourth moments of a product of Gaussian vectors",
                pairings_counted,
            ),
            Claim(
                r"$P = \alpha D^2$ products of unit vectors: the expansion of $\mathrm{E} \log\det(1 + t K)$ to $t^4$, "
                "from exact moments, agrees at order $D^2$ and at order one",
                product_features,
            ),
            Claim(
                r"the first part is $\phi$ at the saddle point, and does not depend on temperature; the second is "
                r"proportional to $\beta$",
                lambda: thermal_part() and scaled(correction.thermal, 0) and scaled(correction.shared, 1),
            ),
            Claim(
                r"where all prompts have the same norms $\bar a = \langle c \cdot w \rangle / \langle |c|^2 \rangle$",
                rule_at_mean_norms,
            ),
        ),
    )
