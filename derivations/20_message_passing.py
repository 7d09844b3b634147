"""Message passing: from belief propagation between prompts and weights to the algorithm, and its state evolution."""

import math

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from replica_icl import Setting
from replica_icl.cavity.gamp import Denoiser, message_passing
from replica_icl.cavity.relaxed_bp import extreme_eigenvalues, reduced_stiffness, relaxed_belief_propagation
from replica_icl.lowering.model import LINEAR_ATTENTION
from replica_icl.meeting.message_passing import denoiser_of
from replica_icl.model.priors import laplace
from replica_icl.narration.checks import vanishes
from replica_icl.narration.derivation import Derivation, Found, by_simulation, numerically, symbolically
from replica_icl.narration.telling import tell
from replica_icl.numeric.averages.prompt_nodes import prompt_nodes
from replica_icl.numeric.priors.finite_size import Halves, PriorPoints
from replica_icl.numeric.priors.state_evolution import state_evolution
from replica_icl.priors import Laplace, Ridge
from replica_icl.simulator.features import Features, draw_features
from replica_icl.simulator.ground_state import ground_state
from replica_icl.simulator.hamiltonian import Hamiltonian, hamiltonian
from replica_icl.simulator.observables import icl_error
from replica_icl.simulator.optima.laplace import laplace_optimum
from replica_icl.simulator.realisation import draw_instance
from replica_icl.status import Status
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import expand_averages
from replica_icl.symbolic.channel import Potential
from replica_icl.theory.conjugate_fields import CONJUGATE
from replica_icl.theory.fresh_tasks import derive_fresh_tasks
from replica_icl.theory.prompt_fields import at_prompts, fields_of, kept_weights
from replica_icl.theory.weight_priors import SeparablePrior, overlaps

Array = NDArray[np.float64]

derivation = Derivation(
    __file__,
    "Message passing and its state evolution",
    needs=["hamiltonian", "missing-onsager", "weight-priors"],
    symbols={
        "A": "index of a weight; B another",
        "B": "index of another weight",
        r"\psi": "potential of the prior",
        "W_A": "estimate of a weight: mean of its belief",
        r"\Delta_A": r"variance of the belief about a weight at $\beta = P$, slope of the proximal map",
        r"\phi_A": "field on a weight",
        r"\hat V_A": "stiffness of a weight, what the prompts hold it with",
        "p_\\mu": "prediction of a prompt's target without the prompt's own influence",
        r"\tau_\mu": "variance of that prediction",
        r"\hat r_\mu": "message of a prompt, what it asks the weights to add to its prediction",
        "h": "fields of the couplings",
        "J": "couplings",
        r"\lambda_A": "stiffness of weight A in the energy",
        "m_A": "mean of weight A, on couplings",
        "v_A": "variance of weight A, on couplings",
        r"\xi_A": r"$\beta^2 \sum_B J_{AB}^2 v_B$, cavity fluctuations",
        r"\theta_A": r"$\lambda_A - \xi_A / \beta$",
        r"\vartheta": "share of the old messages that is kept",
        "x": r"an eigenvalue of $J_{AB} / \theta_A$",
        "i": "row of $W$, on the context side",
        "j": "column of $W$, on the query side",
        r"\hat V": "stiffness of a token weight",
        r"\hat m": "mean of the field on a diagonal weight",
        r"\hat q": "variance of the field on a token weight",
        "z": "a standard normal variable",
    },
)


def instance(D: int, N: int, P: int, noise: float, seed: int) -> Features:
    return draw_features(Setting(D=D, N=N, P=P, ridge=1.0, noise=noise), np.random.default_rng([20, seed]))


def distance(found: Array, exact: Array) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


# ----------------------------------------------------------------------------------------------------------------------

