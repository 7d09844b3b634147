"""To and from other people's units, and the ratios of the thermodynamic limit.

`Setting` is in the units of Li et al. with features divided by N; each function below says what the other convention
means physically. This module belongs to the theory's side: the simulator knows nothing of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from replica_icl.errors import ParameterError
from replica_icl.setting import Setting, check_real


def _checked(name: str, value: Any, *, positive: bool = False, infinite: bool = False) -> Any:
    """A number, or a float array of numbers, that is not NaN and not negative."""
    try:
        given = np.asarray(value)
    except ValueError:  # rows of different lengths
        raise ParameterError(name, value, "must be a number or an array of numbers") from None
    if given.ndim == 0:
        return check_real(name, given.item(), positive=positive, infinite=infinite)
    if given.dtype.kind not in "iuf":
        raise ParameterError(name, value, "must be a number or an array of numbers")
    array = given.astype(float)
    bad = np.isnan(array) | (array < 0) | ((array == 0) & positive) | (np.isinf(array) & (not infinite))
    if bad.any():
        check_real(name, float(array[bad].flat[0]), positive=positive, infinite=infinite)
    array.setflags(write=False)
    return array


@dataclass(frozen=True)
class Ratios:
    """Control parameters of the thermodynamic limit; each a number or an array, broadcast against each other.

    Attributes:
        alpha: P / D^2, pre-training prompts per weight, > 0.
        nu: N / D, context length per dimension, > 0.
        lam: lambda_0 D, the ridge at its thermodynamic scale, >= 0.
        noise: rho, variance of the label noise, >= 0.
        beta_tilde: beta / D^2, inverse temperature at its thermodynamic scale; infinity: ground state.
        kappa: K / D, task diversity; None: every prompt has its own task.
        minimum_norm: at lam = 0 below alpha = 1 the ground state is not unique; True asks for the one of least norm.

    Raises:
        ParameterError: naming the field, its value and what is allowed.
    """

    alpha: Any
    nu: Any
    lam: Any
    noise: Any = 0.0
    beta_tilde: Any = math.inf
    kappa: Any = None
    minimum_norm: bool = False

    def __post_init__(self) -> None:
        checks: dict[str, dict[str, bool]] = {
            "alpha": {"positive": True},
            "nu": {"positive": True},
            "lam": {},
            "noise": {},
            "beta_tilde": {"positive": True, "infinite": True},
        }
        if self.kappa is not None:
            checks["kappa"] = {"positive": True}
        for name, how in checks.items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), **how))
        try:
            shape = self.shape
        except ValueError:
            shapes = {f.name: np.shape(getattr(self, f.name)) for f in fields(self)}
            raise ParameterError("alpha", shapes["alpha"], f"arrays must broadcast; shapes are {shapes}") from None
        degenerate = np.broadcast_to((np.asarray(self.lam) == 0) & (np.asarray(self.alpha) < 1), shape)
        if degenerate.any() and not self.minimum_norm:
            raise ParameterError(
                "lam",
                0.0,
                "must be positive below alpha = 1: the ground state is not unique (ask for the minimum-norm "
                "solution by name, or give a ridge)",
            )
        if np.any(degenerate & np.isfinite(self.beta_tilde)):
            raise ParameterError("beta_tilde", self.beta_tilde, "must be inf at lam = 0 below alpha = 1")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the grid that the arrays broadcast to; () for one point."""
        values = (self.alpha, self.nu, self.lam, self.noise, self.beta_tilde, self.kappa)
        return np.broadcast_shapes(*(np.shape(v) for v in values if v is not None))


def ratios(setting: Setting) -> Ratios:
    """alpha = P/D^2, nu = N/D, kappa = K/D, lam = lambda_0 D and beta_tilde = beta/D^2 of a setting."""
    D = setting.D
    alpha = setting.P / D**2
    return Ratios(
        alpha=alpha,
        nu=setting.N / D,
        lam=setting.ridge * D,
        noise=setting.noise,
        beta_tilde=setting.beta / D**2,
        kappa=None if setting.K is None else setting.K / D,
        # Between D^2 and D (D + 1) prompts the limit is above its transition although the finite system is below.
        minimum_norm=setting.minimum_norm,
    )


