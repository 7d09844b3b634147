"""A given set of tasks at finite size: matrix order parameters, their equations, and the transition in kappa."""

from functools import cache
from itertools import pairwise
from typing import Any

import mpmath
import numpy as np
import sympy as sp

from replica_icl import Ratios, Setting, solve
from replica_icl.meeting.task_sets import kappa_transition
from replica_icl.narration.checks import agree
from replica_icl.narration.derivation import (
    Derivation,
    Found,
    at_integers,
    by_simulation,
    numerically,
)
from replica_icl.narration.telling import tell
from replica_icl.numeric.given_tasks import solve_given_tasks, task_set
from replica_icl.numeric.task_forms import TaskForms
from replica_icl.numeric.task_matrix import draw_task_set, equal_shares
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric
from replica_icl.theory import given_tasks as theory

derivation = Derivation(
    __file__,
    "A given set of tasks at finite size",
    needs=["replicated-action", "fresh-tasks", "task-diversity"],
    symbols={
        r"\hat w": "its direction, $w / |w|$",
        r"\hat e": "the last unit vector on the context side",
        r"\pi_w": "share of the prompts that have task w",
        r"\bar W": "mean of $W$ over samples and thermal fluctuations, a matrix",
        r"\Sigma": "thermal covariance of a column of $W$, a matrix on the context side",
        r"\Xi": "covariance of the means of a column over samples",
        "G": r"$\bar W \bar W^T / D + \Xi$",
        r"\Omega": r"overlaps of replicas, $W_\gamma W_{\gamma'}^T / D$, matrices on the context side",
        r"\varphi_w": "term of one prompt of task w in the free entropy",
        "F_j": "four matrices: $\\hat w \\hat w^T$ (task), $I - \\hat w \\hat w^T$ on the tokens (across), "
        "$\\hat e \\hat e^T$ (corner), $\\hat w \\hat e^T + \\hat e \\hat w^T$ (cross)",
        "j": "index of the four matrices",
        "P_w": "number of prompts of task w",
        "B_w": r"what $\Sigma^{-1}$ gains by one prompt of task w, on average",
        "p": "context along its task, $c \\cdot \\hat w$",
        "x": "$|c|^2 - p^2$, the squared part of the context across its task",
        r"\Psi": "next order of the free entropy of the thermal fluctuations of one replica",
        r"\epsilon": "a small number",
        "v_j": r"$\mathrm{tr}\, F_j \Sigma$",
        "g_j": r"$\mathrm{tr}\, F_j G$",
        "m_{task}": r"$\hat w^T \bar W w / \sqrt{D}$",
        "m_{corner}": r"$\hat e^T \bar W w / \sqrt{D}$",
        "a_j": "coefficient of $F_j$ in the equation of $\\Sigma$",
        "b_{task}": "pull on the mean along the task",
        "b_{corner}": "pull on the mean along the last row",
        "c_j": "coefficient of $F_j$ in the equation of $\\Xi$",
    },
)

one = theory.loss()
term = theory.free_entropy()

# ----------------------------------------------------------------------------------------------------------------------

derivation.step(
    "Order parameters that are matrices",
    r"""
    At D = 10 the limit of [[task-diversity]] is far off. Here the $K$ tasks $w$ are given, each with a share $\pi_w$
    of the prompts, and nothing is averaged over them. A residual is $r_\gamma = \tilde x \cdot (w / \sqrt{D} -
    W_\gamma^T \tilde c)$ plus noise. Queries are isotropic, so that given $\tilde c$ and $w$ the covariance of
    residuals is $T (w / \sqrt{D} - W_\gamma^T \tilde c) \cdot (w / \sqrt{D} - W_{\gamma'}^T \tilde c) + \rho$. But
    the context has preferred directions now, those of the tasks. What the prompts see of the weights are matrices on
    the context side, $\Omega = W_\gamma W_{\gamma'}^T / D$, and the images of the tasks, $W_\gamma w$.

    The ansatz is symmetric as before: every replica has the mean $\bar W$, two different ones have $\Omega = G = \bar
    W \bar W^T / D + \Xi$, and a replica with itself has $\Sigma$ more. The $D$ columns of $W$ are alike on the
    context side, $D$ draws of one law per replica, so that the volume of the weights is $\frac{D}{2}$ times
    $\log\det$ of the $n (D + 1)$-dimensional covariance with blocks $\Sigma + \Xi$ and $\Xi$: $(n - 1) \log\det
    \Sigma + \log\det(\Sigma + n\, \Xi)$. What a fixed direction, the image of a task, takes from the exponent, its
    fluctuation gives back, as for $m$ in [[replicated-action]]. As $n \to 0$, at $\beta = P$ where $b = 1$, and
    without constants:
    """,
)
derivation.equation(
    r"\Phi",
    r"\frac{D}{2} [\log\det \Sigma + \mathrm{tr}\, \Sigma^{-1} \Xi] - \frac{P \lambda_0}{2} [D\, "
    r"\mathrm{tr}\, \Sigma + D\, \mathrm{tr}\, \Xi + |\bar W|^2] + P \sum_w \pi_w \varphi_w",
    "action",
)


