"""What a result rests on: the papers to cite for it, and the chapters that derive it.

One table, `RESTS_ON`, says it for every level of theory, parameter, option and algorithm; an answer collects what
it was made with (`Answer.references()`). Chapters are named as in `replica-icl derive NAME`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_TEX = str.maketrans({"é": r"{\'e}", "č": r"{\v{c}}", "_": r"\_"})


@dataclass(frozen=True)
class Paper:
    """One entry of a bibliography.

    Attributes:
        key: of BibTeX.
        authors: "Family, Given", in order.
        title, year: as published.
        where: journal, proceedings or publisher; "" for an eprint alone.
        arxiv, doi: identifiers, "" where there is none.
        kind: of BibTeX entry.
    """

    key: str
    authors: tuple[str, ...]
    title: str
    year: int
    where: str = ""
    arxiv: str = ""
    doi: str = ""
    kind: str = "article"

    @property
    def url(self) -> str:
        """Where to find it, "" if unknown."""
        return (
            f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else f"https://doi.org/{self.doi}" if self.doi else ""
        )

    def bibtex(self) -> str:
        """The entry, titles in braces as they are."""
        place = {"article": "journal", "inproceedings": "booktitle", "book": "publisher"}.get(self.kind, "note")
        fields = {
            "author": " and ".join(one if ", " in one else f"{{{one}}}" for one in self.authors),
            "title": f"{{{self.title}}}",
            place: self.where,
            "year": str(self.year),
            "doi": self.doi,
            "eprint": self.arxiv,
            "archivePrefix": "arXiv" * bool(self.arxiv),
        }
        verbatim = ("doi", "eprint")
        lines = [
            f"  {name} = {{{value if name in verbatim else value.translate(_TEX)}}},"
            for name, value in fields.items()
            if value
        ]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])

    def __str__(self) -> str:
        names = ", ".join(" ".join(reversed(one.split(", "))) for one in self.authors)
        where = ", ".join(filter(None, (self.where, f"arXiv:{self.arxiv}" if self.arxiv else "", str(self.year))))
        return f"{names}: {self.title}. {where}"


PAPERS: Mapping[str, Paper] = {
    paper.key: paper
    for paper in (
        Paper("li2025", ("Li, Yuhao", "Bai, Ruoran", "Huang, Haiping"), "Spin glass model of in-context learning", 2025,
              "Physical Review E", "2408.02288", "10.1103/5l5m-4nk5"),
        Paper("lu2025", ("Lu, Yue M.", "Letey, Mary", "Zavatone-Veth, Jacob A.", "Maiti, Anindita", "Pehlevan, Cengiz"),
              "Asymptotic theory of in-context learning by linear attention", 2025,
              "Proceedings of the National Academy of Sciences", "2405.11751", "10.1073/pnas.2502599122"),
        Paper("mezard1987", ("Mézard, Marc", "Parisi, Giorgio", "Virasoro, Miguel Angel"),
              "Spin Glass Theory and Beyond", 1987, "World Scientific", kind="book"),
        Paper("marchenko1967", ("Marčenko, Vladimir A.", "Pastur, Leonid A."),
              "Distribution of eigenvalues for some sets of random matrices", 1967,
              "Mathematics of the USSR-Sbornik", doi="10.1070/SM1967v001n04ABEH001994"),
        Paper("rangan2011", ("Rangan, Sundeep",),
              "Generalized approximate message passing for estimation with random linear mixing", 2011,
              "IEEE International Symposium on Information Theory", "1010.5141", "10.1109/ISIT.2011.6033942",
              "inproceedings"),
        Paper("tibshirani1996", ("Tibshirani, Robert",), "Regression shrinkage and selection via the lasso", 1996,
              "Journal of the Royal Statistical Society B", doi="10.1111/j.2517-6161.1996.tb02080.x"),
        Paper("zou2005", ("Zou, Hui", "Hastie, Trevor"), "Regularization and variable selection via the elastic net",
              2005, "Journal of the Royal Statistical Society B", doi="10.1111/j.1467-9868.2005.00503.x"),
        Paper("polyak1964", ("Polyak, Boris T.",), "Some methods of speeding up the convergence of iteration methods",
              1964, "USSR Computational Mathematics and Mathematical Physics", doi="10.1016/0041-5553(64)90137-5"),
        Paper("kingma2015", ("Kingma, Diederik P.", "Ba, Jimmy"), "Adam: a method for stochastic optimization", 2015,
              "International Conference on Learning Representations", "1412.6980", kind="inproceedings"),
        Paper("loshchilov2019", ("Loshchilov, Ilya", "Hutter, Frank"), "Decoupled weight decay regularization", 2019,
              "International Conference on Learning Representations", "1711.05101", kind="inproceedings"),
    )
}  # fmt: skip
"""Key -> paper, in the order in which references are listed."""


@dataclass(frozen=True)
class Basis:
    """What one thing rests on: keys of `PAPERS`, names of chapters."""

    papers: tuple[str, ...] = ()
    chapters: tuple[str, ...] = ()


RESTS_ON: Mapping[str, Basis] = {
    "model": Basis(("li2025",), ("hamiltonian",)),
    "replicas": Basis(("mezard1987",), ("replicated-action", "replica-symmetry")),
    "finite-size": Basis((), ("fresh-tasks", "stability", "norms")),
    "limit": Basis(("lu2025",), ("fresh-tasks", "stability", "limit")),
    "given-tasks": Basis(("lu2025",), ("given-tasks",)),
    "next-order": Basis((), ("next-order",)),
    "spread": Basis((), ("sample-spread",)),
    "K": Basis(("lu2025",)),
    "kappa": Basis(("lu2025", "marchenko1967"), ("task-diversity",)),
    "beta": Basis((), ("temperature",)),
    "l1": Basis(("tibshirani1996", "zou2005")),
    "sphere": Basis(("lu2025",)),
    "gamp": Basis(("rangan2011",)),
    "relaxed-bp": Basis(("li2025",), ("missing-onsager",)),
    "gradient-flow": Basis((), ("gradient-flow",)),
    "momentum": Basis(("polyak1964",)),
    "adam": Basis(("kingma2015",)),
    "adamw": Basis(("loshchilov2019",)),
    "li_fig4b": Basis(("li2025",)),
    "lu_fig1": Basis(("lu2025",)),
}
"""What a result was made with -> what it rests on. What is not here (an algorithm that is a textbook's, a level or a
prior of one's own) rests on nothing to cite."""


@dataclass(frozen=True)
class References:
    """Papers to cite for a result, and the chapters that derive it; the package itself is an entry of `bibtex`.

    Attributes:
        papers: in the order of `PAPERS`.
        chapters: names, as in `replica-icl derive NAME`.
    """

    papers: tuple[Paper, ...]
    chapters: tuple[str, ...]

    @classmethod
    def of(cls, things: Iterable[str]) -> References:
        """What things rest on together, each paper and chapter once; things that are not in `RESTS_ON` add nothing."""
        found = [RESTS_ON[thing] for thing in things if thing in RESTS_ON]
        cited = {key for basis in found for key in basis.papers}
        chapters = dict.fromkeys(chapter for basis in found for chapter in basis.chapters)
        return cls(tuple(paper for key, paper in PAPERS.items() if key in cited), tuple(chapters))

    def bibtex(self) -> str:
        """A file for BibTeX: the papers, then the package in the version that made the result."""
        return "\n\n".join(paper.bibtex() for paper in (*self.papers, software())) + "\n"

    def table(self) -> str:
        """Text: the papers, then the chapters."""
        told = [f"- {paper}" for paper in (*self.papers, software())]
        derived = [f"- replica-icl derive {chapter}" for chapter in self.chapters]
        return "\n".join(["to cite:", *told, *["derived in:"] * bool(derived), *derived])

    __str__ = table

    def __iter__(self) -> Iterator[Paper]:
        return iter(self.papers)

    def _repr_html_(self) -> str:
        def entry(paper: Paper) -> str:
            text = html.escape(str(paper))
            return f'<li><a href="{html.escape(paper.url)}">{text}</a></li>' if paper.url else f"<li>{text}</li>"

        derived = "".join(f"<li><code>replica-icl derive {html.escape(one)}</code></li>" for one in self.chapters)
        cited = "".join(entry(paper) for paper in (*self.papers, software()))
        return f"<p>To cite</p><ul>{cited}</ul>" + (f"<p>Derived in</p><ul>{derived}</ul>" if derived else "")


def software() -> Paper:
    """The package itself, in its version; CITATION.cff says the same."""
    from replica_icl import __version__

    title = "replica_icl: the analytic theory of in-context learning in linear attention"
    return Paper("replica_icl", ("the replica_icl developers",), title, 2026, f"version {__version__}",
                 kind="software")  # fmt: skip
