"""A derivation as plain text, as MyST markdown, and as a LaTeX article.

Equations are numbered chapter.equation in all three, a claim says in brackets how it is checked, and the symbols of the
chapter are listed at its end.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from itertools import groupby

import sympy as sp

from replica_icl.narration.chapters import names
from replica_icl.narration.derivation import Claim, Derivation, Equation
from replica_icl.narration.notation import table
from replica_icl.narration.printing import LATEX, PLAIN_TEXT, WIDTH, latex, lines, plain


def render(derivation: Derivation, format: str) -> str:
    """The derivation in one of `chapters.FORMATS`."""
    return {"text": _text, "markdown": _markdown, "latex": _latex}[format](derivation)


def resolved(derivation: Derivation, prose: str) -> str:
    """Prose with its references [[label]] written out: "(4.3)" for an equation, "chapter 8, limit" for a chapter.

    Raises:
        KeyError: for a label that is neither.
    """
    labels = derivation.labels
    chapters = {name: number for number, name in enumerate(names(), 1)}

    def written(found: re.Match[str]) -> str:
        label = found[1]
        return f"({labels[label]})" if label in labels else f"chapter {chapters[label]}, {label}"

    return re.sub(r"\[\[([^\]]+)\]\]", written, prose)


def _paragraphs(prose: str) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", prose.strip())]


def _parts(
    derivation: Derivation,
    heading: Callable[[str, str], list[str]],
    prose: Callable[[str], list[str]],
    equation: Callable[[Equation], list[str]],
    claims: Callable[[list[Claim]], list[str]],
) -> list[str]:
    """The steps in reading order, claims that stand together as one list."""
    out: list[str] = []
    for step in derivation.steps:
        out += heading(step.number, step.title)
        for kind, group in groupby(step.parts, key=lambda part: type(part)):
            if kind is Claim:
                out += claims([part for part in group if isinstance(part, Claim)])
                continue
            for part in group:
                if isinstance(part, Equation):
                    out += equation(part)
                elif isinstance(part, str):
                    for paragraph in _paragraphs(resolved(derivation, part)):
                        out += prose(paragraph)
    return out


def _statement(derivation: Derivation, claim: Claim) -> str:
    return " ".join(resolved(derivation, claim.statement).split())


# Plain text


def _text_equation(equation: Equation) -> str:
    left, number = plain(equation.left), f"({equation.number})"
    margin = " " * 4
    if isinstance(equation.right, str):
        wrapped = textwrap.wrap(f"{left} = {plain(equation.right)}", WIDTH - 18, break_on_hyphens=False)
        start, *others = (margin + line for line in wrapped)
        return "\n".join([start.ljust(WIDTH - len(number)) + number, *(margin + line for line in others)])
    if isinstance(equation.right, sp.MatrixBase):
        rows, columns = equation.right.shape
        shown = [margin + f"{left} =".ljust(WIDTH - 4 - len(number)) + number]
        for i in range(rows):
            for j in range(columns):
                (_, first), *rest = lines(equation.right[i, j], PLAIN_TEXT, WIDTH - 20)
                shown.append(f"{2 * margin}[{i + 1}, {j + 1}]  {first}")
                shown += [" " * (16 + 4 * depth) + line for depth, line in rest]
        return "\n".join(shown)
    broken = lines(equation.right, PLAIN_TEXT, WIDTH - 12)
    if len(broken) == 1 and len(left) + len(broken[0][1]) < WIDTH - 18:
        return margin + f"{left} = {broken[0][1]}".ljust(WIDTH - 4 - len(number)) + number
    shown = [margin + f"{left} =".ljust(WIDTH - 4 - len(number)) + number]
    return "\n".join([*shown, *(" " * (8 + 4 * depth) + line for depth, line in broken)])


def _text_item(item: str) -> str:
    wrapped = textwrap.fill(item, WIDTH - 4, break_on_hyphens=False)
    return textwrap.indent(wrapped, "    ").replace("    ", "  - ", 1)


def _text(derivation: Derivation) -> str:
    title = f"{derivation.number}. {plain(derivation.title)}"
    out = [title, "=" * len(title)]
    if derivation.needs:
        out += ["", "Read before: " + ", ".join(derivation.needs)]

    def heading(number: str, words: str) -> list[str]:
        line = f"{number} {plain(words)}"
        return ["", line, "-" * len(line)]

    def claims(items: list[Claim]) -> list[str]:
        shown = [f"{plain(_statement(derivation, claim))} [{plain(claim.how.words)}]" for claim in items]
        return ["", "Checked:", *(_text_item(item) for item in shown)]

    out += _parts(
        derivation,
        heading,
        lambda paragraph: ["", textwrap.fill(plain(paragraph), WIDTH, break_on_hyphens=False)],
        lambda equation: ["", _text_equation(equation)],
        claims,
    )
    symbols = [(plain(symbol), plain(meaning)) for symbol, meaning in table(derivation)]
    width = max((len(symbol) for symbol, _ in symbols), default=0) + 2
    out += ["", "Symbols", "-------", ""]
    for symbol, meaning in symbols:
        hanging = " " * (width + 2)
        out.append(textwrap.fill(meaning, WIDTH, initial_indent="  " + symbol.ljust(width), subsequent_indent=hanging))
    return "\n".join(out) + "\n"


# Markdown and LaTeX


def _latex_equation(equation: Equation) -> str:
    """The inside of a displayed equation."""
    if isinstance(equation.right, str):
        return f"{equation.left} = {equation.right}"
    if isinstance(equation.right, sp.MatrixBase):
        return f"{equation.left} = {latex(equation.right)}"
    broken = lines(equation.right, LATEX, WIDTH)
    if len(broken) == 1:
        return f"{equation.left} = {broken[0][1]}"
    body = (r" \\" + "\n").join(r"&\quad" + r"\quad" * depth + " " + line for depth, line in broken)
    return "\\begin{aligned}\n" + f"&{equation.left} = \\\\\n{body}\n" + "\\end{aligned}"


def _markdown(derivation: Derivation) -> str:
    out = [f"# {derivation.number}. {derivation.title}"]
    if derivation.needs:
        out += ["", "Read before: " + ", ".join(derivation.needs) + "."]

    def claims(items: list[Claim]) -> list[str]:
        return ["", "Checked:", "", *(f"- {_statement(derivation, c)} *[{c.how.words}]*" for c in items)]

    out += _parts(
        derivation,
        lambda number, words: ["", f"## {number} {words}"],
        lambda paragraph: ["", paragraph],
        lambda equation: ["", "$$", f"{_latex_equation(equation)} \\tag{{{equation.number}}}", "$$"],
        claims,
    )
    out += ["", "## Symbols", "", "| symbol | meaning |", "|---|---|"]
    out += [f"| ${symbol}$ | {meaning} |".replace("|W|^2", r"\|W\|^2") for symbol, meaning in table(derivation)]
    return "\n".join(out) + "\n"


_PREAMBLE = r"""\documentclass[11pt]{article}
\usepackage[T1]{fontenc}
\usepackage[a4paper,margin=2cm]{geometry}
\usepackage{amsmath,amssymb,longtable}
\allowdisplaybreaks
"""


def _escaped(prose: str) -> str:
    """Prose with the special characters outside mathematics escaped."""
    parts = prose.split("$")
    return "$".join(part if i % 2 else re.sub(r"(?<!\\)([%&#_])", r"\\\1", part) for i, part in enumerate(parts))


def _latex(derivation: Derivation) -> str:
    title = _escaped(f"{derivation.number}. {derivation.title}")
    out = [_PREAMBLE + rf"\title{{{title}}}", r"\date{}", r"\begin{document}", r"\maketitle"]
    if derivation.needs:
        out += ["", "Read before: " + ", ".join(derivation.needs) + "."]

    def claims(items: list[Claim]) -> list[str]:
        shown = [rf"\item {_escaped(_statement(derivation, c))} \emph{{[{_escaped(c.how.words)}]}}" for c in items]
        return ["", r"\paragraph{Checked.}", r"\begin{itemize}", *shown, r"\end{itemize}"]

    out += _parts(
        derivation,
        lambda number, words: ["", rf"\section*{{{number} {_escaped(words)}}}"],
        lambda paragraph: ["", _escaped(paragraph)],
        lambda equation: [
            r"\begin{equation*}",
            f"{_latex_equation(equation)} \\tag{{{equation.number}}}",
            r"\end{equation*}",
        ],
        claims,
    )
    out += ["", r"\section*{Symbols}", r"\begin{longtable}{lp{0.8\textwidth}}"]
    out += [rf"${symbol}$ & {_escaped(meaning)} \\" for symbol, meaning in table(derivation)]
    out += [r"\end{longtable}", "", r"\end{document}", ""]
    return "\n".join(out)
