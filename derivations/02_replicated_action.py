# %% [markdown]
# # The replicated action, and < Z^n > put to the test
#
# At an integer number of replicas nothing is mysterious: Z^n is the partition function of n copies of the
# weights, and the average over prompts couples them. We derive the average of one prompt's Boltzmann factor
# over n replicas, continue it to any n on replica-symmetric overlaps, and compare < Z > and < Z^2 > with a
# simulation at a size where both can be computed.

# %%
import numpy as np
import sympy as sp
from scipy.special import roots_genlaguerre

from replica_icl.lowering.source import Program, compiled
from replica_icl.model.losses.squared import SquaredLoss
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.symbolic import symbols as s
from replica_icl.theory.fresh_tasks import derive_fresh_tasks

theory = derive_fresh_tasks()
covariance = theory.covariance

# %% [markdown]
# ## One prompt, n replicas
#
# Given a prompt's scalars the residuals r_a of the replicas are Gaussian with covariance C, so that <
# exp(-(b/2) sum r_a^2) > = < det(I + b C)^(-1/2) > with b = beta / P. For one replica:

# %%
print(theory.energetic.explicit(1))

# %% [markdown]
# ## Any n
#
# On replica-symmetric overlaps C has one value on the diagonal and one off it. The uniform vector and the
# differences of two replicas are its eigenvectors, for every n.

# %%
diagonal, off_diagonal = sp.symbols("C_aa C_ab")
residuals = theory.energetic.covariance
(difference, many), (uniform, once) = type(residuals)(diagonal, off_diagonal).spectrum(s.replicas)
print(f"eigenvalue {difference}, {many} times;   eigenvalue {uniform}, {once} time")
print("log of the weights' volume and ridge:", theory.entropic.replica_symmetric())

# %% [markdown]
# ## A size where < Z^n > can be computed twice
#
# D = 4, N = 8, P = 30000, beta = 20, lambda_0 = 1/2. All moments are over the prior's partition function Z_0,
# the one without prompts.
#
# *Simulation.* Prompts token by token, in plain NumPy; for each set of prompts Z is a Gaussian integral over
# the D^2 + D acting weights and exact.
#
# *Theory.* Under the prior the replicas are independent Gaussian matrices. The exact measure of their
# overlaps (m_a, Q_ab, U_ab) is therefore sampled by drawing n weight matrices (from a Gaussian near the
# posterior, with the ratio of densities as weight), and exp of the energetic part is averaged over it. The
# prompt's scalars are integrated by Gauss quadrature: T, omega, A, G are independent chi-squares over their
# degrees of freedom D, D, N, D - 1, and g = l = omega A, a = omega A^2 + omega A (D - 1) G / N.
#
# *Why this size.* Treating residuals as Gaussian given the norms is right in their variance and wrong by a
# relative 1/D in their fourth moment. In log < Z^n > the fourth moment has the prefactor beta^2 / P, while
# the statistical error of M samples is of order beta / sqrt(P M). Many prompts at moderate beta make the
# first smaller than the second, while beta lambda_0 and the mean curvature are of order ten and the integral
# over overlaps is far from trivial. Both numbers are measured below before anything is compared.

# %%
D, N, P, BETA, RIDGE = 4, 8, 30_000, 20.0, 0.5
SAMPLES, DRAWS, ORDER = 120, 1200, 6
Z_MAX = 4.0
rng = np.random.default_rng(20240805)


def draw_prompts(dim, length, count):
    """Task, context vector, query and target of `count` prompts, token by token."""
    task = rng.standard_normal((count, dim))
    tokens = rng.standard_normal((count, length, dim))
    labels = np.einsum("pia,pa->pi", tokens, task) / np.sqrt(dim)
    c = np.einsum("pi,pia->pa", labels, tokens) / length
    corner = np.sum(labels**2, axis=1) / length
    query = rng.standard_normal((count, dim))
    return task, c, corner, query, np.sum(task * query, axis=1) / np.sqrt(dim)


def log_partition_ratio():
    """log(Z / Z_0) of one set of prompts, exact."""
    _, c, corner, query, target = draw_prompts(D, N, P)
    features = (np.column_stack([c, corner])[:, :, None] * query[:, None, :]).reshape(P, -1)
    S, h = features.T @ features / P, features.T @ target / P
    stiffness = S + RIDGE * np.eye(len(h))
    log_volume = -np.linalg.slogdet(stiffness / RIDGE)[1] / 2
    return log_volume + BETA / 2 * (h @ np.linalg.solve(stiffness, h) - target @ target / P)


log_Z = np.array([log_partition_ratio() for _ in range(SAMPLES)])


def log_mean_exp(values):
    """log of the mean of exp(values), and its standard error."""
    weights = np.exp(values - values.max())
    return values.max() + np.log(weights.mean()), weights.std(ddof=1) / weights.mean() / np.sqrt(len(values))


