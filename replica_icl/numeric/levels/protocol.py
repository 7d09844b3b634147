"""What a level of theory has to give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from replica_icl.numeric.solution import Solution


class Level(Protocol):
    """One level of theory.

    Attributes:
        name: on the command line and in files; label: in the legend of a figure.
        options: names of the options (`options.OPTIONS`) that act at this level.
        whole_grids: many points are solved at once; otherwise one by one.
        bias: allowance for agreement with simulation, relative to the value and times 1/D, fixed beforehand.
        log_z_bias: the same for log Z / D^2 and entropy / D^2, absolute.
        neglects: in words, what the level leaves out.
    """

    name: str
    label: str
    options: tuple[str, ...]
    whole_grids: bool
    bias: float
    log_z_bias: float
    neglects: str

    def natural(self, known: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
        """Whether parameters and options that name no level are solved here."""

    def check(self, point: Any, options: dict[str, Any]) -> None:
        """Refuse a `Setting` or `Ratios` (a point or a grid) that this level has no theory for, before any work.

        Raises:
            ParameterError: naming the parameter.
        """

    def solve(self, point: Any, *, model: Any = None, **options: Any) -> Solution:
        """Solve a point or a grid that passed `check`.

        Args:
            model: lowered theories of another forward pass; by default the package's own.
            options: out of `options`.
        """
