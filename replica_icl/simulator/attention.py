"""Linear attention with one merged weight matrix, written as a user of transformers would write it.

Source: Li et al., arXiv:2408.02288: F(Z) = (1/N) Z Z^T W Z with identity values and W = W_K^T W_Q, the
prediction read off the label slot of the query token. No statistics in here: this is the model itself,
against which the compressed features of `features.py` are tested.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl.errors import ParameterError
from replica_icl.simulator.prompts import Prompts

Array = NDArray[np.float64]


def check_weights(W: ArrayLike, D: int | None = None) -> Array:
    """Return W as a square (D+1, D+1) float64 array.

    Args:
        W: any weight matrix; it need not be symmetric and its last column, which never acts, may be anything.
        D: token dimension that W must fit; None infers it (D >= 2).

    Raises:
        ParameterError: not real, not square, wrong size or not finite.
    """
    matrix = np.asarray(W)
    if matrix.dtype.kind not in "iuf":
        raise ParameterError("W", f"array of {matrix.dtype}", "must be real numbers")
    wanted = "(D+1, D+1) with D >= 2" if D is None else f"({D + 1}, {D + 1})"
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] and matrix.shape[0] >= 3
    if not square or (D is not None and matrix.shape[0] != D + 1):
        raise ParameterError("W", f"array of shape {matrix.shape}", f"must have shape {wanted}")
    matrix = matrix.astype(np.float64)
    if not np.isfinite(matrix).all():
        raise ParameterError("W", "array with nan or inf", "must be finite")
    return matrix


def prompt_matrix(prompts: Prompts) -> Array:
    """Stack prompts into Z = [[x_1 .. x_N, x~], [y_1 .. y_N, 0]], shape (n, D+1, N+1)."""
    D, N = prompts.D, prompts.N
    Z = np.zeros((prompts.n, D + 1, N + 1))
    Z[:, :D, :N] = np.swapaxes(prompts.tokens, 1, 2)
    Z[:, D, :N] = prompts.labels
    Z[:, :D, N] = prompts.query
    return Z


def attention(Z: Array, W: ArrayLike) -> Array:
    """Linear attention F(Z) = (1/N) Z Z^T W Z.

    Args:
        Z: prompt matrices, shape (n, D+1, N+1) or (D+1, N+1); the last column is the query with label slot 0.
        W: weights, shape (D+1, D+1).

    Returns:
        F, the shape of Z. The factor is 1/N (labelled tokens), not 1/(N+1).
    """
    weights = check_weights(W, Z.shape[-2] - 1)
    N = Z.shape[-1] - 1
    return Z @ (np.swapaxes(Z, -1, -2) @ (weights @ Z)) / N


def predictions(Z: Array, W: ArrayLike) -> Array:
    """Predictions y^ = F(Z)[D, N] (label slot of the query token), shape (n,)."""
    return attention(Z, W)[..., -1, -1]


def context_vectors(Z: Array) -> Array:
    """Context side of the features, c~ = (1/N) sum_i y_i (x_i; y_i) = (c, l), shape (n, D+1).

    It is the last row of Z Z^T / N (the query has label slot 0 and does not enter), hence
    y^ = c~^T W (x~; 0).
    """
    N = Z.shape[-1] - 1
    return (Z @ Z[..., -1, :, None])[..., 0] / N
