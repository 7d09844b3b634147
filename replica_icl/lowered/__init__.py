"""Lowered functions, generated ahead of time so that a solve starts without SymPy, and their loader.

Each module carries a fingerprint of the sources that it was derived by. A module whose fingerprint is not that of the
sources beside it is never used: its ensemble is then derived again, in memory.
"""

from __future__ import annotations

import hashlib
import logging
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

_PACKAGE = Path(__file__).resolve().parent.parent
_log = logging.getLogger(__name__)


@cache
def fingerprint() -> str:
    """SHA-256 over every source that takes part in what is lowered: symbolic/, model/, theory/ and the lowering."""
    sources = [path for part in ("symbolic", "model", "theory") for path in sorted(_PACKAGE.glob(f"{part}/**/*.py"))]
    digest = hashlib.sha256()
    for source in [*sources, _PACKAGE / "lowering.py"]:
        digest.update(source.relative_to(_PACKAGE).as_posix().encode())
        digest.update(source.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


@cache
def load(ensemble: str) -> ModuleType:
    """The lowered functions of one ensemble (a module of `replica_icl.theory.PROGRAMS`).

    Falls back on a fresh derivation, which takes seconds instead of milliseconds, when the generated file is missing
    or stale.
    """
    try:
        module = import_module(f"replica_icl.lowered.{ensemble}")
        if fingerprint() == module.FINGERPRINT:
            return module
        _log.warning("the lowered functions of %s are stale (run `make lower`); deriving them again", ensemble)
    except ModuleNotFoundError:
        _log.warning("no lowered functions of %s (run `make lower`); deriving them", ensemble)
    compiled = import_module("replica_icl.lowering").compiled
    programs = import_module("replica_icl.theory").PROGRAMS
    return compiled(ensemble, programs[ensemble]())
