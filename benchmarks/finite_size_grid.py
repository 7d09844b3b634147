"""The grid of Fig. 4(a) at finite size in one call, beside a loop of scipy.optimize.root on the same expressions.

The grid of Li et al. (arXiv:2408.02288): 50 values of N from 2 to 100, 50 of P from 20 to 1000, D = 20, lambda_0 = 1.
Both sides run the package's lowered functions on nodes of the prompt law of the same accuracy, on one core. The loop is
what anybody would write without the concave Newton: all five order parameters (m, q, log V, u, log V_u) of one point at
a time, from one start, with the saddle-point equations, each over the sum of its terms' sizes, handed to
scipy.optimize.root. It runs on a random sample of the points and its time is scaled up to the grid; whether a point
counts as solved is decided by the residual test and the admissibility that `solve` applies to itself. Making nodes is
part of `solve`'s time and not of the loop's.

Run by name: python benchmarks/finite_size_grid.py. Each side has a process of its own, so that its peak memory is its
own. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import sys
import time
from dataclasses import dataclass

import numpy as np
import scipy
from scipy.optimize import root
from threadpoolctl import threadpool_limits

from replica_icl.lowering.model import LINEAR_ATTENTION
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.prompt_nodes import prompt_nodes
from replica_icl.numeric.finite_size import TOLERANCE
from replica_icl.numeric.limit import classify, imbalance
from replica_icl.numeric.solution import Status
from replica_icl.numeric.solve import solve
from replica_icl.setting import Setting

DIMENSION, RIDGE = 20, 1.0
START = (0.1, 0.1, -1.0, 0.1, -3.0)
"""m, q, log V, u, log V_u: V of the order of 1/lambda_0, V_u less by a factor D/2, small overlaps."""
ACCURACY = 1e-6
RULE, STEEPEST = 1e-7 / 3, 10.0
"""Nodes of the loop: the accuracy that `solve` asks for by default, and a slope that the grid does not exceed."""


@dataclass(frozen=True)
class Measurement:
    """One side's run: seconds per point, peak memory in MiB (of which `before` was there at the start), outcomes."""

    seconds: float
    peak: float
    before: float
    converged: float
    claimed: float
    values: np.ndarray


def grid() -> list[Setting]:
    return [
        Setting(D=DIMENSION, N=int(N), P=int(P), ridge=RIDGE)
        for N in np.arange(2, 101, 2)
        for P in np.arange(20, 1001, 20)
    ]


