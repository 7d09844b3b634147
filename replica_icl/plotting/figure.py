"""What a figure script is made of: settings from the manifest, data, drawing, and a caption that says how far apart.

A script in `figures/` holds one `Figure`: `compute` turns settings into plain data, `draw` turns data into a picture,
`findings` says in words and numbers how far theory and simulation (and published points) are apart. The manifest
beside the scripts has the settings of each, full and quick. What a run writes: NAME.pdf, NAME.png, NAME.json (data and
settings) and NAME.md (caption). Simulated realisations and cells are kept in `cells/`: a second call continues.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replica_icl import __version__
from replica_icl.keys import as_data, code_version, digest, plain
from replica_icl.lowering.loading import derivation_version
from replica_icl.plotting import style
from replica_icl.plotting.manifest import manifest, named_figures, scripts_folder
from replica_icl.setting import Setting, check_integer
from replica_icl.simulator.ensemble import SimulatedEnsemble, simulate
from replica_icl.store import Cells, as_path, whole, write_whole

Data = dict[str, Any]

CODE = (
    *("lowering/loading", "lowering/model", "numeric", "conventions", "ratios", "priors", "covariances"),
    *("setting", "parameter", "parameters", "priors", "options", "simulator", "meeting", "cavity", "keys", "narration"),
    *("plotting/agreement", "plotting/entries", "plotting/entry_tails", "plotting/task_points"),
    "plotting/relaxed_points",
)
"""Parts of the package that decide what is in a cell, besides the derivation and the script."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One making of a figure.

    Attributes:
        name: of the figure.
        settings: of the manifest, full or quick, with the seed.
        folder: where figures go.
        cells: finished pieces of this figure.
    """

    name: str
    settings: Mapping[str, Any]
    folder: Path
    cells: Cells

    @property
    def seed(self) -> int:
        return int(self.settings["seed"])

    def simulate(self, setting: Setting, realisations: int | None = None, **how: Any) -> SimulatedEnsemble:
        """`simulate` with the figure's seed; finished realisations are kept and found again.

        Args:
            realisations: by default those of the settings.
            how: as in `simulate`.
        """
        count = self.settings["realisations"] if realisations is None else realisations
        how = {"seed": self.seed, **how}
        _log.info("%s: %d realisations of %s", self.name, count, setting)
        return simulate(setting, count, out=self.folder / "cells" / "simulations", **how)

    def cell(self, what: str, compute: Callable[[], Mapping[str, Any]], **parameters: Any) -> Data:
        """A piece of data that is computed once: keyed by its name, parameters, the seed and the package's source."""
        code = digest([code_version(*CODE), derivation_version()], 16)
        script = (scripts_folder() / f"{self.name}.py").read_text(encoding="utf-8")
        made = {"figure": self.name, "what": what, "seed": self.seed, "code": code, "script": script}
        _log.info("%s: %s %s", self.name, what, parameters or "")
        return self.cells.get({**made, **plain(parameters)}, lambda: as_data(compute()))


@dataclass(frozen=True)
class Figure:
    """A figure, as its script defines it.

    Attributes:
        name: of script and manifest entry.
        compute: settings to plain data (numbers, strings, lists and dicts of them).
        draw: data to a matplotlib figure, drawn with `style.RC`.
        findings: how far theory, simulation and published points are apart, one sentence each, the summary first.
    """

    name: str
    compute: Callable[[Run], Data]
    draw: Callable[[Data], Any]
    findings: Callable[[Data], Sequence[str]]

    def make(self, out: str | Path, quick: bool = False, seed: int | None = None) -> tuple[Path, ...]:
        """Compute, draw and caption; the paths of what was written.

        Raises:
            ParameterError: `out` cannot be written, or is in use.
        """
        entry = manifest()[self.name]
        settings = {**entry["full"], **(entry.get("quick", {}) if quick else {})}
        settings["seed"] = check_integer("seed", settings.get("seed", 0) if seed is None else seed, 0)
        folder = as_path(out)
        with Cells(folder / "cells" / self.name, out) as cells:
            data = as_data(self.compute(Run(self.name, settings, folder, cells)))
        made = {"figure": self.name, "version": __version__, "quick": quick, "settings": settings}
        findings = list(self.findings(data))
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        with plt.rc_context(style.RC):
            paths = style.write_figure(self.draw(data), folder, self.name)
        write_whole(folder / f"{self.name}.json", {**made, "findings": findings, "data": data})
        with whole(folder / f"{self.name}.md") as part:
            part.write_text(caption(self.name, made, findings), encoding="utf-8")
        return (*paths, folder / f"{self.name}.json", folder / f"{self.name}.md")


def caption(name: str, made: Mapping[str, Any], findings: Sequence[str]) -> str:
    """The caption file: what is shown, how far apart, settings, seed and version."""
    entry = manifest()[name]
    shown = ", ".join(f"{key} = {value}" for key, value in made["settings"].items())
    return "\n".join(
        [
            f"# {entry['source']}",
            "",
            entry["shows"].strip(),
            "",
            *(f"- {finding}" for finding in findings),
            "",
            f"Settings{' (quick)' if made['quick'] else ''}: {shown}. replica_icl {made['version']}.",
            "",
        ]
    )


def load_figure(name: str) -> Figure:
    """The `FIGURE` of a script.

    Raises:
        ParameterError: no such figure.
    """
    (name,) = named_figures(name)
    path = scripts_folder() / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"replica_icl_figures_{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.FIGURE


def main(figure: Figure, arguments: Sequence[str] | None = None) -> int:
    """The command line of a figure script."""
    parser = argparse.ArgumentParser(description=manifest()[figure.name]["shows"].strip())
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for picture, data and caption")
    parser.add_argument("--quick", action="store_true", help="fewer realisations and smaller sizes")
    parser.add_argument("--seed", type=int, help="of the random streams (default: that of the manifest)")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    paths = figure.make(args.out, args.quick, args.seed)
    print((args.out / f"{figure.name}.md").read_text(encoding="utf-8"))
    print("wrote " + ", ".join(str(path) for path in paths))
    return 0


def read_data(folder: str | Path, name: str) -> Data | None:
    """What an earlier run wrote to `folder`, None if there is none; what else is in its place is told in the log."""
    path = Path(folder) / f"{name}.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if isinstance(found, dict) and {"findings", "quick"} <= set(found):
        return found
    _log.warning("%s is damaged: draw the figure again", path)
    return None
