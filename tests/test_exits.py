"""Commands end quietly: one line and an exit code, whatever ends them."""

import os
import signal
import subprocess
import sys
import time

import pytest

from replica_icl.exits import TERMINATED, told, until_the_pipe_closes

COMMAND = [sys.executable, "-m", "replica_icl.cli"]


@pytest.mark.parametrize("arguments", [["--help"], ["solve", "--alpha", "2", "--nu", "5", "--lam", "0.2"]])
def test_a_reader_that_goes_away_ends_a_command_without_a_word(arguments: list[str]) -> None:
    """The pipe is closed before anything is written into it, so that no moment has to be met."""
    run = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout is not None
    run.stdout.close()
    assert run.stderr is not None
    try:
        assert run.stderr.read() == ""
        assert run.wait(timeout=60) in (141, 0)  # argparse swallows the error of an unbuffered output
    finally:
        run.kill()
        run.stderr.close()
        run.wait()


def test_an_exit_code_passes_through_and_an_exit_stays_one() -> None:
    assert until_the_pipe_closes(lambda: 1) == 1

    def leave() -> int:
        raise SystemExit(2)

    with pytest.raises(SystemExit):
        until_the_pipe_closes(leave)


def test_a_termination_is_one_line_and_runs_what_tidies_up(capsys: pytest.CaptureFixture[str]) -> None:
    before, tidied = signal.getsignal(signal.SIGTERM), []

    def work() -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            tidied.append(1)
        return 0

    assert told("replica-icl test", work) == TERMINATED
    assert capsys.readouterr().err == "replica-icl test: terminated\n"
    assert tidied == [1]
    assert signal.getsignal(signal.SIGTERM) is before
