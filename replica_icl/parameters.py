"""Every parameter and every observable, declared once: name, symbol, meaning, scaling, kind, range.

`Setting` and `Ratios` are checked by this table, and the command line's options and help, the keys of grid files, the
attributes of datasets and the tables of the documentation are written from it. It holds no scaling that a number is
multiplied by: theory and simulator share it, and each puts in its own powers of D.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from replica_icl.errors import ParameterError
from replica_icl.parameter import LARGEST_REAL, LARGEST_SIZE, REQUIRED, Parameter, is_array
from replica_icl.priors import PENALTIES


def _table(*parameters: Parameter) -> Mapping[str, Parameter]:
    return {parameter.name: parameter for parameter in parameters}


_NOISE = Parameter("noise", r"\rho", "variance of the label noise, on context labels and on the target", default=0.0,
                   metavar="RHO")  # fmt: skip
_MINIMUM_NORM = Parameter(
    "minimum_norm", "", "without a ridge: the solution of least norm, where the ground state is not unique", "flag",
    default=False,
)  # fmt: skip

SETTING = _table(
    Parameter("D", "D", "token dimension", "integer", 2, LARGEST_SIZE, default=REQUIRED),
    Parameter("N", "N", "context length: labelled tokens in a prompt", "integer", 1, LARGEST_SIZE, default=REQUIRED),
    Parameter("P", "P", "number of pre-training prompts", "integer", 1, LARGEST_SIZE, default=REQUIRED),
    Parameter(
        "ridge",
        r"\lambda_0",
        "ridge, weight of |W|^2/2 in the energy (features divided by N)",
        default=REQUIRED,
        metavar="LAMBDA_0",
        other_names=("lambda_0", "field", "field_u", "lambda_u", "weight decay / 2"),
    ),
    _NOISE,
    Parameter(
        "beta",
        r"\beta",
        "inverse temperature; infinite for the ground state",
        positive=True,
        infinite=True,
        default=math.inf,
    ),
    Parameter(
        "K",
        "K",
        "number of distinct pre-training tasks; without it every prompt has its own",
        "integer",
        1,
        LARGEST_SIZE,
    ),
    _MINIMUM_NORM,
    *PENALTIES.values(),
)
"""The raw numbers of an experiment, in the order of the fields of `Setting`."""

RATIOS = _table(
    Parameter("alpha", r"\alpha", "P / D^2", positive=True, default=REQUIRED),
    Parameter("nu", r"\nu", "N / D", positive=True, default=REQUIRED),
    Parameter("lam", r"\lambda", "lambda_0 D", default=REQUIRED),
    _NOISE,
    Parameter("beta_tilde", r"\tilde\beta", "beta / D^2", positive=True, infinite=True, default=math.inf),
    Parameter("kappa", r"\kappa", "K / D", positive=True),
    _MINIMUM_NORM,
)
"""The control parameters of the thermodynamic limit, in the order of the fields of `Ratios`."""

STANDS_FOR = {"alpha": "P", "nu": "N", "kappa": "K", "lam": "ridge", "beta_tilde": "beta"}
"""Each ratio and the raw number that stands for the same quantity."""

PARAMETERS: Mapping[str, Parameter] = {**SETTING, **RATIOS}
SIZES = tuple(name for name, parameter in SETTING.items() if parameter.kind == "integer")
"""The raw numbers that are integers."""


@dataclass(frozen=True)
class Observable:
    """One observable, without units.

    Attributes:
        name: key of results, files and JSON.
        symbol: LaTeX.
        meaning: one line.
        exists: where it is there, "" for everywhere.
    """

    name: str
    symbol: str
    meaning: str
    exists: str = ""


OBSERVABLES: Mapping[str, Observable] = {
    one.name: one
    for one in (
        Observable("e_icl", r"e_\mathrm{ICL}", "mean squared error on prompts with new tasks, ground state"),
        Observable("e_idg", r"e_\mathrm{IDG}", "mean squared error on new prompts of the training tasks, ground state"),
        Observable("train_error", r"e_\mathrm{train}", "mean squared residual on the training prompts, ground state"),
        Observable("m", "m", "overlap tr(W_DD)/D"),
        Observable("q", "q", "self-overlap |W_DD|^2/D, at least m^2"),
        Observable("u", "u", "squared norm of the last row's acting weights", "finite D"),
        Observable("contrast", "c", "tr W / (|W| sqrt(D + 1)), mean over samples; m/sqrt(q) in the limit"),
        Observable("replicon", r"\Lambda", "smallest stability eigenvalue of the replica-symmetric saddle", "theory"),
        Observable("V", "V", "thermal variance of the D^2 block", "theory at finite beta"),
        Observable("V_u", "V_u", "thermal part of u", "theory at finite beta and D"),
        Observable("e_gibbs", r"e_\mathrm{Gibbs}", "squared error of a Gibbs sample, new tasks", "finite beta"),
        Observable(
            "train_gibbs", r"e_\mathrm{train,Gibbs}", "squared training residual of a Gibbs sample", "finite beta"
        ),
        Observable("log_Z", r"\log Z", "log partition function over the D (D + 1) acting weights", "finite beta and D"),
        Observable("e_icl_test", r"e'_\mathrm{ICL}", "e_icl on test contexts of another length or noise", "asked for"),
        Observable("distance", "", "|W - W_0| / |W_0| from the exact ground state W_0", "message passing"),
        Observable("iterations", "", "iterations until convergence", "message passing"),
        Observable("gap", "", "duality gap of an exact optimum, over the energy of W = 0", "exact optima"),
        Observable("entropy", "S", "log Z + beta <E>, differential entropy of the acting weights", "finite beta and D"),
    )
}

PARTS: Mapping[str, str] = {
    "mean": "mean over realisations",
    "sem": "standard error of the mean over realisations",
    "spread": "standard deviation from one sample (or task set) to another",
    "saddle": "at the saddle point, before the next order is added",
    "next_order": "what the next order of the free energy adds to the saddle point",
    "theory_error": "estimate of the theory's own error",
}
"""What stands beside the best value of an observable, which bears the plain name."""


class Broadcasting:
    """Base of `Setting` and `Ratios`: frozen fields of a table, each a number or an array, broadcast together.

    Equality and hashing are those of the numbers, arrays included. A grid holds its arrays read-only.
    """

    _table: Mapping[str, Parameter] = {}

    def _check_fields(self) -> None:
        for name, parameter in self._table.items():
            value = getattr(self, name)
            if value is None and parameter.default is None:
                continue
            if type(value).__name__ == "ndarray" and value.ndim == 0:
                value = value.item()
            object.__setattr__(self, name, _array(parameter, value) if is_array(value) else parameter.check(value))
        try:
            self.shape  # noqa: B018  (raises where shapes do not fit)
        except ValueError:
            shapes = {name: value.shape for name, value in self._arrays().items()}
            first = next(iter(shapes))
            raise ParameterError(first, shapes[first], f"arrays must broadcast; shapes are {shapes}") from None

    def _arrays(self) -> dict[str, Any]:
        return {name: value for name in self._table if getattr(value := getattr(self, name), "ndim", 0)}

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the grid that the arrays broadcast to; () for one point."""
        arrays = self._arrays()
        if not arrays:
            return ()
        import numpy as np

        return np.broadcast_shapes(*(value.shape for value in arrays.values()))

    @property
    def dimensions(self) -> tuple[str, ...]:
        """A name for each axis of the grid: of the parameters that vary along it, joined by an underscore."""
        shape, arrays = self.shape, self._arrays()
        names = []
        for axis, length in enumerate(shape):
            here = len(shape) - axis
            vary = [name for name, value in arrays.items() if value.ndim >= here and value.shape[-here] == length > 1]
            vary = vary or [name for name, value in arrays.items() if value.ndim >= here]
            name = "_".join(vary)
            names.append(name if name not in names else f"{name}_{axis}")
        return tuple(names)

    def _column(self, name: str) -> Any:
        """The values of one field on the whole grid, flat; None for an absent one."""
        value = getattr(self, name)
        if value is None:
            return None
        import numpy as np

        return np.broadcast_to(np.asarray(value), self.shape).ravel()

    def points(self) -> tuple[Any, ...]:
        """The points of the grid, the last axis fastest, each with plain numbers."""
        if not self.shape:
            return (self,)
        columns = {name: column.tolist() for name in self._table if (column := self._column(name)) is not None}
        count = math.prod(self.shape)
        return tuple(type(self)(**{name: column[i] for name, column in columns.items()}) for i in range(count))

    def point(self, *index: int) -> Any:
        """One point of the grid.

        Raises:
            IndexError: outside of the grid, or another number of indices than it has axes.
        """
        import numpy as np

        if len(index) != len(self.shape):
            raise IndexError(f"a grid of shape {self.shape} has {len(self.shape)} indices, not {len(index)}")
        values = {
            name: np.broadcast_to(np.asarray(value), self.shape)[index].item()
            for name in self._table
            if (value := getattr(self, name)) is not None
        }
        return type(self)(**values)

    def _key(self) -> tuple[Any, ...]:
        def plain(value: Any) -> Any:
            return (value.shape, tuple(value.ravel().tolist())) if getattr(value, "ndim", 0) else value

        return tuple(plain(getattr(self, name)) for name in self._table)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, type(self)) else NotImplemented

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._key()))


