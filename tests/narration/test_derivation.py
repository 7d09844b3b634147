"""Derivations print in three formats, and a false claim is reported by its statement."""

import re
from pathlib import Path

import pytest
import sympy as sp

from replica_icl.errors import ParameterError
from replica_icl.narration.catalogue import Chapter
from replica_icl.narration.chapters import FORMATS
from replica_icl.narration.checks import agree, averaged, vanishes
from replica_icl.narration.derivation import (
    Derivation,
    FailedClaim,
    Found,
    at_integers,
    by_simulation,
    numerically,
    symbolically,
    to_digits,
)
from replica_icl.narration.notation import declared, table, unexplained
from replica_icl.narration.printing import latex, plain
from replica_icl.narration.rendering import render
from replica_icl.narration.telling import tell
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average

x, y = sp.symbols("x y", positive=True)
terms = sp.symbols("p1:40", positive=True)


def derivation(*checks: object, long: bool = False) -> Derivation:
    told = Derivation("03_an_example.py", "An example", needs=("hamiltonian",), symbols={"K_x": "a constant"})
    told.step(
        r"Where $\tilde\beta$ & $V_u$ appear, 100 %",
        """
        First paragraph with $\\frac{1}{N} x^2$, [[long]] and [[limit]].

        Second paragraph.
        """,
    )
    told.equation(r"\tilde\beta", s.beta_tilde * s.V_u)
    told.equation("x", 3 * y * Average(sp.Add(*(t * x for t in terms)), (x,)), "long")
    told.equation("M", sp.Matrix([[x, y], [y, x]]))
    told.equation("k", sp.Piecewise((x, x > y), (y, True)))
    told.equation("E", r"\frac{1}{2} |W|^2")
    for k, check in enumerate(checks):
        how = by_simulation(7, "D = 3", long) if k else symbolically("at D = 2")
        told.claim(f"${k} + 1 = {k + 1}$", how)(check)  # type: ignore[arg-type]
    return told


def holds() -> bool:
    return True


def test_true_claims_are_returned_in_order() -> None:
    assert derivation(holds, holds).check() == ("$0 + 1 = 1$", "$1 + 1 = 2$")


@pytest.mark.parametrize("check", [lambda: False, lambda: Found(False, "seen 3")])
def test_false_claim_is_reported_by_its_statement(check: object) -> None:
    with pytest.raises(FailedClaim, match=r"1 \+ 1 = 2") as failure:
        derivation(holds, check).check()
    assert failure.value.statement == "$1 + 1 = 2$"
    assert ("seen 3" in str(failure.value)) == isinstance(check(), Found)  # type: ignore[operator]


def test_claim_that_cannot_be_checked_has_failed() -> None:
    with pytest.raises(FailedClaim) as failure:
        derivation(lambda: 1 / 0 == 1).check()
    assert isinstance(failure.value.__cause__, ZeroDivisionError)


def test_long_claims_run_only_when_they_are_asked_for() -> None:
    told = derivation(holds, lambda: False, long=True)
    assert told.check() == ("$0 + 1 = 1$",)
    with pytest.raises(FailedClaim):
        told.check(long=True)


def test_a_script_says_what_its_checks_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(derivation(holds, lambda: Found(True, "seen 2")), []) == 0
    assert "1 + 1 = 2: seen 2" in capsys.readouterr().out
    assert tell(derivation(lambda: False), []) == 1


def test_two_equations_with_one_label_are_refused() -> None:
    told = derivation()
    with pytest.raises(ValueError, match="two equations are labelled long"):
        told.equation("x", y, "long")


def test_number_and_name_come_from_the_script() -> None:
    told = derivation()
    assert (told.number, told.name) == (3, "an-example")
    assert [e.number for e in told.steps[0].equations] == [f"3.{k}" for k in range(1, 6)]


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_shows_equations_claims_and_how_they_are_checked(format: str) -> None:
    rendered = " ".join(render(derivation(holds, holds), format).split())
    for shown in ("An example", "Second paragraph.", "1 + 1 = 2", "symbolically, at D = 2", "seed 7: D = 3"):
        assert shown in rendered
    assert "with all matrices written out, n = 1, 2" == at_integers(1, 2).words
    assert "(3.2)" in rendered
    assert "chapter 8, limit" in rendered
    assert all(t.name[1:] in rendered for t in terms)


