"""The thermodynamic limit of fresh tasks: concentration, elimination, closed forms, and the ridgeless transition."""

import mpmath
import numpy as np
import sympy as sp

from replica_icl import Ratios, solve
from replica_icl.narration.checks import vanishes
from replica_icl.narration.derivation import Derivation, Found, by_simulation, numerically, symbolically
from replica_icl.narration.telling import tell
from replica_icl.symbolic import moments
from replica_icl.symbolic import symbols as s
from replica_icl.theory.fresh_tasks_limit import (
    derive_fresh_tasks_limit,
    effective_ridge,
    excess,
    response,
    shrinkage,
    test_error,
)

derivation = Derivation(
    __file__,
    "The thermodynamic limit of fresh tasks",
    needs=["fresh-tasks"],
    symbols={
        "d": "numerator of the effective ridge's quadratic: $a (1 - 1 / \\alpha) - \\lambda$",
    },
)

limit = derive_fresh_tasks_limit()
a, k, v, e, alpha, lam, rho = s.context_norm, effective_ridge, response, test_error, s.alpha, s.lam, s.noise
cold, warm = limit.ground_state, limit.saddle
scalar_means, spreads = moments.concentrated_means(), moments.relative_variances()
shrunk = 1 - a / (alpha * (a + k))
"""s on the solution, from k."""
error_in_k = limit.test_error.subs(excess, a - 1).subs(shrinkage, shrunk)
on_saddle = {
    s.m: limit.m,
    s.q: limit.q.subs(s.m, limit.m).subs(e, error_in_k),
    v: (limit.V * s.beta_tilde).subs(shrinkage, shrunk),
    lam: k * shrunk,
}


def in_s_and_e(expression: sp.Expr) -> sp.Expr:
    """With alpha / (alpha + a v) written as s, and the residual 1 + rho - 2 m + a q as e; its inverse is `written`."""
    pulled = sp.expand(expression).subs(s.q, (e - 1 - rho + 2 * s.m) / a) if expression.has(rho) else expression
    terms = [
        sp.factor(sp.factor(part).subs(a * v + alpha, alpha / shrinkage))
        for part in (pulled - _volume(pulled), _volume(expression))
    ]
    return sp.Add(*terms)


def _volume(expression: sp.Expr) -> sp.Expr:
    """The terms that the prompts do not add to."""
    return sum((x for x in sp.Add.make_args(sp.expand(expression)) if not x.has(alpha)), sp.S.Zero)


def written(expression: sp.Expr) -> sp.Expr:
    return expression.subs({shrinkage: alpha / (alpha + a * v), e: limit.residual})


# ----------------------------------------------------------------------------------------------------------------------

derivation.step(
    "Where the prompt law concentrates",
    r"""
    Now $D \to \infty$ with $P = \alpha D^2$, $N = \nu D$, $\lambda_0 = \lambda / D$ and $\beta = \tilde\beta D^2$.
    Means and variances of a prompt's scalars are exact at every size, and every relative variance is of order $1/D$:
    each average over prompts becomes a value at one point, $T = \omega = g = 1$, $\ell = 1 + \rho$ and
    """,
)
derivation.equation("a", sp.expand(scalar_means[a]))
derivation.text(r"These are the relative variances, times $D$:")
for scalar, value in spreads.items():
    leading = sp.factor(sp.limit(s.D * value, s.D, sp.oo))
    derivation.equation(
        rf"\lim D\, \mathrm{{Var}}({sp.latex(scalar)}) / (\mathrm{{E}}\, {sp.latex(scalar)})^2", leading
    )


@derivation.claim("every relative variance vanishes like $1/D$, and none faster", symbolically())
def concentration() -> bool:
    return all(sp.limit(x, s.D, sp.oo) == 0 and sp.limit(s.D * x, s.D, sp.oo).is_positive for x in spreads.values())


@derivation.claim(r"the means are $T = \omega = g = 1$, $\ell = 1 + \rho$, $a = 1 + (1 + \rho)/\nu$", symbolically())
def means() -> bool:
    one = all(scalar_means[x] == 1 for x in (s.query_norm, s.task_norm, s.aligned))
    rest = vanishes(scalar_means[s.corner] - 1 - rho) and vanishes(scalar_means[a] - 1 - (1 + rho) / s.nu)
    return one and rest


