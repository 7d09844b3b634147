"""Independent work in order, serially or in processes, with one BLAS thread each.

One thread in the serial case too, so that a result is bit-identical for any number of workers (and because
two processes with uncapped threads took a hundred times longer than capped ones).
"""

from __future__ import annotations

import multiprocessing
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController, threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


def _cap_threads(function: Callable[..., object]) -> None:
    """Cap the BLAS threads of a worker process for its lifetime.

    Only libraries that are loaded can be capped. Receiving the function imports its module, and with that
    NumPy and SciPy, before this line runs.
    """
    threadpool_limits(limits=1)


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Hide the caller's `__main__` while processes are spawned.

    A spawned process imports the parent's main script again, which fails for a script read from a pipe and
    runs an unguarded script twice. The functions mapped here live in this package and need no main module.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@cache
def _pools() -> ThreadpoolController:
    """The BLAS libraries of this process; finding them takes ten milliseconds, capping them microseconds."""
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """Cap BLAS at one thread for many small products: on busy processors more threads wait for each other."""
    return _pools().limit(limits=1)


def may_spawn() -> bool:
    """Whether this process may have child processes (a daemonic worker may not)."""
    return not multiprocessing.current_process().daemon


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield function(item) in the order of the items.

    Args:
        function: a module-level function of an importable module; what it takes and returns is pickled.
        workers: 1 for this process, otherwise the number of spawned processes. When the consumer stops early
            or an item raises, what has not started is cancelled.
    """
    if workers == 1:
        with threadpool_limits(limits=1):
            yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_cap_threads, initargs=(function,))
    try:
        with _without_main_module():  # every process is started by the first submission
            results = pool.map(function, items)
        yield from results
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
