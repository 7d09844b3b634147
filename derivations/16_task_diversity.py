"""Task diversity in the limit: K = kappa D tasks, spectral classes, their continuum, and the closed forms."""

import numpy as np
import sympy as sp

from replica_icl import Ratios, solve
from replica_icl.narration.derivation import Derivation, Found, numerically, symbolically
from replica_icl.narration.telling import tell
from replica_icl.simulator.observables import idg_error
from replica_icl.symbolic import symbols as s
from replica_icl.theory import task_spectrum as spectrum
from replica_icl.theory.task_diversity import (
    context_covariance,
    derive_task_diversity,
    effective_ridge,
    excess,
    shrinkage,
    task_error,
    thermal_part,
)

derivation = Derivation(
    __file__,
    "Task diversity: memorising against learning in context",
    needs=["limit"],
    symbols={
        "R_K": r"covariance of the training tasks, $\frac{1}{K} \sum_w w w^T$",
        "r": "an eigenvalue of $R_K$",
        "i": "index of a class of eigendirections",
        "p_i": "share of the eigendirections of class i",
        "r_i": "eigenvalue of class i",
        r"\delta": r"$(1 + \rho) / \nu$",
        "B": r"$r + \delta$, what the context has in a direction of eigenvalue r",
        "z": r"minus the argument of the Stieltjes transform, $\delta + k$ in the theory",
        "G": r"Stieltjes transform $\langle 1 / (r + z) \rangle$",
        "S": "$1 / G - z$: one eigenvalue in place of the spectrum",
        r"\psi": "probing weights, D of them",
        "M": r"the literature's transform at $z = \delta$ or $\delta + k$",
    },
)

theory = derive_task_diversity()
r, z, S, kappa = spectrum.eigenvalue, spectrum.distance, spectrum.signal, spectrum.kappa
k, e, delta, rho, alpha = effective_ridge, task_error, excess, s.noise, s.alpha
M = sp.Symbol("M", positive=True)


# ----------------------------------------------------------------------------------------------------------------------

on_task, everywhere = context_covariance()
derivation.step(
    "What a training prompt says",
    r"""
    Pre-training draws its $P = \alpha D^2$ prompts from $K = \kappa D$ tasks. Then two errors differ,
    $e_{\mathrm{IDG}}$ on prompts with a training task and $e_{\mathrm{ICL}}$ on prompts with a new one. Given its
    task $w$ the context vector has, exactly, $\mathrm{E}\, c c^T$ equal to a multiple of $w w^T / D$ and a multiple
    of the identity, with
    """,
)
derivation.equation(r"\text{of } w w^T / D", on_task * s.D)
derivation.equation(r"\text{of } I", everywhere)
derivation.text(
    r"""
    Averaged over the training tasks this is $(R_K + \delta) / D$ in the limit, $R_K = \frac{1}{K} \sum_w w w^T$: the
    context has variance $B = r + \delta$ in a direction where $R_K$ has the eigenvalue $r$.
    """
)
derivation.equation(r"\delta", theory.excess_value)
derivation.step(
    "Spectral classes",
    r"""
    Conditional on the tasks, residuals of replicas on one prompt are Gaussian at leading order as for fresh tasks,
    and the prompts' part is again $\det(I + b C)^{-1/2}$. What is new is $C$: weights on eigendirections of different
    $r$ see different signals. So the $D$ eigendirections are put into classes, a share $p_i$ with the eigenvalue
    $r_i$ each, $\sum_i p_i r_i = 1$, with $m$, $q$ and $V$ of their own; and $C$ is a sum over classes. Written for
    two:
    """,
)
derivation.equation(r"\chi = C_{11} - C_{12}", theory.sums[thermal_part], "chi")
derivation.equation(r"e = C_{12} = e_{\mathrm{IDG}}", theory.sums[e], "e")
derivation.equation(r"\lim \Phi_{\mathrm{entropic}} / D^2", theory.entropic)
derivation.equation(r"\lim \Phi_{\mathrm{energetic}} / D^2", theory.energetic)
derivation.text(
    r"""
    A class feels the others through $\chi$ and $e$ alone: at given $s = 1 / (1 + b \chi)$ and $e$ each is solved for
    itself. With the effective ridge $k = \lambda / s$ and $z = \delta + k$, at the eigenvalue $r$:
    """
)
for name, value in theory.of_eigenvalue.items():
    derivation.equation("q - m^2" if name == "own" else name, value)


