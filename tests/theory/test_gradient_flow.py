"""What gradient flow averages over the spectrum, read off the ground state: stated forms, and what is refused."""

from dataclasses import replace

import pytest
import sympy as sp

from replica_icl.model.attention.merged import linear_attention
from replica_icl.symbolic import symbols as s
from replica_icl.theory.fresh_tasks import derive_fresh_tasks
from replica_icl.theory.fresh_tasks_limit import derive_fresh_tasks_limit, effective_ridge, excess
from replica_icl.theory.gradient_flow import GradientFlow, derive_gradient_flow, fed, kept, learnt, mode_functions, rate

NOISE = 1 + s.noise - 1 / (1 + excess)
"""What the best linear predictor I/a leaves of a prompt, a = 1 + delta."""


@pytest.fixture(scope="module")
def theory() -> GradientFlow:
    return derive_gradient_flow()


def test_the_field_is_signal_and_noise_in_isotropic_features(theory: GradientFlow) -> None:
    """Features of variance a, target I/a, and noise of variance sigma^2 on alpha D^2 prompts."""
    noise, signal = theory.field_weights
    assert theory.scale == s.context_norm
    assert sp.simplify(theory.overlap_weight - 1 / (1 + excess)) == 0
    assert sp.simplify(signal - 1 / (1 + excess) ** 2) == 0
    assert sp.simplify(noise - NOISE / s.alpha) == 0


def test_what_is_no_average_over_the_spectrum_is_refused(theory: GradientFlow) -> None:
    with pytest.raises(ValueError, match="no spectral average"):
        theory._weights(1 / (s.context_norm + 2 * effective_ridge))


def test_a_pass_whose_target_is_twice_as_large_is_learnt_as_such() -> None:
    """C_ab with twice the overlap: weights twice as large, and what they leave of the error is no linear rule's."""
    covariance = linear_attention().covariance
    other = replace(covariance, overlap=2 * covariance.overlap)
    changed = derive_gradient_flow(derive_fresh_tasks_limit(derive_fresh_tasks(other)))
    _, signal = changed.field_weights
    assert sp.simplify(changed.overlap_weight - 2 / (1 + excess)) == 0
    assert sp.simplify(signal - 4 / (1 + excess) ** 2) == 0


def test_early_modes_keep_their_start_and_late_ones_their_target() -> None:
    mode, (x,) = mode_functions(), sp.symbols(["x"], nonnegative=True)
    passed = sp.Symbol("passed", nonnegative=True)
    early = {name: value.subs(passed, 0) for name, value in mode.items()}
    assert [sp.simplify(early[name]) for name in (kept, learnt, fed)] == [1, 0, 0]
    late = {name: sp.limit(value.rewrite(sp.exp), passed, sp.oo) for name, value in mode.items()}
    assert [sp.simplify(late[name]) for name in (kept, learnt, fed)] == [0, x / rate, x / rate**2]
