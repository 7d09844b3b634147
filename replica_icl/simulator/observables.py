"""Scores of a weight matrix: test errors, exact and by fresh prompts, and overlaps.

The moments of a linear-attention context vector given its task w, with v = w/sqrt(D), sigma^2 = |v|^2 + rho and
tokens of independent symmetric entries of unit variance and excess kurtosis kappa (0 for Gaussian ones):

    E[c] = v,          E[c c^T] = (1 + 1/N) v v^T + (sigma^2/N) I + (kappa/N) diag(v^2),
    E[l] = sigma^2,    E[l^2] = sigma^4 (1 + 2/N) + (kappa/N) sum v^4,    E[l c] = sigma^2 (1 + 2/N) v + (kappa/N) v^3,

with powers taken entry by entry. They are E y x = v, E y^2 x x^T = 2 v v^T + sigma^2 I + kappa diag(v^2),
E y^3 x = 3 sigma^2 v + kappa v^3 and E y^4 = 3 sigma^4 + kappa sum v^4 of one labelled token, put together over
independent tokens. Averaged over tasks of independent symmetric entries they give a diagonal matrix G = E c~ c~^T,
that of Li et al., arXiv:2408.02288, in the Gaussian case. Queries enter by their variance alone.

Gaussian tokens of covariance S are S^(1/2) times standard normal ones: weights act on these as S^(1/2) W S^(1/2), the
last row as S^(1/2) on the query alone, and the task is S^(1/2) w. So the same moments hold for any S, and for tasks of
any covariance C they need E v v^T = S^(1/2) C S^(1/2)/D = B and E |v|^4 = (tr B)^2 + 2 tr B^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl.covariances import Covariance, Covariances
from replica_icl.errors import ParameterError
from replica_icl.setting import Setting, check_integer, check_real
from replica_icl.simulator.attention import check_weights, predictions, prompt_matrix
from replica_icl.simulator.features import FeatureSource
from replica_icl.simulator.laws import GAUSSIAN_PROMPTS, PromptLaw
from replica_icl.simulator.prompts import check_tasks, prompt_batches

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """Mean and standard error (ddof = 1) of n independent values; no standard error when n = 1."""

    mean: float
    sem: float | None
    n: int

    @classmethod
    def of(cls, values: Array) -> Estimate:
        """Estimate from values of shape (n,)."""
        n = len(values)
        sem = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else None
        return cls(float(np.mean(values)), sem, n)

    @property
    def spread(self) -> float | None:
        """Standard deviation from one realisation to another, sem sqrt(n)."""
        return None if self.sem is None else self.sem * math.sqrt(self.n)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; None for what one value does not tell."""
        return {"mean": self.mean, "sem": self.sem, "spread": self.spread, "n": self.n}

    def __float__(self) -> float:
        return self.mean


@dataclass(frozen=True)
class Overlaps:
    """Overlaps of a weight matrix, all of order one.

    Attributes:
        m: tr(W_DD)/D, overlap with the identity, the ideal one-step solution.
        q: |W_DD|^2/D, self-overlap of the D x D block, q >= m^2.
        u: |last row|^2 over its D acting entries.
        contrast: tr W/(|W| sqrt(D+1)) over the full matrix (Li, Fig. 4a), between -1 and 1; nan when W = 0.
    """

    m: float
    q: float
    u: float
    contrast: float


