"""The next order of the free entropy, against its parts written by hand with laws of one prompt and of two."""

import sympy as sp

from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average
from replica_icl.symbolic.next_order import Meetings, fluctuation_entropy
from replica_icl.theory.fresh_tasks import derive_fresh_tasks, product_meetings

THEORY = derive_fresh_tasks()
NEXT = THEORY.next_order
PROMPTS = [
    dict(zip(s.SCALARS, (sp.Rational(x, 10) for x in numbers), strict=True))
    for numbers in ((9, 11, 8, 14, 12), (12, 7, 9, 10, 15))
]
"""Two prompts, the second twice as likely as the first."""
WEIGHTS = (sp.Rational(1, 3), sp.Rational(2, 3))
NAMES = (s.D, s.P, s.inverse_scale, s.noise, s.m, s.q, s.V, s.u, s.V_u)
VALUES = dict(zip(NAMES, (sp.Rational(x, 90) for x in (540, 1800, 135, 30, 36, 45, 63, 10, 18)), strict=True))


def at_two_prompts(expression: sp.Expr) -> sp.Expr:
    def mean(average: sp.Basic) -> sp.Expr:
        integrand = average.integrand.subs(VALUES)
        return sp.N(sum((w * integrand.subs(p) for w, p in zip(WEIGHTS, PROMPTS, strict=True)), sp.S.Zero), 40)

    averages = {average: mean(average) for average in expression.atoms(Average)}
    return sp.N(expression.xreplace(averages).subs(VALUES), 40)


def test_a_stable_function_of_one_block() -> None:
    r = sp.Symbol("r", positive=True)
    gaussian = fluctuation_entropy(sp.Matrix([[r]]), Meetings(sp.zeros(1, 1)))
    assert sp.simplify(gaussian + sp.log(1 - r) / 4 + r / 2) == 0
    meetings = Meetings(sp.Matrix([[6]]), lambda X: X[0, 0] ** 3)
    with_meetings = fluctuation_entropy(sp.Matrix([[r]]), meetings)
    assert sp.simplify(with_meetings - gaussian - sp.Rational(3, 4) * r**2 - r**3 / 3) == 0


def test_meetings_of_products_fall_to_those_of_many_dimensions() -> None:
    meetings = product_meetings()
    assert meetings.twice.applyfunc(lambda x: sp.limit(x, s.D, sp.oo)) == sp.Matrix([[6, 6], [6, 0]])
    r = sp.Symbol("r", positive=True)
    tokens = meetings.thrice(sp.diag(r, 0))
    assert sp.limit(s.D * tokens, s.D, sp.oo) == 8 * r**3


