"""Beyond the saddle point: the next order of the free entropy, derived from fluctuations, norms and directions."""

import itertools
from collections.abc import Iterator
from itertools import pairwise

import mpmath
import numpy as np
import sympy as sp

from replica_icl.lowering.model import LINEAR_ATTENTION
from replica_icl.narration.checks import agree
from replica_icl.narration.derivation import Derivation, Found, by_simulation, numerically, symbolically, to_digits
from replica_icl.narration.shorthand import with_shrinkage
from replica_icl.narration.telling import tell
from replica_icl.numeric.hard_edge import FAR, edge, undetermined
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average, concentrate
from replica_icl.symbolic.next_order import Meetings, fluctuation_entropy
from replica_icl.symbolic.replica_algebra import per_replica
from replica_icl.theory.fresh_tasks import derive_fresh_tasks, product_meetings

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
        r"\Psi": "free entropy of the weights of one replica at the saddle point",
        r"\Gamma": "covariance over norms of the gradient of the free entropy in one sample",
        r"\sigma": "an eigenvalue of a Wishart matrix at its hard edge, in units of their spacing",
        r"\zeta": "the ridge in these units",
        r"\vartheta": r"$2 \sqrt{\zeta}$",
        "h": "number of directions of prompts that the weights leave, at the saddle point",
        r"\delta": r"$|P - D (D + 1)|$, the index of the hard edge",
        r"\psi": "what the hard edge adds to the free entropy of one replica",
    },
)

theory = derive_fresh_tasks()
correction = theory.next_order
n = s.replicas
GAUSSIAN = Meetings(sp.zeros(1, 1))
meetings = product_meetings()
X_names = sp.Matrix(2, 2, lambda i, j: sp.Symbol(f"X_{i + 1}{j + 1}", positive=True))
phi = fluctuation_entropy(X_names, meetings)

# ----------------------------------------------------------------------------------------------------------------------

derivation.step(
    "What is of order one",
    r"""
    The saddle point is of order $D^2$, the number of weights. It knows a prompt by its norms, whose fluctuations are
    of relative order $1/D$ and kept. What it leaves out is of order one, a relative $1/D^2$, and has four sources:
    overlaps fluctuate around the saddle; given the norms residuals are not exactly Gaussian; the features are
    products; and the norms of one sample move its saddle point. They are taken up one after another, for one block of
    $M$ weights without targets first.

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
    it is the product of the fourth moments of $c \cdot c'$ and $\tilde x \cdot \tilde x'$, at large $D$ $3 \times 3$
    pairings: three where both sides pair alike, six that are new. In the last row the entry on the context side is one
    number. Unit vectors in $D$ dimensions have $\mathrm{E} (c \cdot c')^4 = 3 / (D (D + 2))$, so that the new pairings
    for the blocks, tokens and last row, are exactly
    """
)
derivation.equation(r"\text{new pairings}", meetings.twice)
derivation.text(
    r"""
    With $\frac{P^2}{2}$ pairs of prompts they add $\frac{1}{8} X_{p p}^2$ each, for each eigenvalue in replica space.
    Prompts that meet in longer chains would need mixed pairings at every step, each smaller by $1/D$. The first such
    chain is three prompts that meet pairwise twice. $(c \cdot c')^2$ has the eigenvalues $1/D$ on constants and
    $\frac{2}{D (D + 2)}$ on the $\frac{1}{2} (D - 1)(D + 2)$ harmonics of second degree, and so has $(\tilde x \cdot
    \tilde x')^2$: around three prompts the product has a trace a relative $8/D$ larger than that of the constants. Four
    closed walks go around three prompts with each edge twice, so that $\frac{1}{3}$ of it is added. For one block:
    """
)
derivation.equation(
    r"\text{three prompts}", sp.factor(meetings.thrice(sp.diag(sp.Symbol("X", positive=True), 0)) / 3), "three"
)


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