def _array(parameter: Parameter, value: Any) -> Any:
    """A read-only array of checked values."""
    import numpy as np

    kinds = {"integer": "iu", "flag": "b"}.get(parameter.kind, "iuf")
    each = parameter.allowed + " (or an array of them)"
    try:
        given = np.asarray(value)
    except (ValueError, OverflowError):  # rows of different lengths
        raise ParameterError(parameter.name, _short(value), each) from None
    if given.dtype == object:  # integers of any size, or no numbers at all
        try:
            given = np.array([parameter.check(x) for x in given.ravel()]).reshape(given.shape)
        except ParameterError:
            raise ParameterError(parameter.name, _short(value), each) from None
    if given.size and given.dtype.kind not in kinds:
        raise ParameterError(parameter.name, _short(value), each)
    array = given.astype({"integer": np.int64, "flag": bool}.get(parameter.kind, float))
    if parameter.kind != "flag":
        largest = parameter.most if parameter.kind == "integer" else LARGEST_REAL
        bad = np.isnan(array) | (array < parameter.least) | (parameter.positive & (array == parameter.least))
        bad |= (array > largest) & ~(np.isinf(array) & parameter.infinite)
        if bad.any():
            parameter.check(given[bad].ravel()[0].item())
    array.setflags(write=False)
    return array


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:56] + " ..."