derivation.step(
    "Free entropy density",
    r"""
    The last row of $W$ has only $D$ of the weights and decouples. The density of the free entropy, without the
    constant $\frac{1}{2} (1 + \log(2 \pi / D))$ of the volume, is the sum of
    """,
)
derivation.equation(r"\lim \Phi_{\mathrm{entropic}} / D^2", limit.entropic)
derivation.equation(r"\lim \Phi_{\mathrm{energetic}} / D^2", limit.energetic)
derivation.text(
    r"""
    For $\tilde\beta \to \infty$ the fluctuation $V$ vanishes, and $v = \tilde\beta V$ stays: the response of the
    ground state to a field. With $e = 1 + \rho - 2 m + a q$, the squared residual on a new prompt, and $s = \alpha /
    (\alpha + a v)$, the free entropy over $\tilde\beta D^2$ is minus the energy of the ground state, and its
    stationarity in $m$, $q$ and $v$ reads
    """
)
derivation.equation(r"\lim \Phi / (\tilde\beta D^2)", in_s_and_e(cold.free_entropy), "ground")
for parameter, name in ((s.m, "m"), (s.q, "q"), (v, "v")):
    derivation.equation("0", in_s_and_e(cold.equations[parameter]), f"d{name}")


@derivation.claim(
    "[[ground]] and the three equations, with $s$ and $e$ written out, are the limit and its derivatives",
    symbolically(),
)
def as_shown() -> bool:
    pairs = [(cold.free_entropy, cold.free_entropy), *((x, x) for x in cold.equations.values())]
    return all(vanishes(written(in_s_and_e(x)) - y) for x, y in pairs)


@derivation.claim(r"finite temperature and ground state have the same $m$, $q$ and $v = \tilde\beta V$", symbolically())
def same_saddle() -> bool:
    tilde = s.beta_tilde
    in_v = {x: equation.subs(s.V, v / tilde) for x, equation in warm.equations.items()}
    own, by_q, by_v = (cold.equations[x] for x in (s.m, s.q, v))
    return (
        vanishes(in_v[s.m] - tilde * own)
        and vanishes(in_v[s.q] - tilde * by_q)
        and vanishes(in_v[s.V] - tilde * by_q - tilde**2 * by_v)
    )


@derivation.claim(
    "limit and stationarity can be exchanged: the limits of the finite-size equations for $m$, $q$ and $V$ are "
    "those of the "
    "limit",
    symbolically(),
)
def stationarity_of_the_limit() -> bool:
    return all(
        vanishes(limit._concentrated(limit.finite.saddle.equations[x] / s.D**2) - warm.equations[x])
        for x in (s.m, s.q, s.V)
    )


balance = a * (1 - 1 / alpha) - lam
root = (sp.sqrt(balance**2 + 4 * a * lam) - balance) / 2

derivation.step(
    "Elimination: closed forms",
    r"""
    By [[dq]], $v = 1 / (\lambda + a s)$; with the definition of $s$ this is a quadratic for $s$ that holds neither
    temperature nor targets. It is most telling in the effective ridge $k = \lambda / s$, $k = \lambda +
    \frac{k}{\alpha} \frac{a}{a + k}$: prompts that are spent on $D^2$ weights raise the ridge from $\lambda$ to $k$.
    Its positive root, with $d = a (1 - 1/\alpha) - \lambda$:
    """,
)
d = sp.Symbol("d", real=True)
derivation.equation("k", (sp.sqrt(d**2 + 4 * a * lam) - d) / 2, "k")
derivation.text(
    r"""
    (For $d > 0$ the difference loses digits, and $2 a \lambda / (\sqrt{d^2 + 4 a \lambda} + d)$ is what is computed.)
    The order parameters are then rational in $k$; [[dm]] gives $m$, [[dv]] gives $q$ with $e$ on its right-hand side,
    and the definition of $e$ closes the circle. Its denominator is the replicon:
    """
)
derivation.equation("v", 1 / (shrinkage * (a + k)))
derivation.equation("m", limit.m)
derivation.equation("q", limit.q)
derivation.equation("I - X", 1 - a**2 / (alpha * (a + k) ** 2), "replicon")
derivation.equation(
    "e = e_{\\mathrm{ICL}}",
    (1 + rho - 1 / a + k**2 / (a * (a + k) ** 2)) / (1 - a**2 / (alpha * (a + k) ** 2)),
    "error",
)
derivation.equation(r"e_{\mathrm{train}}", limit.ground_observables["train_error"])
derivation.equation(r"\text{contrast}", limit.ground_observables["contrast"])
derivation.text(
    r"""
    $1 + \rho - 1/a$ is what the best linear rule $W = I / a$ leaves; the next term of the numerator is the bias of
    the ridge; the denominator is what the finite number of prompts does. The form of Lu et al. (arXiv:2405.11751) is
    the same.
    """
)


