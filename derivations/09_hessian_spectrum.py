"""The spectrum of the Hessian: the replica theory without targets as a resolvent, zero modes, and its limit."""

import mpmath
import numpy as np
import sympy as sp

from replica_icl import Setting
from replica_icl.narration.checks import agree, vanishes
from replica_icl.narration.derivation import (
    Derivation,
    Found,
    by_simulation,
    numerically,
    symbolically,
    to_digits,
)
from replica_icl.narration.telling import tell
from replica_icl.numeric.questions.spectrum import hessian_cdf, hessian_density
from replica_icl.simulator.features import draw_features
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average, split_averages
from replica_icl.theory import marchenko_pastur as law
from replica_icl.theory.fresh_tasks import derive_fresh_tasks, field, in_response_units, last_row_field, unit
from replica_icl.theory.fresh_tasks_limit import derive_fresh_tasks_limit, effective_ridge, response
from replica_icl.theory.hessian_spectrum import trace_log

derivation = Derivation(
    __file__,
    "The spectrum of the Hessian",
    needs=["fresh-tasks", "limit"],
    symbols={
        "S": r"second moments of the features over the acting weights, $\frac{1}{P} \sum_\mu f f^T$",
        "G": r"its resolvent, $(S + \lambda_0)^{-1}$",
        "x": r"an eigenvalue of $S$, in the limit of $D S / a$",
        "x_{low}": "lower edge of the spectrum",
        "x_{high}": "upper edge of the spectrum",
        r"\psi": r"$v$ in units of $1 / a$, at a ridge in units of $a$",
        "z": r"$\lambda / a$",
    },
)

theory = derive_fresh_tasks()
response_theory = in_response_units(theory)
one_ridge = {unit: sp.S.One, last_row_field: field}
volume = trace_log(theory)
limit = derive_fresh_tasks_limit(theory)

# ----------------------------------------------------------------------------------------------------------------------

derivation.step(
    "A determinant is a free entropy",
    r"""
    The Hessian of the energy is $S + \lambda_0$ with $S = \frac{1}{P} \sum_\mu f f^T$, whatever the targets. Take
    targets that are zero: there is no field, the mean weights vanish, and $Z$ is a Gaussian volume, $\log Z = \frac{D
    (D + 1)}{2} \log(2 \pi / \beta) - \frac{1}{2} \mathrm{tr} \log(S + \lambda_0)$. So the replica theory without $m$,
    $q$ and $u$ is a theory of the determinant, averaged over prompts. At $\beta = P$, where $b = 1$:
    """,
)
derivation.equation(
    r"\langle \mathrm{tr} \log(S + \lambda_0) \rangle", split_averages(volume.subs(field, s.ridge)), "determinant"
)
derivation.text(
    r"""
    at the stationary point in $V$ and $V_u$, which is that of [[fresh-tasks]]: fluctuations do not know the targets.
    Its derivative in the ridge is the trace of the resolvent, $\mathrm{tr}\, G = P (D V + V_u)$, the token block and
    the last row apart.
    """
)


@derivation.claim("the determinant is stationary where the theory with targets is, in $V$ and in $V_u$", to_digits())
def same_saddle() -> bool:
    full = response_theory.saddle.equations
    pairs = ((s.V, s.q), (s.V_u, s.u))
    return all(agree(volume.diff(x), -2 * full[y].subs(one_ridge)) for x, y in pairs)


@derivation.claim(r"its derivative in $\lambda_0$ is $P (D V + V_u)$", symbolically())
def resolvent_is_the_derivative() -> bool:
    return vanishes(volume.diff(field) - s.P * (s.D * s.V + s.V_u))


@derivation.claim(
    r"with prompts whose queries vanish it is $D (D + 1) \log \lambda_0$, at $V = V_u = D / (P \lambda_0)$", to_digits()
)
def without_features() -> bool:
    at_rest = {s.V: s.D / (s.P * field), s.V_u: s.D / (s.P * field)}
    no_query = volume.replace(lambda e: isinstance(e, Average), lambda e: e.integrand.subs(s.query_norm, 0))
    return agree(no_query.subs(at_rest), (s.D**2 + s.D) * sp.log(field))


derivation.step(
    "Density and zero modes",
    r"""
    The equations are analytic in the ridge. Taken at $\lambda_0 = -x$ just below the real axis, $\mathrm{tr}\, G$ has
    the density of eigenvalues at $x$ as its imaginary part, over $\pi$, and the imaginary part of [[determinant]]
    counts the eigenvalues below $x$. $P$ prompts fix at most $P$ directions: below $P = D (D + 1)$ a fraction $1 - P
    / (D (D + 1))$ of the eigenvalues of $S$ is zero. In theory, send the ridge to zero in the count of degrees of
    freedom: $D (D + 1) = P \langle 1 - s \rangle + \lambda_0 \mathrm{tr}\, G$, and $s \to 0$ because $\chi$ diverges.
    """,
)


