"""Training: closed forms, optimisers, their end points, and separate query and key matrices."""

import math
from typing import Any

import numpy as np
import pytest

from replica_icl.errors import ParameterError, SolveError
from replica_icl.setting import Setting
from replica_icl.simulator.eigenmodes import Eigenmodes, initial_weights
from replica_icl.simulator.ensemble import simulate
from replica_icl.simulator.features import Features
from replica_icl.simulator.ground_state import ground_state
from replica_icl.simulator.hamiltonian import energy, gradient
from replica_icl.simulator.laws import PromptLaw
from replica_icl.simulator.observables import icl_error
from replica_icl.simulator.optimisers import CLOSED_FORM, OPTIMISERS, Training
from replica_icl.simulator.parametrisation import Separate
from replica_icl.simulator.realisation import draw_instance, realise
from replica_icl.simulator.training import FullBatch, batch_loss, train

N = 12
RIDGE = 0.05
SEEN = Setting(D=5, N=N, P=200, ridge=RIDGE)
FEW = Setting(D=5, N=N, P=14, ridge=RIDGE)


def features_of(setting: Setting) -> Features:
    return draw_instance(setting, law=PromptLaw.of("sufficient")).features.collect()


def start_of(D: int = 5) -> np.ndarray:
    return initial_weights(D, 0.3, np.random.default_rng(1))


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


@pytest.mark.parametrize("setting", [SEEN, FEW])
def test_gradient_descent_in_closed_form_is_gradient_descent(setting: Setting) -> None:
    features, W = features_of(setting), start_of()
    rate, steps = 0.03, 40
    modes = Eigenmodes(features, RIDGE, W)
    closed = list(modes.descent(rate, (0, 1, steps)))
    np.testing.assert_allclose(closed[0].W, W, atol=1e-14)
    for _ in range(steps):
        W = W - rate * 2 * gradient(features, W, RIDGE)
    np.testing.assert_allclose(closed[-1].W, W, atol=1e-13)
    assert closed[-1].training_error == pytest.approx(features.mean_squared_residual(W), rel=1e-12)


@pytest.mark.parametrize("setting", [SEEN, FEW])
def test_gradient_flow_is_the_small_step_limit_with_an_error_linear_in_the_step(setting: Setting) -> None:
    features, time = features_of(setting), 3.0
    modes = Eigenmodes(features, RIDGE, start_of())
    flow = next(modes.flow([time])).W
    gaps = [distance(next(modes.descent(time / 2 / k, [k])).W, flow) for k in (200, 400, 800)]
    assert gaps[1] / gaps[0] == pytest.approx(0.5, abs=0.02)
    assert gaps[2] / gaps[1] == pytest.approx(0.5, abs=0.02)


def test_gradient_flow_is_the_derivative_that_it_claims() -> None:
    features, step = features_of(SEEN), 1e-4
    before, at, after = (one.W for one in Eigenmodes(features, RIDGE, start_of()).flow([1 - step, 1, 1 + step]))
    np.testing.assert_allclose((after - before) / (2 * step), -gradient(features, at, RIDGE), rtol=1e-5, atol=1e-7)
    past, now, later = (energy(features, W, RIDGE) for W in (before, at, after))
    assert past > now > later


@pytest.mark.parametrize("setting", [SEEN, FEW])
def test_with_a_ridge_the_flow_ends_in_the_ground_state_whatever_the_start(setting: Setting) -> None:
    features = features_of(setting)
    end = next(Eigenmodes(features, RIDGE, start_of()).flow([math.inf]))
    np.testing.assert_allclose(end.W, ground_state(features, RIDGE).W, atol=1e-11)


def test_without_a_ridge_the_flow_ends_in_the_interpolating_weights_nearest_to_the_start() -> None:
    features, start = features_of(FEW), start_of()
    end = next(Eigenmodes(features, 0.0, start).flow([math.inf])).W
    assert features.mean_squared_residual(end) < 1e-25
    rows = features.explicit()
    shift = np.linalg.lstsq(rows, features.target - rows @ start[:, :5].ravel(), rcond=None)[0].reshape(6, 5)
    np.testing.assert_allclose(end[:, :5], start[:, :5] + shift, atol=1e-10)
    np.testing.assert_array_equal(end[:, 5], start[:, 5])  # what never acts stays without decay
    from_zero = next(Eigenmodes(features, 0.0).flow([math.inf])).W
    np.testing.assert_allclose(from_zero, ground_state(features, 0.0, minimum_norm=True).W, atol=1e-9)


