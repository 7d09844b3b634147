"""Ground states by conjugate gradients beside the dense solve: time, memory and share of the machine's speed.

Run by name: python benchmarks/simulator_ground_state.py [D ...]. Every case runs in a process of its own, so that
its peak memory is its own; time includes drawing the prompts from sufficient statistics. Nothing is asserted.
The speed is that of the products that the algorithm needs (conjugate gradients 4 P D (D+1) per iteration; dense
P n^2/2 + n^3/3 with n = D(D+1)) as a share of a large matrix product measured in the same process with as many
threads: one for conjugate gradients, all for dense.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import sys
import time
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from replica_icl.setting import Setting
from replica_icl.simulator.ground_state import ground_state
from replica_icl.simulator.laws import PromptLaw
from replica_icl.simulator.observables import icl_error
from replica_icl.simulator.realisation import draw_instance


@dataclass(frozen=True)
class Case:
    """One solve: D, N, P, ridge lambda_0 and the algorithm."""

    D: int
    N: int
    P: int
    ridge: float
    algorithm: str


CASES = (
    Case(20, 100, 10_000, 1e-3, "cg"),
    Case(20, 100, 10_000, 1e-3, "dense"),
    Case(50, 200, 5_000, 1e-3, "cg"),
    Case(50, 200, 5_000, 1e-3, "dense"),
    Case(100, 1000, 15_000, 1e-3, "cg"),
    Case(100, 1000, 15_000, 1e-3, "dense"),
    Case(200, 1000, 60_000, 1e-3, "cg"),
)


def product_speed(size: int = 1500) -> float:
    """Measured floating-point operations per second of a square matrix product, best of three."""
    matrix = np.random.default_rng(0).standard_normal((size, size))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)


def run(case: Case) -> str:
    """One line of the table."""
    setting, law = Setting(D=case.D, N=case.N, P=case.P, ridge=case.ridge), PromptLaw.of("sufficient")
    small = Setting(D=4, N=5, P=30, ridge=0.1)
    ground_state(draw_instance(small, law=law).features, 0.1, algorithm=case.algorithm)  # imports, BLAS
    start = time.perf_counter()
    instance = draw_instance(setting, law=law)
    drawn = time.perf_counter()
    ground = ground_state(instance.features, case.ridge, algorithm=case.algorithm)
    solved = time.perf_counter()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    n = setting.acting_weights
    iterated, direct = 4 * case.P * n * ground.iterations, case.P * n**2 / 2 + n**3 / 3
    with threadpool_limits(1 if case.algorithm == "cg" else None):
        speed = (iterated if case.algorithm == "cg" else direct) / (solved - drawn) / product_speed()
    return (
        f"{case.D:>5} {case.P:>7} {case.algorithm:>6} {solved - start:>9.3f} {drawn - start:>9.3f} {memory:>9.0f} "
        f"{ground.iterations:>11} {ground.residual:>9.1e} {speed:>8.0%} {icl_error(ground.W, case.N, D=case.D):>14.10f}"
    )


def main() -> None:
    """Print one line per case; arguments restrict the token dimensions."""
    wanted = {int(text) for text in sys.argv[1:]}
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    print(f"{platform.platform()}, {os.cpu_count()} processors, load {load}, numpy {np.__version__}")
    print(
        f"{'D':>5} {'P':>7} {'method':>6} {'seconds':>9} {'sampling':>9} {'MiB':>9} {'iterations':>11} "
        f"{'residual':>9} {'speed':>8} {'e_icl':>14}"
    )
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for line in pool.imap(run, (case for case in CASES if not wanted or case.D in wanted)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
