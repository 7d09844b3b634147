"""Li et al., Fig. 4(b): test loss against context length at D = 20, P = 10000.

Theory at finite size and in the limit, our exact simulation and the published SGD and AMP points on the same axes,
without a fitted parameter:

    python figures/li_fig4b.py --out results
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from replica_icl import Setting, solve
from replica_icl.meeting.published import against_theory, li_ridge, table
from replica_icl.numeric.missing_onsager import solve_without_reaction
from replica_icl.plotting import style
from replica_icl.plotting.agreement import Agreement, agreement
from replica_icl.plotting.figure import Data, Figure, Run, main
from replica_icl.plotting.relaxed_points import relaxed_points

CURVE = tuple(range(10, 201, 5))


def compute(run: Run) -> Data:
    """Theory curves, simulated points and published points of both series."""
    figure = table()["li_fig4b"]
    data: Data = {"published": figure["source"], "series": {}}
    for series in ("sgd", "amp"):
        at = [Setting(D=figure["D"], N=N, P=figure["P"], ridge=li_ridge(series, N)) for N in CURVE]
        curves = {"limit": solve(at, level="limit").e_icl, "finite size": solve(at).e_icl}
        if series == "amp":
            curves["without reaction"] = solve_without_reaction(at).e_icl
        data["series"][series] = {"N": CURVE, "curves": curves, "points": []}
    for row in against_theory("li_fig4b"):
        point = row.point
        found = run.simulate(point.setting)["e_icl"]
        own = {"messages": messages(run, point.setting)} if point.series == "amp" else {}
        data["series"][point.series]["points"].append(
            own
            | {
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


def messages(run: Run, setting: Setting) -> Data:
    """What the published message passing ends with on the prompts of our simulation."""
    count = run.settings["realisations"]
    found = run.cell("messages", lambda: relaxed_points(setting, run.seed, count), setting=setting, count=count)
    return {**found["e_icl"], "n": found["n"]}


def draw(data: Data) -> Any:
    """The losses, and below them their deviation from the finite-size ground state."""
    import matplotlib.pyplot as plt

    titles = {"sgd": r"SGD, $\lambda_0 = 0.005$", "amp": r"AMP, $\lambda_0 = 0.01$"}
    figure, axes = plt.subplots(2, 2, figsize=(7.2, 4.6), sharex=True, sharey="row", height_ratios=(2, 1.1))
    for (top, bottom), (series, found) in zip(axes.T, data["series"].items(), strict=True):
        reference = np.array(found["curves"]["finite size"])
        for name, values in found["curves"].items():
            top.plot(found["N"], values, **style.theory(name))
            bottom.plot(found["N"], 100 * (np.array(values) / reference - 1), **style.theory(name))
        N = np.array([p["N"] for p in found["points"]])
        ground = np.array([p["ground state"] for p in found["points"]])
        for key, look in (
            ("simulation", style.simulation(label="our simulation, exact ground state")),
            ("messages", style.messages("their message passing on our prompts")),
            ("published", style.published(label=f"published {series.upper()}")),
        ):
            if key not in found["points"][0]:
                continue
            mean = np.array([p[key]["mean"] for p in found["points"]])
            sem = np.array([p[key]["sem"] for p in found["points"]])
            top.errorbar(N, mean, yerr=sem, **look)
            bottom.errorbar(N, 100 * (mean / ground - 1), yerr=100 * sem / ground, **look)
        top.set_title(titles[series] + " (features divided by $N+1$)", fontsize=9)
        top.legend(frameon=False)
        bottom.set_xlabel("context length $N$")
    axes[0, 0].set_ylabel(r"test loss $e_{\mathrm{ICL}}$")
    axes[0, 0].set_ylim(bottom=0)
    axes[1, 0].set_ylabel("relative to finite-\nsize theory [%]")
    figure.align_ylabels()
    return figure


def findings(data: Data) -> list[str]:
    """z-scores of simulation and of published points."""
    every = [p for found in data["series"].values() for p in found["points"]]

    def against(points: list[Data], key: str, theory: str) -> Agreement:
        columns = zip(*((p[theory], *(p[key][x] for x in ("mean", "sem", "n"))) for p in points), strict=True)
        return agreement(*columns)

    sgd, amp = (data["series"][series]["points"] for series in ("sgd", "amp"))
    limit = [100 * (p["limit"] / p["ground state"] - 1) for p in every]
    return [
        against(every, "simulation", "ground state").sentence("Our simulation against the finite-size theory"),
        against(sgd, "published", "theory").sentence("Published SGD against the theory of the ground state"),
        against(amp, "published", "theory").sentence("Published AMP against the theory without Onsager reaction"),
        against(amp, "published", "ground state").sentence("Published AMP against the ground state, which it is not"),
        against(amp, "messages", "theory").sentence("Their message passing on our prompts against its theory"),
        f"The limit is {min(limit):+.1f} to {max(limit):+.1f} % off at D = 20.",
    ]


FIGURE = Figure("li_fig4b", compute, draw, findings)

if __name__ == "__main__":
    sys.exit(main(FIGURE))
