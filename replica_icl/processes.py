"""Independent work, in this process or in several, with one thread of linear algebra each.

One thread in this process too, so that a result is the same bit by bit for any number of workers (`threads`). Each
process has a pipe of its own and one item at a time, so that a process that dies takes that item with it and no other;
it is replaced. Processes end with their parent, however it ends, and an interrupt is the parent's to handle.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import types
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from replica_icl.errors import WorkerError
from replica_icl.threads import one_thread, one_thread_from_now_on

Item = TypeVar("Item")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)


def may_spawn() -> bool:
    """Whether this process may have child processes (a daemonic one, as in `multiprocessing.Pool`, may not)."""
    return not multiprocessing.current_process().daemon


def processors() -> int:
    """Processors that this process may use; a queueing system often grants fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


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


@contextmanager
def held(*signals: signal.Signals) -> Iterator[None]:
    """Hold signals back while processes are started, which inherit that and never see an interrupt of the terminal."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # started later, it would let the signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
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


def _sendable(error: Exception) -> Exception:
    """The error, or one that says the same where it would not survive the way to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return WorkerError(f"{type(error).__name__}: {error}")
    return error


def _serve(pipe: Connection) -> None:
    """A worker process: a function, then items one by one; back goes (True, result) or (False, exception)."""
    if hasattr(signal, "pthread_sigmask"):  # interrupts stay held
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    function: Any = None
    while True:
        try:
            received = pipe.recv()
        except EOFError:
            return
        except Exception as error:  # it holds something that only the parent's main module knows
            pipe.send((False, WorkerError(f"the work could not be sent to another process: {error}")))
            return
        if function is None:
            function = received
            one_thread_from_now_on()
            continue
        try:
            answer: tuple[bool, Any] = True, function(received)
        except Exception as error:
            answer = False, _sendable(error)
        try:
            pipe.send(answer)
        except OSError:
            return
        except Exception as error:  # what cannot be pickled
            pipe.send((False, WorkerError(f"the answer of a worker could not be sent: {error}")))


@dataclass(eq=False)
class _Worker(Generic[Item]):
    """A process, this end of its pipe, and the item that it works on with its number."""

    process: BaseProcess
    pipe: Connection
    number: int
    item: Item

    def end(self) -> None:
        """End the process, which has nothing to lose, and wait for that."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


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
        with held(signal.SIGINT, signal.SIGTERM), _without_main_module():
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
        worker.end()
        if following is not None:
            self.start(*following)

    def end(self) -> None:
        """End every process now."""
        for worker in self.working:
            worker.process.kill()
        for worker in self.working:
            worker.end()
        self.working.clear()


def _without_answer(item: Item, code: int, died: Callable[[Item, int], Result] | None) -> tuple[bool, Any]:
    """What stands for the answer of a process that died."""
    if died is None:
        return False, WorkerError(f"a worker process died (exit code {code})")
    return True, died(item, code)


def as_finished(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int = 1,
    *,
    died: Callable[[Item, int], Result] | None = None,
) -> Generator[tuple[int, Result], None, None]:
    """Yield (number, function(item)) for the items, numbered from 0, as each is finished.

    Args:
        function: a module-level function of an importable module; what it takes and returns is pickled.
        items: taken one by one, as there is somebody to work on them.
        workers: 1 for this process and the order of the items, otherwise the number of spawned processes. A process
            that may have none of its own does the work itself. When the consumer stops early, is interrupted or an
            item raises, what has not finished is abandoned at once.
        died: the result of an item whose process died, given the item and the exit code (minus the signal); None:
            that is an error.

    Raises:
        WorkerError: a process died and there is no `died`, or something could not be sent.
    """
    if workers > 1 and not may_spawn():
        _log.info("a daemonic process may have no processes of its own: it does the work itself")
        workers = 1
    if workers == 1:
        with one_thread():
            for number, item in enumerate(items):
                yield number, function(item)
        return
    pool: _Pool[Item, Result] = _Pool(function)
    waiting = iter(enumerate(items))
    try:
        for number, item in islice(waiting, workers):
            pool.start(number, item)
        while pool.working:
            for worker, answer in pool.answers():
                number, item = worker.number, worker.item
                pool.proceed(worker, next(waiting, None), alive=answer is not None)
                if answer is None:
                    answer = _without_answer(item, worker.process.exitcode or 0, died)
                good, value = answer
                if not good:
                    raise value
                yield number, value
    finally:
        pool.end()
