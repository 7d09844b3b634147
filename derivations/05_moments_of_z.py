"""The average of Z and of Z^2 over samples: the replicated action put to the test where nothing is continued."""

from functools import cache
from itertools import combinations_with_replacement

import numpy as np
import sympy as sp
from numpy.typing import NDArray
from scipy.special import roots_genlaguerre

from replica_icl.lowering.source import Program, compiled
from replica_icl.model.losses.squared import SquaredLoss
from replica_icl.narration.derivation import Derivation, Found, by_simulation, numerically
from replica_icl.narration.telling import tell
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.groups import multiplied_out
from replica_icl.theory.fresh_tasks import derive_fresh_tasks

derivation = Derivation(
    __file__,
    r"Moments of the partition function put to the test",
    needs=["replicated-action"],
    symbols={"Z_0": "partition function without prompts"},
)

theory = derive_fresh_tasks()


class AnyOverlaps:
    """The residual covariance of replicas whose overlaps need not be symmetric."""

    @staticmethod
    def symbols(size: int) -> tuple[list[sp.Symbol], sp.Matrix, sp.Matrix]:
        """m, Q and U."""
        Q, U = (
            sp.Matrix(size, size, lambda a, b, name=name: sp.Symbol(f"{name}_{min(a, b)}{max(a, b)}"))
            for name in ("Q", "U")
        )
        return [sp.Symbol(f"m_{a}") for a in range(size)], Q, U

    def explicit(self, size: int) -> sp.Matrix:
        m, Q, U = self.symbols(size)
        return sp.Matrix(size, size, lambda a, b: theory.covariance.entry(m[a], m[b], Q[a, b], U[a, b]))


def prompts_part(size: int) -> sp.Expr:
    """P log < det(I + b C)^(-1/2) > with every overlap free."""
    return SquaredLoss(AnyOverlaps()).explicit(size)  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------------------------------------

derivation.step(
    r"$\langle Z \rangle$ and $\langle Z^2 \rangle$ put to the test",
    r"""
    At $n = 1$ and $2$ nothing has been continued, and both sides can be computed, at $D = 4$, $N = 8$, $P = 30000$,
    $\beta = 20$, $\lambda_0 = 1/2$, relative to the partition function $Z_0$ without prompts.

    In simulation $Z$ of one sample is a Gaussian integral over the acting weights, exact; prompts are drawn token by
    token. In theory the overlaps are integrated, not extremised: without prompts the replicas are independent
    Gaussian matrices, so that the exact measure of their overlaps is sampled by drawing matrices (near the posterior,
    with the ratio of densities as weight), and the exponential of the prompts' part is averaged over it. The size is
    chosen such that the one approximation left, residuals that are Gaussian given the norms, is below the statistical
    error: its fourth moment enters $\log \langle Z^n \rangle$ with $\beta^2 / P$, while the statistical error is of
    order $\beta / \sqrt{P}$. Both are measured before anything is compared.
    """,
)

SIZE, LENGTH, PROMPTS, BETA, RIDGE = 4, 8, 30_000, 20.0, 0.5
SAMPLES, DRAWS, ORDER, SEED, Z_MAX = 120, 1200, 6, 20240805, 4.0
Array = NDArray[np.float64]


@cache
def stream(name: str) -> np.random.Generator:
    return np.random.default_rng([SEED, *name.encode()])


def draw_prompts(dim: int, length: int, count: int, rng: np.random.Generator) -> tuple[Array, ...]:
    """Task, context vector, its last entry, query and target of `count` prompts, token by token."""
    task = rng.standard_normal((count, dim))
    tokens = rng.standard_normal((count, length, dim))
    labels = np.einsum("pia,pa->pi", tokens, task) / np.sqrt(dim)
    c = np.einsum("pi,pia->pa", labels, tokens) / length
    query = rng.standard_normal((count, dim))
    return task, c, np.sum(labels**2, axis=1) / length, query, np.sum(task * query, axis=1) / np.sqrt(dim)


@cache
def simulated_log_partitions() -> Array:
    """log(Z / Z_0) of each sample, exact."""

    def one() -> float:
        _, c, corner, query, target = draw_prompts(SIZE, LENGTH, PROMPTS, stream("samples"))
        f = (np.column_stack([c, corner])[:, :, None] * query[:, None, :]).reshape(PROMPTS, -1)
        S, h = f.T @ f / PROMPTS, f.T @ target / PROMPTS
        stiffness = S + RIDGE * np.eye(len(h))
        volume = -np.linalg.slogdet(stiffness / RIDGE)[1] / 2
        return volume + BETA / 2 * (h @ np.linalg.solve(stiffness, h) - target @ target / PROMPTS)

    return np.array([one() for _ in range(SAMPLES)])


