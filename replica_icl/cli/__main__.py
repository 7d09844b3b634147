"""`python -m replica_icl.cli` is `replica-icl`."""

import sys

from replica_icl.cli import main

if __name__ == "__main__":
    sys.exit(main())
