"""The tables of the documentation, written from the one table of parameters and observables.

`python -m replica_icl.tables` prints docs/parameters.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from replica_icl.options import OPTIONS, SIMULATION
from replica_icl.parameter import REQUIRED, Parameter
from replica_icl.parameters import OBSERVABLES, PARTS, RATIOS, SETTING, STANDS_FOR

RIDGE = (
    ("`ridge`, `--ridge`", "`Setting`, command line, grid files, datasets", "lambda_0 of the energy"),
    ("`lambda_0`", "symbol of the derivations and of lowered functions", "the same number"),
    ("`lam`, `--lam`", "`Ratios`", "lambda_0 D, finite in the limit"),
    ("`field`, `field_u`", "lowered functions, solver", "ridge of each weight block in units where none is regular"),
    ("`lambda_u`", "lowered functions", "ridge of the last row where it is not lambda_0"),
    ("`weight_decay`", "optimisers", "2 lambda_0 (on the mean squared error without its 1/2)"),
    ("effective ridge `k`", "limit", "lam / s: what the ridge and unresolved directions amount to; no parameter"),
)
"""What the ridge is called on its way from the command line to the free energy, where and why."""


def _rows(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    head = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    return [*head, *(f"| {' | '.join(row)} |" for row in rows)]


def _symbol(symbol: str) -> str:
    return f"${symbol}$" if symbol else ""


def _parameter(one: Parameter) -> tuple[str, ...]:
    default = "" if one.default is None else "required" if one.default is REQUIRED else repr(one.default)
    stands = f"{one.meaning} (for `{STANDS_FOR[one.name]}`)" if one.name in STANDS_FOR else one.meaning
    allowed = one.allowed.removeprefix("must be ")
    return f"`{one.name}`", _symbol(one.symbol), stands.replace("|", r"\|"), allowed, default


def parameters() -> str:
    """The page of parameters, options and observables, as Markdown."""
    titles = ("name", "symbol", "meaning", "allowed", "default")
    page = ["# Parameters, options and observables", ""]
    page += ["Written by `python -m replica_icl.tables` from the table that everything else reads, too.", ""]
    page += ["## Raw numbers (`Setting`)", "", *_rows(titles, map(_parameter, SETTING.values())), ""]
    page += ["## Ratios of the limit (`Ratios`)", "", *_rows(titles, map(_parameter, RATIOS.values())), ""]
    page += ["## Options of a solve", "", *_rows(("name", "meaning", "allowed"), map(_option, OPTIONS.values())), ""]
    page += ["## Options of a simulation", ""]
    page += [*_rows(("name", "meaning", "allowed"), map(_option, SIMULATION.values())), ""]
    page += ["## Observables", ""]
    each = ((f"`{x.name}`", _symbol(x.symbol), x.meaning.replace("|", r"\|"), x.exists) for x in OBSERVABLES.values())
    page += [*_rows(("name", "symbol", "meaning", "where"), each), ""]
    page += ["The plain name is the best value. Beside it stand, as `NAME_PART` in datasets:", ""]
    page += [*_rows(("part", "meaning"), ((f"`{name}`", meaning) for name, meaning in PARTS.items())), ""]
    page += ["## Names of the ridge", "", *_rows(("name", "where", "what"), RIDGE), ""]
    return "\n".join(page)


def _option(one: Parameter) -> tuple[str, str, str]:
    allowed = "" if one.kind in ("array", "text") else one.allowed.removeprefix("must be ")
    return f"`{one.name}`", one.meaning, allowed


if __name__ == "__main__":
    print(parameters(), end="")
