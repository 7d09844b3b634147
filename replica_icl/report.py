"""One page: every published number against our theory and our simulation, and what the differences mean.

Written as Markdown and as one HTML file with everything in it, style and pictures, so that it opens without a network.
"""

from __future__ import annotations

import base64
import html
import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from replica_icl import __version__
from replica_icl.meeting.published import FIGURES, PublishedComparison
from replica_icl.plotting.agreement import z_scores
from replica_icl.plotting.figure import read_data
from replica_icl.plotting.manifest import figure_names, manifest
from replica_icl.simulator.ensemble import simulate
from replica_icl.simulator.observables import Estimate
from replica_icl.store import whole

_log = logging.getLogger(__name__)

UNDERSTOOD = (
    "The AMP points of Li et al., Fig. 4(b), lie below the true ground state. The published message passing has no "
    "Onsager reaction: its fixed point is the ridge solution with lambda_i replaced by lambda_i - V_i/beta. The theory "
    "of that fixed point, from exact moments of the couplings, agrees with them; that of the ground state does not.",
    "Their features are divided by N + 1 in one place and by N in another. Dividing by N + 1 is dividing by N with the "
    "ridge times ((N + 1)/N)^2; the points are compared in their own units.",
    "Their optimiser minimises the mean squared error without the factor 1/2 and adds its weight decay to the "
    "gradient: its ridge is half the weight decay.",
    "Their energy landscape uses the full matrix J beside lambda_i, so that its diagonal counts twice. Ours counts it "
    "once, and then the energy is the training loss to rounding.",
    "Their curves over the densities of J and h are Gaussians with factors chosen by hand. The entries of a block fall "
    "into classes with a mean and a variance each: the mixture of Gaussians with exact moments needs no factor.",
)
NOT_UNDERSTOOD = (
    "The contrast map stored with Li et al., Fig. 4(a), is not reproduced by the settings stated with it at any single "
    "ridge.",
    "Lu et al., Fig. 1, below the transition (alpha = 0.5): the published e_ICL agrees with our energy. With the last "
    "feature scaled as their paper writes it, l x~/sqrt(d), the solution of least norm is another one and e_ICL is 2 % "
    "lower, away from the published point. Which of the two was run is not stated with the data.",
)


@dataclass(frozen=True)
class Checked:
    """A published point beside theory and our simulation of the same setting.

    Attributes:
        row: published against theory.
        simulation: of the ground state.
        reference: theory of the ground state, what the simulation is compared with.
    """

    row: PublishedComparison
    simulation: Estimate
    reference: float

    @property
    def z(self) -> float:
        """Of the simulation against the theory of the ground state, with the standard errors of both."""
        found = self.simulation
        sem = math.hypot(found.sem or 0.0, self.row.theory_sem)
        return float(z_scores(self.reference, found.mean, sem, found.n))

    def to_dict(self) -> dict[str, Any]:
        """Plain object for JSON."""
        found = self.simulation
        return {**self.row.to_dict(), "simulation": {"mean": found.mean, "sem": found.sem, "n": found.n, "z": self.z}}


@dataclass(frozen=True)
class Table:
    """A table of text."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A PNG file with what it shows."""

    path: Path
    text: str


@dataclass(frozen=True)
class Section:
    """A heading and what is below it: paragraphs, lists (tuples of strings), tables and pictures."""

    title: str
    parts: Sequence[str | tuple[str, ...] | Table | Picture]


def check_by_simulation(
    rows: Sequence[PublishedComparison], folder: Path, realisations: int, seed: int
) -> tuple[Checked, ...]:
    """Simulate every published setting; finished realisations are kept in folder/cells and found again."""
    figure_of = {row.point.setting: row.point.figure for row in rows}
    ensembles = {}
    for done, (setting, figure) in enumerate(tqdm(figure_of.items(), "simulating", disable=not sys.stderr.isatty())):
        _log.info("%d of %d settings simulated; now %s, %s", done, len(figure_of), figure, setting)
        store, how = folder / "cells" / "simulations", FIGURES[figure].simulation
        ensembles[setting] = simulate(setting, realisations, seed, out=store, **how)
    return tuple(Checked(row, ensembles[row.point.setting][row.point.observable], row.ground_state) for row in rows)


def sections(checked: Sequence[Checked], folder: Path) -> tuple[Section, ...]:
    """The page's content."""
    return (
        Section("Published numbers", (_published(checked),)),
        Section("Figures", tuple(_figures(folder))),
        Section("What we understand of the differences", (UNDERSTOOD,)),
        Section("What we do not", (NOT_UNDERSTOOD,)),
    )


