# %% [markdown]
# # Beyond the saddle point: the next order of the free energy
#
# The saddle point of derivation 03 is of order n = D (D + 1), the number of acting weights, and knows a prompt by its
# norms, whose fluctuations are of relative order 1/D and kept exactly. What it leaves out is of order one: a relative
# 1/n. This script says what that is, reads it off the stability matrix that derivation 03 has already, and compares
# each of its consequences with simulation: no parameter is fitted here either.

# %%
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import sympy as sp

from replica_icl import Setting, simulate, solve
from replica_icl.narration.common import named
from replica_icl.narration.fresh_tasks_next_order import next_order_step
from replica_icl.numeric.questions.susceptibility import susceptibility
from replica_icl.simulator.features import draw_features
from replica_icl.symbolic.next_order import fluctuation_entropy
from replica_icl.theory.fresh_tasks import EXTRA_PAIRINGS, derive_fresh_tasks

Z_MAX = 4.0
theory = derive_fresh_tasks()

# %% [markdown]
# ## What fluctuates at given norms
#
# Take one prompt mu out. The others have G = (S + lambda_0)^-1 and the ground state W; with mu put back its residual is
# exactly r / (1 + phi), r = y~ - s.W its residual before and phi = s.G s / P. Averages of r^2 at given norms are exact
# in terms of E m, E q and E u, by rotation invariance, and so is the average of phi, in terms of E tr G. What the
# saddle point leaves out is of second order: that phi has a variance at given norms, that it is correlated with r^2,
# and that the others are P - 1 and not P. The variance shows where it comes from. For a Gaussian vector s it would be
#
#     Var phi / phi^2 = 2 (n tr G^2 / (tr G)^2 - 1) / n = (2/n) X / (1 - X),
#
# the sum of a ladder: phi and phi again, through the same k = 1, 2, ... prompts one after another, X a rung. But
# s = c (outer) x~. Where the ladder has one rung, a prompt s' met by both, the average is that of
# (c.c')^4 (x~.x~')^4, which has 3 x 3 pairings: one is disconnected and no fluctuation, two are the ladder's, and 6 are
# new, X each. With two rungs and more, mixed pairings are smaller by 1/D. So for the D^2 weights on tokens
#
#     Var phi / phi^2 = (1/n) (2 X / (1 - X) + 6 X).

# %%
spreads = {}
for size, realisations in ((10, 300), (20, 12)):
    for share, ridge in ((0.3, 0.1), (0.6, 0.02), (1.0, 0.02)):
        setting = Setting(D=size, N=2 * size, P=round(share * size * (size + 1)), ridge=ridge / size)
        chi = susceptibility([setting]).blocks[0, 0, 0]  # sum of G_ij^2 over the weights on tokens
        trace = setting.D * solve(replace(setting, beta=float(setting.P))).V * setting.P
        fraction = 1 - trace**2 / (size**2 * chi)  # X, from 1 / (1 - X) = D^2 tr G^2 / (tr G)^2
        predicted = (2 * fraction / (1 - fraction) + 6 * fraction) / size**2
        found = []
        for r in range(realisations):
            rng = np.random.default_rng([9, r])
            others = draw_features(setting, rng)
            G = np.linalg.inv(others.gram() + setting.ridge * np.eye(setting.acting_weights))[: size**2, : size**2]
            c, x = rng.standard_normal((2, 400, size))
            directions = (c[:, :, None] * x[:, None, :]).reshape(400, -1)
            directions /= np.linalg.norm(directions, axis=1, keepdims=True)
            phi = np.einsum("ka,ka->k", directions @ G, directions)
            found.append(np.var(phi, ddof=1) / np.mean(phi) ** 2)
        spreads[size, share] = np.mean(found), np.std(found, ddof=1) / math.sqrt(realisations), predicted
        mean, sem, _ = spreads[size, share]
        ladder = 2 * fraction / (1 - fraction) / size**2
        print(f"D = {size}, P / n = {share}, X = {fraction:.2f}: variance at given norms {mean:.4f} +- {sem:.4f}, "
              f"predicted {predicted:.4f}, ladder alone {ladder:.4f}")  # fmt: skip

# %% [markdown]
# ## As a free energy
#
# One could go on with correlations and feed them back. It is shorter to ask for the free energy, of which everything
# measured is a derivative. The fluctuations of the overlaps around the saddle have the stability matrix I - X over the
# two weight blocks as their Hessian, in units of the entropic part, and
#
# - each pair of replica eigenvalues contributes -(1/2) log det(I - X); as n_replicas -> 0 half of the pairs are left;
# - Gaussian features would fluctuate in norm, 2 / (weights of a block): the prompt law has the norms, and -(1/2) tr X
#   takes that back (for one prompt this gives log(1 + phi), which is exact);
# - the mixed pairings, in log det expanded to where two prompts meet twice, are 1/8 of X^2 each.

# %%
names = sp.Matrix(2, 2, lambda i, j: sp.Symbol(f"X_{i + 1}{j + 1}"))
print("phi =", fluctuation_entropy(names, EXTRA_PAIRINGS))
print("mixed pairings per pair of blocks:", EXTRA_PAIRINGS.tolist())

