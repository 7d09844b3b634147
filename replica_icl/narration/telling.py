"""A chapter as a command: it prints itself, runs its checks and says what they found."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from replica_icl.narration.chapters import FORMATS
from replica_icl.narration.derivation import Derivation, FailedClaim
from replica_icl.narration.printing import plain
from replica_icl.narration.rendering import render


def tell(derivation: Derivation, arguments: Sequence[str] | None = None) -> int:
    """The command line of a chapter: print it, run its checks, say what they found."""
    parser = argparse.ArgumentParser(description=plain(derivation.title))
    parser.add_argument("--format", choices=FORMATS, default="text")
    parser.add_argument("--long", action="store_true", help="also the checks that take minutes")
    chosen = parser.parse_args(arguments)
    print(render(derivation, chosen.format))
    print("Checks\n------\n")
    held = 0
    try:
        for outcome in derivation.outcomes(chosen.long):
            numbers = f": {outcome.numbers}" if outcome.numbers else ""
            print(f"holds, {outcome.seconds:.1f} s: {plain(outcome.claim.statement)}{numbers}", flush=True)
            held += 1
    except FailedClaim as failure:
        print(plain(str(failure)))
        return 1
    left = len(derivation.claims) - held
    print(f"\n{held} claims hold" + (f"; {left} more with --long" if left else ""))
    return 0
