"""Stability of the replica-symmetric saddle: replicon, longitudinal and anomalous fluctuations of the overlaps."""

import sympy as sp

from replica_icl.narration.checks import agree
from replica_icl.narration.derivation import Derivation, at_integers, symbolically, to_digits
from replica_icl.narration.shorthand import with_shrinkage
from replica_icl.narration.telling import tell
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average
from replica_icl.symbolic.replica_algebra import ReplicaSymmetric
from replica_icl.symbolic.stability import replicon_direction, replicon_matrix
from replica_icl.theory.fresh_tasks import derive_fresh_tasks

derivation = Derivation(
    __file__,
    "Stability of replica symmetry",
    needs=["fresh-tasks"],
    symbols={
        "H": "Hessian of the action in the overlaps",
        "B": r"its block that mixes $(q, u)$ with $(V, V_u)$",
        "v_p": "eigenvalue p of $Q_\\perp$ in replica space",
        "s_p": "eigenvalue p of $(I + b C)^{-1}$ in replica space",
        "p": "index of an eigenvalue in replica space; p' another",
        "Q_\\perp": "$Q - m m^T$",
    },
)

theory = derive_fresh_tasks()
I_minus_X = theory.replicon
T, a, b = s.query_norm, s.context_norm, s.inverse_scale

# ----------------------------------------------------------------------------------------------------------------------

derivation.step(
    "Replicon fluctuations",
    r"""
    Around the saddle the overlaps $Q$ and $U$ can move in three ways that permutations of the replicas do not mix:
    with all row sums kept (replicon, $n (n - 3) / 2$ directions), with one replica singled out (anomalous, $n - 1$),
    and all alike (longitudinal, 1). The dangerous ones are the first: they break the symmetry and cost no order
    parameter. One of them is $dQ_{12} + dQ_{34} - dQ_{13} - dQ_{24}$; there is none below four replicas. $U$ can move
    along the same direction, so that the Hessian of the action along it, in units of its entropic part, is a $2
    \times 2$ matrix over the token block and the last row:
    """,
)
derivation.equation("I - X", with_shrinkage(theory, I_minus_X), label="replicon")
derivation.text(
    r"""
    $X$ is how strongly two replicas that differ are pulled towards each other's differences by the prompts. The
    smallest eigenvalue of $I - X$ is what `solve` prints as the replicon. It is positive for every convex energy, and
    vanishes without a ridge at the transition, where the ground state ceases to be unique and the spin-glass
    susceptibility diverges ([[temperature]]).
    """
)


@derivation.claim("the direction keeps every row sum and every diagonal entry", at_integers(4, 5))
def direction_is_replicon() -> bool:
    return all(
        not any(replicon_direction(k) * sp.ones(k, 1)) and not any(replicon_direction(k).diagonal()) for k in (4, 5)
    )


@derivation.claim("four and five replicas give the same matrix", to_digits(30, "n = 4, 5; averages over two points"))
def independent_of_the_number_of_replicas() -> bool:
    five = replicon_matrix(theory.entropic, theory.energetic, 5)
    return all(agree(x, y) for x, y in zip(five, I_minus_X, strict=True))


@derivation.claim(
    r"the entries of [[replicon]] are as shown: $1 - \frac{P b^2 V^2}{D^2} \langle T^2 a^2 s^2 \rangle$, and with "
    r"$\ell^2$ "
    r"for $a$ and $V_u / \sqrt{D}$ for $V / D$ where the last row enters",
    to_digits(),
)
def stated_entries() -> bool:
    def stated(block: int, other: int) -> sp.Expr:
        power = (a, s.corner**2)[block] * (a, s.corner**2)[other]
        average = Average(T**2 * power * theory.energetic.shrinkage**2, s.SCALARS)
        scale = (s.V**2 / s.D**2, s.V_u**2 / s.D)[block]
        return sp.Integer(block == other) - s.P * b**2 * scale * average

    return all(agree(I_minus_X[i, j], stated(i, j)) for i in range(2) for j in range(2))


Phi = theory.free_entropy
shared, fluctuations = (s.q, s.u), (s.V, s.V_u)
B = sp.Matrix(2, 2, lambda i, j: Phi.diff(shared[i], fluctuations[j]))
scale = sp.diag(s.D**2 / s.V**2, s.D / s.V_u**2) / 2

derivation.step(
    "Longitudinal fluctuations",
    r"""
    Along the symmetric directions the Hessian is that of the free entropy itself, in $m$, $q$, $u$, $V$ and $V_u$, as
    $n \to 0$. $\Phi$ is linear in $q$ and $u$, and $m$ does not mix with them; so in the order $m$, $(q, u)$, $(V,
    V_u)$ the Hessian is
    """,
)
across, own = sp.Symbol("B", real=True), sp.Symbol(r"\times", real=True)
mixing = sp.Matrix([[-(s.D**2) / s.V, 0, own], [0, 0, across], [own, sp.Symbol("B^T", real=True), own]])
derivation.equation("H", mixing)
derivation.text(
    r"and what mixes $q$ and $u$ with the fluctuations is the matrix of the replicon, $B = -\frac{1}{2} "
    r"\mathrm{diag}(D^2 / V^2, D / V_u^2) (I - X)$. The entries $\times$ drop out of the determinant:"
)
derivation.equation(
    r"\det H", r"-\frac{D^2}{V} \left( \frac{D^3}{4 V^2 V_u^2} \right)^2 \det(I - X)^2", label="longitudinal"
)
derivation.text(
    r"""
    So there is no further condition: the saddle point in the five order parameters is isolated exactly where the
    replicon is positive, and the longitudinal fluctuations become soft together with it. The negative sign of the
    first entry and the vanishing of the second are the turning over of maxima and minima at $n \to 0$.
    """
)


