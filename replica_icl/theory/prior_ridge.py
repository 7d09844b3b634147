"""The ridge alone under fresh tasks, the weights' half, with fields kept: the denoiser of message passing.

Its saddle point is that of `theory.fresh_tasks`, where the ridge has eliminated the fields.
"""

from __future__ import annotations

import sympy as sp

from replica_icl.lowering.source import Program
from replica_icl.model.attention.merged import Attention
from replica_icl.symbolic.channel import Potential
from replica_icl.theory.weight_priors import programs_of


def programs(attention: Attention | None = None) -> tuple[Program, ...]:
    """No potential beside the ridge of the setting; the same for every forward pass."""
    return programs_of(Potential.of(sp.S.Zero))
