"""Trained weights from files, beside theory and exact ground states."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from replica_icl.cli import main
from replica_icl.errors import ParameterError
from replica_icl.meeting.checkpoint import read_weights
from replica_icl.meeting.compare import WeightsComparison, compare
from replica_icl.numeric.solve import solve
from replica_icl.setting import Setting
from replica_icl.simulator.ground_state import ground_state
from replica_icl.simulator.observables import error_by_prompts
from replica_icl.simulator.optimisers import Training
from replica_icl.simulator.realisation import draw_instance
from replica_icl.simulator.training import train

SETTING = Setting(D=5, N=12, P=200, ridge=0.05)
GIVEN = ["--D", "5", "--N", "12", "--P", "200", "--ridge", "0.05"]
RNG = np.random.default_rng(3)
W = RNG.standard_normal((6, 6))
KEY, QUERY = RNG.standard_normal((2, 4, 6))


def tensors(path: Path, arrays: dict[str, tuple[str, np.ndarray]], cut: int = 0) -> Path:
    """A .safetensors file, as the format's description has it; `cut` bytes are left out at the end."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (kind, array) in arrays.items():
        raw = array.tobytes()
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes((struct.pack("<Q", len(text)) + text + data)[: -cut or None])
    return path


@pytest.fixture(scope="module")
def trained() -> tuple[np.ndarray, np.ndarray]:
    """Weights by our own Adam, and the exact ground state of the same sample."""
    features = draw_instance(SETTING, seed=77).features.collect()
    how = Training("adam", epochs=3000, learning_rate=0.01)
    found = train(features, SETTING.ridge, how, N=SETTING.N, rng=np.random.default_rng(1))
    return found.W, ground_state(features, SETTING.ridge).W


@pytest.fixture(scope="module")
def answer(trained: tuple[np.ndarray, np.ndarray]) -> WeightsComparison:
    return compare(trained[0], SETTING, realisations=199, seed=5)


def test_weights_trained_by_adam_are_a_sample_of_their_theory(
    trained: tuple[np.ndarray, np.ndarray], answer: WeightsComparison
) -> None:
    np.testing.assert_allclose(trained[0], trained[1], atol=1e-3)
    assert all(abs(far) < 4 for far in answer.distance.values())
    best = answer.best_ridge
    assert best.determined
    assert best.factor is not None
    assert abs(np.log(best.value / SETTING.ridge)) < 4 * np.log(best.factor)
    assert best.as_far > 0.01


def test_the_error_is_that_of_literal_prompts(
    trained: tuple[np.ndarray, np.ndarray], answer: WeightsComparison
) -> None:
    found = error_by_prompts(trained[0], SETTING.N, n_prompts=20000)
    assert found.sem is not None
    assert abs(found.mean - answer.scores["e_icl"]) < 4 * found.sem


def test_weights_of_another_ridge_are_told_by_their_ridge(answer: WeightsComparison) -> None:
    other = ground_state(draw_instance(SETTING, seed=78).features.collect(), 1.0).W
    found = compare(other, SETTING, realisations=10, seed=6)
    best = found.best_ridge
    assert best.factor is not None
    assert abs(np.log(best.value / 1.0)) < 4 * np.log(best.factor)
    assert abs(found.distance["q"]) > 4


def test_weights_that_no_ridge_explains_are_told() -> None:
    assert compare(W, SETTING, realisations=5).best_ridge.as_far == 1 / 6


@pytest.mark.parametrize(("kind", "dtype", "rtol"), [("F64", "<f8", 0), ("F32", "<f4", 1e-7), ("F16", "<f2", 1e-3)])
def test_numbers_of_every_kind_are_read(tmp_path: Path, kind: str, dtype: str, rtol: float) -> None:
    path = tensors(tmp_path / "w.safetensors", {"step": ("I64", np.arange(3)), "W": (kind, W.astype(dtype))})
    np.testing.assert_allclose(read_weights(path, 5), W, rtol=rtol, atol=rtol)


def test_bf16_is_the_upper_half_of_f32(tmp_path: Path) -> None:
    words = np.full((6, 6), 0xC049, dtype="<u2")  # sign, exponent 2^1, mantissa 1 + 73/128
    path = tensors(tmp_path / "w.safetensors", {"W": ("BF16", words)})
    np.testing.assert_array_equal(read_weights(path, 5), -2 * (1 + 73 / 128))


