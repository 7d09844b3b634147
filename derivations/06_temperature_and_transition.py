# %% [markdown]
# # Temperature, the transition at P = D (D + 1), and what makes the theory right at D = 10
#
# The energy is quadratic in the weights, so temperature can do little: this script says what it changes and
# checks it against exact numbers of finite systems. It then goes through the transition where the last zero
# mode disappears, and ends with the question what the finite sizes, the mean norms and the fluctuations of a
# prompt's norms each correct in the thermodynamic limit, and what they leave.

# %%
from dataclasses import replace
from itertools import pairwise

import numpy as np
import sympy as sp

from replica_icl import Ratios, Setting, simulate, solve
from replica_icl.model.prompts.gaussian import fresh_task_prompts
from replica_icl.narration.common import agree
from replica_icl.numeric.questions.spectrum import hessian_density
from replica_icl.numeric.questions.susceptibility import susceptibility, susceptibility_peak
from replica_icl.simulator.features import draw_features
from replica_icl.simulator.gibbs import gibbs_samples
from replica_icl.simulator.ground_state import ground_state
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import concentrate
from replica_icl.theory.fresh_tasks import derive_fresh_tasks, field, in_response_units, last_row_field, unit
from replica_icl.theory.hessian_spectrum import trace_log

Z_MAX = 4.0
theory = derive_fresh_tasks()
equations = theory.saddle.equations

# %% [markdown]
# ## What temperature cannot change
#
# E(W) = E_0 + (1/2) (W - W_0) (S + lambda_0) (W - W_0): the Boltzmann mean is the ground state W_0 at every
# beta, and the covariance is (S + lambda_0)^-1 / beta. The saddle point says the same. Put V = v P / beta,
# V_u = v_u P / beta: the equations for V and V_u become those at beta = P, without beta, and with them those
# for m, q and u. So m, q, u, e_ICL and the training error are numbers of the ground state.

# %%
cold = {s.inverse_scale: s.beta / s.P, s.V: s.V * s.P / s.beta, s.V_u: s.V_u * s.P / s.beta}
at_P = {s.inverse_scale: sp.S.One, s.beta: s.P}
free_of_beta = {
    x: agree((equations[x] / s.beta).subs(cold, simultaneous=True), (equations[x] / s.beta).subs(at_P))
    for x in (s.m, s.q, s.u)
}
print("without beta in units V beta / P:", free_of_beta)

# %% [markdown]
# ## What temperature changes: log Z, entropy and Gibbs errors
#
# n = D (D + 1) quadratic modes share the energy n / (2 beta) above E_0, whatever their stiffness, so
#
#     log Z = -beta E_0 + (n/2) log(2 pi / beta) - (1/2) tr log(S + lambda_0),
#     <E> = -d log Z / d beta = E_0 + n / (2 beta),
#     entropy = log Z + beta <E> = (n/2) (1 + log(2 pi / beta)) - (1/2) tr log(S + lambda_0).
#
# The replica free entropy has this form: its terms in q, m, u are -beta E_0, and the others are the volume of a
# Gaussian. tr log(S + lambda_0) is the free entropy of the same prompts with targets that are zero. One free
# energy at three temperatures, beside exact numbers of 250 realisations of the disorder:

# %%
D, N, P, RHO, RIDGE = 10, 20, 150, 0.25, 0.02
n = D * (D + 1)
betas = (200.0, 1000.0, 20000.0)
base = Setting(D=D, N=N, P=P, ridge=RIDGE, noise=RHO)


def ground_energy(values):
    """E_0 = (training error + lambda_0 |W|^2) / 2, |W|^2 = D q + u."""
    return (values["train_error"] + RIDGE * (D * values["q"] + values["u"])) / 2


