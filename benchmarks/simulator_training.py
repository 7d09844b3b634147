"""Training through sufficient statistics: time of 5000 epochs, and of one pass over the prompts for comparison.

Run by name: python benchmarks/simulator_training.py. Time includes the second moment of the features but not drawing
the prompts. Nothing is asserted.
"""

from __future__ import annotations

import os
import platform
import time

import numpy as np

from replica_icl.setting import Setting
from replica_icl.simulator.ground_state import ground_state
from replica_icl.simulator.laws import PromptLaw
from replica_icl.simulator.optimisers import Training
from replica_icl.simulator.realisation import draw_instance
from replica_icl.simulator.training import FullBatch, train
from replica_icl.threads import one_thread

RUNS = (
    Training("adam", 5000),
    Training("adamw", 5000),
    Training("momentum", 5000),
    Training("gradient-flow", 5000),
    Training("adam", 5000, inner=20, initial_scale=0.1),
    Training("sgd", 20, batch=100),
)


def main() -> None:
    """Print one line per optimiser at D = 20, P = 10000."""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    print(f"{platform.platform()}, {os.cpu_count()} processors, load {load}, numpy {np.__version__}")
    setting = Setting(D=20, N=100, P=10_000, ridge=1e-2)
    features = draw_instance(setting, law=PromptLaw.of("sufficient")).features
    exact = ground_state(features, setting.ridge)
    print(f"{'optimiser':>14} {'epochs':>7} {'batch':>6} {'inner':>6} {'seconds':>8} {'e_icl':>9} {'off ridge':>10}")
    for how in RUNS:
        start = time.perf_counter()
        done = train(features, setting.ridge, how, N=setting.N)
        seconds = time.perf_counter() - start
        apart = np.linalg.norm(done.W - exact.W) / np.linalg.norm(exact.W)
        print(
            f"{how.optimiser:>14} {how.epochs:>7} {how.batch or 'all':>6} {how.inner or 'merged':>6} {seconds:>8.2f} "
            f"{done.test_errors[-1]:>9.5f} {apart:>10.1e}"
        )
    for by_moments, name in ((True, "through S"), (False, "two thin products over all prompts")):
        loss = FullBatch(features, by_moments)
        with one_thread():
            start = time.perf_counter()
            for _ in range(20):
                loss(exact.W)
        print(f"one full-batch gradient {name}: {(time.perf_counter() - start) / 20 * 1e3:.3f} ms")


if __name__ == "__main__":
    main()
