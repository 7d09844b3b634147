"""Replica symmetry: an ansatz, why it is exact for this energy, and the continuation to any number of replicas."""

import numpy as np
import sympy as sp

from replica_icl import Setting
from replica_icl.narration.checks import WEIGHTS, agree
from replica_icl.narration.derivation import (
    Derivation,
    Found,
    at_integers,
    by_simulation,
    symbolically,
    to_digits,
)
from replica_icl.narration.telling import tell
from replica_icl.simulator.features import draw_features
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric, determinant
from replica_icl.theory.fresh_tasks import derive_fresh_tasks

derivation = Derivation(
    __file__,
    "Replica symmetry",
    needs=["replicated-action"],
    symbols={
        "S": r"second moments of the features, $\frac{1}{P} \sum_\mu f f^T$",
        "W_0": "ground state of one sample",
    },
)

theory = derive_fresh_tasks()
n = s.replicas
diagonal, off_diagonal = sp.symbols("C_11 C_12", positive=True)
matrix = ReplicaSymmetric(diagonal, off_diagonal)
(difference, many), (uniform, once) = matrix.spectrum(n)
tokens, last_row = theory.entropic.blocks


# ----------------------------------------------------------------------------------------------------------------------

derivation.step(
    "The ansatz",
    r"""
    At an integer $n$ the action is a function of $n$ traces $m_\gamma$ and $n (n + 1)$ overlaps, to be extremised. It
    is symmetric under permutations of the replicas. The ansatz is that the extremum is symmetric, too: $m_\gamma =
    m$, $Q_{11} = q + V$ and $Q_{12} = q$, $U_{11} = u + V_u$ and $U_{12} = u$ for all replicas and all pairs. A
    symmetric point that is stationary within the ansatz is stationary altogether, because the slopes at a symmetric
    point are symmetric themselves. That there is no other extremum that counts is the assumption.
    """,
)


@derivation.claim(
    "at symmetric overlaps the slopes of the action along the traces are equal, those along all own overlaps, and "
    "those "
    "along all pairs",
    at_integers(3, detail="all overlaps free; averages over a law of two unequal points"),
)
def slopes_are_symmetric() -> Found:
    size, step, entry = 3, sp.Float("1e-15", 50), theory.covariance.entry
    points = [{x: sp.Rational(k + shift, 5) for k, x in enumerate(s.SCALARS, 1)} for shift in (1, 3)]
    point = dict.fromkeys(range(size), sp.Rational(2, 7))
    for name, own, shared in (("Q", sp.Rational(3, 2), sp.Rational(1, 2)), ("U", sp.Rational(1, 3), sp.Rational(1, 5))):
        point |= {(name, i, j): own if i == j else shared for i in range(size) for j in range(i, size)}

    def action(at: dict[object, sp.Expr]) -> sp.Expr:
        """At D = 3, P = 11, b = 1/3 and rho = 1, without the ridge."""
        m = sp.Matrix([at[i] for i in range(size)])
        Q, U = (sp.Matrix(size, size, lambda i, j, x=x: at[x, min(i, j), max(i, j)]) for x in ("Q", "U"))
        total = sp.log((Q - m * m.T).det()) * 9 / 2 + sp.log(U.det()) * 3 / 2
        prompt = sp.S.Zero
        for weight, values in zip(WEIGHTS, points, strict=True):
            entries = [[entry(m[i], m[j], Q[i, j], U[i, j]) for j in range(size)] for i in range(size)]
            C = sp.Matrix(entries).subs({**values, s.noise: 1})
            prompt += weight / sp.sqrt((sp.eye(size) + C / 3).det())
        return sp.N(total + 11 * sp.log(prompt), 50)

    def slope(x: object) -> sp.Expr:
        up, down = ({**point, x: point[x] + shift} for shift in (step, -step))
        return (action(up) - action(down)) / (2 * step)

    kinds: list[list[object]] = [list(range(size))]
    for name in ("Q", "U"):
        kinds += [[(name, i, i) for i in range(size)], [(name, 0, 1), (name, 0, 2), (name, 1, 2)]]
    slopes = [[slope(x) for x in kind] for kind in kinds]
    holds = all(abs(value - kind[0]) < 1e-20 and abs(value) > 1e-3 for kind in slopes for value in kind)
    return Found(holds, ", ".join(f"{float(kind[0]):.4f}" for kind in slopes))


