"""Any weight prior: conjugate fields kept, two channels and the last row, stability, and what sparsity needs."""

import math
from functools import cache
from itertools import product

import mpmath
import numpy as np
import sympy as sp
from scipy.integrate import dblquad, quad

from replica_icl import Ratios, Setting
from replica_icl.model.priors import laplace, ridge
from replica_icl.model.priors.ridge import GaussianPrior
from replica_icl.narration.checks import agree
from replica_icl.narration.derivation import (
    Derivation,
    Found,
    at_integers,
    by_simulation,
    numerically,
    symbolically,
    to_digits,
)
from replica_icl.narration.telling import tell
from replica_icl.numeric.priors.finite_size import classify, solve_finite_size_prior
from replica_icl.numeric.priors.limit import solve_limit_prior
from replica_icl.priors import Laplace
from replica_icl.simulator.observables import icl_error
from replica_icl.simulator.optima.laplace import laplace_optimum
from replica_icl.simulator.realisation import draw_instance
from replica_icl.status import Status
from replica_icl.symbolic import channel
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average, expand_averages
from replica_icl.symbolic.conjugates import SeparableWeights, noise
from replica_icl.symbolic.normal import NormalDensity, NormalTail
from replica_icl.symbolic.stability import energetic_curvature, replicon_direction, stability_matrix
from replica_icl.theory.conjugate_fields import CONJUGATE, DIRECTION, LAST_ROW, TOKENS
from replica_icl.theory.fresh_tasks import derive_fresh_tasks
from replica_icl.theory.prompt_fields import at_prompts, fields_of, kept_weights
from replica_icl.theory.weight_priors import SeparablePrior, on_diagonal, overlaps

derivation = Derivation(
    __file__,
    "Any weight prior: conjugate fields, two channels, sparse attention",
    needs=["replicated-action", "fresh-tasks", "stability", "limit"],
    symbols={
        r"\psi": "potential of the prior: a weight costs $\\psi(W_{ij})$ of energy",
        "i": "row of $W$, on the context side",
        "j": "column of $W$, on the query side",
        r"\hat Q": "field conjugate to $Q$, a symmetric matrix",
        r"\hat V": r"stiffness of a token weight, $\hat Q_{11} - \hat Q_{12}$, conjugate to $q$",
        r"\hat q": r"variance of the field on a token weight, $-\hat Q_{12}$, conjugate to $V$",
        r"\hat m": "mean of the field on a diagonal weight, conjugate to $m$",
        r"\hat V_u": "stiffness of a weight of the last row, conjugate to $u$",
        r"\hat u": "variance of the field on a weight of the last row, conjugate to $V_u$",
        "z": "a standard normal variable, the noise of a field",
        r"\phi": "field on one weight",
        r"\lambda_{1D}": r"$\lambda_1$ on diagonal weights at their own scale, $\lambda_1 D$",
        r"\theta": "threshold of an off-diagonal weight over the standard deviation of its field",
        r"\eta": r"$\lambda_1 D$",
        r"\zeta": r"$P / (D \log D)$, prompts per diagonal weight and logarithm",
        r"\epsilon": "a small number",
    },
)

finite = at_prompts(derive_fresh_tasks())
energetic = finite.energetic
sparse, gaussian = SeparablePrior(laplace.POTENTIAL), kept_weights(finite)
tokens, last_row = sparse.weights.blocks
D, P, a, l1 = s.D, s.P, s.context_norm, laplace.l1
A, X, h = TOKENS.symbols
A_u, X_u = LAST_ROW.symbols

NAMED = {
    A: r"\hat V", X: r"\hat q", h: r"\hat m", A_u: r"\hat V_u", X_u: r"\hat u", channel.field: r"\phi",
    channel.price: "P", l1: r"\lambda_1", noise: "z",
}  # fmt: skip
"""Symbol of the package -> letter of this chapter; the package's X and g have another meaning in other chapters."""
tail, density = sp.Function("tail"), sp.Function("density")


def shown(expression: sp.Expr) -> sp.Expr:
    """With the letters of this chapter."""
    letters = {x: sp.Symbol(name, positive=True) for x, name in NAMED.items()}
    letters |= {on_diagonal(l1): sp.Symbol(r"\lambda_{1D}", positive=True)}
    written = expression.replace(NormalTail, tail).replace(NormalDensity, density)
    return written.subs(letters, simultaneous=True)


# ----------------------------------------------------------------------------------------------------------------------

