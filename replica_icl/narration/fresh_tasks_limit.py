"""Last steps of the derivation of fresh tasks: the thermodynamic limit and its closed forms."""

from __future__ import annotations

from collections.abc import Mapping

import sympy as sp

from replica_icl.narration.common import (
    LABELS,
    vanishes,
)
from replica_icl.narration.derivation import Claim, Equation, Step
from replica_icl.symbolic import moments
from replica_icl.symbolic import symbols as s
from replica_icl.theory.fresh_tasks_limit import (
    FreshTasksLimit,
    effective_ridge,
    excess,
    response,
    shrinkage,
    test_error,
)


def limit_step(limit: FreshTasksLimit) -> Step:
    cold, warm = limit.ground_state, limit.saddle
    means, spreads = moments.concentrated_means(), moments.relative_variances()
    at_response = {s.V: response / s.beta_tilde}

    def same_saddle() -> bool:
        in_v = {x: equation.subs(at_response) for x, equation in warm.equations.items()}
        tilde = s.beta_tilde
        own, by_q, by_v = (cold.equations[x] for x in (s.m, s.q, response))
        return (
            vanishes(in_v[s.m] - tilde * own)
            and vanishes(in_v[s.q] - tilde * by_q)
            and vanishes(in_v[s.V] - tilde * by_q - tilde**2 * by_v)
        )

    return Step(
        title="Thermodynamic limit",
        text=r"""
        Now $D \to \infty$ with $P = \alpha D^2$, $N = \nu D$, $\lambda_0 = \lambda / D$ and $\beta =
        \tilde\beta D^2$. The relative variances of the prompt's scalars, exact at any size, vanish like
        $1/D$: the prompt law concentrates at its mean, and every average becomes a value at one point. The
        last row of $W$ has $D$ weights only and decouples. What is left is the free entropy density in $m$,
        $q$, $V$ (without the constant $\frac{1}{2}(1 + \log(2 \pi / D))$ of the weights' volume). For
        $\tilde\beta \to \infty$ the fluctuation $V$ vanishes and $v = \tilde\beta V$ stays: the response of
        the ground state to a field.
        """,
        equations=(
            *(Equation(rf"\lim \mathrm{{E}}\, {sp.latex(x)}", value) for x, value in means.items() if value != 1),
            *(
                Equation(
                    rf"\lim D\, \mathrm{{Var}}({sp.latex(x)}) / (\mathrm{{E}}\, {sp.latex(x)})^2",
                    sp.factor(sp.limit(s.D * value, s.D, sp.oo)),
                )
                for x, value in spreads.items()
            ),
            Equation(r"\lim \Phi / D^2", warm.free_entropy),
            Equation(r"\lim \Phi / (\tilde\beta D^2)", cold.free_entropy),
            *(
                Equation(rf"\partial (\lim \Phi / (\tilde\beta D^2)) / \partial {x.name}", y)
                for x, y in cold.equations.items()
            ),
        ),
        claims=(
            Claim(
                "every relative variance vanishes like $1/D$, and none faster",
                lambda: all(
                    sp.limit(x, s.D, sp.oo) == 0 and sp.limit(s.D * x, s.D, sp.oo).is_positive for x in spreads.values()
                ),
            ),
            Claim(
                r"finite temperature and ground state have the same $m$, $q$ and $v = \tilde\beta V$",
                same_saddle,
            ),
            Claim(
                r"the stationarity of the limit is the limit of the stationarity, for $m$, $q$ and $V$",
                lambda: all(
                    vanishes(limit._concentrated(limit.finite.saddle.equations[x] / s.D**2) - warm.equations[x])
                    for x in (s.m, s.q, s.V)
                ),
            ),
        ),
    )


