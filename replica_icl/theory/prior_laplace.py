"""The Laplace prior (with a ridge: elastic net) under fresh tasks, the weights' half."""

from __future__ import annotations

from replica_icl.lowering.source import Program
from replica_icl.model.attention.merged import Attention
from replica_icl.model.priors import laplace
from replica_icl.theory.weight_priors import programs_of


def programs(attention: Attention | None = None) -> tuple[Program, ...]:
    """The functions that solvers and message passing run; they are the same for every forward pass."""
    return programs_of(laplace.POTENTIAL)