def _published(checked: Sequence[Checked]) -> Table:
    head = ("figure", "series", "observable", "setting", "theory", "published", "z", "ground state", "simulation", "z")
    rows = []
    for one in checked:
        p, s, found = one.row.point, one.row.point.setting, one.simulation
        sizes = f"D = {s.D}, N = {s.N}, P = {s.P}" + ("" if s.K is None else f", K = {s.K}")
        rows.append(
            (
                p.figure,
                p.series,
                p.observable,
                f"{sizes}, ridge {s.ridge:.3g}",
                f"{one.row.theory:.4f}",
                f"{p.mean:.4f} ± {p.sem:.4f}",
                f"{one.row.z:+.1f}",
                f"{one.reference:.4f}",
                f"{found.mean:.4f} ± {found.sem or 0:.4f}",
                f"{one.z:+.1f}",
            )
        )
    return Table(head, rows)


def _figures(folder: Path) -> list[Table | Picture]:
    rows, pictures = [], []
    for name in figure_names():
        made, source = read_data(folder, name), manifest()[name]["source"]
        if made is None:
            rows.append((source, f"not drawn yet: replica-icl figure {name} --out {folder.name}"))
            continue
        rows.append((source + (" (quick)" if made["quick"] else ""), made["findings"][0]))
        picture = folder / f"{name}.png"
        if picture.is_file():
            pictures.append(Picture(picture, f"{source}. {' '.join(made['findings'])}"))
    return [Table(("figure", "how far apart"), rows), *pictures]


def markdown(content: Sequence[Section], title: str, note: str) -> str:
    """The page as Markdown; pictures are links to the files beside it."""
    lines = [f"# {title}", "", note, ""]
    for section in content:
        lines += [f"## {section.title}", ""]
        for part in section.parts:
            if isinstance(part, Table):
                lines += ["| " + " | ".join(part.head) + " |", "|" + "---|" * len(part.head)]
                lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in part.rows]
            elif isinstance(part, Picture):
                lines += [f"![{part.path.stem}]({part.path.name})", "", part.text]
            elif isinstance(part, tuple):
                lines += [f"- {item}" for item in part]
            else:
                lines.append(part)
            lines.append("")
    return "\n".join(lines)


STYLE = """
body { font: 15px/1.5 Georgia, serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
table { border-collapse: collapse; font: 13px/1.4 Menlo, Consolas, monospace; margin: 1rem 0; }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid #ccc; vertical-align: top; }
td { white-space: nowrap; } td.text { white-space: normal; }
figure { margin: 2rem 0; } img { max-width: 100%; } figcaption { font-size: 13px; color: #444; }
"""


def html_page(content: Sequence[Section], title: str, note: str) -> str:
    """The page as one HTML file."""

    def text(value: str) -> str:
        return html.escape(value)

    out = [f"<h1>{text(title)}</h1>", f"<p>{text(note)}</p>"]
    for section in content:
        out.append(f"<h2>{text(section.title)}</h2>")
        for part in section.parts:
            if isinstance(part, Table):
                head = "".join(f"<th>{text(cell)}</th>" for cell in part.head)
                rows = "".join(
                    "<tr>" + "".join(f"<td{_wrapped(cell)}>{text(cell)}</td>" for cell in row) + "</tr>"
                    for row in part.rows
                )
                out.append(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
            elif isinstance(part, Picture):
                image = base64.b64encode(part.path.read_bytes()).decode()
                source = f'<img alt="{text(part.path.stem)}" src="data:image/png;base64,{image}">'
                out.append(f"<figure>{source}<figcaption>{text(part.text)}</figcaption></figure>")
            elif isinstance(part, tuple):
                out.append("<ul>" + "".join(f"<li>{text(item)}</li>" for item in part) + "</ul>")
            else:
                out.append(f"<p>{text(part)}</p>")
    head = f'<meta charset="utf-8"><title>{text(title)}</title><style>{STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>{"".join(out)}</body></html>\n'


def _wrapped(cell: str) -> str:
    return ' class="text"' if len(cell) > 60 else ""


def write_report(checked: Sequence[Checked], folder: Path, seed: int) -> tuple[Path, Path]:
    """Write published.md and published.html to a folder; figures that were drawn there are shown."""
    title = "In-context learning in linear attention: published numbers, theory and simulation"
    published, ours = (max(abs(z) for z in column) for column in zip(*((c.row.z, c.z) for c in checked), strict=True))
    note = (
        f"{len(checked)} published numbers. Theory against them: |z| <= {published:.1f}; our simulation against the "
        f"theory of the ground state: |z| <= {ours:.1f} ({checked[0].simulation.n} realisations, seed {seed}). Nothing "
        f"is fitted. replica_icl {__version__}."
    )
    content = sections(checked, folder)
    paths = folder / "published.md", folder / "published.html"
    for path, text in zip(paths, (markdown(content, title, note), html_page(content, title, note)), strict=True):
        with whole(path) as part:
            part.write_text(text, encoding="utf-8")
    return paths
