"""The symbols of the theory, each with its meaning and scaling, created once.

Raw numbers (as in `Setting`): D, N, P, lambda_0, beta, rho. Intensive ratios: nu = N/D, alpha = P/D^2,
lam = lambda_0 D, beta_tilde = beta/D^2. Source: Li et al., arXiv:2408.02288, with features divided by N.
"""

from __future__ import annotations

import sympy as sp

D, N, P = sp.symbols("D N P", positive=True)
ridge = sp.Symbol("lambda_0", positive=True)
beta = sp.Symbol("beta", positive=True)
noise = sp.Symbol("rho", nonnegative=True)

alpha, nu, lam, beta_tilde = sp.symbols("alpha nu lambda beta_tilde", positive=True)

replicas = sp.Symbol("n", positive=True)
"""The number of replicas; an integer until the limit n -> 0."""

inverse_scale = sp.Symbol("b", positive=True)
"""b = beta / P: the weight of one prompt's squared residual is exp(-b r^2 / 2)."""

# Order parameters (replica-symmetric), theory of fresh tasks.
m = sp.Symbol("m", real=True)
q = sp.Symbol("q", nonnegative=True)
V = sp.Symbol("V", positive=True)
u = sp.Symbol("u", nonnegative=True)
V_u = sp.Symbol("V_u", positive=True)

# Scalars of one prompt: everything that a sample's norms say about it.
query_norm = sp.Symbol("T", positive=True)
"""T = |x~|^2 / D."""
task_norm = sp.Symbol("omega", positive=True)
"""omega = |w|^2 / D."""
aligned = sp.Symbol("g", real=True)
"""g = c.w / sqrt(D), the part of the context along the task."""
context_norm = sp.Symbol("a", positive=True)
"""a = |c|^2."""
corner = sp.Symbol("l", positive=True)
"""l = |y|^2 / N, the last entry of the context vector."""

SCALARS = (query_norm, task_norm, aligned, context_norm, corner)
