"""The spectral law on the real axis, as it comes from the transform: against its published form and against itself."""

import pytest
import sympy as sp

from replica_icl.theory.marchenko_pastur import half_chord, position, real_law
from replica_icl.theory.task_spectrum import kappa

x, c = position, half_chord
LAW = real_law()
CHORD = sp.sqrt((LAW.high - x) * (x - LAW.low))


def test_edges_and_density_are_those_of_marchenko_and_pastur() -> None:
    """Of ratio g = 1 / kappa: sqrt((b - x) (x - a)) / (2 pi g x) between (1 -+ sqrt(g))^2."""
    ratio = 1 / kappa
    assert sp.simplify(LAW.low - (1 - sp.sqrt(ratio)) ** 2) == 0
    assert sp.simplify(LAW.high - (1 + sp.sqrt(ratio)) ** 2) == 0
    assert sp.simplify(LAW.density - c / (2 * sp.pi * ratio * x)) == 0


@pytest.mark.parametrize("tasks", [sp.Rational(2, 5), sp.Integer(1), sp.Rational(7, 2)])
def test_the_counting_function_is_the_integral_of_the_density(tasks: sp.Expr) -> None:
    """Its slope is the density, it starts at the atom and ends at one."""
    at = {kappa: tasks}
    counting = LAW.counting.subs(at).subs(c, CHORD.subs(at))
    low, high = LAW.low.subs(at), LAW.high.subs(at)
    for share in (sp.Rational(1, 5), sp.Rational(1, 2), sp.Rational(5, 6)):
        place = {x: low + share * (high - low)}
        slope = sp.N(counting.diff(x).subs(place), 30)
        assert abs(slope - sp.N(LAW.density.subs(at).subs(c, CHORD.subs(at)).subs(place), 30)) < 1e-25
    near = sp.Rational(1, 10**20)
    assert abs(sp.N(counting.subs(x, low + near), 30) - max(0, 1 - tasks)) < 1e-8
    assert abs(sp.N(counting.subs(x, high - near), 30) - 1) < 1e-8
    assert LAW.atom.subs(at) == max(0, 1 - tasks)