def peak_memory() -> float:
    """Largest resident memory of this process so far, MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def by_solve(tolerance: float) -> Measurement:
    """The whole grid in one call; nodes of the prompt law are made inside, none are left from before."""
    _ = LINEAR_ATTENTION.fresh_tasks
    before, start = peak_memory(), time.perf_counter()
    solution = solve(grid(), tolerance=tolerance, throw=False)
    seconds = (time.perf_counter() - start) / len(solution.status)
    converged = float(np.mean(solution.converged))
    return Measurement(
        seconds,
        peak_memory(),
        before,
        converged,
        converged,
        np.stack([solution.saddle["e_icl"], solution.saddle["m"]], axis=1),
    )


def by_root(setting: Setting) -> tuple[bool, bool, float, float]:
    """Whether the point where root stops is a solution, its own flag, e_icl and m."""
    functions = LINEAR_ATTENTION.fresh_tasks
    nodes = prompt_nodes(LINEAR_ATTENTION, setting.D, setting.N, 0.0, RULE, STEEPEST)
    sizes = {"D": float(setting.D), "P": float(setting.P), "c": 1.0, "field": setting.ridge, "field_u": setting.ridge}

    def order_parameters(x: np.ndarray) -> dict[str, float]:
        return {"m": x[0], "q": x[1], "V": np.exp(x[2]), "u": x[3], "V_u": np.exp(x[4])}

    def balances(x: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        return functions.stationarity(NUMPY, nodes.average, **order_parameters(x), **sizes, rho=0.0).balances

    def left(x: np.ndarray) -> np.ndarray:
        return np.array([np.ravel(rest / size)[0] for rest, size in balances(x)])

    with np.errstate(all="ignore"):
        found = root(left, START, tol=1e-12)
        order = order_parameters(found.x)
        observed = functions.order_parameters(
            NUMPY, nodes.average, V=order["V"], V_u=order["V_u"], **sizes, rho=0.0
        )  # the stability and the training error that `classify` asks for
        T, omega, g, a, corner = nodes.scalars
        (residual,) = np.ravel(
            (T * (omega - 2 * order["m"] * g + order["q"] * a + order["u"] * corner**2)) @ nodes.weights
        )
        values = {"m": order["m"], "q": order["q"], "v": order["V"], "e_icl": residual}
        values |= {name: np.ravel(getattr(observed, name))[0] for name in ("train_error", "replicon")}
        status = classify(values, np.ravel(imbalance(balances(found.x)))[0], False, TOLERANCE)
    return int(status) == Status.CONVERGED, bool(found.success), float(residual), float(order["m"])


def by_loop(sample: list[Setting]) -> Measurement:
    """One point after another; nodes are made before the clock starts."""
    for N in {setting.N for setting in sample}:
        prompt_nodes(LINEAR_ATTENTION, DIMENSION, N, 0.0, RULE, STEEPEST)
    before, start = peak_memory(), time.perf_counter()
    outcomes = [by_root(setting) for setting in sample]
    seconds = (time.perf_counter() - start) / len(sample)
    solved, claimed = np.mean([outcome[:2] for outcome in outcomes], axis=0)
    values = np.array([outcome[2:] if outcome[0] else (np.nan, np.nan) for outcome in outcomes])
    return Measurement(seconds, peak_memory(), before, float(solved), float(claimed), values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root-points", type=int, default=100, help="points of the loop, drawn from the grid")
    args = parser.parse_args()
    points = grid()
    chosen = np.sort(np.random.default_rng(0).choice(len(points), args.root_points, replace=False))
    # Processes of their own, started afresh; numerical libraries are held to one thread in each.
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with threadpool_limits(1):
        runs = []
        for work, argument in ((by_solve, 1e-7), (by_loop, [points[i] for i in chosen]), (by_solve, 1e-10)):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                runs.append(pool.apply(work, (argument,)))
    ours, loop, exact = runs
    error = np.nanmax(np.abs(ours.values / exact.values - 1), axis=0)
    apart = np.nanmax(np.abs(loop.values / exact.values[chosen] - 1), axis=0)
    print(f"machine     {platform.platform()}, {platform.machine()}, {os.cpu_count()} processors, one used")
    print(f"versions    Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}")
    print(f"solve       {len(points)} points in {ours.seconds * len(points):.2f} s, {ours.seconds * 1e3:.2f} ms each,")
    print(
        f"            {ours.converged:.2%} converged, peak memory {ours.peak:.0f} MiB ({ours.before:.0f} at the start)"
    )
    print(
        f"            off by at most {error[0]:.1e} in e_icl and {error[1]:.1e} in m (against tolerance 1e-10, which "
        f"took {exact.seconds * len(points):.1f} s)"
    )
    print(f"root loop   {args.root_points} points drawn from the grid, {loop.seconds * 1e3:.1f} ms each,")
    print(f"            scaled up to the grid {loop.seconds * len(points):.0f} s, nodes not included,")
    print(
        f"            {loop.converged:.0%} converged ({loop.claimed:.0%} by its own flag), "
        f"peak memory {loop.peak:.0f} MiB ({loop.before:.0f} at the start)"
    )
    print(f"            where it converged off by at most {apart[0]:.1e} in e_icl and {apart[1]:.1e} in m")
    print(
        f"ratio       {loop.seconds / ours.seconds:.1f} times faster per point, "
        f"{loop.seconds / loop.converged / (ours.seconds / ours.converged):.1f} per point that converged"
    )
    print(f"wanted      {ACCURACY:.0e} in e_icl and m, at most 5 s")


if __name__ == "__main__":
    main()
