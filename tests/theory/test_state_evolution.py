"""The two halves that state evolution alternates between are the saddle-point equations, each solved for one side."""

import pytest
import sympy as sp

from replica_icl.model.priors import laplace
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import expand_averages
from replica_icl.symbolic.channel import Potential
from replica_icl.theory.conjugate_fields import CONJUGATE
from replica_icl.theory.fresh_tasks import derive_fresh_tasks
from replica_icl.theory.prompt_fields import at_prompts, fields_of, kept_weights
from replica_icl.theory.weight_priors import SeparablePrior, overlaps


@pytest.mark.parametrize("potential", [Potential.of(sp.S.Zero), laplace.POTENTIAL], ids=["ridge", "laplace"])
def test_a_fixed_point_of_state_evolution_is_a_saddle_point(potential: Potential) -> None:
    """With fields = F(overlaps) the free entropy is stationary in every overlap, and with overlaps = O(fields) in every
    field, identically in all symbols: where both hold at once it is stationary in all of them.

    F is derived beside the ridge, for any prior; the free entropy here is that of the prior itself.
    """
    energetic = at_prompts(derive_fresh_tasks())
    weights = SeparablePrior(potential).weights
    free_entropy = weights.ground_state() + energetic.energetic.ground_state()
    beside_ridge = kept_weights(energetic).ground_state() + energetic.energetic.ground_state()
    fields = dict(zip(CONJUGATE, fields_of(beside_ridge, CONJUGATE), strict=True))
    found = overlaps(weights)
    assert set(CONJUGATE.values()) == {s.m, s.q, s.V, s.u, s.V_u}
    for field, overlap in CONJUGATE.items():
        in_overlap = expand_averages(free_entropy.diff(overlap)).subs(fields, simultaneous=True)
        assert sp.simplify(expand_averages(in_overlap)) == 0, overlap
        assert sp.simplify(free_entropy.diff(field).subs(found, simultaneous=True)) == 0, field
