"""How far simulated or published points are from theory, in one sentence that means the same in every caption."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Agreement:
    """Points with standard errors against theory.

    Attributes:
        points: how many.
        worst_z: largest |z|, with Student's t of few realisations converted to the normal deviate of equal probability.
        rms_z: root mean square of z; 1 is expected where only noise is between the two.
        worst_relative: largest |mean / theory - 1|.
        mean_relative: mean of mean / theory - 1, the bias.
    """

    points: int
    worst_z: float
    rms_z: float
    worst_relative: float
    mean_relative: float

    def sentence(self, what: str) -> str:
        """`what` (e.g. "Simulation against the finite-size theory") and the numbers."""
        return (
            f"{what}: {self.points} points, |z| <= {self.worst_z:.1f} (rms {self.rms_z:.2f}), "
            f"{100 * self.worst_relative:.2g} % apart at most, {100 * self.mean_relative:+.2g} % on average."
        )


def z_scores(theory: ArrayLike, mean: ArrayLike, sem: ArrayLike, n: ArrayLike) -> np.ndarray:
    """(mean - theory) / sem as normal deviates: with n realisations the quotient has Student's law of n - 1 degrees."""
    from scipy import stats

    difference, error = np.asarray(mean, float) - np.asarray(theory, float), np.asarray(sem, float)
    t = np.divide(difference, error, out=np.zeros_like(difference), where=error > 0)
    logs = stats.t.logsf(np.abs(t), np.asarray(n, float) - 1)
    tail = np.exp(logs)
    deviate = np.where(tail > 1e-300, stats.norm.isf(np.maximum(tail, 1e-300)), np.abs(t))
    return np.sign(t) * deviate


def agreement(theory: ArrayLike, mean: ArrayLike, sem: ArrayLike, n: ArrayLike) -> Agreement:
    """Compare arrays of any one shape; points that are not finite are left out."""
    arrays = (theory, mean, sem, n)
    theory, mean, sem, n = (np.ravel(a) for a in np.broadcast_arrays(*(np.asarray(a, float) for a in arrays)))
    good = np.isfinite(theory) & np.isfinite(mean) & np.isfinite(sem)
    z = z_scores(theory[good], mean[good], sem[good], n[good])
    relative = mean[good] / theory[good] - 1
    return Agreement(
        int(good.sum()),
        float(np.max(np.abs(z))),
        float(np.sqrt(np.mean(z**2))),
        float(np.max(np.abs(relative))),
        float(np.mean(relative)),
    )