derivation.step(
    "Why it is exact for this energy",
    r"""
    Replicas on one sample are independent draws from its Boltzmann measure, so what the extrema of the action
    describe is the law of $Q_{12}$ over two draws and over samples: a broken symmetry would be several values with
    finite weight. Here the measure is known. The energy is quadratic, hence the measure is Gaussian, with the ground
    state $W_0$ as its mean and covariance $(S + \lambda_0)^{-1} / \beta$, whose eigenvalues are at most $1 / (\beta
    \lambda_0)$. The overlap of two draws is $Q_{12} = |W_0|^2 / D$ plus what is linear and bilinear in their
    fluctuations, with a variance at given prompts of at most
    """,
)
bound = (2 * s.D * s.q / (s.beta * s.ridge) + s.D**2 / (s.beta * s.ridge) ** 2) / s.D**2
scaled = sp.factor(bound.subs({s.beta: s.beta_tilde * s.D**2, s.ridge: s.lam / s.D}, simultaneous=True))
derivation.equation(r"\text{bound}", bound)
derivation.text(r"which at $\beta = \tilde\beta D^2$, $\lambda_0 = \lambda / D$ is")
derivation.equation(r"\text{bound}", scaled, label="bound")
derivation.text(
    r"""
    It vanishes like $1/D^2$; and $|W_0|^2 / D$ varies from sample to sample by a relative $1/D$ ([[sample-spread]]).
    So the law of the overlap is one point, and with it replica symmetry is no assumption, for any ridge and
    temperature. Without a ridge the bound says nothing, and below the transition the ground state is not unique; the
    limit $\lambda_0 \to 0$ of the theory is then that of the solution of least norm. Stability of the extremum, which
    follows, is computed nevertheless in [[stability]]: where it is lost the ground state ceases to be unique.
    """
)


@derivation.claim(r"at fixed ratios the bound [[bound]] is proportional to $1/D^2$", symbolically())
def bound_vanishes() -> bool:
    return s.D not in sp.simplify(scaled * s.D**2).free_symbols


@derivation.claim(
    "the standard deviation of the overlap of two Boltzmann draws, exact for random prompts, is below the bound and "
    "falls "
    "like $1/D$",
    by_simulation(3, "D = 6, 12, 24 at fixed ratios, 4 samples each"),
)
def overlaps_concentrate() -> Found:
    seen = {}
    for size in (6, 12, 24):
        setting = Setting(D=size, N=2 * size, P=size**2 // 2, ridge=0.2 / size, noise=0.1)
        beta = float(size**2)
        squares, bounds = [], []
        for r in range(4):
            features = draw_features(setting, np.random.default_rng([3, size, r]))
            stiffness = features.gram() + setting.ridge * np.eye(setting.acting_weights)
            W_0 = np.linalg.solve(stiffness, features.fields().ravel())[: size**2]
            block = np.linalg.inv(stiffness)[: size**2, : size**2] / beta
            squares.append((2 * W_0 @ block @ W_0 + np.sum(block**2)) / size**2)
            floor = beta * setting.ridge
            bounds.append((2 * W_0 @ W_0 / floor + size**2 / floor**2) / size**2)
        if not max(squares) < min(bounds):
            return Found(False, f"D = {size}: {max(squares)} above {min(bounds)}")
        seen[size] = float(np.sqrt(np.mean(squares)))
    ratios = seen[6] / seen[12], seen[12] / seen[24]
    return Found(all(1.7 < x < 2.3 for x in ratios), f"falls by {ratios[0]:.2f} and {ratios[1]:.2f}")


derivation.step(
    "Any number of replicas",
    r"""
    A symmetric matrix of replicas has one value on the diagonal and one off it. The uniform vector and the
    differences of two replicas are its eigenvectors, for every $n$, so that determinants can be continued to any $n$.
    With $T \chi = C_{11} - C_{12}$ and $R = C_{12}$:
    """,
)
residual, susceptibility = sp.Symbol("R", positive=True), sp.Symbol("chi", positive=True)
dressed = ReplicaSymmetric(1 + s.inverse_scale * (residual + s.query_norm * susceptibility), s.inverse_scale * residual)
derivation.equation(r"\log\det C", many * sp.log(difference) + once * sp.log(uniform))
derivation.equation(r"\log\det(I + b C)", dressed.log_determinant(n))
derivation.equation(r"\log\det(Q - m m^T)", tokens.gram.log_determinant(n))
derivation.equation(r"\log\det U", last_row.gram.log_determinant(n))


@derivation.claim(
    "the uniform vector and the differences of replicas are eigenvectors, and the determinant is the product of their "
    "eigenvalues",
    at_integers(1, 2, 3, 4),
)
def spectrum_of_explicit_matrices() -> bool:
    def holds(size: int) -> bool:
        explicit, ones = matrix.explicit(size), sp.ones(size, 1)
        differences = [sp.eye(size)[:, 0] - sp.eye(size)[:, j] for j in range(1, size)]
        eigenvectors = all(
            (explicit * vector - value.subs(n, size) * vector).expand().is_zero_matrix
            for value, vectors in ((uniform, [ones]), (difference, differences))
            for vector in vectors
        )
        product = difference ** (size - 1) * uniform.subs(n, size)
        return eigenvectors and sp.expand(determinant(explicit) - product) == 0

    return all(holds(size) for size in range(1, 5))


@derivation.claim("the action with all matrices written out is the continued one", to_digits(30, "n = 1, 2"))
def action_is_continued() -> bool:
    return all(
        agree(part.explicit(size), part.replica_symmetric().subs(n, size), points=2)
        for part in (theory.entropic, theory.energetic)
        for size in (1, 2)
    )


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
