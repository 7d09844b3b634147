"""Work comes back in order, with one BLAS thread, and stops at the first error."""

import numpy as np
import pytest
import scipy.linalg
from threadpoolctl import threadpool_info

from replica_icl.simulator.workers import may_spawn, ordered_map


def blas_threads(item: int) -> tuple[int, list[int]]:
    """The item and the thread count of every BLAS in use (NumPy and SciPy bring their own)."""
    assert np.linalg.norm(scipy.linalg.cholesky(np.eye(2))) > 0
    return item, [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def fail_on_three(item: int) -> int:
    """Raise on 3, return other items."""
    if item == 3:
        raise ArithmeticError("three")
    return item


@pytest.mark.parametrize("workers", [1, 2])
def test_order_is_kept_and_every_blas_is_capped(workers: int) -> None:
    results = list(ordered_map(blas_threads, range(5), workers))
    assert [item for item, _ in results] == [0, 1, 2, 3, 4]
    assert all(threads and set(threads) == {1} for _, threads in results)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_reaches_the_caller_after_the_results_before_it(workers: int) -> None:
    results = ordered_map(fail_on_three, range(6), workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ArithmeticError, match="three"):
        next(results)


def test_a_main_process_may_spawn() -> None:
    assert may_spawn()
