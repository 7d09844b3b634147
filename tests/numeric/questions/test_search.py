"""The search for the least value: over several minima, at an end, beside values that do not exist."""

import numpy as np
import pytest

from replica_icl.errors import SolveError
from replica_icl.numeric.questions.search import RESOLUTION, least


def wells(x: np.ndarray) -> np.ndarray:
    """A wide minimum at -6, and at 4.2 one that is deeper and narrow: as wide as an error's in log lambda_0."""
    return 1 - 0.5 * np.exp(-((x + 6) ** 2) / 8) - 0.6 * np.exp(-((x - 4.2) ** 2) / 0.5)


def test_the_deeper_of_two_minima_is_found_to_its_resolution() -> None:
    found, interior = least(wells, np.log(1e-8), np.log(1e3))
    assert interior
    assert abs(found - 4.2) <= RESOLUTION


def test_a_minimum_beside_values_that_do_not_exist_is_found() -> None:
    found, interior = least(lambda x: np.where(x < 4, np.nan, wells(x)), -18.0, 7.0)
    assert interior
    assert abs(found - 4.2) <= RESOLUTION


@pytest.mark.parametrize(("slope", "end"), [(1.0, -3.0), (-1.0, 5.0)])
def test_what_falls_to_an_end_is_told(slope: float, end: float) -> None:
    assert least(lambda x: slope * x, -3.0, 5.0) == (end, False)


def test_where_nothing_can_be_solved_is_an_error() -> None:
    with pytest.raises(SolveError, match="no value between"):
        least(lambda x: np.full(x.shape, np.nan), 0.0, 1.0)
