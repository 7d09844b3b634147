"""Numbers that others published, each with the setting it was made with, in that setting's own units."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from replica_icl.conventions import ridge_from_li, ridge_from_weight_decay
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
