"""Derivations print in three formats, and a false claim is reported by its statement."""

import pytest
import sympy as sp

from replica_icl.errors import ParameterError
from replica_icl.narration.derivation import FORMATS, Claim, Derivation, Equation, FailedClaim, Step, latex, plain
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average

x, y = sp.symbols("x y", positive=True)
terms = sp.symbols("p1:40", positive=True)


def derivation(*claims: Claim) -> Derivation:
    long = Average(sp.Add(*(t * x for t in terms)), (x,))
    step = Step(
        title=r"Where $\tilde\beta$ & $V_u$ appear, 100 %",
        text="""
        First paragraph with $\\frac{1}{N} x^2$.

        Second paragraph.
        """,
        equations=(
            Equation(r"\tilde\beta", s.beta_tilde * s.V_u),
            Equation(x, 3 * y * long),
            Equation("M", sp.Matrix([[x, y], [y, x]])),
            Equation("k", sp.Piecewise((x, x > y), (y, True))),
        ),
        claims=claims,
    )
    return Derivation(name="example", title="An example", steps=(step,))


TRUE = Claim("$1 + 1 = 2$", lambda: 1 + 1 == 2)
FALSE = Claim("$1 + 1 = 3$", lambda: 1 + 1 == 3)


def test_true_claims_are_returned_in_order() -> None:
    assert derivation(TRUE, TRUE).check() == (TRUE.statement, TRUE.statement)


def test_false_claim_is_reported_by_its_statement() -> None:
    with pytest.raises(FailedClaim, match=r"1 \+ 1 = 3") as failure:
        derivation(TRUE, FALSE).check()
    assert failure.value.statement == FALSE.statement


def test_claim_that_cannot_be_checked_has_failed() -> None:
    broken = Claim("a division", lambda: 1 / 0 == 1)
    with pytest.raises(FailedClaim, match="a division") as failure:
        derivation(broken).check()
    assert isinstance(failure.value.__cause__, ZeroDivisionError)


def test_every_format_shows_title_equations_and_claims() -> None:
    for format in FORMATS:
        rendered = derivation(TRUE).render(format)
        assert "An example" in rendered
        assert "Second paragraph." in rendered
        assert "1 + 1 = 2" in rendered
        assert all(t.name[1:] in rendered for t in terms)


def test_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(ParameterError, match="format = html: must be one of text, markdown, latex"):
        derivation().render("html")


def test_text_fits_a_terminal_and_has_no_latex() -> None:
    text = derivation(TRUE).render("text")
    assert max(map(len, text.splitlines())) <= 100
    assert "\\" not in text
    assert "$" not in text
    assert "beta_tilde = V_u*beta_tilde" in text


def test_long_sum_is_split_over_lines_inside_its_average() -> None:
    lines = derivation().render("text").splitlines()
    (opening,) = [i for i, line in enumerate(lines) if line.strip() == "3*y*<"]
    closing = next(i for i in range(opening, len(lines)) if lines[i].strip() == ">")
    assert closing - opening > 2


def test_latex_is_a_complete_article_with_balanced_environments() -> None:
    source = derivation(TRUE).render("latex")
    assert source.startswith(r"\documentclass")
    assert source.rstrip().endswith(r"\end{document}")
    assert_balanced(source)
    assert r"100 \%" in source
    assert r"\&" in source


def assert_balanced(source: str) -> None:
    import re

    open_environments = []
    for kind, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", source):
        if kind == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert not open_environments
    unescaped = re.sub(r"\\[{}]", "", source)
    assert unescaped.count("{") == unescaped.count("}")
    assert source.count(r"\left") - source.count(r"\leftarrow") == source.count(r"\right") - source.count(
        r"\rightarrow"
    )


def test_markdown_displays_equations_between_double_dollars() -> None:
    markdown = derivation().render("markdown")
    assert markdown.startswith("# An example\n")
    assert markdown.splitlines().count("$$") == 2 * 4


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        (s.beta_tilde, r"\tilde\beta"),
        (s.ridge, r"\lambda_0"),
        (s.V_u, "V_u"),
        (s.noise, r"\rho"),
        (s.corner, r"\ell"),
        (sp.Symbol("Wa_12"), "W^{a}_{12}"),
        (sp.Symbol("xq_01"), r"\tilde x_{01}"),
    ],
    ids=str,
)
def test_symbols_have_the_names_of_the_theory(symbol: sp.Symbol, expected: str) -> None:
    assert latex(symbol) == expected


def test_plain_reads_like_prose() -> None:
    source = r"for $\tilde\beta \to \infty$: $\frac{1}{2} \langle R^2 \rangle \le \sqrt{D}$"
    assert plain(source) == "for beta_tilde -> infinity: 1/2 <R^2> <= sqrt(D)"