derivation.step(
    "Fields that nobody has eliminated",
    r"""
    Let every acting weight cost $\psi(W_{ij})$ beside the prompts, $E = \frac{1}{2P} \sum_\mu (\tilde y - \hat y)^2 +
    \sum_{ij} \psi(W_{ij})$; the ridge is $\psi(W) = \frac{1}{2} \lambda_0 W^2$, sparse attention $\psi(W) = \lambda_1
    |W|$. The prompts' part of the action does not change: it knows weights by their overlaps. In the weights' part
    ([[replicated-action]]) constraints are kept by conjugate fields $\hat Q$ and $\hat m$, in which the weights
    separate. There the integral over the $n$ replicas of one weight was Gaussian, and fields were eliminated at once.
    Now it is, with $\hat m$ acting on diagonal weights alone,
    """,
)
derivation.equation(
    r"\text{one weight}",
    r"\int \prod_\gamma dW_\gamma \exp\Bigl(-\frac{1}{2} W^T \hat Q W + \hat m \sum_\gamma W_\gamma - \beta "
    r"\sum_\gamma \psi(W_\gamma)\Bigr)",
)
derivation.text(
    r"""
    and the fields are kept until a prior eliminates them. Replica-symmetric fields are $\hat Q_{11} = \hat V - \hat
    q$, $\hat Q_{12} = -\hat q$ and one $\hat m$ (and $\hat V_u$, $\hat u$ for the last row, without a pull). A
    standard normal variable $z$ for the square $\frac{1}{2} \hat q (\sum_\gamma W_\gamma)^2$ makes the replicas of a
    weight independent, so that the integral is the average over $z$ of the $n$-th power of one replica's. As $n \to
    0$ the token block gives, with $\phi = \hat m + \hat q^{1/2} z$ on its $D$ diagonal weights and $\phi =
    \hat q^{1/2} z$ on its $D (D - 1)$ others,
    """
)
derivation.equation(
    r"\Phi_{\mathrm{tokens}}",
    r"\frac{D}{2} \bigl[\hat V (q + V) - \hat q V\bigr] - D \hat m m + \sum_{ij} \Bigl\langle \log \int dW "
    r"\exp\bigl(-\tfrac{1}{2} \hat V W^2 + \phi W - \beta \psi(W)\bigr) \Bigr\rangle",
    label="kept",
)


NUMBERS = {A: 1.3, X: 0.4, h: 0.6, s.beta: 1.1, l1: 0.7}


@derivation.claim(
    "the integral over the replicas of one weight is the average over $z$ of independent ones, for the Laplace prior, "
    "on and off the diagonal",
    at_integers(1, 2, detail="quadrature, to 6 digits"),
)
def replicas_decouple() -> bool:
    weights = SeparableWeights((tokens,), (TOKENS,), laplace.POTENTIAL, s.beta)
    z, gauss = np.polynomial.hermite_e.hermegauss(60)

    def one(place: float, share: float) -> float:
        push, at = share * 0.6 + math.sqrt(0.4) * place, 1.1 * 0.7

        def boltzmann(W: float) -> float:
            return math.exp(-1.3 * W**2 / 2 + push * W - at * abs(W))

        return quad(boltzmann, -12, 0)[0] + quad(boltzmann, 0, 12)[0]

    def holds(integral: sp.Integral, share: float, replicas: int) -> bool:
        names = [limit[0] for limit in integral.limits]
        weight = sp.lambdify(names, integral.function.subs(NUMBERS))
        sides = product(((-9, 0), (0, 9)), repeat=replicas)
        integrate = dblquad if replicas == 2 else quad
        coupled = sum(integrate(weight, *(x for side in at for x in side), epsabs=1e-8)[0] for at in sides)
        decoupled = gauss / math.sqrt(2 * math.pi) @ np.array([one(x, share) ** replicas for x in z])
        return bool(abs(coupled / decoupled - 1) < 1e-6)

    def all_hold(replicas: int) -> bool:
        integrals = sorted(weights.explicit(replicas).atoms(sp.Integral), key=lambda x: x.has(h))
        return len(integrals) == 2 and all(
            holds(x, share, replicas) for share, x in zip((0.0, 1.0), integrals, strict=True)
        )

    return all_hold(1) and all_hold(2)


@derivation.claim(
    "without replicas the action vanishes, and its slope in $n$ is [[kept]]: constraints and the averages of "
    "logarithms of two kinds of weights",
    symbolically(),
)
def slope_in_the_number_of_replicas() -> bool:
    weights = SeparableWeights((tokens,), (TOKENS,), laplace.POTENTIAL, s.beta)
    free_entropy = weights.free_entropy()
    averages = {x: sp.Dummy() for x in free_entropy.atoms(Average)}
    named = free_entropy.xreplace(averages)
    constraints = D / 2 * (A * (s.q + s.V) - X * s.V) - D * h * s.m
    counts = sorted((named.coeff(x) for x in averages.values()), key=str)
    return (
        sp.simplify(weights.replica_symmetric().subs(s.replicas, 0)) == 0
        and sp.simplify(named.subs(dict.fromkeys(averages.values(), 0)) - constraints) == 0
        and {sp.expand(x) for x in counts} == {D, D**2 - D}
        and all(x.integrand.func is sp.log for x in averages)
    )


derivation.step(
    "The Gaussian prior eliminates them",
    r"""
    With $\psi(W) = \frac{1}{2} \lambda_0 W^2$ the logarithm in [[kept]] is a polynomial of second degree in $z$, and
    the extremum over the fields is elementary: $\hat V = D / V - \beta \lambda_0$, $\hat m = D m / V$ and $\hat q = D
    (q - m^2) / V^2$. What is left is the determinant of [[replicated-action]] with its constants, identically. So
    nothing that the other chapters say about the ridge depends on fields.
    """,
)


