"""The Wick engine against known Gaussian moments, and against explicit expansion at small integer sizes."""

import math

import pytest
import sympy as sp

from replica_icl.symbolic.wick import Tensor, TensorPolynomial, expectation

D, N, rho = sp.symbols("D N rho", positive=True)
x = Tensor("x", (N, D))
w = Tensor("w", (D,))
z = Tensor("z", ())
eps = Tensor("eps", (N,), rho)


def times(*factors: TensorPolynomial) -> TensorPolynomial:
    return math.prod(factors, start=TensorPolynomial.of(1))


@pytest.mark.parametrize("k", range(1, 7))
def test_even_moments_of_one_gaussian_are_double_factorials(k: int) -> None:
    assert expectation(times(*[z[()]] * (2 * k))) == sp.factorial2(2 * k - 1)
    assert expectation(times(*[x[3, 1]] * (2 * k))) == sp.factorial2(2 * k - 1)
    assert expectation(times(*[z[()]] * (2 * k - 1))) == 0


def test_summed_power_counts_its_entries() -> None:
    assert expectation(times(*[w["a"]] * 4)) == 3 * D
    assert expectation(times(*[x["i", "a"]] * 6)) == sp.expand(15 * N * D)


@pytest.mark.parametrize("k", range(1, 6))
def test_squared_norm_is_chi_square(k: int) -> None:
    """E (|w|^2)^k = D (D + 2) ... (D + 2k - 2)."""
    norms = [w[f"a{r}"] * w[f"a{r}"] for r in range(k)]
    assert sp.expand(expectation(times(*norms)) - math.prod(D + 2 * r for r in range(k))) == 0


def test_wishart_moments() -> None:
    """E tr S^2 = N D (N + D + 1) and E tr S^3 = N D (N^2 + D^2 + 3 N D + 3 N + 3 D + 4) for S = X^T X."""
    square = times(x["i", "a"], x["i", "b"], x["j", "b"], x["j", "a"])
    assert sp.expand(expectation(square) - N * D * (N + D + 1)) == 0
    cube = times(x["i", "a"], x["i", "b"], x["j", "b"], x["j", "c"], x["k", "c"], x["k", "a"])
    assert sp.expand(expectation(cube) - N * D * (N**2 + D**2 + 3 * N * D + 3 * N + 3 * D + 4)) == 0


def test_variance_multiplies_each_pair() -> None:
    assert expectation(times(*[eps["i"]] * 4)) == 3 * N * rho**2
    assert expectation(eps["i"] * eps["i"] * z[()] * z[()]) == N * rho


def test_labels_are_fixed_and_different_labels_uncorrelated() -> None:
    assert expectation(x[1, 1] * x[1, 1]) == 1
    assert expectation(x[1, 1] * x[1, 2]) == 0
    assert expectation(w[1] * x["i", 1] * x["i", "a"] * w["a"]) == N
    assert expectation(w[1] * x["i", 1] * x["i", "a"] * w[2]) == 0
    assert expectation(times(w[1], w[1], w[2], w[2])) == 1
    assert expectation(w["a"] * w["a"] * w[1] * w[1]) == D + 2


def test_same_label_on_two_kinds_of_index_does_not_tie_them() -> None:
    assert expectation(times(x[1, 1], x[1, 1], x["i", 1], x["i", 1])) == N + 2
    assert expectation(times(x[1, 1], x[1, 1], x[1, "a"], x[1, "a"])) == D + 2


def test_average_does_not_depend_on_names_or_order() -> None:
    def cycle(i: str, j: str, a: str, b: str) -> list[TensorPolynomial]:
        return [x[i, a], x[i, b], x[j, b], x[j, a], w[a], w[b], eps[i], eps[j]]

    reference = expectation(times(*cycle("i", "j", "a", "b")))
    assert expectation(times(*reversed(cycle("q", "p", "z", "y")))) == reference
    factors = cycle("j", "i", "b", "a")
    assert expectation(times(*factors[3:], *factors[:3])) == reference
    assert reference != 0