derivation.step(
    "Belief propagation between prompts and weights",
    r"""
    The Boltzmann measure of one sample is a product over prompts of $\exp(-\frac{\beta}{2P} (\tilde y - \sum_A f_A
    W_A)^2)$ and over weights of $\exp(-\beta \psi(W_A))$: a graph in which every prompt is tied to every weight.
    Belief propagation sends along each tie, both ways, what one end would say of the weight without the other. A sum
    over many weights is Gaussian, so a prompt needs of each weight the mean $W_{A \to \mu}$ and the variance
    $\Delta_{A \to \mu}$ only (relaxed belief propagation). In units of $\beta = P$:
    """,
)
derivation.equation(r"p_{\mu \to A}", r"\sum_{B \neq A} f_{\mu B} W_{B \to \mu}", label="cavity_p")
derivation.equation(r"\tau_{\mu \to A}", r"\sum_{B \neq A} f_{\mu B}^2 \Delta_{B \to \mu}", label="cavity_tau")
derivation.equation(
    r"\hat V_{A \to \mu}", r"\sum_{\mu' \neq \mu} f_{\mu' A}^2 / (1 + \tau_{\mu' \to A})", label="cavity_V"
)
derivation.equation(
    r"\phi_{A \to \mu}",
    r"\sum_{\mu' \neq \mu} f_{\mu' A} (\tilde y_{\mu'} - p_{\mu' \to A}) / (1 + \tau_{\mu' \to A})",
    label="cavity_phi",
)
derivation.text(
    r"""
    and $W_{A \to \mu}$ is the proximal map of the prior ([[weight-priors]]) at that field and stiffness, $\Delta_{A
    \to \mu}$ its slope. There is a message for each prompt and each weight, $P D^2$ of them.
    """
)


@derivation.claim(
    "a prompt with a Gaussian prediction by the other weights acts on one weight like a Gaussian factor with the "
    "stiffness and field of [[cavity_V]] and [[cavity_phi]]",
    symbolically(),
)
def factor_message() -> bool:
    y, f, W, p, x = sp.symbols("y f W p x", real=True)
    tau = sp.Symbol("tau", positive=True)
    exponent = sp.Poly(sp.expand(-((x - p) ** 2) / (2 * tau) - (y - x - f * W) ** 2 / 2), x)
    square, linear, rest = exponent.all_coeffs()
    message = rest - linear**2 / (4 * square)  # the logarithm of the integral over x, but for a constant
    stiffness, field = -message.diff(W, 2), message.diff(W).subs(W, 0)
    return vanishes(stiffness - f**2 / (1 + tau)) and vanishes(field - f * (y - p) / (1 + tau))


def on_all_ties(features: Features, ridge: float, rounds: int) -> Array:
    """Weights after that many rounds with a message for every tie, under the ridge."""
    f, y = features.explicit(), features.target
    P = len(y)
    W, variance = np.zeros_like(f), np.zeros_like(f)
    for _ in range(rounds):
        told, spread = f * W, f**2 * variance
        p, tau = told.sum(1, keepdims=True) - told, spread.sum(1, keepdims=True) - spread
        stiff, field = f**2 / (1 + tau), f * (y[:, None] - p) / (1 + tau)
        held, pushed = stiff.sum(0) - stiff, field.sum(0) - field
        W += 0.7 * (pushed / (held + P * ridge) - W)
        variance += 0.7 * (1 / (held + P * ridge) - variance)
    return field.sum(0) / (stiff.sum(0) + P * ridge)


@derivation.claim(
    "under the ridge, where all messages are exactly Gaussian, the fixed point with a message for every tie is the "
    "ground state of the sample",
    numerically("D = 4, N = 20, P = 60, ridge 0.05, rho = 0.1; relative distance below 1e-10"),
)
def all_messages_end_at_the_ground_state() -> Found:
    features = instance(4, 20, 60, 0.1, 1)
    exact = ground_state(features, 0.05).W[:, :4].ravel()
    away = distance(on_all_ties(features, 0.05, 400), exact)
    return Found(away < 1e-10, f"{away:.1e}")


