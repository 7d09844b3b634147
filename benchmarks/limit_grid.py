"""A million points of the thermodynamic limit in one call, beside a loop of scipy.optimize.root.

Both solve the same lowered saddle-point equations: `solve` through the closed form that the derivation ends in, the
loop as anybody would without it, in the unknowns (m, q, log k) with s = lam / k, from one start for all points. Whether
a point of the loop counts as solved is decided by the residual and admissibility test that `solve` applies to itself.
"""

from __future__ import annotations

import argparse
import os
import platform
import time

import numpy as np
import scipy
from scipy.optimize import root

from replica_icl.lowering.model import LINEAR_ATTENTION
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.limit import TOLERANCE, classify, imbalance
from replica_icl.numeric.solution import Status
from replica_icl.numeric.solve import solve
from replica_icl.ratios import Ratios

START = (0.5, 0.5, 0.0)
"""m, q and log k: half of the way to a perfect overlap, effective ridge 1."""


def grid(count: int, seed: int) -> Ratios:
    """Random ratios around the transition, ridges over six decades."""
    rng = np.random.default_rng(seed)
    return Ratios(
        alpha=10 ** rng.uniform(-1, 1, count),
        nu=10 ** rng.uniform(-0.5, 2, count),
        lam=10 ** rng.uniform(-5, 1, count),
        noise=rng.uniform(0, 0.5, count),
    )


def solved_by_root(point: dict[str, float]) -> tuple[Status, bool]:
    """Our status of the point where scipy.optimize.root stops, and its own success flag."""
    functions = LINEAR_ATTENTION.fresh_tasks_limit

    def balances(unknowns: np.ndarray) -> tuple[tuple[float, float], ...]:
        m, q, log_k = unknowns
        k = np.exp(log_k)
        return functions.stationarity(NUMPY, m=m, q=q, k=k, s=point["lam"] / k, **point).balances

    def left(unknowns: np.ndarray) -> list[float]:
        return [rest for rest, _ in balances(unknowns)[: len(START)]]

    with np.errstate(all="ignore"):
        found = root(left, START, tol=1e-13)
        m, q, log_k = found.x
        k = np.exp(log_k)
        s, a = point["lam"] / k, 1 + (1 + point["rho"]) / point["nu"]
        error = 1 + point["rho"] - 2 * m + a * q
        replicon = 1 - a**2 / (point["alpha"] * (a + k) ** 2)
        values = {"m": m, "q": q, "v": 1 / (s * (a + k)), "replicon": replicon}
        values |= {"e_icl": error, "train_error": error * s**2}
        status = classify(values, imbalance(balances(found.x)), False, TOLERANCE)
    return Status(int(status)), bool(found.success)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10**6, help="points of the grid in one call")
    parser.add_argument("--root-points", type=int, default=200, help="points of the loop")
    args = parser.parse_args()

    many = grid(args.points, seed=0)
    solve(grid(1000, seed=1), level="limit")  # import and first call apart
    start = time.perf_counter()
    solution = solve(many, level="limit", throw=False)
    per_point = (time.perf_counter() - start) / args.points

    few = grid(args.root_points, seed=2)
    names = {"alpha": few.alpha, "nu": few.nu, "lam": few.lam, "rho": few.noise}
    points = [dict(zip(names, map(float, row), strict=True)) for row in zip(*names.values(), strict=True)]
    start = time.perf_counter()
    outcomes = [solved_by_root(point) for point in points]
    per_root = (time.perf_counter() - start) / args.root_points

    converged = np.mean([status == Status.CONVERGED for status, _ in outcomes])
    claimed = np.mean([success for _, success in outcomes])
    wrongly = np.mean([success and status != Status.CONVERGED for status, success in outcomes])
    print(f"machine        {platform.platform()}, {platform.machine()}, {os.cpu_count()} processors")
    print(f"versions       Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}")
    print(
        f"solve          {args.points} points, {per_point * 1e6:.3f} us each, {solution.converged.mean():.2%} converged"
    )
    print(f"root loop      {args.root_points} points, {per_root * 1e6:.0f} us each, {converged:.2%} converged")
    print(f"               by its own flag {claimed:.2%}; {wrongly:.2%} flagged as a success but not a solution")
    print(f"ratio          {per_root / per_point:.0f} times faster per point")


if __name__ == "__main__":
    main()