@derivation.claim(
    r"$k$ as shown, and both branches that are computed, solve $k = \lambda + \frac{k}{\alpha} \frac{a}{a + k}$, the "
    "quadratic that follows from the derivative in $q$",
    symbolically(),
)
def effective_ridge_equation() -> bool:
    polynomial = limit.ridge_polynomial.as_expr()
    stated = sp.expand(alpha * (a + k) * (k - lam - k / alpha * a / (a + k)))
    branches = [branch for branch, _ in limit.effective_ridge.args]
    in_s = all(vanishes(limit.shrinkage_polynomial.as_expr().subs(shrinkage, x)) for x, _ in limit.shrinkage.args)
    return vanishes(polynomial - stated) and in_s and all(vanishes(polynomial.subs(k, x)) for x in (root, *branches))


@derivation.claim("$I - X$ and $e$ as shown are the expressions that are solved", symbolically())
def closed_forms_as_shown() -> bool:
    stated = (1 + rho - 1 / a + k**2 / (a * (a + k) ** 2)) / (1 - a**2 / (alpha * (a + k) ** 2))
    replicon = limit.replicon.subs(shrinkage, shrunk) - (1 - a**2 / (alpha * (a + k) ** 2))
    volume = limit.V * s.beta_tilde - 1 / (shrinkage * (a + k))
    return vanishes(error_in_k - stated) and vanishes(replicon) and vanishes(volume)


@derivation.claim("the closed forms put back into the saddle-point equations give zero", symbolically())
def stationary() -> bool:
    equations = [equation.subs(on_saddle, simultaneous=True) for equation in cold.equations.values()]
    return all(map(vanishes, equations)) and vanishes((limit.residual - e).subs(e, error_in_k).subs(on_saddle))


@derivation.claim(
    r"the free entropy of the ground state is minus its energy, $-\frac{1}{2} (e s^2 + \lambda q)$", symbolically()
)
def energy() -> bool:
    ground = limit.ground_observables["train_error"].subs(shrinkage, shrunk).subs(e, error_in_k)
    return vanishes((cold.free_entropy + (ground + lam * s.q) / 2).subs(on_saddle, simultaneous=True))


@derivation.claim(
    "a general root finder, started elsewhere, finds the same $m$ and $q$",
    numerically("mpmath.findroot on the three equations at one setting, to 12 digits"),
)
def root_finder() -> bool:
    point = {alpha: 1.5, s.nu: 2.0, lam: 0.1, rho: 0.25, a: 1 + 1.25 / 2.0}
    solved = solve(Ratios(alpha=1.5, nu=2.0, lam=0.1, noise=0.25))
    equations = [equation.subs(point) for equation in cold.equations.values()]
    found = mpmath.findroot(sp.lambdify([s.m, s.q, v], equations, "mpmath"), (0.5, 0.5, 1.0))
    return bool(abs(found[0] - solved.m) < 1e-12 and abs(found[1] - solved.q) < 1e-12)


sides = limit.ridgeless()
floor = 1 + rho - 1 / a
above = {"k": sp.S.Zero, "s": 1 - 1 / alpha, "m": 1 / a, "replicon": 1 - 1 / alpha, "e_icl": floor / (1 - 1 / alpha)}
below = {
    "k": a * (1 / alpha - 1),
    "s": sp.S.Zero,
    "m": alpha / a,
    "replicon": 1 - alpha,
    "e_icl": (floor + (1 - alpha) ** 2 / a) / (1 - alpha),
}
SYMBOLS = {"k": "k", "s": "s", "m": "m", "replicon": "I - X", "e_icl": "e"}

derivation.step(
    r"Without a ridge: the transition at $\alpha = 1$",
    r"""
    For $\lambda \to 0$ the two sides of $\alpha = 1$ differ. Above, the prompts fix all $D^2$ weights: $k = 0$, and a
    training error stays. Below, $k$ stays positive, all prompts are fitted, $s = 0$, and the limit is the ground
    state of least norm. At $\alpha = 1$ the zero modes vanish, the ground state becomes unique, $I - X$ is zero and
    $e$ diverges. Above $\alpha = 1$:
    """,
)
for name, value in above.items():
    derivation.equation(SYMBOLS[name], value)
derivation.text(r"Below:")
for name, value in below.items():
    derivation.equation(SYMBOLS[name], value)


@derivation.claim(r"both sides as shown are the limits of the closed forms for $\lambda \to 0$", symbolically())
def ridgeless_as_shown() -> bool:
    shown = {"alpha > 1": above, "alpha < 1": below}
    return all(vanishes(sides[side][name] - value) for side, values in shown.items() for name, value in values.items())


