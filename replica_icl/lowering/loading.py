"""The lowered functions of a theory: the generated file if it is current, else derived again in memory.

A generated file names the sources that it was derived by, and carries a fingerprint of them. A file whose fingerprint
is not that of the sources beside it is never used.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent.parent
_log = logging.getLogger(__name__)


@cache
def _digest(source: Path) -> bytes:
    """SHA-256 of a source, whatever its line ends; of nothing where it is missing."""
    text = source.read_bytes().replace(b"\r\n", b"\n") if source.is_file() else b""
    return hashlib.sha256(text).digest()


def fingerprint(sources: Iterable[str], package: Path = PACKAGE) -> str:
    """SHA-256 over sources of the package, given by their paths below it.

    What they import needs no second look: a file that one of them newly imports has changed it.
    """
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.encode() + _digest(package / source))
    return digest.hexdigest()


@cache
def load(theory: str) -> Any:
    """The lowered functions of one theory (a module of `replica_icl.theory`), as its class `Functions`.

    Falls back on a fresh derivation, which takes seconds instead of milliseconds, when the generated file is missing
    or stale.
    """
    try:
        module = import_module(f"replica_icl.lowered.{theory}")
        if fingerprint(module.SOURCES) == module.FINGERPRINT:
            return module.Functions
        _log.warning("the lowered functions of %s are stale (run `make lower`); deriving them again", theory)
    except ModuleNotFoundError:
        _log.warning("no lowered functions of %s (run `make lower`); deriving them", theory)
    return derived(theory)


def derived(theory: str, attention: Any = None) -> Any:
    """The lowered functions of one theory, derived now.

    Args:
        attention: the forward pass (`model.attention.merged.Attention`), by default linear attention's.
    """
    programs = import_module(f"replica_icl.theory.{theory}").programs(attention)
    return import_module("replica_icl.lowering.source").compiled(theory, programs)
