"""Finite task diversity: classes, their continuum, and the closed forms of Lu et al. (arXiv:2405.11751)."""

import random

import mpmath
import pytest
import sympy as sp

from replica_icl.lowering.model import LINEAR_ATTENTION
from replica_icl.numeric.arithmetic import MpmathArithmetic
from replica_icl.symbolic import symbols as s
from replica_icl.theory import task_spectrum as spectrum
from replica_icl.theory.task_diversity import (
    TaskDiversity,
    context_covariance,
    derive_task_diversity,
    effective_ridge,
    excess,
    shrinkage,
    task_error,
)

S, z, kappa, r, k = spectrum.signal, spectrum.distance, spectrum.kappa, spectrum.eigenvalue, effective_ridge


@pytest.fixture(scope="module")
def theory() -> TaskDiversity:
    return derive_task_diversity()


def test_context_covariance_given_the_task_is_exact() -> None:
    on_task, everywhere = context_covariance()
    assert sp.expand(on_task - (1 + 1 / s.N)) == 0
    assert sp.expand(everywhere - (s.task_norm + s.noise) / s.N) == 0


def test_stieltjes_transform_has_the_marchenko_pastur_quadratic() -> None:
    """And the atom 1 - kappa at zero, and a law of mean one."""
    g = 1 / (z + S)
    other = z * g**2 / kappa + (z + 1 - 1 / kappa) * g - 1
    assert sp.rem(sp.numer(sp.together(other)), spectrum.quadratic().as_expr(), S) == 0
    root = spectrum.signal_root()
    for value, atom in ((sp.Rational(2, 5), sp.Rational(3, 5)), (sp.Integer(2), sp.Integer(0))):
        at = root.subs(kappa, value)
        assert abs(sp.N((z / (z + at)).subs(z, sp.Rational(1, 10**12)), 30) - atom) < 1e-11
        assert abs(sp.N(at.subs(z, 10**12), 30) - 1) < 1e-11


def test_log_average_is_the_integral_of_the_stieltjes_transform() -> None:
    log = spectrum.log_average()
    slope = log.diff(z) + log.diff(S) * spectrum.slope()
    gap = sp.together(slope - 1 / (z + S)).subs(kappa, sp.solve(spectrum.quadratic().as_expr(), kappa)[0])
    assert sp.simplify(gap) == 0
    far = log.subs({z: 10**8, S: spectrum.signal_root().subs(z, 10**8)}).subs(kappa, sp.Rational(1, 2))
    assert abs(sp.N(far - sp.log(10**8), 30)) < 2e-8


def test_spectral_average_refuses_another_pole_and_a_second_moment() -> None:
    for expression in (1 / (r + excess), r**2):
        with pytest.raises(ValueError, match="pole"):
            spectrum.spectral_average(expression)


def test_the_mean_of_the_law_is_one() -> None:
    """Of a linear function as it is stated, and as the 1/z of the transform at large z."""
    assert sp.expand(spectrum.spectral_average(3 * r + 2 * z)) == 3 + 2 * z
    assert abs(float((spectrum.signal_root()).subs({kappa: 2, z: 10**9})) - 1) < 1e-8


def test_class_solutions_make_the_free_energy_stationary(theory: TaskDiversity) -> None:
    """Two classes of given share and eigenvalue: k and e from their sums, then every derivative vanishes."""
    first, second = theory.classes
    share, at = {first.share: 0.3, second.share: 0.7}, {first.eigenvalue: 0.2, second.eigenvalue: 0.94 / 0.7}
    control = {s.alpha: 1.7, s.lam: 0.2, s.noise: 0.1, s.beta_tilde: 3.0, excess: 0.4}
    weights = [(share[c.share], at[c.eigenvalue]) for c in theory.classes]
    lam, alpha, delta = 0.2, 1.7, 0.4

    def balance(x: float) -> float:
        return x - lam - x / alpha * sum(p * (v + delta) / (v + delta + x) for p, v in weights)

    ridge = float(mpmath.findroot(balance, 0.5))
    form = theory.of_eigenvalue
    context = {z: delta + ridge, shrinkage: lam / ridge, **{x: v for x, v in control.items() if x != s.noise}}
    e = sp.Symbol("e", positive=True)
    q = {c: (form["own"] + form["m"] ** 2).subs(r, at[c.eigenvalue]).subs(context) for c in theory.classes}
    m = {c: form["m"].subs(r, at[c.eigenvalue]).subs(context) for c in theory.classes}
    V = {c: form["V"].subs(r, at[c.eigenvalue]).subs(context) for c in theory.classes}
    values = {**share, **at, **control}
    for c in theory.classes:
        values |= {c.m: m[c], c.q: q[c], c.V: V[c]}
    residual = theory.sums[task_error].subs(values)
    (error,) = sp.solve(residual.subs(values) - e, e)
    values = {x: sp.sympify(v).subs(e, error) for x, v in values.items()}
    for equation in theory.saddle.equations.values():
        assert abs(sp.N(equation.subs(values))) < 1e-12


