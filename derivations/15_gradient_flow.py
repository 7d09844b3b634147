"""Training by gradient flow from a random start: modes of the Hessian, averaged over its spectrum."""

from functools import cache

import mpmath
import numpy as np
import sympy as sp

from replica_icl import Ratios, gradient_flow, solve
from replica_icl.narration.checks import vanishes
from replica_icl.narration.derivation import Derivation, Found, by_simulation, numerically, symbolically
from replica_icl.narration.telling import tell
from replica_icl.numeric.questions.gradient_flow import end_point
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average
from replica_icl.theory import gradient_flow as theory_of
from replica_icl.theory import marchenko_pastur as law

derivation = Derivation(
    __file__,
    "Training: gradient flow from a random start",
    needs=["limit", "hessian-spectrum"],
    symbols={
        "S": r"second moments of the features over the acting weights, $\frac{1}{P} \sum_\mu f f^T$",
        "h": "fields",
        r"\tau": r"time over $D$",
        "x": "an eigenvalue of $D S$",
        r"\theta": "weight of one mode",
        r"\theta_0": "initial weight of a mode",
        "B": "what the best rule has in a mode",
        r"\eta": "what the noise in the field has in a mode",
        r"\sigma_0": "standard deviation of the initial weights, times $\\sqrt{D}$",
        r"\sigma": r"$\sigma^2 = 1 + \rho - 1/a$, the error of the best rule",
        "F": r"$\exp(-(x + \lambda) \tau)$, what a mode keeps of its start",
        "L": r"$x (1 - F) / (x + \lambda)$, what a mode has learnt of the best rule",
    },
)

flow = theory_of.derive_gradient_flow()
tau, x, lam = theory_of.time, law.place, s.lam
modes = theory_of.shares()
K, L, sigma, start = sp.symbols("F L sigma sigma_0", positive=True)
begin = sp.Symbol("theta_0", real=True)
a = s.context_norm
REGRESSION = {
    theory_of.floor: sigma**2,
    theory_of.initial_variance: start**2,
    theory_of.feature_variance: a,
    theory_of.best: 1 / a,
}
MODE = {theory_of.kept: K, theory_of.learnt: L, theory_of.per_mode: L**2 / x}


def shown(expression: sp.Expr) -> sp.Expr:
    """With a, sigma and, in averages, F and L."""

    def inner(average: Average) -> sp.Expr:
        return Average(average.integrand.subs(MODE), (K, L, x, theory_of.inside))

    return expression.subs(REGRESSION).replace(lambda e: isinstance(e, Average), inner)


# ----------------------------------------------------------------------------------------------------------------------

derivation.step(
    "One mode",
    r"""
    Gradient flow is $\partial_\tau W = -D\, \partial E / \partial W = D h - (D S + \lambda) W$ in a time $\tau$ that
    is counted in units of $D$. (An optimiser of the mean squared error without the $\frac{1}{2}$, with learning rate
    0.01, advances it by 0.02 per epoch.) The energy is quadratic, so that each eigendirection of $S$ moves on its
    own. In units where $x$ is an eigenvalue of $D S$ the rate of a mode is $x + \lambda$; its field is $x B + \eta$,
    with $B$ what the best linear rule has in this mode and $\eta$ what the noise has, and it moves from $\theta_0$ as
    """,
)
derivation.equation(r"\theta(\tau)", K * begin + L * theory_of.signal + L / x * theory_of.noise, "mode")
derivation.text("with")
derivation.equation("F", modes[theory_of.kept])
derivation.equation("L", x * (1 - K) / (x + lam))


@derivation.claim("[[mode]] solves the equation of the flow from $\theta_0$", symbolically())
def solves_the_flow() -> bool:
    w = theory_of.mode()
    stated = (K * theory_of.start + L * theory_of.signal + L / x * theory_of.noise).subs(L, x * (1 - K) / (x + lam))
    stated = stated.subs(K, modes[theory_of.kept])
    moved = stated.diff(tau) + (x + lam) * stated - x * theory_of.signal - theory_of.noise
    return all(sp.simplify(e) == 0 for e in (moved, stated.subs(tau, 0) - theory_of.start, stated - w))