derivation.step(
    "A message per weight and per prompt: the Onsager reaction",
    r"""
    Messages of one weight to different prompts differ by what one prompt says, of the order of one feature. That is
    small, but a prompt adds up $D^2$ such differences, and all of them are its own doing. With $p_\mu$ and $\tau_\mu$
    the sums over all weights and $\hat r_\mu = (\tilde y_\mu - p_\mu) / (1 + \tau_\mu)$, to the first order in the
    features $W_{A \to \mu} = W_A - \Delta_A f_{\mu A} \hat r_\mu$. So a prediction that is made of messages is that
    of the weights less the reaction $\tau_\mu \hat r_\mu$; and a field on all ties, $p_{\mu \to A} = p_\mu - f_{\mu
    A} W_A$, holds the weight where it is:
    """,
)
derivation.equation("p_\\mu", r"\hat y_\mu - \tau_\mu \hat r_\mu", label="onsager")
derivation.equation("\\hat r_\\mu", r"\frac{\tilde y_\mu - p_\mu}{1 + \tau_\mu}", label="message")
derivation.equation(r"\hat V_A", r"\sum_\mu f_{\mu A}^2 / (1 + \tau_\mu)", label="held")
derivation.equation(r"\phi_A", r"\hat V_A W_A + \sum_\mu f_{\mu A} \hat r_\mu", label="field")
derivation.text(
    r"""
    with $W_A$ the proximal map at $\phi_A$ and $\hat V_A$, $\Delta_A$ its slope, $\tau_\mu = \sum_A f_{\mu A}^2
    \Delta_A$. This is approximate message passing (`simulate --algorithm gamp`): with features $\tilde c \otimes
    \tilde x$ an iteration costs two thin products of matrices. At its fixed point [[onsager]] and [[message]] say
    $\hat r_\mu = \tilde y_\mu - \hat y_\mu$, the residual, and $\phi_A - \hat V_A W_A = P \psi'(W_A)$ that its pull
    is the slope of the prior: the exact optimum, whatever $\tau_\mu$ and $\hat V_A$ are. So the sums over squared
    features may be replaced by their averages over tokens and last row, which the package does, without a price in
    the result.
    """
)


@derivation.claim(
    "[[onsager]] and [[field]] follow from the messages on all ties to the first order in the features of a single tie",
    symbolically("three weights with any proximal map; what is left is of third order"),
)
def reaction() -> bool:
    order, r, tau, y = sp.symbols("epsilon r tau y", real=True)
    f, phi = sp.symbols("f1:4", real=True), sp.symbols("phi1:4", real=True)
    W = sp.Function("W")
    # A prompt takes its own push, epsilon f r, out of the field that it asks the weight about.
    told = sum((order * fa * W(x - order * fa * r) for fa, x in zip(f, phi, strict=True)), sp.S.Zero)
    found = told.series(order, 0, 3).removeO().doit()
    slopes = [sp.diff(W(x), x) for x in phi]
    spread = sum((fa**2 * slope for fa, slope in zip(f, slopes, strict=True)), sp.S.Zero)
    own = sum((fa * W(x) for fa, x in zip(f, phi, strict=True)), sp.S.Zero)
    with_reaction = order * own - order**2 * spread * r
    p = y - (1 + tau) * r
    on_a_tie = f[0] * (y - (p - f[0] * W(phi[0]))) / (1 + tau)
    return (
        sp.simplify(sp.expand(found - with_reaction)) == 0
        and sp.simplify(on_a_tie - f[0] * r - f[0] ** 2 / (1 + tau) * W(phi[0])) == 0
    )


@derivation.claim(
    "at a fixed point of [[onsager]] and [[message]] $\\hat r_\\mu$ is the residual, for every $\\tau_\\mu$",
    symbolically(),
)
def residual_at_the_fixed_point() -> bool:
    y, prediction, r = sp.symbols("y yhat r", real=True)
    tau = sp.Symbol("tau", positive=True)
    (found,) = sp.solve(r - (y - (prediction - tau * r)) / (1 + tau), r)
    return vanishes(found - (y - prediction))


