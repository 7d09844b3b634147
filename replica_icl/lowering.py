"""The one bridge from SymPy to numbers: expressions become the source text of plain Python functions.

A lowered function takes an arithmetic `xp` (NumPy arrays or mpmath numbers, see `numeric.arithmetic`) and its arguments
by name. Averages over a law become one call of the `average` that it is given, with all integrands of the function
evaluated together. `python -m replica_icl.lowering` writes the functions of every ensemble to `replica_icl/lowered/`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import sympy as sp
from sympy.printing.pycode import PythonCodePrinter

from replica_icl.lowered import fingerprint
from replica_icl.symbolic.averages import Average


@dataclass(frozen=True)
class Program:
    """A function to be lowered.

    Attributes:
        name: of the function.
        summary: what it returns, for its docstring.
        arguments: symbols that the caller gives.
        definitions: (symbol, expression) pairs, each in arguments and earlier symbols.
        outputs: named expressions in arguments and defined symbols; the function returns them as a dict.
    """

    name: str
    summary: str
    arguments: tuple[sp.Symbol, ...]
    outputs: dict[str, sp.Expr]
    definitions: tuple[tuple[sp.Symbol, sp.Expr], ...] = field(default=())

    def __post_init__(self) -> None:
        known = set(self.arguments)
        for symbol, expression in self.definitions:
            self._refuse_unknown(symbol.name, expression, known)
            known.add(symbol)
        for output, expression in self.outputs.items():
            self._refuse_unknown(output, expression, known)

    def _refuse_unknown(self, target: str, expression: sp.Expr, known: set[sp.Symbol]) -> None:
        unknown = sorted(x.name for x in sp.sympify(expression).free_symbols - known)
        if unknown:
            raise ValueError(f"{self.name}: {target} has free symbols without an argument: {', '.join(unknown)}")


class _Printer(PythonCodePrinter):
    """Prints with the functions of an arithmetic, so that one text serves float64 and any precision."""

    def _print_Rational(self, expr: sp.Rational) -> str:
        return f"xp.rational({expr.p}, {expr.q})"

    def _print_Symbol(self, expr: sp.Symbol) -> str:
        return "lam" if expr.name == "lambda" else super()._print_Symbol(expr)

    def _print_Half(self, expr: sp.Expr) -> str:
        return "xp.rational(1, 2)"

    def _print_Float(self, expr: sp.Float) -> str:
        raise ValueError(f"a lowered expression holds the rounded number {expr}; use a Rational")

    def _print_Pi(self, expr: sp.Expr) -> str:
        return "xp.pi"

    def _print_log(self, expr: sp.Expr) -> str:
        return f"xp.log({self._print(expr.args[0])})"

    def _print_Abs(self, expr: sp.Expr) -> str:
        return f"xp.absolute({self._print(expr.args[0])})"

    def _print_Pow(self, expr: sp.Expr, rational: bool = False, sqrt: str = "math.sqrt") -> str:
        base, exponent = expr.as_base_exp()
        if exponent.is_negative:
            return f"(1 / {self._print_Pow(sp.Pow(base, -exponent, evaluate=False))})"
        if exponent == 1:
            return f"({self._print(base)})"
        if exponent == sp.S.Half:
            return f"xp.sqrt({self._print(base)})"
        if exponent.is_Integer:
            return f"xp.power({self._print(base)}, {exponent})"
        if (2 * exponent).is_Integer:
            return f"xp.power(xp.sqrt({self._print(base)}), {2 * exponent})"
        raise ValueError(f"cannot lower the power {expr}")

    def _print_Piecewise(self, expr: sp.Piecewise) -> str:
        (first, condition), (second, _) = expr.args
        return f"xp.where({self._print(condition)}, lambda: {self._print(first)}, lambda: {self._print(second)})"

    def _print_Average(self, expr: Average) -> str:
        raise ValueError("an average inside an average cannot be lowered")


def _assignments(pairs: Iterable[tuple[sp.Symbol, sp.Expr]], indent: str) -> list[str]:
    printer = _Printer()
    return [f"{indent}{printer.doprint(x)} = {printer.doprint(expression)}" for x, expression in pairs]


def _shared(expressions: Sequence[sp.Expr], prefix: str, share: bool) -> tuple[list[Any], list[sp.Expr]]:
    if not share:
        return [], list(expressions)
    return sp.cse(list(expressions), symbols=sp.numbered_symbols(prefix))


def lower(program: Program, share: bool = True) -> str:
    """The source text of one lowered function.

    Args:
        share: eliminate common subexpressions.

    Raises:
        ValueError: for free symbols without an argument (when the program is made) and for what cannot be lowered.
    """
    targets = [symbol for symbol, _ in program.definitions]
    expressions = [sp.sympify(x) for x in (*(e for _, e in program.definitions), *program.outputs.values())]
    averages: list[Average] = []
    for expression in expressions:
        averages += sorted((a for a in expression.atoms(Average) if a not in averages), key=str)
    if len({tuple(a.variables) for a in averages}) > 1:
        raise ValueError(f"{program.name}: averages over different laws in one function")
    needed_early = {x for a in averages for x in a.free_symbols} & set(targets)
    if needed_early:
        raise ValueError(f"{program.name}: an integrand uses a definition: {', '.join(x.name for x in needed_early)}")

    given = ["xp", *(["average"] if averages else []), *(["*"] if program.arguments else [])]
    signature = ", ".join([*given, *(_Printer().doprint(x) for x in program.arguments)])
    lines = [f"def {program.name}({signature}):", f'    """{program.summary}"""']
    if averages:
        scalars = ", ".join(v.name for v in averages[0].variables)
        shared, integrands = _shared([a.integrand for a in averages], "y", share)
        printer = _Printer()
        lines += ["", f"    def integrands({scalars}):", *_assignments(shared, " " * 8)]
        lines += [f"        return ({', '.join(printer.doprint(i) for i in integrands)},)", ""]
        values = [sp.Symbol(f"average_{i}") for i in range(len(averages))]
        lines.append(f"    {', '.join(v.name for v in values)}, = average(integrands)")
        replace = dict(zip(averages, values, strict=True))
        expressions = [e.xreplace(replace) for e in expressions]
    body = expressions[: len(targets)]
    lines += _assignments(zip(targets, body, strict=True), " " * 4)
    shared, results = _shared(expressions[len(targets) :], "x", share)
    lines += _assignments(shared, " " * 4)
    lines += ["    return {"]
    lines += [f"        {name!r}: {_Printer().doprint(x)}," for name, x in zip(program.outputs, results, strict=True)]
    return "\n".join([*lines, "    }"])


def module_source(ensemble: str, programs: Iterable[Program], share: bool = True) -> str:
    """Source text of a module with the lowered functions of one ensemble, and the fingerprint of its derivation."""
    parts = [
        f'"""Generated by replica_icl.lowering from the derivation of {ensemble}; `make lower` writes it again."""',
        f"FINGERPRINT = {fingerprint()!r}",
        *(lower(program, share) for program in programs),
    ]
    return "\n\n\n".join(parts) + "\n"


def compiled(ensemble: str, programs: Iterable[Program], share: bool = True) -> ModuleType:
    """The lowered functions of `programs`, made now and in memory."""
    module = ModuleType(f"replica_icl.lowered.{ensemble}")
    exec(compile(module_source(ensemble, programs, share), f"<lowered {ensemble}>", "exec"), module.__dict__)
    return module


def main() -> int:
    """Derive every ensemble afresh and write its lowered functions."""
    from replica_icl.theory import PROGRAMS

    folder = Path(__file__).with_name("lowered")
    for ensemble, programs in PROGRAMS.items():
        (folder / f"{ensemble}.py").write_text(module_source(ensemble, programs()), encoding="utf-8")
        print(f"lowered {ensemble}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
