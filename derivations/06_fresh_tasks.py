"""Fresh tasks at finite size: n -> 0, the free entropy, its saddle-point equations, and the observables."""

import sympy as sp

from replica_icl.model.losses.squared import SquaredLoss
from replica_icl.narration.checks import agree, vanishes
from replica_icl.narration.derivation import Derivation, symbolically, to_digits
from replica_icl.narration.shorthand import named, written_out
from replica_icl.narration.telling import tell
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average
from replica_icl.theory.fresh_tasks import derive_fresh_tasks

derivation = Derivation(
    __file__,
    "Fresh tasks: free entropy, saddle point and observables",
    needs=["replicated-action", "replica-symmetry"],
    symbols={
        "r": "residuals of the replicas on one prompt, as a vector",
        "Q_{11}": "overlap of a replica with itself",
        "Q_{12}": "overlap of two replicas",
        "h": r"$\beta \lambda_0$, the field on half of $|W|^2$",
        r"\eta": "weight of a prompt that is not trained on",
        r"p": "a factor by which the temperature is lowered",
    },
)

theory = derive_fresh_tasks()
n, D, m, q, V = s.replicas, s.D, s.m, s.q, s.V
Phi, equations, observables = theory.free_entropy, theory.saddle.equations, theory.observables
action = theory.entropic.replica_symmetric() + theory.energetic.replica_symmetric()
at_scale = {s.inverse_scale: s.beta / s.P}
step = sp.Float("1e-15", 60)
"""Of finite differences at 60 digits."""

# ----------------------------------------------------------------------------------------------------------------------

own, pair = sp.symbols("Q_11 Q_12", positive=True)
volume = D**2 / 2 * ((n - 1) * sp.log(own - pair) + sp.log(own + (n - 1) * pair - n * m**2))
at_ansatz = {own: q + V, pair: q}
curvature = sp.factor(volume.diff(pair, 2).subs(at_ansatz))

derivation.step(
    r"The limit $n \to 0$: what is exchanged, and what is turned over",
    r"""
    Wanted is the average of $\log Z$ over samples, $\Phi = \lim_{n \to 0} \frac{1}{n} \log \langle Z^n \rangle$. Two
    things are done on the way that are no algebra.

    First, limits are exchanged. The saddle point in the overlaps is for large $D$ at fixed $n$, and $n \to 0$ comes
    last. In cumulants, $\log \langle Z^n \rangle = n \langle \log Z \rangle + \frac{n^2}{2} \mathrm{Var} \log Z +
    \dots$: the limits commute if every cumulant is of order $D^2$, like the first, so that $\log \langle Z^n \rangle
    / D^2$ is a function of $n$ that is smooth at zero. The second cumulant is computed in [[sample-spread]] and
    compared with simulation there; the average itself is compared in [[temperature]] without replicas.

    Second, the integral over overlaps is dominated by its largest value for $n \ge 2$. There are $\frac{n (n -
    1)}{2}$ overlaps of pairs, a number that is negative for $n < 1$, and with it the curvature along $Q_{12}$ at
    given $Q_{11}$ changes its sign: the maximum over the overlaps of pairs becomes a minimum. In the volume, with
    $Q_{11} = q + V$ and $Q_{12} = q$:
    """,
)
derivation.equation(r"\partial^2 \log \mathrm{vol} / \partial Q_{12}^2", curvature, label="curvature")
derivation.text(
    r"""
    Prompts have the opposite sign, and less of it as long as the saddle is stable ([[stability]]). So the rule for $n
    \to 0$ is not to maximise or to minimise but to follow the stationary point, and stability is asked for relative
    to the volume.
    """
)


@derivation.claim(
    r"the curvature [[curvature]] is $-(n - 1)$ times a positive number, for $n > 1$ and for $0 < n < 1$",
    symbolically(),
)
def maximum_becomes_minimum() -> bool:
    rest = sp.factor(curvature / -(n - 1))
    orthogonal, more = sp.symbols("Q_perp more", positive=True)  # q - m^2 > 0; n = 1 + more or 1 / (1 + more)
    above, below = (
        sp.factor(sp.together(rest.subs(q, m**2 + orthogonal).subs(n, value))) for value in (1 + more, 1 / (1 + more))
    )
    positive = [all(c > 0 for c in sp.Poly(sp.numer(x) / D**2, V, orthogonal, more).coeffs()) for x in (above, below)]
    return all(positive) and all(sp.denom(x).subs({V: 1, orthogonal: 1, more: 1}) > 0 for x in (above, below))


@derivation.claim(
    "per replica it stays positive and finite as $n \\to 0$, where the volume has a minimum", symbolically()
)
def minimum_per_replica() -> bool:
    per_replica = sp.limit(curvature / n, n, 0)
    return vanishes(per_replica - D**2 / (2 * V**2) * (1 + 2 * (q - m**2) / V))


