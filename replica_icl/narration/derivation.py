"""A derivation as an object: steps of narrative, equations that were computed, and claims that can fail.

Prose and left-hand sides are LaTeX, with mathematics between dollar signs; right-hand sides are SymPy expressions.
The same derivation prints as plain text, as MyST markdown, and as a LaTeX article.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter

from replica_icl.errors import ParameterError, ReplicaICLError
from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average

FORMATS = ("text", "markdown", "latex")
WIDTH = 100
"""Columns of the text format; also what counts as a line of mathematics when sums are split."""

NAMES = {
    s.beta_tilde: r"\tilde\beta",
    s.ridge: r"\lambda_0",
    s.V_u: "V_u",
    s.query_norm: "T",
    s.task_norm: r"\omega",
    s.context_norm: "a",
    s.corner: r"\ell",
}
"""LaTeX of the symbols whose own name would not give it; see also `_PATTERNS`."""

_PATTERNS = (
    (re.compile(r"W([a-z]?)_(\d+)$"), lambda f: f"W{f[1] and f'^{{{f[1]}}}'}_{{{f[2]}}}"),
    (re.compile(r"([xy])q_(\d+)$"), lambda f: rf"\tilde {f[1]}_{{{f[2]}}}"),
)


class FailedClaim(ReplicaICLError):
    """A claim of a derivation does not hold, or could not be checked.

    Attributes:
        statement: of the claim.
    """

    def __init__(self, derivation: str, step: str, statement: str) -> None:
        self.statement = statement
        super().__init__(f"{derivation}, step {step!r}: the claim does not hold: {statement}")


@dataclass(frozen=True)
class Equation:
    """`left` = `right`.

    Attributes:
        left: LaTeX source, or an expression.
        right: an expression or a matrix.
    """

    left: str | sp.Basic
    right: Any


@dataclass(frozen=True)
class Claim:
    """A statement, and a function of no argument that says whether it holds."""

    statement: str
    check: Callable[[], bool]


@dataclass(frozen=True)
class Step:
    """One step: a narrative, the equations that it leads to, and what is claimed about them."""

    title: str
    text: str
    equations: tuple[Equation, ...] = field(default=())
    claims: tuple[Claim, ...] = field(default=())


@dataclass(frozen=True)
class Derivation:
    """Steps in the order in which they follow from each other."""

    name: str
    title: str
    steps: tuple[Step, ...]

    def check(self) -> tuple[str, ...]:
        """Run every claim; returns the statements that were checked.

        Raises:
            FailedClaim: at the first claim that does not hold, with its statement.
        """
        checked = []
        for step in self.steps:
            for claim in step.claims:
                try:
                    holds = bool(claim.check())
                except Exception as error:
                    raise FailedClaim(self.name, step.title, claim.statement) from error
                if not holds:
                    raise FailedClaim(self.name, step.title, claim.statement)
                checked.append(claim.statement)
        return tuple(checked)

    def render(self, format: str = "text") -> str:
        """The derivation as "text", "markdown" (MyST) or "latex" (a complete article).

        Raises:
            ParameterError: for another format.
        """
        if format not in FORMATS:
            raise ParameterError("format", format, f"must be one of {', '.join(FORMATS)}")
        return {"text": _text, "markdown": _markdown, "latex": _latex}[format](self)


class _Latex(LatexPrinter):
    def _print_Symbol(self, expr: sp.Symbol, style: str = "plain") -> str:
        if expr in NAMES:
            return NAMES[expr]
        for pattern, write in _PATTERNS:
            if found := pattern.match(expr.name):
                return write(found)
        return super()._print_Symbol(expr)


def latex(expression: Any) -> str:
    """LaTeX of an expression, with the theory's names of its symbols."""
    return _Latex({"fold_short_frac": False, "ln_notation": False}).doprint(expression)


@dataclass(frozen=True)
class _Notation:
    """How sums, products and averages are written when they are split over lines."""

    write: Callable[[Any], str]
    times: str
    average: tuple[str, str]
    bracket: tuple[str, str]
    log: tuple[str, str]


_PLAIN_TEXT = _Notation(sp.sstr, "*", ("<", ">"), ("(", ")"), ("log(", ")"))
_LATEX = _Notation(
    latex,
    r"\, ",
    (r"\Bigl\langle ", r"\Bigr\rangle"),
    (r"\Bigl(", r"\Bigr)"),
    (r"\log \Bigl(", r"\Bigr)"),
)