def context_moments(D: int, N: int, noise: float = 0.0, law: PromptLaw = GAUSSIAN_PROMPTS) -> Array:
    """Diagonal of G = E c~ c~^T over new tasks of the law, shape (D+1,), test context N and noise.

    With excess kurtoses kappa of the tokens and kappa_w of the tasks the D entries of the block are
    (1 + (D + 1 + kappa)/N + rho D/N)/D, the corner is
    (1 + 2/N) (1 + (2 + kappa_w)/D + 2 rho + rho^2) + kappa (3 + kappa_w)/(N D).
    """
    D, N = check_integer("D", D, 1), check_integer("N", N, 1)
    rho = check_real("noise", noise)
    if not isinstance(law, PromptLaw):
        raise ParameterError("law", law, "must be a PromptLaw, e.g. PromptLaw.of(law='rademacher')")
    if law.covariances.task or law.covariances.token:
        raise ParameterError("law", law.key, "must be without covariances: G is not diagonal with them")
    kappa, kappa_w = law.tokens.excess, law.tasks.excess
    moments = np.full(D + 1, (1 + (D + 1 + kappa) / N + rho * D / N) / D)
    moments[D] = (1 + 2 / N) * (1 + (2 + kappa_w) / D + 2 * rho + rho**2) + kappa * (3 + kappa_w) / (N * D)
    return moments


def icl_error(W: ArrayLike, N: int, noise: float = 0.0, law: PromptLaw = GAUSSIAN_PROMPTS, *, D: int) -> float:
    """e_ICL, mean squared error on prompts with new tasks, w ~ N(0, I) or of the law, exact for any W.

    e = 1 + rho - 2 tr(W_DD)/D + tr(W W^T G) over the acting columns of W; with covariances by `structured_error`.

    Args:
        W: shape (D+1, D+1), first index context side; the last column is ignored.
        N: context length of the test prompts, >= 1.
        noise: label noise rho of the test prompts, on context labels and target.
        law: of the test prompts and their tasks.
        D: token dimension; asked for, since a token block of shape (D, D) looks like the weights of D - 1.

    Raises:
        ParameterError: bad W, N, noise, D or law.
    """
    matrix = check_weights(W, check_integer("D", D, 2))
    if isinstance(law, PromptLaw) and (law.covariances.task or law.covariances.token):
        return structured_error(matrix, check_integer("N", N, 1), check_real("noise", noise), law.covariances)
    moments = context_moments(D, N, noise, law)
    acting = matrix[:, :D]
    return float(1 + noise - 2 * np.trace(acting) / D + moments @ np.sum(acting**2, axis=1))


def seen_by_standard_tokens(matrix: Array, token: Covariance | None) -> tuple[Array, Array]:
    """Block (D, D) and last row (D,) of the weights as they act on the standard normal entries of tokens."""
    D = len(matrix) - 1
    block, last = matrix[:D, :D], matrix[D, :D]
    return (block, last) if token is None else (token.mixed(token.mixed(block.T).T), token.mixed(last))


def structured_error(matrix: Array, N: int, noise: float, covariances: Covariances) -> float:
    """e_ICL for Gaussian tokens and new tasks of the training covariances given, exact for any W.

    With B = E v v^T and t = tr B + rho it is t - 2 tr(B A) + tr(A A^T [(1 + 1/N) B + (t/N) I]) + |a|^2 (1 + 2/N)
    (t^2 + 2 tr B^2), A and a the block and the last row as standard normal entries of tokens see them. At D = infinity
    and without the 1/N next to 1 this is the functional of Letey et al., arXiv:2509.26551.
    """
    D = len(matrix) - 1
    block, last = seen_by_standard_tokens(matrix, covariances.token)
    spread = np.eye(D) if covariances.task is None else covariances.task.matrix
    if covariances.token is not None:
        spread = covariances.token.mixed(covariances.token.mixed(spread).T)
    B = spread / D
    variance = float(np.trace(B)) + noise
    signal = float(np.sum(B * block.T))
    power = (1 + 1 / N) * float(np.sum((B @ block) * block)) + variance / N * float(np.sum(block**2))
    corner = (1 + 2 / N) * (variance**2 + 2 * float(np.sum(B**2)))
    return variance - 2 * signal + power + corner * float(last @ last)


