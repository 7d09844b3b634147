"""Independent work in order, serially or in processes, with one BLAS thread each.

One thread in the serial case too, so that a result is bit-identical for any number of workers (and because
two processes with uncapped threads took a hundred times longer than capped ones).

Each process has a pipe of its own and one item at a time, so that a process that dies takes that item with it and no
other; it is replaced. Processes end with their parent, however it ends, and an interrupt is the parent's to handle.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from threadpoolctl import ThreadpoolController, threadpool_limits

from replica_icl.errors import SolveError

Item = TypeVar("Item")
Result = TypeVar("Result")


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


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold an interrupt back while a process is started, which inherits that and so never sees one."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """Wait for the end of the parent process, killed or not, and end this one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _serve(pipe: Connection) -> None:
    """A worker process: a function, then items one by one; back goes (True, result) or (False, exception)."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    function = pipe.recv()
    # Only libraries that are loaded can be capped. Receiving the function imports its module, with NumPy and SciPy.
    threadpool_limits(limits=1)
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        try:
            answer: tuple[bool, Any] = True, function(item)
        except Exception as error:
            answer = False, error
        try:
            pipe.send(answer)
        except OSError:
            return
        except Exception as error:  # what cannot be pickled
            pipe.send((False, SolveError(f"the answer of a worker could not be sent: {error}")))


@dataclass(eq=False)
class _Worker(Generic[Item]):
    """A process, this end of its pipe, and the item that it works on with its number."""

    process: BaseProcess
    pipe: Connection
    number: int
    item: Item


class _Pool(Generic[Item, Result]):
    """Processes that work on one item each."""

    def __init__(self, function: Callable[[Item], Result]) -> None:
        self._function = function
        self._context = multiprocessing.get_context("spawn")
        self.working: list[_Worker[Item]] = []

    def start(self, number: int, item: Item) -> None:
        """A new process for an item."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
        with _interrupts_held(), _without_main_module():
            process.start()
            self.working.append(_Worker(process, ours, number, item))
        theirs.close()
        with suppress(BrokenPipeError, ConnectionResetError):  # it died already: `answers` finds out
            ours.send(self._function)
            ours.send(item)

    def answers(self) -> Iterator[tuple[_Worker[Item], tuple[bool, Any] | None]]:
        """Wait for the next answers; None for a process that died."""
        ready = wait([worker.pipe for worker in self.working])
        for worker in [worker for worker in self.working if worker.pipe in ready]:
            try:
                yield worker, worker.pipe.recv()
            except (EOFError, OSError):
                worker.process.join()
                yield worker, None

    def proceed(self, worker: _Worker[Item], following: tuple[int, Item] | None, alive: bool) -> None:
        """The next item to a worker, or to another one in the place of a dead one; without an item, its end."""
        if alive and following is not None:
            worker.number, worker.item = following
            with suppress(BrokenPipeError, ConnectionResetError):  # it died after its answer: `answers` finds out
                worker.pipe.send(worker.item)
            return
        self.working.remove(worker)
        worker.pipe.close()
        if following is not None:
            self.start(*following)

    def end(self) -> None:
        """End every process now; none has anything to lose."""
        for worker in self.working:
            worker.process.kill()
        for worker in self.working:
            worker.process.join()
            worker.pipe.close()
        self.working.clear()


def _without_answer(item: Item, code: int, died: Callable[[Item, int], Result] | None) -> tuple[bool, Any]:
    """What stands for the answer of a process that died."""
    if died is None:
        return False, SolveError(f"a worker process died (exit code {code})")
    return True, died(item, code)


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    *,
    died: Callable[[Item, int], Result] | None = None,
    arrived: Callable[[Result], None] | None = None,
) -> Iterator[Result]:
    """Yield function(item) in the order of the items.

    Args:
        function: a module-level function of an importable module; what it takes and returns is pickled.
        workers: 1 for this process, otherwise the number of spawned processes. When the consumer stops early, is
            interrupted or an item raises, what has not finished is abandoned at once.
        died: the result of an item whose process died, given the item and the exit code (minus the signal); None:
            that is an error.
        arrived: called in this process with every result as it arrives, which may be out of order.

    Raises:
        SolveError: a process died and there is no `died`.
    """
    if workers == 1:
        with threadpool_limits(limits=1):
            for item in items:
                result = function(item)
                if arrived is not None:
                    arrived(result)
                yield result
        return
    pool: _Pool[Item, Result] = _Pool(function)
    waiting, answered, following = iter(enumerate(items)), dict[int, tuple[bool, Any]](), 0
    try:
        for number, item in islice(waiting, workers):
            pool.start(number, item)
        while pool.working:
            for worker, answer in pool.answers():
                number, item = worker.number, worker.item
                pool.proceed(worker, next(waiting, None), alive=answer is not None)
                if answer is None:
                    answer = _without_answer(item, worker.process.exitcode or 0, died)
                if answer[0] and arrived is not None:
                    arrived(answer[1])
                answered[number] = answer
            while following in answered:
                good, value = answered.pop(following)
                if not good:
                    raise value
                following += 1
                yield value
    finally:
        pool.end()