Line = tuple[int, str]
"""Depth of indentation, and what is written there."""


def _fits(expression: Any, width: int) -> bool:
    return len(sp.sstr(expression)) <= width


def _wrapped(opening: str, inner: Any, closing: str, notation: _Notation, width: int) -> list[Line]:
    lines = [(depth + 1, line) for depth, line in _lines(inner, notation, width - 4)]
    return [(0, opening), *lines, (0, closing)]


def _lines(expression: Any, notation: _Notation, width: int) -> list[Line]:
    """`expression` on as many lines as it needs: split at sums, inside averages, logarithms and products."""
    if _fits(expression, width) or isinstance(expression, sp.MatrixBase):
        return [(0, notation.write(expression))]
    if isinstance(expression, sp.Piecewise) and notation is _PLAIN_TEXT:
        branches = [
            (sp.sstr(value), "otherwise" if condition == sp.true else f"if {sp.sstr(condition)}")
            for value, condition in expression.args
        ]
        return [(0, f"{value}  {condition}") for value, condition in branches]
    if isinstance(expression, Average):
        return _wrapped(notation.average[0], expression.integrand, notation.average[1], notation, width)
    if isinstance(expression, sp.log):
        return _wrapped(notation.log[0], expression.args[0], notation.log[1], notation, width)
    if isinstance(expression, sp.Add):
        return _sum_lines(expression, notation, width)
    if isinstance(expression, sp.Mul):
        long = max(expression.args, key=lambda factor: len(sp.sstr(factor)))
        outer = expression / long
        if isinstance(long, Average | sp.log | sp.Add) and _fits(outer, width // 2) and outer != -1:
            inner = _lines(long, notation, width)
            if isinstance(long, sp.Add):
                inner = _wrapped(notation.bracket[0], long, notation.bracket[1], notation, width)
            (depth, first), *rest = inner
            return [(depth, f"{notation.write(outer)}{notation.times}{first}"), *rest]
    return [(0, notation.write(expression))]


def _sum_lines(total: sp.Add, notation: _Notation, width: int) -> list[Line]:
    lines: list[Line] = []
    room = 0
    for position, term in enumerate(total.as_ordered_terms()):
        negative = term.could_extract_minus_sign()
        sign = "- " if negative else "+ " if position else ""
        body = -term if negative else term
        size = len(sp.sstr(body)) + 3
        (depth, first), *rest = _lines(body, notation, width - 2)
        if not rest and size <= room:
            previous_depth, previous = lines[-1]
            lines[-1] = (previous_depth, f"{previous} {sign}{first}")
            room -= size
        else:
            lines += [(depth, f"{sign}{first}"), *rest]
            room = 0 if rest else width - size
    return lines


_TO_PLAIN = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\tilde ?\{?\\beta\}?", "beta_tilde"),
        (r"\\tilde ?\{?(\w)\}?", r"\1~"),
        (r"\\hat ?\{?(\w)\}?", r"\1^"),
        (r"\\(?:mathrm|text|mathbf)\{([^{}]*)\}", r"\1"),
        (r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)"),
        (r"\\sqrt ?(\w)", r"sqrt(\1)"),
        (r"\\[td]?frac\{(\w+)\}\{(\w+)\}", r"\1/\2"),
        (r"\\[td]?frac\{([^{}]*)\}\{([^{}]*)\}", r"(\1)/(\2)"),
        (r"\\langle ?", "<"),
        (r" ?\\rangle", ">"),
        (r"\\partial ", "d"),
        (r"\\to\b", "->"),
        (r"\\infty", "infinity"),
        (r"\\cdot", "."),
        (r"\\times", "x"),
        (r"\\neq?\b", "!="),
        (r"\\ge\b", ">="),
        (r"\\le\b", "<="),
        (r"\\sim\b", "~"),
        (r"\\ell\b", "l"),
        (r"\\(?:left|right|Bigl|Bigr|bigl|bigr)\b", ""),
        (r"\\[,;!]|\\q?quad", " "),
        (r"\\([A-Za-z]+)", r"\1"),
        (r"\\([{}%&_|])", r"\1"),
        (r"\{([^{}]*)\}", r"\1"),
        (r"\{([^{}]*)\}", r"\1"),
        (r"  +", " "),
    )
)