derivation.step(
    "The free entropy",
    r"""
    The entropic part counts the weights, with the ridge; $\log Z$ is over the $D (D + 1)$ acting weights. The
    energetic part is what the prompts cost. With $\chi = V a + V_u \ell^2$, $s = 1 / (1 + b T \chi)$ and $R =
    C_{12}$, the squared residual of the mean weights:
    """,
)
derivation.equation(r"\Phi_{\mathrm{entropic}}", theory.entropic.free_entropy())
derivation.equation(r"\Phi_{\mathrm{energetic}}", named(theory, theory.energetic.free_entropy()), label="energetic")
derivation.equation(r"T \chi = C_{11} - C_{12}", theory.energetic.fluctuation)
derivation.equation(r"R = C_{12}", theory.energetic.covariance.off_diagonal)


@derivation.claim(r"at $n = 0$ the action vanishes: $\langle Z^0 \rangle = 1$", to_digits())
def nothing_without_replicas() -> bool:
    return agree(action.subs(n, 0), sp.S.Zero)


@derivation.claim(r"the action divided by $n$, at $n = 10^{-20}$, is the free entropy", to_digits(13))
def slope_at_zero() -> bool:
    tiny = sp.Float("1e-20", 60)
    return agree(action.subs(n, tiny) / tiny, Phi, tolerance="1e-13")


@derivation.claim(r"[[energetic]] with $R$, $\chi$ and $s$ written out is the part that is solved", to_digits())
def shorthand_is_faithful() -> bool:
    energetic = theory.energetic.free_entropy()
    return agree(written_out(theory, named(theory, energetic)), energetic)


derivation.step(
    "Saddle-point equations",
    r"""
    The free entropy is stationary in $m$, $q$, $V$, $u$ and $V_u$; each of the following vanishes at the saddle.
    """,
)
for parameter, equation in equations.items():
    derivation.equation(rf"\partial \Phi / \partial {parameter.name}", named(theory, equation), f"d{parameter.name}")
derivation.text(
    r"""
    [[dm]] balances what the prompts pull along the identity against the volume. [[dq]] and [[du]] fix the
    fluctuations and know nothing of the targets: together they count degrees of freedom, $P \langle 1 - s \rangle$ of
    $D (D + 1)$ being spent on prompts. [[dV]] and [[dV_u]], less the former two, are linear in $q$ and $u$.
    """
)


@derivation.claim("the equations as shown are the derivatives of the free entropy", to_digits())
def derivatives() -> bool:
    return all(agree(written_out(theory, named(theory, e)), Phi.diff(x)) for x, e in equations.items())


@derivation.claim(
    "the derivatives under the averages are those of finite differences, in $V$ and in $m$",
    to_digits(20, "step 1e-15; averages over a law of two unequal points"),
)
def finite_differences() -> bool:
    return all(
        agree((Phi.subs(x, x + step) - Phi.subs(x, x - step)) / (2 * step), equations[x], tolerance="1e-20")
        for x in (s.V, s.m)
    )


@derivation.claim(
    r"$2 V \partial \Phi / \partial q + 2 V_u \partial \Phi / \partial u = D^2 + D - \beta \lambda_0 (D V + V_u) - P "
    r"\langle 1 - s \rangle$",
    to_digits(),
)
def degrees_of_freedom() -> bool:
    spent = s.P * Average(1 - theory.energetic.shrinkage, s.SCALARS)
    counted = D**2 + D - s.beta * s.ridge * (D * V + s.V_u) - spent
    return agree(2 * V * equations[q] + 2 * s.V_u * equations[s.u], counted)


@derivation.claim(
    r"without prompts the saddle has the exact Gaussian volume, $\log Z = \frac{D^2 + D}{2} \log(2 \pi / (\beta "
    r"\lambda_0))$",
    symbolically("solved in closed form"),
)
def exact_without_prompts() -> bool:
    (solved,) = sp.solve([e.subs(s.P, 0) for e in equations.values()], list(equations), dict=True)
    at_rest = solved[m] == solved[q] == solved[s.u] == 0
    return at_rest and agree(Phi.subs(s.P, 0).subs(solved), (D**2 + D) / 2 * sp.log(2 * sp.pi / (s.beta * s.ridge)))


