"""Work comes back in order, with one BLAS thread, and stops at the first error."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from threadpoolctl import threadpool_info

from replica_icl.errors import SolveError
from replica_icl.simulator.workers import may_spawn, ordered_map


def blas_threads(item: int) -> tuple[int, list[int]]:
    """The item and the thread count of every BLAS in use (NumPy and SciPy bring their own)."""
    assert np.linalg.norm(scipy.linalg.cholesky(np.eye(2))) > 0
    return item, [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def fail_on_three(item: int) -> int:
    """Raise on 3, return other items."""
    if item == 3:
        raise ArithmeticError("three")
    return item


@pytest.mark.parametrize("workers", [1, 2])
def test_order_is_kept_and_every_blas_is_capped(workers: int) -> None:
    results = list(ordered_map(blas_threads, range(5), workers))
    assert [item for item, _ in results] == [0, 1, 2, 3, 4]
    assert all(threads and set(threads) == {1} for _, threads in results)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_reaches_the_caller_after_the_results_before_it(workers: int) -> None:
    results = ordered_map(fail_on_three, range(6), workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ArithmeticError, match="three"):
        next(results)


def test_a_main_process_may_spawn() -> None:
    assert may_spawn()


def slow_or_dead(item: int) -> int:
    """Die on 2 and on 4; take a while for 0."""
    if item in (2, 4):
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 0:
        time.sleep(0.5)
    return item


def test_a_process_that_dies_takes_one_item_with_it() -> None:
    arrived: list[int] = []
    results = ordered_map(slow_or_dead, range(7), 2, died=lambda item, code: 100 * item + code, arrived=arrived.append)
    assert list(results) == [0, 1, 191, 3, 391, 5, 6]
    assert sorted(arrived) == [0, 1, 3, 5, 6, 191, 391]
    with pytest.raises(SolveError, match="a worker process died"):
        list(ordered_map(slow_or_dead, range(2, 3), 2))


def sleep_long(item: int) -> int:
    """Longer than any test."""
    time.sleep(600 if item else 0)
    return item


def test_a_consumer_that_stops_early_does_not_wait_for_the_others() -> None:
    results = ordered_map(sleep_long, range(4), 2)
    assert next(results) == 0
    results.close()
    assert not multiprocessing.active_children()


def unpicklable(item: int) -> object:
    """Something that cannot go back."""
    return lambda: item


def test_an_answer_that_cannot_be_sent_is_an_error() -> None:
    with pytest.raises(SolveError, match="could not be sent"):
        list(ordered_map(unpicklable, range(2), 2))


def test_processes_end_with_a_parent_that_is_killed() -> None:
    script = (
        "import multiprocessing, os, sys\n"
        "from tests.simulator.test_workers import sleep_long\n"
        "from replica_icl.simulator.workers import ordered_map\n"
        "results = ordered_map(sleep_long, range(3), 2)\n"
        "next(results)\n"
        "print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=root, timeout=60)
    children = [int(pid) for pid in done.stdout.split()]
    assert len(children) == 2
    limit = time.monotonic() + 10
    while any(alive(pid) for pid in children) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in children)


def alive(pid: int) -> bool:
    """Whether a process runs (one that nobody has waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
