"""The same lowered functions at any precision, one point at a time (mpmath)."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from replica_icl.lowered import load
from replica_icl.numeric.arithmetic import MpmathArithmetic


def refine_limit(
    alpha: Any,
    nu: Any,
    lam: Any,
    noise: Any = 0,
    beta_tilde: Any = None,
    digits: int = 50,
    functions: ModuleType | None = None,
) -> dict[str, Any]:
    """The limit theory at one point with `digits` decimal digits.

    Args:
        alpha, nu, lam, noise, beta_tilde: floats (taken as the binary numbers they are) or decimal strings; without
            `beta_tilde` the ground state.

    Returns:
        mpmath numbers by name: k, s, m, q, v, replicon, e_icl, train_error, contrast, and with `beta_tilde` also V,
        e_gibbs, train_gibbs and free_entropy.
    """
    functions = functions or load("fresh_tasks_limit")
    xp = MpmathArithmetic(digits)
    controls = {name: xp.number(x) for name, x in (("alpha", alpha), ("nu", nu), ("lam", lam), ("rho", noise))}
    values = functions.solution(xp, **controls)
    if beta_tilde is not None:
        order = {name: values[name] for name in ("m", "q", "v", "s")}
        values |= functions.thermal(xp, **order, e=values["e_icl"], **controls, beta_tilde=xp.number(beta_tilde))
    return values