def of_one_weight(average: Average) -> sp.Expr:
    """The average over z of the logarithm of a Gaussian integral."""
    c, g, W = sp.Symbol("c", positive=True), sp.Symbol("g", real=True), sp.Symbol("W", real=True)
    solved = sp.simplify(sp.integrate(sp.exp(-c * W**2 / 2 + g * W), (W, -sp.oo, sp.oo), conds="none"))
    (integral,) = average.integrand.atoms(sp.Integral)
    exponent = sp.Poly(sp.expand(integral.function.args[0]), W)
    value = solved.subs({c: -2 * exponent.coeff_monomial(W**2), g: exponent.coeff_monomial(W)}, simultaneous=True)
    polynomial = sp.Poly(sp.expand(sp.expand_log(sp.log(value), force=True)), noise)
    return sum((c * (0, 1)[power % 2 == 0] for (power,), c in polynomial.terms()), sp.S.Zero)


@derivation.claim(
    "under the ridge the extremum of [[kept]] over the fields is where stated, and there it is the free entropy of "
    "the determinants, constants included, at every temperature",
    symbolically(),
)
def ridge_is_given_back() -> bool:
    weights = SeparableWeights((tokens,), (TOKENS,), ridge.POTENTIAL, s.beta)
    free_entropy = weights.free_entropy().replace(lambda e: isinstance(e, Average), of_one_weight)
    (extremum,) = sp.solve([free_entropy.diff(x) for x in (A, X, h)], [A, X, h], dict=True)
    stated = {A: D / s.V - s.beta * s.ridge, h: D * s.m / s.V, X: D * (s.q - s.m**2) / s.V**2}
    difference = free_entropy.subs(extremum) - GaussianPrior((tokens,)).free_entropy()
    return all(sp.simplify(extremum[x] - value) == 0 for x, value in stated.items()) and (
        sp.simplify(sp.expand_log(sp.expand(difference), force=True)) == 0
    )


W_of, _ = sparse.weights.channel.proximal()
soft = sp.Max(0, channel.field - channel.price * l1) / (channel.stiffness + channel.price * s.ridge)

derivation.step(
    "The ground state: a scalar channel",
    r"""
    As $\beta \to \infty$ the integral in [[kept]] freezes. In units of $\beta = P$, with $V$ a response to a field
    on $P E$, the logarithm becomes minus the least energy of one weight in its field, $\min_W [\frac{1}{2} \hat V W^2
    - \phi W + P \psi(W)]$, and the weight is where that is: the proximal map of the prior, written $W(\phi)$. For
    $\psi(W) = \lambda_1 |W|$ with a ridge it is the soft threshold; at $\phi > 0$ (it is odd)
    """,
)
derivation.equation(r"W(\phi)", shown(soft), label="proximal")
derivation.text(
    r"""
    Averages over $z$ follow in closed form, with $\operatorname{tail}$ the probability that $z$ exceeds the argument
    and $\operatorname{density}$ its density there. By the envelope theorem they are derivatives of the average least
    energy: of $W$ by $\hat m$, of $W^2$ by $\hat V$, of the slope $dW/d\phi$ by $\hat q$. The same map is the
    denoiser of message passing on one sample ([[message-passing]]).
    """
)


@derivation.claim(
    r"derivatives of the average least energy in $\hat m$, $\hat V$ and $\hat q$ are the averages of $-W$, "
    r"$\frac{1}{2} W^2$ and $-\frac{1}{2} dW/d\phi$ that are used",
    symbolically(),
)
def envelope() -> bool:
    own = sparse.weights.channel
    pairs = ((channel.pull, -own.mean), (channel.stiffness, own.square / 2), (channel.variance, -own.response / 2))
    return all(sp.simplify(sp.expand(own.energy.diff(x) - value)) == 0 for x, value in pairs)


@derivation.claim(
    "[[proximal]] minimises the energy of one weight, and its averages are those over the noise",
    numerically("a grid of weights for 9 fields; 40001 points of z"),
)
def proximal_map_minimises() -> bool:
    values = {channel.stiffness: 1.5, channel.price: 1.25, l1: 0.5, s.ridge: 0.2}
    W, stated = (sp.lambdify(channel.field, x.subs(values), "numpy") for x in (W_of, soft))
    grid = np.linspace(-4, 4, 80001)
    cost = 1.5 * grid**2 / 2 + 1.25 * (0.5 * np.abs(grid) + 0.1 * grid**2)
    found = [abs(W(phi) - grid[np.argmin(cost - phi * grid)]) for phi in np.linspace(0.01, 4, 9)]
    z = np.linspace(-9, 9, 40001)
    field = 0.8 + math.sqrt(1.4) * z
    seen = np.sign(field) * W(np.abs(field))
    weight = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    at = {**values, channel.pull: 0.8, channel.variance: 1.4}
    own = sparse.weights.channel
    averages = (own.mean, weight @ seen), (own.square, weight @ seen**2)
    same = np.allclose(W(np.abs(field)), stated(np.abs(field)), rtol=1e-14)
    return same and max(found) < 2e-4 and all(abs(float(x.subs(at).evalf()) - y) < 1e-6 for x, y in averages)