@derivation.claim(r"$\Phi$ is linear in $q$ and $u$, and $m$ does not mix with them", symbolically())
def linear_in_shared_overlaps() -> bool:
    pairs = [(x, y) for x in shared for y in (*shared, s.m)]
    return all(sp.simplify(Phi.diff(x, y)) == 0 for x, y in pairs)


@derivation.claim(r"$B = -\frac{1}{2} \mathrm{diag}(D^2 / V^2, D / V_u^2) (I - X)$", to_digits())
def replicon_in_the_longitudinal_hessian() -> bool:
    return all(agree(x, y) for x, y in zip(B, -scale * I_minus_X, strict=True))


@derivation.claim(r"the determinant of the full $5 \times 5$ Hessian is [[longitudinal]]", to_digits())
def determinant_of_the_hessian() -> bool:
    order = (s.m, *shared, *fluctuations)
    names = sp.Matrix(5, 5, lambda i, j: sp.Symbol(f"H_{min(i, j)}{max(i, j)}"))
    entries = {names[i, j]: Phi.diff(order[i], order[j]) for i in range(5) for j in range(i, 5)}
    zeros = {name: 0 for name, entry in entries.items() if entry == 0}
    determinant = names.subs(zeros).det().subs(entries)
    stated = -(s.D**2) / s.V * (s.D**3 / (4 * s.V**2 * s.V_u**2)) ** 2 * I_minus_X.det() ** 2
    return agree(determinant / stated, sp.S.One)


derivation.step(
    "All of them at once: pairs of eigenvalues",
    r"""
    At an integer $n$, with the norms of every prompt given, all fluctuations can be had together. The volume's
    exponent is $-\frac{D^2}{4} \mathrm{tr}(Q_\perp^{-1} dQ)^2$, a prompt's is $+\frac{b^2}{4} \mathrm{tr}((I + b
    C)^{-1} dC)^2$ with $dC = T a\, dQ$. Both matrices have the eigenvectors of replica symmetry, so that fluctuations
    separate by pairs of eigenvalues $v_p$, $v_{p'}$ of $Q_\perp$, and in units of the entropic part the Hessian is a
    number for each pair, $1 - X_{p p'}$ with $X_{p p'} = \frac{P b^2}{D^2} v_p v_{p'} \langle T^2 a^2 s_p s_{p'}
    \rangle$. There are $n - 1$ eigenvalues $V$ of differences and one of the uniform vector, $V + n (q - m^2)$. Pairs
    of the former are replicon and part of the others; one of each is anomalous; twice the latter is longitudinal. As
    $n \to 0$ the two kinds of eigenvalue become one, and so do the three kinds of fluctuation: their first orders in
    $n$ are what [[next-order]] needs.
    """,
)


@derivation.claim(
    r"with every overlap varied, the determinant of the Hessian is that of its entropic part times the product of "
    r"$1 - X_{p "
    r"p'}$ over pairs",
    at_integers(2, 3, detail="rational numbers, exact; prompts of two kinds of norms"),
)
def pairs_of_eigenvalues() -> bool:
    return all(determinant_is_a_product(k) for k in (2, 3))


def determinant_is_a_product(replicas: int) -> bool:
    """One block of `count` weights, 160 prompts with norm 9/7 and 120 with norm 5/7, label noise 4/7."""
    own, error, scale, noise, count = (sp.Rational(x, 7) for x in (5, 3, 2, 4, 840))
    kinds = [(sp.Integer(160), sp.Rational(9, 7)), (sp.Integer(120), sp.Rational(5, 7))]
    places = [(i, j) for i in range(replicas) for j in range(i, replicas)]

    def direction(i: int, j: int) -> sp.Matrix:
        step = sp.zeros(replicas, replicas)
        step[i, j] = step[j, i] = 1
        return step

    def hessian(matrix: sp.Matrix, weight: sp.Expr) -> sp.Matrix:
        varied = [matrix * direction(*place) for place in places]
        return sp.Matrix(len(places), len(places), lambda x, y: -weight / 2 * (varied[x] * varied[y]).trace())

    def dressed(norm: sp.Expr) -> sp.Matrix:
        shared = scale * (norm * error + noise)
        return ReplicaSymmetric(1 + scale * norm * own + shared, shared).explicit(replicas)

    entropic = hessian(ReplicaSymmetric(own + error, error).explicit(replicas).inv(), count)
    energetic = sp.zeros(len(places), len(places))
    for prompts, norm in kinds:
        energetic += hessian(dressed(norm).inv(), -prompts * (scale * norm) ** 2)

    def shrunk(eigenvalue: sp.Expr, uniform: bool, norm: sp.Expr) -> sp.Expr:
        return 1 / (1 + scale * (norm * eigenvalue + (replicas * noise if uniform else 0)))

    eigenvalues = [(own, False)] * (replicas - 1) + [(own + replicas * error, True)]
    product = sp.S.One
    for i, (v, uniform) in enumerate(eigenvalues):
        for w, also in eigenvalues[i:]:
            pulled = sum(k * norm**2 * shrunk(v, uniform, norm) * shrunk(w, also, norm) for k, norm in kinds)
            product *= 1 - scale**2 / count * v * w * pulled
    return (entropic + energetic).det() == entropic.det() * product


if __name__ == "__main__":
    raise SystemExit(tell(derivation))
