"""Where a sweep may write its dataset, known before anything is computed or imported for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from replica_icl.errors import ParameterError
from replica_icl.store import as_path

NETCDF = b"CDF"
"""First bytes of a netCDF file of the format that is written."""


def new_file(out: Any) -> Path:
    """The file to write, which must be a new one, or a dataset that takes the place of an older one.

    Raises:
        ParameterError: (`out`) a folder, or a file that no sweep wrote.
    """
    path = as_path(out)
    if path.is_dir():
        raise ParameterError("out", out, "must be a file, not a folder")
    if path.exists() and not _replaceable(path):
        wanted = "must be a new file, or a dataset that a sweep wrote: what is there would be lost"
        raise ParameterError("out", out, wanted)
    return path


def _replaceable(path: Path) -> bool:
    """Whether nothing is lost with a file: it is empty, or a dataset of ours."""
    try:
        with path.open("rb") as file:
            begin = file.read(len(NETCDF))
    except OSError:
        return False
    if begin != NETCDF:
        return not begin
    from replica_icl.sweep.dataset import read_dataset

    try:
        read_dataset(path)
    except ParameterError:
        return False
    return True