predicted = [solve(replace(base, beta=beta)).observables() for beta in betas]
measured = [simulate(replace(base, beta=beta), 250, seed=1, workers=1) for beta in betas]
rows = []
for beta, values, ensemble in zip(betas, predicted, measured, strict=True):
    exact = ensemble.values
    pairs = {name: (values[name], exact[name]) for name in ("e_icl", "train_error", "e_gibbs", "train_gibbs")}
    pairs["log_Z / n"] = values["log_Z"] / n, exact["log_Z"] / n
    entropies = [(x["log_Z"] + beta * ground_energy(x) + n / 2) / n for x in (values, exact)]
    pairs["entropy / n"] = entropies[0], entropies[1]
    for name, (found, samples) in pairs.items():
        mean, sem = samples.mean(), samples.std(ddof=1) / np.sqrt(len(samples))
        rows.append((beta, name, found, mean, sem))
        print(f"beta {beta:7.0f}  {name:12s} theory {found:9.5f}  exact {mean:9.5f} +- {sem:.5f}")

# %% [markdown]
# The mean energy of Boltzmann samples, each through its literal energy, is E_0 + n / (2 beta):

# %%
features = draw_features(base, np.random.default_rng(3))
state = ground_state(features, RIDGE)
samples = gibbs_samples(state, betas[0], 300, np.random.default_rng(4))
energies = [(features.mean_squared_residual(W) + RIDGE * np.sum(W**2)) / 2 for W in samples]
excess, excess_sem = np.mean(energies) - state.energy, np.std(energies, ddof=1) / np.sqrt(len(energies))
print(f"<E> - E_0 = {excess:.5f} +- {excess_sem:.5f}, n / (2 beta) = {n / (2 * betas[0])}")

# %% [markdown]
# ## The transition: zero modes
#
# P prompts constrain at most P directions. Below P = D (D + 1) a fraction 1 - P/n of the Hessian's eigenvalues is
# exactly lambda_0: without a ridge the ground state is a flat of that dimension. In theory, send the ridge to zero
# in the sum of the two equations for V and V_u: n = P < T chi / (1 + T chi) > + lambda_0 tr G, and lambda_0 tr G
# -> n - P since T chi diverges. The resolvent at complex ridge gives the same count below any positive eigenvalue.