derivation.step(
    "Two kinds of token weights and the last row",
    r"""
    Stationarity in the overlaps gives the fields, and it does so for every prior alike, because the overlaps enter
    the weights' part linearly. With $s = 1 / (1 + T \chi)$, $\chi = V a + V_u \ell^2$:
    """,
)
STATED_FIELDS = {
    A: (
        r"\hat V",
        r"\frac{P}{D} \langle T a s \rangle",
        P / D * Average(s.query_norm * a * energetic.shrinkage, s.SCALARS),
    ),
    X: (
        r"\hat q",
        r"\frac{P}{D} \langle T a R s^2 \rangle",
        P / D * Average(s.query_norm * a * energetic.covariance.off_diagonal * energetic.shrinkage**2, s.SCALARS),
    ),
    h: (
        r"\hat m",
        r"\frac{P}{D} \langle T g s \rangle",
        P / D * Average(s.query_norm * s.aligned * energetic.shrinkage, s.SCALARS),
    ),
    A_u: (
        r"\hat V_u",
        r"P \langle T \ell^2 s \rangle",
        P * Average(s.query_norm * s.corner**2 * energetic.shrinkage, s.SCALARS),
    ),
    X_u: (
        r"\hat u",
        r"P \langle T \ell^2 R s^2 \rangle",
        P * Average(s.query_norm * s.corner**2 * energetic.covariance.off_diagonal * energetic.shrinkage**2, s.SCALARS),
    ),
}  # fmt: skip
for label, (left, right, _) in zip(
    ("stiff", "noisy", "pulled", "stiff_u", "noisy_u"), STATED_FIELDS.values(), strict=True
):
    derivation.equation(left, right, label=label)
derivation.text(
    r"""
    Stationarity in the fields gives the overlaps, and that is all that a prior has a say in: sums of averages over
    its channel, over $D$ diagonal weights, $D (D - 1)$ others, and $D$ of the last row.
    """
)
derivation.equation("m", r"\langle W_{ii} \rangle", label="m")
derivation.equation("q", r"\langle W_{ii}^2 \rangle + (D - 1) \langle W_{ij}^2 \rangle", label="q")
derivation.equation("V", r"\langle dW_{ii}/d\phi \rangle + (D - 1) \langle dW_{ij}/d\phi \rangle", label="V")
derivation.equation("u", r"D \langle W_{D+1, j}^2 \rangle", label="u")
derivation.equation("V_u", r"D \langle dW_{D+1, j}/d\phi \rangle", label="V_u")
derivation.text(
    r"""
    The two kinds of token weights differ in one thing, the pull $\hat m$. Under the ridge that does not matter, $m$
    and $q - m^2$ know it all; under another prior it is the point: a threshold between the pull and the noise keeps
    the $D$ weights that carry the solution and sets most of the $D^2$ others to zero.
    """
)


@derivation.claim("[[stiff]] to [[noisy_u]] are what stationarity in $q$, $V$, $m$, $u$ and $V_u$ gives", to_digits())
def fields_as_stated() -> bool:
    found = fields_of(gaussian.ground_state() + energetic.ground_state(), CONJUGATE)
    return all(agree(value, STATED_FIELDS[x][2]) for x, value in zip(CONJUGATE, found, strict=True))


@derivation.claim(
    "[[m]] to [[V_u]] are what stationarity in the fields gives, for the Laplace prior", to_digits(30, "")
)
def overlaps_as_stated() -> bool:
    weights = sparse.weights
    diagonal, others = tokens.populations
    (row,) = last_row.populations

    def mean(name: str, population: object, fields: object) -> sp.Expr:
        return weights.of_weight(name, population, fields)  # type: ignore[arg-type]

    stated = {
        s.m: mean("mean", diagonal, TOKENS),
        s.q: mean("square", diagonal, TOKENS) + (D - 1) * mean("square", others, TOKENS),
        s.V: mean("response", diagonal, TOKENS) + (D - 1) * mean("response", others, TOKENS),
        s.u: D * mean("square", row, LAST_ROW),
        s.V_u: D * mean("response", row, LAST_ROW),
    }
    found = overlaps(weights)
    return all(agree(found[overlap], value) for overlap, value in stated.items())


@derivation.claim(
    "with the ridge in the channel both halves together are the saddle-point equations of [[fresh-tasks]] in $m$, "
    "$q$ and $V$",
    to_digits(),
)
def ridge_in_the_channel() -> bool:
    found, equations, cold = overlaps(gaussian), finite.saddle.equations, {s.beta: P}
    stiff = A + P * s.ridge
    own = {s.m: h / stiff, s.q: (h**2 + D * X) / stiff**2, s.V: D / stiff}
    put_back = {A: D / s.V - P * s.ridge, h: D * s.m / s.V, X: D * (s.q - s.m**2) / s.V**2}
    as_saddle = {
        A: 2 * equations[s.q].subs(cold) / D,
        h: equations[s.m].subs(cold) / D,
        X: 2 * (equations[s.V] - equations[s.q]).subs(cold) / D,
    }
    signs = {A: 1, h: -1, X: -1}
    return all(sp.simplify(found[x] - value) == 0 for x, value in own.items()) and all(
        agree(as_saddle[x], signs[x] * (put_back[x] - STATED_FIELDS[x][2])) for x in put_back
    )


