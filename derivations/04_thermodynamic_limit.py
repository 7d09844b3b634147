# %% [markdown]
# # The thermodynamic limit
#
# D -> infinity with P = alpha D^2 prompts of N = nu D tokens, a ridge lambda_0 = lambda / D and beta =
# beta_tilde D^2. The prompt's scalars concentrate, the last row decouples, and the theory becomes one
# quadratic equation.

# %%
import mpmath
import numpy as np
import sympy as sp

from replica_icl.numeric.limit import solve_limit
from replica_icl.ratios import Ratios
from replica_icl.symbolic import moments
from replica_icl.symbolic import symbols as s
from replica_icl.theory.fresh_tasks_limit import (
    derive_fresh_tasks_limit,
    effective_ridge,
    excess,
    response,
    shrinkage,
    test_error,
)

theory = derive_fresh_tasks_limit()

# %% [markdown]
# ## Where the prompt law concentrates
#
# Means and variances of the scalars are exact at any size; every relative variance is of order 1/D.

# %%
for scalar, spread in moments.relative_variances().items():
    leading = sp.factor(sp.limit(s.D * spread, s.D, sp.oo))
    print(f"{scalar!s:6s} -> {moments.concentrated_means()[scalar]!s:20s} relative variance ~ ({leading}) / D")

# %% [markdown]
# ## Free entropy density
#
# At finite beta_tilde, in m, q and V; and for beta_tilde -> infinity at fixed v = beta_tilde V: minus the
# energy of the ground state. Below, a = 1 + (1 + rho)/nu is the limit of |c|^2.

# %%
print("lim Phi / D^2              =", theory.saddle.free_entropy)
print("lim Phi / (beta_tilde D^2) =", theory.ground_state.free_entropy)

# %% [markdown]
# ## Elimination
#
# With s = 1 / (1 + beta_tilde a V / alpha) the equation for q is a quadratic for s, and in the effective
# ridge k = lambda / s it reads k = lambda + (k / alpha) a / (a + k). Everything else is rational in k. Of the
# two ways of writing a quadratic's root, the one that adds numbers of one sign keeps its digits, which one
# that is depends on the sign of alpha - 1.

# %%
print("0 =", theory.ridge_polynomial.as_expr())
print("k =", theory.effective_ridge)
for name in ("m", "q", "V", "replicon", "test_error"):
    print(f"{name} =", getattr(theory, name))

# %% [markdown]
# ## The ridgeless transition

# %%
sides = theory.ridgeless()
for side, values in sides.items():
    print(side, values)

# %% [markdown]
# ## Checks
#
# 1. The closed forms are put back into the saddle-point equations.

# %%
a, k = s.context_norm, effective_ridge
shrunk = 1 - a / (s.alpha * (a + k))
error = theory.test_error.subs(excess, a - 1).subs(shrinkage, shrunk)
on_saddle = {
    s.m: theory.m,
    s.q: theory.q.subs(s.m, theory.m).subs(test_error, error),
    response: (theory.V * s.beta_tilde).subs(shrinkage, shrunk),
    s.lam: k * shrunk,
}
for equation in theory.ground_state.equations.values():
    assert sp.expand(sp.numer(sp.together(equation.subs(on_saddle, simultaneous=True)))) == 0

# %% [markdown]
# 2. The saddle-point equations are solved by a general root finder, started elsewhere, and compared with the
# closed forms.

# %%
point = {s.alpha: 1.5, s.nu: 2.0, s.lam: 0.1, s.noise: 0.25}
solved = solve_limit(Ratios(alpha=1.5, nu=2.0, lam=0.1, noise=0.25)).or_raise()
values = {**point, a: 1 + 1.25 / 2.0}
residuals = sp.lambdify(
    [s.m, s.q, response], [e.subs(values) for e in theory.ground_state.equations.values()], "mpmath"
)
root = mpmath.findroot(residuals, (0.5, 0.5, 1.0))
print(f"m = {solved.m:.12f}, q = {solved.q:.12f};  root finder: {float(root[0]):.12f}, {float(root[1]):.12f}")
assert abs(root[0] - solved.m) < 1e-12
assert abs(root[1] - solved.q) < 1e-12

# %% [markdown]
# 3. Ridgeless: the closed forms at a tiny ridge approach the limits from both sides, linearly in the ridge.

# %%
for alpha, side in ((3.0, "alpha > 1"), (1 / 3, "alpha < 1")):
    numbers = {s.alpha: alpha, a: 1.5, s.noise: 0.0}
    limit = float(sides[side]["e_icl"].subs(numbers))
    gaps = [solve_limit(Ratios(alpha=alpha, nu=2.0, lam=lam)).e_icl - limit for lam in (1e-4, 1e-5)]
    print(f"alpha = {alpha:.3f}: ridgeless e_icl {limit:.6f}, distance at lambda = 1e-4 and 1e-5: {gaps}")
    assert abs(gaps[0] / gaps[1] - 10) < 0.1

# %% [markdown]
# 4. Finite transformers in plain NumPy, token by token: the ground state's e_icl approaches the limit like
# 1/D.

# %%
ALPHA, NU, LAM = 2, 2, 0.5


def ground_state_error(D, rng):
    """e_icl of the ridge solution on random prompts; exact in the weights, no test prompts."""
    N, P, ridge = NU * D, ALPHA * D * D, LAM / D
    task, tokens = rng.standard_normal((P, D)), rng.standard_normal((P, N, D))
    labels = np.matmul(tokens, task[:, :, None])[:, :, 0] / np.sqrt(D)
    context = np.column_stack([np.matmul(labels[:, None, :], tokens)[:, 0, :], np.sum(labels**2, axis=1)]) / N
    query = rng.standard_normal((P, D))
    target = np.sum(task * query, axis=1) / np.sqrt(D)
    features = (context[:, :, None] * query[:, None, :]).reshape(P, -1)
    stiffness = features.T @ features / P + ridge * np.eye(D * D + D)
    W = np.linalg.solve(stiffness, features.T @ target / P).reshape(D + 1, D)
    second = np.concatenate([np.full(D, (1 + (D + 1) / N) / D), [(1 + 2 / N) * (1 + 2 / D)]])
    return 1 - 2 * np.trace(W[:D]) / D + np.sum(second[:, None] * W**2)


limit = solve_limit(Ratios(alpha=ALPHA, nu=NU, lam=LAM)).e_icl
rng = np.random.default_rng(7)
distance = {}
for D, realisations in ((5, 200), (10, 60), (20, 8)):
    errors = np.array([ground_state_error(D, rng) for _ in range(realisations)])
    distance[D] = abs(errors.mean() - limit), errors.std(ddof=1) / np.sqrt(realisations)
    print(
        f"D = {D:2d}: e_icl {errors.mean():.4f} +- {distance[D][1]:.4f}, limit {limit:.4f}, D * distance "
        f"{D * distance[D][0]:.2f}"
    )

# Halving 1/D halves the distance, up to the next order in 1/D and four standard errors.
for small, large in ((5, 10), (10, 20)):
    sem = np.hypot(distance[small][1] / 2, distance[large][1])
    assert abs(distance[large][0] - distance[small][0] / 2) < distance[small][0] / 4 + 4 * sem
assert distance[5][0] > 4 * distance[5][1], "the finite size is visible"
print("all checks hold")
