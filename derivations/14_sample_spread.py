"""From sample to sample: how far one training set is from the average over training sets."""

import math
from functools import cache

import numpy as np
import sympy as sp

from replica_icl import Setting, sample_spread, simulate, solve
from replica_icl.narration.checks import agree
from replica_icl.narration.derivation import (
    Derivation,
    Found,
    How,
    Method,
    by_simulation,
    numerically,
    symbolically,
    to_digits,
)
from replica_icl.narration.telling import tell
from replica_icl.numeric.questions.sample_spread import VARYING
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average
from replica_icl.symbolic.replica_algebra import GROUP_SIZES, TwoGroups
from replica_icl.symbolic.sample_covariance import entropic_covariance
from replica_icl.theory.fresh_tasks import derive_fresh_tasks
from replica_icl.theory.sample_spread import ACROSS, OTHER, covariance

derivation = Derivation(
    __file__,
    "How far one sample is from the average",
    needs=["replica-symmetry", "fresh-tasks"],
    symbols={
        "n_1": "number of replicas in the first group",
        "n_2": "number of replicas in the second group",
        "Z_1": "partition function of the first group, with its sources",
        "Z_2": "partition function of the second group",
        "d_1": "diagonal minus off-diagonal element of the first group's matrix",
        "d_2": "diagonal minus off-diagonal element of the second group's matrix",
        "R_1": "off-diagonal element of the first group's matrix",
        "R_2": "off-diagonal element of the second group's matrix",
        "R_x": "element across the groups",
        "q_x": "overlap across the groups on the token block",
        "u_x": "overlap across the groups on the last row",
        "O": "an observable",
        r"\theta": "its source in the energy; theta' in the other group",
    },
)

theory = derive_fresh_tasks()
value = covariance(theory)
d, R = sp.symbols("d_1 d_2", positive=True), sp.symbols("R_1 R_2", positive=True)
R_x = sp.Symbol("R_x", real=True)
groups = TwoGroups(d, R, R_x)
n_1, n_2 = sp.symbols("n_1 n_2", positive=True)
log_det = groups.log_determinant().subs(dict(zip(GROUP_SIZES, (n_1, n_2), strict=True)))
Z_MAX = 4.0

# ----------------------------------------------------------------------------------------------------------------------

derivation.step(
    "Two groups of replicas on one sample",
    r"""
    The free entropy gives averages over samples of prompts. Every sample has a ground state of its own, with its own
    $m$, $q$, $u$, errors and energy, and these differ from the averages by a relative $1/D$. How much follows from
    the same action, with two groups of replicas on the same prompts: $\log \langle Z_1^{n_1} Z_2^{n_2} \rangle = n_1
    \langle \log Z_1 \rangle + n_2 \langle \log Z_2 \rangle + n_1 n_2\, \mathrm{Cov}(\log Z_1, \log Z_2) + \dots$. At
    order $n_1 n_2$ the overlaps within a group may stay at their own saddle points, where the rest is stationary. New
    are the overlaps across, $q_x$ and $u_x$, in which the coefficient is stationary itself. A matrix with one element
    within each group and one across has vectors that are uniform within the groups, and differences, so that its
    determinant is known for any numbers of replicas:
    """,
)
derivation.equation(r"\log\det", log_det, "determinant")
derivation.text(
    r"""
    A weight block of $D^2$ weights contributes its coefficient of $n_1 n_2$, with $V$, $V'$ within the groups:
    """
)
V_2, m_2, q_x = sp.Symbol("V'", positive=True), sp.Symbol("m'", real=True), sp.Symbol("q_x", positive=True)
tokens, last_row = theory.entropic.blocks
derivation.equation(
    r"\text{tokens}", entropic_covariance(theory.entropic, tokens, (s.V, V_2), q_x - s.m * m_2), "tokens"
)


@derivation.claim(
    "[[determinant]] is that of explicit matrices of two groups",
    How(Method.INTEGERS, "with all matrices written out, one and two replicas in each group"),
)
def two_group_determinant() -> bool:
    def holds(first: int, second: int) -> bool:
        size = first + second

        def entry(i: int, j: int) -> sp.Expr:
            group, other = int(int(i) >= first), int(int(j) >= first)
            if group != other:
                return R_x
            return R[group] + (d[group] if i == j else 0)

        explicit = sp.Matrix(size, size, entry).det()
        stated = sp.exp(sp.expand_log(log_det.subs({n_1: first, n_2: second}), force=True))
        return sp.simplify(sp.expand(explicit) - sp.expand(sp.simplify(stated))) == 0

    return all(holds(first, second) for first in (1, 2) for second in (1, 2))


