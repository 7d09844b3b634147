"""The finite-size theory of fresh tasks against the stated free entropy, and its exact identities."""

import pytest
import sympy as sp

from replica_icl.model.attention.merged import prediction, residual_covariance
from replica_icl.narration.checks import agree
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average
from replica_icl.theory.fresh_tasks import (
    ORDER_PARAMETERS,
    FreshTasks,
    derive_fresh_tasks,
    field,
    in_response_units,
    last_row_field,
    last_row_ridge,
    unit,
    with_ridges,
)

D, P, b = s.D, s.P, s.inverse_scale
m, q, V, u, V_u = ORDER_PARAMETERS
T, omega, g, a, ell = s.SCALARS
R = T * (omega - 2 * m * g + q * a + u * ell**2) + s.noise
chi = V * a + V_u * ell**2


@pytest.fixture(scope="module")
def theory() -> FreshTasks:
    return derive_fresh_tasks()


def test_free_entropy_is_the_stated_one(theory: FreshTasks) -> None:
    """log Z over the D^2 + D acting weights, written down here by hand."""
    entropic = D**2 / 2 * (sp.log(V) + (q - m**2) / V) + D / 2 * (sp.log(V_u) + u / V_u)
    cost = Average(sp.log(1 + b * T * chi) + b * R / (1 + b * T * chi), s.SCALARS)
    ridge = s.beta * s.ridge / 2 * (D * (q + V) + u + V_u)
    constant = (D**2 + D) / 2 * (1 + sp.log(2 * sp.pi / D))
    assert agree(theory.free_entropy, entropic - P / 2 * cost - ridge + constant)


def test_observables_are_the_stated_ones(theory: FreshTasks) -> None:
    shrinkage = 1 / (1 + b * T * chi)
    stated = {
        "e_icl": R,
        "train_error": R * shrinkage**2,
        "e_gibbs": R + T * chi,
        "train_gibbs": R * shrinkage**2 + T * chi * shrinkage,
    }
    for name, integrand in stated.items():
        assert agree(theory.observables[name], Average(integrand, s.SCALARS)), name
    assert theory.observables["weight_norm"] == D * q + u
    assert agree(theory.observables["contrast"], D * m / sp.sqrt((D + 1) * (D * q + u)))


def test_saddle_without_prompts_is_a_gaussian(theory: FreshTasks) -> None:
    rest = {m: 0, q: 0, u: 0, V: D / (s.beta * s.ridge), V_u: D / (s.beta * s.ridge), P: 0}
    assert all(sp.simplify(e.subs(rest)) == 0 for e in theory.saddle.equations.values())
    assert agree(theory.free_entropy.subs(rest), (D**2 + D) / 2 * sp.log(2 * sp.pi / (s.beta * s.ridge)))


def test_infinite_ridge_gives_the_empty_model(theory: FreshTasks) -> None:
    empty = dict.fromkeys(ORDER_PARAMETERS, 0)
    assert theory.observables["e_icl"].subs(empty) == Average(T * omega + s.noise, s.SCALARS)
    assert agree(theory.observables["train_error"].subs(empty), theory.observables["e_icl"].subs(empty))


def test_temperature_changes_only_the_fluctuations(theory: FreshTasks) -> None:
    """Equations for m, q, u scale with one power of beta, those for V and V_u (after subtraction) with two."""
    f = sp.Symbol("f", positive=True)
    colder = {s.beta: f * s.beta, b: f * b, V: V / f, V_u: V_u / f}
    equations = theory.saddle.equations
    for equation, power in (
        (equations[m], 1),
        (equations[q], 1),
        (equations[u], 1),
        (equations[V] - equations[q], 2),
        (equations[V_u] - equations[u], 2),
    ):
        assert agree(equation.subs(colder, simultaneous=True), f**power * equation, points=2)


def test_response_units_are_the_same_theory(theory: FreshTasks) -> None:
    """At beta = P/c and both blocks' fields lambda_0/c, the response units are the original equations."""
    response = in_response_units(theory)
    same = {s.beta: P / unit, b: 1 / unit}
    fields = dict.fromkeys((field, last_row_field), s.ridge / unit)
    for parameter, equation in response.saddle.equations.items():
        original = theory.saddle.equations[parameter].subs(same)
        assert agree(equation.subs(fields), original, points=2)


def test_ridge_of_the_last_row_acts_on_the_last_row_alone(theory: FreshTasks) -> None:
    other = with_ridges(theory, s.ridge, last_row_ridge)
    difference = other.free_entropy - theory.free_entropy
    assert agree(difference, -s.beta / 2 * (last_row_ridge - s.ridge) * (u + V_u))


def test_doubled_prediction_is_a_quarter_of_the_ridge(theory: FreshTasks) -> None:
    """y^ -> 2 y^ at ridge lambda_0 has the weights W/2 of ridge lambda_0/4: an identity of the free entropy."""
    twice = derive_fresh_tasks(residual_covariance(predict=lambda *args: 2 * prediction(*args)))
    halved = {m: m / 2, q: q / 4, V: V / 4, u: u / 4, V_u: V_u / 4, s.ridge: 4 * s.ridge}
    volume = (D**2 + D) / 2 * sp.log(4)
    assert agree(twice.free_entropy.subs(halved, simultaneous=True), theory.free_entropy - volume)
    for name in ("e_icl", "train_error", "contrast"):
        assert agree(twice.observables[name].subs(halved, simultaneous=True), theory.observables[name])


def test_ensemble_reads_its_covariance_from_the_forward_pass(theory: FreshTasks) -> None:
    blind = derive_fresh_tasks(residual_covariance(predict=lambda gram, W, prompt: sp.S.Zero))
    assert blind.free_entropy.has(m)  # the weights' volume
    assert not blind.energetic.free_entropy().free_symbols & set(ORDER_PARAMETERS)
    assert theory.energetic.free_entropy().free_symbols >= set(ORDER_PARAMETERS)