class ByHand:
    """Every part at the two prompts, as functions of a step along what the replicas share."""

    def __init__(self) -> None:
        self.D, self.P, self.b, self.noise, self.m, self.q, self.V, self.u, self.V_u = VALUES.values()
        self.sizes = [(p[s.query_norm] * p[s.context_norm], p[s.query_norm] * p[s.corner] ** 2) for p in PROMPTS]
        self.aligned = [p[s.query_norm] * p[s.aligned] for p in PROMPTS]
        self.residuals = [
            p[s.query_norm] * p[s.task_norm] - 2 * self.m * g + self.q * x + self.u * y + self.noise
            for p, g, (x, y) in zip(PROMPTS, self.aligned, self.sizes, strict=True)
        ]
        shrunk = self.shrunk(0)
        self.rule = self.mean([z**2 * g * x for z, g, (x, _) in zip(shrunk, self.aligned, self.sizes, strict=True)])
        self.rule /= self.mean([z**2 * x**2 for z, (x, _) in zip(shrunk, self.sizes, strict=True)])
        self.errors = (self.q - 2 * self.rule * self.m + self.rule**2, self.u)

    @staticmethod
    def mean(values: list[sp.Expr]) -> sp.Expr:
        return sum((w * x for w, x in zip(WEIGHTS, values, strict=True)), sp.S.Zero)

    def shrunk(self, step: sp.Expr) -> list[sp.Expr]:
        return [
            1 / (1 + self.b * (self.V * x + self.V_u * y + step * R))
            for (x, y), R in zip(self.sizes, self.residuals, strict=True)
        ]

    def fluctuations(self, step: sp.Expr) -> sp.Expr:
        widths = (self.V + step * self.errors[0], self.V_u + step * self.errors[1])
        X = sp.Matrix(
            2,
            2,
            lambda i, j: (
                self.P
                * self.b**2
                * (widths[0] ** 2 / self.D**2 if i == 0 else widths[1] ** 2 / self.D)
                * self.mean([z**2 * size[i] * size[j] for z, size in zip(self.shrunk(step), self.sizes, strict=True)])
            ),
        )
        return fluctuation_entropy(X, Meetings(product_meetings().twice.subs(VALUES), self.thrice))

    def thrice(self, X: sp.Matrix) -> sp.Expr:
        return product_meetings().thrice(X).subs(VALUES)

    def jensen(self) -> tuple[sp.Matrix, sp.Matrix]:
        """Hessian of the free entropy in all order parameters, and P times the covariance of a prompt's gradient."""
        m, q, V, u, V_u = symbols = (s.m, s.q, s.V, s.u, s.V_u)

        def prompt(p: dict[sp.Symbol, sp.Expr]) -> sp.Expr:
            T, omega, g, a, corner = p.values()
            dressed = 1 + self.b * T * (V * a + V_u * corner**2)
            R = T * (omega - 2 * m * g + q * a + u * corner**2) + self.noise
            return -sp.log(dressed) / 2 - self.b * R / dressed / 2

        psi = self.D**2 / 2 * (sp.log(V) + (q - m**2) / V) + self.D / 2 * (sp.log(V_u) + u / V_u)
        psi += self.P * self.mean([prompt(p) for p in PROMPTS])
        hessian = sp.Matrix(5, 5, lambda i, j: psi.diff(symbols[i], symbols[j]).subs(VALUES))
        gradients = [sp.Matrix([prompt(p).diff(x).subs(VALUES) for x in symbols]) for p in PROMPTS]
        mean = sum((w * g for w, g in zip(WEIGHTS, gradients, strict=True)), sp.zeros(5, 1))
        second = sum((w * g * g.T for w, g in zip(WEIGHTS, gradients, strict=True)), sp.zeros(5, 5))
        return hessian.n(60), (self.P * (second - mean * mean.T)).n(60)


def test_both_parts_are_phi_its_derivative_along_what_replicas_share_and_the_jensen_term_of_the_norms() -> None:
    hand, step = ByHand(), sp.Symbol("epsilon")
    hessian, covariance = hand.jensen()
    whole = -(hessian.inv() * covariance).trace() / 2
    phi = hand.fluctuations(step)
    # A prompt's own rule: -< g^2 > / 2 h instead of the mean rule's square, in -(1/4) tr X.
    h, b = -(hand.D**2) / hand.V, hand.b
    shrunk = hand.shrunk(0)
    own = hand.P * hand.mean([(b * z * g) ** 2 for z, g in zip(shrunk, hand.aligned, strict=True)]) / (2 * h)
    X_11 = hand.P * (b * hand.V / hand.D) ** 2
    X_11 *= hand.mean([(z * x) ** 2 for z, (x, _) in zip(shrunk, hand.sizes, strict=True)])
    own += X_11 * hand.rule**2 / (2 * hand.V)
    expected = phi.subs(step, 0) + phi.diff(step).subs(step, 0) + whole + own
    in_full = NEXT.names.in_full
    thermal, shared = at_two_prompts(in_full(NEXT.thermal)), at_two_prompts(in_full(NEXT.shared))
    assert abs(sp.N(thermal + shared - expected, 30)) < 1e-25
    assert abs(shared) > 1e-3
    without = at_two_prompts(in_full(NEXT.thermal)) - sp.N(phi.subs(step, 0), 40)
    J, overlaps = hessian.extract([1, 3], [2, 4]), covariance.extract([1, 3], [1, 3])
    assert abs(without + sp.N((J.inv() * overlaps).trace() / 2, 30)) < 1e-25


def test_the_thermal_part_moves_the_saddle_like_the_shared_one() -> None:
    """d/dV of the thermal part is d/dq of the shared one, at prompts that are not alike."""
    in_full = NEXT.names.in_full
    for V, q in ((s.V, s.q), (s.V_u, s.u)):
        slopes = [at_two_prompts(in_full(NEXT.names.slope(x, by))) for x, by in ((NEXT.thermal, V), (NEXT.shared, q))]
        assert abs(slopes[0] - slopes[1]) < 1e-25
        assert abs(slopes[0]) > 1e-3
