"""Compressed prompts: the structured Gram and kernel are those of the explicit feature rows."""

import numpy as np
import pytest

from replica_icl.errors import ParameterError
from replica_icl.setting import Setting
from replica_icl.simulator import features as module
from replica_icl.simulator.features import Features, compress, draw_features
from replica_icl.simulator.prompts import prompt_batches

SETTING = Setting(D=4, N=6, P=23, ridge=0.1, noise=0.2)
FEATURES = draw_features(SETTING, np.random.default_rng(0))


def test_explicit_rows_are_ordered_context_major() -> None:
    rows, padded = FEATURES.explicit(), FEATURES.explicit(all_weights=True)
    assert rows.shape == (23, 20)
    assert padded.shape == (23, 25)
    np.testing.assert_array_equal(rows[:, 1 * 4 + 2], FEATURES.context[:, 1] * FEATURES.query[:, 2])
    np.testing.assert_array_equal(padded[:, 1 * 5 + 2], rows[:, 1 * 4 + 2])
    np.testing.assert_array_equal(padded.reshape(23, 5, 5)[:, :, 4], 0.0)


@pytest.mark.parametrize("prompts", [1, 7, 512])
def test_gram_is_the_second_moment_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch, prompts: int) -> None:
    monkeypatch.setattr(module, "_PAIR_PROMPTS", prompts)
    rows, gram = FEATURES.explicit(), FEATURES.gram()
    np.testing.assert_allclose(gram, rows.T @ rows / 23, atol=1e-13)
    np.testing.assert_array_equal(gram, gram.T)


def test_kernel_is_the_inner_product_of_rows() -> None:
    rows, metric = FEATURES.explicit(), np.arange(1.0, 6.0)
    np.testing.assert_allclose(FEATURES.kernel(), rows @ rows.T, atol=1e-12)
    np.testing.assert_allclose(FEATURES.kernel(metric), rows @ np.diag(np.repeat(metric, 4)) @ rows.T, atol=1e-12)


def test_thin_products_are_the_feature_matrix_and_its_transpose() -> None:
    rows, rng = FEATURES.explicit(), np.random.default_rng(1)
    acting, dual = rng.standard_normal((5, 4)), rng.standard_normal(23)
    np.testing.assert_allclose(FEATURES.apply(acting), rows @ acting.ravel(), atol=1e-12)
    np.testing.assert_allclose(FEATURES.apply_transpose(dual).ravel(), rows.T @ dual, atol=1e-12)


def test_drawn_features_are_the_batches_compressed() -> None:
    long = Setting(D=50, N=2000, P=7, ridge=0.1)
    drawn = draw_features(long, np.random.default_rng(2))
    parts = [compress(batch) for batch in prompt_batches(long, 7, np.random.default_rng(2))]
    assert len(parts) == 2
    for name in ("context", "query", "target"):
        np.testing.assert_array_equal(getattr(drawn, name), np.concatenate([getattr(part, name) for part in parts]))


def test_shapes_must_belong_together() -> None:
    with pytest.raises(ParameterError, match="features"):
        Features(np.ones((3, 4)), np.ones((3, 4)), np.ones(3))
    with pytest.raises(ParameterError, match="query"):
        Features(np.ones((3, 4)), np.ones(3), np.ones(3))
