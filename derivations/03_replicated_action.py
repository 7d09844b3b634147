"""Z^n at an integer number of replicas: residuals, overlaps as order parameters, the volume of the weights."""

from itertools import combinations_with_replacement

import mpmath
import sympy as sp

from replica_icl.model.attention.merged import residual_covariance
from replica_icl.narration.checks import agree, vanishes
from replica_icl.narration.derivation import (
    Derivation,
    Found,
    at_integers,
    numerically,
    symbolically,
    to_digits,
)
from replica_icl.narration.telling import tell
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric
from replica_icl.theory.fresh_tasks import derive_fresh_tasks

derivation = Derivation(
    __file__,
    "The replicated action at an integer number of replicas",
    needs=["hamiltonian"],
    symbols={
        r"\delta": "Dirac's delta function",
        r"\hat Q": "field conjugate to $Q$, a symmetric matrix",
        r"\hat m": "field conjugate to $m$, a vector",
        "z": "conjugate field of one constraint",
        r"Q_\perp": "$Q - m m^T$, overlaps orthogonal to the identity",
    },
)

theory = derive_fresh_tasks()
covariance = theory.covariance
D, n = s.D, s.replicas


def symmetric(name: str, size: int) -> sp.Matrix:
    """A symmetric matrix of symbols."""
    return sp.Matrix(size, size, lambda i, j: sp.Symbol(f"{name}_{{{min(i, j) + 1}{max(i, j) + 1}}}", real=True))


def exponent(size: int) -> tuple[sp.Expr, sp.Matrix, sp.Matrix, sp.Matrix, sp.Matrix]:
    """Exponent of the integral over the conjugate fields at n = size, with Q, m, Q^ and m^."""
    Q, field = symmetric("Q", size), symmetric(r"\hat Q", size)
    m, source = (sp.Matrix(size, 1, lambda i, _, x=x: sp.Symbol(f"{x}_{i + 1}", real=True)) for x in ("m", r"\hat m"))
    weights = D / 2 * (source.T * field.inv() * source)[0] - D**2 / 2 * sp.log(field.det())
    value = D / 2 * (field * Q).trace() - D * (source.T * m)[0] + weights + size * D**2 / 2 * sp.log(2 * sp.pi)
    return value, Q, m, field, source


# ----------------------------------------------------------------------------------------------------------------------

m_1, m_2, Q_12, U_12 = sp.symbols("m_1 m_2 Q_12 U_12", real=True)
entry = covariance.entry(m_1, m_2, Q_12, U_12)

derivation.step(
    "Residuals of replicas on one prompt",
    r"""
    The free energy is the average of $\log Z$ over samples of $P$ prompts, $Z = \int dW \exp(-\beta E(W))$ over the
    $D (D + 1)$ weights that act. For integer $n$, $Z^n$ is the partition function of $n$ copies of the weights,
    $W_\gamma$, on the same prompts, and the average over prompts couples the copies. It needs the joint law of their
    residuals $r_\gamma = \tilde y - \hat y_\gamma$ on one prompt.

    What a prompt says by its norms is kept as five scalars: $T = |\tilde x|^2 / D$, $\omega = |w|^2 / D$, $g = c
    \cdot w / \sqrt{D}$, $a = |c|^2$ and $\ell$. Given these, the directions of query, and of context and task
    together, are isotropic. A residual is then a sum over many weights, and the residuals of the replicas are taken
    as jointly Gaussian. For weights that are themselves Gaussian and independent of the prompt this is exact: given
    $c$ and $\tilde x$, $c^T W \tilde x$ is a sum of Gaussians. In general it leaves fourth cumulants that are smaller
    than the second by the number of weights; what they do is in [[next-order]].

    The covariance follows from the forward pass: the product of two residuals, averaged over these directions,
    depends on the weights through $m_\gamma = \mathrm{tr}\, W_{DD} / D$, the overlaps $Q$ of the token blocks and the
    overlaps $U$ of the last rows. For replicas 1 and 2:
    """,
)
derivation.equation(r"C_{12} = \langle r_1 r_2 \rangle", entry, label="covariance")


@derivation.claim(
    r"the average of the product of two residuals is [[covariance]] at $D = 2$ and at $D = 3$", symbolically()
)
def same_at_every_dimension() -> bool:
    return residual_covariance(2) == residual_covariance(3) == covariance


