"""Every answer knows the papers and the chapters it rests on, and says so in BibTeX."""

import re
from pathlib import Path

import pytest

from replica_icl import Laplace, MessagePassing, Ratios, Setting, Training, __version__, simulate, solve, validate
from replica_icl.citations import PAPERS, RESTS_ON, References, software
from replica_icl.meeting.published import FIGURES, against_theory
from replica_icl.narration.chapters import names
from replica_icl.numeric.levels import LEVELS
from replica_icl.options import OUTSIDE
from replica_icl.priors import PENALTIES

POINT = Setting(D=4, N=8, P=30, ridge=0.1)
FEW = Setting(D=4, N=8, P=30, K=3, ridge=0.1)
ROOT = Path(__file__).parent.parent


def test_the_table_names_chapters_and_papers_that_exist_and_covers_what_can_be_asked() -> None:
    assert {key for basis in RESTS_ON.values() for key in basis.papers} == set(PAPERS)
    assert {chapter for basis in RESTS_ON.values() for chapter in basis.chapters} <= set(names())
    assert {*LEVELS, *PENALTIES, *OUTSIDE, *FIGURES} <= set(RESTS_ON)


@pytest.mark.parametrize(
    ("answer", "papers", "chapters", "absent"),
    [
        (lambda: solve(POINT), {"li2025"}, {"fresh-tasks", "next-order"}, {"limit", "temperature", "sample-spread"}),
        (lambda: solve(POINT, spread=True), {"li2025"}, {"sample-spread"}, {"limit"}),
        (lambda: solve(Setting(D=4, N=8, P=30, ridge=0.1, beta=9.0)), {"li2025"}, {"temperature"}, {"limit"}),
        (lambda: solve(POINT, prior=Laplace(l1=0.01)), {"tibshirani1996"}, {"fresh-tasks"}, {"next-order"}),
        (lambda: solve(Setting(D=4, N=8, P=30, ridge=0.1, l1=0.01)), {"zou2005"}, {"fresh-tasks"}, {"next-order"}),
        (lambda: solve(Ratios(alpha=[1.0, 2.0], nu=2.0, lam=0.1)), {"li2025", "lu2025"}, {"limit"}, {"fresh-tasks-x"}),
        (lambda: solve(Ratios(alpha=1.0, nu=2.0, lam=0.1, kappa=0.5)), {"marchenko1967"}, {"task-diversity"}, set()),
        (lambda: solve(FEW, draws=2), {"lu2025"}, {"given-tasks"}, {"limit", "sample-spread"}),
        (lambda: simulate(POINT, 2), {"li2025"}, {"hamiltonian"}, {"replica-symmetry"}),
        (lambda: simulate(FEW, 2, sphere=True, usage="equal"), {"lu2025"}, {"hamiltonian"}, set()),
        (lambda: simulate(POINT, 2, algorithm=MessagePassing("gamp")), {"rangan2011"}, {"hamiltonian"}, set()),
        (lambda: simulate(POINT, 2, algorithm=Training("adam", epochs=2)), {"kingma2015"}, {"hamiltonian"}, set()),
        (lambda: validate(POINT, realisations=2), {"li2025"}, {"next-order", "hamiltonian"}, set()),
        (lambda: against_theory("li_fig4b")[-1], {"li2025"}, {"missing-onsager"}, {"next-order"}),
    ],
)  # fmt: skip
def test_an_answer_knows_what_it_rests_on(answer: object, papers: set, chapters: set, absent: set) -> None:
    found = answer().references()
    assert papers <= {paper.key for paper in found.papers}
    assert chapters <= set(found.chapters)
    assert not absent & set(found.chapters)


def test_a_simulation_without_a_sphere_owes_nothing_to_the_theory_of_few_tasks() -> None:
    assert {paper.key for paper in simulate(FEW, 2).references()} == {"li2025"}


def test_bibtex_is_plain_and_closed_and_ends_in_the_package() -> None:
    """Keys are unique, braces close, everything is ASCII, no underscore is bare outside of identifiers."""
    text = References.of(RESTS_ON).bibtex()
    assert text.isascii()
    assert text.count("{") == text.count("}")
    keys = re.findall(r"^@\w+\{(\w+),$", text, flags=re.MULTILINE)
    assert keys == [*PAPERS, "replica_icl"]
    fields = [
        line for line in text.splitlines() if line.startswith("  ") and not line.startswith(("  doi", "  eprint"))
    ]
    assert not [line for line in fields if re.search(r"(?<!\\)_", line)]
    assert r"M{\'e}zard" in text
    assert f"version {__version__}" in text.split("\n\n")[-1]


def test_references_are_shown_as_text_and_in_a_notebook() -> None:
    found = solve(POINT).references()
    assert "arXiv:2408.02288" in str(found)
    assert "replica-icl derive fresh-tasks" in str(found)
    shown = found._repr_html_()
    assert 'href="https://arxiv.org/abs/2408.02288"' in shown
    assert shown.count("<li>") == len(found.papers) + 1 + len(found.chapters)


def test_the_citation_file_says_what_the_package_says() -> None:
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"version: {__version__}" in text
    assert software().title in text
    for paper in (PAPERS["li2025"], PAPERS["lu2025"]):
        assert {paper.title, paper.where, paper.doi, f"arXiv:{paper.arxiv}"} <= set(re.findall(r"[^\n\"]+", text)) | {
            line.removeprefix("    doi: ") for line in text.splitlines()
        }  # fmt: skip
        for author in paper.authors:
            family, given = author.split(", ")
            assert f"      - family-names: {family}\n        given-names: {given}\n" in text