def test_average_is_linear_and_takes_scalars() -> None:
    polynomial = 2 + (w["a"] * w["a"] / D + sp.sqrt(rho) * z[()]) * 3
    assert expectation(polynomial) == 5
    assert expectation(TensorPolynomial.of(rho)) == rho


def test_wrong_number_of_indices_is_refused() -> None:
    with pytest.raises(ValueError, match="x has 2 indices, not 1"):
        x["i"]


def test_index_of_two_dimensions_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a of eps is summed over both D and N"):
        expectation(times(w["a"], eps["a"], w["b"], eps["b"]))


# Without contraction at all: every entry its own symbol, the polynomial multiplied out, monomials averaged.


def explicit_average(size_d: int, size_n: int, powers: tuple[int, int, int]) -> sp.Expr:
    """E (c.w)^a (|c|^2)^b l^k with unit scales, c = sum_i y_i x_i, l = sum_i y_i^2, y_i = w.x_i + eps_i."""
    names = [f"w{a}" for a in range(size_d)]
    names += [f"x{i}_{a}" for i in range(size_n) for a in range(size_d)]
    names += [f"e{i}" for i in range(size_n)]
    ring, *entries = sp.ring(names, sp.ZZ)
    task, rest = entries[:size_d], entries[size_d:]
    tokens = [rest[i * size_d : (i + 1) * size_d] for i in range(size_n)]
    noise = rest[size_n * size_d :]
    labels = [sum((task[a] * t[a] for a in range(size_d)), e) for t, e in zip(tokens, noise, strict=True)]
    context = [sum((y * t[a] for y, t in zip(labels, tokens, strict=True)), ring.zero) for a in range(size_d)]
    aligned = sum((c * v for c, v in zip(context, task, strict=True)), ring.zero)
    norm = sum((c**2 for c in context), ring.zero)
    corner = sum((y**2 for y in labels), ring.zero)
    polynomial = aligned ** powers[0] * norm ** powers[1] * corner ** powers[2]

    total = sp.S.Zero
    for exponents, coefficient in polynomial.terms():
        if all(e % 2 == 0 for e in exponents):
            gaussian = math.prod(int(sp.factorial2(e - 1)) for e in exponents)
            total += int(coefficient) * gaussian * rho ** (sum(exponents[-size_n:]) // 2)
    return sp.expand(total)


def engine_average(powers: tuple[int, int, int]) -> sp.Expr:
    def label(i: str, a: str) -> TensorPolynomial:
        return w[a] * x[i, a] + eps[i]

    factors = []
    for r in range(sum(powers)):
        i, j, a, b, c = (f"{name}{r}" for name in "ijabc")
        if r < powers[0]:
            factors.append(label(i, a) * x[i, b] * w[b])
        elif r < powers[0] + powers[1]:
            factors.append(label(i, a) * x[i, b] * label(j, c) * x[j, b])
        else:
            factors.append(label(i, a) * label(i, b))
    return expectation(times(*factors))


@pytest.mark.parametrize(
    "powers",
    [(1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 0, 0), (0, 0, 2), (1, 1, 0), (1, 0, 1), (0, 1, 1), (0, 2, 0)],
)
@pytest.mark.parametrize("sizes", [(2, 2), (1, 2), (2, 1)])
def test_engine_agrees_with_explicit_expansion(sizes: tuple[int, int], powers: tuple[int, int, int]) -> None:
    at_sizes = engine_average(powers).subs({D: sizes[0], N: sizes[1]})
    assert sp.expand(at_sizes - explicit_average(*sizes, powers)) == 0


def test_engine_agrees_with_explicit_expansion_at_eighth_order() -> None:
    """l^4: 8 w and 8 x, 105 x 105 pairings of the noiseless term."""
    at_sizes = engine_average((0, 0, 4)).subs({D: 2, N: 1})
    assert sp.expand(at_sizes - explicit_average(2, 1, (0, 0, 4))) == 0