# %%
zero = {}
for prompts in (n // 4, n // 2, n, 2 * n):
    spectrum = hessian_density(replace(base, P=prompts), [1e-7])
    zero[prompts] = spectrum.cdf[0], spectrum.zero_weight
    print(
        f"P = {prompts:3d}: fraction of eigenvalues below 1e-7 {spectrum.cdf[0]:.5f}, zero modes {zero[prompts][1]:.5f}"
    )

# %% [markdown]
# Above P = n the ground state is unique without any ridge. At P = n eigenvalues reach down to zero as
# x^(-1/2): a finite fraction of soft modes, and that is where the glass susceptibility is largest.

# %% [markdown]
# ## The transition: susceptibility
#
# (beta^2 / n) sum_ij <sigma_i sigma_j>_c^2 = (1/n) tr G^2, G = (S + lambda_0)^-1, is minus the response of the
# fluctuations to a field on |W|^2. In units of the mean variance, chi_SG = n tr G^2 / (tr G)^2. The response
# matrix is the inverse of the stability matrix I - X, so that chi_SG and the smallest eigenvalue of I - X
# tell the same story: at a fixed lambda = lambda_0 D both stay finite, at ridge zero the susceptibility diverges.

# %%
peaks = {size: susceptibility_peak(size, 2 * size, ridge=0.01 / size) for size in (10, 20, 40)}
for size, peak in peaks.items():
    print(f"D = {size:2d}: chi_SG peaks at P / D(D+1) = {peak.relative:.3f}, height {peak.height:.3f}, "
          f"1 / replicon {1 / peak.replicon:.3f}")  # fmt: skip
limit_peak = np.max(1 / solve(Ratios(alpha=np.linspace(0.8, 1.2, 401), nu=2.0, lam=0.01)).replicon)
print(f"limit: height {limit_peak:.3f}")
at_transition = {size: Setting(D=size, N=2 * size, P=size * (size + 1), ridge=0.01 / size) for size in (10, 20)}
ratios = {}
for size, setting in at_transition.items():
    count = setting.acting_weights
    sums = []
    for r in range({10: 400, 20: 40}[size]):
        eigenvalues = np.linalg.eigvalsh(draw_features(setting, np.random.default_rng([5, r])).gram()) + setting.ridge
        sums.append((np.mean(1 / eigenvalues), np.mean(1 / eigenvalues**2)))
    first, second = np.mean(sums, axis=0)
    ratios[size] = second / first**2 / susceptibility([setting]).chi_SG[0]
    print(f"D = {size}, P = {count}: simulated chi_SG / theory = {ratios[size]:.4f}")
softer = [susceptibility([replace(at_transition[20], ridge=r)]).chi_SG[0] for r in (1e-3, 1e-4, 1e-5, 1e-6)]
print("ridge 1e-3 .. 1e-6 at D = 20, P = D(D+1): chi_SG =", np.round(softer, 2))

# %% [markdown]
# ## What the norms' fluctuations contribute
#
# A residual is bilinear in the context vector c and the query x~. For Gaussian weights that are independent of the
# prompt, r = c W x~ is exactly Gaussian given c and x~, of variance proportional to |c|^2 |x~|^2: given the norms
# nothing is left to correct, for any D. Over prompts it is not Gaussian, since the variance itself fluctuates:
# <r^4> / (3 <r^2>^2) = < (T |c|^2)^2 > / < T |c|^2 >^2, which the prompt law gives exactly, and which is 1 + O(1/D).

# %%
law = fresh_task_prompts()
variance = s.query_norm * s.context_norm
kurtosis = sp.factor(law.moment(variance**2) / law.moment(variance) ** 2)
leading = sp.factor(sp.limit(s.D * (kurtosis.subs(s.N, s.nu * s.D) - 1), s.D, sp.oo))
print(f"kurtosis ratio -> 1 + ({leading}) / D")
token_level = {}
for size in (10, 20):
    prompts = draw_features(Setting(D=size, N=2 * size, P=60000, ridge=1.0), np.random.default_rng(6))
    squares = np.sum(prompts.context[:, :size] ** 2, axis=1) * np.sum(prompts.query**2, axis=1)
    batches = squares.reshape(20, -1)
    found = np.mean(batches**2, axis=1) / squares.mean() ** 2
    exact = float(kurtosis.subs({s.D: size, s.N: 2 * size, s.noise: 0}))
    token_level[size] = found.mean(), found.std(ddof=1) / np.sqrt(20), exact
    print(f"D = {size}: kurtosis ratio of token-level prompts {found.mean():.3f}, exact {exact:.3f}, given norms 1")

# %% [markdown]
# The theory keeps the law of the norms, and the limit replaces them by their means. To see that it is the norms
# and not the finite sizes in the equations that matter, a third theory: the same free energy with the same D, N, P
# and last row, but every prompt at its exact mean norms.

# %%
means = {scalar: law.moment(scalar) for scalar in s.SCALARS}
with_ridge = in_response_units(theory)
order_parameters = (s.m, s.q, s.V, s.u, s.V_u)
mean_equations = [concentrate(e, means) for e in with_ridge.saddle.equations.values()]
mean_error = concentrate(with_ridge.observables["e_icl"], means)


def mean_norms(setting, start):
    """e_ICL of the theory whose prompts all have their mean norms."""
    numbers = {"D": setting.D, "N": setting.N, "P": setting.P, "rho": 0, "c": 1}
    numbers |= {"field": setting.ridge, "field_u": setting.ridge}
    numbers = {x: numbers[x.name] for e in mean_equations for x in e.free_symbols if x.name in numbers}
    root = sp.nsolve([e.subs(numbers) for e in mean_equations], order_parameters, start)
    return float(mean_error.subs(numbers).subs(dict(zip(order_parameters, root, strict=True))))


deviations = {"limit": {}, "mean norms": {}, "full law": {}}
errors = {}
for size, realisations in ((10, 600), (20, 120), (40, 10)):
    setting = Setting(D=size, N=2 * size, P=round(1.5 * size**2), ridge=0.1 / size)
    full = solve(replace(setting, beta=float(setting.P)))
    found = simulate(setting, realisations, seed=7, workers=1)["e_icl"]
    candidates = {
        "limit": solve(setting, level="limit").e_icl,
        "mean norms": mean_norms(setting, [full.m, full.q, full.V, full.u, full.V_u]),
        "full law": full.e_icl,
    }
    errors[size] = found.sem / found.mean
    for name, value in candidates.items():
        deviations[name][size] = value / found.mean - 1
    shown = ", ".join(f"{name} {100 * deviations[name][size]:+.1f} %" for name in candidates)
    print(f"D = {size}: e_ICL = {found.mean:.4f} +- {100 * errors[size]:.1f} %; {shown}")

# %% [markdown]
# What is left is of the order of the inverse number of weights, 1 / D (D + 1), twice the power of 1/D: fluctuations
# of the overlaps around the saddle point. They are largest near the transition at small ridge, where soft modes
# carry most of the variance; derivation 09 computes them.

# %% [markdown]
# ## Checks

# %%
# Temperature: by algebra, and in numbers that share nothing with it.
assert all(free_of_beta.values())
quadratic = theory.free_entropy.subs(s.inverse_scale, s.beta / s.P)
energy = (theory.observables["train_gibbs"].subs(s.inverse_scale, s.beta / s.P) + s.ridge * (
    s.D * (s.q + s.V) + s.u + s.V_u)) / 2  # fmt: skip
assert agree(-quadratic.diff(s.beta), energy)  # <E>, training error and norm of a sample, is the derivative of log Z
for name in ("m", "q", "u", "e_icl", "train_error"):
    assert np.ptp([values[name] for values in predicted]) < 1e-9
assert np.ptp([beta * values["V"] for beta, values in zip(betas, predicted, strict=True)]) < 1e-7 * P
for beta, values in zip(betas, predicted, strict=True):
    mean_energy = (values["train_gibbs"] + RIDGE * (D * (values["q"] + values["V"]) + values["u"] + values["V_u"])) / 2
    assert abs(mean_energy - ground_energy(values) - n / (2 * beta)) < 1e-8
for beta, name, found, mean, sem in rows:
    allowed = 0.005 if "/ n" in name else 0.1 / D * abs(found)
    assert abs(found - mean) < Z_MAX * sem + allowed, (beta, name)
assert abs(excess - n / (2 * betas[0])) < Z_MAX * excess_sem

# tr log(S + lambda_0) is stationary where the full theory is, and without data it is n log lambda_0.
volume = trace_log(theory)
full = with_ridge.saddle.equations
at_one = {unit: 1, last_row_field: field}
assert agree(volume.diff(s.V), -2 * full[s.q].subs(at_one))
assert agree(volume.diff(s.V_u), -2 * full[s.u].subs(at_one))

# The transition.
assert all(abs(counted - weight) < 2e-3 for prompts, (counted, weight) in zero.items() if prompts != n)
assert 0 < zero[n][0] < 0.01
heights = [peak.height for peak in peaks.values()]
assert all(abs(peak.relative - 1) < 0.1 for peak in peaks.values())
assert abs(heights[-1] - limit_peak) < abs(heights[-2] - limit_peak) / 1.5 < abs(heights[-3] - limit_peak) / 1.5**2
assert all(abs(value - 1) < 0.05 for value in ratios.values())
assert all(later > 1.5 * earlier for earlier, later in pairwise(softer))

# Norms: the kurtosis is of order 1/D; without its effect a few per cent of e_ICL would be missing at D = 10.
assert leading.subs({s.nu: 2, s.noise: 0}) > 4
for found, sem, exact in token_level.values():
    assert abs(found - exact) < Z_MAX * sem
for size, sem in errors.items():
    assert abs(deviations["full law"][size]) < Z_MAX * sem + 0.1 / size
    assert abs(deviations["full law"][size]) < min(abs(deviations[x][size]) for x in ("limit", "mean norms"))
assert 1.5 < deviations["limit"][10] / deviations["limit"][20] < 2.5
print("all checks hold")
