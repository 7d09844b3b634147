"""Covariances over samples of what has a source in the energy, at solved saddle points, and what follows from them.

Source: `theory.sample_spread`. One training set is one sample; its ground state has exact m, q, u and errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica_icl.lowering.model import Model
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.prompt_nodes import PromptNodes
from replica_icl.numeric.curvature import Curvature, columns, solved

Array = NDArray[np.floating[Any]]


def responses(curvature: Curvature, D: int) -> dict[str, dict[str, Array]]:
    """How the saddle point moves with a source in the energy for m, q, u and |W|^2, by name."""
    one = np.ones(len(curvature.V))
    # Sources act on the overlap of a replica with itself, q + V: nothing is left in d/dV - d/dq.
    pulls = {"m": {"m": -one}, "q": {"q": -one}, "u": {"u": -one}, "weight_norm": {"q": -D * one, "u": -one}}
    return {name: curvature.moved(pull) for name, pull in pulls.items()}


@dataclass(frozen=True)
class Covariance:
    """Between two groups of replicas on one sample, in the solver's units, each of shape (points,).

    Attributes:
        energy: of log Z with itself.
        with_energy: of log Z with the first source's observable.
        observables: of the two sources' observables.
    """

    energy: Array
    with_energy: Array
    observables: Array

    @classmethod
    def of(
        cls,
        model: Model,
        nodes: PromptNodes,
        arguments: dict[str, Any],
        first: Mapping[str, Array],
        second: Mapping[str, Array],
    ) -> Covariance:
        """From nodes for integrands of second degree, and the saddle point's response to each group's source."""
        functions, count = model.sample_spread, len(arguments["m"])
        directions = (tuple(move[name][:, None] for name in functions.ORDER_PARAMETERS) for move in (first, second))
        out = functions.sample_covariance(
            NUMPY, nodes.average, **arguments, **dict(zip(("first", "second"), directions, strict=True))
        )
        across = np.stack([columns(row, count) for row in out.across], axis=1)
        # The overlaps across stay stationary.
        stationary = np.sum(
            columns(out.first_across, count) * solved(across, columns(out.second_across, count)), axis=1
        )
        value, slope, mixed = columns((out.value, out.slope, out.mixed), count).T
        return cls(value, slope, mixed - stationary)


def contrast_of_samples(model: Model, nodes: PromptNodes, curvature: Curvature, arguments: dict[str, Any]) -> Array:
    """Mean over samples of the contrast less the contrast of the means: half its bends times covariances, (points,)."""
    move = responses(curvature, arguments["D"])
    functions, count = model.sample_spread, len(curvature.V)
    shared = {name: arguments[name] for name in (*functions.ORDER_PARAMETERS, "D", "P", "c", "rho")}
    mixed, twice = columns(functions.following(NUMPY, nodes.average, **shared).bends, count).T
    norm = move["weight_norm"]
    both = {name: mixed * change + twice * norm[name] / 2 for name, change in move["m"].items()}
    return Covariance.of(model, nodes, arguments, norm, both).observables
