"""Rules for chi-squares and Gaussians against exact moments and averages at high precision."""

import math
from functools import cache

import mpmath
import numpy as np
import pytest

from replica_icl.lowering.model import LINEAR_ATTENTION
from replica_icl.numeric import finite_size
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.prompt_nodes import PromptNodes
from replica_icl.numeric.averages.quadrature import (
    Rule,
    chi_square_rule,
    gauss_chi_square,
    gauss_normal,
    normal_rule,
    safe_step,
    trapezoid_chi_square,
    trapezoid_normal,
)
from replica_icl.numeric.solve import solve
from replica_icl.setting import Setting

FEW = (1, 2, 5)
STEEPEST = 1e10


def chi_square_moment(dof: float, k: int) -> float:
    """E x^k of x = chi2_dof / dof: prod_(i<k) (1 + 2 i / dof)."""
    return math.prod(1 + 2 * i / dof for i in range(k))


def normal_moment(k: int) -> float:
    return 0.0 if k % 2 else float(math.prod(range(1, k, 2)))


def average(rule: Rule, power: int, slope: float, j: int, s: int) -> float:
    """< z^j / (1 + slope z)^s > with z = x^power, by the rule."""
    z = rule[0] ** power
    return float(rule[1] @ (z**j / (1 + slope * z) ** s))


@cache
def exact_average(dof: int, slope: float, j: int, s: int) -> float:
    """The same for power 1 in closed form: E x^j z^a U(a, a + 1 - s, z), a = dof/2 + j, z = dof/(2 slope)."""
    with mpmath.workdps(30):
        half = mpmath.mpf(dof) / 2
        a, z = half + j, half / mpmath.mpf(slope)
        return float(mpmath.rf(half, j) / half**j * z**a * mpmath.hyperu(a, a + 1 - s, z))


def integral(dof: int, power: int, slope: float, j: int, s: int) -> float:
    """The same by adaptive quadrature in t = log x, cut where the integrand changes its behaviour."""
    with mpmath.workdps(20):
        half, corner = mpmath.mpf(dof) / 2, -mpmath.log(slope) / power

        def integrand(t: mpmath.mpf) -> mpmath.mpf:
            density = mpmath.exp(half * (mpmath.log(half) + t - mpmath.exp(t)) - mpmath.loggamma(half))
            return density * mpmath.exp(power * j * t) / (1 + slope * mpmath.exp(power * t)) ** s

        edges = [-120 / half, -30 / half, corner - 4, corner, corner + 4, mpmath.mpf(0), mpmath.mpf(2), mpmath.mpf(6)]
        return float(mpmath.quad(integrand, sorted(edges)))


@pytest.mark.parametrize("dof", [1, 2, 5, 9, 19, 350, 351, 10_000, 10**6])
@pytest.mark.parametrize("order", [1, 2, 5, 20])
def test_gauss_rules_are_exact_for_moments_up_to_twice_their_order(dof: int, order: int) -> None:
    nodes, weights = gauss_chi_square(dof, order)
    assert (nodes > 0).all()
    assert (weights > 0).all()
    for k in range(2 * order):
        assert weights @ nodes**k == pytest.approx(chi_square_moment(dof, k), rel=1e-12)
    if dof < 20:  # and no further: the remainder is positive
        assert weights @ nodes ** (2 * order) < chi_square_moment(dof, 2 * order)


@pytest.mark.parametrize("order", [1, 2, 7, 20])
def test_gauss_rules_of_a_normal_are_exact_for_moments_up_to_twice_their_order(order: int) -> None:
    nodes, weights = gauss_normal(order)
    for k in range(2 * order):
        scale = weights @ np.abs(nodes) ** k
        assert weights @ nodes**k == pytest.approx(normal_moment(k), rel=1e-12, abs=1e-12 * scale)


