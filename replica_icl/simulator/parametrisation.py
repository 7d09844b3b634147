"""What is trained: the merged weights W, or separate query and key matrices with W = W_K^T W_Q.

By the chain rule, with G = dL/dW: dL/dW_K = W_Q G^T and dL/dW_Q = W_K G. Separate matrices with weight decay wd on both
end in another minimum than the merged ones: at fixed product the decay (wd/2)(|W_Q|^2 + |W_K|^2) is least at wd times
the sum of the singular values of W, not their squares.
Source: Li et al., arXiv:2408.02288 (Fig. S1 trains separate matrices).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from replica_icl.errors import ParameterError
from replica_icl.simulator.attention import check_weights
from replica_icl.simulator.eigenmodes import initial_weights

Array = NDArray[np.float64]


class Parametrisation(Protocol):
    """A map from trained parameters, one array, to the weights W, shape (D+1, D+1)."""

    def start(self, scale: float, rng: np.random.Generator) -> Array:
        """Random parameters of a given standard deviation."""

    def check(self, parameters: ArrayLike) -> Array:
        """A copy of given parameters as float64."""

    def weights(self, parameters: Array) -> Array:
        """W."""

    def pull_back(self, parameters: Array, gradient: Array) -> Array:
        """The gradient with respect to the parameters, given that with respect to W."""


@dataclass(frozen=True)
class Merged:
    """The parameters are W."""

    D: int

    def start(self, scale: float, rng: np.random.Generator) -> Array:
        """Gaussian entries."""
        return initial_weights(self.D, scale, rng)

    def check(self, parameters: ArrayLike) -> Array:
        """Raises ParameterError for a bad W."""
        return check_weights(parameters, self.D)

    def weights(self, parameters: Array) -> Array:
        """The parameters themselves."""
        return parameters

    def pull_back(self, parameters: Array, gradient: Array) -> Array:
        """The gradient itself."""
        return gradient


@dataclass(frozen=True)
class Separate:
    """The parameters are (W_K, W_Q), shape (2, inner, D+1), and W = W_K^T W_Q has rank `inner` at most."""

    D: int
    inner: int

    def start(self, scale: float, rng: np.random.Generator) -> Array:
        """Gaussian entries of both matrices.

        Raises:
            ParameterError: scale 0, where both gradients vanish for good.
        """
        if not scale > 0:
            raise ParameterError(
                "initial_scale", scale, "must be positive for separate W_Q and W_K: at zero both gradients vanish"
            )
        return scale * rng.standard_normal((2, self.inner, self.D + 1))

    def check(self, parameters: ArrayLike) -> Array:
        """Raises ParameterError for another shape or values that are not finite."""
        array = np.array(parameters, dtype=float)
        wanted = (2, self.inner, self.D + 1)
        if array.shape != wanted or not np.isfinite(array).all():
            raise ParameterError("start", f"array of shape {array.shape}", f"must be (W_K, W_Q), {wanted}, and finite")
        return array

    def weights(self, parameters: Array) -> Array:
        """W_K^T W_Q."""
        return parameters[0].T @ parameters[1]

    def pull_back(self, parameters: Array, gradient: Array) -> Array:
        """(W_Q G^T, W_K G)."""
        return np.stack((parameters[1] @ gradient.T, parameters[0] @ gradient))


def parametrisation(D: int, inner: int | None) -> Parametrisation:
    """Merged, or separate with an inner dimension."""
    return Merged(D) if inner is None else Separate(D, inner)
