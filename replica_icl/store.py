"""Finished pieces of work on disk: whole or not there, noticed when damaged, found again only by the very same work.

A piece is a JSON object in a file of its own. The file is written whole under another name, flushed to the disk and
renamed, and carries a checksum of its content. Numbers are written so that they read back bit by bit, and nothing else
(no time, no machine) goes into a file. So a kill loses the pieces in work and no other, the order in which pieces are
finished does not matter, and what was run again after any accident has the same bytes.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from replica_icl.errors import ParameterError, StorageError
from replica_icl.keys import digest

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
SEAL = "sha256"

_log = logging.getLogger(__name__)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file to write to, which is renamed to `path` once it is complete and on the disk.

    Raises:
        OSError: it could not be written; what was at `path` is as it was.
    """
    part = path.with_name(path.name + ".part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def write_whole(path: Path, data: Any) -> None:
    """Write JSON whole.

    Raises:
        OSError: it could not be written; the file is as it was before.
    """
    with whole(path) as part, part.open("w", encoding="utf-8") as file:
        json.dump(data, file, indent=1, allow_nan=False)
        file.write("\n")


def write_sealed(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON object whole, with a checksum in it; errors as of `write_whole`."""
    write_whole(path, {**data, SEAL: digest(data)})


def read_sealed(path: Path, **expected: Any) -> dict[str, Any] | None:
    """The object of a sealed file, None if there is none. One that is damaged is told in the log, and is none.

    Args:
        expected: what the object must hold: the file of another piece is none of this one.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or SEAL not in data:
            raise ValueError("no sealed object")
        if data.pop(SEAL) != digest(data):
            raise ValueError("its checksum does not fit")
        if any(data.get(name) != value for name, value in expected.items()):
            raise ValueError("it belongs to another piece of work")
    except FileNotFoundError:
        return None
    except json.JSONDecodeError:
        why = "no JSON"
    except (OSError, ValueError, RecursionError) as error:
        why = getattr(error, "strerror", None) or str(error)
    else:
        return data
    _log.warning("%s is damaged (%s): it is computed again", path, why)
    return None


def as_path(out: Any, name: str = "out") -> Path:
    """What a user gave for a file or folder.

    Raises:
        ParameterError: no path.
    """
    if not isinstance(out, str | os.PathLike) or not str(out) or "\0" in str(out):
        raise ParameterError(name, repr(out), "must be the path of a file or folder")
    return Path(out)


def check_folder(out: Any) -> Path:
    """A folder that need not exist yet, in which files can be written; it is left as it was.

    Raises:
        ParameterError: (`out`) no path, or it cannot be made or written.
    """
    folder = as_path(out)
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ParameterError("out", out, f"must be a folder that can be written ({error.strerror})") from None
    finally:
        with suppress(OSError):
            for path in new:
                path.rmdir()
    return folder


def hold(folder: Path) -> int | None:
    """Lock a folder for as long as the descriptor that comes back is open; None where there are no such locks.

    Raises:
        BlockingIOError: another process holds it.
        OSError: it cannot be opened.
    """
    try:
        import fcntl
    except ImportError:  # not a Unix
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in NO_LOCKS:
            return None
        raise
    return descriptor


class Held:
    """A folder of finished pieces, held by one process at a time.

    Attributes:
        folder: of the pieces.
        pieces: what a piece is called in messages.
    """

    pieces = "cells"

    def __init__(self, folder: Path, note: str, about: Mapping[str, Any], out: Any = None) -> None:
        """Open the folder, make it if need be, and see that it can be written.

        Args:
            note: name of the file in it that says what is there.
            about: content of that file.
            out: what the user gave, named in errors (default: the folder).

        Raises:
            ParameterError: (`out`) no folder that can be written, or in use by another process.
            StorageError: the disk is full.
        """
        self.folder = folder
        self._note = folder / note
        self._new = [path for path in (folder, *folder.parents) if not path.exists()]
        self._lock: int | None = None
        out = folder if out is None else out
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = hold(folder)
            write_whole(self._note, about)
        except BlockingIOError:
            raise ParameterError("out", out, "must not be in use: another process works there") from None
        except OSError as error:
            self.close()
            if error.errno in FULL:
                raise StorageError(f"could not write to {out}: {error.strerror}") from error
            raise ParameterError("out", out, f"must be a place that can be written ({error.strerror})") from None

    def close(self) -> None:
        """Let other processes have it; where nothing was finished, leave nothing behind."""
        with suppress(OSError):
            if self._new and not any(path != self._note for path in self.folder.iterdir()):
                self._note.unlink(missing_ok=True)
                for path in self._new:
                    path.rmdir()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def put(self, path: Path, data: Mapping[str, Any], sealed: bool = True) -> None:
        """Write a file.

        Raises:
            StorageError: it could not be written; the others are kept.
        """
        try:
            (write_sealed if sealed else write_whole)(path, data)
        except OSError as error:
            kept = len([one for one in self.folder.glob("*.json") if one != self._note])
            raise StorageError(
                f"could not write {path}: {error.strerror}; {kept} finished {self.pieces} are kept in {self.folder}"
            ) from error


class Cells(Held):
    """A folder of cells: pieces under a key, a hash of everything that decides what is in them.

    That is parameters, seed, and the source and derivation of what computes them; a changed setting or program never
    finds an old cell.
    """

    def __init__(self, folder: str | Path, out: Any = None) -> None:
        """Open the folder; errors as of `Held`."""
        about = {"made by": "replica_icl", "a cell": "one finished piece of work"}
        super().__init__(as_path(folder), "cells.json", about, out)

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def read(self, described: Mapping[str, Any]) -> dict[str, Any] | None:
        """A finished cell by what it is made from, None if there is none."""
        key = digest(described, 24)
        found = read_sealed(self.path(key), key=key)
        return None if found is None else found["cell"]

    def write(self, described: Mapping[str, Any], cell: Mapping[str, Any]) -> None:
        """Store a finished cell beside what it is made from.

        Raises:
            StorageError: it could not be written; the others are kept.
        """
        key = digest(described, 24)
        self.put(self.path(key), {"key": key, "made from": described, "cell": cell})

    def get(self, described: Mapping[str, Any], compute: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The cell of what is described, computed if it is not there, and as it reads back from the disk."""
        found = self.read(described)
        if found is None:
            self.write(described, compute())
            found = self.read(described)
        if found is None:
            raise StorageError(f"{self.path(digest(described, 24))} does not read back")
        return found
