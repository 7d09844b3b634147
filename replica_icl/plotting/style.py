"""What each kind of data looks like (Okabe-Ito colours), and how a figure is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

THEORY_LIMIT: dict[str, Any] = {"linewidth": 1.0, "linestyle": "--"}
"""Theory in the thermodynamic limit: thin and dashed."""
THEORY_FINITE: dict[str, Any] = {"linewidth": 2.2, "linestyle": "-"}
"""Theory at finite size: thick."""
SIMULATION: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 5.5,
    "markerfacecolor": "white",
    "markeredgewidth": 1.4,
    "capsize": 2.5,
}
"""Our simulation: open circles with standard errors."""
PUBLISHED: dict[str, Any] = {
    "linestyle": "none",
    "marker": "x",
    "markersize": 6.5,
    "markeredgewidth": 1.6,
    "capsize": 2.5,
}
"""Published points: crosses with standard errors."""

BLUE, ORANGE, GREEN, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"

RC = {
    "font.size": 9,
    "axes.labelsize": 10,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.dpi": 200,
    "figure.constrained_layout.use": True,
}


def write_figure(figure: Any, folder: Path, name: str) -> list[Path]:
    """Write `figure` to folder/name.png and .pdf and close it."""
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{suffix}" for suffix in ("png", "pdf")]
    for path in paths:
        figure.savefig(path)
    plt.close(figure)
    return paths