derivation.step(
    "What a prompt contributes",
    r"""
    A prompt contributes $\log \langle \det(I + b C)^{-1/2} \rangle$ over both groups, and what is of second order in
    squared residuals belongs to the ground states: with $R$ and $R'$ the squared residuals, $s$ and $s'$ their
    shrinkages and $R_x$ the product across, $\frac{P b^2}{2} \langle R_x^2 s s' \rangle$, two Gaussian residuals'
    squares being correlated, and the covariance over the norms, $\frac{P b^2}{4} \mathrm{Cov}(R s, R' s')$.

    There is one correction of relative order $1/D$ that is not in the norms. Part of a residual comes from the
    prompt's own direction, $\tilde x \cdot (w / \sqrt{D} - m c)$: given $|\tilde x|$ it is a component of a vector on
    a sphere, whose fourth moment is $D / (D + 2)$ of a Gaussian's. Residuals of generic weights, $c^T W \tilde x$
    with fluctuating $W$, have no such term ([[norms]]).
    """,
)


@derivation.claim(
    "the overlaps across are stationary where both groups are the same: their equations are those of $q$ and $u$",
    to_digits(),
)
def stationary_across() -> bool:
    same = {**{other: x for x, other in OTHER.items()}, ACROSS[0]: s.q, ACROSS[1]: s.u}
    equations = theory.saddle.equations
    pairs = zip(ACROSS, ((s.V, s.q), (s.V_u, s.u)), strict=True)
    return all(agree(value.diff(x).subs(same), 2 * (equations[v] - equations[q])) for x, (v, q) in pairs)


@derivation.claim(
    r"a component of a vector on a sphere in $D$ dimensions has $D / (D + 2)$ of a Gaussian's fourth moment",
    symbolically("by the Beta law of its square, D = 3, 4, 7"),
)
def fourth_moment_on_a_sphere() -> bool:
    def moment(dimension: int, power: int) -> sp.Expr:
        """E (sqrt(D) x)^power for a component x of a unit vector; x^2 is Beta(1/2, (D - 1)/2)."""
        half, rest = sp.Rational(1, 2), sp.Rational(dimension - 1, 2)
        beta = sp.gamma(half + sp.Rational(power, 2)) * sp.gamma(half + rest)
        return (
            dimension ** sp.Rational(power, 2) * beta / sp.gamma(half) / sp.gamma(half + rest + sp.Rational(power, 2))
        )

    return all(
        sp.simplify(moment(k, 4) - 3 * sp.Rational(k, k + 2)) == 0 and sp.simplify(moment(k, 2) - 1) == 0
        for k in (3, 4, 7)
    )


@derivation.claim(
    r"without the correction and with concentrated norms a prompt gives $\frac{P b^2}{2} R_x^2 s s'$, with the "
    r"norms' law "
    "also the covariance",
    to_digits(),
)
def prompts_part() -> bool:
    same = {other: x for x, other in OTHER.items()}
    weights = entropic_covariance(theory.entropic, tokens, (s.V, s.V), ACROSS[0] - s.m**2)
    weights += entropic_covariance(theory.entropic, last_row, (s.V_u, s.V_u), ACROSS[1])
    found = value.subs(same) - weights
    energetic, entry = theory.energetic, theory.covariance.entry
    across, own = entry(s.m, s.m, ACROSS[0], ACROSS[1]), energetic.covariance.off_diagonal
    own_part = entry(s.m, s.m, s.m**2, sp.S.Zero) - s.noise
    b, shrunk = s.inverse_scale, energetic.shrinkage
    squares = across**2 / 2 + own**2 / 4 + 3 * (s.D / (s.D + 2) - 1) / 4 * own_part**2
    stated = s.P * b**2 * (Average(squares * shrunk**2, s.SCALARS) - Average(own * shrunk, s.SCALARS) ** 2 / 4)
    return agree(found, stated)


