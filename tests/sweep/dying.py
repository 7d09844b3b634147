"""A cell whose process dies, in a module that other processes can import."""

import os
import signal
from typing import Any

from replica_icl.sweep.work import compute as computed


def compute(described: dict[str, Any]) -> dict[str, Any]:
    """Killed at N = 9, P = 20 in simulation."""
    point = described.get("point", {})
    if (point.get("N"), point.get("P")) == (9, 20):
        os.kill(os.getpid(), signal.SIGKILL)
    return computed(described)
