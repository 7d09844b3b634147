"""What theory and simulation answer with, read alike: `answer["e_icl"]` or `answer.e_icl`, a table, a dataset.

An answer belongs to parameters, one point or a grid. Its axes are named by the parameters that vary along them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from replica_icl.citations import References
from replica_icl.errors import ParameterError
from replica_icl.parameters import OBSERVABLES, PARAMETERS, PARTS, Broadcasting

if TYPE_CHECKING:
    import xarray


class Answer:
    """Base of what `solve` and `simulate` return.

    Attributes:
        parameters: the `Setting` or `Ratios` that the answer is of.
    """

    parameters: Broadcasting

    def names(self) -> tuple[str, ...]:
        """The observables that are there."""
        raise AttributeError("names")

    def columns(self) -> dict[str, Any]:
        """Every number of the answer by name, each of the shape of the parameters; observable_PART for its parts."""
        raise AttributeError("columns")

    def rests_on(self) -> tuple[str, ...]:
        """What it was made with, in the words of `citations.RESTS_ON`."""
        raise AttributeError("rests_on")

    def references(self) -> References:
        """What to cite for it, with BibTeX, and the chapters that derive it."""
        return References.of(self.rests_on())

    def _value(self, name: str) -> Any:
        raise AttributeError("_value")

    def __getitem__(self, name: str) -> Any:
        """One observable.

        Raises:
            KeyError: it is not there, with those that are.
        """
        if name not in self.names():
            raise KeyError(f"{name} is not there; there are {', '.join(self.names())}")
        return self._value(name)

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __getattr__(self, name: str) -> Any:
        """An observable; None for one that this answer does not have."""
        if name in OBSERVABLES:
            return self._value(name) if name in self.names() else None
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.names()})

    def to_xarray(self) -> xarray.Dataset:
        """A dataset whose dimensions are named by the parameters that were arrays, with symbols and meanings."""
        import numpy as np
        import xarray

        dimensions = self.parameters.dimensions
        shape = self.parameters.shape
        variables = {
            name: (dimensions, np.broadcast_to(np.asarray(value), shape), described(name))
            for name, value in self.columns().items()
        }
        coordinates = {
            name: coordinate(name, *_own_axes(value, dimensions))
            for name in type(self.parameters)._table
            if (value := getattr(self.parameters, name)) is not None
        }
        return xarray.Dataset(variables, coordinates, self._attributes())

    def _attributes(self) -> dict[str, Any]:
        from replica_icl import __version__

        return {"replica_icl_version": __version__}

    def _content(self) -> tuple[Any, ...]:
        """What equality and the hash go by."""
        return (self.parameters, *((name, _plain(value)) for name, value in self.columns().items()))

    def __eq__(self, other: object) -> bool:
        return self._content() == other._content() if isinstance(other, type(self)) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._content()))


def _plain(value: Any) -> Any:
    """A hashable copy of numbers in which NaN equals itself."""
    if getattr(value, "ndim", 0):
        return (value.shape, tuple(_plain(x) for x in value.ravel().tolist()))
    return "nan" if value != value else value


def _own_axes(value: Any, dimensions: tuple[str, ...]) -> tuple[tuple[str, ...], Any]:
    """The dimensions along which a parameter varies, and its values there."""
    import numpy as np

    array = np.asarray(value)
    own = dimensions[len(dimensions) - array.ndim :]
    keep = [axis for axis, length in enumerate(array.shape) if length > 1]
    return tuple(own[axis] for axis in keep), array.reshape([array.shape[axis] for axis in keep])


def coordinate(name: str, dimensions: Any, values: Any) -> Any:
    """A parameter as a coordinate of a dataset: dimensions, values in types that netCDF has, attributes."""
    import numpy as np

    array = np.asarray(values)
    if array.dtype.kind == "b":
        array = array.astype(np.int8)
    elif array.dtype.kind in "iu" and np.max(np.abs(array), initial=0) > 2**31 - 1:
        array = array.astype(float)  # the file format has no larger integers
    elif array.dtype.kind in "iu":
        array = array.astype(np.int32)
    parameter = PARAMETERS[name]
    return dimensions, array, {"long_name": parameter.meaning, "symbol": parameter.symbol, "units": "1"}


APART: Mapping[str, Mapping[str, Any]] = {
    "n": {"long_name": "number of realisations", "units": "1"},
    "draws": {"long_name": "number of task sets", "units": "1"},
    "residual": {"long_name": "largest relative imbalance of the saddle-point equations", "units": "1"},
    "iterations": {"long_name": "iterations of the solver; 0 for a closed form", "units": "1"},
    "simulation_status": {
        "long_name": "whether the point was simulated", "flag_values": [0, 1], "flag_meanings": "done failed",
    },
}  # fmt: skip
"""What a dataset holds beside observables and their parts."""


def described(name: str) -> dict[str, Any]:
    """Attributes of a variable of a dataset, from the one table.

    Raises:
        ParameterError: no such variable.
    """
    if name in ("status", "next_order_status"):
        from replica_icl.status import NextOrderStatus, Status

        of_solve = name == "status"
        kind: type[IntEnum] = Status if of_solve else NextOrderStatus
        meaning = "how the solve ended" if of_solve else "whether the next order is in the values"
        flags = {"flag_values": [int(x) for x in kind], "flag_meanings": " ".join(x.name.lower() for x in kind)}
        return {"long_name": meaning, **flags}
    if name in APART:
        return dict(APART[name])
    part = next((part for part in PARTS if name.endswith(f"_{part}")), None)
    base = name if part is None else name.removesuffix(f"_{part}")
    if base not in OBSERVABLES:
        raise ParameterError("name", name, "must be an observable or a part of one")
    one = OBSERVABLES[base]
    long_name = one.meaning if part is None else f"{PARTS[part]} of: {one.meaning}"
    return {"long_name": long_name, "symbol": one.symbol, "units": "1"}


def shown(value: Any) -> str:
    """A number, or several by name, in a line of text; what is not there is "unknown"."""
    if value is None:
        return "unknown"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {shown(x)}" for name, x in value.items())
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def lines(columns: Mapping[str, list[str]], left: int = 1) -> str:
    """A text table of columns of equal length under their titles, the first `left` of them aligned to the left."""
    widths = [max(len(title), *map(len, cells)) if cells else len(title) for title, cells in columns.items()]
    rows = [list(columns), *map(list, zip(*columns.values(), strict=True))]
    text = []
    for row in rows:
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)
