"""The command line. Heavy imports happen inside the commands, so that `replica-icl --help` needs none of them.

Exit codes: 0 fine; 1 did not converge, or theory and simulation disagree; 2 wrong usage, told in one line.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from replica_icl import __version__
from replica_icl.errors import ParameterError
from replica_icl.exits import told, until_the_pipe_closes
from replica_icl.setting import LARGEST_SIZE, Setting

INTEGERS = ("D", "N", "P", "K")
RATIOS = {"alpha": "P", "nu": "N", "lam": "ridge", "kappa": "K"}
"""Each ratio and the raw number that stands for the same quantity."""


class _Parser(argparse.ArgumentParser):
    """Wrong usage is one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: error: {message}", file=sys.stderr)
        raise SystemExit(2)


def _joined(arguments: Sequence[str]) -> list[str]:
    """`--ridge -1e-3` as `--ridge=-1e-3`: argparse takes -1e-3 or -inf for an option and would not name the value."""
    joined: list[str] = []
    for text in arguments:
        if joined and text.startswith("-") and joined[-1].startswith("--") and "=" not in joined[-1]:
            try:
                float(text)
            except ValueError:
                pass
            else:
                joined[-1] += f"={text}"
                continue
        joined.append(text)
    return joined


def _integer(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        least = {
            "P": 1,
            "K": 1,
            "realisations": 1,
            "draws": 1,
            "workers": 1,
            "seed": 0,
            "epochs": 1,
            "batch": 1,
            "inner": 1,
        }.get(name, 2)
        raise ParameterError(name, text, f"must be an integer of at least {least}") from None


def _real(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        raise ParameterError(name, text, "must be a number") from None


def _given(args: argparse.Namespace, name: str) -> bool:
    return getattr(args, name, None) is not None


def _required(args: argparse.Namespace, names: Sequence[str], beside: str) -> None:
    for name in names:
        if not _given(args, name):
            raise ParameterError(name, "(not given)", f"is required {beside}")


def setting_from(args: argparse.Namespace) -> Setting:
    """The setting that the raw-number options describe."""
    _required(args, ("D", "N", "P", "ridge"), "(an experiment needs --D, --N, --P and --ridge)")
    numbers: dict[str, Any] = {name: _integer(name, getattr(args, name)) for name in INTEGERS}
    optional = {name: _real(name, getattr(args, name)) for name in ("noise", "beta")}
    numbers |= {name: value for name, value in optional.items() if value is not None}
    return Setting(**numbers, ridge=_real("ridge", args.ridge) or 0.0, minimum_norm=args.minimum_norm)


def point_from(args: argparse.Namespace) -> Any:
    """A Setting from raw numbers or Ratios from ratios; a mixture is refused."""
    ratios_given = [name for name in RATIOS if _given(args, name)]
    for name in ratios_given:
        if _given(args, RATIOS[name]):
            other = f"--{RATIOS[name]} {getattr(args, RATIOS[name])}"
            raise ParameterError(
                name, getattr(args, name), f"must not be given beside {other}: the same quantity twice"
            )
    raw_given = [name for name in (*INTEGERS, "ridge", "beta") if _given(args, name)]
    if ratios_given and raw_given:
        first = ratios_given[0]
        advice = f"must not be mixed with --{raw_given[0]}: give ratios (--alpha --nu --lam) or raw numbers, not both"
        raise ParameterError(first, getattr(args, first), advice)
    if not ratios_given:
        return setting_from(args)
    if args.level not in (None, "limit"):
        raise ParameterError("level", args.level, "must be limit when ratios are given; other levels need raw numbers")
    from replica_icl.ratios import Ratios

    _required(args, ("alpha", "nu", "lam"), "(the limit needs --alpha, --nu and --lam)")
    values = {name: _real(name, getattr(args, name)) for name in ("alpha", "nu", "lam", "kappa")}
    return Ratios(**values, noise=_real("noise", args.noise) or 0.0, minimum_norm=args.minimum_norm)


def _emit(args: argparse.Namespace, data: dict[str, Any], text: str) -> None:
    print(json.dumps(data) if args.json else text)


def _algorithm(args: argparse.Namespace) -> Any:
    """The name of an algorithm, or with the options of training how to train."""
    integers = {name: _integer(name, getattr(args, name)) for name in ("epochs", "batch", "inner")}
    reals = {name: _real(name, getattr(args, name)) for name in ("learning_rate", "initial_scale")}
    options: dict[str, Any] = {name: value for name, value in {**integers, **reals}.items() if value is not None}
    if not options:
        return args.algorithm
    from replica_icl.simulator.optimisers import OPTIMISERS, Training

    optimiser = next((name for name in OPTIMISERS if name == args.algorithm), None)
    if optimiser is None:
        first = next(iter(options))
        advice = f"must not be given without --algorithm {', '.join(OPTIMISERS[:-1])} or {OPTIMISERS[-1]}"
        raise ParameterError(first, options[first], advice)
    return Training(optimiser, **options)


def _run_options(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "realisations": _integer("realisations", args.realisations),
        "seed": _integer("seed", args.seed),
        "workers": _integer("workers", args.workers),
        "algorithm": _algorithm(args),
        "prompts": args.prompts,
        "law": args.law,
        "task_law": args.task_law,
        "progress": not args.json,
        **({"sphere": True} if args.sphere else {}),
        **({"usage": args.usage} if _given(args, "usage") else {}),
    }


def _task_file(args: argparse.Namespace) -> Any:
    """The task matrix of --tasks, None without it."""
    if not _given(args, "tasks"):
        return None
    import numpy as np

    try:
        return np.load(args.tasks, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise ParameterError("tasks", args.tasks, "must be a readable .npy file with a (K, D) matrix") from None


def _given_tasks(args: argparse.Namespace) -> int:
    """solve --level given-tasks: one task file, or an average over random task sets."""
    from replica_icl.numeric.given_tasks import average_over_tasks, solve_given_tasks

    if args.spread:
        raise ParameterError("spread", True, "must be asked for at level finite-size (--draws gives it over task sets)")
    setting, tasks = setting_from(args), _task_file(args)
    found: Any
    if tasks is not None:
        if args.sphere:
            raise ParameterError("sphere", True, "must not be given beside --tasks")
        found = solve_given_tasks(setting, tasks)
    else:
        if setting.K is None:
            raise ParameterError("K", "(not given)", "is required at level given-tasks (or --tasks FILE.npy)")
        draws, seed = _integer("draws", args.draws) or 0, _integer("seed", args.seed) or 0
        found = average_over_tasks(setting, draws, seed, args.sphere)
    data = found.to_dict()
    _emit(args, data, "\n".join(f"{name:<12} {_shown(value)}" for name, value in data.items()))
    return 0 if found.converged else 1


def solve_command(args: argparse.Namespace) -> int:
    from replica_icl.numeric.solve import solve

    if _given(args, "target_error") or _given(args, "sought"):
        return _target(args)
    if args.optimal_ridge:
        if args.spread:
            raise ParameterError("spread", True, "must not be given with --optimal-ridge")
        return _optimal_ridge(args)
    if args.level == "given-tasks" and not any(_given(args, name) for name in RATIOS):
        return _given_tasks(args)
    if _given(args, "tasks"):
        raise ParameterError("tasks", args.tasks, "must be given with --level given-tasks")
    point = point_from(args)
    spread = _spread(args, point) if args.spread else None
    tolerance = _real("tolerance", args.tolerance)
    if tolerance is None:
        solution = solve(point, level=args.level, throw=False)
    elif args.level in (None, "finite-size") and isinstance(point, Setting):
        solution = solve(point, level=args.level, throw=False, tolerance=tolerance)
    else:
        raise ParameterError("tolerance", args.tolerance, "must be given at level finite-size")
    data, text = solution.to_dict(), solution.table()
    if _given(args, "test_N") or _given(args, "test_noise"):
        if not isinstance(point, Setting):
            raise ParameterError(
                "alpha", args.alpha, "must not be given with other test contexts, which need raw numbers"
            )
        data["e_icl_test"] = _transfer(args, point, solution) if solution.converged else None
        text += f"\n{'e_icl_test':<12} {_shown(data['e_icl_test'])}"
    if spread is not None:
        data["spread"] = spread
        text += f"\n{'spread':<12} {_shown(spread)}"
    _emit(args, data, text)
    return 0 if solution.converged else 1


def _test_contexts(args: argparse.Namespace) -> dict[str, Any]:
    return {"N": _integer("test_N", args.test_N), "noise": _real("test_noise", args.test_noise)}


def _transfer(args: argparse.Namespace, setting: Setting, solution: Any) -> float:
    from replica_icl.numeric.questions.optimal_ridge import transfer_error

    return transfer_error(setting, solution, **_test_contexts(args))


def _spread(args: argparse.Namespace, point: Any) -> dict[str, float | None]:
    """Standard deviations over samples, None where the saddle point did not converge."""
    if args.level not in (None, "finite-size") or not isinstance(point, Setting):
        raise ParameterError("spread", True, "must be asked for at level finite-size, in raw numbers")
    from replica_icl.numeric.questions.sample_spread import sample_spread

    found = {name: float(values[0]) for name, values in sample_spread([point]).items()}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def _optimal_ridge(args: argparse.Namespace) -> int:
    from replica_icl.numeric.questions.optimal_ridge import optimal_ridge

    if _given(args, "ridge"):
        raise ParameterError("ridge", args.ridge, "must not be given with --optimal-ridge, which finds it")
    args.ridge = "1"
    best = optimal_ridge(setting_from(args), **_test_contexts(args))
    data = {"optimal_ridge": best.ridge, "interior": best.interior, "e_icl_test": best.test_error}
    text = "\n".join(f"{name:<13} {_shown(value)}" for name, value in data.items())
    _emit(args, data | best.solution.to_dict(), f"{text}\n{best.solution.table()}")
    return 0


SOUGHT = {"P": str(LARGEST_SIZE), "N": "2", "K": None, "alpha": "1e12", "nu": "1", "kappa": None}
"""Parameters of --for, each with a value that stands in its place until it is found."""


def _target(args: argparse.Namespace) -> int:
    """solve --target-error E --for P: the smallest value that reaches an error."""
    error, sought = args.target_error, args.sought
    if sought is None:
        raise ParameterError("target_error", error, f"must be given with --for {', '.join(SOUGHT)}")
    if sought not in SOUGHT:
        raise ParameterError("for", sought, f"must be one of {', '.join(SOUGHT)}")
    if error is None:
        raise ParameterError("for", sought, "must be given with --target-error")
    if _given(args, sought):
        raise ParameterError(sought, getattr(args, sought), f"must not be given with --for {sought}, which finds it")
    for name in ("tasks", "test_N", "test_noise", "optimal_ridge", "spread"):
        if value := getattr(args, name):
            raise ParameterError(name, value, "must not be given with --target-error")
    for name in RATIOS if sought in INTEGERS else (*INTEGERS, "ridge"):
        if _given(args, name):
            raise ParameterError("for", sought, f"must not be mixed with --{name}: ratios or raw numbers, not both")
    setattr(args, sought, SOUGHT[sought])
    from replica_icl.numeric.questions.target import smallest_ratio, smallest_size

    point, target = point_from(args), _real("target_error", error) or 0.0
    raw = isinstance(point, Setting)
    found = smallest_size(point, target, sought, args.level) if raw else smallest_ratio(point, target, sought)
    data = found.to_dict()
    _emit(args, data, "\n".join(f"{name:<12} {_shown(value)}" for name, value in data.items()))
    return 0


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(x)}" for name, x in value.items())
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def simulate_command(args: argparse.Namespace) -> int:
    from replica_icl.simulator.ensemble import simulate

    found = simulate(setting_from(args), **_run_options(args), tasks=_task_file(args), out=args.out)
    rows = [f"{'observable':<12} {'mean':<14} {'std. error':<12} {'spread':<10} {'n':>6}"]
    for name in found.values:
        one = found[name]
        rows.append(f"{name:<12} {one.mean:<14.8g} {_sem(one.sem):<12} {_sem(one.spread):<10} {one.n:>6}")
    _emit(args, found.to_dict(), "\n".join(rows))
    return 0


def _sem(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2g}"


def validate_command(args: argparse.Namespace) -> int:
    from replica_icl.meeting.validation import BIAS, Z_MAX, validate

    level = args.level or "finite-size"
    tasks = _task_file(args)
    if tasks is not None and level != "given-tasks":
        raise ParameterError("tasks", args.tasks, "must be given with --level given-tasks")
    result = validate(setting_from(args), level=level, **_run_options(args), tasks=tasks)
    allowance = f" plus a bias of {BIAS[level]}/D" if BIAS[level] else ""
    verdict = f"theory ({level}) and simulation {'agree' if result.agrees else 'disagree'}: |z| < {Z_MAX:g}{allowance}"
    _emit(args, result.to_dict(), f"{result.table()}\n{verdict}")
    return 0 if result.agrees else 1


def derive_command(args: argparse.Namespace) -> int:
    from replica_icl.narration import derive

    print(derive(args.name).render(args.format))
    return 0


def sweep_command(args: argparse.Namespace) -> int:
    from replica_icl.sweep.grid import read_grid
    from replica_icl.sweep.run import run_sweep

    if args.out is None:
        raise ParameterError("out", "(not given)", "is required: the netCDF file to write")
    workers = _integer("workers", args.workers)
    grid = read_grid(args.grid)
    found = run_sweep(grid, args.out, args.executor, workers, args.scheduler, progress=True)
    failed = {
        name: int((found[name] != 0).sum()) for name in ("status", "simulation_status") if name in found.data_vars
    }
    data = {"out": args.out, "sizes": dict(found.sizes), "points": len(grid.points), "failed": failed}
    shape = " x ".join(f"{size} {name}" for name, size in found.sizes.items()) or "one point"
    lines = [f"wrote {args.out}: {shape}"]
    lines += [f"{count} failed ({name}); they are NaN in the file" for name, count in failed.items() if count]
    _emit(args, data, "\n".join(lines))
    return 1 if any(failed.values()) else 0


def figure_command(args: argparse.Namespace) -> int:
    from replica_icl.plotting.figure import figure_names, load_figure

    names = figure_names() if args.name == "all" else (args.name,)
    figures = [load_figure(name) for name in names]
    seed = _integer("seed", args.seed)
    for figure in figures:
        paths = figure.make(args.out, args.quick, seed)
        print(f"{figure.name}: " + ", ".join(str(path) for path in paths))
    return 0


def published_command(args: argparse.Namespace) -> int:
    from replica_icl.meeting.published import against_theory, comparison_table
    from replica_icl.meeting.validation import Z_MAX

    realisations, seed = _integer("realisations", args.realisations) or 0, _integer("seed", args.seed) or 0
    rows = against_theory()
    table = comparison_table(rows)
    data: dict[str, Any] = {"points": [row.to_dict() for row in rows]}
    good = all(abs(row.z) < Z_MAX for row in rows)
    if args.out is not None:
        from replica_icl.report import check_by_simulation, write_report

        folder = Path(args.out)
        checked = check_by_simulation(rows, folder, realisations, seed)
        paths = write_report(checked, folder, seed)
        table += "\nwrote " + ", ".join(str(path) for path in paths)
        data["points"] = [one.to_dict() for one in checked]
        good = good and all(abs(c.z) < Z_MAX for c in checked)
    _emit(args, data, table)
    return 0 if good else 1


def _add_setting(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("raw numbers (Li et al.'s units, features divided by N)")
    group.add_argument("--D", help="token dimension, integer >= 2")
    group.add_argument("--N", help="context length, integer >= 2")
    group.add_argument("--P", help="number of pre-training prompts, integer >= 1")
    group.add_argument("--K", help="number of distinct pre-training tasks (default: every prompt has its own)")
    group.add_argument("--noise", metavar="RHO", help="variance of the label noise (default 0)")
    group.add_argument("--ridge", metavar="LAMBDA_0", help="ridge lambda_0 >= 0")
    group.add_argument("--beta", help="inverse temperature (default: the ground state)")
    parser.add_argument("--minimum-norm", action="store_true", help="at ridge 0: the solution of least norm")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--level", help="finite-size (default for raw numbers), limit or given-tasks")
    parser.add_argument("--tasks", metavar="FILE.npy", help="(K, D) task matrix, at level given-tasks")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--realisations", default="20", metavar="R", help="disorder realisations (default 20)")
    parser.add_argument("--seed", default="0", metavar="S", help="seed of the random streams (default 0)")
    parser.add_argument("--workers", help="processes; results do not depend on it (default: chosen)")
    parser.add_argument("--algorithm", help="dense, dual or cg (default: the cheapest exact one), or an optimiser")
    parser.add_argument("--prompts", default="tokens", help="tokens (default) or sufficient (their exact statistics)")
    parser.add_argument("--law", default="gaussian", help="of tokens: gaussian, rademacher, uniform, student-t, sparse")
    parser.add_argument("--task-law", help="of tasks (default: as --law)")
    parser.add_argument("--usage", help="of K tasks: random (one drawn per prompt) or equal (each used equally often)")
    parser.add_argument("--sphere", action="store_true", help="drawn tasks have norm sqrt(D)")
    training = parser.add_argument_group(
        "training (--algorithm gradient-flow, gd, sgd, momentum, adam or adamw; weight decay 2 lambda_0)"
    )
    training.add_argument("--epochs", help="passes over the prompts (default 1000)")
    training.add_argument("--learning-rate", metavar="ETA", help="default 0.001 for adam and adamw, otherwise 0.05")
    training.add_argument("--batch", help="prompts in a mini-batch (default: all)")
    training.add_argument("--initial-scale", metavar="S", help="standard deviation of the initial weights (default 0)")
    training.add_argument("--inner", help="inner dimension of separate W_Q and W_K (default: merged)")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="replica-icl", description="Theory and simulation of in-context learning in linear attention."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, run: Callable[[argparse.Namespace], int], summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.set_defaults(run=run)
        return sub

    solve = command("solve", solve_command, "solve one point of the theory")
    _add_setting(solve)
    ratios = solve.add_argument_group("ratios of the limit, instead of raw numbers")
    ratios.add_argument("--alpha", help="P / D^2")
    ratios.add_argument("--nu", help="N / D")
    ratios.add_argument("--kappa", help="K / D")
    ratios.add_argument("--lam", help="lambda_0 D")
    _add_level(solve)
    solve.add_argument("--tolerance", help="relative accuracy of the prompt averages at finite size (default 1e-7)")
    drawn = solve.add_argument_group("random task sets, at level given-tasks without --tasks")
    drawn.add_argument("--draws", default="1", help="task sets to average over (default 1)")
    drawn.add_argument("--seed", default="0", metavar="S", help="seed of the task draws (default 0)")
    drawn.add_argument("--sphere", action="store_true", help="tasks of norm sqrt(D), each used equally often")
    questions = solve.add_argument_group("questions to the finite-size theory")
    questions.add_argument("--test-N", dest="test_N", help="context length of the test prompts (default: as trained)")
    questions.add_argument("--test-noise", metavar="RHO", help="label noise of the test prompts (default: as trained)")
    questions.add_argument("--spread", action="store_true", help="also the standard deviation from sample to sample")
    questions.add_argument("--optimal-ridge", action="store_true", help="find the ridge of least test error")
    questions.add_argument("--target-error", metavar="E", help="find the smallest value that reaches this e_icl, of")
    questions.add_argument("--for", dest="sought", metavar="WHICH", help="P, N or K; with ratios alpha, nu or kappa")

    simulate = command("simulate", simulate_command, "simulate one ensemble of disorder realisations")
    _add_setting(simulate)
    _add_run(simulate)
    simulate.add_argument("--tasks", metavar="FILE.npy", help="(K, D) task matrix of all realisations")
    simulate.add_argument("--out", metavar="DIR", help="store every realisation there; a second call continues")

    validate = command("validate", validate_command, "theory and simulation side by side; exit 1 if they disagree")
    _add_setting(validate)
    _add_level(validate)
    _add_run(validate)

    derive = command("derive", derive_command, "print a derivation, step by step")
    derive.add_argument("name", help="fresh-tasks")
    derive.add_argument("--format", default="text", help="text (default), markdown or latex")

    sweep = command("sweep", sweep_command, "a grid of parameters into one dataset; a second call continues")
    sweep.add_argument("grid", metavar="GRID.toml", help="what is fixed, swept and computed")
    sweep.add_argument("--out", metavar="FILE.nc", help="netCDF file; finished cells are kept in FILE.nc.cells")
    sweep.add_argument(
        "--executor", default="processes", help="processes (default; or by its old name joblib), serial, dask"
    )
    sweep.add_argument("--workers", help="processes (default: one per processor); results do not depend on it")
    sweep.add_argument("--scheduler", metavar="ADDRESS", help="of a running dask scheduler, or its scheduler file")
    sweep.add_argument("--json", action="store_true", help="print one JSON object")

    figure = command("figure", figure_command, "draw one of the papers' figures, or all; a second call continues")
    figure.add_argument("name", metavar="NAME|all", help="as in figures/manifest.toml, e.g. li_fig4b")
    figure.add_argument("--quick", action="store_true", help="fewer realisations and smaller sizes")
    figure.add_argument("--out", metavar="DIR", default="results", help="folder of pictures, data and captions")
    figure.add_argument("--seed", metavar="S", help="seed of the random streams (default: that of the manifest)")

    published = command("published", published_command, "our theory against the published numbers; exit 1 beyond |z| 4")
    published.add_argument("--out", metavar="DIR", help="also simulate, and write a report with the figures there")
    published.add_argument("--realisations", default="10", metavar="R", help="of that simulation (default 10)")
    published.add_argument("--seed", default="0", metavar="S", help="of that simulation (default 0)")
    published.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the return value is the exit code."""

    def run() -> int:
        args = build_parser().parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
        return told(f"replica-icl {args.command}", lambda: args.run(args))

    return until_the_pipe_closes(run)


if __name__ == "__main__":
    sys.exit(main())
