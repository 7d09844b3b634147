"""Finished realisations on disk, so that a run that ends early can go on where it was.

    DIR/simulate-KEY/experiment.json            what is simulated
    DIR/simulate-KEY/realisation-000000.json    one finished realisation each
    DIR/simulate-KEY.json                       all of them, once none is missing

KEY is a hash of setting, tasks, law, seed, algorithm and the source of the simulator, but not of the number of
realisations: more of them continue the same experiment, and a changed simulator never takes old results for its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from replica_icl.keys import code_version, digest
from replica_icl.store import Held, read_sealed


def model_version() -> str:
    """A hash over the source of everything that decides a simulated number."""
    return code_version("simulator", "setting", "parameter", "parameters", "priors", "options", "keys")


class Store(Held):
    """The folder of one experiment, held by one process at a time.

    Attributes:
        folder: of the finished realisations.
        merged: the file of all of them.
    """

    pieces = "realisations"

    def __init__(self, out: Path, experiment: Mapping[str, Any]) -> None:
        """Open the folder, make it if need be, and see that it can be written.

        Args:
            out: folder of any number of experiments.
            experiment: what decides the numbers, as JSON.

        Raises:
            ParameterError: no folder that can be written, or in use by another process.
            StorageError: the disk is full.
        """
        described = {**experiment, "model_version": model_version()}
        self.key = digest(described, 16)
        self.merged = out / f"simulate-{self.key}.json"
        super().__init__(out / f"simulate-{self.key}", "experiment.json", described, out)

    def finished(self, realisations: int) -> dict[int, dict[str, Any]]:
        """The realisations that are there, of the first so many, by their index."""
        found: dict[int, dict[str, Any]] = {}
        for path in sorted(self.folder.glob("realisation-*.json")):
            index = path.stem.removeprefix("realisation-")
            if index.isdecimal() and int(index) < realisations:
                one = read_sealed(path, realisation=int(index), experiment=self.key)
                if one is not None:
                    found[int(index)] = one
        return found

    def write(self, index: int, data: Mapping[str, Any]) -> None:
        """Store a finished realisation.

        Raises:
            StorageError: it could not be written.
        """
        path = self.folder / f"realisation-{index:06d}.json"
        self.put(path, {"realisation": index, "experiment": self.key, **data})

    def merge(self, data: Mapping[str, Any]) -> None:
        """Write the file of all realisations.

        Raises:
            StorageError: it could not be written.
        """
        self.put(self.merged, data, sealed=False)
