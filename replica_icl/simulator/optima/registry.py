"""The simulator's half of the weight priors: who finds the exact optimum under a prior, by the prior's name."""

from __future__ import annotations

from collections.abc import Callable

from replica_icl.errors import ParameterError
from replica_icl.priors import Prior
from replica_icl.simulator.optima.descent import Optimum
from replica_icl.simulator.optima.laplace import laplace_optimum

Minimiser = Callable[..., Optimum]
"""(features, ridge=..., penalties by the names of the prior's fields) -> the weights of least energy,
(1/2P) sum r^2 + (ridge/2) |W|^2 + the prior's penalty, with a duality gap."""

MINIMISERS: dict[str, Minimiser] = {"laplace": laplace_optimum}
"""Name of a prior -> its minimiser. One of a prior defined elsewhere is added with `register`."""


def register(name: str, minimiser: Minimiser) -> None:
    """Make the exact optimum under a prior of your own known to `simulate` and `validate`.

    Raises:
        ParameterError: no name, or that of another prior.
    """
    if not name or MINIMISERS.get(name, minimiser) is not minimiser:
        raise ParameterError("name", name, "must be a name that no other prior has")
    MINIMISERS[name] = minimiser


def registered(prior: Prior | None) -> Minimiser | None:
    """Who finds the optimum under a prior, None if nobody does."""
    return None if prior is None else MINIMISERS.get(prior.name)


def minimiser_of(prior: Prior) -> Minimiser:
    """Who finds the optimum under a prior.

    Raises:
        ParameterError: nobody.
    """
    found = registered(prior)
    if found is None:
        advice = f"must be one with a minimiser ({', '.join(MINIMISERS)}); `optima.registry.register` adds one"
        raise ParameterError("prior", prior.shown, advice)
    return found
