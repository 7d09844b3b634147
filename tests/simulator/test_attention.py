"""The literal forward pass against the compressed features, and the order of the indices of W."""

import numpy as np
import pytest

from replica_icl.errors import ParameterError
from replica_icl.setting import Setting
from replica_icl.simulator.attention import (
    attention,
    check_weights,
    context_vectors,
    predictions,
    prompt_matrix,
)
from replica_icl.simulator.features import compress
from replica_icl.simulator.prompts import draw_prompts

PROMPTS = draw_prompts(Setting(D=4, N=6, P=5, ridge=0.1, noise=0.2), 8, np.random.default_rng(0))
W = np.random.default_rng(1).standard_normal((5, 5))


def test_attention_is_z_zt_w_z_over_n_labelled_tokens() -> None:
    Z = prompt_matrix(PROMPTS)
    assert Z.shape == (8, 5, 7)
    for one, output in zip(Z, attention(Z, W), strict=True):
        np.testing.assert_allclose(output, one @ one.T @ W @ one / 6, atol=1e-12)
    np.testing.assert_allclose(attention(Z[0], W), attention(Z, W)[0], atol=1e-13)


def test_query_column_has_no_label() -> None:
    Z = prompt_matrix(PROMPTS)
    assert np.all(Z[:, 4, 6] == 0)
    np.testing.assert_array_equal(Z[:, :4, 6], PROMPTS.query)


def test_fast_features_predict_like_the_literal_forward_pass() -> None:
    Z = prompt_matrix(PROMPTS)
    literal = predictions(Z, W)
    np.testing.assert_allclose(compress(PROMPTS).predict(W), literal, atol=1e-12)
    np.testing.assert_allclose(np.einsum("ni,ij,nj->n", context_vectors(Z), W, Z[:, :, -1]), literal, atol=1e-12)
    np.testing.assert_allclose(compress(PROMPTS).context, context_vectors(Z), atol=1e-13)


def test_first_index_is_the_context_side() -> None:
    only = np.zeros((5, 5))
    only[0, 1] = 1.0
    by_hand = np.mean(PROMPTS.labels * PROMPTS.tokens[:, :, 0], axis=1) * PROMPTS.query[:, 1]
    np.testing.assert_allclose(predictions(prompt_matrix(PROMPTS), only), by_hand, atol=1e-13)
    np.testing.assert_allclose(compress(PROMPTS).predict(only), by_hand, atol=1e-13)
    assert not np.allclose(compress(PROMPTS).predict(only.T), by_hand)


def test_last_row_acts_on_the_mean_squared_label_and_last_column_never_acts() -> None:
    only = np.zeros((5, 5))
    only[4, 2] = 1.0
    by_hand = np.mean(PROMPTS.labels**2, axis=1) * PROMPTS.query[:, 2]
    np.testing.assert_allclose(predictions(prompt_matrix(PROMPTS), only), by_hand, atol=1e-13)
    flat = np.zeros((5, 5))
    flat[:, 4] = 3.0
    np.testing.assert_array_equal(predictions(prompt_matrix(PROMPTS), flat), 0.0)
    np.testing.assert_array_equal(compress(PROMPTS).predict(flat), 0.0)


@pytest.mark.parametrize(
    "bad", [np.ones((5, 4)), np.ones(5), np.ones((2, 2)), np.full((5, 5), np.inf), np.ones((5, 5)) * 1j]
)
def test_bad_weights_are_named(bad: np.ndarray) -> None:
    with pytest.raises(ParameterError) as caught:
        check_weights(bad)
    assert caught.value.parameter == "W"


def test_weights_of_another_dimension_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"must have shape \(5, 5\)"):
        attention(prompt_matrix(PROMPTS), np.ones((6, 6)))