@derivation.claim(
    "on a sample it ends at the ground state under the ridge and at the exact optimum under the Laplace prior, with "
    "the same weights at zero",
    numerically("D = 10, N = 30, P = 80 and 200, rho = 0.1; relative distance below 1e-6"),
)
def ends_at_exact_optima() -> Found:
    told, holds = [], True
    for P in (80, 200):
        features = instance(10, 30, P, 0.1, P)
        ours = message_passing(features, denoiser_of(Ridge(), 0.02))
        sparse = message_passing(features, denoiser_of(Laplace(0.02), 0.0), damping=0.2)
        optimum = laplace_optimum(features, 0.02, 0.0, gap=1e-14).W
        away = distance(ours.W, ground_state(features, 0.02).W), distance(sparse.W, optimum)
        holds &= max(away) < 1e-6 and ours.status == sparse.status == Status.CONVERGED
        holds &= bool(np.array_equal(sparse.W != 0, optimum != 0))
        told.append(
            f"P = {P}: {away[0]:.0e} after {ours.iterations}, {away[1]:.0e} after {sparse.iterations} iterations"
        )
    return Found(holds, "; ".join(told))


derivation.step(
    "On couplings: which term the published equations drop",
    r"""
    For the ridge the prompts can be summed into fields $h$, couplings $J$ and stiffnesses $\lambda_A$ first
    ([[hamiltonian]]), and beliefs be passed between pairs of weights:
    """,
)
derivation.equation(
    r"m_{A \to B}",
    r"v_{A \to B}\, \beta \bigl( h_A + \sum_{C \neq B} J_{AC} m_{C \to A} \bigr)".replace("C", "{B'}"),
    label="pair_mean",
)
derivation.equation(
    r"1 / v_{A \to B}",
    r"\beta \lambda_A - \beta^2 \sum_{C \neq B} J_{AC}^2 v_{C \to A}".replace("C", "{B'}"),
    label="pair_variance",
)
derivation.text(
    r"""
    Again messages of one weight differ by a small term, $m_{B \to A} = m_B - \beta J_{AB} v_B m_A$, that all weights
    $B$ around $A$ add up coherently: $\beta \sum_B J_{AB} m_{B \to A} = \beta \sum_B J_{AB} m_B - \xi_A m_A$. With
    this reaction $(\beta \lambda_A - \xi_A) m_A = \beta h_A + \beta \sum_B J_{AB} m_B - \xi_A m_A$: the terms with
    $\xi_A$ cancel, and $m_A$ are the ground state. The published equations (Li et al., arXiv:2408.02288) put $m_B$
    for $m_{B \to A}$ and drop it. The fixed point then is that of $\theta_A = \lambda_A - \xi_A / \beta$ in place of
    $\lambda_A$, whose average over samples is known, too ([[missing-onsager]]). It differs by a relative order $1 /
    \alpha$, not by something small in $D$: $\xi_A / \beta$ sums $D^2$ squared couplings of order $1 / (D^2 P)$ over
    stiffnesses of order $1 / D$.
    """
)


def pairwise(spins: Hamiltonian, rounds: int) -> tuple[Array, Array, Array]:
    """Messages m[A, B] from A to B after that many rounds at beta = 1, and means and variances of the weights."""
    n = len(spins.h)
    message, variance = np.zeros((n, n)), np.zeros((n, n))
    for _ in range(rounds):
        pushes, spreads = spins.J * message.T, spins.J**2 * variance.T
        total, fluctuation = spins.h + pushes.sum(1), spins.lam - spreads.sum(1)
        variance = 1 / (fluctuation[:, None] + spreads)
        message += 0.7 * (variance * (total[:, None] - pushes) - message)
    return message, total / fluctuation, 1 / fluctuation


