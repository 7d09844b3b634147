"""What the published message passing (relaxed belief propagation, published settings) ends with, averaged."""

from __future__ import annotations

from typing import Any

import numpy as np

from replica_icl.cavity.relaxed_bp import relaxed_belief_propagation
from replica_icl.setting import Setting
from replica_icl.simulator.hamiltonian import hamiltonian
from replica_icl.simulator.observables import Estimate, icl_error, overlaps
from replica_icl.simulator.realisation import draw_instance
from replica_icl.status import Status
from replica_icl.threads import one_thread


def relaxed_points(setting: Setting, seed: int, realisations: int) -> dict[str, Any]:
    """e_icl and contrast over the instances of `simulate` on which the published iteration converged.

    Returns:
        For each of the two mean and sem (NaN where fewer than two converged), and n, how many did.
    """
    values = []
    with one_thread():
        for r in range(realisations):
            spins = hamiltonian(draw_instance(setting, seed, r).features, setting.ridge)
            found = relaxed_belief_propagation(spins)
            if found.status == Status.CONVERGED:
                W = spins.weights(found.mean)
                values.append((icl_error(W, setting.N, setting.noise, D=setting.D), overlaps(W).contrast))
    n = len(values)
    columns = np.array(values).T if n > 1 else np.full((2, 2), np.nan)
    estimates = {name: Estimate.of(x) for name, x in zip(("e_icl", "contrast"), columns, strict=True)}
    return {"n": n, **{name: {"mean": one.mean, "sem": one.sem} for name, one in estimates.items()}}
