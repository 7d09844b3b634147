"""The scales of penalties in the limit; the chapter "weight-priors" claims the equations of both halves."""

import pytest
import sympy as sp

from replica_icl.symbolic import channel
from replica_icl.symbolic.channel import Potential
from replica_icl.theory.weight_priors import orders


def test_an_absolute_value_acts_at_two_scales_and_a_square_at_one() -> None:
    l1, l2, width = sp.symbols("l1 l2 width", positive=True)
    assert orders(Potential.of(l1 * channel.weight)) == {l1: (sp.Rational(3, 2), 1)}
    assert orders(Potential.of(l1 * channel.weight + l2 * channel.weight**2)) == {
        l1: (sp.Rational(3, 2), 1),
        l2: (1, 1),
    }
    with pytest.raises(ValueError, match=r"the thermodynamic scale of (l1|width) cannot be read off"):
        orders(Potential.of(l1 * channel.weight**2 / (channel.weight + width)))