def setting_at(point: Ratios, D: int) -> Setting:
    """The setting of dimension D with the ratios of one `point`, the inverse of `ratios`.

    Raises:
        ParameterError: if N = nu D, P = alpha D^2 or K = kappa D is no integer.
    """

    def integer(name: str, value: float) -> int:
        nearest = round(value)
        if not math.isclose(value, nearest, rel_tol=1e-9):
            raise ParameterError(name, value, f"must be an integer; at D = {D} these ratios give a fraction")
        return nearest

    return Setting(
        D=D,
        N=integer("N", point.nu * D),
        P=integer("P", point.alpha * D**2),
        ridge=point.lam / D,
        noise=point.noise,
        beta=point.beta_tilde * D**2,
        K=None if point.kappa is None else integer("K", point.kappa * D),
        minimum_norm=point.minimum_norm,
    )


def ridge_from_li(ridge: float, N: int) -> float:
    """lambda_0 of features divided by N, from a lambda_0 of features divided by N + 1 (Li et al., public code).

    Dividing by N + 1 instead of N multiplies every feature by N/(N + 1): the same prediction needs weights
    (N + 1)/N as large, so that the same ridge acts on them ((N + 1)/N)^2 times as strongly.
    """
    return check_real("ridge", ridge) * ((N + 1) / N) ** 2


def ridge_to_li(ridge: float, N: int) -> float:
    """lambda_0 of features divided by N + 1, from ours; the inverse of `ridge_from_li`."""
    return check_real("ridge", ridge) * (N / (N + 1)) ** 2


def ridge_from_weight_decay(weight_decay: float) -> float:
    """lambda_0 of the fixed point of an optimiser that adds weight_decay * W to the gradient of the plain MSE.

    Its stationary point minimises sum r^2 / P + (weight_decay/2) |W|^2, twice our energy at lambda_0 = weight_decay/2.
    This holds for SGD and for Adam with coupled decay (torch's `Adam(weight_decay=...)`), not for AdamW.
    """
    return check_real("weight_decay", weight_decay) / 2


def weight_decay_from_ridge(ridge: float) -> float:
    """Weight decay on the plain MSE with the fixed point of `ridge`; the inverse of `ridge_from_weight_decay`."""
    return 2 * check_real("ridge", ridge)


@dataclass(frozen=True)
class LuUnits:
    """A setting in the symbols of Lu et al., arXiv:2405.11751.

    Tokens there have variance 1/d and the feature matrix is the transpose of ours, which changes nothing. Their last
    feature is l x~ / sqrt(d) where ours is l x~: with a ridge the two problems differ at finite d in the last row's D
    weights, and agree in the limit and for the ridgeless solution with n > d (d + 1).

    Attributes:
        d: token dimension (our D).
        l: context length (our N).
        n: number of pre-training prompts (our P).
        k: number of distinct training tasks (our K), None for infinitely many.
        ridge: their lambda, in (n/d) lambda |Gamma|^2 beside an unnormalised sum of squares (our lambda_0 D).
        rho: label noise.
    """

    d: int
    l: int  # noqa: E741  (their symbol)
    n: int
    k: int | None
    ridge: float
    rho: float

    @classmethod
    def of(cls, setting: Setting) -> LuUnits:
        """Our setting in their symbols."""
        return cls(setting.D, setting.N, setting.P, setting.K, setting.ridge * setting.D, setting.noise)

    def setting(self) -> Setting:
        """Their setting in ours."""
        return Setting(D=self.d, N=self.l, P=self.n, K=self.k, ridge=self.ridge / self.d, noise=self.rho)


def ratios_from_lu(alpha: Any, tau: Any, kappa: Any, ridge: Any, rho: Any) -> Ratios:
    """Our ratios from Lu's: their alpha = l/d is our nu, their tau = n/d^2 our alpha; kappa and the ridge agree."""
    return Ratios(alpha=tau, nu=alpha, kappa=kappa, lam=ridge, noise=rho)


def ratios_to_lu(point: Ratios) -> dict[str, Any]:
    """Lu's (alpha, tau, kappa, ridge, rho) from our ratios; the inverse of `ratios_from_lu`."""
    return {
        "alpha": point.nu,
        "tau": point.alpha,
        "kappa": point.kappa,
        "ridge": point.lam,
        "rho": point.noise,
    }