derivation.step(
    "The ensemble",
    r"""
    In the limit the token block is a regression: second moments $(a / D) I$ of the features, targets with correlation
    $I / D$ to them. So the best rule is $I / a$ and it leaves an error $\sigma^2$:
    """,
)
derivation.equation("a", flow.regression[theory_of.feature_variance])
derivation.equation(r"\sigma^2", flow.regression[theory_of.floor])
derivation.text(
    r"""
    $D S$ has the law of Marchenko and Pastur with variance $a$ and ratio $1 / \alpha$ ([[hessian-spectrum]]), and its
    eigenbasis knows nothing of the start, of $I / a$ and of the noise. Per weight, in the scale in which $|W_{DD}|^2
    / D$ is of order one, three independent squares are left: $\sigma_0^2$ of $\theta_0$, $1 / a^2$ of $B$, and
    $\sigma^2 x / \alpha$ of $\eta$, since the noise in the field is $\frac{1}{P} \sum_\mu f$ times independent errors
    of variance $\sigma^2$. With the average over the law of $x$
    """
)
derivation.equation("m", shown(flow.observables["m"]))
derivation.equation("q", shown(flow.observables["q"]))
derivation.equation(r"e_{\mathrm{ICL}}", shown(flow.observables["e_icl"]))
derivation.text(
    r"""
    Residuals on training prompts are noise less $f \cdot (W - I / a)$: the distance from the best rule is weighted
    with $x$ instead of $a$, and the part of the noise that has been fitted, $2 \langle L \rangle / \alpha$ of it, is
    taken off:
    """
)
derivation.equation(
    r"e_{\mathrm{train}}",
    sigma**2 * (1 - Average(1 - (1 - L) ** 2, (K, L, x)) / s.alpha)
    + Average(x * (start**2 * K**2 + (1 - L) ** 2 / a**2), (K, L, x)),
    "training",
)
derivation.text(
    r"""
    The last row of $W$ has a Hessian of order one and relaxes $D$ times faster: at any $\tau > 0$ its start is gone.
    """
)


@derivation.claim("the ensemble has the best rule and the error of the limit's residual", symbolically())
def best_rule() -> bool:
    value = 1 + (1 + s.noise) / s.nu
    found = flow.regression
    return (
        vanishes(found[theory_of.feature_variance] - value)
        and vanishes(found[theory_of.best] - 1 / value)
        and vanishes(found[theory_of.floor] - (1 + s.noise - 1 / value))
    )


@derivation.claim(
    r"$e_{\mathrm{ICL}} = 1 + \rho - 2 m + a q$ along the flow, and [[training]] is what is computed", symbolically()
)
def errors_belong_together() -> bool:
    m, q, error, training = (shown(flow.observables[name]) for name in ("m", "q", "e_icl", "train_error"))
    one = {K: sp.Symbol("k1"), L: sp.Symbol("l1")}

    def at_one_mode(expression: sp.Expr, inside: int = 1) -> sp.Expr:
        at = expression.replace(lambda e: isinstance(e, Average), lambda e: e.integrand)
        return at.subs(theory_of.inside, inside).subs(one)

    total = at_one_mode(error - (sigma**2 + 1 / a) + 2 * m - a * q)  # 1 + rho = sigma^2 + 1/a
    stated = sigma**2 * (1 - (1 - (1 - L) ** 2) / s.alpha) + x * (start**2 * K**2 + (1 - L) ** 2 / a**2)
    unseen = at_one_mode(training).subs(theory_of.unseen, 1 - 1 / s.alpha) - stated.subs(one)
    return vanishes(total) and vanishes(unseen)