@derivation.claim(
    r"the covariance with blocks $\Sigma + \Xi$ and $\Xi$ has $\log\det = (n - 1) \log\det \Sigma + "
    r"\log\det(\Sigma + n\, \Xi)$, whose slope at $n = 0$ is $\log\det \Sigma + \mathrm{tr}\, "
    r"\Sigma^{-1} \Xi$",
    at_integers(1, 2, 3, detail="2 x 2 matrices, rational numbers; the slope symbolically"),
)
def volume_of_columns() -> bool:
    V, C = sp.Matrix([[3, 1], [1, 2]]), sp.Matrix([[2, -1], [-1, 1]])

    def explicit(size: int) -> sp.Expr:
        blocks = [[V + C if i == j else C for j in range(size)] for i in range(size)]
        return sp.Matrix(sp.BlockMatrix(blocks)).det()

    same = all(explicit(size) == V.det() ** (size - 1) * (V + size * C).det() for size in (1, 2, 3))
    n = s.replicas
    slope = ((n - 1) * sp.log(V.det()) + sp.log((V + n * C).det())).diff(n).subs(n, 0)
    return same and sp.simplify(slope - sp.log(V.det()) - (V.inv() * C).trace()) == 0


derivation.step(
    "Why a saddle point over so many order parameters is one",
    r"""
    $\Sigma$, $\Xi$ and $\bar W$ have of the order of $D^2$ entries, as many as there are weights, and a saddle point is
    for a few variables with a large exponent. What matters is how many numbers the prompts see. A prompt of task
    $w$ enters, as follows below, through $\mathrm{tr}\, F_j \Sigma$ and $\mathrm{tr}\, F_j G$ for four matrices
    $F_j$, made of one that all tasks share on the tokens, one on the corner and two of its own, and through the
    image of its own task. These are $O(K)$ numbers, and each is a sum over the $D$ columns of $W$ and of $D$ times
    order one in the exponent. Given them and their conjugate fields the weights are Gaussian, and the matrices are
    what this Gaussian has as moments: no further saddle point is taken. So it is one over $O(K)$ variables of an
    exponent of order $D^2$. It leaves a relative $1/D$: fluctuations of $K = \kappa D$ modes, and that prompts of
    one task are counted among those that their own numbers are averaged over. With as many tasks as prompts the
    modes are no small number any more, but each fluctuates by $1/D$ only. Both are the next order, below.
    """,
)
derivation.step(
    "A prompt's term",
    r"""
    Given its task, a prompt's context is $p$ along it and $x$ across, squared, with isotropic directions: its square is
    on average over these directions a sum of the four matrices, $p^2 \hat w \hat w^T + \frac{x}{D - 1} (I - \hat w
    \hat w^T) + \ell^2 \hat e \hat e^T + p \ell (\hat w \hat e^T + \hat e \hat w^T)$. With it residuals have
    """,
)
derivation.equation(
    r"T \chi = C_{11} - C_{12}", sp.collect(sp.expand(one.fluctuation), theory.fluctuations, func=sp.factor)
)
derivation.equation(
    r"R = C_{12}", sp.collect(sp.expand(one.covariance.off_diagonal), (*theory.overlaps, s.query_norm), func=sp.factor)
)
derivation.text(
    r"""
    and the term of the free entropy is that of the squared loss, $\varphi_w = -\frac{1}{2} \langle \log(1 + T \chi) +
    R / (1 + T \chi) \rangle$ over $T$, $p$, $x$ and $\ell$ given $|w|$. (The directions across are averaged inside.
    For anisotropic $\Sigma$, most for few tasks and few prompts, $\tilde c^T \Sigma \tilde c$ scatters over them;
    that is an effect of relative order $1/D$, and part of the next order below.)
    """
)