def zero_modes() -> dict[float, tuple[float, float]]:
    base, found = Setting(D=10, N=20, P=1, ridge=1.0, noise=0.25), {}
    for share in (0.25, 0.5, 2.0):
        setting = Setting(D=10, N=20, P=round(share * 110), ridge=1.0, noise=0.25)
        spectrum = hessian_density(setting, [1e-7])
        found[share] = float(spectrum.cdf[0]), max(0.0, 1 - setting.P / base.acting_weights)
    return found


@derivation.claim(
    r"the fraction of eigenvalues below $10^{-7}$ is $1 - P / (D (D + 1))$, or zero",
    numerically("D = 10, N = 20, P = 28, 55, 220, within 0.002"),
)
def counted_zero_modes() -> Found:
    found = zero_modes()
    return Found(all(abs(counted - stated) < 2e-3 for counted, stated in found.values()), str(found))


@derivation.claim(
    "sampled eigenvalues have the distribution of the theory, at every tenth of them within 0.01",
    by_simulation(4, "D = 10, N = 20, P = 60 and 200, 60 samples"),
)
def sampled_distribution() -> Found:
    worst = 0.0
    for prompts in (60, 200):
        setting = Setting(D=10, N=20, P=prompts, ridge=1.0)
        samples = [draw_features(setting, np.random.default_rng([4, r])).gram() for r in range(60)]
        values = np.sort(np.concatenate([np.linalg.eigvalsh(gram) for gram in samples]))
        zero = max(0.0, 1 - prompts / setting.acting_weights)
        shares = zero + (1 - zero) * np.linspace(0.1, 0.9, 9)
        places = np.quantile(values, shares)
        worst = max(worst, float(np.max(np.abs(hessian_cdf(setting, places) - shares))))
    return Found(worst < 0.01, f"largest distance {worst:.4f}")


transform = sp.Symbol(r"\psi", positive=True)
scaled = law.resolvent_polynomial().as_expr().subs({law.spectrum.transform: transform, law.kappa: s.alpha})

derivation.step(
    "The limit: Marchenko and Pastur",
    r"""
    In the limit $v = \tilde\beta V$ is $\mathrm{tr} (D S + \lambda)^{-1} / D^2$ on the token block. The effective
    ridge gives $v = k / (\lambda (a + k))$, and the quadratic for $k$ becomes one for $\psi = a v$ at $z = \lambda /
    a$: the same as for the second moments of Gaussian vectors, $\alpha$ of them per dimension, which the replica
    theory gives as well ([[task-diversity]]). So in the limit products of context and query act like isotropic
    Gaussian features of variance $a / D$ (Lu et al., arXiv:2405.11751, prove it).
    """,
)
derivation.equation("0", sp.collect(sp.expand(scaled), transform), "quadratic")
derivation.text(
    r"""
    On the real axis, $z = -x$, the discriminant is negative between two edges, and the imaginary part over $\pi$ is
    the density; for $\alpha < 1$ there is an atom $1 - \alpha$ at zero. The second moments of a prompt's tokens have
    the same law with $N / D$ in place of $\alpha$.
    """
)
derivation.equation("x_{low}", law.edges()[0].subs(law.kappa, s.alpha))
derivation.equation("x_{high}", law.edges()[1].subs(law.kappa, s.alpha))
x_low, x_high = sp.Symbol("x_{low}", positive=True), sp.Symbol("x_{high}", positive=True)
derivation.equation(
    r"\text{density}", law.density().subs({law.low: x_low, law.high: x_high, law.kappa: s.alpha}), "density"
)


@derivation.claim(r"the quadratic for $k$ is [[quadratic]] for $\psi = a v$ at $z = \lambda / a$", symbolically())
def features_are_isotropic() -> bool:
    a = s.context_norm
    in_v = limit.ridge_polynomial.as_expr().subs(effective_ridge, s.lam * response * a / (1 - s.lam * response))
    stated = scaled.subs({transform: a * response, law.spectrum.distance: s.lam / a})
    first, second = (sp.Poly(sp.numer(sp.together(x)), response) for x in (in_v, stated))
    return sp.degree(first) == 2 and sp.rem(first, second).is_zero


@derivation.claim(
    r"the density [[density]] is normalised with its atom, has mean one and second moment $1 + 1/\alpha$",
    numerically("quadrature in the angle between the edges, to 18 digits, alpha = 1/3 and 3"),
)
def moments_of_the_law() -> bool:
    def holds(ratio: sp.Rational) -> bool:
        angle = sp.Symbol("theta", real=True)
        at = {law.kappa: ratio, law.sine: sp.sin(angle), law.cosine: sp.cos(angle / 2)}
        x, weight = (sp.lambdify(angle, part.subs(law.place, law.rule()[0]).subs(at), "mpmath") for part in law.rule())
        with mpmath.workdps(25):
            places = mpmath.linspace(0, mpmath.pi, 5)
            found = [mpmath.quad(lambda t, p=p: x(t) ** p * weight(t), places) for p in range(3)]
            stated = [mpmath.mpf(sp.N(x, 25)) for x in (min(ratio, sp.Integer(1)), sp.Integer(1), 1 + 1 / ratio)]
            return all(abs(value - exact) < 1e-18 for value, exact in zip(found, stated, strict=True))

    return holds(sp.Rational(1, 3)) and holds(sp.Integer(3))


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