derivation.step(
    "End points without a ridge",
    r"""
    After infinite time $F = 0$ and $L = 1$ on every mode with $x > 0$, and nothing has moved on the atom of weight $1
    - \alpha$ at $x = 0$ that exists below $\alpha = 1$. The inverse moments are those of the law's resolvent at zero:
    above the transition the noise is all that is left; below, directions that no prompt sees never learn, and never
    forget the start. For $\alpha > 1$ and for $\alpha < 1$:
    """,
)
ends = {side: value.subs(REGRESSION) for side, value in flow.end_points.items()}
derivation.equation(r"e_{\mathrm{ICL}}", sigma**2 * s.alpha / (s.alpha - 1), "above")
derivation.equation(r"e_{\mathrm{ICL}}", sigma**2 / (1 - s.alpha) + (1 - s.alpha) * (1 / a + a * start**2), "below")


@derivation.claim("[[above]] and [[below]] are what follows from the inverse moments of the law", symbolically())
def end_points() -> bool:
    above = sigma**2 * s.alpha / (s.alpha - 1)
    below = sigma**2 / (1 - s.alpha) + (1 - s.alpha) * (1 / a + a * start**2)
    return vanishes(ends["above"] - above) and vanishes(ends["below"] - below)


@derivation.claim(
    "the flow of the package ends there, on both sides", numerically("alpha = 0.4 and 3, sigma_0^2 = 0.7, 9 digits")
)
def flow_ends_there() -> bool:
    def holds(alpha: float) -> bool:
        point = Ratios(alpha=alpha, nu=2.0, lam=0.0, noise=0.25, minimum_norm=True)
        return abs(float(gradient_flow(point, np.inf, 0.7).e_icl) / end_point(point, 0.7) - 1) < 1e-9

    return holds(0.4) and holds(3.0)


@derivation.claim(
    "with a ridge the flow ends, from any start, in the ground state of the replica theory, which knows no spectrum",
    numerically("alpha = 0.3, 1 and 4: errors, m and q to 11 digits"),
)
def flow_ends_in_the_ground_state() -> bool:
    def holds(alpha: float) -> bool:
        point = Ratios(alpha=alpha, nu=2.0, lam=0.1, noise=0.25)
        end, ground = gradient_flow(point, np.inf, 0.7), solve(point)
        return all(
            abs(float(getattr(end, name)) / float(getattr(ground, name)) - 1) < 1e-11
            for name in ("e_icl", "train_error", "m", "q")
        )

    return all(holds(alpha) for alpha in (0.3, 1.0, 4.0))


@derivation.claim(
    "the package's averages are integrals over the density by adaptive quadrature",
    numerically("at 30 digits, alpha = 0.5 and 2, two times, to 9 digits"),
)
def averages_by_quadrature() -> bool:
    def average(function, alpha: float, variance):  # type: ignore[no-untyped-def]
        """Over the density and the atom of the law, in x."""
        edge = 1 / mpmath.sqrt(alpha)
        low, high = variance * (1 - edge) ** 2, variance * (1 + edge) ** 2

        def weighted(y):  # type: ignore[no-untyped-def]
            return function(y) * alpha * mpmath.sqrt((high - y) * (y - low)) / (2 * mpmath.pi * variance * y)

        return mpmath.quad(weighted, mpmath.linspace(low, high, 9)) + max(0, 1 - alpha) * function(mpmath.mpf(0))

    def holds(alpha: float, time: float) -> bool:
        floor, variance, rate = mpmath.mpf(5) / 4 - mpmath.mpf(8) / 13, mpmath.mpf(13) / 8, mpmath.mpf(1) / 10

        def parts(y):  # type: ignore[no-untyped-def]
            kept = mpmath.exp(-(y + rate) * time)
            return kept, (1 - kept) / (y + rate)

        def distance(y):  # type: ignore[no-untyped-def]
            kept, gain = parts(y)
            signal = (1 - gain * y) ** 2 / variance**2
            return mpmath.mpf(7) / 10 * kept**2 + signal + gain**2 * floor * y / alpha

        def training(y):  # type: ignore[no-untyped-def]
            return y * distance(y) - 2 * floor * y * parts(y)[1] / alpha

        found = gradient_flow(Ratios(alpha=alpha, nu=2.0, lam=0.1, noise=0.25), time, 0.7)
        test = floor + variance * average(distance, alpha, variance)
        train = floor + average(training, alpha, variance)
        return bool(abs(test - float(found.e_icl)) < 1e-9 and abs(train - float(found.train_error)) < 1e-9)

    with mpmath.workdps(30):
        return holds(0.5, 1.3) and holds(2.0, 0.4)


