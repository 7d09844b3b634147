"""Sparse attention and the published message passing at small size: files are written, and what they claim holds."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from replica_icl import solve

Make = Callable[..., dict[str, Any]]
Script = Callable[[str], ModuleType]


def test_sparse_attention_needs_fewer_prompts_and_is_the_theory(make: Make) -> None:
    small = {"D": [10], "realisations": [20], "nu": 5.0, "eta": 0.3, "zeta": [2.0, 6.0], "zeta_range": [1.0, 40.0]}
    data = make("sparse_attention", **small, curve=6, target=0.5, needed_D=[8, 14], grid=[5, 6], most_prompts=0)
    (one,) = data["scales"]
    theory, mean, sem = (np.array([p[x] for p in one["points"]]) for x in ("theory", "mean", "sem"))
    # 4 standard errors plus 0.3/D, as everywhere.
    assert (np.abs(mean - theory) < 4 * sem + 0.03 * theory).all()
    assert data["limit"][0] == 1
    assert data["limit"][-1] == pytest.approx(1 - (1 - 0.3**2) / 1.2)
    dense, sparse = ([row["P"] for row in found["rows"]] for found in data["needed"])
    assert dense[0] > sparse[0]
    assert dense[1] / dense[0] > 1.3 * sparse[1] / sparse[0]


def test_prompts_needed_have_the_target_error_at_the_best_penalty(script: Script) -> None:
    """Solved again at what was found, and at penalties around it."""
    figure = script("sparse_attention")
    found = figure.prompts_needed(figure.WAYS[1], 12, 5.0, 0.5, (8, 10))
    around = solve(figure.at(12, 5.0, round(found["P"]), "l1", found["penalty"] * np.array([1, 0.5, 2]))).e_icl
    assert around[0] == pytest.approx(0.5, rel=0.02)
    assert around[0] < min(around[1:])


def test_spectrum_foretells_where_the_published_iteration_converges(make: Make, script: Script) -> None:
    figure = script("relaxed_bp_divergence")
    data = make(
        "relaxed_bp_divergence",
        D=6,
        N=[4, 40, 2],
        P=[10, 400, 5],
        ridge=1.0,
        cut=30,
        ridges=[1e-2, 3.0, 3],
        patience=4000,
    )
    for found in data["maps"].values():
        outcome = np.array(found["outcome"])
        low, high = (np.array(found[x], float) for x in ("low", "high"))
        assert ((outcome < 2) == (np.isfinite(high) & (figure.damped(low, high) < 1))).all()
    over_ridges = np.array(data["maps"]["ridge"]["outcome"])
    assert set(over_ridges[0]) == {2}  # a ridge of one per cent
    assert over_ridges[-1][-1] == 0
    boundary = np.array(data["maps"]["ridge"]["boundary"], float)
    assert (np.diff(boundary[np.isfinite(boundary)]) < 0).all()
