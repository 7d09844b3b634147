"""Expressions as LaTeX and as plain text, split over lines where they are long, and LaTeX prose for a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

from replica_icl.symbolic import symbols as s
from replica_icl.symbolic.averages import Average

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
    (re.compile(r"(W|u)([a-z]?)_(\d+)$"), lambda f: f"{f[1]}{f[2] and f'^{{{f[2]}}}'}_{{{f[3]}}}"),
    (re.compile(r"([xy])q_(\d+)$"), lambda f: rf"\tilde {f[1]}_{{{f[2]}}}"),
)


class _Latex(LatexPrinter):
    def _print_Symbol(self, expr: sp.Symbol, style: str = "plain") -> str:
        if expr in NAMES:
            return NAMES[expr]
        if "\\" in expr.name:  # a symbol that is called by its LaTeX
            return str(expr.name)
        for pattern, write in _PATTERNS:
            if found := pattern.match(expr.name):
                return write(found)
        return super()._print_Symbol(expr)

    _print_Dummy = _print_Symbol


class _Plain(StrPrinter):
    def _print_Symbol(self, expr: sp.Symbol) -> str:
        return plain(latex(expr))

    _print_Dummy = _print_Symbol

    def _print_Pow(self, expr: sp.Pow, rational: bool = False) -> str:
        return super()._print_Pow(expr, rational).replace("**", "^")


def latex(expression: Any) -> str:
    """LaTeX of an expression, with the theory's names of its symbols."""
    return _Latex({"fold_short_frac": False, "ln_notation": False}).doprint(expression)


def text(expression: Any) -> str:
    """An expression on one line of plain text."""
    return _Plain().doprint(expression)


@dataclass(frozen=True)
class Notation:
    """How sums, products and averages are written when they are split over lines."""

    write: Callable[[Any], str]
    times: str
    average: tuple[str, str]
    bracket: tuple[str, str]
    log: tuple[str, str]


PLAIN_TEXT = Notation(text, "*", ("<", ">"), ("(", ")"), ("log(", ")"))
LATEX = Notation(
    latex,
    r"\, ",
    (r"\Bigl\langle ", r"\Bigr\rangle"),
    (r"\Bigl(", r"\Bigr)"),
    (r"\log \Bigl(", r"\Bigr)"),
)

Line = tuple[int, str]
"""Depth of indentation, and what is written there."""


def _fits(expression: Any, width: int) -> bool:
    return len(text(expression)) <= width


def _wrapped(opening: str, inner: Any, closing: str, notation: Notation, width: int) -> list[Line]:
    inside = [(depth + 1, line) for depth, line in lines(inner, notation, width - 4)]
    return [(0, opening), *inside, (0, closing)]


