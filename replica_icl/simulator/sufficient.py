"""Prompts from their sufficient statistics: the exact law of (c~, x~, y~) in O(D) numbers, for any N and noise.

Given the task w, with s^2 = |w|^2/D and sigma^2 = s^2 + rho, labels and Gaussian tokens are jointly Gaussian, so

    |y|^2 = sigma^2 chi^2_N,     x_i = y_i w/(sqrt(D) sigma^2) + r_i,     r_i independent of y,

and the regression residual r_i ~ N(0, I - w w^T/(D sigma^2)) has variance 1 across w and rho/sigma^2 along it.
The sum c = (1/N) sum_i y_i x_i is then, for a unit vector u = w/|w| and g ~ N(0, I_D),

    c = (|y|^2/N) w/(sqrt(D) sigma^2) + (|y|/N) [ g - (1 - sqrt(rho)/sigma) (g.u) u ],     l = |y|^2/N.

One chi-square and D Gaussians replace the N (D + 1) numbers of a context. Nothing is asymptotic.

Tokens of covariance S are S^(1/2) times standard normal ones, whose labels have the task S^(1/2) w: so c, of that task,
and the query are multiplied by S^(1/2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import ParameterError
from replica_icl.setting import Setting
from replica_icl.simulator.laws import GAUSSIAN, GAUSSIAN_PROMPTS, PromptLaw

Array = NDArray[np.float64]


def draw_contexts(tasks: Array, N: int, noise: float, rng: np.random.Generator) -> Array:
    """Draw one context vector c~ = (c, l) for each task, without its N tokens.

    Args:
        tasks: w, one row for each prompt, shape (n, D); a zero task is allowed.
        N: context length, >= 1.
        noise: label noise rho.
        rng: advanced by n chi-squares, then n D Gaussians.

    Returns:
        c~, shape (n, D+1).
    """
    n, D = tasks.shape
    norm2 = np.einsum("ij,ij->i", tasks, tasks)
    variance = norm2 / D + noise
    chi2 = rng.chisquare(N, n)
    context = np.empty((n, D + 1))
    across = context[:, :D]
    rng.standard_normal(out=(normal := np.empty((n, D))))
    labels_norm = np.sqrt(variance * chi2)
    # Along the task: mean |y|^2/(N sqrt(D) sigma^2), and the residual's Gaussian shrunk to sqrt(rho)/sigma.
    kept = np.sqrt(np.divide(noise, variance, out=np.ones(n), where=variance > 0))
    along = np.divide(np.einsum("ij,ij->i", normal, tasks), norm2, out=np.zeros(n), where=norm2 > 0)
    coefficient = chi2 / np.sqrt(D) - labels_norm * (1 - kept) * along
    np.multiply(normal, (labels_norm / N)[:, None], out=across)
    across += (coefficient / N)[:, None] * tasks
    context[:, D] = variance * chi2 / N
    return context


def draw_statistics(
    setting: Setting,
    n: int,
    rng: np.random.Generator,
    tasks: Array | None,
    law: PromptLaw = GAUSSIAN_PROMPTS,
    first: int = 0,
) -> tuple[Array, Array, Array]:
    """Draw n prompts as (c~, x~, y~) in the order task, context, query, target noise.

    Args:
        setting: D, N and noise are used.
        n: number of prompts.
        rng: source of randomness.
        tasks: (K, D) training tasks, of which each prompt takes one as the law says; None: a fresh task per prompt.
        law: its task law is used for fresh tasks; its tokens must be Gaussian.
        first: number of the first prompt, as in `prompts.prompt_batches`.

    Returns:
        Context (n, D+1), query (n, D) and target (n,), as in `features.Features`.

    Raises:
        ParameterError: tokens that are not Gaussian.
    """
    if law.tokens != GAUSSIAN:
        raise ParameterError("law", law.tokens, "must be gaussian to draw prompts from sufficient statistics")
    D = setting.D
    own = law.draw_fresh_tasks(rng, n, D) if tasks is None else tasks[law.assigned(rng, len(tasks), first, n)]
    covariance = law.covariances.token
    seen = own if covariance is None else covariance.mixed(own)
    context = draw_contexts(seen, setting.N, setting.noise, rng)
    if covariance is not None:
        context[:, :D] = covariance.mixed(context[:, :D])
    query = law.draw_tokens(rng, (n, D))
    target = np.einsum("ij,ij->i", own, query) / np.sqrt(D)
    if setting.noise > 0:
        target += np.sqrt(setting.noise) * rng.standard_normal(n)
    return context, query, target