@pytest.mark.parametrize("dof", [350.0, 1e4, 1e6])
def test_rules_for_many_degrees_of_freedom_are_accurate_where_the_integrand_is_a_constant_times_a_power(
    dof: float,
) -> None:
    """x^(1/2) and 1/x, with moments from the gamma function at high precision."""
    with mpmath.workdps(40):
        half = mpmath.mpf(dof) / 2
        root = float(mpmath.gammaprod([half + mpmath.mpf(1) / 2], [half]) / mpmath.sqrt(half))
        inverse = float(half / (half - 1))
    for rule in (gauss_chi_square(dof, 12), trapezoid_chi_square(dof, safe_step(dof, 1e-12), -40.0)):
        assert rule[1] @ np.sqrt(rule[0]) == pytest.approx(root, rel=1e-12)
        assert rule[1] @ (1 / rule[0]) == pytest.approx(inverse, rel=1e-12)


def test_weights_add_to_one_and_rules_are_shared_read_only() -> None:
    for rule in (gauss_chi_square(7, 9), gauss_normal(9), trapezoid_chi_square(7, 0.2, -30.0), normal_rule(1e-7)):
        assert rule[1].sum() == pytest.approx(1, rel=1e-14)
        assert not rule[0].flags.writeable
        assert not rule[1].flags.writeable
    assert gauss_chi_square(7, 9) is gauss_chi_square(7, 9)


@pytest.mark.parametrize("dof", FEW)
@pytest.mark.parametrize("slope", [37.0, 4e5])
def test_the_closed_form_is_the_integral(dof: int, slope: float) -> None:
    """The witness of the tests below is itself compared with adaptive quadrature."""
    for j, s in ((0, 1), (0, 2), (1, 1), (1, 2)):
        assert exact_average(dof, slope, j, s) == pytest.approx(integral(dof, 1, slope, j, s), rel=1e-12)


@pytest.mark.parametrize("gauss", [True, False], ids=["cheapest", "trapezoid"])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10])
@pytest.mark.parametrize("dof", [*FEW, 9, 20, 100])
def test_chi_square_rule_keeps_its_tolerance_at_every_slope(dof: int, tolerance: float, gauss: bool) -> None:
    rule = chi_square_rule(dof, tolerance, STEEPEST, 1, gauss)
    for slope in (0.03, 0.3, 37.0, 4e5, 7e8, STEEPEST):
        for j, s in ((0, 1), (1, 1), (0, 2), (1, 2), (2, 2)):
            exact = exact_average(dof, slope, j, s)
            assert average(rule, 1, slope, j, s) == pytest.approx(exact, rel=tolerance), (slope, j, s)


@pytest.mark.parametrize("dof", FEW)
def test_chi_square_rule_keeps_its_tolerance_for_squares(dof: int) -> None:
    """Label norms enter the integrands squared: z = x^2."""
    rule = chi_square_rule(dof, 1e-7, STEEPEST, 2)
    for slope in (37.0, 4e5, STEEPEST):
        for j, s in ((0, 1), (0, 2), (1, 1)):
            assert average(rule, 2, slope, j, s) == pytest.approx(integral(dof, 2, slope, j, s), rel=1e-7)


@pytest.mark.parametrize("dof", [3, 4])
def test_rules_for_squares_reach_as_far_for_first_powers(dof: int) -> None:
    """At four degrees of freedom every decade from x = 1/b to 1 gives the same to < 1 / (1 + b x)^2 >; a rule that ends
    where squares need it misses half."""
    for gauss in (True, False):
        rule = chi_square_rule(dof, 1e-7, STEEPEST, 2, gauss)
        assert average(rule, 1, STEEPEST, 0, 2) == pytest.approx(exact_average(dof, STEEPEST, 0, 2), rel=1e-6)


def test_no_degrees_of_freedom_have_one_node() -> None:
    for gauss in (True, False):
        nodes, weights = chi_square_rule(0, 1e-7, STEEPEST, 1, gauss)
        assert nodes.shape == (1,)
        assert weights == [1.0]


@pytest.mark.parametrize("dof", [1, 2, 5, 20, 1000])
def test_trapezoid_error_falls_exponentially_with_the_inverse_step(dof: int) -> None:
    """Shrinking the step as `safe_step` says for ten times the accuracy buys at least that, down to rounding."""
    for tolerance in (1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12):
        rule = trapezoid_chi_square(dof, safe_step(dof, tolerance), -60.0, 2)
        for k in (1, 2):
            assert rule[1] @ rule[0] ** k == pytest.approx(chi_square_moment(dof, k), rel=max(tolerance, 1e-13))
    nodes = [len(chi_square_rule(dof, tolerance, 1e4, 1, False)[0]) for tolerance in (1e-3, 1e-6, 1e-12)]
    assert nodes[2] < 3 * nodes[1] < 9 * nodes[0]  # digits cost nodes in proportion, at most


