# %% [markdown]
# # Exact moments of fields and couplings
#
# What kind of spin glass is in-context learning? Its disorder is the set of prompts. Fields h, couplings J
# and precisions lambda are polynomials in Gaussian tokens, tasks and noise; Wick's theorem gives their
# moments at every size.

# %%
import numpy as np
import sympy as sp

from replica_icl.symbolic import moments
from replica_icl.symbolic import symbols as s

# %% [markdown]
# ## Fields
#
# h_ij = (1/P) sum y~ c_i x~_j. Target and context share the task, hence a ferromagnetic mean on the diagonal
# of W, and nowhere else.

# %%
for block in moments.field_blocks():
    print(f"{block.name} ({block.description}): mean {block.mean}, variance {block.variance}")

# %% [markdown]
# ## Couplings and precisions
#
# J_(ij)(kn) = -(1/P) sum c_i x~_j c_k x~_n has no mean. Its variance is three times as large for two weights
# that share a token of the query or a component of the context.

# %%
for block in moments.coupling_blocks():
    print(f"{block.name}: mean {block.mean}, variance {block.variance}")
for block in moments.precision_blocks():
    print(f"{block.name} ({block.description}): mean {block.mean}")

# %% [markdown]
# ## How large is the signal?
#
# At N = nu D and P = alpha D^2 the mean field is 1/D on each of the D diagonal weights, while each of the D^2
# weights has a random field of order D^(-3/2). In sums of squares both are of order 1/D: signal and noise
# compete at finite alpha.

# %%
fields = {block.name: block for block in moments.field_blocks()}
couplings = {block.name: block for block in moments.coupling_blocks()}
scaling = {s.N: s.nu * s.D, s.P: s.alpha * s.D**2}
noise = sp.limit(s.D**3 * fields["off-diagonal"].variance.subs(scaling), s.D, sp.oo)
glass = sp.limit(s.D**4 * couplings["different context, different query"].variance.subs(scaling), s.D, sp.oo)
print("lim D^3 Var h_ij =", sp.factor(noise))
print("lim D^4 Var J    =", sp.factor(glass))

# %% [markdown]
# ## Checks
#
# The limits are what a mean-field theory would say: |c|^2 -> a = 1 + (1 + rho)/nu, E y~^2 -> 1 + rho. And a
# small system simulated in plain NumPy agrees block by block within four standard errors.

# %%
a = 1 + (1 + s.noise) / s.nu
assert sp.simplify(glass - a**2 / s.alpha) == 0
assert sp.simplify(sp.simplify(fields["diagonal"].mean) - 1 / s.D) == 0
ratio = couplings["same context, different query"].variance / couplings["different context, different query"].variance
assert sp.simplify(ratio) == 3

D, N, P, RHO, DRAWS, BATCHES, Z_MAX = 5, 7, 2, 0.25, 200, 100, 4.0
rng = np.random.default_rng(11)
samples = {"diagonal": [], "off-diagonal": [], "different context, different query": []}
for _ in range(BATCHES):
    task = rng.standard_normal((DRAWS, P, D))
    tokens = rng.standard_normal((DRAWS, P, N, D))
    labels = np.einsum("rpia,rpa->rpi", tokens, task) / np.sqrt(D)
    labels += np.sqrt(RHO) * rng.standard_normal(labels.shape)
    query = rng.standard_normal((DRAWS, P, D))
    target = np.sum(task * query, axis=2) / np.sqrt(D) + np.sqrt(RHO) * rng.standard_normal((DRAWS, P))
    c = np.einsum("rpi,rpia->rpa", labels, tokens) / N
    h = np.einsum("rp,rpi,rpj->rij", target, c, query) / P
    J = -np.mean(c[:, :, 0] * query[:, :, 0] * c[:, :, 1] * query[:, :, 1], axis=1)
    samples["diagonal"].append((h[:, 0, 0].mean(), np.mean((h[:, 0, 0] - 1 / D) ** 2)))
    samples["off-diagonal"].append((h[:, 0, 1].mean(), np.mean(h[:, 0, 1] ** 2)))
    samples["different context, different query"].append((J.mean(), np.mean(J**2)))

at_size = {s.D: D, s.N: N, s.P: P, s.noise: sp.Rational(RHO)}
for name, batches in samples.items():
    block = {**fields, **couplings}[name]
    mean, sem = np.mean(batches, axis=0), np.std(batches, axis=0, ddof=1) / np.sqrt(BATCHES)
    exact = [float(x.subs(at_size)) for x in (block.mean, block.variance)]
    print(
        f"{name}: mean {mean[0]:.5f} (exact {exact[0]:.5f}), "
        f"variance {mean[1]:.5f} +- {sem[1]:.5f} (exact {exact[1]:.5f})"
    )
    assert np.all(np.abs(mean - exact) < Z_MAX * sem)
print("all checks hold")
