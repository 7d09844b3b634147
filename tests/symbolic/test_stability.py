"""The replicon subspace and the stability matrix."""

import pytest
import sympy as sp

from replica_icl.narration.checks import agree
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average
from replica_icl.symbolic.stability import replicon_direction, replicon_matrix, smallest_eigenvalue
from replica_icl.theory.fresh_tasks import derive_fresh_tasks


@pytest.mark.parametrize("n", [4, 5, 6])
def test_direction_keeps_row_sums_and_diagonal(n: int) -> None:
    direction = replicon_direction(n)
    assert direction.is_symmetric()
    assert not any(direction * sp.ones(n, 1))
    assert not any(direction.diagonal())
    assert any(direction)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_there_is_no_direction_below_four_replicas(n: int) -> None:
    with pytest.raises(ValueError, match=f"n = {n}; n must be at least 4"):
        replicon_direction(n)


def test_matrix_does_not_depend_on_the_number_of_replicas() -> None:
    theory = derive_fresh_tasks()
    five = replicon_matrix(theory.entropic, theory.energetic, 5)
    assert all(agree(x, y) for x, y in zip(five, theory.replicon, strict=True))


def test_matrix_is_the_stated_one() -> None:
    """x11 = (P b^2 V^2/D^2) < (T |c|^2)^2 s^2 > and so on."""
    theory = derive_fresh_tasks()
    T, a, ell, b = s.query_norm, s.context_norm, s.corner, s.inverse_scale
    shrunk = 1 / (1 + b * T * (s.V * a + s.V_u * ell**2)) ** 2
    tokens, last_row = s.P * b**2 * s.V**2 / s.D**2, s.P * b**2 * s.V_u**2 / s.D
    stated = sp.Matrix(
        [
            [
                1 - tokens * Average((T * a) ** 2 * shrunk, s.SCALARS),
                -tokens * Average(T**2 * a * ell**2 * shrunk, s.SCALARS),
            ],
            [
                -last_row * Average(T**2 * ell**2 * a * shrunk, s.SCALARS),
                1 - last_row * Average(T**2 * ell**4 * shrunk, s.SCALARS),
            ],
        ]
    )
    assert all(agree(x, y) for x, y in zip(stated, theory.replicon, strict=True))


def test_smallest_eigenvalue_of_one_block_is_its_entry() -> None:
    x = sp.Symbol("x")
    assert smallest_eigenvalue(sp.Matrix([[x]])) == x


@pytest.mark.parametrize("entries", [(1, 0, 0, 2), (2, 1, 1, 2), (3, -1, -2, 1), (5, 2, 2, 1)])
def test_smallest_eigenvalue_of_two_blocks(entries: tuple[int, ...]) -> None:
    matrix = sp.Matrix(2, 2, [sp.Integer(x) for x in entries])
    eigenvalues = [value for value, times in matrix.eigenvals().items() for _ in range(times)]
    assert sp.simplify(smallest_eigenvalue(matrix) - min(eigenvalues)) == 0
