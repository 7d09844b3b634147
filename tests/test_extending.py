"""What varies is declared once: a level and a question defined in this file work without an edit of the package."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from replica_icl import Setting, Solution, icl_error, simulate, solve, validate
from replica_icl.cli import main
from replica_icl.errors import ParameterError
from replica_icl.numeric.levels import LEVELS, Level, level_of, register
from replica_icl.numeric.levels.points import point_of
from replica_icl.numeric.questions.registry import QUESTIONS
from replica_icl.options import OPTIONS
from replica_icl.parameter import Parameter
from replica_icl.simulator.laws import Law, PromptLaw
from replica_icl.sweep.grid import grid_of
from replica_icl.sweep.run import run_sweep
from replica_icl.tables import parameters

POINT = Setting(D=6, N=12, P=72, ridge=0.05)


class BareSaddle:
    """Fresh tasks at finite size without the next order: what the theory is before fluctuations."""

    name = "bare-saddle"
    label = "saddle point"
    options: tuple[str, ...] = ("tolerance",)
    whole_grids = True
    bias = 0.5
    log_z_bias = 0.0
    neglects = "a relative 1/D^2"

    def natural(self, known: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
        return False

    def check(self, point: Any, options: dict[str, Any]) -> None:
        LEVELS["finite-size"].check(point, options)

    def solve(self, point: Any, *, model: Any = None, **options: Any) -> Solution:
        found = LEVELS["finite-size"].solve(point, model=model, **options)
        return replace(found, level=self.name, next_order=None, theory_error=None)


class HowManyWeights:
    """The number of weights that act, as a question with an option of its own."""

    name = "weights"
    label = "the number of weights"
    asked_by: tuple[str, ...] = ("count_weights",)

    def finds(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ()

    def level(self, known: Mapping[str, Any], name: str | None, options: Mapping[str, Any]) -> Level:
        return level_of(known, name, options)

    def options_at(self, level: Level) -> tuple[str, ...]:
        return self.asked_by

    def ask(self, known: Mapping[str, Any], level: Level, *, model: Any = None, **options: Any) -> Any:
        return Count(point_of(known).acting_weights)


class Count:
    converged = True

    def __init__(self, weights: int) -> None:
        self.weights = weights

    def to_dict(self) -> dict[str, int]:
        return {"weights": self.weights}

    def table(self) -> str:
        return f"{self.weights} weights"


@pytest.fixture(autouse=True)
def as_they_were() -> Iterator[None]:
    tables: tuple[dict[str, Any], ...] = (LEVELS, QUESTIONS, OPTIONS)
    before = [dict(table) for table in tables]
    yield
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)


def test_a_level_from_outside_is_solved_validated_and_swept(capsys: pytest.CaptureFixture[str]) -> None:
    register(BareSaddle())
    found = solve(POINT, "bare-saddle")
    assert found.level == "bare-saddle"
    assert found.e_icl == solve(POINT).saddle["e_icl"] != solve(POINT).e_icl
    assert validate(POINT, realisations=20, level="bare-saddle", workers=1).agrees
    with pytest.raises(ParameterError, match="it acts at level given-tasks"):
        solve(POINT, "bare-saddle", draws=3)
    table = {"fixed": {"D": 6, "N": 12, "ridge": 0.05}, "swept": {"P": [40, 72]}}
    swept = run_sweep(grid_of({**table, "theory": {"levels": ["bare-saddle"]}}), executor="serial")
    assert float(swept.e_icl.sel(P=72, level="bare-saddle")) == pytest.approx(found.e_icl, rel=1e-9)
    assert main(["solve", "--D", "6", "--N", "12", "--P", "72", "--ridge", "0.05", "--level", "bare-saddle"]) == 0
    assert capsys.readouterr().out.startswith("bare-saddle: converged")
    other = BareSaddle()
    with pytest.raises(ParameterError, match="no other level has"):
        register(other)


def test_a_question_from_outside_is_asked_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    OPTIONS["count_weights"] = Parameter("count_weights", "", "count the weights that act", "flag")
    QUESTIONS["weights"] = HowManyWeights()
    arguments = ["solve", "--D", "6", "--N", "12", "--P", "72", "--ridge", "0.05", "--count-weights"]
    assert main([*arguments, "--json"]) == 0
    assert capsys.readouterr().out == '{"weights": 42}\n'
    assert main([*arguments, "--spread"]) == 2
    assert "--spread: must not be given" in capsys.readouterr().err


@dataclass(frozen=True)
class ThreePoints(Law):
    """Entries -sqrt(width), 0, sqrt(width): of unit variance, and of a fourth moment that is `width`."""

    family: str = "three-points"
    parameter: float | None = 2.0

    @property
    def fourth_moment(self) -> float:
        return self.parameter or 0.0

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        width = self.fourth_moment
        return rng.choice([-1.0, 0.0, 1.0], shape, p=[0.5 / width, 1 - 1 / width, 0.5 / width]) * np.sqrt(width)


def test_a_token_law_from_outside_is_drawn_and_scored() -> None:
    """Its exact score is the mean squared error on literal prompts; at width one it has the numbers of signs."""
    setting = Setting(D=4, N=3, P=60, ridge=0.05)
    signs, same = (simulate(setting, 300, seed=1, law=law) for law in ("rademacher", ThreePoints(parameter=1.0)))
    for name in signs.values:
        assert abs(signs[name].mean - same[name].mean) < 4 * np.hypot(signs[name].sem, same[name].sem)
    rng, law, rows = np.random.default_rng(2), ThreePoints(parameter=5.0), 200000
    W = rng.standard_normal((5, 5)) / 2
    w, x, query = (law.draw(rng, shape) for shape in ((rows, 4), (rows, 3, 4), (rows, 4)))
    y, target = np.einsum("rnd,rd->rn", x, w) / 2, np.einsum("rd,rd->r", query, w) / 2
    context = np.concatenate([np.einsum("rn,rnd->rd", y, x), (y**2).sum(axis=1, keepdims=True)], axis=1) / 3
    errors = (target - np.einsum("rc,cd,rd->r", context, W[:, :4], query)) ** 2
    exact = icl_error(W, 3, law=PromptLaw.of(law=law), D=4)
    assert abs(errors.mean() - exact) < 4 * errors.std() / np.sqrt(rows)
    assert abs(errors.mean() - icl_error(W, 3, D=4)) > 8 * errors.std() / np.sqrt(rows)
    with pytest.raises(ParameterError, match="Gaussian ones have the shortcut"):
        simulate(setting, 2, law=law, prompts="sufficient")


def test_a_law_that_does_not_state_itself_is_refused() -> None:
    class Nameless(Law):
        pass

    with pytest.raises(ParameterError, match="its own draw"):
        Nameless()


def test_the_page_of_parameters_is_that_of_the_table() -> None:
    page = Path(__file__).parent.parent / "docs" / "parameters.md"
    assert page.read_text(encoding="utf-8") == parameters(), "run `python -m replica_icl.tables > docs/parameters.md`"
