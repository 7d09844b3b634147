"""Why the theory is right at D = 10: the law of a prompt's norms."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import sympy as sp

from replica_icl import Setting, simulate, solve
from replica_icl.model.prompts.gaussian import fresh_task_prompts
from replica_icl.narration.checks import vanishes
from replica_icl.narration.derivation import Derivation, Found, by_simulation, symbolically
from replica_icl.narration.telling import tell
from replica_icl.simulator.features import draw_features
from replica_icl.symbolic import moments
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import concentrate
from replica_icl.theory.fresh_tasks import ORDER_PARAMETERS, derive_fresh_tasks, in_response_units

derivation = Derivation(
    __file__,
    "What the norms of prompts do at finite size",
    needs=["fresh-tasks", "limit"],
    symbols={
        "Y": r"$|y|^2 / (N (\omega + \rho))$, a chi-square of $N$ degrees of freedom over $N$",
        "h": "what $c$ has orthogonal to the task, a chi-square of $D - 1$ degrees of freedom over $D - 1$",
        r"\xi": "deviation of $c$ along the task from its regression on the labels, standard Gaussian",
    },
)

law = fresh_task_prompts()

# ----------------------------------------------------------------------------------------------------------------------

derivation.step(
    "The law of a prompt's scalars",
    r"""
    The average $\langle\, \cdot\, \rangle$ of [[fresh-tasks]] is over five scalars of a prompt, and their law is
    exact at every $D$ and $N$. Given the task the labels are independent, of variance $\omega + \rho$, so that $\ell$
    is a chi-square; given the labels the tokens along the task are Gaussian around their regression on them; and what
    $c$ has in the other $D - 1$ directions is isotropic. With the chi-squares $T$, $\omega$ (both of $D$ degrees of
    freedom over $D$), $Y$, $h$ and a Gaussian $\xi$, which enters with noise only:
    """,
)
derivation.equation(r"\ell", law.scalars[s.corner])
derivation.equation("g", sp.expand(law.scalars[s.aligned]))
derivation.equation("a", law.scalars[s.context_norm])


@derivation.claim(
    r"first and second moments of $\ell$, $g$ and $a$, and mixed ones with $T$ and $\omega$, are those of tokens, "
    r"tasks and "
    "labels by Wick's theorem",
    symbolically("at any D, N and rho"),
)
def law_has_the_moments_of_tokens() -> bool:
    scalars = (s.task_norm, s.aligned, s.context_norm, s.corner)
    pairs = [(x,) for x in scalars] + [(x, y) for i, x in enumerate(scalars) for y in scalars[i:]]
    return all(vanishes(law.moment(sp.prod(pair)) - moments.scalar_moment(*pair)) for pair in pairs)


derivation.step(
    "Residuals are Gaussian given the norms, and not without",
    r"""
    For weights that are Gaussian and independent of the prompt a residual is exactly Gaussian given $c$ and $\tilde
    x$, of variance proportional to $T a$: given the norms nothing is left to correct. Over prompts it is not
    Gaussian, because this variance fluctuates. Its fourth moment is larger than a Gaussian's by
    """,
)
variance = s.query_norm * s.context_norm
kurtosis = sp.factor(law.moment(variance**2) / law.moment(variance) ** 2)
leading = sp.factor(sp.limit(s.D * (kurtosis.subs(s.N, s.nu * s.D) - 1), s.D, sp.oo))
derivation.equation(r"\lim D\, (\langle (T a)^2 \rangle / \langle T a \rangle^2 - 1)", leading, "kurtosis")
derivation.text(
    r"""
    over $D$: a factor 1.9 at $D = 10$, $N = 20$. That is why the limit, with $T a$ at one value, is 20 % off there.
    """
)


@derivation.claim(
    r"$\langle (T a)^2 \rangle / \langle T a \rangle^2$ of token-level prompts is that of the law, within 4 "
    r"standard errors",
    by_simulation(6, "60000 prompts at D = 10 and 20, N = 2 D"),
)
def kurtosis_of_tokens() -> Found:
    shown, holds = [], True
    for size in (10, 20):
        prompts = draw_features(Setting(D=size, N=2 * size, P=60000, ridge=1.0), np.random.default_rng(6))
        squares = np.sum(prompts.context[:, :size] ** 2, axis=1) * np.sum(prompts.query**2, axis=1)
        found = np.mean(squares.reshape(20, -1) ** 2, axis=1) / squares.mean() ** 2
        exact, sem = float(kurtosis.subs({s.D: size, s.N: 2 * size, s.noise: 0})), found.std(ddof=1) / np.sqrt(20)
        holds = holds and abs(found.mean() - exact) < 4 * sem
        shown.append(f"D = {size}: {found.mean():.3f} +- {sem:.3f}, exact {exact:.3f}")
    return Found(bool(holds), "; ".join(shown))


derivation.step(
    "Three theories of one transformer",
    r"""
    To see that it is the norms and not the sizes in the equations that matter, take a third theory beside the limit
    and the full one: the same free entropy with the same $D$, $N$, $P$ and last row, but every prompt at its exact
    mean norms. At $N = 2 D$, $P = 1.5 D^2$, $\lambda_0 = 0.1 / D$ the limit is 20 % below simulation at $D = 10$ and
    10 % at $D = 20$, mean norms are 5 % and 2 % low, and the full law agrees. What is left is of the order of the
    inverse number of weights, twice the power of $1/D$: [[next-order]].
    """,
)


@cache
def mean_norm_theory() -> tuple[list[sp.Expr], sp.Expr]:
    """Equations and e_icl with every average at the mean of the scalars."""
    means = {scalar: law.moment(scalar) for scalar in s.SCALARS}
    theory = in_response_units(derive_fresh_tasks())
    equations = [concentrate(e, means) for e in theory.saddle.equations.values()]
    return equations, concentrate(theory.observables["e_icl"], means)


def mean_norms(setting: Setting, start: list[float]) -> float:
    """e_icl of the theory whose prompts all have their mean norms."""
    equations, error = mean_norm_theory()
    numbers = {"D": setting.D, "N": setting.N, "P": setting.P, "rho": 0, "c": 1}
    numbers |= {"field": setting.ridge, "field_u": setting.ridge}
    known: dict[Any, Any] = {x: numbers[x.name] for e in equations for x in e.free_symbols if x.name in numbers}
    root = sp.nsolve([e.subs(known) for e in equations], ORDER_PARAMETERS, start)
    return float(error.subs(known).subs(dict(zip(ORDER_PARAMETERS, root, strict=True))))


def compared(size: int, realisations: int) -> tuple[dict[str, float], float]:
    """Relative distance of each theory's e_icl from simulation, and the standard error of the latter."""
    setting = Setting(D=size, N=2 * size, P=round(1.5 * size**2), ridge=0.1 / size)
    full = solve(replace(setting, beta=float(setting.P)))
    found = simulate(setting, realisations, seed=7, workers=1)["e_icl"]
    values = {
        "limit": float(solve(setting, level="limit").e_icl),
        "mean norms": mean_norms(setting, [full.m, full.q, full.V, full.u, full.V_u]),
        "full law": float(full.e_icl),
    }
    return {name: value / found.mean - 1 for name, value in values.items()}, float(found.sem / found.mean)