derivation.step(
    "Stability of the general case",
    r"""
    Along a replicon direction $dQ$ of the overlaps the fields follow, $\hat Q + d\hat Q$. One weight's replicas then
    deviate from one another independently, each with its response $dW/d\phi$ as variance (in units of $\beta = P$),
    so that the log-integral of one weight changes by $\frac{1}{8}$ of the variance of $W^T d\hat Q W$, which is $2
    (dW/d\phi)^2 \mathrm{tr}\, d\hat Q^2$. With the constraints $\frac{D}{2} \mathrm{tr}\, d\hat Q\, dQ$, and
    $d\hat Q$ at its extremum, the second derivative of the weights' part is
    """,
)
derivation.equation(
    r"\text{second derivative}",
    r"-\frac{D^2 \mathrm{tr}\, dQ^2}{2 \sum_{ij} \langle (dW_{ij}/d\phi)^2 \rangle}",
    "curved",
)
derivation.text(
    r"""
    (for the last row with 1 for $D^2$), where under the ridge the sum is $V^2$ and the other half of [[stability]]
    stays: $X_{11} = \frac{P}{D^2} \sum_{ij} \langle (dW_{ij}/d\phi)^2 \rangle \langle (T a)^2 s^2 \rangle$, and so on
    for the other blocks. It can turn negative only for an energy that is not convex; then the ansatz does not hold,
    and what solves its equations is reported as inadmissible, not as converged.
    """
)


@derivation.claim(
    r"independent deviations of the replicas give $W^T d\hat Q W$ twice their squared variance times $\mathrm{tr}\, "
    r"d\hat Q^2$ as variance, also around a mean that the replicas share",
    at_integers(4, 5, detail="Gaussian moments by Wick's theorem"),
)
def variance_along_the_direction() -> bool:
    v, shared = sp.symbols("v c", positive=True)

    def holds(size: int) -> bool:
        d = replicon_direction(size)
        places = list(product(range(size), repeat=2))
        kicks = d * sp.ones(size, 1) * shared  # of the shared mean: zero along this direction
        square = sum(
            d[i, j] * d[k, n] * v**2 * ((i == j) * (k == n) + (i == k) * (j == n) + (i == n) * (j == k))
            for i, j in places
            for k, n in places
        )
        mean = v * d.trace()
        return not any(kicks) and sp.expand(square - mean**2 - 2 * v**2 * (d * d).trace()) == 0

    return holds(4) and holds(5)


@derivation.claim(
    r"with the fields at their extremum the second derivative along $dQ$ is [[curved]], and under the ridge it is "
    "that of the determinants",
    symbolically(),
)
def curvature_as_stated() -> bool:
    step, pace, total = sp.symbols("epsilon c v", real=True)
    trace = (DIRECTION * DIRECTION).trace()
    # Along dQ = epsilon d, with fields moving by c d: constraint and the weights' own second order, sum of v^2 = total.
    action = D / 2 * pace * step * trace + sp.Rational(1, 8) * pace**2 * 2 * total * trace
    (extremum,) = sp.solve(action.diff(pace), pace)
    stated = SeparableWeights.curvature_of(D, total, DIRECTION)
    (with_fields, of_row), eliminated = (
        gaussian.curvature(DIRECTION),
        GaussianPrior((tokens, last_row)).curvature(DIRECTION),
    )
    at_saddle = {A: D / s.V - P * s.ridge, A_u: D / s.V_u - P * s.ridge}
    return sp.simplify(action.subs(pace, extremum).diff(step, 2) - stated) == 0 and all(
        sp.simplify(x.subs(at_saddle) - y) == 0 for x, y in zip((with_fields, of_row), eliminated, strict=True)
    )


@derivation.claim(
    "under the ridge $I - X$ from both halves is the matrix of [[stability]] at $\\beta = P$", to_digits()
)
def stability_is_given_back() -> bool:
    prompts = energetic_curvature(gaussian, energetic, DIRECTION).applyfunc(expand_averages)
    at_saddle = {A: D / s.V - P * s.ridge, A_u: D / s.V_u - P * s.ridge}
    weights = [x.subs(at_saddle) for x in gaussian.curvature(DIRECTION)]
    here, there = stability_matrix(prompts, weights), finite.replicon
    return all(agree(x, y) for x, y in zip(here, there, strict=True))


@derivation.claim(
    "a solution of the equations with a negative eigenvalue has the status inadmissible, however small its residual",
    numerically("the test that every solution goes through, at two that differ in the eigenvalue's sign"),
)
def broken_symmetry_is_reported() -> bool:
    values = {"m": 0.5, "q": 0.3, "V": 0.1, "e_icl": 0.5, "train_error": 0.4}
    both = {name: np.full(2, value) for name, value in values.items()} | {"replicon": np.array([0.1, -0.1])}
    return list(classify(both, np.zeros(2))) == [Status.CONVERGED, Status.INADMISSIBLE]


@derivation.claim(
    "under the Laplace prior the eigenvalue is positive at all of 40 settings from 0.1 to 4 prompts per weight",
    numerically("D = 12, N = 30, penalties over four decades"),
)
def convex_priors_are_stable() -> Found:
    prompts = np.repeat(np.geomspace(0.1, 4, 8) * 144, 5).astype(int)
    penalties = np.tile(np.geomspace(1e-4, 1.0, 5), 8)
    settings = [Setting(D=12, N=30, P=int(x), ridge=0.0, minimum_norm=True) for x in prompts]
    found = solve_finite_size_prior(settings, Laplace(penalties), tolerance=1e-4)
    least = float(np.min(found.replicon))
    return Found(least > 0, f"smallest eigenvalue {least:.3g}")


