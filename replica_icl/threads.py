"""One thread of linear algebra per process: on busy processors more threads wait for each other.

Two processes whose BLAS has two threads each took a hundred times as long as with one each. It also makes a result the
same bit by bit wherever it is computed, because a sum over threads is rounded in another order.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any


@cache
def _pools() -> Any:
    """The BLAS libraries of this process; finding them takes ten milliseconds, capping them microseconds.

    Only a library that is loaded can be capped, and NumPy and SciPy bring one each.
    """
    import numpy  # noqa: F401
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """Cap linear algebra at one thread, within `with`."""
    return _pools().limit(limits=1)


def one_thread_from_now_on() -> None:
    """Cap linear algebra at one thread for the rest of this process's life."""
    _pools().limit(limits=1)
