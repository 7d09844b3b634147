"""The commands: options become parameters by name, an answer is printed as text or as one JSON object."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from replica_icl.errors import ParameterError
from replica_icl.options import ITERATING, OPTIONS, OUTSIDE, SIMULATION, STRUCTURE, TRAINERS, TRAINING
from replica_icl.parameter import REQUIRED, Parameter, read_npy
from replica_icl.parameters import OBSERVABLES, RATIOS, SETTING, STANDS_FOR
from replica_icl.priors import PENALTIES, penalties_of


def parsed(args: argparse.Namespace, table: Mapping[str, Parameter]) -> dict[str, Any]:
    """The values that were given of the parameters of a table.

    Raises:
        ParameterError: a value that is not allowed, as it was typed.
    """
    found = {}
    for name, parameter in table.items():
        text = getattr(args, name, None)
        if text is not None:
            found[name] = text if parameter.kind in ("flag", "array", "text") else parameter.parse(text)
    return found


def observables_told() -> str:
    """What the levels leave out and the observables, one on a line, for the help."""
    from replica_icl.numeric.levels import LEVELS

    levels = [f"  {one.name:<12} {one.neglects.replace('`', '')}" for one in LEVELS.values()]
    each = [f"  {one.name:<12} {one.meaning}{f' ({one.exists})' * bool(one.exists)}" for one in OBSERVABLES.values()]
    head = [
        "What is printed under a plain name is the best value: at finite size the saddle point with its",
        "next order added, with both parts and an estimate of the theory's own error beside it.",
        "",
        "levels of theory leave out:",
        *levels,
        "",
        "observables:",
    ]
    return "\n".join([*head, *each])


def _emit(args: argparse.Namespace, data: Mapping[str, Any], text: str) -> None:
    print(json.dumps(data) if args.json else text)


def known_from(args: argparse.Namespace, found: tuple[str, ...] = ()) -> dict[str, Any]:
    """Parameters by name, raw numbers or ratios; a mixture is refused.

    Args:
        found: parameters that are not required, because they are what is asked for.
    """
    given_ratios = [name for name in STANDS_FOR if getattr(args, name, None) is not None]
    for name in given_ratios:
        if (other := getattr(args, STANDS_FOR[name], None)) is not None:
            advice = f"must not be given beside --{STANDS_FOR[name]} {other}: the same quantity twice"
            raise ParameterError(name, getattr(args, name), advice)
    raw = [name for name in ("D", "N", "P", "K", "ridge", "beta", *PENALTIES) if getattr(args, name) is not None]
    if given_ratios and raw:
        first = given_ratios[0]
        advice = f"must not be mixed with --{raw[0]}: give ratios (--alpha --nu --lam) or raw numbers, not both"
        raise ParameterError(first, getattr(args, first), advice)
    table = RATIOS if given_ratios else SETTING
    beside = "(the limit needs --alpha, --nu and --lam)" if given_ratios else (
        "(an experiment needs --D, --N, --P and --ridge)"
    )  # fmt: skip
    asked = found
    if any(getattr(args, name) is not None or name in found for name in PENALTIES):
        found = (*found, "ridge")  # none is a ridge of zero
    for name, parameter in table.items():
        if parameter.default is REQUIRED and getattr(args, name) is None and name not in found:
            raise ParameterError(name, "(not given)", f"is required {beside}")
    known = parsed(args, table)
    if penalties_of(known) and "ridge" not in (*known, *asked):
        known["ridge"] = 0.0
    return known


def _refuse_idle_minimum_norm(known: Mapping[str, Any]) -> None:
    """The minimum norm where the ground state is unique anyway."""
    if not known.get("minimum_norm"):
        return
    if "D" in known:
        idle = known.get("ridge", 0) > 0 or known.get("P", 0) >= known["D"] * (known["D"] + 1)
    else:
        idle = known.get("lam", 0) > 0 or known.get("alpha", 0) >= 1
    if idle:
        raise ParameterError("minimum_norm", True, "must be given without a ridge and below P = D (D + 1) only: "
                             "elsewhere the ground state is unique")  # fmt: skip


def _task_file(args: argparse.Namespace) -> Any:
    """The task matrix of --tasks, None without it."""
    if args.tasks is None:
        return None
    return read_npy("tasks", args.tasks, "(K, D)")


def solve(args: argparse.Namespace) -> int:
    options = parsed(args, OPTIONS)
    from replica_icl.numeric.questions.registry import question_of

    question = question_of(options)
    found = question.finds(options)
    if question.name == "target-error":
        _check_search(args, options)
    known = known_from(args, found)
    _refuse_idle_minimum_norm({name: x for name, x in known.items() if name not in found})
    if args.tasks is not None:
        options["tasks"] = args.tasks
    from replica_icl.numeric.solve import answer, check_answerable

    check_answerable(known, args.level, **options)
    if args.tasks is not None:
        options["tasks"] = _task_file(args)
    one = answer(known, args.level, **options)
    _emit(args, one.to_dict(), one.table())
    return 0 if one.converged else 1


def _check_search(args: argparse.Namespace, options: Mapping[str, Any]) -> None:
    """--target-error with --for, and with parameters of the same kind as the one that is sought."""
    names = ", ".join(OPTIONS["sought"].choices)
    if "sought" not in options:
        raise ParameterError("target_error", args.target_error, f"must be given with --for {names}")
    if "target_error" not in options:
        raise ParameterError("sought", args.sought, "must be given with --target-error")
    sought = options["sought"]
    if getattr(args, sought) is not None:
        raise ParameterError(sought, getattr(args, sought), f"must not be given with --for {sought}, which finds it")
    for name in STANDS_FOR if sought in SETTING else ("D", "N", "P", "K", "ridge", *PENALTIES):
        if getattr(args, name, None) is not None:
            raise ParameterError("sought", sought, f"must not be mixed with --{name}: ratios or raw numbers, not both")


def _run_options(args: argparse.Namespace, fewest: int = 1) -> dict[str, Any]:
    """Keyword arguments of `simulate`, with at least the `fewest` realisations."""
    options = parsed(args, {**SIMULATION, "realisations": replace(SIMULATION["realisations"], least=fewest)})
    training = {name: options.pop(name) for name in TRAINING if name in options}
    if training and options.get("algorithm") not in TRAINERS:
        first = next(iter(training))
        advice = f"must not be given without --algorithm {', '.join(TRAINERS[:-1])} or {TRAINERS[-1]}"
        raise ParameterError(first, getattr(args, first), advice)
    if training:
        from replica_icl.simulator.optimisers import Training

        options["algorithm"] = Training(options["algorithm"], **training)
    if options.get("algorithm") in OUTSIDE or any(name in options for name in ITERATING):
        from replica_icl.meeting.message_passing import algorithm_of

        options = algorithm_of(options)
    return {"realisations": 20, **options, "progress": not args.json}


def _setting(args: argparse.Namespace) -> Any:
    from replica_icl.setting import Setting

    known = known_from(args)
    _refuse_idle_minimum_norm(known)
    return Setting(**known)


def simulate(args: argparse.Namespace) -> int:
    options, setting, tasks = _run_options(args), _setting(args), _task_file(args)
    if tasks is not None and args.task_law is not None:
        raise ParameterError("task_law", args.task_law, "must not be given beside --tasks: no task is drawn")
    from replica_icl.simulator.ensemble import simulate as run

    found = run(setting, **options, tasks=tasks, out=args.out)
    _emit(args, found.to_dict(), found.table())
    return 0


def validate(args: argparse.Namespace) -> int:
    options, setting = _run_options(args, fewest=2), _setting(args)  # one realisation has no standard error
    theory = parsed(args, {"tolerance": OPTIONS["tolerance"]})
    structure = {name: options[name] for name in STRUCTURE if name in options}
    from replica_icl.numeric.solve import check_answerable

    known = {name: x for name in SETTING if (x := getattr(setting, name)) is not None}
    beside = {} if args.tasks is None else {"tasks": args.tasks}
    check_answerable(known, args.level, **theory, **structure, **beside)
    tasks = _task_file(args)
    from replica_icl.meeting import validation

    result = validation.validate(setting, level=args.level, **theory, **options, tasks=tasks)
    allowance = f" plus a bias of {result.bias}/D" if result.bias else ""
    verdict = "agree" if result.agrees else "disagree"
    told = f"theory ({result.level.name}) and simulation {verdict}: |z| < {validation.Z_MAX:g}{allowance}"
    _emit(args, result.to_dict(), f"{result.table()}\n{told}")
    return 0 if result.agrees else 1


WEIGHTS_TOLD = """units: the prediction is entry (D+1, N+1) of (1/N) Z Z^T W Z, W = W_K^T W_Q, context side
first (torch's Linear keeps W_K and W_Q so). For another convention W = FACTOR times that of the file:
  features divided by N + 1      --scale N/(N+1), as a number
  not divided                    --scale N
  keys . queries / sqrt(inner)   these times 1/sqrt(inner)
--ridge is that of the scaled W: half the weight decay on the file's W, divided by FACTOR^2."""


def compare(args: argparse.Namespace) -> int:
    setting = {name: SETTING[name] for name in ("D", "N", "P", "noise", "ridge")}
    for name, parameter in setting.items():
        if parameter.default is REQUIRED and getattr(args, name) is None:
            raise ParameterError(name, "(not given)", "is required (the setting that the weights were trained at)")
    names = None
    if args.names is not None:
        for text in args.names:
            if not all(text.partition("=")):
                raise ParameterError("names", text, "must be ROLE=NAME, e.g. W_K=attn.k.weight")
        pairs = [text.split("=", 1) for text in args.names]
        names = {role: name for role, name in pairs}
        if len(names) < len(pairs):
            raise ParameterError("names", " ".join(args.names), "must name each role once")
    try:
        scale = 1.0 if args.scale is None else float(args.scale)
    except ValueError:
        raise ParameterError("scale", args.scale, "must be a positive number") from None
    least = replace(SIMULATION["realisations"], least=2)
    how = parsed(args, {"realisations": least, "seed": SIMULATION["seed"]})
    from replica_icl.setting import Setting

    known = Setting(**parsed(args, setting))
    from replica_icl.meeting.checkpoint import read_weights

    weights = read_weights(args.FILE, known.D, names, scale)
    from replica_icl.meeting.compare import compare as beside

    found = beside(weights, known, **how)
    _emit(args, found.to_dict(), found.table())
    return 0


def derive(args: argparse.Namespace) -> int:
    from replica_icl.narration import catalogue

    print(catalogue.derive(args.name).render(args.format or "text"))
    return 0


def sweep(args: argparse.Namespace) -> int:
    if args.out is None:
        raise ParameterError("out", "(not given)", "is required: the netCDF file to write")
    workers = parsed(args, {"workers": SIMULATION["workers"]}).get("workers")
    if not Path(args.grid).is_file():
        raise ParameterError("grid", args.grid, "must be a readable TOML file")
    executor = args.executor or "processes"
    from replica_icl.sweep.executors import check_executor
    from replica_icl.sweep.place import new_file

    check_executor(executor, workers, args.scheduler)
    new_file(args.out)
    from replica_icl.sweep.grid import read_grid

    grid = read_grid(args.grid)
    from replica_icl.sweep.run import run_sweep

    found = run_sweep(grid, args.out, executor, workers, args.scheduler, progress=True)
    failed = {
        name: int((found[name] != 0).sum()) for name in ("status", "simulation_status") if name in found.data_vars
    }
    data = {"out": args.out, "sizes": dict(found.sizes), "points": len(grid.points), "failed": failed}
    shape = " x ".join(f"{size} {name}" for name, size in found.sizes.items()) or "one point"
    text = [f"wrote {args.out}: {shape}"]
    text += [f"{count} failed ({name}); they are NaN in the file" for name, count in failed.items() if count]
    _emit(args, data, "\n".join(text))
    return 1 if any(failed.values()) else 0


def figure(args: argparse.Namespace) -> int:
    seed = parsed(args, {"seed": SIMULATION["seed"]}).get("seed")
    from replica_icl.plotting.manifest import named_figures

    names = named_figures(args.name)
    from replica_icl.plotting.figure import load_figure

    for one in [load_figure(name) for name in names]:
        paths = one.make(args.out or "results", args.quick, seed)
        print(f"{one.name}: " + ", ".join(str(path) for path in paths))
    return 0


def published(args: argparse.Namespace) -> int:
    options = parsed(args, {name: SIMULATION[name] for name in ("realisations", "seed")})
    if args.out is None:
        for name, value in options.items():
            raise ParameterError(name, value, "must be given with --out, which simulates")
    elif options.get("realisations", 2) < 2:
        raise ParameterError("realisations", args.realisations, "must be an integer of at least 2")
    else:
        from replica_icl.store import check_folder

        check_folder(args.out)
    from replica_icl.meeting.published import against_theory, comparison_table
    from replica_icl.meeting.validation import Z_MAX

    rows = against_theory()
    table = comparison_table(rows)
    data: dict[str, Any] = {"points": [row.to_dict() for row in rows]}
    good = all(abs(row.z) < Z_MAX for row in rows)
    if args.out is not None:
        from replica_icl.report import check_by_simulation, write_report

        folder, seed = Path(args.out), options.get("seed", 0)
        checked = check_by_simulation(rows, folder, options.get("realisations", 10), seed)
        paths = write_report(checked, folder, seed)
        table += "\nwrote " + ", ".join(str(path) for path in paths)
        data["points"] = [one.to_dict() for one in checked]
        good = good and all(abs(c.z) < Z_MAX for c in checked)
    _emit(args, data, table)
    return 0 if good else 1