order, _ = sparse.limit
limit_m = sp.Max(0, h - s.alpha * on_diagonal(l1)) / (A + s.alpha * s.lam)

derivation.step(
    "The limit: two scales of a penalty",
    r"""
    With $P = \alpha D^2$ the fields $\hat V$, $\hat q$ and $\hat m$ are of order $D$. An off-diagonal weight is
    pushed by noise alone, of standard deviation $\hat q^{1/2} \propto D^{1/2}$, and held by the threshold $P
    \lambda_1$: both are alike where $\lambda_1 \propto D^{-3/2}$. A diagonal weight is pulled by $\hat m \propto D$:
    there the threshold is felt where $\lambda_1 \propto 1/D$. In general a term of $\psi$ of degree $d$ acts on
    off-diagonal weights where its penalty is of order $D^{d/2 - 2}$, on diagonal ones where it is of order $1/D$. For
    the ridge, $d = 2$, the two are one, $\lambda_0 \propto 1/D$; an absolute value has two. At the scale of the
    off-diagonal weights, with $\hat V$, $\hat q$, $\hat m$ now divided by $D$ and $\lambda_1$ multiplied by
    $D^{3/2}$ ($\lambda_{1D}$ by $D$), diagonal weights do not feel the noise, and
    """,
)
derivation.equation("m", shown(limit_m), label="limit_m")
derivation.equation("q", shown(order[s.q]), label="limit_q")
derivation.equation("V", shown(order[s.V]), label="limit_V")
derivation.text(
    r"""
    The last row decouples, and a prompt's average is a value at one point ([[limit]]). $\operatorname{tail}$ stands
    for the share of off-diagonal weights that survive: one is left in expectation where $D^2 \cdot 2
    \operatorname{tail}$ is one. With $\lambda_1 = 0$ all of this is the limit of the ridge.
    """
)


@derivation.claim(
    r"[[limit_m]], [[limit_q]] and [[limit_V]] are the overlaps at finite size as $D$ grows",
    numerically("at D = 1e10 with 30 digits, to 8 of them"),
)
def finite_size_tends_to_the_limit() -> bool:
    large = sp.Integer(10) ** 10
    values = {s.alpha: sp.Rational(3, 2), s.lam: sp.Rational(1, 5), l1: sp.Rational(2, 5)}
    fields = {A: sp.Rational(4, 3), X: sp.Rational(3, 7), h: sp.Rational(6, 5)}
    raw = {x: large * value for x, value in fields.items()} | {D: large, P: values[s.alpha] * large**2}
    raw |= {s.ridge: values[s.lam] / large, l1: values[l1] / large ** sp.Rational(3, 2)}
    found = overlaps(sparse.weights)
    at = {**fields, **values, on_diagonal(l1): values[l1] / sp.sqrt(large)}
    ends = {x: order[x].subs(s.m, limit_m).subs(at) for x in (s.m, s.q, s.V)} | {s.m: limit_m.subs(at)}
    return all(bool(abs(sp.N(found[x].subs(raw) / end - 1, 30)) < 1e-8) for x, end in ends.items())


@derivation.claim(
    r"as $\lambda_1 \to 0$ the limit is that of the ridge in closed form ([[limit]])",
    numerically("alpha = 0.7 and 2, nu = 3, lambda = 0.2, rho = 0.1; to 6 digits at lambda_1 = 1e-9"),
)
def limit_of_no_penalty() -> bool:
    from replica_icl import solve

    point = Ratios(alpha=np.array([0.7, 2.0]), nu=3.0, lam=0.2, noise=0.1)
    found, stated = solve_limit_prior(point, Laplace, {"l1": 1e-9}), solve(point)
    return all(bool(np.allclose(found[x], stated[x], rtol=1e-6)) for x in ("e_icl", "m", "q"))


zeta, eta, theta = (sp.Symbol(x, positive=True) for x in (r"\zeta", r"\eta", r"\theta"))
shrinkage, error = sp.symbols("s R", positive=True)
floor = 1 + s.noise - 1 / a
middle = floor / (1 - 2 / zeta)
above = 1 + s.noise - (1 - eta**2) / a

