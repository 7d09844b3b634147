"""Expressions become the source text of plain Python functions that return records with named fields.

A lowered function takes an arithmetic `xp` (NumPy arrays or mpmath numbers, see `numeric.arithmetic`) and its arguments
by name. Averages over a law become one call of the `average` that it is given, with all integrands of the function
evaluated together: as groups of a kernel, which has all that depends on the arguments, and the factors of the law's
scalars alone that multiply it, so that a group of averages is one product of matrices. What it returns is a record:
each field a value, a vector over named things or a matrix over them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import indent
from types import ModuleType
from typing import Any, TypeAlias

import sympy as sp
from sympy.printing.pycode import PythonCodePrinter

from replica_icl.symbolic.averages import Average
from replica_icl.symbolic.normal import NormalDensity, NormalTail


@dataclass(frozen=True)
class Axis:
    """Named things in an order of their own: the order parameters, the weight blocks.

    Attributes:
        name: of the constant that states the order beside the lowered functions.
        things: their names.
    """

    name: str
    things: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.things)


@dataclass(frozen=True)
class Vector:
    """One expression for each thing of an axis."""

    axis: Axis
    entries: tuple[sp.Expr, ...]

    @classmethod
    def of(cls, axis: Axis, entries: Iterable[Any]) -> Vector:
        return cls(axis, tuple(sp.sympify(x) for x in entries))

    def __post_init__(self) -> None:
        if len(self.entries) != len(self.axis):
            raise ValueError(f"{len(self.entries)} entries along {self.axis.name}, which has {len(self.axis)}")


@dataclass(frozen=True)
class Matrix:
    """One expression for each thing of one axis and each of another.

    Attributes:
        rows, columns: the axes.
        entries: row by row.
        symmetric: what is below the diagonal is what is above it, and is not computed again.
    """

    rows: Axis
    columns: Axis
    entries: tuple[tuple[sp.Expr, ...], ...]
    symmetric: bool = False

    @classmethod
    def of(cls, rows: Axis, columns: Axis, entries: Iterable[Iterable[Any]]) -> Matrix:
        return cls(rows, columns, tuple(tuple(sp.sympify(x) for x in row) for row in entries))

    @classmethod
    def symmetric_of(cls, axis: Axis, entry: Callable[[int, int], sp.Expr]) -> Matrix:
        """From the entries i <= j."""
        places = range(len(axis))
        upper = {(i, j): sp.sympify(entry(i, j)) for i in places for j in places[i:]}
        rows = tuple(tuple(upper[min(i, j), max(i, j)] for j in places) for i in places)
        return cls(axis, axis, rows, symmetric=True)

    def __post_init__(self) -> None:
        if [len(row) for row in self.entries] != [len(self.columns)] * len(self.rows):
            raise ValueError(f"the entries are not a matrix over {self.rows.name} and {self.columns.name}")


Output: TypeAlias = sp.Expr | Vector | Matrix


@dataclass(frozen=True)
class VectorArgument:
    """An argument that holds the value of several symbols, in the order of an axis."""

    name: str
    axis: Axis
    symbols: tuple[sp.Symbol, ...]


@dataclass(frozen=True)
class Program:
    """A function to be lowered.

    Attributes:
        name: of the function; its record has the same name in capitals.
        summary: what it returns, for the docstrings.
        arguments: symbols, vectors of them, or matrix symbols, that the caller gives.
        outputs: what the fields of the record hold, in arguments and defined symbols.
        definitions: (symbol, expression) pairs, each in arguments and earlier symbols.
        ingredients: symbol -> expression in arguments alone, computed before the rest with what they have in common
            computed once: outputs in such names stay short.
    """

    name: str
    summary: str
    arguments: tuple[sp.Symbol | sp.MatrixSymbol | VectorArgument, ...]
    outputs: Mapping[str, Output]
    definitions: tuple[tuple[sp.Symbol, sp.Expr], ...] = field(default=())
    ingredients: Mapping[sp.Symbol, sp.Expr] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = {x for a in self.arguments for x in (a.symbols if isinstance(a, VectorArgument) else (a,))}
        for symbol, expression in self.ingredients.items():
            self._refuse_unknown(symbol.name, expression, known)
        known |= set(self.ingredients)
        for symbol, expression in self.definitions:
            self._refuse_unknown(symbol.name, expression, known)
            known.add(symbol)
        for output, value in self.outputs.items():
            for expression in _entries(value):
                self._refuse_unknown(output, expression, known)

    def _refuse_unknown(self, target: str, expression: sp.Expr, known: set[sp.Symbol]) -> None:
        unknown = sorted(x.name for x in sp.sympify(expression).free_symbols - known)
        if unknown:
            raise ValueError(f"{self.name}: {target} has free symbols without an argument: {', '.join(unknown)}")

    @property
    def record(self) -> str:
        """Name of the record that the function returns."""
        return "".join(part.capitalize() for part in self.name.split("_"))

    @property
    def axes(self) -> list[Axis]:
        """What its vectors and matrices run over, each once."""
        found = [a.axis for a in self.arguments if isinstance(a, VectorArgument)]
        for value in self.outputs.values():
            found += [value.axis] if isinstance(value, Vector) else []
            found += [value.rows, value.columns] if isinstance(value, Matrix) else []
        return list(dict.fromkeys(found))


def _entries(value: Output) -> Iterator[sp.Expr]:
    """What has to be computed of an output."""
    if isinstance(value, Vector):
        yield from value.entries
    elif isinstance(value, Matrix):
        for i, row in enumerate(value.entries):
            yield from row[i:] if value.symmetric else row
    else:
        yield sp.sympify(value)


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

    def _print_atan2(self, expr: sp.Expr) -> str:
        return f"xp.atan2({self._print(expr.args[0])}, {self._print(expr.args[1])})"

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

    def _print_NormalTail(self, expr: NormalTail) -> str:
        return f"xp.normal_tail({self._print(expr.args[0])})"

    def _print_NormalDensity(self, expr: NormalDensity) -> str:
        return f"xp.normal_density({self._print(expr.args[0])})"

    def _print_Piecewise(self, expr: sp.Piecewise) -> str:
        *pieces, (last, _) = expr.args
        text = self._print(last)
        for value, condition in reversed(pieces):
            text = f"xp.where({self._print(condition)}, lambda: {self._print(value)}, lambda: {text})"
        return text

    def _print_Average(self, expr: Average) -> str:
        raise ValueError("an average inside an average cannot be lowered")

    def _print_MatMul(self, expr: sp.MatMul) -> str:
        factor, (product, *others) = expr.as_coeff_matrices()
        text = self._print(product)
        for other in others:
            text = f"xp.matmul({text}, {self._print(other)})"
        return text if factor == 1 else f"({self._print(factor)}) * {f'({text})' if not others else text}"

    def _print_MatAdd(self, expr: sp.MatAdd) -> str:
        return " + ".join(self._print(x) for x in expr.args)

    def _print_Inverse(self, expr: sp.Inverse) -> str:
        return f"xp.inverse({self._print(expr.arg)})"

    def _print_Identity(self, expr: sp.Identity) -> str:
        return f"xp.identity({self._print(expr.rows)})"


def _assignments(pairs: Iterable[tuple[sp.Symbol, sp.Expr]], indent: str) -> list[str]:
    printer = _Printer()
    return [f"{indent}{printer.doprint(x)} = {printer.doprint(expression)}" for x, expression in pairs]


def _shared(expressions: Sequence[sp.Expr], prefix: str, share: bool) -> tuple[list[Any], list[sp.Expr]]:
    if not share:
        return [], list(expressions)
    return sp.cse(list(expressions), symbols=sp.numbered_symbols(prefix))


def _used(program: Program) -> dict[sp.Symbol, sp.Expr]:
    """The ingredients that a definition or an output has."""
    expressions = [e for _, e in program.definitions]
    expressions += [x for value in program.outputs.values() for x in _entries(value)]
    met = {x for expression in expressions for x in sp.sympify(expression).free_symbols}
    return {symbol: value for symbol, value in program.ingredients.items() if symbol in met}


def _printable(ingredients: Mapping[sp.Symbol, sp.Expr]) -> dict[sp.Symbol, sp.Symbol]:
    """Symbols with names of their own in the text: ingredients may share names with each other and with arguments."""
    return {symbol: sp.Symbol(f"{symbol.name}_{i}") for i, symbol in enumerate(ingredients)}


def _grouped(averages: Sequence[Average]) -> dict[sp.Expr, list[tuple[Average, sp.Expr]]]:
    """Averages by the part of their integrand that depends on more than the law's scalars; each with what is left."""
    groups: dict[sp.Expr, list[tuple[Average, sp.Expr]]] = {}
    for average in averages:
        open_to = average.integrand.free_symbols - set(average.variables)
        factor, kernel = average.integrand.as_independent(*open_to, as_Add=False)
        groups.setdefault(kernel, []).append((average, factor))
    return groups