@derivation.claim(
    "these are the covariances of the residuals of two replicas with given weights, averaged over the directions of "
    "the context across its task",
    numerically("D = 3, random weights, 8 directions on the circle across the task, which are exact for squares"),
)
def covariance_of_residuals() -> Found:
    D, rng = 3, np.random.default_rng(17)
    w, first, second = rng.standard_normal(D), rng.standard_normal((D + 1, D)), rng.standard_normal((D + 1, D))
    T, p, x, ell, rho = 1.3, 0.4, 0.7, 0.9, 0.2
    u = w / np.linalg.norm(w)
    circle = np.linalg.svd(u[None])[2][1:]
    angles = 2 * np.pi * np.arange(8) / 8
    across = np.sqrt(x) * np.stack([np.cos(angles), np.sin(angles)], axis=1) @ circle
    contexts = np.append(p * u + across, np.full((8, 1), ell), axis=1)

    def averaged(one: Any, other: Any) -> float:
        rows = [(w / np.sqrt(D) - one.T @ c) @ (w / np.sqrt(D) - other.T @ c) for c in contexts]
        return float(T * np.mean(rows) + rho)

    forms = TaskForms(w[None])

    def seen(S: Any) -> list[float]:
        return [float(part[0, 0]) for part in forms.seen(forms.traces(S))]

    mean, shared = (first + second) / 2, (first @ second.T + second @ first.T) / 2 / D
    own = (first @ first.T + second @ second.T) / 2 / D - shared
    pulls = [float(pull[0, 0]) for pull in forms.pulled(mean)]
    scalars = {"T": T, "p": p, "x": x, "l": ell, "D": D, "rho": rho, "omega": w @ w / D}
    values = {str(symbol): scalars.get(str(symbol)) for symbol in one.covariance.diagonal.free_symbols}
    values |= dict(zip(map(str, theory.fluctuations), seen(own), strict=True))
    values |= dict(zip(map(str, theory.overlaps), seen(shared), strict=True))
    values |= dict(zip(map(str, theory.means), pulls, strict=True))
    at = {symbol: values[str(symbol)] for symbol in one.covariance.diagonal.free_symbols}
    off = [
        float(one.covariance.off_diagonal.subs(at)) / averaged(first, second) - 1,
        float(one.covariance.diagonal.subs(at)) / ((averaged(first, first) + averaged(second, second)) / 2) - 1,
    ]
    return Found(max(map(abs, off)) < 1e-12, f"largest relative difference {max(map(abs, off)):.0e}")


@derivation.claim(
    r"$\det(I + C)^{-1/2}$ of $n$ replicas is $(1 + T \chi)^{-(n - 1)/2} (1 + T \chi + n R)^{-1/2}$, and the slope of "
    r"its logarithm at $n = 0$ is the term that is averaged in $\varphi_w$",
    at_integers(1, 2, 3, detail="the slope symbolically"),
)
def term_of_a_prompt() -> bool:
    n, (chi, shared) = s.replicas, sp.symbols("chi R", positive=True)
    logarithm = -(n - 1) / 2 * sp.log(1 + chi) - sp.log(1 + chi + n * shared) / 2
    plain = ReplicaSymmetric(chi + shared, shared)
    explicit = all(
        sp.simplify((sp.eye(size) + plain.explicit(size)).det() * sp.exp(2 * logarithm.subs(n, size)) - 1) == 0
        for size in (1, 2, 3)
    )
    slope = logarithm.diff(n).subs(n, 0).subs({chi: one.fluctuation, shared: one.covariance.off_diagonal})
    return explicit and agree(slope, term.integrand)