derivation.step(
    r"Sparse attention: $D \log D$ prompts instead of $D^2$",
    r"""
    Now let $\lambda_1 = \eta / D$, the scale of the diagonal. At $P \propto D^2$ the threshold is then far above the
    noise, and no off-diagonal weight is left: $D$ weights have to be learned, not $D^2$. How few prompts do it? Put
    $P = \zeta D \log D$, keep $N = \nu D$ and no ridge. By [[stiff]], [[noisy]] and [[pulled]] for concentrated norms
    """,
)
derivation.equation(r"\hat V", zeta * sp.log(D) * a * shrinkage, label="log_stiff")
derivation.equation(r"\hat q", zeta * sp.log(D) * a * error * shrinkage**2, label="log_noisy")
derivation.equation(r"\hat m", zeta * sp.log(D) * shrinkage, label="log_pulled")
derivation.text(
    r"""
    with $s$ and $R$ at that point, and the threshold is $P \lambda_1 = \zeta \eta \log D$, $\eta < 1$. A diagonal
    weight's noise is smaller than pull and threshold by $(\log D)^{-1/2}$, so that in the limit $m = (\hat m - P
    \lambda_1) / \hat V = (1 - \eta / s) / a$, and zero where this is negative. An off-diagonal weight survives with
    probability $2 \operatorname{tail}(\theta)$, and the threshold is $\theta$ standard deviations:
    """
)
derivation.equation(r"\theta^2", zeta * eta**2 * sp.log(D) / (a * error * shrinkage**2), label="theta")
derivation.text(
    r"""
    Its tail is a power of $D$, $e^{-\theta^2 / 2} = D^{-\zeta \eta^2 / (2 a R s^2)}$ but for logarithms. By [[V]],
    $\hat V V = 1 + 2 D \operatorname{tail}(\theta)$: $D$ survivors on the diagonal, $2 D^2 \operatorname{tail}$
    elsewhere, against $P$ prompts. There are three regimes.

    Many prompts. If the exponent is above one, survivors off the diagonal are fewer than those on it; then $V \to 0$
    and $s \to 1$, $q \to m^2$, and $R = 1 + \rho - 2 m + a q$ is $1 + \rho - (1 - \eta^2) / a$: the penalty's bias is
    all that is left. This holds for $\zeta > 2 a R / \eta^2$.

    Fewer prompts. The exponent cannot be below one, or $V$ would diverge and with it $\theta$: $s$ falls until the
    survivors are of order $D \log D$, as many as there are prompts, and the exponent is one, $s^2 = \zeta \eta^2 / (2
    a R)$. Their part of $q$ is of order $1 / \log D$ and vanishes. With $m = (1 - \eta / s) / a$ again, $R = 1 + \rho
    - (1 - \eta^2 / s^2) / a$, where $\eta$ drops out: $\eta^2 / s^2 = 2 a R / \zeta$, and
    """
)
derivation.equation("R", middle, label="middle")
derivation.text(
    r"""
    Few prompts. Where $2 a (1 + \rho) \ge \zeta$ the threshold exceeds the pull, $m = 0$ and $R = 1 + \rho$: nothing
    is learned. Put together, $e_{\mathrm{ICL}} = R$ is
    """
)
derivation.equation(
    r"e_{\mathrm{ICL}}",
    sp.Piecewise((1 + s.noise, zeta < 2 * a * (1 + s.noise)), (sp.Max(middle, above), True)),
    label="sparse",
)
derivation.text(
    r"""
    [[middle]] is the ridgeless error $(1 + \rho - 1/a) / (1 - 1/\alpha)$ of [[limit]] with $2 D \log D$ in place of
    $D^2$, which is how many measurements it takes to find $D$ weights among $D^2$. So a target error $e$ above the
    floor $1 + \rho - 1/a$ needs $P = 2 D \log D\, e / (e - 1 - \rho + 1/a)$ prompts at the best penalty, any $\eta$ up
    to $(2 a e / \zeta)^{1/2}$; without sparsity it needs of order $D^2$. Corrections fall like $\log \log D / \log
    D$: at the sizes of a simulation the theory at finite size is needed for numbers.
    """
)


@derivation.claim(
    "[[log_stiff]], [[log_noisy]] and [[log_pulled]] are [[stiff]], [[noisy]] and [[pulled]] at one point of the "
    "prompt law, and [[theta]] is the squared threshold over the variance of the field",
    symbolically(),
)
def concentrated_fields() -> bool:
    one = {s.query_norm: 1, s.task_norm: 1, s.aligned: 1, s.corner: 1 + s.noise}
    few = {P: zeta * D * sp.log(D), s.V_u: 0, s.u: 0}
    at = {shrinkage: 1 / (1 + s.V * a), error: energetic.covariance.off_diagonal.subs(one).subs(few)}
    shown_here = {
        A: zeta * sp.log(D) * a * shrinkage,
        X: zeta * sp.log(D) * a * error * shrinkage**2,
        h: zeta * sp.log(D) * shrinkage,
    }

    def at_the_point(average: sp.Expr) -> sp.Expr:
        return average.replace(lambda e: isinstance(e, Average), lambda e: e.integrand.subs(one))

    same = all(
        sp.simplify(at_the_point(STATED_FIELDS[x][2]).subs(few) - value.subs(at)) == 0
        for x, value in shown_here.items()
    )
    ratio = zeta * eta**2 * sp.log(D) / (a * error * shrinkage**2)
    return same and sp.simplify((P * eta / D).subs(few) ** 2 / shown_here[X] - ratio) == 0


