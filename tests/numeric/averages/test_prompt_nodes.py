"""Nodes of the prompt law against exact moments, the full product rule and prompts drawn token by token."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy as sp

from replica_icl.lowering.model import LINEAR_ATTENTION, Model
from replica_icl.model.prompts.gaussian import fresh_task_prompts
from replica_icl.numeric.arithmetic import NUMPY
from replica_icl.numeric.averages.groups import Groups, multiplied_out
from replica_icl.numeric.averages.prompt_nodes import PromptNodes, factor_rules, mean_prompt, prompt_nodes
from replica_icl.symbolic import symbols as s

T, omega, g, a, ell = s.SCALARS
Z_MAX = 4.0

SQUARES = 2.0**8
"""How much worse than x = e^t the lattice may carry x^2: interpolation errs by a high derivative in t."""

LAWS = [(10, 20, 0.0), (10, 20, 0.25), (20, 3, 0.0), (5, 2, 0.0), (100, 200, 0.1), (1000, 10, 0.0)]
SHORT = [(2, 2, 10.0), (2, 3, 0.1), (3, 2, 1.0), (4, 5, 0.3), (2, 1, 0.5)]
"""Few degrees of freedom with label noise, one label included: D, N, rho."""
LINEAR = ("T a", "T g", "T omega", "T l^2")
ABSORBED = {
    "T a": T * a,
    "T g": T * g,
    "T omega": T * omega,
    "T l^2": T * ell**2,
    "(T a)^2": (T * a) ** 2,
    "T a T g": T * a * T * g,
    "T a T omega": T * a * T * omega,
    "T a T l^2": T * a * T * ell**2,
    "(T l^2)^2": (T * ell**2) ** 2,
    "T l^2 T g": T * ell**2 * T * g,
}
"""Averages whose integrands see T as the theory does; by the law they are exact rational functions."""


@pytest.fixture(scope="module")
def model() -> Model:
    return LINEAR_ATTENTION


@pytest.fixture(scope="module")
def exact_moments() -> dict[str, Callable[..., float]]:
    law = fresh_task_prompts()
    return {name: sp.lambdify((s.D, s.N, s.noise), law.moment(x)) for name, x in ABSORBED.items()}


def integrands_of(model: Model, V: float, V_u: float, D: int, P: int, noise: float) -> list[Callable[..., Any]]:
    """The lowered integrands of the solver at one point, caught on their way to the average."""
    caught: list[Callable[..., Any]] = []

    def catch(integrands: Callable[..., Groups]) -> tuple[Any, ...]:
        caught.append(integrands)
        return tuple(1.0 for _ in multiplied_out(integrands(1.0, 1.0, 1.0, 1.0, 1.0)))

    V, V_u = np.float64(V), np.float64(V_u)  # what follows from averages of one may divide by zero
    sizes = {"D": float(D), "P": float(P), "c": 1.0}
    fields = {"field": 0.1, "field_u": 0.1}
    with np.errstate(all="ignore"):
        model.fresh_tasks.fluctuations(NUMPY, catch, V=V, V_u=V_u, **sizes, **fields)
        model.fresh_tasks.order_parameters(NUMPY, catch, V=V, V_u=V_u, **sizes, **fields, rho=noise)
        order = {"m": 0.5, "q": 0.4, "u": 0.02}
        model.fresh_tasks.thermal(
            NUMPY, catch, **order, V=V, V_u=V_u, D=float(D), P=float(P), lambda_0=0.1, lambda_u=0.1, rho=noise, beta=P
        )
    return caught


def averages(nodes: PromptNodes, integrands: list[Callable[..., Any]]) -> np.ndarray:
    return np.array([np.ravel(x)[0] for group in integrands for x in nodes.average(group)])


def full_product(model: Model, D: int, N: int, noise: float, tolerance: float, steepest: float) -> PromptNodes:
    """Every factor by the trapezoid rule, all of them multiplied out, T too: no lattice, nothing dropped or merged."""
    rules = factor_rules(model, D, N, noise, tolerance, steepest, gauss=False)
    grid = np.meshgrid(*(nodes for nodes, _ in rules.values()), indexing="ij")
    weights = np.ones(())
    for _, w in rules.values():
        weights = np.multiply.outer(weights, w)
    factors = {name: axis.ravel() for name, axis in zip(rules, grid, strict=True)}
    scalars = model.fresh_tasks.scalars(NUMPY, **factors, D=D, N=N, rho=noise)
    return PromptNodes(tuple(getattr(scalars, x.name)[None, :] for x in s.SCALARS), weights.ravel())


def drawn_scalars(count: int, D: int, N: int, noise: float, seed: int) -> tuple[np.ndarray, ...]:
    """T, omega, c.w/sqrt(D), |c|^2, l of `count` prompts drawn token by token."""
    rng = np.random.default_rng(seed)
    w, query = rng.standard_normal((count, D)), rng.standard_normal((count, D))
    tokens = rng.standard_normal((count, N, D))
    labels = np.einsum("nid,nd->ni", tokens, w) / math.sqrt(D)
    labels += math.sqrt(noise) * rng.standard_normal((count, N))
    context = np.einsum("ni,nid->nd", labels, tokens) / N
    return (
        np.sum(query**2, axis=1) / D,
        np.sum(w**2, axis=1) / D,
        np.sum(context * w, axis=1) / math.sqrt(D),
        np.sum(context**2, axis=1),
        np.sum(labels**2, axis=1) / N,
    )


@pytest.mark.parametrize(("D", "N", "noise"), [*LAWS, *SHORT, (3, 200, 1.0)])
@pytest.mark.parametrize("check", [False, True], ids=["rule", "check rule"])
def test_nodes_reproduce_the_exact_moments(
    model: Model, exact_moments: dict[str, Callable[..., float]], D: int, N: int, noise: float, check: bool
) -> None:
    tolerance = 1e-6
    nodes = prompt_nodes(model, D, N, noise, tolerance, 100.0, check)
    t, w, o, c, corner = nodes.scalars
    assert nodes.weights.sum() == pytest.approx(1, rel=tolerance)
    np.testing.assert_array_equal(t, 1.0)
    values = {"T a": c, "T g": o, "T omega": w, "T l^2": corner**2, "(T a)^2": c**2, "T a T g": c * o}
    values |= {"T a T omega": c * w, "T a T l^2": c * corner**2, "(T l^2)^2": corner**4, "T l^2 T g": corner**2 * o}
    assert set(values) == set(ABSORBED)
    for name, value in values.items():
        found = float((value @ nodes.weights)[0])
        bound = tolerance if name in LINEAR else SQUARES * tolerance
        assert found == pytest.approx(float(exact_moments[name](D, N, noise)), rel=bound), name


SECOND_DEGREE = {"T g T g": (T * g) ** 2, "T g T omega": T * g * T * omega, "(T omega)^2": (T * omega) ** 2}
"""Of second degree in the variables that nodes of first degree know by their conditional means alone."""


@pytest.mark.parametrize(("D", "N", "noise"), [*LAWS, *SHORT])
def test_nodes_of_second_degree_know_the_second_moments_too(
    model: Model, exact_moments: dict[str, Callable[..., float]], D: int, N: int, noise: float
) -> None:
    tolerance = 1e-6
    law = fresh_task_prompts()
    _, w, o, c, corner = (nodes := prompt_nodes(model, D, N, noise, tolerance, 100.0, degree=2)).scalars
    for name, value in {"T g T g": o * o, "T g T omega": o * w, "(T omega)^2": w * w}.items():
        exact = law.moment(SECOND_DEGREE[name]).subs({s.D: D, s.N: N, s.noise: sp.nsimplify(noise)})
        assert float((value @ nodes.weights)[0]) == pytest.approx(float(exact), rel=SQUARES * tolerance), name
    for name, value in {"T a": c, "T g": o, "T omega": w, "T l^2": corner**2, "T a T g": c * o}.items():
        bound = tolerance if name in LINEAR else SQUARES * tolerance
        assert float((value @ nodes.weights)[0]) == pytest.approx(float(exact_moments[name](D, N, noise)), rel=bound)


def test_nodes_of_second_degree_average_like_the_full_product_rule(
    model: Model, every_factor: dict[float, PromptNodes]
) -> None:
    def integrands(T: Any, omega: Any, g: Any, a: Any, ell: Any) -> Groups:
        shrinkage = 1 / (1 + T * (5 * a + ell**2))
        return (((T * shrinkage) ** 2, (g * g, g * omega, omega * omega, a * g, ell**2 * omega)),)

    full = averages(every_factor[0.25], [integrands])
    nodes = prompt_nodes(model, 20, 40, 0.25, 1e-5, 11.0, degree=2)
    np.testing.assert_allclose(averages(nodes, [integrands]), full, rtol=SQUARES * 1e-5)


@pytest.fixture(scope="module")
def every_factor(model: Model) -> dict[float, PromptNodes]:
    """Full product rules at D = 20, N = 40, by label noise."""
    return {0.0: full_product(model, 20, 40, 0.0, 1e-7, 1e4), 0.25: full_product(model, 20, 40, 0.25, 1e-5, 10)}


@pytest.mark.parametrize(("V", "V_u"), [(1e-2, 1e-3), (5.0, 1.0), (2e3, 50.0)], ids=["weak", "even", "steep"])
def test_nodes_average_like_the_full_product_rule(
    model: Model, every_factor: dict[float, PromptNodes], V: float, V_u: float
) -> None:
    integrands = integrands_of(model, V, V_u, 20, 100, 0.0)
    full = averages(every_factor[0.0], integrands)
    for tolerance in (1e-4, 1e-5, 1e-6, 1e-7):
        lattice = averages(prompt_nodes(model, 20, 40, 0.0, tolerance, 2 * V + V_u), integrands)
        np.testing.assert_allclose(lattice, full, rtol=SQUARES * tolerance)
        assert np.median(np.abs(lattice / full - 1)) < tolerance


def test_nodes_average_like_the_full_product_rule_with_label_noise(
    model: Model, every_factor: dict[float, PromptNodes]
) -> None:
    integrands = integrands_of(model, 5.0, 1.0, 20, 100, 0.25)
    full = averages(every_factor[0.25], integrands)
    lattice = averages(prompt_nodes(model, 20, 40, 0.25, 1e-5, 11.0), integrands)
    np.testing.assert_allclose(lattice, full, rtol=SQUARES * 1e-5)
    assert np.median(np.abs(lattice / full - 1)) < 1e-5


@pytest.mark.parametrize(("D", "N", "noise"), [(3, 4, 0.0), (3, 4, 0.25), (5, 2, 0.0), (5, 2, 0.25), *SHORT])
def test_nodes_average_like_prompts_drawn_token_by_token(model: Model, D: int, N: int, noise: float) -> None:
    """Plain Monte Carlo, nothing of the law in it; every integrand of the solver, at two sizes of the fluctuation."""
    drawn = drawn_scalars(200_000, D, N, noise, seed=3)
    nodes = prompt_nodes(model, D, N, noise, 1e-4, 1e3)
    for V, V_u in ((0.5, 0.1), (100.0, 10.0)):
        integrands = integrands_of(model, V, V_u, D, 30, noise)
        sampled = [np.broadcast_to(x, drawn[0].shape) for group in integrands for x in multiplied_out(group(*drawn))]
        for value, sample in zip(averages(nodes, integrands), sampled, strict=True):
            sem = float(np.std(sample)) / math.sqrt(sample.size)
            assert abs(value - sample.mean()) < Z_MAX * sem + 1e-4 * abs(value)


def test_a_few_hundred_nodes_are_left_of_a_product_of_millions(model: Model) -> None:
    nodes = prompt_nodes(model, 20, 100, 0.25, 1e-7, 100.0)
    rules = factor_rules(model, 20, 100, 0.25, 1e-7, 100.0, gauss=True)
    assert math.prod(len(w) for _, w in rules.values()) > 100 * nodes.weights.size


@pytest.mark.parametrize(("D", "N", "noise"), [(2, 2, 0.0), (2, 3, 0.1), (3, 2, 10.0), (10, 5, 1.0), (2, 30, 1.0)])
def test_two_rules_agree_at_every_slope(model: Model, D: int, N: int, noise: float) -> None:
    """Densities on one lattice, nodes handed to another: few degrees of freedom, from a weak to a steep integrand."""
    tolerance = 1e-7
    for slope in (1e-2, 1.0, 1e3, 1e9):
        integrands = integrands_of(model, slope, 0.4 * slope, D, 30, noise)
        reach = slope * (1 + (D + 1 + noise * D) / N + 0.4 * (1 + noise) ** 2)
        rule, check = (
            averages(prompt_nodes(model, D, N, noise, tolerance, reach, check=check), integrands)
            for check in (False, True)
        )
        np.testing.assert_allclose(rule, check, rtol=tolerance)


def test_few_degrees_of_freedom_with_noise_need_few_nodes(model: Model) -> None:
    """D = 2, N = 3, rho = 0.1 once took a product of 10^9 nodes and 17 GB."""
    for check in (False, True):
        assert prompt_nodes(model, 2, 3, 0.1, 1e-7 / 3, 30.0, check).weights.size < 20_000


def test_nodes_of_one_law_are_computed_once(model: Model) -> None:
    """For neighbouring slopes too, that is for all ridges but some decades apart."""
    first = prompt_nodes(model, 20, 100, 0.25, 1e-7, 100.0)
    assert prompt_nodes(model, 20, 100, 0.25, 1e-7, 100.0) is first
    assert prompt_nodes(model, 20, 100, 0.25, 1e-7, 37.0) is first
    assert prompt_nodes(model, 20, 100, 0.25, 1e-7, 37e3) is not first


@pytest.mark.parametrize("noise", [0.0, 0.25])
def test_the_mean_prompt_has_every_factor_at_one(model: Model, noise: float) -> None:
    """|c|^2 = 1 + (D (1 + rho) - 1) / N, l = 1 + rho, c.w / sqrt(D) = 1."""
    D, N = 10, 20
    nodes = mean_prompt(model, D, N, noise)
    t, _, o, c, corner = (float(x[0, 0]) for x in nodes.scalars)
    assert nodes.weights == [1.0]
    assert (t, o) == (1.0, pytest.approx(1))
    assert c == pytest.approx(1 + (D * (1 + noise) - 1) / N)
    assert corner == pytest.approx(1 + noise)


def test_the_law_concentrates_with_the_dimension(model: Model) -> None:
    """Var(T a) / E(T a)^2 falls like 1/D at N = 2 D."""
    spreads = []
    for D in (100, 1000, 10_000):
        nodes = prompt_nodes(model, D, 2 * D, 0.1, 1e-9)
        first, second = (float((nodes.scalars[3] ** k @ nodes.weights)[0]) for k in (1, 2))
        spreads.append(second / first**2 - 1)
    assert spreads[1] / spreads[0] == pytest.approx(0.1, rel=0.1)
    assert spreads[2] / spreads[1] == pytest.approx(0.1, rel=0.01)