def _at(expression: sp.Expr, ridge: sp.Expr, s_value: sp.Expr) -> sp.Expr:
    return sp.together(expression.subs(z, excess + k).subs({k: ridge, shrinkage: s_value}))


def _remainder(theirs: sp.Expr, ours: sp.Expr, relation: sp.Expr, M: sp.Symbol) -> sp.Expr:
    """What is left of theirs - ours modulo the quadratic that the transform M satisfies."""
    numerator = sp.numer(sp.together(theirs - ours))
    return sp.rem(sp.Poly(sp.expand(numerator), M), sp.Poly(sp.expand(relation), M)).as_expr()


def _lu(q: sp.Expr, M: sp.Expr, dM: sp.Expr) -> dict[str, sp.Expr]:
    """Ridgeless e_icl and e_idg above the transition, as published; their tau is our alpha."""
    tau, rho = s.alpha, s.noise
    inner = 1 - 2 * q * M - q**2 * dM + (rho + q - q**2 * M) * M / (tau - 1)
    return {
        "icl": (q + 1) * inner - 2 * (1 - q * M) + 1 + rho,
        "idg": tau / (tau - 1) * (rho + q * (1 - q * M)),
    }


def _lu_below(q: sp.Expr, mu: sp.Expr) -> sp.Expr:
    """Ridgeless e_icl below the transition, as published; mu = q M at the ratio kappa / tau."""
    tau, rho = s.alpha, s.noise
    return tau * (1 + q) / (1 - tau) * (1 - tau * (1 - mu) ** 2 + mu * (rho / q - 1)) - 2 * tau * (1 - mu) + 1 + rho


def test_published_ridgeless_forms_follow_above_the_transition(theory: TaskDiversity) -> None:
    """alpha > 1: k = 0, so S is the transform at q* = (1 + rho)/nu. Exact, by reduction modulo the quadratic."""
    M, q = sp.Symbol("M", positive=True), excess
    relation = q * M**2 / kappa + (q + 1 - 1 / kappa) * M - 1
    dM = -relation.diff(q) / relation.diff(M)
    ours = {
        "idg": _at(theory.task_error, sp.S.Zero, 1 - 1 / s.alpha),
        "icl": _at(theory.test_error.subs(task_error, theory.task_error), sp.S.Zero, 1 - 1 / s.alpha),
    }
    theirs = _lu(q, M, dM)
    for name, value in ours.items():
        assert _remainder(theirs[name], value.subs(S, 1 / M - q), relation, M) == 0


def test_published_ridgeless_form_follows_below_the_transition(theory: TaskDiversity) -> None:
    """alpha < 1: k = a (1 - alpha)/alpha; the resultant shows S to be the transform at q* with kappa / alpha tasks."""
    q, M = excess, sp.Symbol("M", positive=True)
    ridge = (q + S) * (1 - s.alpha) / s.alpha
    implied = sp.numer(sp.together(spectrum.quadratic().as_expr().subs(z, q + ridge)))
    relation = q * M**2 * s.alpha / kappa + (q + 1 - s.alpha / kappa) * M - 1
    eliminated = sp.resultant(sp.expand(implied), sp.expand(M * (q + S) - 1), S)
    assert sp.rem(sp.Poly(eliminated, M), sp.Poly(sp.numer(sp.together(relation)), M)).is_zero
    ours = _at(theory.test_error.subs(task_error, theory.task_error), ridge, sp.S.Zero)
    assert _remainder(_lu_below(q, q * M), ours.subs(S, 1 / M - q), relation, M) == 0


M0, M, DM = sp.symbols("M_0 M dM", real=True)
"""< 1/B >, < 1/(B + k) > and minus < 1/(B + k)^2 >, B = r + delta: the transform at delta and at delta + k."""


def _in_transforms(function: sp.Expr) -> sp.Expr:
    """< function > of r by partial fractions, in the transforms."""
    total = sp.S.Zero
    for term in sp.Add.make_args(sp.apart(sp.together(function), r)):
        found = None
        for basis, value in (
            (sp.S.One, sp.S.One),
            (r, sp.S.One),
            (1 / (r + excess), M0),
            (1 / (r + excess + k), M),
            (1 / (r + excess + k) ** 2, -DM),
        ):
            coefficient = sp.simplify(term / basis)
            if not coefficient.has(r):
                found = coefficient * value
                break
        assert found is not None, term
        total += found
    return total