derivation.step(
    "The matrix equations",
    r"""
    [[action]] is stationary in $\Xi$, $\bar W$ and $\Sigma$. Since $G$ depends on $\bar W$ and $\Xi$, the chain rule
    through the traces gives
    """,
)
derivation.equation(r"\Sigma^{-1}", r"P \left( \sum_w \pi_w \sum_j a_j F_j + \lambda_0 I \right)", "V")
derivation.equation(
    r"\bar W",
    r"P\, \Sigma \sum_w \pi_w (b_{task} \hat w + b_{corner} \hat e) \frac{w^T}{\sqrt{D}}",
    "M",
)
derivation.equation(r"\Xi", r"P\, \Sigma \left( \sum_w \pi_w \sum_j c_j F_j \right) \Sigma", "C")
derivation.text(
    r"""
    with $a_j = -\frac{2}{D} \partial \varphi_w / \partial g_j$, $b = \partial \varphi_w / \partial m$ for the two
    parts of the mean, and $c_j = \frac{2}{D} (\partial \varphi_w / \partial v_j - \partial \varphi_w / \partial
    g_j)$: averages $\langle T s \cdot \rangle$ and $\langle T R s^2 \cdot \rangle$ of the four coefficients above.
    All tasks share $I$ on the tokens and the corner, so there are $2 K + 2$ unknowns. [[V]] is
    closed; [[M]] follows from it; [[C]] is linear in $\Xi$, with the matrix $I - X$ over the $2 K + 2$ unknowns that
    Newton's method for [[V]] has, too, and whose smallest eigenvalue is the replicon.
    """
)


@derivation.claim(
    "[[V]], [[M]] and [[C]] are the stationarity of [[action]], for any term of a prompt: its slopes along random "
    "directions "
    "of the three matrices vanish exactly where the equations hold",
    numerically("D = 3, K = 2, a term that is a random polynomial, finite differences at 40 digits"),
)
def equations_are_stationarity() -> Found:
    with mpmath.workdps(40):
        return _stationarity_of_a_random_term()


def _stationarity_of_a_random_term() -> Found:
    """Slopes of the action, by differences, and what the equations leave, paired with the same directions."""
    D, K, P, ridge = 3, 2, mpmath.mpf(7), mpmath.mpf(1) / 5
    rng = np.random.default_rng(17)

    def drawn(*shape: int) -> Any:
        return mpmath.matrix(rng.standard_normal(shape).tolist())

    def dot(A: Any, B: Any) -> Any:
        return sum(A[i, j] * B[i, j] for i in range(A.rows) for j in range(A.cols))

    tasks, shares = [drawn(D, 1) for _ in range(K)], (mpmath.mpf(1) / 3, mpmath.mpf(2) / 3)
    linear, square = drawn(10, 1), drawn(10, 10)
    last = mpmath.matrix(D + 1, 1)
    last[D] = 1

    def forms(w: Any) -> tuple[list[Any], Any]:
        direction = mpmath.matrix(D + 1, 1)
        for i in range(D):
            direction[i] = w[i] / mpmath.norm(w)
        rest = mpmath.eye(D + 1)
        rest[D, D] = 0
        return [
            direction * direction.T,
            rest - direction * direction.T,
            last * last.T,
            direction * last.T + last * direction.T,
        ], direction

    def arguments(w: Any, V: Any, M: Any, C: Any) -> list[Any]:
        F, direction = forms(w)
        G, image = C + M * M.T / D, M * w / mpmath.sqrt(D)
        return [*(dot(f, V) for f in F), *(dot(f, G) for f in F), dot(direction, image), image[D]]

    def value(x: list[Any]) -> Any:
        return sum(linear[i] * x[i] for i in range(10)) + sum(
            square[i, j] * x[i] * x[j] for i in range(10) for j in range(10)
        )

    def slopes(x: list[Any]) -> list[Any]:
        return [linear[i] + sum((square[i, j] + square[j, i]) * x[j] for j in range(10)) for i in range(10)]

    def action(V: Any, M: Any, C: Any) -> Any:
        prompts = sum(pi * value(arguments(w, V, M, C)) for pi, w in zip(shares, tasks, strict=True))
        trace = sum((V + C)[i, i] for i in range(D + 1))
        volume = mpmath.log(mpmath.det(V)) + dot((V**-1).T, C)
        return D * volume / 2 - P * ridge / 2 * (D * trace + dot(M, M)) + P * prompts

    root = drawn(D + 1, D + 1)
    V, M, half = root * root.T + mpmath.eye(D + 1), drawn(D + 1, D), drawn(D + 1, D + 1)
    C = half * half.T
    a_sum, c_sum, pull = mpmath.zeros(D + 1), mpmath.zeros(D + 1), mpmath.zeros(D + 1, D)
    for pi, w in zip(shares, tasks, strict=True):
        F, direction = forms(w)
        phi = slopes(arguments(w, V, M, C))
        for j in range(4):
            a_sum += pi * (-2 / mpmath.mpf(D) * phi[4 + j]) * F[j]
            c_sum += pi * 2 / mpmath.mpf(D) * (phi[j] - phi[4 + j]) * F[j]
        pull += pi * (phi[8] * direction + phi[9] * last) * w.T / mpmath.sqrt(D)
    inverse, stiff = V**-1, P * (a_sum + ridge * mpmath.eye(D + 1))
    # What each equation leaves, in the form in which it is a slope of the action.
    of_C = D / mpmath.mpf(2) * (inverse - stiff)
    of_M = P * pull - stiff * M
    of_V = D / mpmath.mpf(2) * (inverse - stiff - inverse * C * inverse + P * c_sum)
    worst, step = mpmath.mpf(0), mpmath.mpf("1e-12")
    for name, left in (("C", of_C), ("M", of_M), ("V", of_V)):
        direction = drawn(D + 1, D if name == "M" else D + 1)
        if name != "M":
            direction = direction + direction.T
        at = {"V": V, "M": M, "C": C}
        up, down = ({**at, name: at[name] + h * direction} for h in (step, -step))
        slope = (action(**up) - action(**down)) / (2 * step)
        worst = max(worst, abs(slope - dot(left, direction)) / abs(slope))
    return Found(bool(worst < mpmath.mpf("1e-18")), f"largest relative difference {mpmath.nstr(worst, 2)}")


