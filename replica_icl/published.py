"""Numbers that others published, each with the setting it was made with, beside our theory in that setting's units."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from replica_icl.conventions import ridge_from_li, ridge_from_weight_decay
from replica_icl.numeric.missing_onsager import solve_without_reaction
from replica_icl.numeric.solve import solve
from replica_icl.setting import Setting


@dataclass(frozen=True)
class PublishedPoint:
    """One published simulation result.

    Attributes:
        figure: key of the figure, e.g. "li_fig4b".
        series: key of the series, e.g. "sgd".
        observable: our name of what was measured.
        setting: the setting it was made with, in our units.
        mean: over repeats.
        sem: standard error over repeats.
        repeats: number of repeats.
    """

    figure: str
    series: str
    observable: str
    setting: Setting
    mean: float
    sem: float
    repeats: int


@cache
def table() -> dict[str, Any]:
    """The cited table as it is stored."""
    return tomllib.loads(files("replica_icl").joinpath("published.toml").read_text(encoding="utf-8"))


def li_ridge(series: str, N: int) -> float:
    """Our lambda_0 of a series of Li et al., Fig. 4(b), whose features were divided by N + 1.

    The optimiser's fixed point has half its weight decay as ridge; both are then rescaled to features divided by N.
    """
    data = table()["li_fig4b"][series]
    own = ridge_from_weight_decay(data["weight_decay"]) if "weight_decay" in data else data["ridge"]
    return ridge_from_li(own, N)


def li_fig4b(series: str) -> tuple[PublishedPoint, ...]:
    """The points of one series ("sgd" or "amp") of Li et al., Fig. 4(b): test loss against context length."""
    figure = table()["li_fig4b"]
    data = figure[series]
    return tuple(
        PublishedPoint(
            figure="li_fig4b",
            series=series,
            observable="e_icl",
            setting=Setting(D=figure["D"], N=N, P=figure["P"], ridge=li_ridge(series, N), noise=figure["noise"]),
            mean=mean,
            sem=std / math.sqrt(figure["repeats"]),
            repeats=figure["repeats"],
        )
        for N, mean, std in zip(figure["N"], data["mean"], data["std"], strict=True)
    )


@dataclass(frozen=True)
class PublishedComparison:
    """A published point beside the finite-size theory.

    Attributes:
        point: the published result.
        theory: prediction for what was run: the ground state, or the fixed point of message passing without the
            Onsager reaction for the points that were made with it.
        ground_state: the exact ground state at the same ridge.
    """

    point: PublishedPoint
    theory: float
    ground_state: float

    @property
    def z(self) -> float:
        """(published - theory) / published standard error."""
        return (self.point.mean - self.theory) / self.point.sem

    def to_dict(self) -> dict[str, Any]:
        """Plain object for JSON."""
        p = self.point
        return {
            "figure": p.figure,
            "series": p.series,
            "observable": p.observable,
            "D": p.setting.D,
            "N": p.setting.N,
            "P": p.setting.P,
            "ridge": p.setting.ridge,
            "theory": self.theory,
            "ground_state": self.ground_state,
            "published": p.mean,
            "sem": p.sem,
            "z": self.z,
        }


def against_theory() -> tuple[PublishedComparison, ...]:
    """Every published point beside the finite-size theory; nothing is fitted."""
    rows: list[PublishedComparison] = []
    for series in ("sgd", "amp"):
        points = li_fig4b(series)
        settings = [point.setting for point in points]
        ground = solve(settings).e_icl
        theory = ground if series == "sgd" else solve_without_reaction(settings).or_raise().e_icl
        rows += (PublishedComparison(p, float(t), float(g)) for p, t, g in zip(points, theory, ground, strict=True))
    return tuple(rows)


def comparison_table(rows: tuple[PublishedComparison, ...]) -> str:
    """Text table of published points against theory."""
    head = f"{'figure':<10} {'series':<6} {'N':>4} {'ridge':>9} {'theory':>9} {'published':>18} {'z':>6}"
    lines = []
    for r in rows:
        p = r.point
        line = f"{p.figure:<10} {p.series:<6} {p.setting.N:>4} {p.setting.ridge:>9.6f} {r.theory:>9.4f}"
        line += f" {p.mean:>9.4f} +- {p.sem:.4f} {r.z:>6.2f}"
        lines.append(line + (f"   (ground state {r.ground_state:.4f})" if r.theory != r.ground_state else ""))
    return "\n".join([head, *lines])
