"""What each kind of data looks like (Okabe-Ito colours), and how a figure is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"

THEORY: dict[str, tuple[str, dict[str, Any]]] = {
    "limit": ("theory, limit", {"color": GREY, "linewidth": 1.0, "linestyle": "--"}),
    "finite size": ("theory, finite size", {"color": BLUE, "linewidth": 2.2, "alpha": 0.75}),
    "without reaction": (
        "theory, no Onsager reaction",
        {"color": ORANGE, "linewidth": 2.2, "linestyle": "-", "alpha": 0.75},
    ),
}
"""Level of theory -> label and line: the limit thin and dashed, finite size thick."""

SIMULATION: dict[str, Any] = {
    "color": GREEN,
    "linestyle": "none",
    "marker": "o",
    "markersize": 5.5,
    "markerfacecolor": "white",
    "markeredgewidth": 1.4,
    "capsize": 2.5,
}
"""Our simulation: open circles with standard errors."""

PUBLISHED: dict[str, Any] = {
    "color": "black",
    "linestyle": "none",
    "marker": "x",
    "markersize": 6.0,
    "markeredgewidth": 1.5,
    "capsize": 2.5,
}
"""Published points: crosses with standard errors."""

MESSAGES: dict[str, Any] = {**SIMULATION, "color": ORANGE, "marker": "^", "markersize": 5.0, "markeredgewidth": 1.1}
"""The published message passing on our prompts: open triangles with standard errors."""

SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours of several curves on one axes, by a parameter; line and marker then say what kind of data it is."""

IMAGE = {"cmap": "RdBu_r"}
"""Matrices with a sign: symmetric about white."""

MAP = {"cmap": "cividis"}
"""Positive maps over two parameters."""


def theory(level: str, color: str | None = None, label: str | None = None) -> dict[str, Any]:
    """Arguments of `plot` for a theory curve: the limit thin and dashed, finite size thick."""
    look = dict(THEORY[level][1])
    if color is not None:
        look["color"] = color
    return {**look, "label": THEORY[level][0] if label is None else label}


def simulation(color: str | None = None, label: str | None = "simulation") -> dict[str, Any]:
    """Arguments of `errorbar` for our simulation."""
    return {**SIMULATION, **({} if color is None else {"color": color}), "label": label}


def messages(label: str | None = "message passing as published") -> dict[str, Any]:
    """Arguments of `errorbar` for the published message passing."""
    return {**MESSAGES, "label": label}


def published(color: str | None = None, label: str | None = "published") -> dict[str, Any]:
    """Arguments of `errorbar` for published points."""
    return {**PUBLISHED, **({} if color is None else {"color": color}), "label": label}


def legend_of_kinds(axes: Any, levels: tuple[str, ...] = (), points: tuple[str, ...] = (), **where: Any) -> Any:
    """A legend in grey of what kinds of data there are, where colour says the parameter.

    Args:
        levels: of theory.
        points: "simulation", "published".
        where: as in `legend`.
    """
    import matplotlib.pyplot as plt

    looks = {"simulation": SIMULATION, "published": PUBLISHED}
    handles = [plt.Line2D([], [], **theory(level, GREY)) for level in levels]
    for kind in points:
        look = {name: value for name, value in looks[kind].items() if name != "capsize"}
        color = "black" if kind == "published" else GREY
        handles.append(plt.Line2D([], [], **{**look, "color": color, "label": kind}))
    return axes.legend(handles=handles, frameon=False, **where)


def legend_of_colours(axes: Any, labels: list[str], **where: Any) -> Any:
    """A legend of what the colours of `SERIES` stand for."""
    import matplotlib.pyplot as plt

    handles = [plt.Line2D([], [], color=c, linewidth=2.2, label=x) for c, x in zip(SERIES, labels, strict=False)]
    return axes.legend(handles=handles, frameon=False, handlelength=1.2, **where)


def log_axis(axis: Any, ticks: list[float]) -> None:
    """A logarithmic axis (`axes.xaxis` or `axes.yaxis`) with plain numbers at `ticks`."""
    from matplotlib.ticker import NullFormatter, NullLocator

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def panel_label(axes: Any, letter: str) -> None:
    """(a), (b) ... above the upper left corner."""
    axes.set_title(f"({letter})", loc="left", fontsize=9.5, fontweight="bold")


RC = {
    "font.size": 9,
    "axes.labelsize": 9.5,
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