def test_an_unknown_reference_is_no_reference() -> None:
    told = derivation()
    told.text("See [[nowhere]].")
    with pytest.raises(KeyError, match="nowhere"):
        render(told, "text")


def test_unknown_format_is_refused_by_name() -> None:
    with pytest.raises(ParameterError, match="format = html: must be one of text, markdown, latex"):
        Chapter("an-example", Path("03_an_example.py")).render("html")


def test_text_fits_a_terminal_and_has_no_latex() -> None:
    text = render(derivation(holds), "text")
    assert max(map(len, text.splitlines())) <= 100
    assert "\\" not in text
    assert "$" not in text
    assert "beta_tilde = V_u*beta_tilde" in text


def test_long_sum_is_split_over_lines_inside_its_average() -> None:
    lines = render(derivation(), "text").splitlines()
    (opening,) = [i for i, line in enumerate(lines) if line.strip() == "3*y*<"]
    closing = next(i for i in range(opening, len(lines)) if lines[i].strip() == ">")
    assert closing - opening > 2


def test_latex_is_a_complete_article_with_balanced_environments() -> None:
    source = render(derivation(holds), "latex")
    assert source.startswith(r"\documentclass")
    assert source.rstrip().endswith(r"\end{document}")
    open_environments = []
    for kind, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", source):
        if kind == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert not open_environments
    unescaped = re.sub(r"\\[{}]", "", source)
    assert unescaped.count("{") == unescaped.count("}")
    assert r"100 \%" in source
    assert r"\&" in source


def test_markdown_displays_equations_between_double_dollars() -> None:
    markdown = render(derivation(), "markdown")
    assert markdown.startswith("# 3. An example\n")
    assert markdown.splitlines().count("$$") == 2 * 5
    assert r"\tag{3.5}" in markdown


# Notation


def test_letters_that_nobody_declared_are_found_and_declared_ones_are_listed() -> None:
    told = Derivation("03_an_example.py", "An example", symbols={"K_x": "a constant"})
    told.step("One", r"With $\frac{1}{D} K_x V_u \zeta_7$, $e_{\mathrm{ICL}}$ and $x_{\mu t}$.")
    assert unexplained(told) == {"zeta"}
    assert {symbol for symbol, _ in table(told)} >= {"D", "K_x", "V_u", r"e_{\mathrm{ICL}}", "x_t"}
    assert "V" not in {symbol for symbol, _ in table(told)}


def test_a_second_meaning_is_refused() -> None:
    with pytest.raises(ValueError, match="an-example gives a second meaning to V_u"):
        declared(Derivation("03_an_example.py", "An example", symbols={"V_u": "a velocity"}))


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


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (r"for $\tilde\beta \to \infty$: $\frac{1}{2} \langle R^2 \rangle \le \sqrt{D}$", None),
        (r"$\hat Q_{\gamma\gamma'}$ and $\frac{1}{2P}$", "Q_hat_(gamma gamma') and 1/(2P)"),
        (r"$\det(I + b C)^{-1/2}$", "det(I + b C)^(-1/2)"),
    ],
)
def test_plain_reads_like_prose(source: str, expected: str | None) -> None:
    assert plain(source) == (expected or "for beta_tilde -> infinity: 1/2 <R^2> <= sqrt(D)")


# Checks


def test_agreement_is_tested_with_a_law_that_is_not_concentrated() -> None:
    product, separate = Average(x * y * x, (x,)), Average(x, (x,)) ** 2 * y
    assert not agree(product, separate)
    assert agree(product, y * Average(x**2, (x,)))
    points = [{x: sp.Integer(1)}, {x: sp.Integer(4)}]
    assert averaged(Average(x**2, (x,)) - Average(x, (x,)) ** 2, points) == 11 - 9


def test_a_rational_identity_is_decided_by_algebra() -> None:
    assert vanishes((x**2 - y**2) / (x - y) - x - y)
    assert not vanishes(1 / x - 1 / y)


def test_every_way_of_checking_says_what_it_does() -> None:
    assert symbolically().words == "symbolically"
    assert to_digits(20).words.startswith("to 20 digits at random points; averages over a law of two unequal points")
    assert numerically("mpmath", long=True).long
