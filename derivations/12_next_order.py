"""Beyond the saddle point: the next order of the free entropy, derived from fluctuations, norms and directions."""

from itertools import pairwise

import mpmath
import sympy as sp

from replica_icl.narration.checks import agree
from replica_icl.narration.derivation import Derivation, Found, numerically, symbolically, to_digits
from replica_icl.narration.shorthand import with_shrinkage
from replica_icl.narration.telling import tell
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average, concentrate
from replica_icl.symbolic.next_order import fluctuation_entropy
from replica_icl.symbolic.replica_algebra import per_replica
from replica_icl.theory.fresh_tasks import EXTRA_PAIRINGS, derive_fresh_tasks

derivation = Derivation(
    __file__,
    "Beyond the saddle point: the next order of the free entropy",
    needs=["replicated-action", "stability"],
    symbols={
        "M": "number of weights of a block: $D^2$ or $D$",
        "F": r"average of $\exp(-\frac{b}{2} \sum_\gamma r_\gamma^2)$ over one prompt's features",
        r"\theta": "squared norm of the features over its mean; in the expansion a small parameter",
        "p": "index of an eigenvalue in replica space; p' another",
        "c_p": "eigenvalue p of the residual covariance, without targets",
        "z_p": "$b c_p / (1 + b c_p)$",
        "z": "the same for one replica; z' of another prompt",
        r"\kappa_2": "cosine of two prompts' features, in the metric of the weights' covariance",
        "G": "Gram matrix of features of unit norm",
        r"\phi": "free entropy of one replica's fluctuations, of order one",
        r"\epsilon": "how much of the shared part is added to a replica's own",
        r"m_\star": "the rule that the prompts ask for, as a multiple of the identity",
    },
)

theory = derive_fresh_tasks()
correction = theory.next_order
n = s.replicas
NO_EXTRA = sp.zeros(1, 1)
X_names = sp.Matrix(2, 2, lambda i, j: sp.Symbol(f"X_{i + 1}{j + 1}", positive=True))
phi = fluctuation_entropy(X_names, EXTRA_PAIRINGS)

# ----------------------------------------------------------------------------------------------------------------------

derivation.step(
    "What is of order one",
    r"""
    The saddle point is of order $D^2$, the number of weights. It knows a prompt by its norms, whose fluctuations are
    of relative order $1/D$ and kept. What it leaves out is of order one, a relative $1/D^2$, and has three sources:
    overlaps fluctuate around the saddle; given the norms residuals are not exactly Gaussian; and the features are
    products. They are taken up one after another, for one block of $M$ weights without targets first.

    Fluctuations: [[replicated-action]] has them in units of the volume's, with the constants of the volume accounted
    for; [[stability]] has the Hessian, $1 - X_{p p'}$ for each pair of eigenvalues $p \le p'$ in replica space, with
    $X_{p p'} = \frac{P}{M} z_p z_{p'}$ and $z_p = b c_p / (1 + b c_p)$. The Gaussian integral is
    """,
)
derivation.equation(r"\text{fluctuations}", r"-\frac{1}{2} \sum_{p \le p'} \log(1 - X_{p p'})", "fluctuations")
derivation.text(
    r"""
    This is for features that are Gaussian vectors, and there it can be compared with what is known: at $n = 1$ and
    without a ridge $Z$ is a power of the determinant of a Wishart matrix.
    """
)


@derivation.claim(
    r"saddle point and [[fluctuations]] are $\mathrm{E} \log\det$ of a Wishart matrix but for a relative $1/M^2$: with "
    r"$X = M / P$, at $n \to 0$, where half of the pairs are left",
    numerically("exact digamma functions, M = 200 and 400, P = 3 M, 15 digits; the error halves as M doubles"),
)
def gaussian_features() -> Found:
    errors = []
    for count in (200, 400):
        prompts = 3 * count
        exact = mpmath.fsum(mpmath.digamma(mpmath.mpf(prompts - i) / 2) for i in range(count)) + count * mpmath.log(2)
        rest = prompts - count
        saddle = prompts * mpmath.log(prompts) - rest * mpmath.log(rest) - count
        pairs = -sp.log(1 - sp.Rational(count, prompts)) / 4
        errors.append(abs(exact - saddle + 2 * mpmath.mpf(sp.N(pairs, 30))))
    holds = bool(errors[0] < 1 / 200 and abs(errors[0] / errors[1] - 2) < 0.05)
    return Found(holds, f"left {float(errors[0]):.1e} and {float(errors[1]):.1e}")


t, M = sp.symbols("t M", positive=True)

