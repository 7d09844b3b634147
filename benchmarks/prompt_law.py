"""What the law of prompts costs: short noisy contexts, a new label noise beside a new ridge, the best ridge.

Solves one point at each of a grid of (D, N, rho), the worst ones among them, in a process of its own each, so that peak
memory is its own and no rules are left from before. Then a sampler's step in the ridge and in the noise at usual
settings, and the search for the best ridge. Seconds of processor time, one core. Run by name:
python benchmarks/prompt_law.py. Nothing is asserted.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from replica_icl.numeric.questions.optimal_penalty import optimal_ridge
from replica_icl.numeric.solve import solve
from replica_icl.setting import Setting

SIZES = ((2, 2), (2, 3), (2, 10), (2, 100), (2, 1000), (3, 2), (10, 2), (10, 3), (10, 5), (50, 3), (20, 100))
NOISES = (0.0, 0.1, 1.0, 10.0)
RIDGES = (1e-2, 1e-10)
USUAL = (Setting(D=20, N=40, P=300, ridge=0.02, noise=0.1), Setting(D=20, N=100, P=600, ridge=0.02, noise=0.1))
SEARCHED = (
    Setting(D=20, N=40, P=1200, ridge=1.0, noise=0.25),
    Setting(D=20, N=40, P=1200, ridge=1.0),
    Setting(D=10, N=2, P=50, ridge=1.0),
    Setting(D=10, N=2, P=50, ridge=1.0, noise=1.0),
    Setting(D=2, N=3, P=10, ridge=1.0, noise=0.1),
    Setting(D=2, N=2, P=6, ridge=1.0, noise=10.0),
    Setting(D=5, N=10, P=100, ridge=1.0, noise=1.0),
    Setting(D=50, N=100, P=3000, ridge=1.0, noise=0.25),
)


def one_point(setting: Setting) -> tuple[float, float, str]:
    """Seconds, peak memory in MiB and status of a first solve."""
    solve(Setting(D=50, N=500, P=5000, ridge=0.1), throw=False)  # imports and lowered functions
    start = time.process_time()
    found = solve(setting, throw=False)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return time.process_time() - start, peak, found.status.name.lower()


def median(step: Callable[[int], Setting], count: int = 11) -> float:
    """Median milliseconds of a solve at each of the settings."""
    times = []
    for i in range(1, count + 1):
        start = time.process_time()
        solve(step(i))
        times.append(1e3 * (time.process_time() - start))
    return float(np.median(times))


def main() -> None:
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    print(f"machine     {platform.platform()}, {platform.machine()}, {os.cpu_count()} processors, one used")
    print("one point, P = D (D + 1) / 2:       seconds, MiB, status")
    worst = [0.0, 0.0]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for D, N in SIZES:
            for noise in NOISES:
                for ridge in RIDGES:
                    setting = Setting(D=D, N=N, P=D * (D + 1) // 2, ridge=ridge, noise=noise)
                    seconds, peak, status = pool.apply(one_point, (setting,))
                    worst = [max(worst[0], seconds), max(worst[1], peak)]
                    print(
                        f"  D {D:3d} N {N:5d} rho {noise:4.1f} ridge {ridge:.0e}  {seconds:6.2f} {peak:6.0f}  {status}"
                    )
    print(f"worst       {worst[0]:.2f} s, {worst[1]:.0f} MiB; wanted at most 5 s, 1024 MiB")
    print("a step of a sampler, milliseconds:  the same point, a new ridge, a new noise")
    for own in USUAL:
        solve(own)
        same = median(lambda i, own=own: own)
        ridges = median(lambda i, own=own: replace(own, ridge=own.ridge * (1 + 0.01 * i)))
        noises = median(lambda i, own=own: replace(own, noise=own.noise * (1 + 0.01 * i)))
        print(f"  D {own.D} N {own.N}  {same:.1f}  {ridges:.1f}  {noises:.1f}")
    print("the best ridge:                     seconds, ridge")
    for own in SEARCHED:
        start = time.process_time()
        best = optimal_ridge(own)
        seconds = time.process_time() - start
        print(f"  D {own.D} N {own.N} P {own.P} rho {own.noise}  {seconds:.2f}  {best.value:.4g}")


if __name__ == "__main__":
    main()