def log_mean_exp(values: Array) -> tuple[float, float]:
    """log of the mean of exp(values), and its standard error."""
    weights = np.exp(values - values.max())
    error = weights.std(ddof=1) / weights.mean() / np.sqrt(len(values))
    return float(values.max() + np.log(weights.mean())), float(error)


@cache
def lowered(size: int):  # type: ignore[no-untyped-def]
    """The prompts' part for replicas with overlaps of any value, as a NumPy function."""
    action = prompts_part(size)
    arguments = tuple(sorted(action.free_symbols, key=str))
    program = Program("prompts_part", "log of the prompts' Boltzmann factor.", arguments, {"log_weight": action})
    return compiled(f"prompts_part_{size}", [program]).prompts_part


def prompt_average(order: int):  # type: ignore[no-untyped-def]
    """< . > over the exact law of the scalars without noise: chi-squares T, omega, A and G over their means."""
    rules = []
    for dof in (SIZE, SIZE, LENGTH, SIZE - 1):
        nodes, weights = roots_genlaguerre(order, dof / 2 - 1)
        rules.append((2 * nodes / dof, weights / weights.sum()))
    T, omega, A, G = (x.ravel() for x in np.meshgrid(*(rule[0] for rule in rules), indexing="ij"))
    weight = np.prod(np.meshgrid(*(rule[1] for rule in rules), indexing="ij"), axis=0).ravel()
    aligned, norm = omega * A, omega * A**2 + omega * A * (SIZE - 1) * G / LENGTH
    return lambda integrands: tuple(x @ weight for x in multiplied_out(integrands(T, omega, aligned, norm, aligned)))


def draw_replicas(size: int, count: int) -> tuple[Array, Array]:
    """Replicas near the posterior, (count, size, D^2 + D), and the log of prior density over drawing density."""
    norm, corner = 1 + (SIZE + 1) / LENGTH, (1 + 2 / LENGTH) * (1 + 2 / SIZE)
    precision = np.concatenate([np.full(SIZE**2, RIDGE + norm / SIZE), np.full(SIZE, RIDGE + corner)]) * BETA
    centre = np.concatenate([np.eye(SIZE).ravel() / SIZE * BETA / precision[0], np.zeros(SIZE)])
    weights = centre + stream("overlaps").standard_normal((count, size, len(centre))) / np.sqrt(precision)
    ratio = 0.5 * np.sum(precision * (weights - centre) ** 2 - BETA * RIDGE * weights**2, axis=(1, 2))
    return weights, ratio + size / 2 * np.sum(np.log(BETA * RIDGE / precision))


def prompts_weight(weights: Array, order: int) -> Array:
    """The lowered action at the overlaps of the replicas."""
    size = weights.shape[1]
    block, last = weights[..., : SIZE**2], weights[..., SIZE**2 :]
    m = block[..., :: SIZE + 1].sum(axis=-1) / SIZE
    Q, U = block @ block.transpose(0, 2, 1) / SIZE, last @ last.transpose(0, 2, 1)
    pairs = list(combinations_with_replacement(range(size), 2))
    values = {f"m_{a}": m[:, a, None] for a in range(size)}
    values |= {f"{name}_{a}{b}": X[:, a, b, None] for name, X in (("Q", Q), ("U", U)) for a, b in pairs}
    found = lowered(size)(NUMPY, prompt_average(order), **values, P=PROMPTS, b=BETA / PROMPTS, rho=0.0)
    return np.ravel(found.log_weight)