derivation.step(
    "Finite transformers",
    r"""
    Transformers of finite size, integrated by the eigenvectors of their Hessian, follow the limit up to $1 / D$ at
    all times, on both sides of the transition.
    """,
)
NU, RIDGE, START, TIMES = 2, 0.1, 0.5, np.array([0.3, 1.0, 4.0])


@cache
def runs(D: int, alpha: float, realisations: int) -> np.ndarray:
    """Test and training error at D TIMES of random transformers, token by token, (realisations, 3, 2)."""
    rng = np.random.default_rng([5, D, round(10 * alpha)])
    N, P = NU * D, round(alpha * D * D)
    second = np.concatenate([np.full(D, (1 + (D + 1) / N) / D), [(1 + 2 / N) * (1 + 2 / D)]])
    found = []
    for _ in range(realisations):
        task, tokens, query = (rng.standard_normal(shape) for shape in ((P, D), (P, N, D), (P, D)))
        labels = np.matmul(tokens, task[:, :, None])[:, :, 0] / np.sqrt(D)
        context = np.column_stack([np.matmul(labels[:, None, :], tokens)[:, 0, :], np.sum(labels**2, axis=1)]) / N
        f = (context[:, :, None] * query[:, None, :]).reshape(P, -1)
        target = np.sum(task * query, axis=1) / np.sqrt(D)
        values, vectors = np.linalg.eigh(f.T @ f / P)
        rates = np.maximum(values, 0) + RIDGE / D
        begin = vectors.T @ (rng.standard_normal(D * D + D) * np.sqrt(START / D))
        field = vectors.T @ (f.T @ target / P)
        rows = []
        for time in D * TIMES:
            kept = np.exp(-rates * time)
            weights = vectors @ (kept * begin + (1 - kept) * field / rates)
            W = weights.reshape(D + 1, D)
            test = 1 - 2 * np.trace(W[:D]) / D + np.sum(second[:, None] * W**2)
            rows.append((test, np.mean((target - f @ weights) ** 2)))
        found.append(rows)
    return np.array(found)


@derivation.claim(
    "$D$ times the distance of test and training error from the limit stays what it is, up to half of it and four "
    "standard "
    "errors",
    by_simulation(5, "D = 6 and 12, alpha = 0.5 and 2, three times, 120 and 30 samples"),
)
def distance_falls_like_inverse_dimension() -> Found:
    shown_distances, holds = [], True
    for alpha in (0.5, 2.0):
        limit = gradient_flow(Ratios(alpha=alpha, nu=float(NU), lam=RIDGE), TIMES, START)
        errors = np.stack((limit.e_icl, limit.train_error), axis=1)
        scaled = {}
        for D, realisations in ((6, 120), (12, 30)):
            found = runs(D, alpha, realisations)
            scaled[D] = D * (found.mean(axis=0) - errors), D * found.std(axis=0, ddof=1) / np.sqrt(realisations)
        allowed = 0.5 * np.abs(scaled[6][0]) + 4 * np.hypot(scaled[6][1], scaled[12][1])
        holds = holds and bool(np.all(np.abs(scaled[12][0] - scaled[6][0]) < allowed))
        shown_distances.append(f"alpha = {alpha}: {np.round(scaled[12][0][:, 0], 2).tolist()}")
    return Found(holds, "D times the distance of the test error, " + "; ".join(shown_distances))


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
