"""Prompts drawn again on every pass give the results of prompts that are kept."""

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from replica_icl.setting import Setting
from replica_icl.simulator import budget
from replica_icl.simulator import features as module
from replica_icl.simulator.budget import feature_bytes, plan
from replica_icl.simulator.ensemble import simulate
from replica_icl.simulator.features import block_size
from replica_icl.simulator.ground_state import ground_state
from replica_icl.simulator.laws import PromptLaw
from replica_icl.simulator.realisation import draw_instance
from replica_icl.simulator.streaming import StreamedFeatures

SETTING = Setting(D=5, N=4, P=300, ridge=1e-2, noise=0.2, K=7)
LAWS = [PromptLaw(), PromptLaw.of("sufficient"), PromptLaw.of(law="uniform")]


@pytest.fixture(autouse=True)
def blocks_of_64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", 1)
    assert block_size(5) == 64


def pair(law: PromptLaw = LAWS[0]) -> tuple[StreamedFeatures, module.Features]:
    streamed = draw_instance(SETTING, seed=1, law=law, streaming=True).features
    kept = draw_instance(SETTING, seed=1, law=law).features
    assert isinstance(streamed, StreamedFeatures)
    assert isinstance(kept, module.Features)
    return streamed, kept


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("rows", [1, 100, 1000])
def test_blocks_are_slices_of_the_kept_prompts_on_every_pass(law: PromptLaw, rows: int) -> None:
    streamed, kept = pair(law)
    for _ in range(2):
        blocks, slices = list(streamed.blocks(rows)), list(kept.blocks(rows))
        assert [block.P for block in blocks] == {1: [64] * 4 + [44], 100: [128, 128, 44], 1000: [300]}[rows]
        for one, other in zip(blocks, slices, strict=True):
            for name in ("context", "query", "target"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(streamed.block(3).query, kept.query[192:256])
    assert len(np.unique(kept.query[:, 0])) == 300 or law.tokens.family != "gaussian"


def test_every_product_is_that_of_the_kept_prompts() -> None:
    (streamed, kept), rng = pair(), np.random.default_rng(0)
    rows, acting, dual = kept.explicit(), rng.standard_normal((6, 5)), rng.standard_normal(300)
    W = np.pad(acting, ((0, 0), (0, 1)))
    for source in (streamed, kept):
        np.testing.assert_allclose(source.apply(acting), rows @ acting.ravel(), atol=1e-12)
        np.testing.assert_allclose(source.apply_transpose(dual).ravel(), rows.T @ dual, atol=1e-12)
        np.testing.assert_allclose(source.apply_gram(acting).ravel(), rows.T @ rows @ acting.ravel() / 300, atol=1e-12)
        np.testing.assert_allclose(source.fields().ravel(), rows.T @ kept.target / 300, atol=1e-12)
        np.testing.assert_allclose(source.gram(), rows.T @ rows / 300, atol=1e-12)
        np.testing.assert_allclose(source.kernel(), rows @ rows.T, atol=1e-11)
        np.testing.assert_allclose(source.target, kept.target, atol=0)
        residual = kept.target - rows @ acting.ravel()
        assert source.mean_squared_residual(W) == pytest.approx(np.mean(residual**2), rel=1e-13)
        context, query = source.side_moments()
        np.testing.assert_allclose(context, kept.context.T @ kept.context / 300, atol=1e-13)
        np.testing.assert_allclose(query, kept.query.T @ kept.query / 300, atol=1e-13)


@pytest.mark.parametrize("algorithm", ["dense", "dual", "cg"])
@pytest.mark.parametrize("prompts", ["tokens", "sufficient"])
@pytest.mark.parametrize("P", [25, 300])
def test_ensembles_are_the_same_to_rounding(algorithm: str, prompts: str, P: int) -> None:
    setting = replace(SETTING, P=P, beta=math.inf if algorithm == "cg" else 20.0)
    streamed, kept = (
        simulate(setting, 2, algorithm=algorithm, prompts=prompts, streaming=streaming) for streaming in (True, False)
    )
    assert (streamed.provenance.streaming, kept.provenance.streaming) == (True, False)
    for name, values in kept.values.items():
        np.testing.assert_allclose(streamed.values[name], values, rtol=1e-9)


def test_memory_does_not_grow_with_the_number_of_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", 2**17)
    many = Setting(D=10, N=20, P=60_000, ridge=1e-2)
    features = draw_instance(many, law=LAWS[1], streaming=True).features
    tracemalloc.start()
    ground_state(features, 1e-2, algorithm="cg").training_error  # noqa: B018
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.2 * feature_bytes(many)


def test_prompts_are_streamed_when_they_would_fill_half_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    many = Setting(D=10, N=20, P=3_000_000, ridge=1e-2)
    for share, expected in ((0.45, False), (0.55, True)):
        monkeypatch.setattr(budget, "available_bytes", lambda share=share: int(feature_bytes(many) / share))
        assert plan(many)[1] is expected
        assert plan(many, streaming=not expected)[1] is not expected