def three_theories(sizes: dict[int, int]) -> Found:
    shown, holds, off = [], True, {}
    for size, realisations in sizes.items():
        distances, sem = compared(size, realisations)
        full = abs(distances["full law"])
        holds = holds and full < 4 * sem + 0.1 / size and full < min(abs(distances[x]) for x in ("limit", "mean norms"))
        off[size] = distances["limit"]
        listed = ", ".join(f"{name} {100 * x:+.1f} %" for name, x in distances.items())
        shown.append(f"D = {size}: {listed} (+- {100 * sem:.1f} %)")
    first, second = list(off.values())[:2]
    return Found(bool(holds and 1.5 < first / second < 2.5), "; ".join(shown))


@derivation.claim(
    "the full law agrees within 4 standard errors and 0.1/D and is the closest of the three; the limit's distance "
    "halves with "
    "1/D",
    by_simulation(7, "D = 10 and 20, 250 and 40 samples"),
)
def full_law_agrees() -> Found:
    return three_theories({10: 250, 20: 40})


@derivation.claim(
    "so it is at D = 40, too, and with more samples",
    by_simulation(7, "D = 10, 20, 40, 600, 120, 10 samples", long=True),
)
def full_law_agrees_at_forty() -> Found:
    return three_theories({10: 600, 20: 120, 40: 10})


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
