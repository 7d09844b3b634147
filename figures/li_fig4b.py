"""Li et al., Fig. 4(b): test loss against context length at D = 20, P = 10000.

Limit theory, our exact simulation and the published SGD and AMP points on the same axes. The data, with the settings
they were made with, are written beside the picture (JSON) and as a table (Markdown):

    python figures/li_fig4b.py --out results
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np

from replica_icl import Ratios, __version__, simulate, solve
from replica_icl.plotting import style
from replica_icl.published import li_fig4b, li_ridge, table

SERIES = {"sgd": "SGD", "amp": "AMP"}
CURVE = tuple(range(10, 201, 2))


def compute(realisations: int, seed: int) -> dict[str, Any]:
    """Theory curves, simulated points and published points for both ridges."""
    figure = table()["li_fig4b"]
    D, P = figure["D"], figure["P"]
    data: dict[str, Any] = {
        "version": __version__,
        "settings": {"D": D, "P": P, "noise": 0.0, "realisations": realisations, "seed": seed},
        "source": figure["source"],
        "series": {},
    }
    for series in SERIES:
        N = np.array(CURVE)
        ridge = np.array([li_ridge(series, n) for n in CURVE])
        limit = solve(Ratios(alpha=P / D**2, nu=N / D, lam=ridge * D))
        points = []
        for point in li_fig4b(series):
            logging.info("simulating %s, N = %d, %d realisations", series, point.setting.N, realisations)
            found = simulate(point.setting, realisations, seed=seed)["e_icl"]
            at = solve(point.setting, level="limit")
            points.append(
                {
                    "N": point.setting.N,
                    "ridge": point.setting.ridge,
                    "limit": at.e_icl,
                    "simulation": {"mean": found.mean, "sem": found.sem, "n": found.n},
                    "published": {"mean": point.mean, "sem": point.sem, "n": point.repeats},
                }
            )
        data["series"][series] = {"N": list(CURVE), "limit": limit.e_icl.tolist(), "points": points}
    return data


def draw(data: dict[str, Any], folder: Path) -> list[Path]:
    """Draw what `compute` returned."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context(style.RC):
        figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), sharey=True)
        looks = {"sgd": (style.BLUE, r"SGD: $\lambda_0 = 0.005$"), "amp": (style.ORANGE, r"AMP: $\lambda_0 = 0.01$")}
        for axis, (series, found) in zip(axes, data["series"].items(), strict=True):
            color, title = looks[series]
            axis.plot(found["N"], found["limit"], color=color, label="theory, limit", **style.THEORY_LIMIT)
            N = [p["N"] for p in found["points"]]
            for key, label, look, tint in (
                ("simulation", "our exact ground state", style.SIMULATION, color),
                ("published", f"published {SERIES[series]}", style.PUBLISHED, "black"),
            ):
                means = [p[key]["mean"] for p in found["points"]]
                errors = [p[key]["sem"] for p in found["points"]]
                axis.errorbar(N, means, yerr=errors, color=tint, label=label, **look)
            axis.set_title(f"{title} (features $/\\,(N+1)$)", fontsize=9)
            axis.set_xlabel("context length $N$")
            axis.legend(frameon=False)
        axes[0].set_ylabel(r"test loss $e_{\mathrm{ICL}}$")
        axes[0].set_ylim(bottom=0)
        return style.write_figure(figure, folder, "li_fig4b")


def markdown(data: dict[str, Any]) -> str:
    """The same numbers as a table; z compares our simulation, and the published points, with the column before."""
    s = data["settings"]
    lines = [
        f"Test loss at D = {s['D']}, P = {s['P']}, no label noise; {s['realisations']} realisations, seed {s['seed']},"
        f" replica_icl {data['version']}. Published: {data['source']}.",
        "",
        "| series | N | lambda_0 (features / N) | theory, limit | simulation | published | published - simulation |",
        "|---|---|---|---|---|---|---|",
    ]
    for series, found in data["series"].items():
        for p in found["points"]:
            sim, pub = p["simulation"], p["published"]
            z = (pub["mean"] - sim["mean"]) / np.hypot(sim["sem"], pub["sem"])
            lines.append(
                f"| {SERIES[series]} | {p['N']} | {p['ridge']:.6f} | {p['limit']:.4f} |"
                f" {sim['mean']:.4f} ± {sim['sem']:.4f} | {pub['mean']:.4f} ± {pub['sem']:.4f} | {z:+.1f} σ |"
            )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--realisations", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    data = compute(args.realisations, args.seed)
    paths = draw(data, args.out)
    for name, text in (("li_fig4b.json", json.dumps(data, indent=1)), ("li_fig4b.md", markdown(data))):
        paths.append(args.out / name)
        paths[-1].write_text(text, encoding="utf-8")
    print(markdown(data))
    print("wrote " + ", ".join(str(path) for path in paths))
    return 0


if __name__ == "__main__":
    sys.exit(main())
