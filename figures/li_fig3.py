"""Li et al., Fig. 3: the energy around the ground state, a valley for few prompts and a bowl for many, D = 10, N = 50.

Energies of literal prompts on planes of Hessian eigenvectors, and the eigenvalues beside their theory:

    python figures/li_fig3.py --out results
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from replica_icl import Setting
from replica_icl.keys import entropy
from replica_icl.numeric.questions.spectrum import hessian_cdf
from replica_icl.plotting import style
from replica_icl.plotting.figure import Data, Figure, Run, main
from replica_icl.simulator.attention import predictions, prompt_matrix
from replica_icl.simulator.features import compress
from replica_icl.simulator.ground_state import ground_state
from replica_icl.simulator.hamiltonian import hamiltonian
from replica_icl.simulator.prompts import draw_prompts
from replica_icl.threads import one_thread

REACH = 2.0
"""Distance from the ground state that planes and cuts show, in units of a weight."""
COLORS = style.SERIES


def landscape(setting: Setting, seed: int, points: int) -> Data:
    """Energies through attention on a plane of the stiffest and the softest acting mode, and on cuts; eigenvalues.

    The modes are those of the Hessian of (J, h, lambda) over the acting weights, whose diagonal is lambda alone.
    """
    prompts = draw_prompts(setting, setting.P, np.random.default_rng(entropy(seed, setting.P)))
    Z, features = prompt_matrix(prompts), compress(prompts)
    ground = ground_state(features, setting.ridge)
    spins = hamiltonian(features, setting.ridge)
    values, vectors = np.linalg.eigh(np.diag(spins.lam) - spins.J)
    soft, stiff = spins.weights(vectors[:, 0]), spins.weights(vectors[:, -1])

    def above(x: float, y: float) -> float:
        W = ground.W + x * soft + y * stiff
        residual = prompts.target - predictions(Z, W)
        return float(np.mean(residual**2) / 2 + setting.ridge / 2 * np.sum(W**2)) - ground.energy

    t = np.linspace(-REACH, REACH, points)
    return {
        "t": t,
        "plane": [[above(x, y) for x in t] for y in t],
        "eigenvalues": values,
        "ground": ground.energy,
    }


def quadratic(one: Data, t: np.ndarray) -> np.ndarray:
    """The energy above the ground state by the two eigenvalues on the plane t x t: rows stiff, columns soft."""
    values = one["eigenvalues"]
    return np.add.outer(values[-1] * t**2, values[0] * t**2) / 2


def compute(run: Run) -> Data:
    """One instance for each number of prompts; theory of the eigenvalues."""
    s = run.settings
    systems = []
    for P in s["P"]:
        setting = Setting(D=s["D"], N=s["N"], P=P, ridge=s["ridge"])
        with one_thread():
            found = run.cell("landscape", lambda one=setting: landscape(one, run.seed, s["points"]),
                             setting=setting, points=s["points"])  # fmt: skip
        x = np.geomspace(*s["range"], s["curve"])
        cdf = hessian_cdf(setting, x)
        systems.append({"P": P, **found, "x": x + setting.ridge, "cdf": cdf})
    return {"D": s["D"], "ridge": s["ridge"], "systems": systems}


def draw(data: Data) -> Any:
    """Two planes, cuts through them, and the eigenvalues in order."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import LogNorm

    figure, ((left, right), (cuts, spectra)) = plt.subplots(2, 2, figsize=(7.0, 5.4), height_ratios=(1.15, 1))
    levels = np.geomspace(1e-3, 30, 19)
    for axes, one in zip((left, right), data["systems"], strict=True):
        t = np.linspace(-REACH, REACH, 401)
        plane = np.maximum(quadratic(one, t), levels[0])
        look = {"levels": levels, "norm": LogNorm(levels[0], levels[-1])}
        image = axes.contourf(t, t, plane, **look, **style.MAP)
        axes.contour(t, t, plane, levels=levels[::3], colors="white", linewidths=0.5)
        axes.plot(0, 0, marker="*", color="white", markersize=8, markeredgecolor="black", markeredgewidth=0.6)
        axes.set(xlabel="along softest mode", ylabel="along stiffest mode", aspect="equal")
        axes.set_title(f"$P={one['P']}$", fontsize=9, loc="right")
    bar = figure.colorbar(image, ax=(left, right), ticks=(1e-3, 1e-2, 1e-1, 1, 10), pad=0.02)
    bar.set_label("$E-E_0$")
    bar.ax.set_yticklabels(["$10^{-3}$", "$10^{-2}$", "$10^{-1}$", "$1$", "$10$"])
    for color, one in zip(COLORS, data["systems"], strict=False):
        t, plane = np.array(one["t"]), np.array(one["plane"])
        middle, positive = len(t) // 2, t > 0
        small = {"markersize": 3.6, "markeredgewidth": 1.0}
        for marker, cut, value in (("o", plane[middle], one["eigenvalues"][0]),
                                   ("s", plane[:, middle], one["eigenvalues"][-1])):  # fmt: skip
            cuts.plot(t[positive], value * t[positive] ** 2 / 2, **style.theory("finite size", color, "_"))
            name = "softest" if marker == "o" else "stiffest"
            points = {**style.simulation(color, f"$P={one['P']}$, {name}"), "marker": marker, **small}
            cuts.errorbar(t[positive], cut[positive], **points)
        values = np.array(one["eigenvalues"])
        n = len(values)
        rank, x = n * np.array(one["cdf"], float), np.array(one["x"])
        inside = (rank > 0.02) & (rank < n - 0.1)
        spectra.plot(rank[inside], x[inside], **style.theory("finite size", color, "_"))
        points = {**style.simulation(color, f"$P={one['P']}$"), "markersize": 2.6, "markeredgewidth": 0.8}
        spectra.errorbar(np.arange(n) + 0.5, values, **points)
    spectra.axhline(data["ridge"], color=style.GREY, linestyle=":", linewidth=1)
    spectra.text(0.5 * n, data["ridge"] * 0.8, r"$\lambda_0$", va="top", ha="center", color=style.GREY)
    spectra.plot([], [], **style.theory("finite size", style.GREY))
    cuts.set(yscale="log", xlabel="distance from the ground state", ylabel="$E-E_0$", ylim=(1e-4, 300))
    cuts.plot([], [], **style.theory("finite size", style.GREY, r"$\mu\,t^2/2$"))
    cuts.legend(frameon=False, ncols=2, loc="upper left", columnspacing=1.0)
    spectra.set(
        yscale="log", xlabel="number, in ascending order", ylabel=r"eigenvalue $\mu$", xlim=(-1, n + 1), ylim=(4e-3, 60)
    )
    spectra.legend(frameon=False, loc="upper left", bbox_to_anchor=(0.0, 0.95))
    for letter, axes in zip("abcd", (left, right, cuts, spectra), strict=True):
        style.panel_label(axes, letter)
    return figure


