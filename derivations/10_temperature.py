"""Temperature, and the transition at P = D (D + 1): what changes, what cannot, and what becomes soft."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from replica_icl import Ratios, Setting, simulate, solve
from replica_icl.narration.checks import agree
from replica_icl.narration.derivation import Derivation, Found, by_simulation, numerically, to_digits
from replica_icl.narration.telling import tell
from replica_icl.numeric.questions.susceptibility import susceptibility, susceptibility_peak
from replica_icl.simulator.features import draw_features
from replica_icl.simulator.gibbs import gibbs_samples
from replica_icl.simulator.ground_state import ground_state
from replica_icl.symbolic import symbols as s
from replica_icl.theory.fresh_tasks import derive_fresh_tasks

derivation = Derivation(
    __file__,
    "Temperature and the transition",
    needs=["fresh-tasks", "stability", "hessian-spectrum"],
    symbols={
        "S": r"second moments of the features over the acting weights, $\frac{1}{P} \sum_\mu f f^T$",
        "W_0": "ground state of one sample",
        "G": r"$(S + \lambda_0)^{-1}$",
        r"\chi_{\mathrm{SG}}": "spin-glass susceptibility in units of the mean variance of a weight",
    },
)

theory = derive_fresh_tasks()
D, N, P, RHO, RIDGE = 10, 20, 150, 0.25, 0.02
WEIGHTS = D * (D + 1)
BETAS = (200.0, 1000.0, 20000.0)
BASE = Setting(D=D, N=N, P=P, ridge=RIDGE, noise=RHO)
Z_MAX = 4.0


def ground_energy(values: Any) -> Any:
    """E_0 = (training error + lambda_0 |W|^2) / 2, |W|^2 = D q + u."""
    return (values["train_error"] + RIDGE * (D * values["q"] + values["u"])) / 2


@cache
def predicted(beta: float) -> dict[str, Any]:
    return dict(solve(replace(BASE, beta=beta)).observables())


@cache
def measured(beta: float, realisations: int) -> Any:
    return simulate(replace(BASE, beta=beta), realisations, seed=1, workers=1)


# ----------------------------------------------------------------------------------------------------------------------

derivation.step(
    "What temperature changes",
    r"""
    The energy of one sample is $E(W) = E_0 + \frac{1}{2} (W - W_0)^T (S + \lambda_0) (W - W_0)$: the Boltzmann mean
    is the ground state at every $\beta$, the covariance is $G / \beta$ with $G = (S + \lambda_0)^{-1}$. $D (D + 1)$
    quadratic modes share the energy $D (D + 1) / (2 \beta)$ above $E_0$, whatever their stiffness, so that for every
    sample
    """,
)
derivation.equation(
    r"\log Z",
    r"-\beta E_0 + \frac{D (D + 1)}{2} \log(2 \pi / \beta) - \frac{1}{2} \mathrm{tr} \log(S + \lambda_0)",
)
derivation.equation(
    r"\langle E \rangle = -\partial \log Z / \partial \beta", r"E_0 + \frac{D (D + 1)}{2 \beta}", "equipartition"
)
derivation.text(
    r"""
    and the entropy is $\log Z + \beta \langle E \rangle$. The free entropy has this form: its terms in $q$, $m$ and
    $u$ are $-\beta E_0$, and the others are the determinant of [[hessian-spectrum]].
    """
)


@derivation.claim(
    r"$-\partial \Phi / \partial \beta$ is half of training error and ridge of a Gibbs sample, $\langle E \rangle$",
    to_digits(),
)
def energy_is_a_derivative() -> bool:
    at_scale = {s.inverse_scale: s.beta / s.P}
    norm = s.D * (s.q + s.V) + s.u + s.V_u
    energy = (theory.observables["train_gibbs"].subs(at_scale) + s.ridge * norm) / 2
    return agree(-theory.free_entropy.subs(at_scale).diff(s.beta), energy)


@derivation.claim(
    r"$m$, $q$, $u$ and the errors of the mean weights do not depend on $\beta$, $\beta V$ neither, and the energy "
    r"of a "
    r"sample is $E_0 + D (D + 1) / (2 \beta)$",
    numerically("solved at beta = 200, 1000 and 20000, D = 10, to 8 digits"),
)
def solved_at_three_temperatures() -> bool:
    values = [predicted(beta) for beta in BETAS]
    same = all(np.ptp([x[name] for x in values]) < 1e-9 for name in ("m", "q", "u", "e_icl", "train_error"))
    scaled = np.ptp([beta * x["V"] for beta, x in zip(BETAS, values, strict=True)]) < 1e-7 * P
    energies = [(x["train_gibbs"] + RIDGE * (D * (x["q"] + x["V"]) + x["u"] + x["V_u"])) / 2 for x in values]
    excess = [e - ground_energy(x) - WEIGHTS / (2 * beta) for e, x, beta in zip(energies, values, BETAS, strict=True)]
    return bool(same and scaled and max(map(abs, excess)) < 1e-8)


@derivation.claim(
    r"errors, Gibbs errors, $\log Z$ and entropy at three temperatures are those of exact samples, within 4 "
    r"standard errors "
    "and 0.1/D (log Z and entropy per weight: 0.005)",
    by_simulation(1, "D = 10, N = 20, P = 150, 60 samples"),
)
def exact_at_three_temperatures() -> Found:
    worst = 0.0
    for beta in BETAS:
        values, exact = predicted(beta), measured(beta, 60).values
        pairs = {name: (values[name], exact[name]) for name in ("e_icl", "train_error", "e_gibbs", "train_gibbs")}
        pairs["log_Z / n"] = values["log_Z"] / WEIGHTS, exact["log_Z"] / WEIGHTS
        entropies = [(x["log_Z"] + beta * ground_energy(x) + WEIGHTS / 2) / WEIGHTS for x in (values, exact)]
        pairs["entropy / n"] = entropies[0], entropies[1]
        for name, (found, samples) in pairs.items():
            allowed = 0.005 if "/ n" in name else 0.1 / D * abs(found)
            sem = samples.std(ddof=1) / np.sqrt(len(samples))
            worst = max(worst, float(max(abs(found - samples.mean()) - allowed, 0) / sem))
    return Found(worst < Z_MAX, f"largest |z| beyond the allowance {worst:.1f}")


@derivation.claim(
    r"the mean energy of Boltzmann samples, each through its literal energy, is $E_0 + D (D + 1) / (2 \beta)$",
    by_simulation(3, "300 draws on one sample, beta = 200"),
)
def equipartition_of_samples() -> Found:
    features = draw_features(BASE, np.random.default_rng(3))
    state = ground_state(features, RIDGE)
    samples = gibbs_samples(state, BETAS[0], 300, np.random.default_rng(4))
    energies = [(features.mean_squared_residual(W) + RIDGE * np.sum(W**2)) / 2 for W in samples]
    excess, sem = np.mean(energies) - state.energy, np.std(energies, ddof=1) / np.sqrt(len(energies))
    shown = f"{excess:.5f} +- {sem:.5f}, {WEIGHTS / (2 * BETAS[0])}"
    return Found(bool(abs(excess - WEIGHTS / (2 * BETAS[0])) < Z_MAX * sem), shown)


derivation.step(
    r"The transition at $P = D (D + 1)$",
    r"""
    Without a ridge the ground state is unique from $P = D (D + 1)$ on, where the last zero mode goes
    ([[hessian-spectrum]]). At that point the density of eigenvalues diverges at zero: a finite fraction of soft
    modes. The susceptibility of a spin glass, $\beta^2$ times the mean squared covariance of two weights, is
    $\frac{1}{D (D + 1)} \mathrm{tr}\, G^2$, minus the response of the fluctuations to a field on $|W|^2$. In units of
    the mean variance it is $\chi_{\mathrm{SG}} = D (D + 1)\, \mathrm{tr}\, G^2 / (\mathrm{tr}\, G)^2$. The response
    matrix of the saddle is the inverse of $I - X$ ([[stability]]), so that $\chi_{\mathrm{SG}}$ and the replicon tell
    the same story: at fixed $\lambda = \lambda_0 D$ both stay finite, without a ridge $\chi_{\mathrm{SG}}$ diverges,
    and with one block of weights alone $\chi_{\mathrm{SG}} = 1 / (1 - X)$.
    """,
)


@derivation.claim(
    r"$\chi_{\mathrm{SG}}$ peaks near $P = D (D + 1)$, and its height approaches $1 / (1 - X)$ of the limit",
    numerically("D = 10, 20, 40, N = 2 D, ridge 0.01 / D; the distance shrinks by 1.5 at least"),
)
def peak_of_the_susceptibility() -> Found:
    peaks = [susceptibility_peak(size, 2 * size, ridge=0.01 / size) for size in (10, 20, 40)]
    limit = float(np.max(1 / solve(Ratios(alpha=np.linspace(0.8, 1.2, 401), nu=2.0, lam=0.01)).replicon))
    distances = [abs(peak.height - limit) for peak in peaks]
    holds = all(near < far / 1.5 for far, near in pairwise(distances)) and all(
        abs(peak.relative - 1) < 0.1 for peak in peaks
    )
    return Found(holds, f"heights {', '.join(f'{p.height:.2f}' for p in peaks)}, limit {limit:.2f}")


@derivation.claim(r"at $P = D (D + 1)$ it grows without bound as the ridge falls", numerically("D = 20, 1e-3 .. 1e-6"))
def divergence_without_a_ridge() -> Found:
    base = Setting(D=20, N=40, P=420, ridge=1.0)
    found = [float(susceptibility([replace(base, ridge=r)]).chi_SG[0]) for r in (1e-3, 1e-4, 1e-5, 1e-6)]
    return Found(all(soft > 2.5 * hard for hard, soft in pairwise(found)), ", ".join(f"{x:.1f}" for x in found))


@derivation.claim(
    r"at the transition $\chi_{\mathrm{SG}}$ of sampled Hessians is that of the theory within 5 %",
    by_simulation(5, "D = 10 and 20, ridge 0.01 / D, 200 and 12 samples"),
)
def sampled_susceptibility() -> Found:
    ratios = []
    for size, realisations in ((10, 200), (20, 12)):
        setting = Setting(D=size, N=2 * size, P=size * (size + 1), ridge=0.01 / size)
        sums = []
        for r in range(realisations):
            gram = draw_features(setting, np.random.default_rng([5, r])).gram()
            stiffness = np.linalg.eigvalsh(gram) + setting.ridge
            sums.append((np.mean(1 / stiffness), np.mean(1 / stiffness**2)))
        first, second = np.mean(sums, axis=0)
        ratios.append(float(second / first**2 / susceptibility([setting]).chi_SG[0]))
    return Found(all(abs(x - 1) < 0.05 for x in ratios), f"sampled / theory {ratios[0]:.4f}, {ratios[1]:.4f}")


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