derivation.step(
    "Norms that are given",
    r"""
    A Gaussian vector of $M$ features is a norm and a direction: $\theta$ times the mean squared norm, with $\theta$ a
    chi-square over its mean, of variance $2 / M$. The theory averages over the norms' own law, so what it needs is
    the average $F$ over the direction alone, on a sphere. The two are related by the definition of the former: with
    $F_{\mathrm{Gauss}}(C) = \det(I + b C)^{-1/2}$, the average of $F_{\mathrm{sphere}}(\theta C)$ over $\theta$ is
    $F_{\mathrm{Gauss}}(C)$, hence to order $1/M$
    """,
)
derivation.equation(
    r"F_{\mathrm{sphere}}(C)",
    r"F_{\mathrm{Gauss}}(C) - \frac{1}{M} \left. \partial_\theta^2 F_{\mathrm{Gauss}}(\theta C) \right|_{\theta = 1}",
    "sphere",
)
derivation.text(
    r"""
    The second derivative of a determinant's root is elementary, and for $P$ prompts the logarithm of [[sphere]] adds,
    beside the determinant,
    """
)
derivation.equation(r"\text{norms}", r"-\frac{1}{2} \sum_p X_{p p} - \frac{1}{4} \sum_{p p'} X_{p p'}", "given-norms")
derivation.text(
    r"""
    a sum over eigenvalues and one over pairs. (On the sphere residuals are correlated in their squares, a relative
    $-2/M$; with $P \sim M$ prompts that is of order one.)
    """
)


@derivation.claim(
    r"$\log(F_{\mathrm{Gauss}} - \frac{1}{M} \partial_\theta^2 F_{\mathrm{Gauss}}) - \log F_{\mathrm{Gauss}}$ to "
    r"order $1/M$ is "
    r"$-\frac{1}{M} (\frac{1}{2} \sum_p z_p^2 + \frac{1}{4} (\sum_p z_p)^2)$",
    symbolically("for n = 1, 2, 3 eigenvalues"),
)
def second_derivative_of_the_root() -> bool:
    def holds(size: int) -> bool:
        eigenvalues = sp.symbols(f"c1:{size + 1}", positive=True)
        gauss = sp.prod([(1 + t * x) ** sp.Rational(-1, 2) for x in eigenvalues])
        y = [x / (1 + x) for x in eigenvalues]
        first = -sp.simplify((gauss.diff(t, 2) / gauss).subs(t, 1))
        stated = -sum(x**2 for x in y) / 2 - sum(y) ** 2 / 4
        return sp.simplify(first - stated) == 0

    return all(holds(size) for size in (1, 2, 3))


@derivation.claim(
    r"on a sphere in $M$ dimensions, $n = 1$: $M (\log F_{\mathrm{sphere}} - \log F_{\mathrm{Gauss}}) \to "
    r"-\frac{3}{4} z^2$",
    numerically("exact hypergeometric function at M = 100, 200, 400, z = 2/3; the distance halves as M doubles"),
)
def on_the_sphere() -> Found:
    with mpmath.workdps(30):
        scale = mpmath.mpf(2)  # b c, so that z = 2/3

        def scaled(count: int) -> mpmath.mpf:
            half = mpmath.mpf(count) / 2
            sphere = mpmath.hyp1f1(mpmath.mpf(1) / 2, half, -half * scale)
            return count * (mpmath.log(sphere) + mpmath.log(1 + scale) / 2)

        left = [scaled(count) + mpmath.mpf(1) / 3 for count in (100, 200, 400)]
    holds = all(abs(far / near - 2) < 0.1 for far, near in pairwise(left))
    return Found(holds, ", ".join(f"{float(x):.5f}" for x in left))


derivation.step(
    "Directions that are products",
    r"""
    A feature is a product, $f = \tilde c \otimes \tilde x$, whose direction is not uniform on a sphere. Single
    residuals do not see it: for weights that are Gaussian a residual is Gaussian given the norms ([[norms]]). Pairs
    of prompts do. Take two prompts in the field of all others. Given the rest the weights are Gaussian, the two
    contribute $-\frac{1}{2} \log\det$ of a $2 \times 2$ matrix, and beside the product of single prompts it is
    $-\frac{1}{2} \log(1 - z z' \kappa_2^2)$, with $\kappa_2$ the cosine of their features. The first order in
    $\kappa_2^2$ is in the saddle point; the second is
    """,
)
derivation.equation(r"\text{two prompts}", r"\frac{1}{4} z^2 z'^2\, \mathrm{E}\, \kappa_2^4", "pair")
derivation.text(
    r"""
    For Gaussian vectors $\mathrm{E}\, \kappa_2^4 = 3 / M^2$, three pairings, which [[fluctuations]] has. For products
    it is the product of the fourth moments of $c \cdot c'$ and $\tilde x \cdot \tilde x'$, $3 \times 3$ pairings:
    three where both sides pair alike, six that are new. In the last row the entry on the context side is one number,
    and nothing is new. With $\frac{P^2}{2}$ pairs of prompts the six add $\frac{6}{8} X_{p p}^2$ for each eigenvalue
    in replica space. (Prompts that meet in more than one place along longer chains would need mixed pairings at every
    step, each smaller by $1/D$.) The numbers of new pairings for the blocks, tokens and last row:
    """
)
derivation.equation(r"\text{new pairings}", EXTRA_PAIRINGS)


