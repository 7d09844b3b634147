"""The law of a prompt's scalars against exact Wick moments, and what the theory's integrands see of it."""

from itertools import chain, combinations_with_replacement

import numpy as np
import pytest
import sympy as sp

from replica_icl.model.prompts.gaussian import ScalarLaw, deviation, fresh_task_prompts, label_norm, transverse
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average
from replica_icl.symbolic.moments import scalar_moment
from replica_icl.theory.fresh_tasks import programs

T, omega, g, a, ell = s.SCALARS


@pytest.fixture(scope="module")
def law() -> ScalarLaw:
    return fresh_task_prompts()


@pytest.fixture(scope="module")
def integrands() -> list[sp.Expr]:
    """Every integrand that the finite-size solver averages."""
    found: set[sp.Expr] = set()
    for program in programs():
        outputs = [np.ravel(np.array(getattr(x, "entries", x), dtype=object)) for x in program.outputs.values()]
        for expression in (*(e for _, e in program.definitions), *chain.from_iterable(outputs)):
            found |= {average.integrand for average in sp.sympify(expression).atoms(Average)}
    return sorted(found, key=str)


@pytest.mark.parametrize("pair", list(combinations_with_replacement(s.SCALARS, 2)), ids=str)
def test_every_second_moment_of_the_law_is_the_one_of_the_prompt(law: ScalarLaw, pair: tuple[sp.Symbol, ...]) -> None:
    """Exactly, as a rational function of D, N and rho: Wick's theorem on tokens, task and noise on the other side."""
    difference = law.moment(pair[0] * pair[1]) - scalar_moment(*pair)
    assert sp.cancel(sp.together(difference)) == 0


@pytest.mark.parametrize("scalar", s.SCALARS, ids=str)
def test_every_mean_of_the_law_is_the_one_of_the_prompt(law: ScalarLaw, scalar: sp.Symbol) -> None:
    assert sp.cancel(sp.together(law.moment(scalar) - scalar_moment(scalar))) == 0


@pytest.mark.parametrize("triple", [(omega, g, a), (g, g, ell), (omega, omega, ell)], ids=str)
def test_third_moments_of_the_law_are_the_ones_of_the_prompt(law: ScalarLaw, triple: tuple[sp.Symbol, ...]) -> None:
    assert sp.cancel(sp.together(law.moment(sp.prod(triple)) - scalar_moment(*triple))) == 0


def test_without_label_noise_the_scalars_are_the_stated_products(law: ScalarLaw) -> None:
    """c.w / sqrt(D) = omega A, |c|^2 = omega A^2 + omega A (D - 1) h / N, l = omega A: no Gaussian factor is left."""
    noiseless = {scalar: sp.simplify(value.subs(s.noise, 0)) for scalar, value in law.scalars.items()}
    A, h = label_norm, transverse
    stated = {T: T, omega: omega, g: omega * A, a: omega * A**2 + omega * A * (s.D - 1) * h / s.N, ell: omega * A}
    for scalar, value in stated.items():
        assert sp.simplify(noiseless[scalar] - value) == 0, scalar
    assert law.chi_squares == {T: s.D, omega: s.D, A: s.N, h: s.D - 1}
    assert law.gaussians == (deviation,)


def test_the_query_is_independent_of_the_context(law: ScalarLaw) -> None:
    assert all(T not in value.free_symbols for scalar, value in law.scalars.items() if scalar != T)


def test_highest_powers_are_those_of_the_squared_context(law: ScalarLaw) -> None:
    squared = law.scalars[T] * law.scalars[a]
    assert [law.highest_power(factor, squared) for factor in (T, omega, label_norm, transverse)] == [1, 1, 2, 1]


def test_integrands_see_the_query_norm_through_the_other_scalars_alone(integrands: list[sp.Expr]) -> None:
    """T -> 1 with |c|^2, c.w, omega times T and l times sqrt(T) changes nothing: T can be absorbed by a convolution."""
    absorbed = {T: sp.S.One, a: T * a, g: T * g, omega: T * omega, ell: sp.sqrt(T) * ell}
    assert len(integrands) > 10
    for integrand in integrands:
        assert sp.simplify(integrand.subs(absorbed, simultaneous=True) - integrand) == 0, integrand


def test_integrands_are_linear_in_the_overlap_and_the_task_norm(integrands: list[sp.Expr]) -> None:
    """So that a lattice in the two other variables need only carry the local means of these."""
    for integrand in integrands:
        assert all(sp.simplify(integrand.diff(x, y)) == 0 for x in (g, omega) for y in (g, omega)), integrand


def test_the_check_of_invariance_is_no_tautology() -> None:
    absorbed = {T: sp.S.One, a: T * a, g: T * g, omega: T * omega, ell: sp.sqrt(T) * ell}
    assert sp.simplify((a / (1 + T * a)).subs(absorbed, simultaneous=True) - a / (1 + T * a)) != 0
