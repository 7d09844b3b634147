"""The same lowered functions at any precision, one point at a time (mpmath)."""

from __future__ import annotations

from typing import Any

from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import MpmathArithmetic


def refine_limit(
    alpha: Any,
    nu: Any,
    lam: Any,
    noise: Any = 0,
    beta_tilde: Any = None,
    digits: int = 50,
    model: Model | None = None,
) -> dict[str, Any]:
    """The limit theory at one point with `digits` decimal digits.

    Args:
        alpha, nu, lam, noise, beta_tilde: floats (taken as the binary numbers they are) or decimal strings; without
            `beta_tilde` the ground state.
        model: lowered theories; by default the package's own.

    Returns:
        mpmath numbers by name: k, s, m, q, v, replicon, e_icl, train_error, contrast, and with `beta_tilde` also V,
        e_gibbs, train_gibbs and free_entropy.
    """
    functions = (model or LINEAR_ATTENTION).fresh_tasks_limit
    xp = MpmathArithmetic(digits)
    controls = {name: xp.number(x) for name, x in (("alpha", alpha), ("nu", nu), ("lam", lam), ("rho", noise))}
    found = functions.solution(xp, **controls)
    if beta_tilde is None:
        return found._asdict()
    order = {"m": found.m, "q": found.q, "v": found.v, "s": found.s}
    warm = functions.thermal(xp, **order, e=found.e_icl, **controls, beta_tilde=xp.number(beta_tilde))
    return found._asdict() | warm._asdict()