@derivation.claim(
    r"replicas $W = m_\gamma I$ have $C_{12} = T (w/\sqrt{D} - m_1 c) \cdot (w/\sqrt{D} - m_2 c) + \rho$",
    symbolically(),
)
def multiples_of_the_identity() -> bool:
    T, omega, g, a = s.query_norm, s.task_norm, s.aligned, s.context_norm
    stated = T * (omega - (m_1 + m_2) * g + m_1 * m_2 * a) + s.noise
    return vanishes(covariance.entry(m_1, m_2, m_1 * m_2, 0) - stated)


derivation.step(
    "The prompts' part",
    r"""
    Prompts are independent. Each contributes the average of $\exp(-\frac{b}{2} \sum_\gamma r_\gamma^2)$, $b = \beta /
    P$, over its Gaussian residuals, a determinant, and then over its scalars, written $\langle\, \cdot\, \rangle$. So
    the prompts' part of $\log \langle Z^n \rangle$ at given overlaps is $P \log \langle \det(I + b C)^{-1/2}
    \rangle$. For one replica:
    """,
)
derivation.equation(r"\text{prompts}, n = 1", theory.energetic.explicit(1))


@derivation.claim(
    r"$\langle \exp(-\frac{b}{2} \sum_\gamma r_\gamma^2) \rangle = \det(I + b C)^{-1/2}$ for Gaussian residuals, "
    r"order by "
    "order in $b$ to $b^3$, with their moments by Wick's theorem",
    at_integers(1, 2),
)
def gaussian_integral() -> bool:
    b = s.inverse_scale

    def wick(indices: tuple[int, ...], C: sp.Matrix) -> sp.Expr:
        """Moment of a product of residuals: sum over pairings."""
        if not indices:
            return sp.S.One
        first, *rest = indices
        return sum(C[first, x] * wick((*rest[:i], *rest[i + 1 :]), C) for i, x in enumerate(rest))

    def holds(size: int) -> bool:
        C = symmetric("C", size)
        determinant = (sp.eye(size) + b * C).det() ** sp.Rational(-1, 2)
        moments = sp.S.Zero
        for order in range(4):
            squares = (combination for combination in _words(size, order))
            moments += (-b / 2) ** order / sp.factorial(order) * sum(wick(word, C) for word in squares)
        return sp.expand(sp.series(determinant, b, 0, 4).removeO() - moments) == 0

    return holds(1) and holds(2)


def _words(size: int, order: int) -> list[tuple[int, ...]]:
    """(r_1^2 + .. + r_n^2)^order as a list of products."""
    words: list[tuple[int, ...]] = [()]
    for _ in range(order):
        words = [(*word, a, a) for word in words for a in range(size)]
    return words


derivation.step(
    "The volume of the weights: constraints and conjugate fields",
    r"""
    The sum over weights is done in two stages: over all weights with given overlaps, then over the overlaps. The
    token block has $D^2$ weights, and the identity as a direction of its own:
    """,
)
derivation.equation(
    r"\mathrm{vol}(Q, m)",
    r"\int \prod_\gamma dW_\gamma \prod_{\gamma \le \gamma'} \delta(D Q_{\gamma\gamma'} - \mathrm{tr}\, W_\gamma "
    r"W_{\gamma'}^T) \prod_\gamma \delta(D m_\gamma - \mathrm{tr}\, W_\gamma)",
)
derivation.text(
    r"""
    Each delta function is an integral along a line parallel to the imaginary axis, $\delta(D m - \mathrm{tr}\, W) =
    \int \frac{dz}{2 \pi \mathrm{i}} \exp(z (D m - \mathrm{tr}\, W))$. The real part of $z$ is free, since a factor of
    $\exp(z (D m - \mathrm{tr}\, W))$ with real $z$ is one under the delta function. With a symmetric matrix $\hat Q$
    for the overlaps (a factor $\frac{1}{2}$ counts every pair once) and a vector $\hat m$ for the traces the weights
    separate. With $\mathrm{Re}\, \hat Q$ positive definite, which the freedom of the contour allows, there are $D^2$
    convergent Gaussian integrals over the $n$ replicas of one weight, with $\hat Q$ as precision; and $\hat m$ is a
    field on the $D$ diagonal ones. What is left is an integral over the conjugate fields of the exponential of
    """
)
derivation.equation(
    r"\text{exponent}",
    r"\frac{D}{2} \mathrm{tr}\, \hat Q Q - D\, \hat m \cdot m + \frac{D}{2} \hat m^T \hat Q^{-1} \hat m - "
    r"\frac{D^2}{2} "
    r"\log\det \hat Q + \frac{n D^2}{2} \log 2 \pi",
    label="exponent",
)
derivation.text(r"All of it is of order $D^2$, so that its saddle point is exact to leading order. At $n = 1$:")
at_one, Q_1, _, field_1, source_1 = exponent(1)
derivation.equation(r"\text{exponent}, n = 1", at_one)
derivation.text(
    r"""
    It is stationary at $\hat m = \hat Q m$ and $\hat Q = D (Q - m m^T)^{-1}$. So it is not $Q$ that sets the volume
    but $Q_\perp = Q - m m^T$: of every replica the part along the identity is fixed by $m$, and what is free is the
    rest. Along the real axis the exponent has a minimum there, so that along the contour, which crosses the axis at a
    right angle, it has a maximum. Its value:
    """
)
log_det = sp.Symbol(r"\log\det(Q - m m^T)", real=True)
derivation.equation(r"\log \mathrm{vol}(Q, m)", D**2 / 2 * (log_det + n * (1 + sp.log(2 * sp.pi / D))), label="volume")
derivation.text(
    r"""
    The $D$ weights of the last row have overlaps $U$ and no direction of their own: the same with $D$ for $D^2$, $U$
    for $D Q$ and no $m$, $\frac{D}{2} [\log\det U + n (1 + \log(2 \pi / D))]$.
    """
)


