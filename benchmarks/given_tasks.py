"""The theory of a given task set at D = 100, K = 50, beside the plain iteration for V on the same equations.

Both solve V^-1 = P (sum_f a_f(V) F + lambda_0) for the 2 K + 2 coefficients, at the same prompt nodes, the
iteration to a relative imbalance of 1e-10 and the package to its own, which is smaller. `solve_given_tasks` takes
Newton steps from the limit's estimate, and goes on to C, M and the errors; the plain iteration puts the coefficients
that V implies back in, from V = 0, and stops at V. Everything is measured in one run on one core. Run by name:
python benchmarks/given_tasks.py. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import platform
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from replica_icl.numeric.given_tasks import solve_given_tasks, task_set
from replica_icl.numeric.task_matrix import draw_task_set
from replica_icl.numeric.task_saddle import TaskSet
from replica_icl.setting import Setting

POINTS = (
    {"P": 5_000, "ridge": 1e-4},
    {"P": 10_000, "ridge": 1e-4},
    {"P": 10_100, "ridge": 1e-4},
    {"P": 10_000, "ridge": 1e-8},
    {"P": 10_100, "ridge": 1e-8},
    {"P": 20_000, "ridge": 1e-8},
)
"""alpha = P/D^2 below, at and above 1; 10 100 = D (D + 1)."""
IMBALANCE = 1e-10


def plain_iteration(given: TaskSet, limit: int) -> tuple[int, float]:
    """Iterations and relative imbalance of putting V's own coefficients back in, from V = 0."""
    y = given.start(1.0)
    imbalance = np.inf
    iterations = 0
    while imbalance >= IMBALANCE and iterations < limit:
        mapped = given.forms.gathered(given.averages(given.fluctuations(y)).a, given.shares)
        imbalance = float(np.max(np.abs(mapped - y)) / np.max(np.abs(y)))
        y, iterations = mapped, iterations + 1
    return iterations, imbalance


def main() -> None:
    """Print one line per point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--D", type=int, default=100)
    parser.add_argument("--K", type=int, default=50)
    parser.add_argument("--plain", type=int, default=5000, help="largest number of plain iterations")
    args = parser.parse_args()
    print(
        f"{platform.platform()}, {os.cpu_count()} processors, "
        f"Python {platform.python_version()}, numpy {np.__version__}"
    )
    print(f"D = {args.D}, K = {args.K}, N = {args.D}, rho = 0.01, tasks on the sphere")
    print(
        f"{'P':>6} {'ridge':>6} | {'Newton':>7} {'seconds':>8} {'residual':>9} | {'plain':>6} {'seconds':>8} "
        f"{'imbalance':>9} | {'steps':>6} {'time':>6}"
    )
    warm = Setting(D=args.D, N=args.D, P=args.D**2, K=args.K, ridge=1e-2, noise=0.01)
    solve_given_tasks(warm, *draw_task_set(warm, 0, sphere=True))  # imports and first calls apart
    for point in POINTS:
        P = round(point["P"] * (args.D / 100) ** 2)
        setting = Setting(D=args.D, N=args.D, P=P, K=args.K, ridge=point["ridge"], noise=0.01)
        tasks, shares = draw_task_set(setting, 0, sphere=True)
        start = time.perf_counter()
        found = solve_given_tasks(setting, tasks, shares)
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        steps, imbalance = plain_iteration(task_set(setting, tasks, shares), args.plain)
        plain = time.perf_counter() - start
        mark = " " if imbalance < IMBALANCE else ">"
        print(
            f"{P:>6} {point['ridge']:>6.0e} | {found.iterations:>7} {seconds:>8.3f} {found.residual:>9.1e} | "
            f"{steps:>6} {plain:>8.2f} {imbalance:>9.1e} | "
            f"{mark}{steps / found.iterations:>5.0f} {mark}{plain / seconds:>5.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