def idg_error(W: ArrayLike, tasks: ArrayLike, N: int, noise: float = 0.0, law: PromptLaw = GAUSSIAN_PROMPTS) -> float:
    """e_IDG, mean squared error on prompts whose task is uniform over given tasks, exact for any W.

    Given w it is |w|^2/D + rho - 2 E[c~]^T A w/sqrt(D) + tr(A A^T E[c~ c~^T]), A = W[:, :D], by the moments
    above; with a token covariance for A and w as standard normal entries of the tokens see them.

    Args:
        W: shape (D+1, D+1), as in `icl_error`.
        tasks: shape (K, D).
        N: context length of the test prompts, >= 1.
        noise: label noise rho of the test prompts.
        law: of the tokens of the test prompts.

    Raises:
        ParameterError: bad W, tasks, N or noise.
    """
    matrix = check_weights(W)
    D, N, rho = len(matrix) - 1, check_integer("N", N, 1), check_real("noise", noise)
    token = law.covariances.token
    own = check_tasks(tasks, D)
    w = (own if token is None else token.mixed(own)) / math.sqrt(D)
    block, last = seen_by_standard_tokens(matrix, token)
    norm2 = np.sum(w**2, axis=1)
    variance = norm2 + rho
    back = w @ block  # rows W_DD^T w/sqrt(D)
    signal = np.sum(back * w, axis=1) + variance * (w @ last)
    power = (
        (1 + 1 / N) * np.sum(back**2, axis=1)
        + variance / N * np.sum(block**2)
        + 2 * variance * (1 + 2 / N) * (back @ last)
        + variance**2 * (1 + 2 / N) * (last @ last)
    )
    kappa = law.tokens.excess
    power += (
        kappa / N * (w**2 @ np.sum(block**2, axis=1) + 2 * (w**3 @ block @ last) + np.sum(w**4, axis=1) * (last @ last))
    )
    return float(np.mean(norm2 + rho - 2 * signal + power))


def error_by_prompts(
    W: ArrayLike,
    N: int,
    noise: float = 0.0,
    *,
    n_prompts: int = 10_000,
    seed: int = 0,
    tasks: ArrayLike | None = None,
    law: PromptLaw = GAUSSIAN_PROMPTS,
) -> Estimate:
    """Mean squared error on fresh prompts, token by token through the literal forward pass.

    It estimates `icl_error`, or with a task matrix `idg_error`.

    Args:
        W: shape (D+1, D+1).
        N: context length of the test prompts, >= 2.
        noise: label noise of the test prompts.
        n_prompts: number of prompts, >= 1.
        seed: seed of the prompts.
        tasks: shape (K, D), tasks of the prompts, drawn uniformly; None for new tasks, w ~ N(0, I) or of the law.
        law: of the prompts; they are drawn token by token whatever its sampler.

    Raises:
        ParameterError: bad input.
    """
    matrix = check_weights(W)
    count = check_integer("n_prompts", n_prompts, 1)
    setting = Setting(D=len(matrix) - 1, N=N, P=count, ridge=1.0, noise=noise)
    rng = np.random.default_rng(check_integer("seed", seed, 0))
    squared = [
        (prompts.target - predictions(prompt_matrix(prompts), matrix)) ** 2
        for prompts in prompt_batches(setting, count, rng, tasks, law)
    ]
    return Estimate.of(np.concatenate(squared))


def training_error(W: ArrayLike, features: FeatureSource) -> float:
    """(1/P) sum (y~ - y^)^2 of any W on given prompts."""
    return features.mean_squared_residual(W)


def overlaps(W: ArrayLike) -> Overlaps:
    """Overlaps of a (D+1, D+1) weight matrix.

    Raises:
        ParameterError: bad W.
    """
    matrix = check_weights(W)
    D = len(matrix) - 1
    block, last = matrix[:D, :D], matrix[D, :D]
    norm = float(np.linalg.norm(matrix))
    contrast = float(np.trace(matrix)) / (norm * math.sqrt(D + 1)) if norm > 0 else math.nan
    return Overlaps(float(np.trace(block)) / D, float(np.sum(block**2)) / D, float(last @ last), contrast)