@derivation.claim(
    r"the $2 \times 2$ determinant of two prompts expands as $-\frac{1}{2} \log(1 - z z' \kappa_2^2) = \frac{1}{2} "
    r"z z' "
    r"\kappa_2^2 + \frac{1}{4} z^2 z'^2 \kappa_2^4 + \dots$",
    symbolically(),
)
def two_prompts() -> bool:
    own, other, cosine = sp.symbols("phi_1 phi_2 kappa", positive=True)
    gram = sp.Matrix([[1 + own, sp.sqrt(own * other) * cosine], [sp.sqrt(own * other) * cosine, 1 + other]])
    alone = (1 + own) * (1 + other)
    y, z = own / (1 + own), other / (1 + other)
    expanded = sp.series(-sp.log(sp.cancel(gram.det() / alone)) / 2, cosine, 0, 6).removeO()
    return sp.simplify(expanded - (y * z * cosine**2 / 2 + (y * z) ** 2 * cosine**4 / 4)) == 0


@derivation.claim(
    "the new pairings are those of the fourth moments of a product of Gaussian vectors, per pair of blocks",
    symbolically("as D grows"),
)
def pairings_counted() -> bool:
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


derivation.step(
    r"$n \to 0$",
    r"""
    There are $n - 1$ equal eigenvalues in replica space, and one that also carries what the replicas share. As $n \to
    0$ a sum over eigenvalues becomes $n$ times the function at the common eigenvalue plus its derivative along the
    shared part; a sum over pairs $p \le p'$ becomes half of that, because half of the pairs are left; a sum over all
    ordered pairs has nothing of this order. So [[fluctuations]] gives $-\frac{1}{4} \log(1 - X)$, [[given-norms]]
    gives $-\frac{1}{2} X$, and the new pairings $\frac{6}{8} X^2$. With two blocks $X$ is the matrix of
    [[stability]]:
    """,
)
derivation.equation(r"\phi", phi, "phi")
derivation.text(
    r"""
    $\phi$ is the part of the replicas' own, thermal fluctuations, and does not depend on temperature. The derivative
    along what they share is $-\beta$ times a correction of the ground-state energy: along $R$ in the residuals, $s =
    1 / (1 + b (T \chi + \epsilon R))$, and along the mean weights in the fluctuations, $V + \epsilon (q - 2 m_\star m
    + m_\star^2)$ and $V_u + \epsilon u$.
    """
)


@derivation.claim(
    r"a sum over eigenvalues becomes the function plus its derivative along the shared part, a sum over pairs $p "
    r"\le p'$ "
    r"half of that, and $\frac{1}{2} \sum_p X_{p p} + \frac{1}{4} \sum_{p p'} X_{p p'}$ half of $X$ and of its "
    r"derivative",
    to_digits(30, "for -log(1 - g v v') / 2 and for the product g v v' itself"),
)
def pairs_become_a_derivative() -> bool:
    own, shared, g = s.V, s.q, sp.Symbol("g", positive=True)
    uniform, step, small = own + n * shared, sp.Symbol("epsilon"), {g: g / 10}

    def becomes(function, weight: sp.Expr, of_sum: sp.Expr) -> bool:  # type: ignore[no-untyped-def]
        along = function(own + step * shared, own + step * shared).diff(step).subs(step, 0)
        expected = weight * (function(own, own) + along)
        return agree(per_replica(of_sum, n).subs(small), expected.subs(small))

    def logarithm(v: sp.Expr, w: sp.Expr) -> sp.Expr:
        return -sp.log(1 - g * v * w) / 2

    def product(v: sp.Expr, w: sp.Expr) -> sp.Expr:
        return g * v * w

    def singles(function) -> sp.Expr:  # type: ignore[no-untyped-def]
        return (n - 1) * function(own, own) + function(uniform, uniform)

    def pairs(function) -> sp.Expr:  # type: ignore[no-untyped-def]
        of_equal = n * (n - 1) / 2 * function(own, own)
        return of_equal + (n - 1) * function(own, uniform) + function(uniform, uniform)

    ordered = 2 * pairs(product) - singles(product)
    half = sp.Rational(1, 2)
    return (
        becomes(logarithm, sp.S.One, singles(logarithm))
        and becomes(logarithm, half, pairs(logarithm))
        and becomes(product, half, singles(product) / 2 + ordered / 4)
    )