def lower(program: Program, share: bool = True) -> str:
    """The source text of one lowered function.

    Args:
        share: eliminate common subexpressions.

    Raises:
        ValueError: for free symbols without an argument (when the program is made) and for what cannot be lowered.
    """
    ingredients = _used(program)
    targets = [*ingredients, *(symbol for symbol, _ in program.definitions)]
    expressions = [sp.sympify(e) for e in (*ingredients.values(), *(e for _, e in program.definitions))]
    expressions += [x for value in program.outputs.values() for x in _entries(value)]
    found: list[Average] = []
    for expression in expressions:
        found += sorted((a for a in expression.atoms(Average) if a not in found), key=str)
    groups = _grouped(found)
    averages = [average for group in groups.values() for average, _ in group]
    if len({tuple(a.variables) for a in averages}) > 1:
        raise ValueError(f"{program.name}: averages over different laws in one function")
    needed_early = {x for a in averages for x in a.free_symbols} & set(targets)
    if needed_early:
        raise ValueError(f"{program.name}: an integrand uses a definition: {', '.join(x.name for x in needed_early)}")

    given = ["xp", *(["average"] if averages else []), *(["*"] if program.arguments else [])]
    vectors = [a for a in program.arguments if isinstance(a, VectorArgument)]
    names = [a.name if isinstance(a, VectorArgument) else _Printer().doprint(a) for a in program.arguments]
    lines = [f"def {program.name}({', '.join([*given, *names])}) -> {program.record}:", f'    """{program.summary}"""']
    lines += [f"    {', '.join(_Printer().doprint(x) for x in a.symbols)}, = {a.name}" for a in vectors]
    if averages:
        scalars = ", ".join(v.name for v in averages[0].variables)
        pieces = [x for kernel, group in groups.items() for x in (kernel, *(factor for _, factor in group))]
        shared, pieces = _shared(pieces, "y", share)
        texts = iter([_Printer().doprint(x) for x in pieces])
        lines += ["", f"    def integrands({scalars}):", *_assignments(shared, " " * 8), "        return ("]
        for group in groups.values():
            kernel, *factors = (next(texts) for _ in range(1 + len(group)))
            lines.append(f"            ({kernel}, ({', '.join(factors)},)),")
        lines += ["        )", ""]
        values = [sp.Symbol(f"average_{i}") for i in range(len(averages))]
        lines.append(f"    {', '.join(v.name for v in values)}, = average(integrands)")
        replace = dict(zip(averages, values, strict=True))
        expressions = [e.xreplace(replace) for e in expressions]
    first, body = expressions[: len(ingredients)], expressions[len(ingredients) : len(targets)]
    shared, first = _shared(first, "z", share)
    lines += _assignments(shared, " " * 4)
    printable = _printable(ingredients)
    lines += _assignments(zip(printable.values(), first, strict=True), " " * 4)
    body, rest = ([e.xreplace(printable) for e in part] for part in (body, expressions[len(targets) :]))
    lines += _assignments(zip(targets[len(ingredients) :], body, strict=True), " " * 4)
    shared, results = _shared(rest, "x", share)
    lines += _assignments(shared, " " * 4)
    texts = iter([_Printer().doprint(x) for x in results])
    fields: list[str] = []
    for name, value in program.outputs.items():
        text, named = _field(name, value, texts)
        lines += named
        fields += text
    return "\n".join([*lines, f"    return {program.record}(", *fields, "    )"])


