# %% [markdown]
# # From sample to sample: how far one training set is from the average over training sets
#
# The free energy gives averages over samples of prompts. Every sample has a ground state of its own, with its own m, q,
# u, errors and energy, and these differ from the averages by a relative 1/D. This script derives how much, from the
# same replicated action. It says how many realisations a simulation needs, and what a single published run is worth.

# %%
import math

import numpy as np
import sympy as sp

from replica_icl import Setting, simulate
from replica_icl.numeric.questions.sample_spread import SPREAD, sample_spread
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import concentrate
from replica_icl.symbolic.sample_covariance import entropic_covariance, group_log_determinant
from replica_icl.theory.fresh_tasks import ORDER_PARAMETERS, derive_fresh_tasks
from replica_icl.theory.sample_spread import ACROSS, OTHER, SOURCES, covariance

Z_MAX = 4.0
theory = derive_fresh_tasks()

# %% [markdown]
# ## Two groups of replicas on one sample
#
# < Z_1^n1 Z_2^n2 >, with both groups on the same prompts, is exp(n1 <log Z_1> + n2 <log Z_2> + n1 n2 cov(log Z_1,
# log Z_2) + ...). At order n1 n2 every order parameter within a group may stay at its own saddle point, where the rest
# is stationary. New are the overlaps across, q_x and u_x, in which the coefficient itself is stationary. A matrix with
# one element within each group and one across has a determinant in closed form at symbolic n1 and n2:

# %%
d1, d2, R1, R2, R_x = sp.symbols("d1 d2 R1 R2 R_x", positive=True)
print("log det =", group_log_determinant((d1, d2), (R1, R2), R_x))
print("weights:", entropic_covariance(s.D**2, (s.V, OTHER[s.V]), sp.Symbol("q_x") - s.m * OTHER[s.m]))

# %% [markdown]
# A prompt contributes log < det(I + b C)^(-1/2) >, and what is of second order in squared residuals belongs to the
# ground states: P b^2/2 < R_x^2 s s' >, two groups' residuals being Gaussian together, and P cov(b R s, b R' s')/4 over
# the norms. There is one correction of relative order 1/D that is not in the norms. Part of a residual comes from the
# prompt's own direction, x~.(w/sqrt(D) - m c): given |x~|, it is a component of a vector on a sphere, and its fourth
# moment is D/(D + 2) of a Gaussian's. Residuals of generic weights, c W x~ with W fluctuating, have no such term.

# %% [markdown]
# ## Observables
#
# A source theta for an observable O in the energy makes -beta O the response of log Z. So cov(O, O') over samples is
# the mixed derivative of cov(log Z, log Z') in the two groups' sources, each group's saddle point moving with its own,
# at beta^2. m, q and u have sources; e_ICL and the contrast follow from them, the training error from the energy.

# %%
for name, observable in SOURCES.items():
    print(f"{name}: source along {observable}")
value = covariance(theory)
same = {**{other: x for x, other in OTHER.items()}, ACROSS[0]: s.q, ACROSS[1]: s.u}

# %% [markdown]
# ## Against simulation

# %%
compared = {}
for size, realisations in ((6, 4000), (10, 2000), (14, 700)):
    setting = Setting(D=size, N=2 * size, P=round(1.5 * size**2), ridge=0.2 / size)
    predicted, found = sample_spread([setting]), simulate(setting, realisations, seed=12, workers=1)
    for name in SPREAD:
        compared[size, name] = found[name].spread / predicted[name][0], 1 / math.sqrt(2 * realisations)
    shown = ", ".join(f"{name} {predicted[name][0]:.4f} ({compared[size, name][0]:.3f})" for name in SPREAD)
    print(f"D = {size}: predicted (simulated / predicted, +- {compared[size, 'm'][1]:.3f}): {shown}")

# %% [markdown]
# The published points of Li et al., Fig. 4(b), are averages of a few runs at D = 20, P = 10000; a single run there is
# this far from the average:

# %%
for N in (20, 40, 60, 80, 100):
    one = sample_spread([Setting(D=20, N=N, P=10000, ridge=0.01)])
    print(f"N = {N}: spread of e_ICL {one['e_icl'][0]:.5f}, of the contrast {one['contrast'][0]:.5f}")

# %% [markdown]
# With few prompts and a small ridge, where the next order of the averages is large, it is so for the spread, too; and
# the training error of an interpolating solution has a broad law, of which a thousand samples do not tell the standard
# deviation to a per cent.

# %%
interpolating = Setting(D=10, N=11, P=59, ridge=0.0016)
predicted, found = sample_spread([interpolating]), simulate(interpolating, 1500, seed=13, workers=1)
for name in ("e_icl", "train_error"):
    print(f"interpolating, {name}: simulated / predicted {found[name].spread / predicted[name][0]:.3f}")

# %% [markdown]
# ## Checks

# %%
for (size, name), (ratio, sem) in compared.items():
    assert abs(ratio - 1) < Z_MAX * sem + 0.3 / size, (size, name)
assert abs(found["e_icl"].spread / predicted["e_icl"][0] - 1) < 0.15
assert abs(found["train_error"].spread / predicted["train_error"][0] - 1) < 0.3

# The overlaps across are stationary where both groups are the same: that is the saddle-point equation of q and of u.
equations = theory.saddle.equations
point = {x: sp.Rational(k + 2, 9) for k, x in enumerate((*ORDER_PARAMETERS, s.noise, s.inverse_scale))}
point |= {s.D: 5, s.P: 30, s.ridge: sp.Rational(1, 50), s.beta: 3}
scalars = {x: sp.Rational(k + 5, 6) for k, x in enumerate(s.SCALARS)}
for across, (fluctuation, order) in zip(ACROSS, ((s.V, s.q), (s.V_u, s.u)), strict=True):
    stationary = concentrate(value.diff(across).subs(same), scalars).subs(point)
    saddle = concentrate(2 * (equations[fluctuation] - equations[order]), scalars).subs(point)
    assert sp.simplify(stationary - saddle) == 0, across

# Many prompts are independent measurements of the same weights.
few, many = (sample_spread([Setting(D=10, N=20, P=P, ridge=0.1)])["m"][0] for P in (10**4, 10**6))
assert abs(few / many - 10) < 0.5
assert np.all([np.isfinite(values) for values in predicted.values()])
print("all checks hold")