@derivation.claim(
    "one prompt of known norm: saddle point and next order are $\\log(1 + b c)$ at order $1/M$", symbolically()
)
def one_prompt() -> bool:
    power, order, shift = sp.symbols("power epsilon shift", positive=True)  # epsilon = 1/M

    # extr over v of log(1 + power v) + M (v - 1 - log v), to second order in the shift of v from 1.
    function = sp.log(1 + power * (1 + shift)) + (shift - sp.log(1 + shift)) / order
    moved = sp.series(function, shift, 0, 3).removeO()
    (at,) = sp.solve(moved.diff(shift), shift)
    saddle = sp.series(moved.subs(shift, at), order, 0, 2).removeO()
    X = sp.Matrix([[order * (power / (1 + power)) ** 2]])
    added = sp.series(-2 * fluctuation_entropy(X, NO_EXTRA), order, 0, 2).removeO()
    return sp.simplify(saddle + added - sp.log(1 + power)) == 0


@derivation.claim(
    r"$P = \alpha D^2$ products of unit vectors: the expansion of $\mathrm{E} \log\det(1 + \theta G)$ to "
    r"$\theta^4$, by exact moments "
    "of the Gram matrix, agrees at order $D^2$ and at order one",
    symbolically(),
)
def product_features() -> bool:
    D, alpha = s.D, s.alpha
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


derivation.step(
    "Targets: the rule that the prompts ask for",
    r"""
    With targets the trace $m$ fluctuates, too, and it is one weight among $D^2$. Write $W = m_\star I + \dots$ for
    every replica and count overlaps from there: $dQ$ becomes $dQ + m_\star (dm_\gamma + dm_{\gamma'})$, and a
    prompt's residual covariance moves by $T [a\, dQ - (g - m_\star a)(dm_\gamma + dm_{\gamma'})]$. Fluctuations of
    traces and of overlaps do not mix if $\langle T^2 a (g - m_\star a) s^2 \rangle = 0$: $m_\star$ is the regression
    of $g$ on $a$, weighted as the fluctuations are.
    """,
)
derivation.equation(r"m_\star", with_shrinkage(theory, theory.linear_rule), "rule")
derivation.text(
    r"""
    Around it the $D^2$ weights of the token block are alike, $m$ is no longer distinguished, and the results for
    features without targets hold with the distance $q - 2 m_\star m + m_\star^2$ of the mean weights from the rule as
    what the replicas share. Adding the next order to the free entropy moves the saddle, at first order, by minus the
    inverse Hessian times its slope; a training error also gains its derivative in $b$. That is what `solve` gives as
    the next order beside every value. Like the pairings that were left out it is good to a relative $1/D$, and it is
    of use where it is small: not without a ridge close to $P = D (D + 1)$.
    """
)


@derivation.claim(
    r"counted from [[rule]], traces and overlaps do not mix: $\langle T^2 a (g - m_\star a) s^2 \rangle = 0$",
    to_digits(),
)
def traces_do_not_mix() -> bool:
    weight = s.query_norm**2 * s.context_norm * theory.energetic.shrinkage**2
    pulled, own = (Average(weight * x, s.SCALARS) for x in (s.aligned, s.context_norm))
    return agree(pulled - theory.linear_rule * own, sp.S.Zero)


@derivation.claim(r"where all prompts have the same norms $m_\star = g / a$", symbolically("the law at one point"))
def rule_at_equal_norms() -> bool:
    means = {x: sp.Rational(k + 2, 3) for k, x in enumerate(s.SCALARS)}
    return sp.simplify(concentrate(theory.linear_rule, means) - means[s.aligned] / means[s.context_norm]) == 0


@derivation.claim(
    r"the thermal part is $\phi$ at the saddle's $X$ and does not depend on temperature; the shared part is "
    r"proportional to "
    r"$\beta$",
    to_digits(),
)
def parts_and_temperature() -> bool:
    p = sp.Symbol("p", positive=True)
    colder = {s.beta: p * s.beta, s.inverse_scale: p * s.inverse_scale, s.V: s.V / p, s.V_u: s.V_u / p}
    small = {s.P: s.P / 1000}  # inside the stable region, where the logarithm is real
    X = sp.eye(2) - theory.replicon
    values = dict(zip(X_names, X, strict=True))

    def scaled(expression: sp.Expr, power: int) -> bool:
        changed = expression.subs(colder, simultaneous=True)
        return agree(changed.subs(small), (p**power * expression).subs(small), points=1)

    own = agree(correction.thermal.subs(small), phi.subs(values).subs(small), points=1)
    return own and all(scaled(entry, 0) for entry in X) and scaled(correction.shared, 1)


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
