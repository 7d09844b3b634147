"""Prompts per second: every token against sufficient statistics, at (D, N) = (20, 100) and (100, 1000).

Run by name: python benchmarks/simulator_sampler.py. Nothing is asserted; the best of three runs is printed.
"""

from __future__ import annotations

import os
import platform
import time

import numpy as np

from replica_icl.setting import Setting
from replica_icl.simulator.features import draw_features
from replica_icl.simulator.laws import PromptLaw
from replica_icl.threads import one_thread

CASES = ((20, 100, 10_000), (100, 1000, 2_000))
REPEATS = 3


def seconds(D: int, N: int, n: int, prompts: str) -> float:
    """Best time of drawing n prompts as features, on one thread."""
    setting, law = Setting(D=D, N=N, P=n, ridge=1.0), PromptLaw.of(prompts)
    times = []
    for repeat in range(REPEATS):
        rng = np.random.default_rng(repeat)
        start = time.perf_counter()
        draw_features(setting, rng, law=law)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print one line per case and sampler."""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    print(f"{platform.platform()}, {os.cpu_count()} processors, load {load}, numpy {np.__version__}; one thread")
    print(f"{'D':>5} {'N':>6} {'prompts':>12} {'us/prompt':>10} {'speed-up':>9}")
    with one_thread():
        for D, N, n in CASES:
            tokens = seconds(D, N, n, "tokens") / n
            for prompts in ("tokens", "sufficient"):
                each = tokens if prompts == "tokens" else seconds(D, N, n, prompts) / n
                print(f"{D:>5} {N:>6} {prompts:>12} {each * 1e6:>10.2f} {tokens / each:>9.1f}")


if __name__ == "__main__":
    main()