@pytest.fixture(scope="module")
def published_at_finite_ridge() -> dict[str, sp.Expr]:
    """The forms of the literature, integrals over the law at given k; q and e_icl in e_idg."""
    B, rho, alpha = r + excess, s.noise, s.alpha
    average = _in_transforms
    idg = 1 + rho - average(r**2 / B) + average(k**2 * r**2 / (B * (B + k) ** 2))
    idg /= 1 - average(B**2 / (B + k) ** 2) / alpha
    m = average(r / (B + k))
    q = average(r**2 / (B + k) ** 2) + task_error / alpha * average(B / (B + k) ** 2)
    return {"e_idg": idg, "e_icl": 1 + rho - 2 * m + (1 + excess) * q, "m": m, "q": q}


def test_published_forms_follow_at_finite_ridge(
    theory: TaskDiversity, published_at_finite_ridge: dict[str, sp.Expr]
) -> None:
    """Modulo the quadratic, which is linear in kappa, and its derivative; the equation for k by a resultant."""
    ours = {"e_idg": theory.task_error, "e_icl": theory.test_error, "m": theory.m, "q": theory.q}
    relation = z * M**2 / kappa + (z + 1 - 1 / kappa) * M - 1
    (tasks,) = sp.solve(relation, kappa)
    dM = sp.cancel((-relation.diff(z) / relation.diff(M)).subs(kappa, tasks))
    for name, theirs in published_at_finite_ridge.items():
        value = ours[name].subs(shrinkage, 1 - theory.seen / s.alpha).subs(S, 1 / M - z)
        gap = sp.together(theirs.subs(DM, dM).subs(k, z - excess) - value.subs(k, z - excess))
        assert sp.expand(sp.numer(gap)) == 0, name
    # Their k M(delta + k) - alpha lambda / k = 1 - alpha, and our quadratic for k with S eliminated, have common roots.
    in_signal = theory.ridge_polynomial.as_expr().subs(s.context_norm, excess + S)
    eliminated = sp.resultant(sp.expand(in_signal), sp.expand(M * (excess + k + S) - 1), S)
    balance = sp.Poly(sp.expand(k * (k * M - 1 + s.alpha) - s.alpha * s.lam), k)
    assert sp.rem(sp.Poly(sp.expand(eliminated), k), balance).is_zero


def _at_50_digits(point: dict[str, str]) -> tuple[MpmathArithmetic, dict[str, mpmath.mpf], dict[str, mpmath.mpf]]:
    xp, functions = MpmathArithmetic(50), LINEAR_ATTENTION.task_diversity
    controls = {name: xp.number(x) for name, x in point.items()}
    ridge = xp.number(10) ** 60
    for i in range(120):
        found = functions.fixed_point(xp, k_given=ridge, **controls)
        new = found.k if i < 40 else ridge + (found.k - ridge) / (1 - found.slope)  # Newton once it is near
        if abs(new - ridge) <= xp.number("1e-49") * abs(ridge):
            break
        ridge = new
    return xp, controls, {"k": ridge, **functions.solution(xp, k=ridge, **controls)._asdict()}


def test_published_forms_hold_to_50_digits_at_100_random_points() -> None:
    rng = random.Random(5)

    def between(low: float, high: float) -> str:
        return f"{low * (high / low) ** rng.random():.6f}"

    for i in range(100):
        above = i % 2 == 0
        point = {
            "alpha": between(1.05, 20) if above else between(0.05, 0.95),
            "nu": between(0.1, 100),
            "kappa": between(0.05, 20),
            "rho": between(0.001, 1),
            "lam": "0",
        }
        xp, at, found = _at_50_digits(point)
        q = (1 + at["rho"]) / at["nu"]

        def transform(ratio: mpmath.mpf, x: mpmath.mpf, xp: MpmathArithmetic = xp) -> mpmath.mpf:
            b = x + 1 - 1 / ratio
            return 2 / (b + xp.sqrt(b * b + 4 * x / ratio))

        names = {s.alpha: at["alpha"], s.noise: at["rho"]}
        Q, M, dM = sp.symbols("Q M dM")
        if above:
            value = transform(at["kappa"], q)
            step = xp.context.mpf(value)
            slope = -(step**2 / at["kappa"] + step) / (2 * q * step / at["kappa"] + q + 1 - 1 / at["kappa"])
            forms = {name: sp.lambdify([s.alpha, s.noise, Q, M, dM], f) for name, f in _lu(Q, M, dM).items()}
            theirs = {name: f(*names.values(), q, value, slope) for name, f in forms.items()}
        else:
            value = transform(at["kappa"] / at["alpha"], q)
            theirs = {"icl": sp.lambdify([s.alpha, s.noise, Q, M], _lu_below(Q, M))(*names.values(), q, q * value)}
        for name, expected in theirs.items():
            assert abs(found[f"e_{name}"] / expected - 1) < xp.number("1e-42"), point