def test_too_large_a_learning_rate_is_told_with_a_stable_one() -> None:
    features = features_of(SEEN)
    modes = Eigenmodes(features, RIDGE)
    assert modes.stability == pytest.approx(1 / (np.linalg.eigvalsh(features.gram())[-1] + RIDGE))
    with pytest.raises(SolveError, match=r"a learning rate below .* is stable"):
        list(modes.descent(1.5 * modes.stability, [10_000]))
    with pytest.raises(SolveError, match="momentum diverged by epoch"):
        train(features, RIDGE, Training("momentum", epochs=3000, learning_rate=50.0), N=N)


@pytest.mark.parametrize("setting", [SEEN, FEW])
def test_full_batches_by_moments_or_by_prompts_and_finite_differences_agree(setting: Setting) -> None:
    features, W = features_of(setting), start_of()
    by_moments, by_prompts = FullBatch(features, True)(W), FullBatch(features, False)(W)
    assert FullBatch(features).by_moments == (setting is SEEN)
    assert by_moments[0] == pytest.approx(by_prompts[0], rel=1e-12)
    np.testing.assert_allclose(by_moments[1], by_prompts[1], atol=1e-13)
    np.testing.assert_allclose(by_prompts[1], 2 * gradient(features, W, 0.0), atol=1e-13)
    for i, j in ((0, 0), (5, 2), (3, 5)):
        shift = np.zeros_like(W)
        shift[i, j] = 1e-5
        numeric = (batch_loss(features, W + shift)[0] - batch_loss(features, W - shift)[0]) / 2e-5
        assert by_moments[1][i, j] == pytest.approx(numeric, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("inner", [1, 3, 8])
def test_gradients_of_separate_query_and_key_matrices_are_finite_differences(inner: int) -> None:
    features, model = features_of(SEEN), Separate(5, inner)
    parameters = model.start(0.4, np.random.default_rng(2))
    assert np.linalg.matrix_rank(model.weights(parameters)) == min(inner, 6)

    def loss(values: np.ndarray) -> float:
        return batch_loss(features, model.weights(values))[0]

    exact = model.pull_back(parameters, batch_loss(features, model.weights(parameters))[1])
    for where in np.ndindex(parameters.shape):
        shift = np.zeros_like(parameters)
        shift[where] = 1e-5
        assert exact[where] == pytest.approx((loss(parameters + shift) - loss(parameters - shift)) / 2e-5, abs=1e-8)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("setting", [SEEN, FEW])
def test_where_well_conditioned_the_end_point_is_the_ridge_solution_at_half_the_decay(
    name: Any, setting: Setting
) -> None:
    features = features_of(setting)
    done = train(features, RIDGE, Training(name, epochs=6000, record=6000), N=N, start=start_of())
    exact = ground_state(features, RIDGE)
    assert distance(done.W, exact.W) < 1e-3
    assert done.training_error == pytest.approx(exact.training_error, rel=1e-3)


def test_adamw_ends_elsewhere() -> None:
    features = features_of(SEEN)
    done = train(features, RIDGE, Training("adamw", epochs=6000, record=6000), N=N)
    assert distance(done.W, ground_state(features, RIDGE).W) > 0.1


def test_separate_matrices_with_decay_end_in_less_than_full_rank_and_without_it_reach_the_merged_minimum() -> None:
    features = features_of(SEEN)
    how = Training("adam", epochs=4000, learning_rate=5e-3, initial_scale=0.3, inner=6, record=4000)
    free = train(features, 0.0, how, N=N)
    assert free.parameters.shape == (2, 6, 6)
    np.testing.assert_allclose(free.parameters[0].T @ free.parameters[1], free.W)
    assert free.training_error == pytest.approx(ground_state(features, 0.0).training_error, rel=1e-2)
    decayed = train(features, 0.1, how, N=N)
    values = np.linalg.svd(decayed.W, compute_uv=False)
    assert values[-1] < 1e-3 * values[0]  # the nuclear norm of the product is what decay of both factors penalises


def test_mini_batches_end_near_the_ground_state_and_one_batch_is_the_full_one() -> None:
    features = features_of(SEEN)
    done = train(features, RIDGE, Training("sgd", epochs=150, learning_rate=5e-3, batch=30, record=50), N=N)
    assert distance(done.W, ground_state(features, RIDGE).W) < 0.1
    assert Training("sgd", epochs=150, batch=30).steps(200) == 150 * 7
    whole = train(features, RIDGE, Training("adam", epochs=20, batch=200), N=N)
    full = train(features, RIDGE, Training("adam", epochs=20), N=N)
    np.testing.assert_allclose(whole.W, full.W, rtol=1e-9)
    np.testing.assert_allclose(whole.test_errors, full.test_errors, rtol=1e-9)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_errors_are_recorded_at_every_asked_epoch(name: Any) -> None:
    features, start = features_of(SEEN), start_of()
    done = train(features, RIDGE, Training(name, epochs=25, learning_rate=0.01, record=10), N=N, start=start)
    assert done.epochs.tolist() == [0, 10, 20, 25]
    assert done.times[-1] == pytest.approx(2 * 0.01 * 25)
    assert done.train_errors[0] == pytest.approx(features.mean_squared_residual(start), rel=1e-10)
    assert done.test_errors[0] == pytest.approx(icl_error(start, N, D=len(start) - 1), rel=1e-12)
    assert done.train_errors[-1] == pytest.approx(features.mean_squared_residual(done.W), rel=1e-10)
    assert done.test_errors[-1] == pytest.approx(icl_error(done.W, N, D=len(done.W) - 1), rel=1e-12)
    assert done.train_errors[-1] < done.train_errors[0]


def test_adam_takes_the_steps_of_its_paper() -> None:
    """Three steps by hand, scalar by scalar."""
    features, W = features_of(SEEN), start_of()
    done = train(features, RIDGE, Training("adam", epochs=3, learning_rate=0.1), N=N, start=W)
    first = second = np.zeros_like(W)
    for t in (1, 2, 3):
        slope = 2 * gradient(features, W, RIDGE)  # mean squared error with decay 2 ridge
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        W = W - 0.1 * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(done.W, W, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_ensemble_may_be_trained(name: Any) -> None:
    how = Training(name, epochs=30, initial_scale=0.1, record=15)
    one, two = simulate(SEEN, 2, algorithm=how, workers=1), simulate(SEEN, 3, algorithm=how, workers=1)
    assert one.provenance.algorithm == how
    assert one.curves["e_icl"].shape == (2, 3)
    np.testing.assert_array_equal(one.curves["epoch"][0], [0, 15, 30])
    for key, values in one.values.items():
        np.testing.assert_array_equal(values, two.values[key][:2])
    np.testing.assert_array_equal(one.curves["e_icl"][:, -1], one.values["e_icl"])
    alone = realise(SEEN, realisation=1, algorithm=how)
    assert alone.values["m"] == pytest.approx(one.values["m"][1], rel=1e-12)


def test_the_name_of_an_optimiser_is_its_defaults() -> None:
    assert simulate(SEEN, 1, algorithm="gd").provenance.algorithm == Training("gd")
    assert Training("adam").rate == 1e-3
    assert Training("sgd").rate == 0.05
    exact, flow = simulate(SEEN, 2), simulate(SEEN, 2, algorithm=Training("gradient-flow", epochs=10**7, record=10**7))
    for name in exact.values:
        np.testing.assert_allclose(flow.values[name], exact.values[name], rtol=1e-9)


@pytest.mark.parametrize(
    ("attribute", "value", "optimiser"),
    [
        ("optimiser", "magic", "magic"),
        ("epochs", 0, "adam"),
        ("record", 0, "adam"),
        ("learning_rate", 0.0, "adam"),
        ("learning_rate", math.nan, "adam"),
        ("batch", 0, "sgd"),
        ("batch", 5, "gd"),
        ("inner", 5, "gradient-flow"),
        ("initial_scale", -1.0, "adam"),
        ("friction", 1.0, "momentum"),
        ("decay_rates", 1.0, "adam"),
        ("epsilon", 0.0, "adam"),
    ],
)
def test_bad_training_is_named(attribute: str, value: Any, optimiser: Any) -> None:
    given = {attribute: (0.9, value) if attribute == "decay_rates" else value}
    with pytest.raises(ParameterError) as caught:
        Training(**{"optimiser": optimiser, **given})
    assert caught.value.parameter == attribute


@pytest.mark.parametrize(
    ("setting", "how", "parameter"),
    [
        (Setting(5, N, 200, RIDGE, beta=10.0), Training("adam"), "beta"),
        (SEEN, Training("adam", batch=201), "batch"),
        (SEEN, Training("adam", inner=3), "initial_scale"),
    ],
)
def test_training_that_does_not_fit_is_refused_before_any_work(setting: Setting, how: Training, parameter: str) -> None:
    with pytest.raises(ParameterError) as caught:
        simulate(setting, 2, algorithm=how)
    assert caught.value.parameter == parameter


def test_a_start_of_another_shape_is_refused() -> None:
    features = features_of(SEEN)
    with pytest.raises(ParameterError, match="start"):
        train(features, RIDGE, Training("adam", inner=3), N=N, start=np.zeros((2, 4, 6)))
    with pytest.raises(ParameterError, match="W"):
        train(features, RIDGE, Training("adam"), N=N, start=np.zeros((5, 5)))
    assert set(CLOSED_FORM) < set(OPTIMISERS)