@cache
def derived(size: int) -> tuple[float, float]:
    """log < (Z / Z_0)^n > of the theory and its statistical error."""
    total = []
    for _ in range(DRAWS // 100):
        weights, log_ratio = draw_replicas(size, 100)
        total.append(prompts_weight(weights, ORDER) + log_ratio)
    return log_mean_exp(np.concatenate(total))


@cache
def fourth_moments(dim: int, length: int) -> tuple[float, float, float]:
    """Exact minus Gaussian second cumulant of r^2, own; and the cross cumulant of two replicas, exact and Gaussian.

    Given weights and (c, w) a residual is Gaussian in the query, so exact fourth moments follow from contexts.
    """
    rng = stream(f"moments {dim}")
    task, c, corner, query, _ = draw_prompts(dim, length, 50_000, rng)
    T, omega = np.sum(query**2, axis=1) / dim, np.sum(task**2, axis=1) / dim
    g, a = np.sum(c * task, axis=1) / np.sqrt(dim), np.sum(c**2, axis=1)
    stiff, last = RIDGE + (1 + (dim + 1) / length) / dim, RIDGE + (1 + 2 / length) * (1 + 2 / dim)
    own, cross = [], []
    for _ in range(4):
        W = np.eye(dim) / dim / stiff + rng.standard_normal((2, dim, dim)) / np.sqrt(BETA * stiff)
        u = rng.standard_normal((2, dim)) / np.sqrt(BETA * last)
        r = [task / np.sqrt(dim) - c @ W[i] - corner[:, None] * u[i] for i in range(2)]
        exact = [[np.sum(r[i] * r[j], axis=1) for j in range(2)] for i in range(2)]
        norms = [
            [
                T * (omega - (np.trace(W[i]) + np.trace(W[j])) / dim * g + np.sum(W[i] * W[j]) / dim * a)
                + T * (u[i] @ u[j]) * corner**2
                for j in range(2)
            ]
            for i in range(2)
        ]
        own.append(np.mean([3 * np.mean(exact[i][i] ** 2 - norms[i][i] ** 2) for i in range(2)]))
        cross.append(
            [np.mean(X[0][0] * X[1][1] + 2 * X[0][1] ** 2) - X[0][0].mean() * X[1][1].mean() for X in (exact, norms)]
        )
    together = np.mean(cross, axis=0)
    return float(np.mean(own)), float(together[0]), float(together[1])


@derivation.claim(
    r"what Gaussian residuals leave out of $\log \langle Z \rangle$ and $\log \langle Z^2 \rangle$ here is below the "
    "statistical error, and falls like $1/D$ where it couples two replicas",
    by_simulation(SEED, "exact fourth moments of 50000 contexts at D = 4 and 16", long=True),
)
def gaussian_residuals_suffice() -> Found:
    own, exact, gaussian = fourth_moments(SIZE, LENGTH)
    bias = {1: BETA**2 / (8 * PROMPTS) * own}
    bias[2] = 2 * bias[1] + BETA**2 / (4 * PROMPTS) * (exact - gaussian)
    _, large_exact, large_gaussian = fourth_moments(4 * SIZE, 4 * LENGTH)
    short, shorter = 1 - exact / gaussian, 1 - large_exact / large_gaussian
    small = all(abs(bias[k]) < log_mean_exp(k * simulated_log_partitions())[1] for k in (1, 2))
    return Found(small and shorter < short / 2, f"relative error of the coupling {short:.3f} and {shorter:.3f}")


@derivation.claim(
    r"$\log \langle (Z / Z_0)^n \rangle$ of the theory is that of simulation within 4 standard errors, at $n = 1$ "
    r"and $2$",
    by_simulation(SEED, "120 samples of 30000 prompts", long=True),
)
def moments_agree() -> Found:
    shown, holds = [], True
    for k in (1, 2):
        seen, sem = log_mean_exp(k * simulated_log_partitions())
        value, error = derived(k)
        holds = holds and error < sem and abs(seen - value) < Z_MAX * np.hypot(sem, error)
        shown.append(f"n = {k}: {seen:.4f} +- {sem:.4f}, theory {value:.4f}")
    return Found(holds, "; ".join(shown))


@derivation.claim(
    r"$\log \langle Z^2 \rangle - 2 \log \langle Z \rangle$, what couples two replicas, is the variance of $\log Z$ "
    r"over "
    "samples",
    by_simulation(SEED, "the same samples, with the theory's own error of relative 1/D taken out", long=True),
)
def coupling_is_the_variance() -> Found:
    logs = simulated_log_partitions()
    seen = logs.var(ddof=1)
    sem = seen * np.sqrt(2 / (SAMPLES - 1))
    _, exact, gaussian = fourth_moments(SIZE, LENGTH)
    explained = (derived(2)[0] - 2 * derived(1)[0]) * exact / gaussian
    holds = bool(seen > Z_MAX * sem and abs(seen - explained) < Z_MAX * sem)
    return Found(holds, f"{seen:.4f} +- {sem:.4f}, theory {explained:.4f}")


@derivation.claim(
    "two more nodes of the quadrature over a prompt's scalars change the prompts' part by less than $10^{-3}$",
    numerically("20 pairs of replicas"),
)
def quadrature_suffices() -> bool:
    few, _ = draw_replicas(2, 20)
    return bool(np.abs(prompts_weight(few, ORDER) - prompts_weight(few, ORDER + 2)).max() < 1e-3)


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