def elimination_step(limit: FreshTasksLimit) -> Step:
    k, a = effective_ridge, s.context_norm
    shrunk = 1 - a / (s.alpha * (a + k))
    to_a = {excess: a - 1}
    e_in_k = limit.test_error.subs(to_a).subs(shrinkage, shrunk)
    on_saddle: Mapping[sp.Symbol, sp.Expr] = {
        s.m: limit.m,
        s.q: limit.q.subs(s.m, limit.m).subs(test_error, e_in_k),
        response: (limit.V * s.beta_tilde).subs(shrinkage, shrunk),
        s.lam: k * shrunk,
    }

    def stationary() -> bool:
        equations = limit.ground_state.equations.values()
        return all(vanishes(equation.subs(on_saddle, simultaneous=True)) for equation in equations)

    def roots() -> bool:
        return all(
            vanishes(sp.numer(sp.together(polynomial.as_expr().subs(polynomial.gen, branch))))
            for polynomial, root in (
                (limit.ridge_polynomial, limit.effective_ridge),
                (limit.shrinkage_polynomial, limit.shrinkage),
            )
            for branch, _ in root.args
        )

    def energy() -> bool:
        ground = limit.ground_observables["train_error"].subs(shrinkage, shrunk).subs(test_error, e_in_k)
        energy = (ground + s.lam * s.q) / 2
        left = limit.ground_state.free_entropy + energy
        return vanishes(left.subs(on_saddle, simultaneous=True))

    published = (1 + s.noise - 1 / a + k**2 / (a * (a + k) ** 2)) / (1 - a**2 / (s.alpha * (a + k) ** 2))

    return Step(
        title="Elimination: closed forms",
        text=r"""
        With $s = 1/(1 + \tilde\beta a V / \alpha)$, the equation for $q$ is a quadratic for $s$ without
        $\tilde\beta$. In the effective ridge $k = \lambda/s$ it is again a quadratic, $k = \lambda +
        \frac{k}{\alpha} \frac{a}{a + k}$: the samples that are spent on $D^2$ weights raise the ridge from
        $\lambda$ to $k$. Both are solved by the root whose digits survive on either side of $\alpha = 1$. The
        other order parameters are then rational in $k$, and $e = e_{ICL}$ is a ratio whose denominator is the
        replicon eigenvalue. The excess of the context norm is $\delta = a - 1 = (1 + \rho)/\nu$.
        """,
        equations=(
            Equation("0", limit.shrinkage_polynomial.as_expr()),
            Equation("0", limit.ridge_polynomial.as_expr()),
            Equation("s", limit.shrinkage),
            Equation("k", limit.effective_ridge),
            Equation("m", limit.m),
            Equation("q", limit.q),
            Equation("V", limit.V),
            Equation("I - X", limit.replicon),
            Equation("e", limit.test_error),
            Equation(r"\delta", limit.excess_value),
            *(Equation(LABELS[n], x) for n, x in limit.ground_observables.items() if n != "e_icl"),
        ),
        claims=(
            Claim("both branches of both roots satisfy their polynomial", roots),
            Claim(
                r"the quadratic for $k$ says $k = \lambda + \frac{k}{\alpha} \frac{a}{a + k}$",
                lambda: vanishes(
                    limit.ridge_polynomial.as_expr()
                    - sp.expand(s.alpha * (a + k) * (k - s.lam - k / s.alpha * a / (a + k))),
                ),
            ),
            Claim("the closed forms put back into the saddle-point equations give zero", stationary),
            Claim(
                r"$e$ is the squared residual at the saddle, $1 + \rho - 2 m + a q$",
                lambda: vanishes((limit.residual - test_error).subs(test_error, e_in_k).subs(on_saddle)),
            ),
            Claim(
                r"$e = [1 + \rho - \frac{1}{a} + \frac{k^2}{a (a + k)^2}] / [1 - \frac{a^2}{\alpha (a + k)^2}]$, "
                "the published form (arXiv:2405.11751)",
                lambda: vanishes(e_in_k - published),
            ),
            Claim(
                r"the ground state's free entropy density is minus its energy, $-\frac{1}{2} (e s^2 + \lambda q)$",
                energy,
            ),
        ),
    )


def ridgeless_step(limit: FreshTasksLimit) -> Step:
    sides = limit.ridgeless()
    in_controls = {s.context_norm: 1 + limit.excess_value}

    def independent(alpha: sp.Rational, nu: sp.Rational, rho: sp.Rational) -> dict[str, sp.Expr]:
        """m and e_icl for lam -> 0, from the saddle-point equations at rational numbers: v, then m, then q."""
        numbers = {s.alpha: alpha, s.nu: nu, s.noise: rho}
        equations = [e.subs(in_controls).subs(numbers) for e in limit.ground_state.equations.values()]
        roots = sp.solve(equations[1], response)
        (v,) = (root for root in roots if root.subs(s.lam, sp.Rational(1, 100)) > 0)
        (m,) = sp.solve(equations[0].subs(response, v), s.m)
        (q,) = sp.solve(equations[2].subs(response, v).subs(s.m, m), s.q)
        error = limit.residual.subs(in_controls).subs(numbers).subs({s.m: m, s.q: q})
        return {name: sp.limit(x, s.lam, 0, "+") for name, x in (("m", m), ("e_icl", error))}

    def same_limit(side: str, alpha: sp.Rational) -> bool:
        nu, rho = sp.Rational(5, 4), sp.Rational(1, 4)  # a = 2
        numbers = {s.alpha: alpha, s.nu: nu, s.noise: rho}
        found = independent(alpha, nu, rho)
        return all(sp.simplify(sides[side][x].subs(in_controls).subs(numbers) - found[x]) == 0 for x in found)

    def diverges() -> bool:
        below, above = (sides[side]["e_icl"].subs(in_controls) for side in ("alpha < 1", "alpha > 1"))
        weights = [
            sp.limit(abs_gap * error, s.alpha, 1) for abs_gap, error in ((1 - s.alpha, below), (s.alpha - 1, above))
        ]
        return vanishes(weights[0] - weights[1]) and bool(weights[0].subs({s.nu: 2, s.noise: 0}) > 0)

    return Step(
        title=r"Ridgeless limits on both sides of $\alpha = 1$",
        text=r"""
        For $\lambda \to 0$ the two sides of $\alpha = 1$ differ. Above, the data fix all $D^2$ weights: $k =
        0$ and the training error stays. Below, $k$ stays positive, all prompts are fitted ($s = 0$), and the
        limit is the ground state of least norm. At $\alpha = 1$ the zero modes vanish, the ground state
        becomes unique, the replicon eigenvalue is zero and $e_{ICL}$ diverges.
        """,
        equations=tuple(
            Equation(rf"{LABELS.get(name, name)} \text{{ at }} \{side}", value)
            for side, values in sides.items()
            for name, value in values.items()
        ),
        claims=(
            Claim(
                r"above, at $\alpha = 3$: the limit of the solved saddle-point equations",
                lambda: same_limit("alpha > 1", sp.Integer(3)),
            ),
            Claim(
                r"below, at $\alpha = 1/3$: the limit of the solved saddle-point equations",
                lambda: same_limit("alpha < 1", sp.Rational(1, 3)),
            ),
            Claim(r"$e_{ICL} |\alpha - 1|$ has the same positive limit from both sides", diverges),
        ),
    )
