# %% [markdown]
# # From linear attention to a spin glass
#
# A transformer layer with linear attention reads a prompt of labelled tokens and completes the label of a
# query. We follow its loss from the forward pass to a Hamiltonian of real-valued spins: which weight is which
# spin, what are its field and couplings, and which spins are free. The model is that of Li, Bai and Huang
# (arXiv:2408.02288), with features divided by N.

# %%
import numpy as np
import sympy as sp

from replica_icl.model.attention.merged import (
    Hamiltonian,
    SymbolicPrompt,
    loss,
    prediction,
    residual_covariance,
    weight_matrix,
)
from replica_icl.symbolic import symbols as s

# %% [markdown]
# ## The forward pass
#
# The prompt matrix holds tokens above labels; the last column is the query, with a zero where its label
# belongs. Attention maps Z to (1/N) Z Z^T W Z, and the entry in that empty corner is the prediction. At D = N
# = 2 we can look at it. The symbol `x_mia` is component a of token i of prompt m (all counted from zero),
# `y_mi` its label, `xq` and `yq` are query and target.

# %%
prompts = [SymbolicPrompt.numbered(D=2, N=2, mu=mu) for mu in range(2)]
W = weight_matrix(2)
print("Z =")
sp.pprint(prompts[0].matrix)
y_hat = sp.expand(prediction(prompts[0].gram, W, prompts[0].matrix))
print("\nThe prediction is linear in W; for instance the coefficient of W_12 is", y_hat.coeff(W[0, 1]))
print("and that of W_13, in the last column, is", y_hat.coeff(W[0, 2]))

# %% [markdown]
# The coefficient of W_ij is a feature s_ij = c_i x~_j, where c = (1/N) sum_i y_i (x_i, y_i) is the context
# vector: the first index of W lives on the context side, the second on the query side.
#
# ## The Hamiltonian
#
# The loss E(W) = (1/2P) sum (y~ - y^)^2 + (lambda_0/2) |W|^2 is quadratic. Its slopes at W = 0 are the
# fields, its curvatures the couplings; a curvature of a spin with itself is no coupling but part of lambda_i.

# %%
energy = loss(prompts, W)
glass = Hamiltonian.of(energy, W)
print("h_11      =", glass.fields[0])
print("J_11,12   =", glass.couplings[0, 1])
print("lambda_11 =", glass.precisions[0])
flat = [str(spin) for i, spin in enumerate(glass.spins) if not any(glass.couplings[i, :])]
print("spins without couplings:", ", ".join(flat))

# %% [markdown]
# The last column of W meets the zero of the prompt. These D + 1 directions are flat: only the ridge acts on
# them, and the Boltzmann measure on the other D^2 + D weights does not notice.
#
# ## What replicas need to know about a prompt
#
# Two weight matrices see the same prompt, and their residuals are correlated. Given the norms T = |x~|^2/D,
# omega = |w|^2/D, g = c.w/sqrt(D), a = |c|^2, l = |y|^2/N, the directions are isotropic, and the covariance
# depends on the weights through three overlaps: m = tr W_DD / D, Q = tr W_DD W_DD'^T / D and U = u.u' of the
# last rows.

# %%
covariance = residual_covariance()
print("C_ab =", covariance.entry(*sp.symbols("m_a m_b Q_ab U_ab")))

# %% [markdown]
# ## Checks
#
# First the algebra, then numbers: for random prompts in plain NumPy, the loss of the forward pass is the
# energy of the spin glass with h, J and lambda of the features.

# %%
assert sp.expand(energy - glass.energy) == 0
assert flat == ["W_13", "W_23", "W_33"]
assert all(glass.precisions[i] == s.ridge and glass.fields[i] == 0 for i in (2, 5, 8))
assert all(glass.couplings[i, i] == 0 for i in range(9))
assert residual_covariance(D=3) == covariance

rng = np.random.default_rng(1)
D, N, P, ridge = 3, 5, 7, 0.1
weights = rng.standard_normal((D + 1, D + 1))
direct, features, targets = ridge / 2 * np.sum(weights**2), [], []
for _ in range(P):
    tokens, labels, query = rng.standard_normal((N, D)), rng.standard_normal(N), rng.standard_normal(D)
    target = rng.standard_normal()
    Z = np.vstack([np.column_stack([tokens.T, query]), [*labels, 0]])
    direct += (target - (Z @ Z.T @ weights @ Z / N)[D, N]) ** 2 / (2 * P)
    context = np.array([*(labels @ tokens), labels @ labels]) / N
    features.append(np.outer(context, [*query, 0]).ravel())
    targets.append(target)
S, sigma = np.array(features), weights.ravel()
h, second = S.T @ targets / P, S.T @ S / P
J, lam = -(second - np.diag(np.diag(second))), ridge + np.diag(second)
glassy = np.sum(np.square(targets)) / (2 * P) - h @ sigma - sigma @ J @ sigma / 2 + lam @ sigma**2 / 2
assert abs(direct - glassy) < 1e-12 * abs(direct)
print(f"loss of the forward pass {direct:.12f}, energy of the spin glass {glassy:.12f}")