@derivation.claim(
    "[[action]] of the package is stationary at the matrices that are found, along a random direction of each, and "
    "is not "
    "where all of them are 10 % larger",
    numerically("D = 8, N = 12, P = 60, K = 5, seed 3"),
)
def stationary_at_the_solution() -> Found:
    setting = Setting(D=8, N=12, P=60, K=5, ridge=0.02, noise=0.25)
    given = task_set(setting, *draw_task_set(setting, 3), tolerance=1e-6)
    at = given.solve(given.start(0.2))
    solved = {"V": at.V, "C": at.C, "M": at.M}
    rng, shown, holds = np.random.default_rng(0), [], True
    for name, matrix in solved.items():
        direction = np.linalg.cholesky(solved["V"]) @ rng.standard_normal(matrix.shape)
        direction = direction if name == "M" else direction @ direction.T

        def slope(scale: float, name: str = name, direction: Any = direction) -> float:
            start = {other: scale * x for other, x in solved.items()}
            up, down = (given.free_entropy(**{**start, name: start[name] + h * direction}) for h in (1e-4, -1e-4))
            return float(up - down) / 2e-4

        holds = holds and abs(slope(1.0)) < 1e-4 * abs(slope(1.1))
        shown.append(f"along {name} {slope(1.0):.0e}, away {slope(1.1):.2f}")
    return Found(holds, "; ".join(shown))


derivation.step(
    "The next order",
    r"""
    The free entropy of one replica's thermal fluctuations has three more terms of order $D$,
    """,
)
derivation.equation(
    r"\Psi",
    r"-\frac{1}{4} [\log\det(I - X) + \mathrm{tr}\, X] - \frac{D}{4} \sum_w P_w\, \mathrm{tr}\, (B_w \Sigma)^2 "
    r"+ \frac{1}{4} \sum_w P_w \langle s^2\, \mathrm{Var}\, T \chi \rangle",
    "next",
)
derivation.text(
    r"""
    First, the overlaps fluctuate, one mode for each task and each of its two numbers; $I - X$ is Newton's matrix
    above, and the trace is taken back because the law of the norms has it. Second, take one prompt of task $w$ out:
    the others of its task are $P_w - 1$, $P_w = \pi_w P$, and not $P_w$, so that what it meets is not $\Sigma$ but
    $\Sigma + \Sigma B_w \Sigma$ with $B_w = \langle T s\, \tilde c \tilde c^T \rangle$ over prompts of the task;
    integrated over the number of prompts this is the term. For fresh tasks it is in the trace, since all prompts are
    of one kind. Third, $T \chi$ scatters over the directions of the context across the task. Pairs of prompts that
    meet twice add order one, as for fresh tasks.

    What the replicas share is the derivative of [[next]] along $\Sigma \to \Sigma + \epsilon\, G$, with the task as one
    more row of $W$. The saddle point moves by this, and `next_order` is what it does to every observable. If every task
    is used once, $K = P$, it is fresh tasks that are described: the saddle point of given tasks has 2 to 3 % too little
    of the overlap $m$ at D = 8, and the next order puts it right.
    """
)