def on_spheres(edges: list[tuple[int, int]]) -> sp.Expr:
    """Average over unit vectors in D dimensions of the product of their scalar products, one for each edge.

    Wick pairings of each vector's ends of edges; a closed loop of edges and pairings is a factor D.
    """
    ends: dict[int, list[tuple[int, int]]] = {}
    for e, (i, j) in enumerate(edges):
        ends.setdefault(i, []).append((e, 0))
        ends.setdefault(j, []).append((e, 1))

    def pairings(items: list[tuple[int, int]]) -> Iterator[list[tuple[tuple[int, int], tuple[int, int]]]]:
        if not items:
            yield []
        for k in range(1, len(items)):
            for rest in pairings(items[1:k] + items[k + 1 :]):
                yield [(items[0], items[k]), *rest]

    total = sp.S.Zero
    for chosen in itertools.product(*(list(pairings(items)) for items in ends.values())):
        partner = {x: y for pairs in chosen for pair in pairs for x, y in (pair, pair[::-1])}
        left, loops = set(partner), 0
        while left:
            e, side = start = left.pop()
            loops += 1
            while (following := partner[e, 1 - side]) != start:
                left -= {(e, 1 - side), following}
                e, side = following
            left.discard((e, 1 - side))
        total += s.D**loops
    moments = sp.Mul(*(s.D + 2 * k for items in ends.values() for k in range(len(items) // 2)))
    return sp.factor(total / moments)


def in_blocks(corners: int) -> sp.Expr:
    """(s . s')^2 around a closed chain of `corners` prompts, s = (f^(1/2) c, g^(1/2)) (outer) x of unit c and x."""
    f, g = sp.symbols("f g", positive=True)
    chain = [(i, (i + 1) % corners) for i in range(corners)] if corners > 2 else [(0, 1), (0, 1)]
    queries = on_spheres([edge for edge in chain for _ in range(2)])
    total = sp.S.Zero
    for powers in itertools.product(range(3), repeat=len(chain)):
        edges = [edge for edge, power in zip(chain, powers, strict=True) for _ in range(power)]
        degree = [sum(edge.count(i) for edge in edges) for i in range(corners)]
        if all(d % 2 == 0 for d in degree):
            share = sp.Mul(*(sp.binomial(2, power) for power in powers))
            inside = sum(powers)
            total += share * f**inside * g ** (2 * len(chain) - inside) * (on_spheres(edges) if edges else 1)
    return sp.expand(total * queries)


def around_three(walk: tuple[int, ...]) -> bool:
    """Whether a closed walk takes each of three edges twice; prompts named in the order in which they are met."""
    steps = [frozenset(step) for step in zip(walk, (*walk[1:], walk[0]), strict=True)]
    named_in_order = list(dict.fromkeys(walk)) == [0, 1, 2]
    return named_in_order and all(steps.count(frozenset(edge)) == 2 for edge in ((0, 1), (1, 2), (2, 0)))


@derivation.claim(
    "the new pairings and [[three]], from moments of products of unit vectors with all pairings counted; four closed "
    "walks go around three prompts with each edge twice",
    symbolically("at any D"),
)
def meetings_counted() -> bool:
    """Two prompts meet in (s . s')^4, of which Gaussian vectors have three pairings; three in a chain."""
    f, g, P = sp.symbols("f g P", positive=True)
    X = sp.Matrix([[P * f**2 / s.D**2, P * f * g / s.D**2], [P * f * g / s.D, P * g**2 / s.D]])
    trace = (X * X).trace()
    twice = sum((meetings.twice[i, j] * X[i, j] * X[j, i] for i in (0, 1) for j in (0, 1)), 3 * trace)
    walks = [walk for walk in itertools.product(range(3), repeat=6) if around_three(walk)]
    return (
        sp.simplify(P**2 * in_blocks(2) - twice) == 0
        and sp.simplify(P**3 * in_blocks(3) - meetings.thrice(X) - (X**3).trace()) == 0
        and len(walks) == 4
    )


derivation.step(
    r"$n \to 0$",
    r"""
    There are $n - 1$ equal eigenvalues in replica space, and one that also carries what the replicas share. As $n \to
    0$ a sum over eigenvalues becomes $n$ times the function at the common eigenvalue plus its derivative along the
    shared part; a sum over pairs $p \le p'$ becomes half of that, because half of the pairs are left; a sum over all
    ordered pairs has nothing of this order. So [[fluctuations]] gives $-\frac{1}{4} \log(1 - X)$, [[given-norms]]
    gives $-\frac{1}{2} X$, and the new pairings and [[three]] are added. With two blocks $X$ is the matrix of
    [[stability]]:
    """,
)
derivation.equation(
    r"\phi",
    r"-\frac{1}{4} \log\det (I - X) - \frac{1}{2} \mathrm{tr}\, X + \text{new pairings} + \text{three prompts}",
    "phi",
)
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
    added = sp.series(-2 * fluctuation_entropy(X, GAUSSIAN), order, 0, 2).removeO()
    return sp.simplify(saddle + added - sp.log(1 + power)) == 0


@derivation.claim(
    r"$P = \alpha D^2$ products of unit vectors: the expansion of $\mathrm{E} \log\det(1 + \theta G)$ to "
    r"$\theta^4$, by exact moments "
    "of the Gram matrix, agrees at orders $D^2$, one and $1/D$",
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
    tokens = Meetings(meetings.twice[:1, :1], lambda X: meetings.thrice(sp.diag(X[0, 0], 0)))
    predicted = sp.expand(sp.series(saddle - 2 * fluctuation_entropy(X, tokens), t, 0, 5).removeO())
    return all(sp.limit(sp.expand(D * (x - predicted.coeff(t, k + 1))), D, sp.oo) == 0 for k, x in enumerate(exact))


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
    what the replicas share. A single prompt's own rule is not $m_\star$ but $g / a$; with it in $-\frac{1}{2} X$ a
    sample's own traces are counted, of which [[jensen]] below has the rest.
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


derivation.step(
    "The norms of one sample",
    r"""
    The saddle point has the norms' mean effect on the free entropy. One sample has norms of its own, $P$ of them, and a
    saddle point of its own: with $\Psi$ the free entropy as a function of all order parameters and $\Gamma$ the
    covariance, over norms, of its gradient in one sample, the mean of the extremum differs from the extremum of the
    mean by
    """,
)
derivation.equation(r"\text{Jensen}", r"-\frac{1}{2} \mathrm{tr}\, (\Psi''^{-1}\, \Gamma)", "jensen")
derivation.text(
    r"""
    At first order in $X$ this and $-\frac{1}{2} X$ make of pairs of prompts, which the saddle point counts $P^2$, the
    $P (P - 1)$ that there are, each with its prompts' own norms. So the next order is exact for a large ridge, where
    the weights are a sum over prompts, and for few weak prompts.

    Adding the next order to the free entropy moves the saddle, at first order, by minus the inverse Hessian times its
    slope; a training error also gains its derivative in $b$. That is what `solve` gives as the next order beside every
    value. Temperature does not move the mean weights: the slope of the thermal part in $V$ is that of the shared one
    in $q$. So the thermal part is gone from the difference of the two equations, and the system is solved in the order
    $V$, $m$, $q$ without cancellations, at any ridge.
    """
)
VALUES = dict(
    zip(
        (s.D, s.P, s.inverse_scale, s.noise, s.m, s.q, s.V, s.u, s.V_u),
        (sp.Rational(x, 90) for x in (540, 1800, 135, 30, 36, 45, 63, 10, 18)),
        strict=True,
    )
)
thermal, shared = (correction.names.in_full(part) for part in (correction.thermal, correction.shared))


def with_unlike_prompts(expression: sp.Expr, values: dict[sp.Symbol, sp.Expr]) -> sp.Expr:
    """The expression at `values`, with averages over a law of two unlike prompts."""
    prompts = [{x: sp.Rational(k + 3 + 2 * i * (k % 2), 4 + i) for k, x in enumerate(s.SCALARS)} for i in (0, 1)]

    def mean(average: sp.Basic) -> sp.Expr:
        integrand = average.integrand.subs(values)
        return sp.N((integrand.subs(prompts[0]) + 2 * integrand.subs(prompts[1])) / 3, 40)

    averages = {average: mean(average) for average in expression.atoms(Average)}
    return sp.N(expression.xreplace(averages).subs(values), 40)


@derivation.claim(
    r"the thermal part is $\phi$ at the saddle's $X$ where all prompts have the same norms",
    to_digits(),
)
def own_part() -> bool:
    means = {x: sp.Rational(k + 2, 3) for k, x in enumerate(s.SCALARS)}
    small = {s.P: s.P / 1000}  # inside the stable region, where the logarithm is real
    values = dict(zip(X_names, sp.eye(2) - theory.replicon, strict=True))
    alike = [concentrate(expression, means).subs(small) for expression in (thermal, phi.subs(values))]
    return agree(*alike, points=1)


@derivation.claim(
    r"the thermal part does not depend on temperature, the shared part is proportional to $\beta$",
    to_digits(30, "with two unlike prompts"),
)
def parts_and_temperature() -> bool:
    factor = sp.Rational(7, 3)
    changed = {s.inverse_scale: factor, s.V: 1 / factor, s.V_u: 1 / factor}
    colder = {x: value * changed.get(x, 1) for x, value in VALUES.items()}

    def scaled(expression: sp.Expr, power: int) -> bool:
        left = with_unlike_prompts(expression, colder) - factor**power * with_unlike_prompts(expression, VALUES)
        return bool(abs(left) < 1e-30)

    return scaled(thermal, 0) and scaled(shared, 1)


@derivation.claim(
    "the slope of the thermal part in $V$ is that of the shared part in $q$, and so for the last row",
    to_digits(30, "with two unlike prompts"),
)
def temperature_does_not_move_the_weights() -> bool:
    differences = (thermal.diff(V) - shared.diff(q) for V, q in ((s.V, s.q), (s.V_u, s.u)))
    return all(abs(with_unlike_prompts(difference, VALUES)) < 1e-30 for difference in differences)


@derivation.claim(
    "[[jensen]] is the sum of the parts that the code has, for a Hessian and a gradient of their structure",
    symbolically("with numbers in the Hessian and the gradient"),
)
def jensen_is_split() -> bool:
    """-(1/2) tr(Psi''^-1 Cov) in q, V and m, with Psi'' and Cov of their structure: in full and in parts."""
    J, B = (sp.Matrix(2, 2, sp.symbols(f"{x}11 {x}12 {x}12 {x}22")) for x in "JB")
    k, h = sp.Matrix(sp.symbols("k1 k2")), sp.Symbol("h")
    rows = ((sp.zeros(2), J, sp.zeros(2, 1)), (J, J + B, k), (sp.zeros(1, 2), k.T, sp.Matrix([[h]])))
    hessian = sp.Matrix.vstack(*(sp.Matrix.hstack(*row) for row in rows))
    numbers = dict(
        zip(sorted(hessian.free_symbols, key=str), map(sp.Integer, (3, 1, 5, 7, 2, 11, 13, 4, 9)), strict=False)
    )
    p, r, g = sp.Matrix([2, 3]), sp.Matrix([1, -4]), sp.Integer(5)
    gradient = sp.Matrix([*p, *(p + r), g])
    whole = -(hessian.inv() * gradient * gradient.T).trace() / 2
    inverse = J.inv()
    parts = (
        -(inverse * p * p.T).trace() / 2
        - (inverse * r * p.T).trace()
        + (inverse * (B - k * k.T / h) * inverse * p * p.T).trace() / 2
        + (inverse * k).dot(p) * g / h
        - g**2 / (2 * h)
    )
    return sp.simplify((whole - parts).subs(numbers)) == 0


derivation.step(
    "The hard edge",
    r"""
    At $P = D (D + 1)$ and a small ridge all of this fails: the smallest eigenvalues of the couplings are few, lie at
    distances of the order of the ridge, and do not average out. Most of the weights' volume and of the prompts' weight
    cancel there, and of the integral over overlaps $Q$ there is left
    """,
)
derivation.equation(
    r"\text{hard edge}",
    r"\int dQ\, \det Q^{(D^2 + D - P - n - 1)/2} \exp(-\frac{1}{2} \mathrm{tr}\, Q^{-1} - "
    r"\frac{\zeta}{2} \mathrm{tr}\, Q)",
    "edge",
)
derivation.text(
    r"""
    a function of two numbers, $\delta = |P - D (D + 1)|$ and the ridge $\zeta$ in units of the spacing of the smallest
    eigenvalues, for features of any kind. It is that of a real Wishart matrix of index $\delta$, whose eigenvalues
    $\sigma$ near zero have a known density (Verbaarschot, Phys. Rev. Lett. 72, 2531 (1994)): with $\vartheta = 2
    \sqrt\zeta$ and modified Bessel functions the number of directions that are left is
    """
)
derivation.equation(
    r"\mathrm{E} \sum \zeta / (\sigma + \zeta)",
    r"\frac{\vartheta^2}{2} (\mathrm{I}_\delta(\vartheta) \mathrm{K}_\delta(\vartheta) + "
    r"\mathrm{I}_{\delta + 1}(\vartheta) \mathrm{K}_{\delta - 1}(\vartheta)) + \frac{\vartheta}{2} "
    r"\mathrm{I}_\delta(\vartheta) \int_\vartheta^\infty \mathrm{K}_\delta",
    "left",
)
derivation.text(
    r"""
    where the saddle point has $h$, with $h (h + \delta) = \zeta$, and [[fluctuations]] add $\zeta / (2 h +
    \delta)^2$. The rest is integrated to $\psi(h; \delta)$, a sum of inverse powers of $2 h + \delta$ far from the
    edge. It is added to the free entropy of one replica $X^2 (2 - X)^2$ times, with $X$ that of Gaussian features:
    once up to order $1/M^2$ next to the edge, and not at all for weak prompts, where [[phi]] is exact. What the
    replicas share is its slope along them. At the edge it is all: a square matrix without a ridge has $\frac{\pi}{2}$
    times the saddle point's $h$, at every $D$.
    """
)


@derivation.claim(
    "[[left]] is the mean over eigenvalues of square Wishart matrices and of ones with two more columns, within 4 "
    "standard errors and 1 %",
    by_simulation(41, "4000 matrices of 60 rows, $\\vartheta$ = 0.3, 1 and 5"),
)
def eigenvalues_at_the_edge() -> Found:
    rng, rows, count, shown, holds = np.random.default_rng(41), 60, 4000, [], True
    for index in (0, 2):
        spectra = np.linalg.eigvalsh(
            np.stack([(x := rng.standard_normal((rows, rows + index))) @ x.T for _ in range(count)])
        )
        for mu in (0.3, 1.0, 5.0):
            zeta = mu**2 / 4
            left = np.sqrt(zeta + index**2 / 4) - index / 2
            ridge = zeta / (rows - left)  # the matrices' own saddle point is left (left + index) = ridge (rows - left)
            each = np.sum(ridge / (spectra + ridge), axis=1)
            found, sem = each.mean(), each.std(ddof=1) / np.sqrt(count)
            exact = float(undetermined(index, np.array([mu]))[0][0])
            holds = holds and abs(found - exact) < 4 * sem + 0.01 * exact
            shown.append(f"{found:.4f} ({exact:.4f})")
    return Found(bool(holds), "simulated (exact): " + ", ".join(shown))


@derivation.claim(
    r"as $\vartheta \to 0$ at $\delta = 0$ [[left]] is $\frac{\pi}{2}$ times $h = \sqrt\zeta$",
    numerically(r"$\vartheta = 10^{-6}$"),
)
def square_without_a_ridge() -> Found:
    mu = np.array([1e-6])
    ratio = float(undetermined(0, mu)[0][0] / (mu[0] / 2))
    return Found(abs(ratio - np.pi / 2) < 1e-5, f"{ratio:.6f}")


@derivation.claim(
    r"the slope of $\psi$ from its inverse powers is that from Bessel functions, where the two meet",
    numerically(r"series and Bessel functions at $2 h + \delta = 40$, five indices"),
)
def series_meets_the_law() -> Found:
    worst = 0.0
    for index in (0, 1, 3, 10, 30):
        kappa = (FAR - index) / 2 * (1 + 1e-12 * np.array([-1.0, 1.0]))
        slopes = [float(edge(LINEAR_ATTENTION, np.array([index]), kappa[k : k + 1]).slope[0]) for k in (0, 1)]
        worst = max(worst, abs(slopes[0] / slopes[1] - 1))
    return Found(worst < 1e-6, f"{worst:.1e}")


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