def findings(data: Data) -> list[str]:
    """Literal energies against the quadratic form; eigenvalues against the theory's quantiles."""
    sentences, worst = [], []
    for one in data["systems"]:
        plane, form = np.array(one["plane"]), quadratic(one, np.array(one["t"]))
        worst.append(np.abs(plane - form).max() / one["ground"])
        values = np.array(one["eigenvalues"])
        n = len(values)
        cdf, x = (np.array(one[name], float) for name in ("cdf", "x"))
        known = np.isfinite(cdf)
        first = n * np.interp(values, x[known], cdf[known]) - (np.arange(n) + 0.5)
        flat = int(np.sum(values < data["ridge"] * (1 + 1e-9)))
        low, top = (np.interp(q, cdf[known], x[known]) for q in (0.5 / n, 1 - 0.5 / n))
        sentences.append(
            f"P = {one['P']}: {flat} of {n} acting modes have the ridge alone; softest {values[0]:.4g}, "
            f"{values[1]:.4g}, stiffest {values[-2]:.4g}, {values[-1]:.4g}; the theory's quantiles of the extremes are "
            + (f"{low:.4g}" if not flat else f"{data['ridge']:g} (exact)")
            + f" and {top:.4g}. Number of modes up to each eigenvalue that the prompts span: theory within "
            f"{np.abs(first[flat:]).max():.1f} of the instance."
        )
    return [
        "Energy of literal prompts through attention against E_0 + (mu_1 t_1^2 + mu_2 t_2^2)/2 of the Hamiltonian with "
        f"its diagonal counted once: at most {max(worst):.0e} E_0 apart on both planes.",
        *sentences,
    ]


FIGURE = Figure("li_fig3", compute, draw, findings)

if __name__ == "__main__":
    sys.exit(main(FIGURE))
