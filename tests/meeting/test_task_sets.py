"""Theory of a given task set against token-level simulation of the same task set, without a fitted parameter.

Every drawn setting is compared on several task sets: the theory is that of the very (K, D) matrix, the simulated
prompts use each of its tasks equally often, and the two are subtracted task set by task set. The bound is Z_MAX
standard errors plus 0.1/D of the theory's value, fixed before any run.
"""

import math

import numpy as np
import pytest

from replica_icl.errors import ParameterError
from replica_icl.meeting.task_sets import drawn_task_settings, kappa_transition, on_task_sets
from replica_icl.meeting.validation import Z_MAX, Comparison, validate
from replica_icl.numeric.given_tasks import solve_given_tasks
from replica_icl.numeric.levels import LEVELS
from replica_icl.numeric.task_matrix import draw_task_set
from replica_icl.setting import Setting
from replica_icl.simulator.ensemble import simulate

SEED, PILOT_SEED = 1, 987
TASK_SETS = 8
RELATIVE_ERROR = 0.006
"""Standard error of the mean difference that the number of realisations is chosen for."""


def realisations_per_set(setting: Setting) -> int:
    """For RELATIVE_ERROR of e_icl and of e_idg, from a pilot of 24 realisations on a seed of its own."""
    pilot = on_task_sets(setting, TASK_SETS, 3, PILOT_SEED).compared()
    scatter = max(row.sem / row.theory for row in pilot) * math.sqrt(3)
    return max(2, math.ceil((scatter / RELATIVE_ERROR) ** 2))


def shown(setting: Setting, realisations: int, rows: tuple[Comparison, ...]) -> str:
    s = setting
    lines = [
        f"\nD={s.D} N={s.N} P={s.P} K={s.K} ridge={s.ridge:.4g} noise={s.noise}: alpha={s.P / s.D**2:.3g} "
        f"nu={s.N / s.D:.3g} kappa={(s.K or 0) / s.D:.3g} lambda={s.ridge * s.D:.3g}, {TASK_SETS} x {realisations}"
    ]
    for row in rows:
        lines.append(
            f"  {row.observable:<6} theory {row.theory:10.6f} simulation {row.simulation:10.6f} +- {row.sem:.2g} "
            f"({row.sem / row.theory:.2%})  z = {row.z:+6.2f}  bias {row.simulation / row.theory - 1:+.2%}"
            + ("" if row.agrees else "  disagrees")
        )
    return "\n".join(lines)


def test_the_bounds_are_the_ones_that_were_fixed_beforehand() -> None:
    assert (Z_MAX, LEVELS["given-tasks"].bias, RELATIVE_ERROR, TASK_SETS) == (4.0, 0.1, 0.006, 8)


def test_the_drawn_settings_cover_what_is_claimed() -> None:
    """A change of the rule, or a setting left out, shows here."""
    settings = drawn_task_settings()
    corners = {(s.D, (s.K or 0) > s.D, s.P > s.D**2) for s in settings}
    assert len(settings) == 8
    assert corners == {(D, tasks, prompts) for D in (20, 40) for tasks in (True, False) for prompts in (True, False)}
    for D in (20, 40):
        assert sorted(s.noise for s in settings if s.D == D) == [0.01, 0.01, 0.25, 0.25]
    assert all(0.01 <= s.ridge * s.D <= 1 for s in settings)
    assert all(s.ridge != t.ridge for s, t in zip(settings, settings[4:], strict=False))


def test_theory_and_simulation_of_the_same_task_sets_agree() -> None:
    """Few tasks and few prompts, where the error on training tasks is far below that on new ones."""
    setting = Setting(D=10, N=20, P=90, K=6, ridge=0.03, noise=0.25)
    rows = on_task_sets(setting, 4, 150, SEED, prompts="sufficient", workers=1).compared()
    print(shown(setting, 150, rows))
    assert [row.observable for row in rows] == ["e_icl", "e_idg"]
    assert rows[0].theory > 1.5 * rows[1].theory
    assert all(row.sem < 0.01 * row.theory for row in rows)
    assert all(row.agrees for row in rows)


def test_validation_tells_the_theory_what_the_simulation_does() -> None:
    """Lu's choice: drawn on the sphere and used equally often, P not a multiple of K."""
    setting = Setting(D=10, N=20, P=155, K=20, ridge=0.05, noise=0.01)
    result = validate(setting, 60, SEED, "given-tasks", workers=1, sphere=True, prompts="sufficient")
    law = result.ensemble.provenance.law
    assert (law.usage, law.sphere) == ("equal", False)  # the matrix is given, on the sphere
    shares = np.repeat([8, 7], [15, 5]) / 155
    expected = solve_given_tasks(setting, draw_task_set(setting, SEED, sphere=True)[0], shares)
    assert result.solution.to_dict() == expected.with_next_order().to_dict()
    assert result.agrees


def test_a_wrong_task_set_would_be_noticed() -> None:
    """The comparison is sharp enough to tell one task set from another."""
    setting = Setting(D=10, N=20, P=90, K=6, ridge=0.03, noise=0.25)
    tasks = [draw_task_set(setting, SEED, index)[0] for index in range(2)]
    theory = solve_given_tasks(setting, tasks[0])
    found = simulate(setting, 150, SEED, tasks=tasks[1], usage="equal", prompts="sufficient", workers=1)["e_idg"]
    assert found.sem is not None
    assert abs(found.mean - theory.e_idg) > Z_MAX * found.sem + LEVELS["given-tasks"].bias / setting.D * theory.e_idg


def test_transition_has_theory_and_simulation_at_every_point() -> None:
    found = kappa_transition(8, (0.5, 2.0), (2.0,), 1.5, 0.2, 0.01, 2, 20, prompts="sufficient", workers=1)
    (series,) = found["series"]
    assert [point["K"] for point in series["points"]] == [4, 16]
    assert len(series["limit"]["e_icl"]) == len(found["kappa"]) == 60
    for point in series["points"]:
        for name in ("e_icl", "e_idg"):
            theory, simulation = point[name]["theory"], point[name]["simulation"]
            assert (theory["n"], simulation["n"]) == (2, 40)
            assert theory["spread"] > 0
            bound = Z_MAX * simulation["sem"] + LEVELS["given-tasks"].bias / 8 * theory["mean"]
            assert abs(simulation["mean"] - theory["mean"]) < bound
    with pytest.raises(ParameterError):
        on_task_sets(Setting(D=8, N=8, P=20, K=4, ridge=0.1), 1, 1)


@pytest.mark.long
def test_theory_and_simulation_agree_at_every_drawn_setting() -> None:
    disagreeing: list[tuple[int, Comparison]] = []
    biases: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for index, setting in enumerate(drawn_task_settings()):
        realisations = realisations_per_set(setting)
        rows = on_task_sets(setting, TASK_SETS, realisations, SEED).compared()
        print(shown(setting, realisations, rows), flush=True)
        for row in rows:
            bias = row.simulation / row.theory - 1, row.sem / row.theory
            biases.setdefault((setting.D, row.observable), []).append(bias)
            disagreeing += [] if row.agrees else [(index, row)]
    for (D, name), values in biases.items():
        bias, sem = np.array(values).T
        print(f"D = {D}: mean bias of {name} {bias.mean():+.2%} +- {math.sqrt(np.sum(sem**2)) / sem.size:.2%}")
    assert disagreeing == []
