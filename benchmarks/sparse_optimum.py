"""The exact optimum under the Laplace prior at D = 100, P = 5000: time, passes over the prompts, duality gap.

The matrix of the quadratic form would have 10^8 entries; here a pass costs two thin products. Settings from strong
penalties (few weights survive) to one at which a third of them does.

Run by name: python benchmarks/sparse_optimum.py. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import platform
import time

import numpy as np

from replica_icl.setting import Setting
from replica_icl.simulator.features import draw_features
from replica_icl.simulator.laws import GAUSSIAN_PROMPTS
from replica_icl.simulator.optima.laplace import laplace_optimum


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--D", type=int, default=100)
    parser.add_argument("--N", type=int, default=200)
    parser.add_argument("--P", type=int, default=5000)
    size = parser.parse_args()
    point = Setting(D=size.D, N=size.N, P=size.P, ridge=1.0)
    features = draw_features(point, np.random.default_rng(0), law=GAUSSIAN_PROMPTS)
    print(f"{platform.machine()}, numpy {np.__version__}: D = {size.D}, N = {size.N}, P = {size.P}")
    for l1 in (3e-3, 1e-3, 3e-4):
        start = time.perf_counter()
        found = laplace_optimum(features, l1)
        seconds = time.perf_counter() - start
        print(
            f"lambda_1 = {l1:g}: {seconds:6.2f} s, {found.iterations} passes, gap {found.gap:.1e}, "
            f"{np.count_nonzero(found.W)} of {features.acting_weights} weights survive"
        )


if __name__ == "__main__":
    main()