# %% [markdown]
# This is log Z of one replica's thermal fluctuations. The replica matrices have one eigenvalue that also carries what
# the replicas share, and n_replicas -> 0 turns that into a derivative: along R in the residuals, and along the squared
# distance of the mean weights from the rule a_bar I that the prompts ask for. The distance is from a_bar I and not from
# zero: with overlaps of W - a_bar I, fluctuations of m and of Q are independent, and m is one weight among n.

# %%
print("a_bar =", named(theory, theory.linear_rule))
step = next_order_step(theory)
for statement in step.claims:
    print("-", statement.statement)

# %% [markdown]
# ## What it says, and what is seen
#
# Adding it to the free entropy moves the saddle, at first order, by minus the inverse Hessian times its gradient; a
# training error gains its derivative in b too. `solve` gives the result beside every value as `next_order`. At the
# transition P = n, where the saddle point alone is worst:

# %%
seen = {}
for size, realisations in ((6, 6000), (10, 2500), (14, 600), (20, 150)):
    setting = Setting(D=size, N=2 * size, P=size * (size + 1), ridge=0.01 / size)
    saddle, measured = solve(setting), simulate(setting, realisations, seed=31, workers=1)
    corrected = saddle.with_next_order()
    for name in ("train_error", "e_icl"):
        before, after = getattr(saddle, name), getattr(corrected, name)
        mean, sem = measured[name].mean, measured[name].sem
        seen[size, name] = mean / before - 1, sem / before, after / before - 1, corrected.theory_error[name] / before
        print(f"D = {size}, {name:11s}: simulation {100 * (mean / before - 1):+.1f} % +- {100 * sem / before:.1f} % "
              f"from the saddle point, next order {100 * (after / before - 1):+.1f} %")  # fmt: skip

# %% [markdown]
# And on the line of fixed ratios of an interpolating solution with label noise, where the training error is a few
# 10^-4 of e_ICL and large numbers multiply 1/n:

# %%
interpolating = {}
for size, realisations in ((10, 1500), (14, 500)):
    setting = Setting(D=size, N=round(1.1 * size), P=round(0.59 * size**2), ridge=0.0163 / size, noise=0.25)
    saddle, measured = solve(setting), simulate(setting, realisations, seed=32, workers=1)
    mean, sem, value = measured["train_error"].mean, measured["train_error"].sem, saddle.train_error
    gain = saddle.next_order["train_error"]
    left = saddle.with_next_order().theory_error["train_error"]
    interpolating[size] = mean / value - 1, sem / value, gain / value, left / value
    print(f"D = {size}, P = {setting.P}: training error {100 * (mean / value - 1):+.1f} % +- {100 * sem / value:.1f} % "
          f"from the saddle point, next order {100 * gain / value:+.1f} %")  # fmt: skip

# %% [markdown]
# Without a ridge and above the transition the next order has to begin a known series: for n Gaussian features e_ICL is
# proportional to the trace of an inverse Wishart matrix, n / (P - n - 1), and the saddle point has n / (P - n).

# %%
size, gap = 30, 20
setting = Setting(D=size, N=60, P=size * (size + 1) + gap, ridge=0.0)
saddle = solve(setting)
ratio = saddle.next_order["e_icl"] / saddle.e_icl
print(
    f"P = n + {gap}: next order {ratio:.4f} of e_ICL, inverse Wishart 1 / (P - n) = {1 / gap:.4f} and what is regular"
)

# %% [markdown]
# ## What is left after that
#
# Pairings that are smaller by 1/D are left out wherever they multiply 1/n, so that the next order is itself good to a
# relative 1/D (as the table of spreads shows); and it is a first order, of no use where it is no small number: without
# a ridge close to the transition. `theory_error` is made of these two.

# %% [markdown]
# ## Checks

# %%
assert all(claim.check() for claim in step.claims)

# The spread of phi: mixed pairings are there, and what is left is of relative order 1/D.
for (size, share), (mean, sem, predicted) in spreads.items():
    assert abs(mean - predicted) < Z_MAX * sem + 4 / size * predicted, (size, share)
for size in (10, 20):
    mean, sem, predicted = spreads[size, 0.3]
    assert mean > 0.5 * predicted + Z_MAX * sem  # two pairings alone would give a third

# The transition: seen at D = 10 against the saddle point, and accounted for at every D.
deviation, sem, gain, _ = seen[10, "train_error"]
assert deviation > Z_MAX * sem
for (size, name), (deviation, sem, gain, later) in seen.items():
    assert abs(deviation - gain) < Z_MAX * sem + later, (size, name)
gains = [seen[size, "train_error"][2] for size in (6, 10, 14, 20)]
assert all(1.5 < larger / smaller < 4 for larger, smaller in pairwise(gains))  # as (D'/D)^2, 2.8 to 2.0

deviation, sem, gain, _ = interpolating[10]
assert deviation > 0.5 * gain > 0
for size, (deviation, sem, gain, later) in interpolating.items():
    assert abs(deviation - gain) < Z_MAX * sem + later, size

assert abs(ratio * gap - 1) < 0.15
print("all checks hold")
