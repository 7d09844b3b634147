"""The parser: options and help are written from the tables of parameters and options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from replica_icl import __version__
from replica_icl.commands import run
from replica_icl.exits import RENAMED
from replica_icl.options import ITERATING, OPTIONS, OUTSIDE, SIMULATION, STRUCTURE, TRAINERS, TRAINING
from replica_icl.parameter import Parameter
from replica_icl.parameters import RATIOS, SETTING

EXECUTORS = ("processes", "serial", "dask")


class _Parser(argparse.ArgumentParser):
    """Wrong usage is one line and exit code 2; options are not abbreviated."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **how})

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: error: {message}", file=sys.stderr)
        raise SystemExit(2)


class _Once(argparse.Action):
    """An option that may be given once; the value is kept as it was typed."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:  # fmt: skip
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option_string} {'' if self.nargs == 0 else values}".strip() + ": must be given once")
        setattr(namespace, self.dest, True if self.nargs == 0 else values)


def joined(arguments: Sequence[str]) -> list[str]:
    """`--ridge -1e-3` as `--ridge=-1e-3`: argparse takes -1e-3 or -inf for an option and would not name the value."""
    found: list[str] = []
    for text in arguments:
        if found and text.startswith("-") and found[-1].startswith("--") and "=" not in found[-1]:
            try:
                float(text)
            except ValueError:
                pass
            else:
                found[-1] += f"={text}"
                continue
        found.append(text)
    return found


def option_of(parameter: Parameter) -> str:
    """Its option: `--minimum-norm` of minimum_norm, `--for` of sought."""
    return f"--{RENAMED.get(parameter.name, parameter.name).replace('_', '-')}"


def add(parser: Any, parameters: Iterable[Parameter]) -> None:
    """Options of parameters, with their help."""
    for one in parameters:
        how: dict[str, Any] = {"dest": one.name, "action": _Once, "default": None, "help": one.meaning}
        if one.kind == "flag":
            how["nargs"] = 0
        elif one.metavar:
            how["metavar"] = one.metavar
        elif one.choices:
            how["metavar"] = "NAME"
        parser.add_argument(option_of(one), **how)


def _setting(parser: argparse.ArgumentParser) -> None:
    add(
        parser.add_argument_group("raw numbers (Li et al.'s units, features divided by N)"),
        (one for one in SETTING.values() if one.kind != "flag"),
    )
    add(parser, [SETTING["minimum_norm"]])
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _level(parser: argparse.ArgumentParser) -> None:
    from replica_icl.numeric.levels import LEVELS

    parser.add_argument("--level", action=_Once, metavar="LEVEL", help=f"of theory: {', '.join(LEVELS)}")
    add(parser, [OPTIONS["tasks"]])


def _structure(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("covariances, and test prompts other than the training ones")
    add(group, STRUCTURE.values())


def _run(parser: argparse.ArgumentParser) -> None:
    apart = (*TRAINING, *ITERATING, *STRUCTURE)
    add(parser, (one for name, one in SIMULATION.items() if name not in apart))
    _structure(parser)
    group = parser.add_argument_group(f"training (--algorithm {', '.join(TRAINERS)}; weight decay 2 lambda_0)")
    add(group, (SIMULATION[name] for name in TRAINING))
    group = parser.add_argument_group(f"message passing (--algorithm {', '.join(OUTSIDE)})")
    add(group, (SIMULATION[name] for name in ITERATING))


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="replica-icl", description="Theory and simulation of in-context learning in linear attention."
    )
    parser.add_argument("--version", action="version", version=__version__)
    subcommands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, run: Any, summary: str, epilog: str = "") -> argparse.ArgumentParser:
        sub = subcommands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=epilog or None,
            formatter_class=argparse.RawDescriptionHelpFormatter,  # the observables have a line each
        )
        sub.set_defaults(run=run)
        return sub

    solve = command("solve", run.solve, "solve one point of the theory", run.observables_told())
    _setting(solve)
    add(
        solve.add_argument_group("ratios of the limit, instead of raw numbers"),
        (RATIOS[name] for name in ("alpha", "nu", "kappa", "lam")),
    )
    _level(solve)
    add(solve, [OPTIONS["tolerance"]])
    drawn = ("draws", "seed", "sphere", "usage")
    add(
        solve.add_argument_group("random task sets, with K tasks at level given-tasks"),
        (OPTIONS[name] for name in drawn),
    )
    _structure(solve)
    # Shares and priors are for Python alone.
    apart = ("tolerance", "tasks", "shares", "prior", *drawn, *STRUCTURE)
    add(
        solve.add_argument_group("questions to the theory"),
        (one for name, one in OPTIONS.items() if name not in apart),
    )

    simulate = command("simulate", run.simulate, "simulate one ensemble of disorder realisations")
    _setting(simulate)
    _run(simulate)
    add(simulate, [OPTIONS["tasks"]])
    simulate.add_argument("--out", action=_Once, metavar="DIR", help="store every realisation; a second call continues")

    validate = command("validate", run.validate, "theory and simulation side by side; exit 1 if they disagree")
    _setting(validate)
    _level(validate)
    add(validate, [OPTIONS["tolerance"]])
    _run(validate)

    compare = command("compare", run.compare, "trained weights beside theory and exact ground states", run.WEIGHTS_TOLD)
    compare.add_argument("FILE", metavar="FILE", help="W, or W_K and W_Q (and W_V): .npy, .npz or .safetensors")
    group = compare.add_argument_group("the setting of the training (Li et al.'s units, features divided by N)")
    add(group, (SETTING[name] for name in ("D", "N", "P", "noise", "ridge")))
    compare.add_argument(
        "--names", nargs="+", metavar="ROLE=NAME", help="of arrays, e.g. W_K=attn.k.weight W_Q=q.weight"
    )
    compare.add_argument("--scale", action=_Once, metavar="FACTOR", help="multiplies the file's W (default 1)")
    add(compare, (SIMULATION[name] for name in ("realisations", "seed")))
    compare.add_argument("--json", action="store_true", help="print one JSON object")

    derive = command("derive", run.derive, "print a derivation, step by step")
    derive.add_argument("name", metavar="NAME", help="of a chapter, e.g. fresh-tasks; a wrong one gets the list")
    derive.add_argument("--format", action=_Once, help="text (default), markdown or latex")

    sweep = command("sweep", run.sweep, "a grid of parameters into one dataset; a second call continues")
    sweep.add_argument("grid", metavar="GRID.toml", help="what is fixed, swept and computed")
    sweep.add_argument("--out", action=_Once, metavar="FILE.nc", help="netCDF file; cells are kept in FILE.nc.cells")
    sweep.add_argument("--executor", action=_Once, help=f"{EXECUTORS[0]} (default), {' or '.join(EXECUTORS[1:])}")
    add(sweep, [SIMULATION["workers"]])
    sweep.add_argument("--scheduler", action=_Once, metavar="ADDRESS", help="of a running dask scheduler, or its file")
    sweep.add_argument("--json", action="store_true", help="print one JSON object")

    figure = command("figure", run.figure, "draw one of the papers' figures, or all; a second call continues")
    figure.add_argument("name", metavar="NAME|all", help="as in figures/manifest.toml, e.g. li_fig4b")
    figure.add_argument("--quick", action="store_true", help="fewer realisations and smaller sizes")
    figure.add_argument("--out", action=_Once, metavar="DIR", help="pictures, data and captions (default results)")
    add(figure, [SIMULATION["seed"]])

    published = command("published", run.published, "theory against the published numbers; exit 1 beyond |z| 4")
    published.add_argument("--out", action=_Once, metavar="DIR", help="also simulate, and write a report there")
    add(published, [SIMULATION["realisations"], SIMULATION["seed"]])
    published.add_argument("--json", action="store_true", help="print one JSON object")
    return parser
