"""Time to a ground state within 1e-6: message passing on the prompts, conjugate gradients, a dense factor, in one run.

Fresh tasks, N = 2 D, P = 1.5 D^2, ridge 0.2 / D. The clock, processor time on one core, runs for as many iterations as
bring the weights within a relative 1e-6 of the ground state, which is known from a solve far beyond that accuracy (for
conjugate gradients: for the fewest whole digits of the residual that do); both iterate with two thin products of the
prompts. The dense factor is timed where its matrix fits (D = 100 takes 1 GB and is the last).

Run by name: python benchmarks/message_passing.py. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from replica_icl.cavity.gamp import message_passing
from replica_icl.meeting.message_passing import denoiser_of
from replica_icl.priors import Ridge
from replica_icl.setting import Setting
from replica_icl.simulator.features import Features, draw_features
from replica_icl.simulator.ground_state import ground_state
from replica_icl.simulator.krylov import Iterated, conjugate_gradients
from replica_icl.simulator.laws import PromptLaw
from replica_icl.simulator.matrix_free import NormalEquations, Primal
from replica_icl.threads import one_thread

ACCURACY = 1e-6
DENSE_UP_TO = 100


def seconds(run: Callable[[], object]) -> float:
    """The shorter of two runs."""
    found = []
    for _ in range(2):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return min(found)


def fewest_iterations(features: Features, ridge: float, exact: NDArray[np.float64]) -> int:
    """Iterations of message passing after which it is within the accuracy, and stays so."""
    away: list[float] = []
    size = float(np.linalg.norm(exact))
    message_passing(
        features, denoiser_of(Ridge(), ridge), watch=lambda W: away.append(float(np.linalg.norm(W[:, :-1] - exact)))
    )
    return len(away) - int(np.argmax(np.array(away[::-1]) >= ACCURACY * size))


def fewest_digits(reached: Callable[[int], NDArray[np.float64]], exact: NDArray[np.float64]) -> int:
    """Digits of its own residual with which a solver is within the accuracy."""
    digits = 4
    while np.linalg.norm(reached(digits) - exact) >= ACCURACY * np.linalg.norm(exact):
        digits += 1
    return digits


def row(features: Features, D: int, ridge: float) -> str:
    """Seconds and iterations of each solver at one size."""
    exact = NormalEquations(features, ridge).ground_state().solution

    def solved(digits: int) -> Iterated:
        system = Primal(features, ridge)
        return conjugate_gradients(system, features.fields(), tolerance=10.0**-digits)

    def messages(count: int) -> NDArray[np.float64]:
        found = message_passing(features, denoiser_of(Ridge(), ridge), tolerance=1e-300, max_iterations=count)
        return found.W[:, :D]

    def gradients(digits: int) -> NDArray[np.float64]:
        return solved(digits).solution

    iterations, digits = fewest_iterations(features, ridge, exact), fewest_digits(gradients, exact)
    passed = seconds(lambda: messages(iterations))
    conjugate = seconds(lambda: gradients(digits))
    steps = solved(digits).iterations
    text = f"D = {D:>3}: message passing {passed:8.3f} s ({iterations} iterations), "
    text += f"conjugate gradients {conjugate:8.3f} s ({steps}), ratio {conjugate / passed:5.2f}"
    if D <= DENSE_UP_TO:
        dense = seconds(lambda: ground_state(features, ridge, algorithm="dense"))
        text += f", dense {dense:8.3f} s, ratio {dense / passed:6.1f}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--D", type=int, nargs="+", default=[20, 50, 100, 200])
    parser.add_argument("--alpha", type=float, default=1.5)
    parser.add_argument("--ridge", type=float, default=0.2, help="times D")
    size = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}, alpha {size.alpha}, {size.ridge}/D")
    law = PromptLaw.of("sufficient")
    with one_thread():
        for D in size.D:
            setting = Setting(D=D, N=2 * D, P=round(size.alpha * D * D), ridge=size.ridge / D)
            features = draw_features(setting, np.random.default_rng(D), law=law)
            print(row(features, D, setting.ridge), flush=True)


if __name__ == "__main__":
    main()
