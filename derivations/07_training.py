# %% [markdown]
# # Training: gradient flow from a random start
#
# The energy is quadratic, so gradient flow dW/dt = -grad E = h - (S + lambda_0) W is solved mode by mode. What
# remains is to average over the prompts: the spectrum of S, and how start, signal and noise lie in its eigenbasis.

# %%
import mpmath
import numpy as np
import sympy as sp

from replica_icl.numeric.limit import solve_limit
from replica_icl.numeric.questions.gradient_flow import end_point, gradient_flow, marchenko_pastur
from replica_icl.ratios import Ratios

x, lam, tau, alpha, a = sp.symbols("x lambda tau alpha a", positive=True)
start2, signal2, noise2 = sp.symbols("sigma_0^2 b^2 sigma^2", positive=True)

# %% [markdown]
# ## One mode
#
# In units where x is an eigenvalue of D S, lambda = lambda_0 D and tau = t/D, a mode with start w_0 and target
# x b + eta (b the best linear predictor, eta the noise in the field) moves as below.

# %%
w0, b, eta = sp.symbols("w_0 b eta", real=True)
f = sp.exp(-(x + lam) * tau)
g = (1 - f) / (x + lam)
mode = f * w0 + g * (x * b + eta)
print("w(tau) =", mode)

# %% [markdown]
# ## The ensemble
#
# Fresh tasks with N = nu D tokens: E s s^T = (a/D) I on the D^2 block with a = 1 + (1+rho)/nu, and E y s = vec(I)/D.
# The best linear predictor is therefore I/a, and what it leaves is noise of variance 1 + rho - 1/a.
# In the limit products c x of context and query act like isotropic Gaussian features: D S has the Marchenko-Pastur
# law of variance a and ratio 1/alpha (a statement about all moments in Lu et al., arXiv:2405.11751; tested below on
# finite transformers), and its eigenbasis knows nothing of the start, of I/a or of the noise.
# Per weight, and in the scale in which |W_DD|^2/D is of order one, the three independent squares are
# <w_0^2> = sigma_0^2, <b^2> = 1/a^2, and from the field Phi^T eps/P, <eta^2> = sigma^2 x/alpha.

# %%
learnt = sp.diff(mode, b)
assert sp.simplify(learnt - g * x) == 0
excess = f**2 * start2 + (1 - g * x) ** 2 * signal2 + g**2 * noise2 * x / alpha  # of |W - b|^2 per mode
print("test error = sigma^2 + a < ", excess, ">")

# %% [markdown]
# ## Training error
#
# Residuals on the training prompts are eps - Phi (W - b): the excess above weighted with x instead of a, minus the
# part of the noise that has been fitted, 2 <x g>/alpha in units of sigma^2 (the square is in the excess).

# %%
fitted = x * excess - 2 * noise2 * x * g / alpha
print("training error = sigma^2 + < ", fitted, ">")

# %% [markdown]
# ## End points without a ridge
#
# At infinite time f = 0 on every mode with x > 0, and f = 1 on the atom of weight 1 - alpha at x = 0 that exists below
# alpha = 1. With <1/x> = alpha/(a (alpha - 1)) above and alpha^2/(a (1 - alpha)) on the positive part below:

# %%
inverse_above, inverse_below = alpha / (a * (alpha - 1)), alpha**2 / (a * (1 - alpha))
end_above = sp.factor(noise2 + a * noise2 / alpha * inverse_above)
end_below = noise2 + a * noise2 / alpha * inverse_below + (1 - alpha) * (1 / a + a * start2)
print("alpha > 1:", end_above)
print("alpha < 1:", sp.simplify(end_below))

# %% [markdown]
# ## Checks
#
# 1. The mode solves its equation, and the closed end points are those of the package.

# %%
assert sp.simplify(sp.diff(mode, tau) + (x + lam) * mode - x * b - eta) == 0
assert sp.simplify(mode.subs(tau, 0) - w0) == 0
for at in (0.4, 3.0):
    numbers = {alpha: at, a: 1 + 1.25 / 2, noise2: 1.25 - 1 / (1 + 1.25 / 2), start2: 0.7}
    point = Ratios(alpha=at, nu=2.0, lam=0.0, noise=0.25, minimum_norm=True)
    assert abs(float((end_above if at > 1 else end_below).subs(numbers)) - end_point(point, 0.7)) < 1e-12
    nodes, weights = marchenko_pastur(at, numbers[a], 400)
    seen = nodes > 0
    inverse = (inverse_above if at > 1 else inverse_below).subs(numbers)
    assert abs(weights[seen] @ (1 / nodes[seen]) - float(inverse)) < 1e-10

# %% [markdown]
# 2. The averages, written here as integrals over the density and done by adaptive quadrature at 30 digits, are those
# of the package.

# %%
mpmath.mp.dps = 30


