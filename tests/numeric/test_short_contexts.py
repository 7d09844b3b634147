"""Few labels, few dimensions and label noise: solved, accurately, in little memory."""

import tracemalloc

import numpy as np
import pytest

from replica_icl.meeting.validation import validate
from replica_icl.numeric.finite_size import solve_finite_size
from replica_icl.numeric.solution import Status
from replica_icl.setting import Setting

POINTS = [
    Setting(D=2, N=3, P=10, ridge=0.01, noise=0.1),
    Setting(D=10, N=5, P=50, ridge=0.01, noise=1.0),
    Setting(D=10, N=3, P=50, ridge=0.01, noise=1.0),
    Setting(D=10, N=2, P=50, ridge=0.01, noise=1.0),
    Setting(D=2, N=2, P=3, ridge=1e-4, noise=10.0),
    Setting(D=50, N=3, P=120, ridge=4.5e-12),
    Setting(D=2, N=200, P=10, ridge=1e-6, noise=10.0),
    Setting(D=5, N=1, P=20, ridge=0.1),
    Setting(D=8, N=1, P=60, ridge=0.01, noise=0.5),
]


@pytest.mark.parametrize("setting", POINTS, ids=lambda s: f"D{s.D}-N{s.N}-rho{s.noise}")
def test_short_noisy_contexts_are_solved_to_the_accuracy_that_is_asked_for(setting: Setting) -> None:
    """Not by a rule and its check alone: a rule a hundred times as fine gives the same values."""
    tracemalloc.start()
    found = solve_finite_size([setting], 1e-7)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.status == [Status.CONVERGED]
    assert peak < 256 * 2**20  # bytes
    exact = solve_finite_size([setting], 1e-9)
    for name in ("e_icl", "train_error", "m", "q"):
        np.testing.assert_allclose(getattr(found, name), getattr(exact, name), rtol=1e-7)


@pytest.mark.parametrize(
    "setting",
    [
        Setting(D=8, N=1, P=60, ridge=0.01, noise=0.5),
        Setting(D=12, N=1, P=40, ridge=0.1),
        Setting(D=6, N=1, P=30, K=4, ridge=0.05, noise=0.1),
    ],
    ids=["noise", "none", "given tasks"],
)
def test_contexts_of_one_token_are_what_simulation_shows(setting: Setting) -> None:
    """A single labelled token: c = y x and l = y^2, which no token beside it makes regular."""
    for row in validate(setting, realisations=400, seed=81).rows:
        assert row.agrees, row


def test_an_error_without_a_finite_value_is_not_called_solved() -> None:
    """Minimum norm at N = 2: weights fit targets with contexts of vanishing length, of which < 1 / |c|^2 diverges."""
    setting = Setting(D=20, N=2, P=100, ridge=0.0, minimum_norm=True)
    found = solve_finite_size([setting], 1e-5)
    assert found.status == [Status.QUADRATURE]
    assert np.isnan(found.e_icl).all()