@derivation.claim(
    "the three regimes solve $R = 1 + \\rho - 2 m + a m^2$ with the stated $s$ and $m$, and join continuously",
    symbolically(),
)
def regimes() -> bool:
    m = (1 - eta / shrinkage) / a
    residual = 1 + s.noise - 2 * m + a * m**2
    few = sp.sqrt(zeta * eta**2 / (2 * a * middle))
    onset, end = 2 * a * (1 + s.noise), 2 * a * above / eta**2
    return (
        sp.simplify(residual.subs(shrinkage, 1) - above) == 0
        and sp.simplify(residual.subs(shrinkage, few) - middle) == 0
        and sp.simplify(middle.subs(zeta, onset) - 1 - s.noise) == 0
        and sp.simplify(middle.subs(zeta, end) - above) == 0
        and sp.simplify((few**2).subs(zeta, end) - 1) == 0
    )


@cache
def at_the_mean_prompt() -> tuple[sp.Expr, ...]:
    """m, q, V of the Laplace prior at finite D without a ridge, from fields, as functions for mpmath."""
    found = overlaps(sparse.weights)
    names = (A, X, h, D, P, l1)
    plain = [found[x].subs(s.ridge, 0).rewrite(sp.erfc) for x in (s.m, s.q, s.V)]
    plain = [x.replace(NormalDensity, lambda t: sp.exp(-(t**2) / 2) / sp.sqrt(2 * sp.pi)) for x in plain]
    plain = [x.replace(NormalTail, lambda t: sp.erfc(t / sp.sqrt(2)) / 2) for x in plain]
    return tuple(sp.lambdify(names, x, "mpmath") for x in plain)


def solved_error(exponent: int, prompts: float, penalty: float, noise_level: float, norm: float) -> float:
    """R at the mean prompt for D = 10^exponent, from both halves and a root finder started at the stated limit."""
    with mpmath.workdps(60 + 2 * exponent):
        size = mpmath.mpf(10) ** exponent
        count, log = prompts * size * mpmath.log(size), mpmath.log(size)
        values = {zeta: prompts, eta: penalty, s.noise: noise_level, a: norm}
        start = max(float(middle.subs(values)), float(above.subs(values)))
        held = min(1.0, math.sqrt(prompts * penalty**2 / (2 * norm * start)))

        def around(residual: mpmath.mpf, depth: mpmath.mpf) -> tuple[mpmath.mpf, mpmath.mpf]:
            shrunk = 1 / (1 + mpmath.exp(depth))
            fields = prompts * log * norm * shrunk, prompts * log * norm * residual * shrunk**2, prompts * log * shrunk
            m, q, V = (f(*fields, size, count, penalty / size) for f in at_the_mean_prompt())
            return residual - (1 + noise_level - 2 * m + norm * q), depth - mpmath.log(norm * V)

        depth = mpmath.log(1 / held - 1) if held < 1 else -mpmath.log(prompts * log)
        return float(mpmath.findroot(around, (start, depth), tol=1e-20, maxsteps=60)[0])


@derivation.claim(
    "the solution of the equations at finite $D$ tends to [[sparse]], in the middle and above, with a distance that "
    "falls with $\\log D$",
    numerically("mean prompt, mpmath, D = 1e10, 1e40 and 1e160, eta = 0.2, a = 1.2 and 1.5 with rho = 0.25", long=True),
)
def logarithmic_corrections() -> Found:
    told, holds = [], True
    for norm, level in ((1.2, 0.0), (1.5, 0.25)):
        for prompts in (8.0, 25.0):
            values = {zeta: prompts, eta: 0.2, s.noise: level, a: norm}
            end = max(float(middle.subs(values)), float(above.subs(values)))
            away = [abs(solved_error(x, prompts, 0.2, level, norm) / end - 1) for x in (10, 40, 160)]
            holds &= away[0] > 2 * away[1] > 4 * away[2] and away[2] < 0.01
            told.append(f"zeta = {prompts:g}: " + ", ".join(f"{x:.4f}" for x in away))
    return Found(holds, "; ".join(told))


@derivation.claim(
    r"at $\lambda_1 = 0.4 / D$ and $P = 4 D \log D$, fewer than the $D (D + 1)$ weights, exact optima have the error "
    "of the theory at finite size, and on average fewer than $D$ weights off the diagonal",
    by_simulation(
        19, "N = 5 D, D = 20 with 24 and D = 40 with 8 samples; within 4 standard errors and 0.3/D", long=True
    ),
)
def sparse_optima_have_the_error_of_theory() -> Found:
    told, holds = [], True
    for size, samples in ((20, 24), (40, 8)):
        setting = Setting(D=size, N=5 * size, P=round(4 * size * math.log(size)), ridge=0.0, minimum_norm=True)
        theory = float(solve_finite_size_prior([setting], Laplace(0.4 / size)).e_icl[0])
        errors, others = [], []
        for r in range(samples):
            W = laplace_optimum(draw_instance(setting, 19, r).features, 0.4 / size, 0.0).W
            errors.append(icl_error(W, setting.N, 0.0, D=size))
            others.append(np.count_nonzero(W[:size, :size]) - np.count_nonzero(np.diag(W)[:size]))
        mean, sem = float(np.mean(errors)), float(np.std(errors, ddof=1) / math.sqrt(samples))
        holds &= abs(mean - theory) < 4 * sem + 0.3 / size * theory and np.mean(others) < size
        told.append(f"D = {size}: {mean:.4f} +- {sem:.4f}, theory {theory:.4f}; {np.mean(others):.1f} others")
    return Found(bool(holds), "; ".join(told))


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