derivation.step(
    "Observables and their sources",
    r"""
    A source $\theta$ for an observable $O$ in the energy makes $-\beta O$ the response of $\log Z$. So the covariance
    of two observables over samples is the mixed derivative of $\mathrm{Cov}(\log Z_1, \log Z_2)$ in the sources of
    the two groups, each group's saddle point moving with its own, over $\beta^2$. $m$, $q$ and $u$ have sources;
    $e_{\mathrm{ICL}}$ and the contrast follow from them, the training error from the energy.
    """,
)


@cache
def ratios(size: int, realisations: int) -> dict[str, float]:
    """Simulated over predicted standard deviations."""
    setting = Setting(D=size, N=2 * size, P=round(1.5 * size**2), ridge=0.2 / size)
    predicted, found = sample_spread([setting]), simulate(setting, realisations, seed=12, workers=1)
    return {name: float(found[name].spread / predicted[name][0]) for name in VARYING}


def compared(sizes: dict[int, int]) -> Found:
    shown, holds = [], True
    for size, realisations in sizes.items():
        found, sem = ratios(size, realisations), 1 / math.sqrt(2 * realisations)
        holds = holds and all(abs(x - 1) < Z_MAX * sem + 0.3 / size for x in found.values())
        shown.append(f"D = {size} (+- {sem:.3f}): " + ", ".join(f"{name} {x:.3f}" for name, x in found.items()))
    return Found(holds, "; ".join(shown))


@derivation.claim(
    r"standard deviations of all observables over samples, within 4 standard errors and a relative 0.3/D",
    by_simulation(12, "D = 6 and 10, P = 1.5 D^2, 1500 and 500 samples"),
)
def standard_deviations() -> Found:
    return compared({6: 1500, 10: 500})


@derivation.claim(
    "the same at D = 14 and with more samples", by_simulation(12, "D = 6, 10, 14: 4000, 2000, 700 samples", long=True)
)
def standard_deviations_at_fourteen() -> Found:
    return compared({6: 4000, 10: 2000, 14: 700})


@derivation.claim(
    r"many prompts are independent measurements of the same weights: the spread of $m$ falls like $P^{-1/2}$",
    numerically("D = 10, P = 10^4 and 10^6, within 5 %"),
)
def many_prompts() -> Found:
    few, many = (float(sample_spread([Setting(D=10, N=20, P=P, ridge=0.1)])["m"][0]) for P in (10**4, 10**6))
    return Found(abs(few / many - 10) < 0.5, f"ratio {few / many:.2f}")


derivation.step(
    "What a single run is worth",
    r"""
    The published points of Li et al., Fig. 4(b), are averages of a few runs at D = 20, P = 10000. A single run there
    is about half a per cent from the average in $e_{\mathrm{ICL}}$. With few prompts and a small ridge, where the
    next order of the averages is large, it is so for the spread; and the training error of an interpolating solution
    has a broad law, of which a thousand samples do not tell the standard deviation to a per cent.
    """,
)


@derivation.claim(
    r"a run of Fig. 4(b) is between 0.2 and 1 % from the average in $e_{\mathrm{ICL}}$",
    numerically("D = 20, P = 10000, N = 20 .. 100, ridge 0.01"),
)
def published_runs() -> Found:
    shares = []
    for N in (20, 60, 100):
        setting = Setting(D=20, N=N, P=10000, ridge=0.01)
        shares.append(float(sample_spread([setting])["e_icl"][0] / solve(setting).e_icl))
    return Found(all(0.002 < x < 0.01 for x in shares), ", ".join(f"{100 * x:.2f} %" for x in shares))


@derivation.claim(
    "an interpolating solution: e_ICL within 15 %, the training error within 30 %",
    by_simulation(13, "D = 10, N = 11, P = 59, ridge 0.0016, 1500 samples", long=True),
)
def interpolating() -> Found:
    setting = Setting(D=10, N=11, P=59, ridge=0.0016)
    predicted, found = sample_spread([setting]), simulate(setting, 1500, seed=13, workers=1)
    off = {name: float(found[name].spread / predicted[name][0] - 1) for name in ("e_icl", "train_error")}
    holds = abs(off["e_icl"]) < 0.15 and abs(off["train_error"]) < 0.3
    return Found(holds and bool(np.all([np.isfinite(x) for x in predicted.values()])), str(off))


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
