"""Where the chapters are and what they are called; nothing of them is loaded here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

FORMATS = ("text", "markdown", "latex")


def chapters_folder() -> Path:
    """Where the chapters are: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).parent.parent
    places = (package.parent / "derivations", package / "derivations")
    return next(place for place in places if place.is_dir())


def number_and_name(path: str | Path) -> tuple[int, str]:
    """Number and name of a chapter, from the name of its file: "04_fresh_tasks.py" is (4, "fresh-tasks")."""
    number, _, name = Path(path).stem.partition("_")
    return int(number), name.replace("_", "-")


@cache
def paths() -> Mapping[str, Path]:
    """Name -> script of every chapter, in reading order."""
    return {number_and_name(path)[1]: path for path in sorted(chapters_folder().glob("[0-9][0-9]_*.py"))}


def names() -> tuple[str, ...]:
    """Names of the chapters, in reading order."""
    return tuple(paths())