def average(function, at, variance):
    """Over the density and the atom of the Marchenko-Pastur law of ratio 1/at."""
    edge = 1 / mpmath.sqrt(at)
    low, high = variance * (1 - edge) ** 2, variance * (1 + edge) ** 2

    def weighted(y):
        return function(y) * at * mpmath.sqrt((high - y) * (y - low)) / (2 * mpmath.pi * variance * y)

    return mpmath.quad(weighted, mpmath.linspace(low, high, 9)) + max(0, 1 - at) * function(mpmath.mpf(0))


for at, time in ((0.5, 1.3), (2.0, 0.4)):
    numbers = {a: sp.Rational(13, 8), alpha: sp.nsimplify(at), lam: sp.Rational(1, 10), tau: sp.nsimplify(time)}
    numbers |= {
        start2: sp.Rational(7, 10),
        signal2: sp.Rational(64, 169),
        noise2: sp.Rational(5, 4) - sp.Rational(8, 13),
    }
    found = []
    for integrand in (a * excess, fitted):
        function = sp.lambdify(x, integrand.subs(numbers), "mpmath")
        found.append(float(numbers[noise2] + average(function, at, mpmath.mpf(13) / 8)))
    flow = gradient_flow(Ratios(alpha=at, nu=2.0, lam=0.1, noise=0.25), time, 0.7)
    print(f"alpha = {at}, tau = {time}: {found} and {float(flow.e_icl)}, {float(flow.train_error)}")
    assert abs(found[0] - flow.e_icl) < 1e-9
    assert abs(found[1] - flow.train_error) < 1e-9

# %% [markdown]
# 3. With a ridge the flow ends, from any start, in the replica theory's ground state, which is derived without any
# spectrum.

# %%
for at in (0.3, 1.0, 4.0):
    point = Ratios(alpha=at, nu=2.0, lam=0.1, noise=0.25)
    flow, ground = gradient_flow(point, np.inf, 0.7), solve_limit(point)
    assert abs(flow.e_icl / ground.e_icl - 1) < 1e-11
    assert abs(flow.q / ground.q - 1) < 1e-11

# %% [markdown]
# 4. Finite transformers in plain NumPy, token by token, integrated by the eigenvectors of their Hessian: test and
# training error at three times approach the limit like 1/D, on both sides of alpha = 1.

# %%
NU, LAM, START, TIMES = 2, 0.1, 0.5, np.array([0.3, 1.0, 4.0])


def errors_along_the_flow(D, at, rng):
    """Test and training error at D TIMES of one random transformer, shape (3, 2)."""
    N, P = NU * D, round(at * D * D)
    task, tokens, query = (rng.standard_normal(shape) for shape in ((P, D), (P, N, D), (P, D)))
    labels = np.matmul(tokens, task[:, :, None])[:, :, 0] / np.sqrt(D)
    context = np.column_stack([np.matmul(labels[:, None, :], tokens)[:, 0, :], np.sum(labels**2, axis=1)]) / N
    features = (context[:, :, None] * query[:, None, :]).reshape(P, -1)
    target = np.sum(task * query, axis=1) / np.sqrt(D)
    values, modes = np.linalg.eigh(features.T @ features / P)
    rates = np.maximum(values, 0) + LAM / D
    begin = modes.T @ (rng.standard_normal(D * D + D) * np.sqrt(START / D))
    field = modes.T @ (features.T @ target / P)
    second = np.concatenate([np.full(D, (1 + (D + 1) / N) / D), [(1 + 2 / N) * (1 + 2 / D)]])
    rows = []
    for time in D * TIMES:
        kept = np.exp(-rates * time)
        weights = modes @ (kept * begin + (1 - kept) * field / rates)
        W = weights.reshape(D + 1, D)
        test = 1 - 2 * np.trace(W[:D]) / D + np.sum(second[:, None] * W**2)
        rows.append((test, np.mean((target - features @ weights) ** 2)))
    return np.array(rows)


rng = np.random.default_rng(5)
for at in (0.5, 2.0):
    flow = gradient_flow(Ratios(alpha=at, nu=float(NU), lam=LAM), TIMES, START)
    limit = np.stack((flow.e_icl, flow.train_error), axis=1)
    scaled = {}
    for D, realisations in ((6, 120), (12, 30)):
        runs = np.array([errors_along_the_flow(D, at, rng) for _ in range(realisations)])
        scaled[D] = D * (runs.mean(axis=0) - limit), D * runs.std(axis=0, ddof=1) / np.sqrt(realisations)
        print(f"alpha = {at}, D = {D}: D (simulation - limit) of the test error {np.round(scaled[D][0][:, 0], 2)}")
    spread = 4 * np.hypot(scaled[6][1], scaled[12][1])
    # D times the distance stays what it is, up to the next order in 1/D and four standard errors.
    assert np.all(np.abs(scaled[12][0] - scaled[6][0]) < 0.5 * np.abs(scaled[6][0]) + spread)
print("all checks hold")
