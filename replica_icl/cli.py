"""The command line: what is given is checked against the tables first, and heavy imports come after that.

Exit codes: 0 fine; 1 did not converge, or theory and simulation disagree; 2 wrong usage, told in one line.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from replica_icl.commands.parser import build_parser, joined
from replica_icl.exits import told, until_the_pipe_closes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the return value is the exit code."""

    def run() -> int:
        args = build_parser().parse_args(joined(sys.argv[1:] if arguments is None else arguments))
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
        return told(f"replica-icl {args.command}", lambda: args.run(args), vars(args))

    return until_the_pipe_closes(run)


if __name__ == "__main__":
    sys.exit(main())
