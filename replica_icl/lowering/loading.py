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

from replica_icl.keys import code_version, digest

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
    found = hashlib.sha256()
    for source in sources:
        found.update(source.encode() + _digest(package / source))
    return found.hexdigest()


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


@cache
def derivation_version() -> str:
    """A hash that names the lowered functions of all theories; numbers that are stored are keyed by it.

    Of the text of the functions, so that a comment in a derivation makes no other derivation; while one of them is
    stale or missing, of every source that it can be derived from.
    """
    texts = []
    for theory in import_module("replica_icl.theory").THEORIES:
        try:
            module = import_module(f"replica_icl.lowered.{theory}")
        except ModuleNotFoundError:
            module = None
        if module is None or fingerprint(module.SOURCES) != module.FINGERPRINT:
            return code_version("symbolic", "model", "theory", "lowering")
        texts.append(functions_text(Path(str(module.__file__)).read_text(encoding="utf-8")))
    return digest(texts, 16)


def functions_text(source: str) -> str:
    """Of a generated file what is lowered, without the sources and their fingerprint."""
    return source.partition("\nFINGERPRINT = ")[2].partition("\n")[2]


def derived(theory: str, attention: Any = None) -> Any:
    """The lowered functions of one theory, derived now.

    Args:
        attention: the forward pass (`model.attention.merged.Attention`), by default linear attention's.
    """
    programs = import_module(f"replica_icl.theory.{theory}").programs(attention)
    return import_module("replica_icl.lowering.source").compiled(theory, programs)


@cache
def derived_prior(prior: Any) -> Any:
    """The lowered functions of a weight prior from outside the package, derived now, once.

    Args:
        prior: its class (see `replica_icl.priors`).
    """
    programs = import_module("replica_icl.theory.weight_priors").programs_of_declared(prior)
    return import_module("replica_icl.lowering.source").compiled(f"prior_{prior.__name__}", programs)