@derivation.claim(
    r"with $K = P$ tasks used once $m$, $e_{\mathrm{ICL}}$ and the training error are those of fresh tasks, within "
    "0.3 % and 4 standard errors over task sets; at the saddle point $m$ is more than 2 % too small",
    numerically("D = 8, N = 16, P = 64, twelve task sets"),
)
def as_many_tasks_as_prompts() -> Found:
    fresh = Setting(D=8, N=16, P=64, ridge=0.1 / 8, noise=0.1)
    expected, shares = solve(fresh, tolerance=1e-4), equal_shares(64, 64)
    many = Setting(D=8, N=16, P=64, K=64, ridge=0.1 / 8, noise=0.1)
    sets = [draw_task_set(many, 7, index)[0] for index in range(12)]
    solved = [solve_given_tasks(many, tasks, shares, 1e-2).with_next_order() for tasks in sets]
    shown, holds = [], True
    for name in ("m", "e_icl", "train_error"):
        values = np.array([one[name] for one in solved])
        off, sem = values.mean() / expected[name] - 1, values.std(ddof=1) / np.sqrt(12) / expected[name]
        holds = holds and abs(off) < 4 * sem + 0.003
        shown.append(f"{name} {off:+.2%} +- {sem:.2%}")
    saddle = np.mean([one.saddle["m"] for one in solved]) / expected["m"] - 1
    return Found(bool(holds and saddle < -0.02), ", ".join(shown) + f", at the saddle m {saddle:+.2%}")


derivation.step(
    "The transition in kappa",
    r"""
    Errors on new and on training tasks against $\kappa = K / D$, at short and at long contexts: the limit, the theory
    of given tasks averaged over task sets, and exact ground states of the same task sets, tasks on the sphere and
    used equally often. The limit is up to 30 % off at D = 10, the theory of given tasks agrees within the relative
    0.1/D that is granted to it.
    """,
)
ALPHA, LAM, RHO, BIAS, Z_MAX = 3.0, 0.1, 0.01, 0.1, 4.0


@cache
def transition(kappas: tuple[float, ...], nus: tuple[float, ...], task_sets: int, realisations: int) -> Any:
    return kappa_transition(
        D=10, kappas=kappas, nus=nus, alpha=ALPHA, lam=LAM, noise=RHO, task_sets=task_sets, realisations=realisations,
        seed=8, tolerance=1e-3, prompts="sufficient", workers=1,
    )["series"]  # fmt: skip


def agrees(series: Any) -> Found:
    worst, off, holds = 0.0, 0.0, True
    for one_length in series:
        gaps = []
        for point in one_length["points"]:
            limit = solve(Ratios(alpha=ALPHA, nu=one_length["nu"], kappa=point["kappa"], lam=LAM, noise=RHO))
            for name in ("e_icl", "e_idg"):
                given, found = point[name]["theory"]["mean"], point[name]["simulation"]
                beyond = max(abs(found["mean"] - given) - BIAS / 10 * given, 0.0) / found["sem"]
                worst, off = max(worst, beyond), max(off, abs(float(getattr(limit, name)) / found["mean"] - 1))
            gaps.append(point["e_icl"]["theory"]["mean"] - point["e_idg"]["theory"]["mean"])
        holds = holds and all(wide > narrow > 0 for wide, narrow in pairwise(gaps))
    shown = f"largest |z| beyond the allowance {worst:.1f}, the limit off by up to {off:.0%}"
    return Found(holds and worst < Z_MAX and off > 0.05, shown)


@derivation.claim(
    r"both errors agree within 4 standard errors and 0.1/D; the limit is off by more than 5 %; $e_{\mathrm{ICL}} - "
    r"e_{\mathrm{IDG}}$ closes with $\kappa$",
    by_simulation(8, "D = 10, N = 8 D, kappa = 0.6 and 2, two task sets with 20 samples each"),
)
def transition_in_short() -> Found:
    return agrees(transition((0.6, 2.0), (8.0,), 2, 20))


@derivation.claim(
    r"the same from $\kappa = 0.3$ to 4 at two context lengths",
    by_simulation(8, "D = 10, N = D and 8 D, five kappas, three task sets with 40 samples each", long=True),
)
def transition_at_length() -> Found:
    return agrees(transition((0.3, 0.6, 1.0, 2.0, 4.0), (1.0, 8.0), 3, 40))


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