simulated = {n: log_mean_exp(n * log_Z) for n in (1, 2)}

# %% [markdown]
# ## The theory's side
#
# The energetic part is the package's own expression, `SquaredLoss.explicit(n)`, for replicas with overlaps of
# any value, lowered to a NumPy function.


# %%
class AnyOverlaps:
    """The residual covariance of replicas that need not be symmetric."""

    @staticmethod
    def symbols(n):
        m = [sp.Symbol(f"m_{a}") for a in range(n)]
        Q = [[sp.Symbol(f"Q_{min(a, b)}{max(a, b)}") for a in range(n)] for b in range(n)]
        U = [[sp.Symbol(f"U_{min(a, b)}{max(a, b)}") for a in range(n)] for b in range(n)]
        return m, Q, U

    def explicit(self, n):
        m, Q, U = self.symbols(n)
        return sp.Matrix(n, n, lambda a, b: covariance.entry(m[a], m[b], Q[a][b], U[a][b]))


any_overlaps = SquaredLoss(AnyOverlaps())
action = {n: any_overlaps.explicit(n) for n in (1, 2)}
programs = [
    Program(
        name=f"energetic_{n}",
        summary="log of the prompts' Boltzmann factor.",
        arguments=tuple(sorted(action[n].free_symbols, key=str)),
        outputs={"log_weight": action[n]},
    )
    for n in (1, 2)
]
functions = compiled("replicated_action", programs)


def chi_square_rule(dof, order):
    """Gauss nodes and weights of chi-square / dof."""
    nodes, weights = roots_genlaguerre(order, dof / 2 - 1)
    return 2 * nodes / dof, weights / weights.sum()


def prompt_average(order):
    """< . > over the exact law of a prompt's scalars at D and N, without noise."""
    rules = [chi_square_rule(dof, order) for dof in (D, D, N, D - 1)]
    T, omega, A, G = (x.ravel() for x in np.meshgrid(*(r[0] for r in rules), indexing="ij"))
    weight = np.prod(np.meshgrid(*(r[1] for r in rules), indexing="ij"), axis=0).ravel()
    aligned, norm = omega * A, omega * A**2 + omega * A * (D - 1) * G / N
    return lambda integrands: tuple(x @ weight for x in integrands(T, omega, aligned, norm, aligned))


# A Gaussian near the posterior: prior and mean curvature together, and the mean that the mean field gives.
norm_c, corner_2 = 1 + (D + 1) / N, (1 + 2 / N) * (1 + 2 / D)
precision = np.concatenate([np.full(D * D, RIDGE + norm_c / D), np.full(D, RIDGE + corner_2)]) * BETA
centre = np.concatenate([np.eye(D).ravel() / D * BETA / precision[0], np.zeros(D)])


def draw_replicas(n, count):
    """n replicas, `count` times, shape (count, n, D^2 + D), and the log of prior density over drawing density."""
    weights = centre + rng.standard_normal((count, n, len(centre))) / np.sqrt(precision)
    log_ratio = 0.5 * np.sum(precision * (weights - centre) ** 2 - BETA * RIDGE * weights**2, axis=(1, 2))
    return weights, log_ratio + n / 2 * np.sum(np.log(BETA * RIDGE / precision))


def energetic(weights, average):
    """The lowered action at the overlaps of the replicas."""
    n = weights.shape[1]
    block, last = weights[..., : D * D], weights[..., D * D :]
    m = block[..., :: D + 1].sum(axis=-1) / D
    Q, U = block @ block.transpose(0, 2, 1) / D, last @ last.transpose(0, 2, 1)
    pairs = [(a, b) for a in range(n) for b in range(a, n)]
    values = {f"m_{a}": m[:, a, None] for a in range(n)}
    values |= {f"Q_{a}{b}": Q[:, a, b, None] for a, b in pairs} | {f"U_{a}{b}": U[:, a, b, None] for a, b in pairs}
    function = getattr(functions, f"energetic_{n}")
    return np.ravel(function(NUMPY, average, **values, P=P, b=BETA / P, rho=0.0)["log_weight"])


