"""Li et al., Fig. 4(b): test loss against context length at D = 20, P = 10000.

Theory at finite size and in the limit, our exact simulation and the published SGD and AMP points on the same axes,
without a fitted parameter. The data, with the settings they were made with, are written beside the picture (JSON) and
as a table (Markdown):

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
from tqdm import tqdm

from replica_icl import Setting, __version__, simulate, solve
from replica_icl.numeric.missing_onsager import solve_without_reaction
from replica_icl.plotting import style
from replica_icl.published import against_theory, li_ridge, table

CURVE = tuple(range(10, 201, 5))


def compute(realisations: int, seed: int) -> dict[str, Any]:
    """Theory curves, simulated points and published points of both series."""
    figure = table()["li_fig4b"]
    settings = {"D": figure["D"], "P": figure["P"], "noise": 0.0, "realisations": realisations, "seed": seed}
    data: dict[str, Any] = {"version": __version__, "settings": settings, "source": figure["source"], "series": {}}
    for series in ("sgd", "amp"):
        at = [Setting(D=figure["D"], N=N, P=figure["P"], ridge=li_ridge(series, N)) for N in CURVE]
        curves = {"limit": solve(at, level="limit").e_icl, "finite size": solve(at).e_icl}
        if series == "amp":
            curves["without reaction"] = solve_without_reaction(at).e_icl
        data["series"][series] = {
            "N": list(CURVE),
            "curves": {name: values.tolist() for name, values in curves.items()},
            "points": [],
        }
    comparisons = against_theory()
    for row in tqdm(comparisons, desc="simulating", disable=not sys.stderr.isatty()):
        point = row.point
        logging.info("simulating %s, N = %d, %d realisations", point.series, point.setting.N, realisations)
        found = simulate(point.setting, realisations, seed=seed)["e_icl"]
        data["series"][point.series]["points"].append(
            {
                "N": point.setting.N,
                "ridge": point.setting.ridge,
                "limit": solve(point.setting, level="limit").e_icl,
                "ground state": row.ground_state,
                "theory": row.theory,
                "simulation": {"mean": found.mean, "sem": found.sem, "n": found.n},
                "published": {"mean": point.mean, "sem": point.sem, "n": point.repeats},
            }
        )
    return data


def draw(data: dict[str, Any], folder: Path) -> list[Path]:
    """Draw what `compute` returned: the losses, and below them their deviation from the finite-size ground state."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    titles = {"sgd": r"SGD, $\lambda_0 = 0.005$", "amp": r"AMP, $\lambda_0 = 0.01$"}
    with plt.rc_context(style.RC):
        figure, axes = plt.subplots(2, 2, figsize=(7.2, 4.6), sharex=True, sharey="row", height_ratios=(2, 1.1))
        for (top, bottom), (series, found) in zip(axes.T, data["series"].items(), strict=True):
            reference = np.array(found["curves"]["finite size"])
            for name, values in found["curves"].items():
                label, look = style.THEORY[name]
                top.plot(found["N"], values, label=label, **look)
                bottom.plot(found["N"], 100 * (np.array(values) / reference - 1), **look)
            N = np.array([p["N"] for p in found["points"]])
            ground = np.array([p["ground state"] for p in found["points"]])
            for key, label, look in (
                ("simulation", "our simulation, exact ground state", style.SIMULATION),
                ("published", f"published {series.upper()}", style.PUBLISHED),
            ):
                mean = np.array([p[key]["mean"] for p in found["points"]])
                sem = np.array([p[key]["sem"] for p in found["points"]])
                top.errorbar(N, mean, yerr=sem, label=label, **look)
                bottom.errorbar(N, 100 * (mean / ground - 1), yerr=100 * sem / ground, **look)
            top.set_title(titles[series] + " (features divided by $N+1$)", fontsize=9)
            top.legend(frameon=False)
            bottom.set_xlabel("context length $N$")
        axes[0, 0].set_ylabel(r"test loss $e_{\mathrm{ICL}}$")
        axes[0, 0].set_ylim(bottom=0)
        axes[1, 0].set_ylabel("relative to finite-\nsize theory [%]")
        figure.align_ylabels()
        return style.write_figure(figure, folder, "li_fig4b")


def markdown(data: dict[str, Any]) -> str:
    """The same numbers as a table, with z-scores of simulation and published points against the theory."""
    s = data["settings"]
    lines = [
        f"Test loss at D = {s['D']}, P = {s['P']}, no label noise; {s['realisations']} realisations, seed {s['seed']},"
        f" replica_icl {data['version']}. Published: {data['source']}.",
        "",
        "| series | N | limit | theory, ground state | simulation | z | theory of what was run | published | z |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for series, found in data["series"].items():
        for p in found["points"]:
            sim, pub = p["simulation"], p["published"]
            lines.append(
                f"| {series.upper()} | {p['N']} | {p['limit']:.4f} | {p['ground state']:.4f} |"
                f" {sim['mean']:.4f} ± {sim['sem']:.4f} | {(sim['mean'] - p['ground state']) / sim['sem']:+.1f} |"
                f" {p['theory']:.4f} | {pub['mean']:.4f} ± {pub['sem']:.4f} |"
                f" {(pub['mean'] - p['theory']) / pub['sem']:+.1f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for the figure, data and table")
    parser.add_argument("--realisations", type=int, default=12, help="disorder realisations per point")
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