def lines(expression: Any, notation: Notation, width: int) -> list[Line]:
    """`expression` on as many lines as it needs: split at sums, inside averages, logarithms and products."""
    if isinstance(expression, sp.Piecewise) and notation is PLAIN_TEXT and not _fits(expression, width // 2):
        branches = [
            (text(value), "otherwise" if condition == sp.true else f"if {text(condition)}")
            for value, condition in expression.args
        ]
        return [(0, f"{value}  {condition}") for value, condition in branches]
    if _fits(expression, width) or isinstance(expression, sp.MatrixBase):
        return [(0, notation.write(expression))]
    if isinstance(expression, Average):
        return _wrapped(notation.average[0], expression.integrand, notation.average[1], notation, width)
    if isinstance(expression, sp.log):
        return _wrapped(notation.log[0], expression.args[0], notation.log[1], notation, width)
    if isinstance(expression, sp.Add):
        return _sum_lines(expression, notation, width)
    if isinstance(expression, sp.Mul):
        long = max(expression.args, key=lambda factor: len(text(factor)))
        outer = expression / long
        if isinstance(long, Average | sp.log | sp.Add) and _fits(outer, width // 2) and outer != -1:
            inner = lines(long, notation, width)
            if isinstance(long, sp.Add):
                inner = _wrapped(notation.bracket[0], long, notation.bracket[1], notation, width)
            (depth, first), *rest = inner
            return [(depth, f"{notation.write(outer)}{notation.times}{first}"), *rest]
    return [(0, notation.write(expression))]


def _sum_lines(total: sp.Add, notation: Notation, width: int) -> list[Line]:
    found: list[Line] = []
    room = 0
    for position, term in enumerate(total.as_ordered_terms()):
        negative = term.could_extract_minus_sign()
        sign = "- " if negative else "+ " if position else ""
        body = -term if negative else term
        size = len(text(body)) + 3
        (depth, first), *rest = lines(body, notation, width - 2)
        if not rest and size <= room:
            previous_depth, previous = found[-1]
            found[-1] = (previous_depth, f"{previous} {sign}{first}")
            room -= size
        else:
            found += [(depth, f"{sign}{first}"), *rest]
            room = 0 if rest else width - size
    return found


_TO_PLAIN = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\tilde ?\{?\\beta\}?", "beta_tilde"),
        (r"\\tilde ?\{?(\w)\}?", r"\1~"),
        (r"\\hat ?\{?(\w)\}?", r"\1_hat"),
        (r"\\bar ?\{?(\w)\}?", r"\1_bar"),
        (r"\\([A-Za-z]+)(?=\\[A-Za-z])", r"\\\1 "),
        (r"\\(?:mathrm|text|mathbf|mathcal|operatorname) ?\{([^{}]*)\}", r"\1"),
        (r"_\{(\w+)\}", r"_\1"),
        (r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)"),
        (r"\\sqrt ?(\w)", r"sqrt(\1)"),
        (r"\\[td]?frac ?(\d)(\d)", r"\1/\2"),
        (r"\\[td]?frac\{([\w\\^]+)\}\{(\w|\d+|\\[A-Za-z]+)\}", r"\1/\2"),
        (r"\\[td]?frac\{([\w\\^]+)\}\{([^{}]*)\}", r"\1/(\2)"),
        (r"\\[td]?frac\{([^{}]*)\}\{(\w|\d+|\\[A-Za-z]+)\}", r"(\1)/\2"),
        (r"\\[td]?frac\{([^{}]*)\}\{([^{}]*)\}", r"(\1)/(\2)"),
        (r"_\{([^{}]*[^{},] [^{}]*)\}", r"_(\1)"),
        (r"\^\{([^{}]{3,})\}", r"^(\1)"),
        (r"\\langle ?", "<"),
        (r" ?\\rangle", ">"),
        (r"\\partial ?", "d"),
        (r"\\to\b", "->"),
        (r"\\infty", "infinity"),
        (r"\\cdot", "."),
        (r"\\times", "x"),
        (r"\\neq?\b", "!="),
        (r"\\ge\b", ">="),
        (r"\\le\b", "<="),
        (r"\\ll\b", "<<"),
        (r"\\gg\b", ">>"),
        (r"\\pm\b", "+-"),
        (r"\\sim\b", "~"),
        (r"\\propto\b", "~"),
        (r"\\approx\b", "~"),
        (r"\\ell\b", "l"),
        (r"\\dots\b|\\ldots\b|\\cdots\b", "..."),
        (r"\\prime\b", "'"),
        (r"\\otimes\b", "(x)"),
        (r"\\oint\b|\\int\b", "int"),
        (r"\\(log|exp|det|lim)(?![A-Za-z])\s*\\(log|exp|det)(?![A-Za-z])", r"\1 \2"),
        (r"\\(?:left|right|Bigl|Bigr|bigl|bigr|limits)\b", ""),
        (r"\\[,;!]|\\q?quad", " "),
        (r"\\([A-Za-z]+)", r"\1"),
        (r"\\([{}%&_|])", r"\1"),
        (r"\{([^{}]*)\}", r"\1"),
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