def _field(name: str, value: Output, texts: Iterator[str]) -> tuple[list[str], list[str]]:
    """Lines that give a field of a record its value, and lines before that name what it holds twice."""
    if isinstance(value, Vector):
        return [f"        {name}=(", *(f"            {next(texts)}," for _ in value.entries), "        ),"], []
    if not isinstance(value, Matrix):
        return [f"        {name}={next(texts)},"], []
    named: list[str] = []
    cells: dict[tuple[int, int], str] = {}
    for i, row in enumerate(value.entries):
        for j in range(i if value.symmetric else 0, len(row)):
            cells[i, j] = next(texts)
            if value.symmetric and j > i and not cells[i, j].lstrip("-").isalnum():
                place = f"{name}_{value.rows.things[i]}_{value.columns.things[j]}"
                named.append(f"    {place} = {cells[i, j]}")
                cells[i, j] = place
            if value.symmetric:
                cells[j, i] = cells[i, j]
    lines = [f"        {name}=("]
    for i, row in enumerate(value.entries):
        lines += ["            (", *(f"                {cells[i, j]}," for j in range(len(row))), "            ),"]
    return [*lines, "        ),"], named


def _record(program: Program) -> str:
    """The source text of what a lowered function returns."""
    lines = [f"class {program.record}(NamedTuple):", f'    """{program.summary}"""', ""]
    for name, value in program.outputs.items():
        if isinstance(value, Vector):
            lines.append(f"    {name}: Vector  # {value.axis.name}")
        elif isinstance(value, Matrix):
            lines.append(f"    {name}: Matrix  # {value.rows.name} x {value.columns.name}")
        else:
            lines.append(f"    {name}: Any")
    return "\n".join(lines)


