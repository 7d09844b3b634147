"""The law of the smallest eigenvalues: integrals in many digits, and consistent with itself."""

import math

import mpmath
import numpy as np
import pytest

from replica_icl.lowering.model import LINEAR_ATTENTION
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.hard_edge import FAR, edge, undetermined

INDICES = (0, 1, 2, 5, 20)


def at(index: int, kappa: float) -> tuple[float, float, float]:
    found = edge(LINEAR_ATTENTION, np.array([index]), np.array([kappa]))
    return float(found.entropy[0]), float(found.slope[0]), float(found.bend[0])


def integral_of_K(index: int, x: mpmath.mpf) -> mpmath.mpf:
    """The integral of K_a from x to infinity, by trapezoid sums of its integral over angles at two steps."""

    def total(step: mpmath.mpf) -> mpmath.mpf:
        ends = int(mpmath.acosh(1 + (80 + 40 * index) / x) / step)
        angles = [step * i for i in range(ends + 1)]
        terms = [mpmath.exp(-x * mpmath.cosh(t)) * mpmath.cosh(index * t) / mpmath.cosh(t) for t in angles]
        return step * (mpmath.fsum(terms) - terms[0] / 2)

    coarse, fine = total(mpmath.mpf("0.08")), total(mpmath.mpf("0.05"))
    assert abs(coarse / fine - 1) < 1e-20
    return fine


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("mu", [1e-3, 0.4, 3.0, 20.0])
def test_directions_that_are_left_with_many_digits(index: int, mu: float) -> None:
    with mpmath.workdps(30):
        x = mpmath.mpf(mu)
        inside, outside = mpmath.besseli, mpmath.besselk
        exact = x**2 / 2 * (inside(index, x) * outside(index, x) + inside(index + 1, x) * outside(index - 1, x))
        exact += x / 2 * inside(index, x) * integral_of_K(index, x)
    found, by_log = undetermined(index, np.array([mu]))
    assert found[0] == pytest.approx(float(exact), rel=1e-10)
    step = 1e-5
    low, high = (undetermined(index, np.array([mu * math.exp(sign * step / 2)]))[0][0] for sign in (-1, 1))
    assert by_log[0] == pytest.approx((high - low) / (2 * step), rel=1e-5)  # d/dlog mu^2


@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("kappa", [0.05, 1.0, 6.0, 30.0])
def test_slope_and_bend_are_derivatives(index: int, kappa: float) -> None:
    """On both sides of the place where the inverse powers begin."""
    step = 1e-4 * kappa
    low, high = at(index, kappa - step), at(index, kappa + step)
    _, slope, bend = at(index, kappa)
    assert slope == pytest.approx((high[0] - low[0]) / (2 * step), rel=1e-5, abs=1e-10)
    assert bend == pytest.approx((high[1] - low[1]) / (2 * step), rel=1e-5, abs=1e-10)


def test_it_is_continuous_where_inverse_powers_begin_and_vanishes_far_away() -> None:
    for index in INDICES:
        kappa = (FAR - index) / 2
        near, far = at(index, kappa * (1 - 1e-9)), at(index, kappa * (1 + 1e-9))
        assert near == pytest.approx(far, rel=1e-5)
        assert at(index, 1e6)[0] * 1e6 == pytest.approx(at(index, 1e5)[0] * 1e5, rel=1e-2)
        assert at(index, 1e6)[0] < 0


def test_a_square_matrix_at_its_edge() -> None:
    """w' kappa -> -(pi/2 - 1) + 1/4 as kappa -> 0: the law has pi/2, the saddle point 1 and fluctuations 1/4."""
    kappa = 1e-9
    z_squared = kappa**2
    by_log = at(0, kappa)[1] * kappa / 2  # kappa^2 = z^2
    assert by_log == pytest.approx(-(math.pi / 2 * math.sqrt(z_squared) - kappa - 0.25) / 2, rel=1e-6)


def test_far_from_the_edge_it_is_not_counted() -> None:
    """At weak prompts or a large ridge kappa is min(P, n); next to the edge it is counted once, up to order 1/n^2."""
    matched = LINEAR_ATTENTION.fresh_tasks_next_order.matched
    law = dict(W=-1.0, W_slope=3.0, W_bend=-7.0)

    def counted(kappa: float, smaller: float, larger: float) -> tuple[float, float, float]:
        found = matched(NUMPY, **law, kappa=kappa, smaller=smaller, larger=larger)
        return found.entropy, found.slope, found.bend

    assert counted(12.0, 12.0, 20.0) == (0.0, 0.0, 0.0)
    assert np.abs(counted(0.0, 1.0, 1000.0)) == pytest.approx(0, abs=1e-3)
    assert counted(0.0, 1000.0, 1000.0) == pytest.approx((-1.0, 3.0, -7.0), abs=2e-5)
    assert counted(0.0, 990.0, 1010.0) == pytest.approx((-1.0, 3.0, -7.0), rel=2e-3)


def test_without_a_ridge_square_matrices_and_their_neighbours_have_no_mean() -> None:
    for index in (0, 1):
        assert not all(math.isfinite(x) for x in at(index, 0.0))
    assert all(math.isfinite(x) for x in at(2, 0.0))
