"""Fresh tasks in the thermodynamic limit under any weight prior, ground state, whole grids at once.

Penalties have two scales (`theory.weight_priors`): one at which they act on the D^2 off-diagonal weights, one for the D
diagonal ones. At the first an absolute value does not reach the diagonal, by 1/sqrt(D); given a dimension both act.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.errors import ParameterError
from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.priors.finite_size import MAX_ITERATIONS, TOLERANCE, classify, logs_of, named
from replica_icl.numeric.priors.fixed_point import fixed_point
from replica_icl.numeric.solution import Solution, solution_of
from replica_icl.priors import Prior
from replica_icl.ratios import Ratios

Array = NDArray[np.floating[Any]]

CHUNK = 1 << 12
"""Points that are solved as one array."""
CONTROLS = ("alpha", "nu", "noise", "lam")


def thermodynamic_penalties(prior: Prior, D: Any, model: Model | None = None) -> dict[str, Any]:
    """Penalties of order one, for off-diagonal weights by name and for diagonal ones as NAME_diagonal, from raw ones.

    Args:
        D: token dimension, a number or an array that broadcasts with the penalties.
    """
    if not prior.penalties:
        return {}
    functions = (model or LINEAR_ATTENTION).prior(type(prior))
    raw = tuple(np.asarray(value, dtype=float) for value in prior.penalties.values())
    scaled = functions.thermodynamic(NUMPY, D=np.asarray(D, dtype=float), penalties=raw)
    names = functions.PENALTIES
    return dict(zip(names, scaled.penalties, strict=True)) | {
        f"{name}_diagonal": value for name, value in zip(names, scaled.diagonal, strict=True)
    }


def solve_limit_prior(
    point: Ratios, prior: type[Prior], penalties: Mapping[str, Any], model: Model | None = None
) -> Solution:
    """Solve the limit theory under a weight prior on a whole grid of ratios at once.

    Args:
        point: alpha, nu, noise and lam, a ridge beside the prior; numbers or arrays.
        prior: class of the prior.
        penalties: of order one, by name: on off-diagonal weights (lambda_1 D^(3/2) of an absolute value), and as
            NAME_diagonal on diagonal weights (lambda_1 D; zero where absent). `thermodynamic_penalties` gives both.
        model: lowered theories; by default the package's own.

    Returns:
        Solution at level "limit", of the shape that ratios and penalties broadcast to.

    Raises:
        ParameterError: for a task diversity or a temperature, a penalty that is missing, unknown or negative, or a
            prior whose penalties have no thermodynamic scale.
    """
    if point.kappa is not None:
        raise ParameterError("kappa", point.kappa, "must be absent: under this prior the theory has fresh tasks")
    if np.any(np.isfinite(point.beta_tilde)):
        raise ParameterError("beta_tilde", point.beta_tilde, "must be inf: under this prior there is the ground state")
    model = model or LINEAR_ATTENTION
    functions = model.prior(prior)
    if not hasattr(functions, "limit_overlaps"):
        raise ParameterError("level", "limit", f"must be finite-size: penalties of {prior.__name__} have no scale in D")
    given = {**{name: getattr(point, name) for name in CONTROLS}, **_complete(prior, penalties)}
    arrays = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in given.values()))
    shape = arrays[0].shape
    flat = {name: array.ravel()[:, None] for name, array in zip(given, arrays, strict=True)}
    pieces = [
        _solve_piece(model, functions, {name: x[i : i + CHUNK] for name, x in flat.items()})
        for i in range(0, max(arrays[0].size, 1), CHUNK)
    ]
    values = {name: np.concatenate([piece[name] for piece in pieces]).reshape(shape) for name in pieces[0]}
    residual, iterations = values.pop("residual"), values.pop("iterations")
    status = classify(values, residual)
    values.pop("V")
    values["e_idg"] = values["e_icl"]
    return solution_of("limit", status, residual, iterations, values, shape)


def _complete(prior: type[Prior], penalties: Mapping[str, Any]) -> dict[str, Any]:
    """All penalties of order one, those on the diagonal zero where they are not given."""
    names = prior.penalty_names()
    allowed = {name: None for name in names} | {f"{name}_diagonal": 0.0 for name in names}
    for name, value in penalties.items():
        if name not in allowed:
            raise ParameterError(name, value, f"must be one of {', '.join(allowed)}")
        if not np.all(np.asarray(value, dtype=float) >= 0):
            raise ParameterError(name, value, "must be a number of at least 0")
    missing = [name for name in names if name not in penalties]
    if missing:
        raise ParameterError(missing[0], "absent", "must be given")
    return {**allowed, **penalties}


def _solve_piece(model: Model, functions: Any, given: dict[str, Array]) -> dict[str, Any]:
    alpha, nu, noise, lam = (given[name] for name in CONTROLS)
    names = [name for name in given if name not in CONTROLS and not name.endswith("_diagonal")]
    penalties, diagonal = (tuple(given[name + end] for name in names) for end in ("", "_diagonal"))
    prompts = model.prompt_fields

    def fields(overlaps: tuple[Array, ...], i: Any) -> Any:
        return prompts.limit_fields(NUMPY, overlaps=overlaps, alpha=alpha[i], nu=nu[i], rho=noise[i])

    def weights(logs: Array, i: Any) -> Any:
        at = tuple(np.exp(logs[:, j : j + 1]) for j in range(logs.shape[1]))
        own = named(penalties=tuple(x[i] for x in penalties), diagonal=tuple(x[i] for x in diagonal))
        return functions.limit_overlaps(NUMPY, fields=at, alpha=alpha[i], lam=lam[i], **own)

    def around(logs: Array, i: Any) -> Array:
        return logs_of(fields(weights(logs, i).overlaps, i).fields, alpha[i].shape)

    everywhere = slice(None)
    with np.errstate(all="ignore"):
        nothing = (np.zeros_like(alpha),) * len(functions.LIMIT_PARAMETERS)
        start = logs_of(fields(nothing, everywhere).fields, alpha.shape)
        solved = fixed_point(around, start, TOLERANCE, MAX_ITERATIONS)
        own = weights(solved.x, everywhere)
        found = fields(own.overlaps, everywhere)
        values = dict(zip(functions.LIMIT_PARAMETERS, own.overlaps, strict=True))
        values |= {name: getattr(found, name) for name in ("e_icl", "train_error", "contrast")}
        stability = prompts.limit_stability(NUMPY, y_tokens=found.curvature, k_tokens=own.curvature)
    values["replicon"] = stability.replicon
    flat = {name: np.broadcast_to(value, alpha.shape)[:, 0] for name, value in values.items()}
    return flat | {"residual": solved.residual, "iterations": solved.iterations}
