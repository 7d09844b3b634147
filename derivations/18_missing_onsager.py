"""Message passing that lacks the Onsager reaction: what its fixed point is a ground state of."""

import numpy as np
import sympy as sp

from replica_icl import Setting, simulate
from replica_icl.model.attention.merged import linear_attention
from replica_icl.narration.checks import vanishes
from replica_icl.narration.derivation import Derivation, Found, by_simulation, symbolically
from replica_icl.narration.shorthand import in_label_variance
from replica_icl.narration.telling import tell
from replica_icl.numeric.missing_onsager import effective_ridges, solve_without_reaction
from replica_icl.simulator.features import draw_features
from replica_icl.symbolic import moments
from replica_icl.symbolic import symbols as s
from replica_icl.theory.missing_onsager import partners

derivation = Derivation(
    __file__,
    "Message passing without the Onsager reaction",
    needs=["couplings", "fresh-tasks"],
    symbols={
        "A": "index of a weight; B another",
        "B": "index of another weight",
        "h": "fields",
        "J": "couplings",
        r"\lambda_A": "stiffness of weight A",
        "m_A": "mean of weight A",
        r"\theta_A": r"$\lambda_A - \xi_A / \beta$, its stiffness less what the cavity fluctuations take",
        r"\xi_A": r"$\beta^2 \sum_B J_{AB}^2 / (\beta \lambda_B - \xi_B)$, cavity fluctuations",
        "L": "matrix of squared couplings between the blocks, tokens and last row",
    },
)

sums = partners(linear_attention().feature_factor).entries

# ----------------------------------------------------------------------------------------------------------------------

derivation.step(
    "The fixed point",
    r"""
    The published message passing (Li et al., arXiv:2408.02288) iterates means and variances of single weights, $m_A =
    (\beta h_A + \beta \sum_B J_{AB} m_B) / (\beta \lambda_A - \xi_A)$ with cavity fluctuations $\xi_A = \beta^2
    \sum_{B \neq A} J_{AB}^2 / (\beta \lambda_B - \xi_B)$. It lacks the Onsager reaction, the part of the field on $A$
    that $A$ itself has caused and that a fixed point for single weights must take off, $-\xi_A m_A$. With it the
    fixed point would obey $\lambda_A m_A = h_A + \sum_B J_{AB} m_B$, the exact ground state. Without it the fixed
    point is a ground state still, $\theta_A m_A = h_A + \sum_B J_{AB} m_B$, but with stiffnesses $\theta_A$ that are
    too small:
    """,
)
derivation.equation(r"\theta_A", r"\lambda_A - \sum_{B \neq A} \frac{J_{AB}^2}{\theta_B}", "reduced")
derivation.text(
    r"""
    Temperature has dropped out. The sum runs over $D (D + 1)$ weights with couplings of order $1 / (D \sqrt{P})$, so
    that it averages itself: $\theta_A$ less the fluctuations of $\lambda_A$ is one number per block, tokens and last
    row, and the glass keeps its form with a smaller ridge for each. By the exact moments of [[couplings]] the sums of
    squared couplings between the blocks are
    """
)
for i in range(2):
    for j in range(2):
        derivation.equation(f"L_{{{i + 1}{j + 1}}}", in_label_variance(sums[i][j]))
derivation.text(
    r"""
    [[reduced]] for the two numbers is iterated from no reduction; where one of them would become negative there is no
    fixed point, and message passing diverges: few prompts, or a small ridge. Errors follow from [[fresh-tasks]] with
    a ridge of its own for each block.
    """
)


@derivation.claim(
    r"squared couplings are symmetric between the blocks: $D$ times $L_{12}$ is $L_{21}$ with $D^2$ weights on "
    r"tokens and $D$ "
    "in the last row",
    symbolically(),
)
def symmetric_between_blocks() -> bool:
    return vanishes(s.D**2 * sums[0][1] - s.D * sums[1][0])


@derivation.claim(
    "in the limit $L_{11} \\to a^2 / P$ at order $1/D^2$, the square of $\\mathrm{E}\\, \\lambda_A - \\lambda_0$ "
    "times $D^2 / P$",
    symbolically(),
)
def leading_order() -> bool:
    scaling = {s.N: s.nu * s.D, s.P: s.alpha * s.D**2}
    stiffness = {block.name: block.mean for block in moments.precision_blocks()}["D block"]
    first = sp.limit((s.D**2 * sums[0][0]).subs(scaling), s.D, sp.oo)
    second = sp.limit((s.D**2 * s.D**2 * stiffness**2 / s.P).subs(scaling), s.D, sp.oo)
    return vanishes(first - second)


@derivation.claim(
    "the reduction of single weights on one random sample, iterated with its own couplings, is on average that of "
    "the two "
    "numbers, within 2 %",
    by_simulation(2, "D = 12, N = 24, P = 1500, ridge 0.1, 6 samples"),
)
def self_averaging() -> Found:
    setting = Setting(D=12, N=24, P=1500, ridge=0.1)
    found = []
    for r in range(6):
        gram = draw_features(setting, np.random.default_rng([2, r])).gram()
        stiffness = np.diag(gram) + setting.ridge
        squares = (gram - np.diag(np.diag(gram))) ** 2
        theta = stiffness.copy()
        for _ in range(200):
            theta = stiffness - squares @ (1 / theta)
        reduction = stiffness - theta
        found.append((reduction[: setting.D**2].mean(), reduction[setting.D**2 :].mean()))
    seen = np.mean(found, axis=0)
    stated = setting.ridge - np.array(effective_ridges(setting))
    return Found(bool(np.all(np.abs(seen / stated - 1) < 0.02)), f"sampled {seen}, theory {stated}")


@derivation.claim(
    "the error of the fixed point on random samples, each with its own reduced stiffnesses, is that of the theory "
    "with the "
    "two reduced ridges",
    by_simulation(21, "D = 12, N = 24, P = 1500, ridge 0.1, 40 samples; within 4 standard errors and 0.3/D"),
)
def error_of_the_fixed_point() -> Found:
    setting = Setting(D=12, N=24, P=1500, ridge=0.1)
    predicted = float(solve_without_reaction([setting]).e_icl[0])
    errors = []
    for r in range(40):
        features = draw_features(setting, np.random.default_rng([21, r]))
        gram, field = features.gram(), features.fields().ravel()
        stiffness = np.diag(gram) + setting.ridge
        squares = (gram - np.diag(np.diag(gram))) ** 2
        theta = stiffness.copy()
        for _ in range(200):
            theta = stiffness - squares @ (1 / theta)
        W = np.linalg.solve(gram - np.diag(np.diag(gram)) + np.diag(theta), field).reshape(setting.D + 1, setting.D)
        D, N = setting.D, setting.N
        second = np.concatenate([np.full(D, (1 + (D + 1) / N) / D), [(1 + 2 / N) * (1 + 2 / D)]])
        errors.append(1 - 2 * np.trace(W[:D]) / D + np.sum(second[:, None] * W**2))
    mean, sem = float(np.mean(errors)), float(np.std(errors, ddof=1) / np.sqrt(len(errors)))
    exact = simulate(setting, 40, seed=21, workers=1)["e_icl"].mean
    holds = abs(mean - predicted) < 4 * sem + 0.3 / setting.D * predicted
    return Found(bool(holds), f"{mean:.4f} +- {sem:.4f}, theory {predicted:.4f}; ground state {exact:.4f}")


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