def plain(source: str) -> str:
    """LaTeX prose or mathematics in plain characters, for a terminal."""

    def plain_math(mathematics: str) -> str:
        for pattern, replacement in _TO_PLAIN:
            mathematics = pattern.sub(replacement, mathematics)
        return mathematics

    if "$" not in source:
        return plain_math(source) if "\\" in source or "{" in source else source
    parts = source.split("$")
    return "".join(plain_math(part) if i % 2 else part for i, part in enumerate(parts))


def _paragraphs(text: str) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text.strip())]


def _text_equation(equation: Equation) -> str:
    left = plain(equation.left) if isinstance(equation.left, str) else sp.sstr(equation.left)
    if isinstance(equation.right, sp.MatrixBase):
        rows, columns = equation.right.shape
        entries = ((i, j) for i in range(rows) for j in range(columns))
        return "\n".join(_text_equation(Equation(f"{left} [{i}, {j}]", equation.right[i, j])) for i, j in entries)
    lines = _lines(equation.right, _PLAIN_TEXT, WIDTH - 12)
    if len(lines) == 1 and len(left) + len(lines[0][1]) < WIDTH - 8:
        return f"    {left} = {lines[0][1]}"
    return "\n".join([f"    {left} =", *(" " * (8 + 4 * depth) + line for depth, line in lines)])


def _text(derivation: Derivation) -> str:
    title = plain(derivation.title)
    out = [title, "=" * len(title)]
    for number, step in enumerate(derivation.steps, 1):
        heading = f"{number}. {plain(step.title)}"
        out += ["", heading, "-" * len(heading)]
        for paragraph in _paragraphs(step.text):
            out += ["", textwrap.fill(plain(paragraph), WIDTH, break_on_hyphens=False)]
        for equation in step.equations:
            out += ["", _text_equation(equation)]
        if step.claims:
            out += ["", "Checked:"]
        for claim in step.claims:
            wrapped = textwrap.fill(plain(claim.statement), WIDTH - 4, break_on_hyphens=False)
            out.append(textwrap.indent(wrapped, "    ").replace("    ", "  - ", 1))
    return "\n".join(out) + "\n"


def _latex_equation(equation: Equation) -> str:
    """The inside of a displayed equation."""
    left = equation.left if isinstance(equation.left, str) else latex(equation.left)
    lines = _lines(equation.right, _LATEX, WIDTH)
    if len(lines) == 1:
        return f"{left} = {lines[0][1]}"
    body = (r" \\" + "\n").join(r"&\quad" + r"\quad" * depth + " " + line for depth, line in lines)
    return "\\begin{aligned}\n" + f"&{left} = \\\\\n{body}\n" + "\\end{aligned}"


def _markdown(derivation: Derivation) -> str:
    out = [f"# {derivation.title}"]
    for number, step in enumerate(derivation.steps, 1):
        out += ["", f"## {number}. {step.title}"]
        for paragraph in _paragraphs(step.text):
            out += ["", paragraph]
        for equation in step.equations:
            out += ["", "$$", _latex_equation(equation), "$$"]
        if step.claims:
            out += ["", "Checked:", ""]
        out += [f"- {' '.join(claim.statement.split())}" for claim in step.claims]
    return "\n".join(out) + "\n"


_PREAMBLE = r"""\documentclass[11pt]{article}
\usepackage[T1]{fontenc}
\usepackage[a4paper,margin=2cm]{geometry}
\usepackage{amsmath,amssymb}
\allowdisplaybreaks
"""


def _escaped(prose: str) -> str:
    """Prose with the special characters outside mathematics escaped."""
    parts = prose.split("$")
    return "$".join(part if i % 2 else re.sub(r"(?<!\\)([%&#_])", r"\\\1", part) for i, part in enumerate(parts))


def _latex(derivation: Derivation) -> str:
    out = [_PREAMBLE + rf"\title{{{_escaped(derivation.title)}}}", r"\date{}", r"\begin{document}", r"\maketitle"]
    for step in derivation.steps:
        out += ["", rf"\section{{{_escaped(step.title)}}}"]
        for paragraph in _paragraphs(step.text):
            out += ["", _escaped(paragraph)]
        for equation in step.equations:
            out += [r"\begin{equation*}", _latex_equation(equation), r"\end{equation*}"]
        if step.claims:
            out += ["", r"\paragraph{Checked.}", r"\begin{itemize}"]
            out += [rf"\item {_escaped(' '.join(claim.statement.split()))}" for claim in step.claims]
            out += [r"\end{itemize}"]
    return "\n".join([*out, "", r"\end{document}", ""])