@derivation.claim(
    r"at $\alpha = 3$ and $1/3$ they are the limits of solved saddle-point equations: $v$ first, then $m$, then $q$",
    symbolically(r"$\nu = 5/4$, $\rho = 1/4$, limits by SymPy"),
)
def ridgeless_independently() -> bool:
    def same(side: str, ratio: sp.Rational) -> bool:
        numbers = {alpha: ratio, s.nu: sp.Rational(5, 4), rho: sp.Rational(1, 4), a: sp.Integer(2)}
        equations = [equation.subs(numbers) for equation in cold.equations.values()]
        (solved_v,) = (x for x in sp.solve(equations[1], v) if x.subs(lam, sp.Rational(1, 100)) > 0)
        (m,) = sp.solve(equations[0].subs(v, solved_v), s.m)
        (q,) = sp.solve(equations[2].subs(v, solved_v).subs(s.m, m), s.q)
        found = {"m": m, "e_icl": limit.residual.subs(numbers).subs({s.m: m, s.q: q})}
        ends = {name: sp.limit(x, lam, 0, "+") for name, x in found.items()}
        return all(sp.simplify(sides[side][name].subs(numbers) - x) == 0 for name, x in ends.items())

    return same("alpha > 1", sp.Integer(3)) and same("alpha < 1", sp.Rational(1, 3))


@derivation.claim(r"$e\, |\alpha - 1|$ has the same positive limit from both sides", symbolically())
def divergence() -> bool:
    ends = sp.limit((1 - alpha) * below["e_icl"], alpha, 1), sp.limit((alpha - 1) * above["e_icl"], alpha, 1)
    return vanishes(ends[0] - ends[1]) and bool(ends[0].subs({a: sp.Rational(3, 2), rho: 0}) > 0)


@derivation.claim(
    r"the closed forms approach them linearly in $\lambda$ from both sides", numerically("lambda = 1e-4 and 1e-5")
)
def ridgeless_is_approached() -> bool:
    def linear(ratio: float, side: str) -> bool:
        end = float(sides[side]["e_icl"].subs({alpha: ratio, a: 1.5, rho: 0}))
        gaps = [solve(Ratios(alpha=ratio, nu=2.0, lam=x)).e_icl - end for x in (1e-4, 1e-5)]
        return bool(abs(gaps[0] / gaps[1] - 10) < 0.1)

    return linear(3.0, "alpha > 1") and linear(1 / 3, "alpha < 1")


derivation.step(
    "Finite transformers",
    r"""
    How far is $D = 20$ from infinity? The distance of a finite transformer's error from the limit falls like $1/D$,
    the relative variance of the norms. That is slow: 8 % at $D = 20$ for $\alpha = \nu = 2$, $\lambda = 1/2$. The
    theory at finite size keeps the norms' law, which is what makes the difference ([[norms]]).
    """,
)


def ground_state_error(D: int, rng: np.random.Generator) -> float:
    """e_icl of the ridge solution on random prompts, token by token; exact in the weights, no test prompts."""
    N, P, ridge = 2 * D, 2 * D * D, 0.5 / D
    task, tokens, query = (rng.standard_normal(shape) for shape in ((P, D), (P, N, D), (P, D)))
    labels = np.matmul(tokens, task[:, :, None])[:, :, 0] / np.sqrt(D)
    context = np.column_stack([np.matmul(labels[:, None, :], tokens)[:, 0, :], np.sum(labels**2, axis=1)]) / N
    target = np.sum(task * query, axis=1) / np.sqrt(D)
    f = (context[:, :, None] * query[:, None, :]).reshape(P, -1)
    W = np.linalg.solve(f.T @ f / P + ridge * np.eye(D * D + D), f.T @ target / P).reshape(D + 1, D)
    second = np.concatenate([np.full(D, (1 + (D + 1) / N) / D), [(1 + 2 / N) * (1 + 2 / D)]])
    return float(1 - 2 * np.trace(W[:D]) / D + np.sum(second[:, None] * W**2))


@derivation.claim(
    r"halving $1/D$ halves the distance of $e_{\mathrm{ICL}}$ from the limit, up to the next order and four standard "
    "errors, and at D = 5 the distance is seen",
    by_simulation(7, "plain NumPy, D = 5, 10, 20 with 200, 60, 8 samples"),
)
def error_falls_like_inverse_dimension() -> Found:
    end, rng = float(solve(Ratios(alpha=2.0, nu=2.0, lam=0.5)).e_icl), np.random.default_rng(7)
    distance = {}
    for D, realisations in ((5, 200), (10, 60), (20, 8)):
        errors = np.array([ground_state_error(D, rng) for _ in range(realisations)])
        distance[D] = abs(errors.mean() - end), errors.std(ddof=1) / np.sqrt(realisations)
    holds = bool(distance[5][0] > 4 * distance[5][1])
    for small, large in ((5, 10), (10, 20)):
        sem = np.hypot(distance[small][1] / 2, distance[large][1])
        holds &= bool(abs(distance[large][0] - distance[small][0] / 2) < distance[small][0] / 4 + 4 * sem)
    return Found(holds, "D times the distance " + ", ".join(f"{D * x:.2f}" for D, (x, _) in distance.items()))


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
