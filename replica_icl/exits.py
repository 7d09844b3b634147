"""How a command of the command line ends: one line on standard error, and an exit code.

0 fine; 1 did not converge, or theory and simulation disagree; 2 wrong usage. Ended from outside: 128 plus the number
of the signal, as a shell has it, also where nobody reads the output any more (`... | head -1`).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from replica_icl.errors import FileEntryError, ParameterError, ReplicaICLError

INTERRUPTED = 130
CLOSED_PIPE = 141
TERMINATED = 143


class Terminated(BaseException):
    """Asked to end (SIGTERM), as by a queueing system whose time is up; like an interrupt, no error of the program."""


def told(program: str, run: Callable[[], int], typed: Mapping[str, Any] | None = None) -> int:
    """Run a command and tell in one line why it could not do what was asked; the exit code.

    What is imported and started within `run` is ended in order when a signal comes, its processes with it.

    Args:
        typed: the values of options by name, as texts that were typed.
    """
    try:
        with _terminations_raise():
            return run()
    except ParameterError as error:
        print(f"{program}: error: {_as_typed(error, typed or {})}: {error.allowed}", file=sys.stderr)
        return 2
    except ReplicaICLError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Terminated:
        print(f"{program}: terminated", file=sys.stderr)
        return TERMINATED


POSITIONAL = {"name": "NAME", "grid": "GRID.toml", "FILE": "FILE"}
"""Parameters that have a place on the command line and no option."""
RENAMED = {"sought": "for"}


def _as_typed(error: ParameterError, typed: Mapping[str, Any]) -> str:
    """Parameter and value as they were typed; behind a file what is wrong in it."""
    value = " ".join(str(error.value).split())
    if isinstance(error, FileEntryError):
        return f"{error.path}: {error.parameter} {_shortened(value)}"
    if isinstance(text := typed.get(error.parameter), str) and text != value:
        value = text if _same_number(text, value) else f"{text} ({value})"
    value = _shortened(value)
    if error.parameter in POSITIONAL:
        return f"{POSITIONAL[error.parameter]} {value}"
    option = f"--{RENAMED.get(error.parameter, error.parameter).replace('_', '-')}"
    return option if error.value is True else f"{option} {value}"


def _shortened(value: str) -> str:
    return value if len(value) < 200 else value[:196] + " ..."


def _same_number(one: str, other: str) -> bool:
    try:
        return float(one) == float(other)
    except ValueError:
        return False


@contextmanager
def _terminations_raise() -> Iterator[None]:
    """Let SIGTERM raise `Terminated`, where a process may say so: in its main thread."""

    def ask(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: the second would interrupt the tidying up
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, ask)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def until_the_pipe_closes(run: Callable[[], int]) -> int:
    """Run what prints, and end quietly when the reader of a pipe has gone; the exit code."""
    try:
        try:
            return run()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        with suppress(OSError, ValueError):  # no file behind it, as in a notebook
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())  # what is still in the buffer goes there at the end
            os.close(nowhere)
        return CLOSED_PIPE
