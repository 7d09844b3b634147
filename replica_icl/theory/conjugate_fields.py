"""The conjugate fields of fresh tasks: what prompts put on the weights, and weights of any prior live in."""

from __future__ import annotations

import sympy as sp

from replica_icl.lowering.source import Axis, VectorArgument
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.conjugates import Fields
from replica_icl.symbolic.stability import replicon_direction
from replica_icl.theory.fresh_tasks import ORDER, ORDER_PARAMETERS

TOKENS = Fields(sp.Symbol("A", positive=True), sp.Symbol("X", positive=True), sp.Symbol("h", real=True))
LAST_ROW = Fields(sp.Symbol("A_u", positive=True), sp.Symbol("X_u", positive=True), sp.S.Zero)
CONJUGATE = {TOKENS.stiffness: s.q, TOKENS.variance: s.V, TOKENS.pull: s.m, LAST_ROW.stiffness: s.u}
CONJUGATE |= {LAST_ROW.variance: s.V_u}
"""Field -> the overlap whose saddle-point equation gives it."""
FIELDS = Axis("FIELDS", tuple(x.name for x in CONJUGATE))
"""A, X, h of the weights on tokens, A and X of the last row."""
LIMIT_FIELDS = Axis("LIMIT_FIELDS", tuple(x.name for x in TOKENS.symbols))
LIMIT_PARAMETERS = (s.m, s.q, s.V)
"""The last row decouples in the limit."""
LIMIT_ORDER = Axis("LIMIT_PARAMETERS", tuple(x.name for x in LIMIT_PARAMETERS))
OVERLAPS = VectorArgument("overlaps", ORDER, ORDER_PARAMETERS)
LIMIT_OVERLAPS = VectorArgument("overlaps", LIMIT_ORDER, LIMIT_PARAMETERS)
DIRECTION = replicon_direction(4)
"""Along which stability is measured, for both halves."""
