"""Points by the names of their parameters, and the level that is natural for what is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from replica_icl.errors import ParameterError
from replica_icl.parameter import REQUIRED
from replica_icl.parameters import RATIOS, SETTING, Broadcasting
from replica_icl.priors import penalties_of
from replica_icl.ratios import Ratios
from replica_icl.setting import Setting


def point_of(known: Mapping[str, Any]) -> Setting | Ratios:
    """A `Setting` from raw numbers (with D), or `Ratios`; beside another penalty no ridge is a ridge of zero.

    Raises:
        ParameterError: bad numbers, or a parameter that is missing.
    """
    kind: Any = Setting if "D" in known else Ratios
    if kind is Setting and penalties_of(known):
        known = {"ridge": 0.0, **known}
    for name, parameter in (SETTING if "D" in known else RATIOS).items():
        if name not in known and parameter.default is REQUIRED:
            raise ParameterError(name, "(not given)", "is required")
    return kind(**known)


def known_of(point: Any) -> dict[str, Any]:
    """The parameters of a `Setting` or `Ratios` by name, those that are there; of parameters by name a copy.

    Raises:
        ParameterError: something else.
    """
    if isinstance(point, Mapping):
        return dict(point)
    if not isinstance(point, Broadcasting):
        raise ParameterError("point", point, "must be a Setting or Ratios")
    values = {name: getattr(point, name) for name in type(point)._table}
    return {name: value for name, value in values.items() if value is not None}
