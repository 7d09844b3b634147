"""Li et al., Fig. 4(a): contrast ratio of the learned weights over context length and number of prompts, D = 20.

Finite-size theory of all 2500 settings in one call, our exact ground states, and their difference in standard errors:

    python figures/li_fig4a.py --out results
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import numpy as np

from replica_icl import Setting, simulate, solve
from replica_icl.conventions import ridge_from_li
from replica_icl.errors import SolveError
from replica_icl.numeric.missing_onsager import solve_without_reaction
from replica_icl.plotting import style
from replica_icl.plotting.agreement import agreement, z_scores
from replica_icl.plotting.figure import Data, Figure, Run, main
from replica_icl.plotting.relaxed_points import relaxed_points


def compute(run: Run) -> Data:
    """Theory on the whole grid, simulation on every `step`-th point of it, and a cut at fixed N."""
    s = run.settings
    D, contexts, prompts = s["D"], grid(s["N"]), grid(s["P"])

    def at(N: int, P: int) -> Setting:
        return Setting(D=D, N=N, P=P, ridge=ridge_from_li(s["ridge"], N))

    theory = solve([at(N, P) for N in contexts for P in prompts]).contrast.reshape(len(contexts), len(prompts))
    last = s["step"] - 1  # ends with the last point of the grid
    rows, columns = range(last, len(contexts), s["step"]), range(last, len(prompts), s["step"])
    used = [prompts[j] for j in columns]

    def measure(N: int) -> Data:
        found = [simulate(at(N, P), s["realisations"], seed=run.seed)["contrast"] for P in used]
        return {"mean": [one.mean for one in found], "sem": [one.sem for one in found]}

    held = {name: s[name] for name in ("D", "ridge", "realisations")}
    measured = [run.cell("row", lambda N=contexts[i]: measure(N), N=contexts[i], P=used, **held) for i in rows]
    shown = used[:: max(1, len(used) // 10)]

    def passed() -> Data:
        return {"points": [relaxed_points(at(s["cut"], P), run.seed, s["realisations"]) for P in shown]}

    messages = run.cell("messages", passed, N=s["cut"], P=shown, **held)["points"]
    settings = [at(s["cut"], P) for P in prompts]
    curves = {
        "limit": solve(settings, level="limit").contrast,
        "finite size": theory[contexts.index(s["cut"])],
        "without reaction": without_reaction(settings),
    }
    return {
        "N": contexts,
        "P": prompts,
        "theory": theory,
        "simulation": {
            "N": [contexts[i] for i in rows],
            "P": used,
            "theory": theory[np.ix_(rows, columns)],
            "mean": [row["mean"] for row in measured],
            "sem": [row["sem"] for row in measured],
            "n": s["realisations"],
        },
        "cut": {"N": s["cut"], "curves": curves, "P": shown, "messages": messages},
    }


def without_reaction(settings: list[Setting]) -> np.ndarray:
    """Contrast at the fixed point of message passing without Onsager reaction, NaN where there is none."""
    values = np.full(len(settings), np.nan)
    for i, setting in enumerate(settings):
        with suppress(SolveError):  # few prompts: the iteration diverges
            values[i] = solve_without_reaction([setting]).contrast[0]
    return values


def grid(ends: tuple[int, int, int]) -> list[int]:
    """First, last and number of equally spaced integers."""
    return [int(x) for x in np.linspace(*ends).astype(int)]


def draw(data: Data) -> Any:
    """Theory and simulation as maps, their difference, and a cut."""
    import matplotlib.pyplot as plt

    found = data["simulation"]
    z = z_scores(found["theory"], found["mean"], found["sem"], found["n"])
    figure, axes = plt.subplots(2, 2, figsize=(7.0, 5.0))
    (theory, simulation), (difference, cuts) = axes
    shared = {"vmin": 0.0, "vmax": 1.0, "shading": "nearest", "rasterized": True, **style.MAP}
    theory.pcolormesh(data["P"], data["N"], data["theory"], **shared)
    image = simulation.pcolormesh(found["P"], found["N"], found["mean"], **shared)
    for one in (theory, simulation):
        figure.colorbar(image, ax=one, aspect=15).set_label("contrast ratio")
    theory.set_title("theory, finite size", fontsize=9, loc="right")
    simulation.set_title(f"simulation, {found['n']} realisations", fontsize=9, loc="right")
    image = difference.pcolormesh(
        found["P"], found["N"], z, vmin=-4, vmax=4, shading="nearest", rasterized=True, **style.IMAGE
    )
    figure.colorbar(image, ax=difference, aspect=15).set_label("difference / standard error")
    difference.set_title("simulation against theory", fontsize=9, loc="right")
    for letter, one in zip("abc", (theory, simulation, difference), strict=True):
        one.set(xlabel="number of prompts $P$", ylabel="context length $N$")
        one.set_xlim(data["P"][0] - 10, data["P"][-1] + 10)
        one.set_ylim(data["N"][0] - 1, data["N"][-1] + 1)
        style.panel_label(one, letter)
    style.panel_label(cuts, "d")
    cut = data["cut"]
    for name, values in cut["curves"].items():
        cuts.plot(data["P"], np.array(values, float), **style.theory(name))
    row = found["N"].index(cut["N"])
    shown = slice(None, None, max(1, len(found["P"]) // 10))
    mean, sem = (np.array(found[name])[row, shown] for name in ("mean", "sem"))
    cuts.errorbar(found["P"][shown], mean, yerr=sem, **style.simulation())
    mean, sem = (np.array([p["contrast"][x] for p in cut["messages"]], float) for x in ("mean", "sem"))
    cuts.errorbar(cut["P"], mean, yerr=sem, **style.messages())
    cuts.set_title(f"$N={cut['N']}$", fontsize=9, loc="right")
    cuts.set(xlabel="number of prompts $P$", ylabel="contrast ratio", ylim=(0, 1.6), yticks=np.linspace(0, 1, 6))
    cuts.legend(frameon=False, loc="upper left", labelspacing=0.25, handlelength=1.3, borderaxespad=0)
    return figure


def findings(data: Data) -> list[str]:
    """z over the grid, and how far the other curves are."""
    found = data["simulation"]
    z = z_scores(found["theory"], found["mean"], found["sem"], found["n"])
    every = agreement(found["theory"], found["mean"], found["sem"], found["n"])
    cut = data["cut"]
    theory = np.array(cut["curves"]["finite size"])
    limit, reaction = (
        100 * (np.array(cut["curves"][name], float) / theory - 1) for name in ("limit", "without reaction")
    )
    exists = np.isfinite(reaction)
    below, above = reaction[exists].min(), reaction[exists].max()
    first = "" if exists.all() else f" (it has a fixed point from P = {np.array(data['P'])[exists].min()} on)"
    return [
        every.sentence("Our simulation against the finite-size theory"),
        f"The mean over the map is {100 * (np.mean(found['mean']) / np.mean(found['theory']) - 1):+.2f} % off.",
        f"z is {np.mean(z):+.2f} on average ({np.mean(z) * np.sqrt(z.size):+.1f} standard errors), above 2 in size at "
        f"{100 * np.mean(np.abs(z) > 2):.1f} % of the points (4.6 % expected of noise alone).",
        *_of_messages(data),
        f"At N = {cut['N']} the limit is {limit.min():+.1f} to {limit.max():+.1f} % off the finite-size ground "
        f"state, message passing without Onsager reaction {below:+.1f} to {above:+.1f} %{first}.",
    ]


def _of_messages(data: Data) -> list[str]:
    """The published message passing against the theory of its fixed point, where all instances converged."""
    cut, count = data["cut"], data["simulation"]["n"]
    at = [data["P"].index(P) for P in cut["P"]]
    theory = np.array(cut["curves"]["without reaction"], float)[at]
    every = np.array([p["n"] == count for p in cut["messages"]])
    mean, sem = (np.array([p["contrast"][x] for p in cut["messages"]], float) for x in ("mean", "sem"))
    good = every & np.isfinite(theory)
    first = f"The published message passing at N = {cut['N']}: all {count} instances converge at "
    first += f"{every.sum()} of {len(every)} P"
    if not good.any():
        return [first + "."]
    return [first + "; there, a" + agreement(theory[good], mean[good], sem[good], count).sentence("gainst its theory")]


FIGURE = Figure("li_fig4a", compute, draw, findings)

if __name__ == "__main__":
    sys.exit(main(FIGURE))