@derivation.claim(
    r"the exponent [[exponent]] is stationary at $\hat m = \hat Q m$, $\hat Q = D Q_\perp^{-1}$, where it is "
    r"[[volume]]",
    at_integers(1, 2, 3, detail="at rational overlaps, D = 5"),
)
def stationary_fields() -> bool:
    def holds(size: int) -> bool:
        value, Q, m, field, source = exponent(size)
        places = list(combinations_with_replacement(range(size), 2))
        at = {x: sp.Rational(1, 3 + i) for i, x in enumerate(m)} | {D: sp.Integer(5)}
        at |= {Q[i, j]: sp.Rational(2 if i == j else 1, 2 + i + j) for i, j in places}
        across = (Q - m * m.T).subs(at)
        fields = 5 * across.inv()
        solution = {field[i, j]: fields[i, j] for i, j in places}
        solution |= dict(zip(source, fields * m.subs(at), strict=True))
        slopes = [value.diff(x).subs(at).subs(solution) for x in solution]
        stated = sp.Rational(25, 2) * (sp.log(across.det()) + size * (1 + sp.log(2 * sp.pi / 5)))
        return not any(sp.nsimplify(slope) for slope in slopes) and vanishes_to(value.subs(at).subs(solution) - stated)

    def vanishes_to(difference: sp.Expr) -> bool:
        return bool(abs(sp.N(difference, 40)) < 1e-35)

    return holds(1) and holds(2) and holds(3)


@derivation.claim(
    r"along the real axis of $\hat Q$ the exponent has a minimum at the saddle point, along the contour a maximum",
    at_integers(1),
)
def contour_crosses_at_a_maximum() -> bool:
    at_source = at_one.subs(source_1[0], field_1[0] * sp.Symbol("m_1", real=True))
    positive = sp.Symbol("Q^", positive=True)
    return bool(at_source.diff(field_1[0], 2).subs(field_1[0], positive).is_positive)


@derivation.claim(
    "volume and ridge are those that the package continues to any number of replicas", to_digits(30, "n = 1, 2, 3")
)
def volume_is_the_packages() -> bool:
    tokens, last_row = theory.entropic.blocks

    def of_block(gram: ReplicaSymmetric, count: sp.Expr, size: int) -> sp.Expr:
        return count / 2 * (sp.log(gram.explicit(size).det()) + size * (1 + sp.log(2 * sp.pi / D)))

    def total(size: int) -> sp.Expr:
        across = ReplicaSymmetric(s.q + s.V - s.m**2, s.q - s.m**2)
        volumes = of_block(across, D**2, size) + of_block(last_row.overlap, D, size)
        norm = D * size * tokens.overlap.diagonal + size * last_row.overlap.diagonal
        return volumes - s.beta * s.ridge / 2 * norm

    return all(agree(total(size), theory.entropic.explicit(size), points=2) for size in (1, 2, 3))