def test_finite_ridge_forms_hold_to_50_digits_at_100_random_points(
    published_at_finite_ridge: dict[str, sp.Expr],
) -> None:
    """k by bisection at 90 digits, the law by its closed transform; nothing of the package in between."""
    rng = random.Random(6)
    low = {"alpha": 0.05, "nu": 0.1, "kappa": 0.05, "rho": 0.001, "lam": 0.0005}
    high = {"alpha": 20.0, "nu": 100.0, "kappa": 20.0, "rho": 1.0, "lam": 1.0}
    forms = {
        name: sp.lambdify([s.alpha, s.noise, excess, k, M0, M, DM, task_error], form, "mpmath")
        for name, form in published_at_finite_ridge.items()
    }
    for i in range(100):
        point = {name: f"{low[name] * (high[name] / low[name]) ** rng.random():.6f}" for name in low}
        if i % 4 == 0:  # the ridgeless branch below the transition, where k stays positive
            point |= {"lam": "0", "alpha": f"{0.05 + 0.9 * rng.random():.6f}"}
        _, _, found = _at_50_digits(point)
        with mpmath.workdps(90):
            at = {name: mpmath.mpf(value) for name, value in point.items()}
            delta, ratio = (1 + at["rho"]) / at["nu"], at["kappa"]

            def transform(x: mpmath.mpf, ratio: mpmath.mpf = ratio) -> mpmath.mpf:
                b = x + 1 - 1 / ratio
                return ratio * (mpmath.sqrt(b * b + 4 * x / ratio) - b) / (2 * x)

            below, above = mpmath.mpf("1e-6"), mpmath.mpf("1e4")
            for _ in range(220):
                ridge = mpmath.sqrt(below * above)
                rest = ridge * transform(delta + ridge) - at["alpha"] * at["lam"] / ridge - 1 + at["alpha"]
                below, above = (ridge, above) if rest < 0 else (below, ridge)
            values = transform(delta), transform(delta + ridge), mpmath.diff(transform, delta + ridge)
            error = forms["e_idg"](at["alpha"], at["rho"], delta, ridge, *values, 0)
            for name, form in forms.items():
                expected = form(at["alpha"], at["rho"], delta, ridge, *values, error)
                assert abs(mpmath.mpmathify(found[name]) / expected - 1) < mpmath.mpf("1e-42"), (name, point)


def test_divergence_at_the_transition(theory: TaskDiversity) -> None:
    """Ridgeless from both sides of alpha = 1: (1 - alpha) e_idg and (1 - alpha) e_icl stay finite and positive."""
    idg, icl = theory.task_error, theory.test_error.subs(task_error, theory.task_error)
    above = [_at(x, sp.S.Zero, 1 - 1 / s.alpha) for x in (idg, icl)]
    below = [_at(x, (excess + S) * (1 - s.alpha) / s.alpha, sp.S.Zero) for x in (idg, icl)]
    for side, sign in ((above, 1), (below, -1)):
        for value in side:
            residue = sp.factor(sp.cancel(value * sign * (s.alpha - 1))).subs(s.alpha, 1)
            assert residue.subs({S: sp.Rational(1, 2), excess: 1, s.noise: 0}).is_positive


def test_gap_of_long_contexts_and_many_prompts_is_the_missing_tasks(theory: TaskDiversity) -> None:
    """alpha, nu -> infinity without ridge and noise: e_icl - e_idg -> (1 - kappa)_+."""
    gap = _at(theory.test_error.subs(task_error, theory.task_error) - theory.task_error, sp.S.Zero, 1 - 1 / s.alpha)
    gap = sp.limit(gap, s.alpha, sp.oo).subs(s.noise, 0)
    for value, left in ((sp.Rational(1, 4), sp.Rational(3, 4)), (sp.Rational(3, 4), sp.Rational(1, 4)), (2, 0), (5, 0)):
        in_delta = gap.subs(S, spectrum.signal_root().subs({z: excess, kappa: value}))
        assert abs(sp.N(in_delta.subs(excess, sp.Rational(1, 10**12)), 30) - left) < 1e-10