@derivation.claim(
    "the fixed point with a message for every pair is the ground state; that of the published equations is the ground "
    "state of the sample with $\\theta_A$ for $\\lambda_A$, another one",
    numerically("two samples, D = 8, N = 40, P = 1000, ridge 0.1; 1e-9 and 1e-9, apart by more than 1e-2"),
)
def what_the_dropped_term_does() -> Found:
    told, holds = [], True
    for seed in (0, 1):
        spins = hamiltonian(instance(8, 40, 1000, 0.0, seed), 0.1)
        exact = np.linalg.solve(np.diag(spins.lam) - spins.J, spins.h)
        _, mean, _ = pairwise(spins, 300)
        published = relaxed_belief_propagation(spins, damping=0.3, max_iterations=3000, tolerance=1e-14)
        reduced = spins.lam - 100.0 * spins.J**2 @ published.variance
        stated = np.linalg.solve(np.diag(reduced) - spins.J, spins.h)
        away = distance(mean, exact), distance(published.mean, stated), distance(published.mean, exact)
        holds &= away[0] < 1e-9 and away[1] < 1e-9 and away[2] > 1e-2
        told.append(", ".join(f"{x:.1e}" for x in away))
    return Found(bool(holds), "; ".join(told))


@derivation.claim(
    r"$m_{B \to A} = m_B - \beta J_{AB} v_B m_A$ leaves less than a fifth of the messages' differences, and the sum "
    "of the differences around a weight is $-\\xi_A m_A$ within 10 %",
    numerically("D = 8, N = 40, P = 1000, ridge 0.1; root mean squares over pairs, and over diagonal weights"),
)
def the_small_term() -> Found:
    spins = hamiltonian(instance(8, 40, 1000, 0.0, 0), 0.1)
    message, mean, variance = pairwise(spins, 300)
    pairs = ~np.eye(len(mean), dtype=bool)
    difference = message - mean[:, None]
    stated = -spins.J * variance[:, None] * mean[None, :]
    left = np.sqrt(np.mean((difference - stated)[pairs] ** 2) / np.mean(difference[pairs] ** 2))
    own = (spins.J * difference.T).sum(1)
    reaction = -(spins.J**2 @ variance) * mean
    diagonal = np.arange(8) * 9
    ratio = float(np.sum(own[diagonal] * reaction[diagonal]) / np.sum(reaction[diagonal] ** 2))
    return Found(bool(left < 0.2 and abs(ratio - 1) < 0.1), f"left {left:.3f}, sum {ratio:.3f} of it")


derivation.step(
    "Where the published iteration diverges",
    r"""
    Its variances iterate $\theta_A = \lambda_A - \sum_B J_{AB}^2 / \theta_B$, a closed equation; with few prompts or
    a small ridge it has no positive fixed point. Around one, means obey a linear iteration with the matrix $J_{AB} /
    \theta_A$, similar to a symmetric one, with real eigenvalues $x$. Where a share $\vartheta$ of the old messages is
    kept, $x$ becomes
    """,
)
x, kept = sp.Symbol("x", real=True), sp.Symbol(r"\vartheta", real=True)
derivation.equation(r"\text{damped}", kept + (1 - kept) * x, label="damped")
derivation.text(
    r"""
    and the iteration converges where this is between $-1$ and $1$: $-\frac{1 + \vartheta}{1 - \vartheta} < x < 1$,
    from $-19$ on with the published $\vartheta = 0.9$. Damping cures eigenvalues below $-1$, none above $1$, where
    the matrix of $\theta_A$ and $-J_{AB}$ is not positive and the fixed point no minimum. So there are two reasons to
    diverge that no damping helps against: no fixed point, and $x > 1$. With the reaction, on the prompts, the
    iteration ends at the ground state on all these samples; near $P = D^2$ it needs damping, which sets in by itself.
    """
)


@derivation.claim(
    r"[[damped]] is between $-1$ and $1$ exactly where $-\frac{1 + \vartheta}{1 - \vartheta} < x < 1$", symbolically()
)
def damped_range() -> bool:
    ends = sp.solve(kept + (1 - kept) * x - 1, x), sp.solve(kept + (1 - kept) * x + 1, x)
    return ends[0] == [1] and sp.simplify(ends[1][0] + (1 + kept) / (1 - kept)) == 0


