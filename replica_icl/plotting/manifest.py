"""The figures that there are: their scripts, and the manifest with the settings of each. Needs no NumPy."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from replica_icl.errors import ParameterError


@cache
def scripts_folder() -> Path:
    """Where the figure scripts are: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).parent.parent
    places = (package.parent / "figures", package / "figures")
    return next(place for place in places if (place / "manifest.toml").is_file())


@cache
def manifest() -> dict[str, Any]:
    """The manifest: for each figure its source, what it shows, and its settings, full and quick."""
    return tomllib.loads((scripts_folder() / "manifest.toml").read_text(encoding="utf-8"))


def figure_names() -> tuple[str, ...]:
    """The names of all figures, in the order of the manifest."""
    return tuple(manifest())


def named_figures(name: str) -> tuple[str, ...]:
    """One figure by its name, or all of them.

    Raises:
        ParameterError: no such figure.
    """
    if name == "all":
        return figure_names()
    if name not in figure_names():
        raise ParameterError("name", name, f"must be all or one of {', '.join(figure_names())}")
    return (name,)
