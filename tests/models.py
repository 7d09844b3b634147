"""Models whose lowered functions are not what was derived."""

import math
from collections.abc import Callable
from typing import Any

from replica_icl.lowering.loading import load
from replica_icl.lowering.model import Model


def changed_model(theory: str, **functions: Callable[..., Any]) -> Model:
    """The package's model with some functions of one theory replaced."""
    own = load(theory)
    changed = type("Functions", (own,), {name: staticmethod(function) for name, function in functions.items()})
    return Model(lambda name: changed if name == theory else load(name))


def times_nan(record: Any) -> Any:
    """A record with NaN in every place."""

    def broken(value: Any) -> Any:
        return tuple(map(broken, value)) if isinstance(value, tuple) else value * math.nan

    return record._make(map(broken, record))