@derivation.claim(
    "on 24 samples the published iteration converges exactly where the variances have a fixed point and all "
    "eigenvalues are in that range; the one on the prompts converges on all",
    numerically("D = 6, N = 30, P = 20 to 1000, ridge 0.01 and 0.1, theta = 0.9, 20000 steps"),
)
def convergence_is_foretold() -> Found:
    right, converging, with_reaction = 0, 0, 0
    for ridge in (0.01, 0.1):
        for i, P in enumerate(np.geomspace(20, 1000, 12).astype(int)):
            features = instance(6, 30, int(P), 0.0, i)
            spins = hamiltonian(features, ridge)
            reduced = reduced_stiffness(spins)
            foretold = False
            if reduced is not None:
                low, high = extreme_eigenvalues(spins, reduced)
                foretold = -19 < low and high < 1
            found = relaxed_belief_propagation(spins, max_iterations=20_000, tolerance=1e-10)
            right += foretold == (found.status == Status.CONVERGED)
            converging += foretold
            with_reaction += message_passing(features, denoiser_of(Ridge(), ridge)).status == Status.CONVERGED
    holds = right == with_reaction == 24 and 4 < converging < 20
    return Found(holds, f"{right} foretold, {converging} converge, {with_reaction} on the prompts")


derivation.step(
    "State evolution",
    r"""
    Why should beliefs on a graph with so many loops be right? With the reaction taken off, the field on a weight is
    as if the prompts were new in every iteration: on a large sample $\phi_{ij} = \hat m + \hat q^{1/2} z$ on the
    diagonal and $\hat q^{1/2} z$ elsewhere. Predictions are then Gaussian given a prompt's norms, with the variance
    $R$ of $\tilde y_\mu - p_\mu$ and $\tau_\mu = T \chi$, so that $\hat r_\mu$ has the variance $R s^2$; and $\hat
    V$, $\hat q$, $\hat m$ are the averages over prompts of [[weight-priors]], from the overlaps of the present
    weights. The proximal map makes the next overlaps of them. An iteration of the algorithm is one round through both
    halves of the saddle-point equations: the fields that make the free entropy stationary in the overlaps, then the
    overlaps that make it stationary in the fields. Where a round changes nothing the free entropy is stationary in
    all of them.
    """,
)


@derivation.claim(
    "a fixed point of state evolution is a saddle point, under the ridge and under the Laplace prior: with the fields "
    "of the overlaps the free entropy is stationary in every overlap, and with the overlaps of the fields in every "
    "field, identically in all symbols",
    symbolically(),
)
def fixed_point_is_the_saddle_point() -> bool:
    finite = at_prompts(derive_fresh_tasks())
    beside_ridge = kept_weights(finite).ground_state() + finite.energetic.ground_state()
    fields = dict(zip(CONJUGATE, fields_of(beside_ridge, CONJUGATE), strict=True))

    def holds(potential: Potential) -> bool:
        weights = SeparablePrior(potential).weights
        free_entropy, found = weights.ground_state() + finite.energetic.ground_state(), overlaps(weights)

        def stationary(field: sp.Symbol, overlap: sp.Symbol) -> bool:
            in_overlap = expand_averages(free_entropy.diff(overlap)).subs(fields, simultaneous=True)
            in_field = free_entropy.diff(field).subs(found, simultaneous=True)
            return sp.simplify(expand_averages(in_overlap)) == 0 and sp.simplify(in_field) == 0

        return set(CONJUGATE.values()) == {s.m, s.q, s.V, s.u, s.V_u} and all(
            stationary(*pair) for pair in CONJUGATE.items()
        )

    return holds(Potential.of(sp.S.Zero)) and holds(laplace.POTENTIAL)


AT = Setting(D=30, N=90, P=1000, ridge=0.0, noise=0.1, minimum_norm=True)
PENALTY = Laplace(0.3 * 30**-1.5)


class Recorded:
    """A denoiser that keeps the fields that it was given."""

    def __init__(self, denoise: Denoiser) -> None:
        self.denoise, self.fields = denoise, list[Array]()

    def __call__(self, field: Array, stiffness: Array, prompts: int) -> tuple[Array, Array]:
        self.fields.append(field)
        return self.denoise(field, stiffness, prompts)


