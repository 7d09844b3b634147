"""Standard deviations from sample to sample: against simulation, and how they scale."""

import math

import numpy as np
import pytest

from replica_icl.errors import ParameterError
from replica_icl.numeric.questions.sample_spread import VARYING, sample_spread
from replica_icl.setting import Setting
from replica_icl.simulator.ensemble import simulate


@pytest.mark.parametrize(
    "setting",
    [
        Setting(D=6, N=12, P=54, ridge=0.03),
        Setting(D=10, N=20, P=150, ridge=0.02),
        Setting(D=8, N=6, P=200, ridge=0.05, noise=1.0),
        Setting(D=10, N=50, P=1000, ridge=0.1),
    ],
    ids=["six dimensions", "more prompts than weights", "short and noisy contexts", "many prompts"],
)
def test_the_spread_is_what_simulation_shows(setting: Setting) -> None:
    """1500 realisations: a standard deviation is known to 1 / sqrt(2 R) of itself; theory is granted 0.3/D."""
    realisations = 1500
    theory, found = sample_spread([setting]), simulate(setting, realisations, seed=11, workers=1)
    allowed = 4 / math.sqrt(2 * realisations) + 0.3 / setting.D
    for name in VARYING:
        spread = found[name].spread
        assert spread is not None
        assert abs(spread / theory[name][0] - 1) < allowed, name


def test_it_falls_like_the_inverse_dimension() -> None:
    spreads = sample_spread([Setting(D=D, N=2 * D, P=round(1.5 * D**2), ridge=0.2 / D) for D in (40, 80, 160)])
    for name in ("e_icl", "train_error", "m", "q"):
        ratios = spreads[name][:-1] / spreads[name][1:]
        assert np.all(np.abs(ratios - 2) < 0.1), name


def test_many_prompts_average_like_independent_ones() -> None:
    spreads = sample_spread([Setting(D=10, N=20, P=P, ridge=0.1) for P in (10**5, 4 * 10**5)])
    for name in ("e_icl", "train_error", "m", "q"):
        assert spreads[name][0] / spreads[name][1] == pytest.approx(2, rel=0.02), name
    # The last row of the mean weights vanishes, so that its square has a spread as small as the square of one.
    assert spreads["u"][0] / spreads["u"][1] == pytest.approx(4, rel=0.02)


def test_it_does_not_depend_on_the_rule() -> None:
    setting = Setting(D=10, N=11, P=59, ridge=0.002)
    coarse, fine = sample_spread([setting], 1e-5), sample_spread([setting], 1e-8)
    for name in VARYING:
        assert coarse[name][0] == pytest.approx(fine[name][0], rel=5e-4), name


def test_points_without_a_saddle_have_none_and_others_keep_theirs() -> None:
    setting = Setting(D=6, N=12, P=50, ridge=0.1)
    found = sample_spread([Setting(D=6, N=12, P=42, ridge=0.0), setting])
    alone = sample_spread([setting])
    for name in VARYING:
        assert math.isnan(found[name][0])
        assert found[name][1] == alone[name][0]


def test_bad_settings_are_named() -> None:
    with pytest.raises(ParameterError, match="ridge"):
        sample_spread([Setting(D=6, N=12, P=20, ridge=0.0, minimum_norm=True)])
    with pytest.raises(ParameterError, match="K"):
        sample_spread([Setting(D=6, N=12, P=20, ridge=0.1, K=4)])
