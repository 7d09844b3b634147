"""Every test process has one thread for linear algebra: with more, parallel test processes wait for each other.

Two workers whose BLAS has two threads each are an order of magnitude slower on two cores than with one thread each.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # before NumPy is imported; processes that a test starts inherit it
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=1)


class Command:
    """The command line in a process, and everything that it starts, as a terminal has it in one session."""

    def __init__(self, arguments: tuple[str, ...], folder: Path | None = None) -> None:
        command = [sys.executable, "-m", "replica_icl.cli", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with _interrupts_heard():
            self.run = subprocess.Popen(command, cwd=folder, start_new_session=True, **pipes)

    def wait_for(self, condition: Callable[[], object], seconds: float = 120) -> None:
        """Until something holds or the command has ended; the limit is for a machine under load."""
        limit = time.monotonic() + seconds
        while not condition() and self.run.poll() is None and time.monotonic() < limit:
            time.sleep(0.005)

    def ended(self, seconds: float = 120) -> tuple[int, str, str]:
        """Exit code and what was printed."""
        out, err = self.run.communicate(timeout=seconds)
        return self.run.returncode, out, err

    def left(self) -> list[int]:
        """Processes of the session that run, a second and more after its end."""
        found: list[int] = []
        for _ in range(100):
            found = [int(path.name) for path in Path("/proc").glob("[0-9]*") if _session(path) == self.run.pid]
            if not found:
                break
            time.sleep(0.1)
        return found

    def end(self) -> None:
        """Kill what is left."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.run.pid, signal.SIGKILL)
        for pid in self.left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.run.communicate()


@contextmanager
def _interrupts_heard() -> Iterator[None]:
    """A process ignores interrupts if the one that starts it does, as what a shell runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _session(process: Path) -> int | None:
    """The session of a process, None if it is over."""
    try:
        state, _, _, session, *_ = (process / "stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, ValueError):
        return None
    return None if state == "Z" else int(session)


@pytest.fixture
def start() -> Iterator[Callable[..., Command]]:
    """Start a command of the command line; no test leaves a process behind, however it ends."""
    started: list[Command] = []

    def begin(*arguments: str, folder: Path | None = None) -> Command:
        started.append(Command(arguments, folder))
        return started[-1]

    yield begin
    for command in started:
        command.end()
