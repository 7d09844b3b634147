"""Finished pieces of long work on disk, so that what ends early goes on where it was.

A cell is a JSON object under a key, a hash of everything that decides what is in it (parameters, seed, the source of
the code), in a file of its own that is written whole and renamed. So a changed setting or program never finds an old
cell, a kill loses the cells in work and no other, and the order in which cells are finished does not matter.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from replica_icl.errors import ParameterError
from replica_icl.simulator.storage import StorageError, hold, write_whole

Cell = dict[str, Any]

PACKAGE = Path(__file__).parent


@cache
def code_version(*parts: str) -> str:
    """A hash over the source of parts of the package (names of modules or folders below it).

    Raises:
        FileNotFoundError: no such part.
    """
    digest = hashlib.sha256()
    for part in parts:
        folder, module = PACKAGE / part, PACKAGE / f"{part}.py"
        for path in sorted(folder.rglob("*.py")) if folder.is_dir() else [module]:
            digest.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def key_of(described: Mapping[str, Any]) -> str:
    """Key of what a JSON object describes; the order of its names does not matter."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:24]


class Cells:
    """A folder of cells, held by one process at a time.

    Attributes:
        folder: of the cells, made if need be.
    """

    def __init__(self, folder: str | Path) -> None:
        """Open the folder and see that it can be written.

        Raises:
            ParameterError: (`out`) no folder that can be written, or in use by another process.
        """
        self.folder = Path(folder)
        self._lock: int | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = hold(self.folder)
            write_whole(self.folder / "cells.json", {"made by": "replica_icl", "a cell": "one finished piece of work"})
        except BlockingIOError:
            raise ParameterError("out", folder, "must not be in use: another process works there") from None
        except OSError as error:
            self.close()
            raise ParameterError("out", folder, f"must be where files can be written ({error.strerror})") from None

    def close(self) -> None:
        """Let other processes have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Cells:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def read(self, key: str) -> Cell | None:
        """A finished cell, None if there is none (or something else in its place)."""
        try:
            found = json.loads(self.path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found["cell"] if isinstance(found, dict) and found.get("key") == key and "cell" in found else None

    def write(self, key: str, described: Mapping[str, Any], cell: Mapping[str, Any]) -> None:
        """Store a finished cell beside what it was made from.

        Raises:
            StorageError: it could not be written; the others are kept.
        """
        try:
            write_whole(self.path(key), {"key": key, "made from": described, "cell": cell})
        except OSError as error:
            kept = len(list(self.folder.glob("*.json"))) - 1
            raise StorageError(
                f"could not write {self.path(key)}: {error.strerror}; {kept} finished cells are kept in {self.folder}"
            ) from error

    def get(self, described: Mapping[str, Any], compute: Callable[[], Mapping[str, Any]]) -> Cell:
        """The cell of what is described, computed if it is not there, and as it reads back from the disk."""
        key = key_of(described)
        found = self.read(key)
        if found is None:
            self.write(key, described, compute())
            found = self.read(key)
        if found is None:
            raise StorageError(f"{self.path(key)} does not read back")
        return found
