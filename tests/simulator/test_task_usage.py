"""Training tasks on the sphere and used equally often, the choice of Lu et al. (arXiv:2405.11751)."""

import numpy as np
import pytest

from replica_icl.errors import ParameterError
from replica_icl.setting import Setting
from replica_icl.simulator import features, prompts, streaming
from replica_icl.simulator.ensemble import simulate
from replica_icl.simulator.laws import PromptLaw
from replica_icl.simulator.prompts import prompt_batches
from replica_icl.simulator.realisation import draw_instance

SETTING = Setting(D=5, N=7, P=200, K=3, ridge=0.1)
LU = PromptLaw.of(usage="equal", sphere=True)


def test_tasks_are_on_the_sphere_and_used_equally_often_over_all_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "BATCH_BYTES", 8 * 7 * 5 * 10)
    batches = list(prompt_batches(SETTING, 200, np.random.default_rng(0), law=LU))
    drawn = np.concatenate([batch.tasks for batch in batches])
    tasks, counts = np.unique(drawn, axis=0, return_counts=True)
    assert sorted(counts) == [66, 67, 67]
    np.testing.assert_allclose(np.sum(tasks**2, axis=1), 5, rtol=1e-14)
    assert np.linalg.matrix_rank(tasks) == 3


@pytest.mark.parametrize("sampler", ["tokens", "sufficient"])
def test_equal_usage_goes_on_from_block_to_block(sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The norms of the tasks are so far apart that the labels' norm l tells which one a prompt has."""
    for module in (features, streaming):
        monkeypatch.setattr(module, "block_size", lambda D: 64)
    tasks = np.diag([1.0, 100.0, 1e4, 1e6, 1e8])
    setting = Setting(D=5, N=7, P=200, K=5, ridge=0.1)
    instance = draw_instance(setting, tasks=tasks, law=PromptLaw.of(sampler, usage="equal"))
    norms = instance.features.collect().context[:, 5]
    np.testing.assert_array_equal(np.round(np.log10(norms * 5) / 4), np.arange(200) % 5)


def test_random_usage_keeps_its_streams_and_the_choices_have_their_own() -> None:
    assert PromptLaw.of().key == ""
    assert PromptLaw.of("sufficient").key == "prompts=sufficient;law=gaussian;task_law=gaussian"
    keys = {PromptLaw.of(usage=usage, sphere=sphere).key for usage in ("random", "equal") for sphere in (True, False)}
    assert len(keys) == 4


def test_an_ensemble_depends_on_the_choice_and_streams_to_the_same_result() -> None:
    first = simulate(SETTING, 2, workers=1, usage="equal", sphere=True)
    streamed = simulate(SETTING, 2, workers=1, usage="equal", sphere=True, streaming=True)
    np.testing.assert_allclose(first.values["e_idg"], streamed.values["e_idg"], rtol=1e-10)
    assert not np.allclose(first.values["e_idg"], simulate(SETTING, 2, workers=1, usage="equal").values["e_idg"])


@pytest.mark.parametrize(
    ("setting", "options", "name"),
    [
        (SETTING, {"usage": "often"}, "usage"),
        (Setting(D=5, N=7, P=20, ridge=0.1), {"usage": "equal"}, "usage"),
        (Setting(D=5, N=7, P=20, ridge=0.1), {"sphere": True}, "sphere"),
        (SETTING, {"sphere": True, "tasks": np.ones((3, 5))}, "sphere"),
    ],
)
def test_choices_without_a_meaning_are_refused(setting: Setting, options: dict, name: str) -> None:
    with pytest.raises(ParameterError) as caught:
        simulate(setting, 2, **options)
    assert caught.value.parameter == name
