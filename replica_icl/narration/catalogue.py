"""The chapters of the theory by name: found without being loaded, so that a wrong name or format is refused at once.

A chapter is a script in derivations/ that defines `derivation`; it is loaded when it is read.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from replica_icl.errors import ParameterError
from replica_icl.narration.chapters import FORMATS, names, paths

if TYPE_CHECKING:
    from replica_icl.narration.derivation import Derivation


@dataclass(frozen=True)
class Chapter:
    """One chapter, found but not yet loaded.

    Attributes:
        name: as on the command line.
        path: of its script.
    """

    name: str
    path: Path

    @property
    def derivation(self) -> Derivation:
        """What the chapter tells; loading it derives everything that it shows."""
        return _load(self.path).derivation

    def render(self, format: str = "text") -> str:
        """The chapter as "text", "markdown" (MyST) or "latex" (a complete article).

        Raises:
            ParameterError: for another format, before anything is loaded.
        """
        if format not in FORMATS:
            raise ParameterError("format", format, f"must be one of {', '.join(FORMATS)}")
        from replica_icl.narration.rendering import render

        return render(self.derivation, format)


@cache
def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"replica_icl_derivations_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def derive(name: str = "fresh-tasks") -> Chapter:
    """A chapter of the theory by its name, to be rendered, checked or read step by step.

    Raises:
        ParameterError: for an unknown name.
    """
    if name not in paths():
        raise ParameterError("name", name, f"must be one of {', '.join(names())}")
    return Chapter(name, paths()[name])