def module_source(theory: str, programs: Sequence[Program], share: bool = True) -> str:
    """Source text of a module: the records, and the class `Functions` that holds the axes and the lowered functions.

    Raises:
        ValueError: for two axes of one name, and as `lower`.
    """
    axes: dict[str, Axis] = {}
    for axis in (axis for program in programs for axis in program.axes):
        if axes.setdefault(axis.name, axis) != axis:
            raise ValueError(f"{theory}: two axes have the name {axis.name}")
    lines = ["class Functions:", f'    """The lowered functions of {theory}."""']
    if axes:
        lines.append("")
    for axis in axes.values():
        lines.append(f"    {axis.name} = ({', '.join(map(repr, axis.things))},)")
    functions = [indent(f"@staticmethod\n{lower(program, share)}", " " * 4) for program in programs]
    preamble = "from typing import Any, NamedTuple\n\nVector = tuple[Any, ...]\nMatrix = tuple[Vector, ...]"
    body = "\n\n".join(["\n".join(lines), *functions])
    return "\n\n\n".join([preamble, *(_record(program) for program in programs), body]) + "\n"


def compiled(theory: str, programs: Sequence[Program], share: bool = True) -> Any:
    """The lowered functions of `programs`, made now and in memory: the class `Functions`."""
    module = ModuleType(f"replica_icl.lowered.{theory}")
    exec(compile(module_source(theory, programs, share), f"<lowered {theory}>", "exec"), module.__dict__)
    return module.Functions