@derivation.claim(
    "[[e]] is the exact error of a transformer on prompts of such tasks, up to $1/D$: $D/K$ orthogonal tasks in two "
    "groups of "
    "norms, $W$ a number on each group's directions",
    numerically("D = 50 and 100; the distance halves"),
)
def sum_over_classes_is_an_error() -> Found:
    distance = {}
    for D in (50, 100):
        eigenvalues = np.repeat([0.2, 1.8], D // 2)
        W = np.zeros((D + 1, D + 1))
        W[np.arange(D), np.arange(D)] = np.repeat([0.3, 0.7], D // 2)
        exact = idg_error(W, np.diag(np.sqrt(D * eigenvalues)), 2 * D, 0.1)
        first, second = theory.classes
        values = {first.share: 0.5, second.share: 0.5, first.eigenvalue: 0.2, second.eigenvalue: 1.8, rho: 0.1}
        values |= {first.m: 0.3, first.q: 0.09, second.m: 0.7, second.q: 0.49, delta: 1.1 / 2}
        distance[D] = abs(float(exact) - float(theory.sums[e].subs(values)))
    return Found(distance[50] < 0.05 and abs(distance[50] / distance[100] - 2) < 0.1, str(distance))


quadratic = spectrum.quadratic().as_expr()
derivation.step(
    "Continuum",
    r"""
    Sums over classes become averages over the spectral law of $R_K$. They are all made of $G = \langle 1 / (r + z)
    \rangle$, and this is a replica theory itself: the log-volume of $D$ weights $\psi$ with the energy $\frac{1}{2}
    \psi^T (z + R_K) \psi$ is a saddle point in one overlap $|\psi|^2 / D = G$, with $K$ prompts whose features are
    the tasks and whose targets vanish. Per $D$, but for constants:
    """,
)
derivation.equation(r"\text{log-volume}", spectrum.log_volume())
derivation.text("Stationarity in $G$, with $S = 1 / G - z$:")
derivation.equation("0", quadratic, "law")
derivation.text(
    r"""
    That is the Marchenko-Pastur law with its atom $1 - \kappa$ at $r = 0$ for $\kappa < 1$ ([[hessian-spectrum]] has
    it as a density). Averages of other rational functions follow by derivatives in $z$. The condition on $\chi$
    becomes the quadratic for $k$ of [[limit]] at $a = \delta + S$, and everything else is rational in $S$ and $k$,
    with
    """
)
derivation.equation(r"\partial S / \partial z", spectrum.slope())
derivation.equation("0", theory.ridge_polynomial.as_expr().subs(s.context_norm, delta + S), "ridge")
derivation.equation("m", theory.m)
derivation.equation("I - X", theory.replicon, "replicon")
derivation.equation("e = e_{\\mathrm{IDG}}", theory.task_error, "idg")
derivation.equation(r"e_{\mathrm{ICL}}", theory.test_error, "icl")


@derivation.claim(
    "eigenvalues of one large random $R_K$ in place of the law, and $k$ by bisection of its balance, give the same "
    "$S$ and "
    "the same $e_{\\mathrm{IDG}}$",
    numerically("D = 800, kappa = 1/2 and 3, seeds 0 and 1, within 5/D"),
)
def sampled_spectrum() -> Found:
    shown, holds = [], True
    for tasks, seed in ((0.5, 0), (3.0, 1)):
        D = 800
        sample = np.random.default_rng(seed).standard_normal((round(tasks * D), D))
        eigenvalues = np.linalg.eigvalsh(sample.T @ sample / len(sample)).clip(0)
        mean_transform = np.mean(1 / (eigenvalues + 0.7))
        root = float(spectrum.signal_root().subs({z: 0.7, kappa: tasks}))
        context, low, high = eigenvalues + 1.25 / 2, 1e-9, 1e3
        for _ in range(100):
            ridge = np.sqrt(low * high)
            balance = 0.1 + ridge / 1.5 * np.mean(context / (context + ridge))
            low, high = (ridge, high) if ridge < balance else (low, ridge)
        missing = np.mean((ridge * eigenvalues / (context + ridge)) ** 2 / context)
        learnt = 1.25 - np.mean(eigenvalues**2 / context) + missing
        expected = learnt / (1 - np.mean((context / (context + ridge)) ** 2) / 1.5)
        found = float(solve(Ratios(alpha=1.5, nu=2.0, kappa=tasks, lam=0.1, noise=0.25)).e_idg)
        holds = holds and abs((0.7 + root) * mean_transform - 1) < 5 / D and abs(found / expected - 1) < 5 / D
        shown.append(f"kappa = {tasks}: {found:.5f}, {expected:.5f}")
    return Found(bool(holds), "; ".join(shown))


# Closed forms of the literature

k_below = (delta + S) * (1 - alpha) / alpha


def law(distance: sp.Expr, tasks: sp.Expr) -> sp.Expr:
    """Lu et al.'s quadratic for the transform."""
    return sp.expand(tasks * (distance * M**2 / tasks + (distance + 1 - 1 / tasks) * M - 1))


def at(expression: sp.Expr, ridge: sp.Expr, left: sp.Expr) -> sp.Expr:
    """An observable at given k and s."""
    return sp.together(expression.subs(e, theory.task_error).subs(z, delta + k).subs({k: ridge, shrinkage: left}))


zero = sp.S.Zero
above = {"e_idg": at(theory.task_error, zero, 1 - 1 / alpha), "e_icl": at(theory.test_error, zero, 1 - 1 / alpha)}
below = {"e_idg": at(theory.task_error, k_below, zero), "e_icl": at(theory.test_error, k_below, zero)}
dM = -law(delta, kappa).diff(delta) / law(delta, kappa).diff(M)
inner = 1 - 2 * delta * M - delta**2 * dM + (rho + delta - delta**2 * M) * M / (alpha - 1)
lu_above = {
    "e_idg": alpha / (alpha - 1) * (rho + delta * (1 - delta * M)),
    "e_icl": (delta + 1) * inner - 2 * (1 - delta * M) + 1 + rho,
}
mu = delta * M
lu_below = {
    "e_icl": alpha * (1 + delta) / (1 - alpha) * (1 - alpha * (1 - mu) ** 2 + mu * (rho / delta - 1))
    - 2 * alpha * (1 - mu)
    + 1
    + rho
}
derivation.step(
    "Closed forms of the literature",
    r"""
    Lu et al. (arXiv:2405.11751) have the ridgeless errors in a transform $M$ of the law. Without a ridge, above
    $\alpha = 1$: $k = 0$ and $s = 1 - 1/\alpha$, and $M = 1 / (\delta + S)$ at $z = \delta$. Below: $s = 0$ and $k =
    (\delta + S) (1 - \alpha) / \alpha$. There $S$ still hides in $k$; the resultant of [[law]] with $M (\delta + S) =
    1$ eliminates it and leaves the law's quadratic for $M$ at $z = \delta$, but with $\kappa / \alpha$ in place of
    $\kappa$, as if there were fewer prompts and more tasks. Above the transition:
    """,
)
derivation.equation(r"e_{\mathrm{IDG}}", lu_above["e_idg"], "lu-idg")
derivation.text("Below, with the other argument of the law:")
derivation.equation(r"e_{\mathrm{ICL}}", lu_below["e_icl"], "lu-icl")
derivation.text(
    r"""
    At a finite ridge the literature has integrals over the law at given $k$, such as $e_{\mathrm{IDG}} (1 - \langle
    B^2 / (B + k)^2 \rangle / \alpha) = 1 + \rho - \langle r^2 / B \rangle + k^2 \langle r^2 / (B (B + k)^2) \rangle$;
    by partial fractions they are transforms at $\delta$ and $\delta + k$.
    """
)


def remainder(theirs: sp.Expr, ours: sp.Expr, relation: sp.Expr) -> sp.Expr:
    """Of the numerator of the difference, modulo the quadratic."""
    numerator = sp.numer(sp.together(theirs - ours.subs(S, 1 / M - delta)))
    return sp.rem(sp.Poly(sp.expand(numerator), M), sp.Poly(relation, M)).as_expr()


@derivation.claim(
    r"published minus derived is zero modulo the quadratic of $M$: above, [[lu-idg]] and $e_{\mathrm{ICL}}$; below, "
    r"[[lu-icl]]",
    symbolically(),
)
def published_forms() -> bool:
    left = [remainder(form, above[name], law(delta, kappa)) for name, form in lu_above.items()]
    left += [remainder(form, below[name], law(delta, kappa / alpha)) for name, form in lu_below.items()]
    return all(x == 0 for x in left)


@derivation.claim(r"the resultant holds the law at $\kappa / \alpha$", symbolically())
def resultant() -> bool:
    implied = sp.numer(sp.together(quadratic.subs(z, delta + k_below)))
    eliminated = sp.resultant(sp.expand(implied), sp.expand(M * (delta + S) - 1), S)
    return sp.rem(sp.Poly(eliminated, M), sp.Poly(law(delta, kappa / alpha), M)).is_zero


@derivation.claim("at a finite ridge the integrals of the literature are [[idg]]", symbolically("by partial fractions"))
def finite_ridge() -> bool:
    B, M_0, slope = r + delta, *sp.symbols("M_0 slope", real=True)
    basis = {sp.S.One: 1, r: 1, 1 / B: M_0, 1 / (B + k): M, 1 / (B + k) ** 2: -slope}

    def integral(function: sp.Expr) -> sp.Expr:
        """< function > in < 1/B > = M_0, < 1/(B + k) > = M and its derivative; < r > = 1."""
        unknown = sp.symbols(f"c:{len(basis)}")
        ansatz = sum(c * x for c, x in zip(unknown, basis, strict=True))
        numerator = sp.Poly(sp.expand(sp.numer(sp.together(function - ansatz))), r)
        (found,) = sp.linsolve(numerator.coeffs(), unknown)
        return sum(c * value for c, value in zip(found, basis.values(), strict=True))

    literature = 1 + rho - integral(r**2 / B) + k**2 * integral(r**2 / (B * (B + k) ** 2))
    literature /= 1 - integral(B**2 / (B + k) ** 2) / alpha
    (tasks,) = sp.solve(law(delta + k, kappa), kappa)
    derivative = (-law(delta + k, kappa).diff(k) / law(delta + k, kappa).diff(M)).subs(kappa, tasks)
    ours = theory.task_error.subs(shrinkage, 1 - theory.seen / alpha).subs(S, 1 / M - z).subs(z, delta + k)
    difference = literature.subs(slope, sp.cancel(derivative)) - ours
    return sp.expand(sp.numer(sp.together(difference))) == 0


derivation.step(
    "Thresholds",
    r"""
    Both errors diverge like $1 / |\alpha - 1|$ without a ridge. Far above the transition, with long contexts and
    without noise, what is left of $e_{\mathrm{ICL}} - e_{\mathrm{IDG}}$ is the part of task space that no training
    task reaches, $1 - \kappa$ or zero; and with few tasks there is a best context length, because longer contexts let
    the transformer recognise its training tasks.
    """,
)


@derivation.claim(r"both errors times $|\alpha - 1|$ have positive limits on both sides", symbolically())
def divergence() -> bool:
    residues = [
        sp.factor(sp.cancel(value * sign * (alpha - 1))).subs(alpha, 1)
        for sign, values in ((1, above), (-1, below))
        for value in values.values()
    ]
    return all(value.subs({S: sp.Rational(1, 2), delta: 1, rho: 0}).is_positive for value in residues)


@derivation.claim(
    r"$e_{\mathrm{ICL}} - e_{\mathrm{IDG}} \to 1 - \kappa$ below $\kappa = 1$ and 0 above, as $\alpha, \nu \to "
    r"\infty$ at "
    r"$\rho = 0$",
    numerically("kappa = 1/4, 3/4 and 2, delta = 1e-12, 20 digits"),
)
def missing_part_of_task_space() -> bool:
    gap = sp.limit(above["e_icl"] - above["e_idg"], alpha, sp.oo).subs(rho, 0)
    for tasks in (sp.Rational(1, 4), sp.Rational(3, 4), sp.Integer(2)):
        root = spectrum.signal_root().subs({z: delta, kappa: tasks})
        value = sp.N(gap.subs(S, root).subs(delta, sp.Rational(1, 10**12)), 20)
        if not abs(value - max(1 - tasks, 0)) < 1e-10:
            return False
    return True


@derivation.claim(
    r"$e_{\mathrm{ICL}}$ has a minimum in the context length at $\kappa = 1/2$, and falls with it at $\kappa = 5$",
    numerically("alpha = 1.5, ridge 1e-6, rho = 0.01, N/D from 0.1 to 1000"),
)
def best_context_length() -> bool:
    lengths = np.geomspace(0.1, 1000, 200)

    def errors(tasks: float) -> np.ndarray:
        return np.asarray(solve(Ratios(alpha=1.5, nu=lengths, kappa=tasks, lam=1e-6, noise=0.01)).e_icl)

    return bool(np.any(np.diff(errors(0.5)) > 0) and np.all(np.diff(errors(5.0)) < 0))


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