def fields_in_theory(iteration: int) -> dict[str, float]:
    """Fields that the prompts put on weights with the overlaps after that many iterations."""
    halves, one = Halves(LINEAR_ATTENTION, LINEAR_ATTENTION.prior(Laplace)), np.ones((1, 1))
    points = PriorPoints(AT.D, AT.N, AT.noise, AT.P * one, 0 * one, (PENALTY.l1 * one,))
    after = state_evolution(AT, PENALTY, iteration)
    found = tuple(after[name][-1] * one for name in LINEAR_ATTENTION.prompt_fields.ORDER_PARAMETERS)
    nodes = prompt_nodes(LINEAR_ATTENTION, AT.D, AT.N, AT.noise, 1e-6, 1e3)
    with np.errstate(invalid="ignore"):  # W = 0 has no contrast
        values = halves.fields(points, nodes, found)
    return {name: float(x.item()) for name, x in zip(LINEAR_ATTENTION.prompt_fields.FIELDS, values.fields, strict=True)}


@derivation.claim(
    "in iterations 1, 3 and 6 under the Laplace prior the fields on the diagonal have the mean of theory "
    "and those off it its variance and a normal law's kurtosis",
    by_simulation(
        20, "D = 30, N = 90, P = 1000, rho = 0.1, 20 samples; within 4 standard errors and 0.5/D, kurtosis within 0.1"
    ),
)
def fields_are_gaussian() -> Found:
    steps, seen = (0, 2, 5), []
    for r in range(20):
        recorded = Recorded(denoiser_of(PENALTY, 0.0))
        message_passing(draw_instance(AT, 20, r).features, recorded, damping=0.0, tolerance=1e-300, max_iterations=6)
        rows = []
        for step in steps:
            token = recorded.fields[step][: AT.D]
            others = token[~np.eye(AT.D, dtype=bool)]
            rows.append((np.diag(token).mean(), np.mean(others**2), np.mean(others**4) / np.mean(others**2) ** 2))
        seen.append(rows)
    mean, sem = np.mean(seen, axis=0), np.std(seen, axis=0, ddof=1) / math.sqrt(20)
    holds, told = True, []
    for i, step in enumerate(steps):
        theory = fields_in_theory(step)
        for j, name in enumerate(("h", "X")):
            z = (mean[i, j] - theory[name]) / sem[i, j]
            holds &= bool(abs(mean[i, j] - theory[name]) < 4 * sem[i, j] + 0.5 / AT.D * theory[name])
            told.append(f"{mean[i, j] / theory[name] - 1:+.3f} (z = {z:+.1f})")
        holds &= bool(abs(mean[i, 2] / 3 - 1) < 0.1)
    return Found(holds, "mean and variance relative to theory: " + ", ".join(told))


@derivation.claim(
    "the test error after each of the first ten iterations is that of state evolution, under ridge and Laplace prior",
    by_simulation(3, "D = 20, N = 40, rho = 0.1, P = 600 and 400, 16 samples; within 4 standard errors and 0.5/D"),
)
def errors_of_iterations() -> Found:
    told, holds = [], True
    for prior, ridge, P in ((Ridge(), 0.01, 600), (Laplace(0.4 * 20**-1.5), 0.0, 400)):
        setting = Setting(D=20, N=40, P=P, ridge=ridge, noise=0.1, minimum_norm=True)
        theory = state_evolution(setting, prior, 10)["e_icl"][1:]
        rows = []
        for r in range(16):
            errors: list[float] = []

            def note(W: Array, errors: list[float] = errors) -> None:
                errors.append(icl_error(W, 40, 0.1, D=20))

            features = draw_instance(setting, 3, r).features
            message_passing(
                features, denoiser_of(prior, ridge), damping=0.0, tolerance=1e-300, max_iterations=10, watch=note
            )
            rows.append(errors)
        mean, sem = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1) / 4
        holds &= bool(np.all(np.abs(mean - theory) < 4 * sem + 0.5 / 20 * theory))
        told.append(f"{np.max(np.abs(mean - theory) / sem):.1f}")
    return Found(holds, "largest |z| " + " and ".join(told))


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