derivation.step(
    "Observables",
    r"""
    Observables come from the same free entropy. A prompt that is not trained on, with weight $\exp(-\frac{\eta}{2}
    r^T r)$ over the replicas that it sees, is a source: the response to $\eta$ at zero is the squared residual of one
    Gibbs sample ($r$ of one replica with itself) or of the mean weights (of two different replicas), which is
    $e_{\mathrm{ICL}}$. A derivative in $\beta$ at fixed $h = \beta \lambda_0$ gives the training error, one in $h$
    the norm of the weights.
    """,
)
LABELS = {
    "e_icl": r"e_{\mathrm{ICL}}",
    "train_error": r"e_{\mathrm{train}}",
    "e_gibbs": r"e_{\mathrm{Gibbs}}",
    "train_gibbs": r"e_{\mathrm{train, Gibbs}}",
    "weight_norm": "|W|^2",
    "contrast": r"\text{contrast}",
}
for name, expression in observables.items():
    derivation.equation(LABELS[name], named(theory, expression), name)
derivation.text(
    r"""
    Norm and contrast are those of the mean weights; the contrast $\mathrm{tr}\, W / (|W| \sqrt{D + 1})$ is here a
    ratio of means.
    """
)
train_gibbs = observables["train_gibbs"].subs(at_scale)
field = sp.Symbol("h", positive=True)
at_field = Phi.subs(at_scale).subs(s.ridge, field / s.beta)


@derivation.claim(
    r"at fixed $\beta \lambda_0$, $\partial \Phi / \partial \beta$ is $-\frac{1}{2} e_{\mathrm{train, Gibbs}}$",
    to_digits(20, "by differentiation and by finite differences; averages over a law of two unequal points"),
)
def training_error_is_a_derivative() -> bool:
    slope = (at_field.subs(s.beta, s.beta + step) - at_field.subs(s.beta, s.beta - step)) / (2 * step)
    return agree(at_field.diff(s.beta), -train_gibbs / 2) and agree(slope, -train_gibbs / 2, tolerance="1e-20")


@derivation.claim(r"$-2 \partial \Phi / \partial h$ is $|W|^2 = D (q + V) + u + V_u$ of a Gibbs sample", symbolically())
def norm_is_a_derivative() -> bool:
    return vanishes(-2 * at_field.diff(field) - D * (q + V) - s.u - s.V_u)


@derivation.claim(
    r"the response of the free entropy to one more prompt of small weight is $e_{\mathrm{ICL}} + \langle T \chi "
    r"\rangle = "
    r"e_{\mathrm{Gibbs}}$",
    to_digits(),
)
def probe_prompt() -> bool:
    eta = sp.Symbol("eta", positive=True)
    extra = SquaredLoss(theory.energetic.covariance, prompts=sp.S.One, inverse_scale=eta).free_entropy()
    sample = observables["e_icl"] + Average(theory.energetic.fluctuation, s.SCALARS)
    return agree(-2 * extra.diff(eta).subs(eta, 0), sample) and agree(observables["e_gibbs"], sample)


derivation.step(
    "What temperature changes",
    r"""
    The energy is quadratic, hence the mean of the Boltzmann measure is the ground state at any temperature, and its
    covariance is proportional to $1 / \beta$. The equations say the same: with $p \beta$, $V / p$ and $V_u / p$ in
    place of $\beta$, $V$ and $V_u$ those for $m$, $q$ and $u$ keep their form, and so do [[dV]] and [[dV_u]] less
    [[dq]] and [[du]]. So $m$, $q$, $u$ and the errors of the mean weights do not depend on $\beta$. Temperature is in
    $\log Z$, in the energy $\langle E \rangle = E_0 + \frac{D (D + 1)}{2 \beta}$ and in the errors of Gibbs samples;
    see [[temperature]].
    """,
)
p = sp.Symbol("p", positive=True)
COLDER = {s.beta: p * s.beta, s.inverse_scale: p * s.inverse_scale, V: V / p, s.V_u: s.V_u / p}


@derivation.claim(
    r"the equations that fix $m$, $q$, $u$, $\beta V$ and $\beta V_u$ do not change with $\beta$", to_digits()
)
def equations_without_temperature() -> bool:
    def covariant(equation: sp.Expr, power: int) -> bool:
        return agree(equation.subs(COLDER, simultaneous=True), p**power * equation)

    first = all(covariant(equations[x], 1) for x in (m, q, s.u))
    second = all(covariant(equations[x] - equations[y], 2) for x, y in ((V, q), (s.V_u, s.u)))
    return first and second and not covariant(equations[V], 1)


@derivation.claim(
    r"at the saddle the thermal part of the energy is $D (D + 1) / (2 \beta)$: equipartition", to_digits()
)
def equipartition() -> bool:
    training = (observables["train_gibbs"] - observables["train_error"]) / 2
    off_saddle = (V * equations[q] + s.V_u * equations[s.u]) / s.beta
    thermal = training + s.ridge / 2 * (D * V + s.V_u) + off_saddle
    return agree(thermal.subs(at_scale), (D**2 + D) / (2 * s.beta))


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