def theory_moment(n):
    average, total = prompt_average(ORDER), []
    for _ in range(DRAWS // 100):
        weights, log_ratio = draw_replicas(n, 100)
        total.append(energetic(weights, average) + log_ratio)
    return log_mean_exp(np.concatenate(total))


derived = {n: theory_moment(n) for n in (1, 2)}

# %% [markdown]
# ## The price of Gaussian residuals
#
# Given the weights and (c, w), a residual is Gaussian in the query, so that its exact fourth moments follow
# from token-level context vectors. Their difference from the theory's is the leading bias of log < Z^n >; the
# part that couples two replicas should be off by a relative 1/D.


# %%
def fourth_moments(dim, length, count=50_000, pairs=4):
    """Exact minus Gaussian second cumulant of r^2, own; and the cross cumulant of two replicas, exact and Gaussian."""
    task, c, corner, query, _ = draw_prompts(dim, length, count)
    T, omega = np.sum(query**2, axis=1) / dim, np.sum(task**2, axis=1) / dim
    g, a = np.sum(c * task, axis=1) / np.sqrt(dim), np.sum(c**2, axis=1)
    stiff, last = RIDGE + (1 + (dim + 1) / length) / dim, RIDGE + (1 + 2 / length) * (1 + 2 / dim)
    own, cross = [], []
    for _ in range(pairs):
        W = np.eye(dim) / dim / stiff + rng.standard_normal((2, dim, dim)) / np.sqrt(BETA * stiff)
        u = rng.standard_normal((2, dim)) / np.sqrt(BETA * last)
        r = [task / np.sqrt(dim) - c @ W[i] - corner[:, None] * u[i] for i in range(2)]

        def gaussian(i, j, W=W, u=u):
            trace = (np.trace(W[i]) + np.trace(W[j])) / dim
            return T * (omega - trace * g + np.sum(W[i] * W[j]) / dim * a + u[i] @ u[j] * corner**2)

        exact = [[np.sum(r[i] * r[j], axis=1) for j in range(2)] for i in range(2)]
        norms = [[gaussian(i, j) for j in range(2)] for i in range(2)]
        own.append(np.mean([3 * np.mean(exact[i][i] ** 2 - norms[i][i] ** 2) for i in range(2)]))
        cross.append(
            [np.mean(C[0][0] * C[1][1] + 2 * C[0][1] ** 2) - C[0][0].mean() * C[1][1].mean() for C in (exact, norms)]
        )
    return np.mean(own), *np.mean(cross, axis=0)


own, cross_exact, cross_gaussian = fourth_moments(D, N)
bias = {1: BETA**2 / (8 * P) * own}
bias[2] = 2 * bias[1] + BETA**2 / (4 * P) * (cross_exact - cross_gaussian)
for n in (1, 2):
    print(f"n = {n}: bias {bias[n]:+.4f}, standard error {simulated[n][1]:.4f}")
shortfall = {}
for dim in (D, 4 * D):
    _, exact, gaussian = fourth_moments(dim, 2 * dim)
    shortfall[dim] = 1 - exact / gaussian
    print(f"D = {dim}: coupling of two replicas, relative error of the theory {shortfall[dim]:.3f}")

# %% [markdown]
# ## Comparison

# %%
for n in (1, 2):
    print(
        f"log <(Z/Z_0)^{n}>: simulation {simulated[n][0]:.4f} +- {simulated[n][1]:.4f}, "
        f"theory {derived[n][0]:.4f} +- {derived[n][1]:.4f}"
    )
coupling = log_Z.var(ddof=1)
coupling_sem = coupling * np.sqrt(2 / (SAMPLES - 1))
print(f"variance of log Z (what couples the replicas): {coupling:.4f} +- {coupling_sem:.4f}")
print(f"log <Z^2> - 2 log <Z>: theory {derived[2][0] - 2 * derived[1][0]:.4f}")

# %% [markdown]
# ## Checks
#
# The bound is four standard errors of the difference, fixed beforehand; the bias has to be below one.

# %%
for n in (1, 2):
    sem = np.hypot(simulated[n][1], derived[n][1])
    assert derived[n][1] < simulated[n][1], "the overlaps are sampled well enough"
    assert abs(bias[n]) < simulated[n][1], "the setting keeps the bias below the statistical error"
    assert abs(simulated[n][0] - derived[n][0]) < Z_MAX * sem

# The 1/D law of the coupling: four times the dimension, at least half the error less.
assert shortfall[4 * D] < shortfall[D] / 2

# What couples two replicas, with the theory's relative error in it taken out.
explained = (derived[2][0] - 2 * derived[1][0]) * cross_exact / cross_gaussian
assert coupling > Z_MAX * coupling_sem, "the replicas are visibly coupled"
assert abs(coupling - explained) < Z_MAX * coupling_sem

# Quadrature: two more nodes per scalar change nothing at the level of the statistical error.
few, _ = draw_replicas(2, 20)
assert np.abs(energetic(few, prompt_average(ORDER)) - energetic(few, prompt_average(ORDER + 2))).max() < 1e-3

# The function that was lowered is the replica-symmetric action when the overlaps are.
m, Q, U = AnyOverlaps.symbols(2)
symmetric = dict.fromkeys(m, s.m) | {Q[0][1]: s.q, U[0][1]: s.u}
symmetric |= {Q[a][a]: s.q + s.V for a in range(2)} | {U[a][a]: s.u + s.V_u for a in range(2)}
square = [(x.args[-1].args[0].integrand) ** -2 for x in (action[2].subs(symmetric), theory.energetic.explicit(2))]
assert sp.expand(square[0] - square[1]) == 0
