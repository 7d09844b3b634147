"""The Laplace prior, lambda_1 |W|: sparse weights; with a ridge beside it, the elastic net."""

from __future__ import annotations

import sympy as sp

from replica_icl.symbolic.channel import Potential, weight

l1 = sp.Symbol("l1", positive=True)
"""lambda_1, weight of the sum of |W_ij| in the energy."""

POTENTIAL = Potential.of(l1 * weight)
"""r(W)."""