derivation.step(
    "What is dropped, and where it comes back",
    r"""
    The volume can be had exactly: $n$ vectors with $D^2 - 1$ components each, orthogonal to the identity, have the
    Gram matrix $D Q_\perp$ with Wishart's weight, $\det(D Q_\perp)^{(D^2 - 1 - n - 1) / 2}$ times a constant. Against
    [[volume]] the exponent $\frac{D^2}{2}$ is smaller by $\frac{n + 1}{2} + \frac{1}{2}$: a term of order one beside
    terms of order $D^2$. Since a later chapter claims terms of order one, this one must not be lost.

    It is cancelled. The integral over the overlaps, too, has a saddle point, and the Gaussian integral around it
    gives a factor of order one. For fluctuations $dQ_\perp$ in the volume alone the exponent is $-\frac{D^2}{4}
    \mathrm{tr} (Q_\perp^{-1} dQ_\perp)^2$ over the $\frac{n (n + 1)}{2}$ independent overlaps, whose Gaussian
    integral is $\det(Q_\perp)^{(n + 1)/2}$ times a constant; and for $dm$ at given $Q_\perp$ it is $-\frac{D^2}{2}
    dm^T Q_\perp^{-1} dm$, because at the saddle the prompts and the ridge have the slope $-\frac{D^2}{2}
    Q_\perp^{-1}$ in $Q$; this gives $\det(Q_\perp)^{1/2}$. Together they cancel Wishart's missing exponent, and the
    constants are those of Stirling's formula. What is not cancelled is how prompts change these Gaussian integrals:
    $\det(I - X)^{-1/2}$ over all pairs of replicas, the subject of [[next-order]]. So the rule is: the volume with
    the exponent $\frac{D^2}{2}$, and fluctuations measured in units of their entropic part.
    """,
)


@derivation.claim(
    r"the Gaussian integral over symmetric $dQ_\perp$ with exponent $-\frac{D^2}{4} \mathrm{tr} (Q_\perp^{-1} "
    r"dQ_\perp)^2$ "
    r"is proportional to $\det(Q_\perp)^{(n + 1)/2}$",
    at_integers(1, 2, 3, detail="the determinant of its quadratic form, symbolically"),
)
def invariant_measure() -> bool:
    def holds(size: int) -> bool:
        names = sp.symbols(f"p1:{size + 1}", positive=True)
        places = list(combinations_with_replacement(range(size), 2))
        mixing = sp.Matrix(size, size, lambda i, j: 1 if i <= j else 0)  # Q = L diag(p) L^T, any positive matrix
        gram = mixing * sp.diag(*names) * mixing.T
        inverse = gram.inv()

        def direction(i: int, j: int) -> sp.Matrix:
            step = sp.zeros(size, size)
            step[i, j] = step[j, i] = 1
            return step

        varied = [inverse * direction(*place) for place in places]
        form = sp.Matrix(len(places), len(places), lambda x, y: (varied[x] * varied[y]).trace())
        ratio = sp.simplify(form.det() * gram.det() ** (size + 1))
        return not ratio.free_symbols and bool(ratio > 0)

    return all(holds(size) for size in (1, 2, 3))


@derivation.claim(
    r"without prompts, Wishart's volume at the saddle times both Gaussian integrals is the exact $(2 \pi / \beta "
    r"\lambda_0)^{n D^2 / 2}$, but for a relative $1/D^2$",
    numerically("n = 1, 2, 3; the error times D^2 at D = 10, 20, 40"),
)
def nothing_of_order_one_is_lost() -> Found:
    """Overlaps at the saddle without prompts: m = 0, Q = I D / (beta lambda_0); here beta lambda_0 = 1."""

    def error(size: int, D: int) -> mpmath.mpf:
        d, log, pi, half = D**2 - 1, mpmath.log, mpmath.pi, mpmath.mpf(1) / 2
        pairs = size * (size - 1) * half
        # Of Gram matrices G = D Q_perp at D^2 I: int dW delta(G - W W^T); and delta(D m - sqrt(D) W_parallel).
        volume = half * (size * d - pairs) * log(pi) - sum(mpmath.loggamma((d - k) * half) for k in range(size))
        volume += half * (d - size - 1) * size * log(D**2) - half * size * log(D)
        measure = (pairs + size) * log(D) + size * log(D)  # of D Q and D m, in dQ and dm
        boltzmann = -half * size * D**2
        # Exponents at Q = D I: -dQ^2/4 for a replica with itself, -dQ^2/2 for a pair, -D dm^2/2.
        gaussian = half * (size * log(4 * pi) + pairs * log(2 * pi) + size * log(2 * pi / D))
        return volume + measure + boltzmann + gaussian - half * size * D**2 * log(2 * pi)

    with mpmath.workdps(40):
        scaled = {size: [float(error(size, D) * D**2) for D in (10, 20, 40)] for size in (1, 2, 3)}
    holds = all(abs(values[1] / values[2] - 1) < 0.02 for values in scaled.values())
    return Found(holds, str(scaled))


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
