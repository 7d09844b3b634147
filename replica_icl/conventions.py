"""To and from other people's units.

`Setting` is in the units of Li et al. with features divided by N; each function below says what the other convention
means physically. This module belongs to the theory's side: the simulator knows nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from replica_icl.parameter import check_real
from replica_icl.priors import refuse_penalties
from replica_icl.ratios import Ratios
from replica_icl.setting import Setting


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
        refuse_penalties(setting, "in the units of Lu et al.")
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
