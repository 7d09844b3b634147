"""Work comes back as it is finished, with one BLAS thread, and stops at the first error."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from threadpoolctl import threadpool_info

from replica_icl.errors import WorkerError
from replica_icl.processes import as_finished, may_spawn


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
def test_every_item_comes_back_with_its_number_and_every_blas_is_capped(workers: int) -> None:
    results = dict(as_finished(blas_threads, range(10, 15), workers))
    assert {number: item for number, (item, _) in results.items()} == {0: 10, 1: 11, 2: 12, 3: 13, 4: 14}
    assert all(threads and set(threads) == {1} for _, threads in results.values())
    assert [number for number, _ in as_finished(blas_threads, range(3))] == [0, 1, 2]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_reaches_the_caller(workers: int) -> None:
    arrived: list[int] = []
    with pytest.raises(ArithmeticError, match="three"):
        arrived.extend(value for _, value in as_finished(fail_on_three, range(6), workers))
    assert set(arrived) < {0, 1, 2, 4, 5}
    assert workers == 2 or arrived == [0, 1, 2]
    assert not multiprocessing.active_children()


def held_back(item: int) -> tuple[int, bool, bool]:
    """The process, and whether an interrupt and a termination do not reach it."""
    time.sleep(0.2)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return os.getpid(), signal.SIGINT in mask, signal.SIGTERM in mask


def test_an_interrupt_of_the_terminal_is_the_parent_s_alone() -> None:
    """In a fresh process, whose first child is started beside the tracker of `multiprocessing`."""
    script = (
        "from tests.test_processes import held_back\n"
        "from replica_icl.processes import as_finished\n"
        "found = {value for _, value in as_finished(held_back, range(6), 2)}\n"
        "print(len(found), {(interrupts, ends) for _, interrupts, ends in found})\n"
    )
    run = [sys.executable, "-c", script]
    done = subprocess.run(run, capture_output=True, text=True, cwd=Path(__file__).parents[1], timeout=120, check=True)
    assert done.stdout == "2 {(True, False)}\n"


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
    results = dict(as_finished(slow_or_dead, range(7), 2, died=lambda item, code: 100 * item + code))
    assert results == {0: 0, 1: 1, 2: 191, 3: 3, 4: 391, 5: 5, 6: 6}
    with pytest.raises(WorkerError, match="a worker process died"):
        list(as_finished(slow_or_dead, range(2, 3), 2))


def sleep_long(item: int) -> int:
    """Longer than any test."""
    time.sleep(600 if item else 0)
    return item


def test_a_consumer_that_stops_early_does_not_wait_for_the_others() -> None:
    results = as_finished(sleep_long, range(4), 2)
    assert next(results) == (0, 0)
    results.close()
    assert not multiprocessing.active_children()


def unpicklable(item: int) -> object:
    """Something that cannot go back."""
    return lambda: item


def test_an_answer_that_cannot_be_sent_is_an_error() -> None:
    with pytest.raises(WorkerError, match="could not be sent"):
        list(as_finished(unpicklable, range(2), 2))


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_processes_end_with_a_parent_that_is_ended(sent: signal.Signals) -> None:
    script = (
        "import multiprocessing, os, sys\n"
        "from tests.test_processes import sleep_long\n"
        "from replica_icl.processes import as_finished\n"
        "results = as_finished(sleep_long, range(3), 2)\n"
        "next(results)\n"
        "print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        f"os.kill(os.getpid(), {int(sent)})\n"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=root, timeout=60)
    children = [int(pid) for pid in done.stdout.split()]
    assert len(children) == 2
    limit = time.monotonic() + 30
    while any(alive(pid) for pid in children) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in children)


def alive(pid: int) -> bool:
    """Whether a process runs (one that nobody has waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_items_are_taken_as_there_is_somebody_to_work_on_them() -> None:
    """A billion items are no list."""
    taken = []
    items = (taken.append(item) or item for item in range(10**9))
    results = as_finished(fail_on_three, items, 2)
    next(results)
    results.close()
    assert len(taken) <= 4


class Picky(Exception):
    """An error that pickles and does not come back."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def fail_pickily(item: int) -> int:
    raise Picky(item, item)


def test_an_error_that_does_not_survive_the_way_back_is_told_all_the_same() -> None:
    with pytest.raises(WorkerError, match="Picky: 4 and 4"):
        list(as_finished(fail_pickily, [4], 2))


def work_in_a_daemon(pipe: Connection) -> None:
    """Ask for two processes where there may be none."""
    pipe.send(sorted(as_finished(fail_on_three, range(3), 2)))


def test_a_daemonic_process_does_the_work_itself() -> None:
    """As the workers of `multiprocessing.Pool` are."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=work_in_a_daemon, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    assert ours.recv() == [(0, 0), (1, 1), (2, 2)]
    process.join()
    ours.close()
