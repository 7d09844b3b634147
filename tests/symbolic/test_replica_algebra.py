"""Replica-symmetric spectra against explicit matrices, and the limit n -> 0."""

import pytest
import sympy as sp

from replica_icl.symbolic.replica_algebra import ReplicaSymmetric, determinant, per_replica

d, o = sp.symbols("d o", positive=True)
n = sp.Symbol("n", positive=True)
matrix = ReplicaSymmetric(d, o)


@pytest.mark.parametrize("k", range(1, 6))
def test_spectrum_is_the_explicit_spectrum(k: int) -> None:
    (difference, many), (uniform, once) = matrix.spectrum(n)
    found: dict[sp.Expr, int] = {}
    for value, times in (
        (difference.subs(n, k), many.subs(n, k)),
        (sp.expand(uniform.subs(n, k)), once),
    ):
        if times:
            found[value] = found.get(value, 0) + int(times)
    explicit = {sp.expand(value): times for value, times in matrix.explicit(k).eigenvals().items()}
    assert found == explicit


@pytest.mark.parametrize("k", range(1, 5))
def test_determinants_agree(k: int) -> None:
    from_spectrum = sp.exp(matrix.log_determinant(n).subs(n, k))
    assert sp.simplify(from_spectrum - determinant(matrix.explicit(k))) == 0
    assert sp.expand(determinant(matrix.explicit(k)) - matrix.explicit(k).det()) == 0


@pytest.mark.parametrize("k", [2, 3])
def test_solving_is_matrix_division(k: int) -> None:
    other = ReplicaSymmetric(*sp.symbols("e f", positive=True))
    solved = matrix.solve_into(other, n)
    explicit = ReplicaSymmetric(solved.diagonal.subs(n, k), solved.off_diagonal.subs(n, k)).explicit(k)
    assert (matrix.explicit(k) * explicit - other.explicit(k)).applyfunc(sp.simplify).is_zero_matrix


def test_log_determinant_per_replica_is_the_known_limit() -> None:
    """log det / n -> log(d - o) + o / (d - o)."""
    limit = per_replica(matrix.log_determinant(n), n)
    assert sp.simplify(limit - sp.log(d - o) - o / (d - o)) == 0


def test_action_that_does_not_vanish_at_zero_replicas_is_refused() -> None:
    with pytest.raises(ValueError, match="does not vanish at n = 0"):
        per_replica(n * sp.log(d) + o, n)


def test_per_replica_is_the_derivative_at_zero() -> None:
    assert per_replica(sp.exp(n * d) - 1 + n**2 * o, n) == d
