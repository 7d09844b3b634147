"""Finished realisations on disk, so that a run that ends early can go on where it was.

    DIR/simulate-KEY/experiment.json            what is simulated
    DIR/simulate-KEY/realisation-000000.json    one finished realisation each
    DIR/simulate-KEY.json                       all of them, once none is missing

KEY is a hash of setting, tasks, law, seed, algorithm and the source of the simulator, but not of the number of
realisations: more of them continue the same experiment, and a changed simulator never takes old results for its own.
A file is written whole under another name, flushed to the disk and renamed: it is there and complete, or not there.
Numbers are written so that they read back bit by bit, and nothing else (no time, no machine) goes into a file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from replica_icl.errors import ParameterError, ReplicaICLError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class StorageError(ReplicaICLError):
    """Results could not be written; what was finished before is kept."""


@cache
def model_version() -> str:
    """A hash over the source of everything that decides a simulated number."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.py"), folder.parent / "setting.py"]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def write_whole(path: Path, data: Any) -> None:
    """Write JSON whole and rename it into place.

    Raises:
        OSError: it could not be written; the file is as it was before.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8") as file:
            json.dump(data, file, indent=1, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


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
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


class Store:
    """The folder of one experiment, held by one process at a time.

    Attributes:
        folder: of the finished realisations.
        merged: the file of all of them.
    """

    def __init__(self, out: str | Path, experiment: Mapping[str, Any]) -> None:
        """Open the folder, make it if need be, and see that it can be written.

        Args:
            out: folder of any number of experiments.
            experiment: what decides the numbers, as JSON.

        Raises:
            ParameterError: no folder that can be written, or in use by another process.
            StorageError: the disk is full.
        """
        described = {**experiment, "model_version": model_version()}
        text = json.dumps(described, sort_keys=True)
        name = f"simulate-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        self.folder, self.merged = Path(out) / name, Path(out) / f"{name}.json"
        self._lock: int | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = hold(self.folder)
            write_whole(self.folder / "experiment.json", described)
        except BlockingIOError:
            raise ParameterError("out", out, "must not be in use: another process simulates this there") from None
        except OSError as error:
            self.close()
            if error.errno in FULL:
                raise StorageError(f"could not write to {out}: {error.strerror}") from error
            raise ParameterError("out", out, f"must be a folder that can be written ({error.strerror})") from None

    def close(self) -> None:
        """Let other processes have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _path(self, index: int) -> Path:
        return self.folder / f"realisation-{index:06d}.json"

    def read(self, index: int) -> dict[str, Any] | None:
        """A finished realisation, None if there is none (or something else in its place)."""
        try:
            data = json.loads(self._path(index).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return data if isinstance(data, dict) and data.get("realisation") == index and data.get("values") else None

    def write(self, index: int, data: Mapping[str, Any]) -> None:
        """Store a finished realisation.

        Raises:
            StorageError: it could not be written.
        """
        self._put(self._path(index), {"realisation": index, **data})

    def merge(self, data: Mapping[str, Any]) -> None:
        """Write the file of all realisations.

        Raises:
            StorageError: it could not be written.
        """
        self._put(self.merged, data)

    def _put(self, path: Path, data: Any) -> None:
        try:
            write_whole(path, data)
        except OSError as error:
            kept = len(list(self.folder.glob("realisation-*.json")))
            raise StorageError(
                f"could not write {path}: {error.strerror}; {kept} finished realisations are kept in {self.folder}"
            ) from error


def plain(value: Any) -> Any:
    """A frozen dataclass of numbers and names as JSON, infinity as a string."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return repr(value)
    return value if isinstance(value, str | int | float | None) else plain(asdict(value))