def test_trapezoid_rule_of_a_normal_knows_its_moments() -> None:
    nodes, weights = trapezoid_normal(0.5, 10.0)
    for k in range(9):
        assert weights @ nodes**k == pytest.approx(normal_moment(k), rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("gauss", [True, False])
def test_normal_rule_keeps_its_tolerance(gauss: bool) -> None:
    """E exp(t xi) = exp(t^2/2), entire and smooth on the scale of the Gaussian."""
    for tolerance in (1e-4, 1e-7, 1e-10):
        nodes, weights = normal_rule(tolerance, gauss)
        for t in (0.3, 1.0):
            assert weights @ np.exp(t * nodes) == pytest.approx(math.exp(t * t / 2), rel=tolerance)


def test_cheapest_rule_takes_gauss_where_it_is_shorter_and_the_trapezoid_where_gauss_fails() -> None:
    for dof, slope, shorter in ((1000, 1e4, True), (100, 1.0, True), (1, 1e6, False), (2, 1e6, False)):
        cheapest = chi_square_rule(dof, 1e-7, slope)
        trapezoid = chi_square_rule(dof, 1e-7, slope, 1, False)
        assert (len(cheapest[0]) < len(trapezoid[0])) is shorter


@pytest.mark.parametrize("dof", [1, 2])
def test_doubling_a_gauss_order_hides_that_both_are_wrong(dof: int) -> None:
    """With few degrees of freedom and a small ridge (a large slope) two orders agree with each other on < s^2 > to a
    millionth of the error that they share: neither has a node at the small norms that carry the average."""
    exact = exact_average(dof, STEEPEST, 0, 2)
    ten, twenty = (average(gauss_chi_square(dof, order), 1, STEEPEST, 0, 2) for order in (10, 20))
    assert abs(twenty - ten) < 1e-6 * abs(twenty - exact)
    assert abs(twenty - exact) > 0.99 * exact
    right = average(chi_square_rule(dof, 1e-7, STEEPEST), 1, STEEPEST, 0, 2)
    assert right == pytest.approx(exact, rel=1e-7)


def test_the_trap_is_there_in_the_theory_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """P = 15, D = 10, N = 2, ridge 1e-3: a product of Gauss rules of order 10, then 14, misses e_icl by a third."""
    setting = Setting(D=10, N=2, P=15, ridge=1e-3)
    functions = LINEAR_ATTENTION.fresh_tasks
    degrees = functions.degrees_of_freedom(NUMPY, D=setting.D, N=setting.N)._asdict()

    def product(order: int) -> PromptNodes:
        rules = [gauss_chi_square(float(dof), order) for dof in degrees.values()]
        grid = np.meshgrid(*(nodes for nodes, _ in rules), indexing="ij")
        weights = np.einsum("i,j,k,l->ijkl", *(w for _, w in rules)).ravel()
        factors = {name: axis.ravel() for name, axis in zip(degrees, grid, strict=True)}
        scalars = functions.scalars(NUMPY, **factors, xi=0.0, D=setting.D, N=setting.N, rho=0.0)
        return PromptNodes(tuple(x[None, :] for x in scalars), weights)

    right = solve(setting).saddle["e_icl"]
    found = {}
    for order in (10, 14):
        nodes = product(order)
        with monkeypatch.context() as patch:
            patch.setattr(finite_size, "prompt_nodes", lambda *args, nodes=nodes, **kwargs: nodes)
            found[order] = solve(setting).saddle["e_icl"]
    assert found[10] == pytest.approx(1.851, abs=5e-4)
    assert right == pytest.approx(2.784705, abs=5e-7)
    assert abs(found[14] - found[10]) < 0.25 * abs(found[14] - right)
    assert found[14] < 0.75 * right