def test_keys_queries_values_names_and_scale(tmp_path: Path) -> None:
    values = RNG.standard_normal((6, 6))
    values[5] = [0, 0, 0, 0, 0, -3]
    path = tmp_path / "w.npz"
    np.savez(path, **{"a.k": KEY, "a.q": QUERY, "a.v": values})
    names = {"W_K": "a.k", "W_Q": "a.q", "W_V": "a.v"}
    found = read_weights(path, 5, names, scale=0.5)
    np.testing.assert_allclose(found, -1.5 * np.einsum("ai,aj->ij", KEY, QUERY))
    np.save(tmp_path / "w.npy", W)
    np.testing.assert_array_equal(read_weights(tmp_path / "w.npy", 5), W)


def test_what_is_refused(tmp_path: Path) -> None:
    good = {"W": ("F64", W)}

    def refused(path: Path, *parts: str, names: dict[str, str] | None = None) -> None:
        with pytest.raises(ParameterError) as caught:
            read_weights(path, 5, names)
        assert all(part in str(caught.value) for part in (path.name, *parts)), str(caught.value)

    refused(tensors(tmp_path / "cut.safetensors", good, cut=1), "claims bytes 0 to 288 of 287")
    (tmp_path / "long.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    refused(tmp_path / "long.safetensors", "claims 1152921504606846976 bytes")
    (tmp_path / "list.safetensors").write_bytes(struct.pack("<Q", 2) + b"[]")
    refused(tmp_path / "list.safetensors", "no JSON object")
    refused(tensors(tmp_path / "kind.safetensors", {"W": ("I64", np.ones((6, 6), int))}), "BF16", "holds I64")
    refused(tensors(tmp_path / "size.safetensors", {"W": ("F32", W)}), "claims F32 of shape (6, 6) in 288 bytes")
    refused(tensors(tmp_path / "names.safetensors", {"q": ("F64", W), "k": ("F64", W)}), "found: k, q")
    refused(tmp_path / "names.safetensors", "which holds: k, q", names={"W": "x"})
    refused(tensors(tmp_path / "both.safetensors", {**good, "W_K": ("F64", W)}), "must hold W, or W_K and W_Q")
    refused(tensors(tmp_path / "shape.safetensors", {"W": ("F64", W[:5])}), "shape (6, 6)", "not (5, 6)")
    refused(tensors(tmp_path / "nan.safetensors", {"W": ("F64", W * np.nan)}), "must be finite")
    refused(tensors(tmp_path / "v.safetensors", {**good, "W_V": ("F64", W)}), "last row of W_V")
    inner = {"W_K": ("F64", KEY), "W_Q": ("F64", QUERY[:2])}
    refused(tensors(tmp_path / "inner.safetensors", inner), "one inner dimension")
    (tmp_path / "text.npy").write_text("W")
    refused(tmp_path / "text.npy", ".npy, .npz or .safetensors")
    np.save(tmp_path / "int.npy", np.ones((6, 6), int))
    refused(tmp_path / "int.npy", "holds int64")
    (tmp_path / "text.npz").write_text("PK")
    refused(tmp_path / "text.npz", ".npy, .npz or .safetensors")
    refused(tmp_path / "none.pt", ".npy, .npz or .safetensors")


@pytest.mark.parametrize("setting", [{"K": 5}, {"beta": 9.0}])
def test_a_setting_that_is_not_compared_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="must not be given"):
        compare(W, Setting(D=5, N=12, P=200, ridge=0.05, **setting))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tensors(tmp_path / "w.safetensors", {"k": ("F64", KEY), "q": ("F64", QUERY)})
    names = ["--names", "W_K=k", "W_Q=q", "--realisations", "2"]
    assert main(["compare", str(path), *GIVEN, *names, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["m"]["value"] == pytest.approx(np.trace((KEY.T @ QUERY)[:5, :5]) / 5)
    assert len(data["singular_values"]) == 5
    for wrong, told in {"--scale": "x", "--ridge": "-1"}.items():
        extra = [*GIVEN[:6], wrong, told] if wrong == "--ridge" else [*GIVEN, wrong, told]
        assert main(["compare", str(path), *extra]) == 2
        assert f"{wrong} {told}" in capsys.readouterr().err
    assert main(["compare", str(path), *GIVEN]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_distance_is_in_spreads_of_the_theory_at_the_nearest_ridge(answer: WeightsComparison) -> None:
    best = answer.best_ridge

    def distance(ridge: float) -> float:
        theory = solve(replace(SETTING, ridge=ridge), spread=True)
        assert theory.spread is not None
        far = [(answer.scores[name] - theory[name]) / theory.spread[name] for name in ("e_icl", "m", "q", "u")]
        return float(np.linalg.norm(far))

    assert best.distance == pytest.approx(distance(best.value), rel=1e-3)
    assert all(best.distance < distance(best.value * by) for by in (0.8, 1.25))
