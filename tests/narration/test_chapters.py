"""Every chapter of the derivations: its claims hold, it prints in every format, and each symbol has one meaning."""

import re
import subprocess
import sys

import pytest

from replica_icl.errors import ParameterError
from replica_icl.narration.catalogue import derive
from replica_icl.narration.chapters import FORMATS, chapters_folder, names, number_and_name
from replica_icl.narration.derivation import Derivation, Method
from replica_icl.narration.notation import unexplained

CHAPTERS = names()


@pytest.fixture(params=CHAPTERS)
def derivation(request: pytest.FixtureRequest) -> Derivation:
    return derive(request.param).derivation


def test_chapters_are_numbered_one_after_another() -> None:
    numbers = [number_and_name(path)[0] for path in sorted(chapters_folder().glob("*.py"))]
    assert numbers == list(range(1, len(CHAPTERS) + 1))


def test_there_is_a_chapter_for_everything_that_is_solved() -> None:
    assert {
        "fresh-tasks", "limit", "task-diversity", "given-tasks", "hessian-spectrum", "missing-onsager",
        "sample-spread", "next-order", "gradient-flow", "temperature", "weight-priors",
        "message-passing",
    } <= set(CHAPTERS)  # fmt: skip


def test_every_quick_claim_holds(derivation: Derivation) -> None:
    assert derivation.check() == tuple(claim.statement for claim in derivation.claims if not claim.how.long)


@pytest.mark.long
@pytest.mark.parametrize("name", CHAPTERS)
def test_every_long_claim_holds(name: str) -> None:
    told = derive(name).derivation
    for step in told.steps:
        for claim in step.claims:
            if claim.how.long:
                told.verify(step, claim)


def test_every_chapter_claims_something_and_says_how_it_is_checked(derivation: Derivation) -> None:
    assert len(derivation.claims) >= 3
    for claim in derivation.claims:
        if claim.how.method is Method.SIMULATION:
            assert re.search(r"seed \d+", claim.how.words), claim.statement
        assert not claim.how.long or claim.how.method in (Method.SIMULATION, Method.NUMBERS)


def test_every_letter_of_a_formula_has_one_meaning(derivation: Derivation) -> None:
    assert unexplained(derivation) == set()


def test_a_chapter_needs_earlier_ones_only(derivation: Derivation) -> None:
    assert all(CHAPTERS.index(needed) < CHAPTERS.index(derivation.name) for needed in derivation.needs)


@pytest.mark.parametrize("format", FORMATS)
def test_a_chapter_prints_in_every_format(derivation: Derivation, format: str) -> None:
    rendered = derive(derivation.name).render(format)
    for step in derivation.steps:
        assert step.number in rendered
        for equation in step.equations:
            shown = f"({equation.number})" if format == "text" else rf"\tag{{{equation.number}}}"
            assert rendered.count(shown) >= 1
    assert not re.search(r"Dummy|_eval|\[\[|\\\\frac", rendered)
    if format == "text":
        assert "$" not in rendered
        assert "\\" not in rendered
    if format == "latex":
        assert rendered.count("{") == rendered.count("}")
        assert rendered.count(r"\begin{") == rendered.count(r"\end{")
        assert rendered.count("$") % 2 == 0


def test_the_index_lists_every_chapter_with_what_it_needs(derivation: Derivation) -> None:
    index = (chapters_folder() / "README.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in index.splitlines() if line.startswith("| ")]
    (row,) = [row for row in rows if len(row) == 4 and row[1] == f"`{derivation.name}`"]
    assert row[0] == str(derivation.number)
    assert re.findall(r"\d+", row[3]) == [str(CHAPTERS.index(name) + 1) for name in derivation.needs]


def test_an_unknown_name_is_refused_with_the_list() -> None:
    with pytest.raises(ParameterError, match=f"name = foo: must be one of {', '.join(CHAPTERS)}"):
        derive("foo")


@pytest.mark.parametrize(("name", "format"), [("foo", "text"), ("fresh-tasks", "pdf")])
def test_what_cannot_be_printed_is_refused_before_anything_is_derived(name: str, format: str) -> None:
    code = f"""
import sys
from replica_icl.errors import ParameterError
from replica_icl.narration.catalogue import derive
try:
    derive({name!r}).render({format!r})
except ParameterError:
    raise SystemExit(", ".join({{"numpy", "sympy", "scipy"}} & set(sys.modules)) or 0)
raise SystemExit("it was not refused")
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


def test_a_chapter_is_a_script_that_prints_and_checks_itself() -> None:
    script = derive("hamiltonian").path
    found = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert f"{len(derive('hamiltonian').derivation.claims)} claims hold" in found.stdout
