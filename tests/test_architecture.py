"""The one-way flow: theory and simulation never import each other, and heavy libraries stay where they belong."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import replica_icl
from replica_icl.plotting import figure
from replica_icl.sweep import work

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "replica_icl"
LAZY = {name: module.removeprefix("replica_icl.") for name, module in replica_icl._PUBLIC.items()}

DERIVING = ("symbolic", "model", "theory", "lowering")
LOADING = ("lowering.loading", "lowering.model")
"""What of the lowering does not derive: numeric code imports these, and neither imports SymPy."""
THEORY = (*DERIVING, *LOADING, "narration", "lowered", "numeric", "conventions", "ratios")
GROUND = (
    "parameter",
    "parameters",
    "setting",
    "priors",
    "covariances",
    "options",
    "status",
    "answers",
    "citations",
    "errors",
    "keys",
    "store",
    "threads",
    "processes",
)
"""What theory and simulator may share: no scaling is in it."""
MEETING = ("meeting", "exits", "report", "cli", "commands", "plotting", "sweep", "dataset")
INTERFACES = ("<package>",)
"""`import replica_icl` hides what is used of it; only `from replica_icl import name` says so."""

FORBIDDEN = {
    "simulator": (*THEORY, *MEETING, "cavity", *INTERFACES),
    **{part: ("simulator", "cavity", *MEETING, *INTERFACES) for part in THEORY},
    "cavity": (*THEORY, *MEETING, *INTERFACES),
    "setting": (*THEORY, *MEETING, "simulator", "cavity", *INTERFACES),
    "errors": (*THEORY, *MEETING, "simulator", "cavity", "setting", *INTERFACES),
    **{part: (*THEORY, *MEETING, "simulator", "cavity", *INTERFACES) for part in ("keys", "store", "processes")},
    "numeric": ("simulator", "cavity", *MEETING, *DERIVING, *INTERFACES),
}
"""Part of the package -> parts that it never imports."""

FORBIDDEN_LIBRARIES = {
    "": ("torch", "jax"),
    "numeric": ("sympy",),
    "lowering.loading": ("sympy",),
    "lowering.model": ("sympy",),
    "simulator": ("sympy", "mpmath"),
}
"""Part of the package ("" for all of it) -> libraries that it never imports."""


def imported(source: str, module: str) -> Iterator[str]:
    """Dotted names that a module imports, anywhere in it; relative and constant dynamic imports are resolved.

    Args:
        source: text of the module.
        module: its dotted name; a package is told by a trailing ".__init__".
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*parent, *(node.module.split(".") if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            given: ast.AST = node.args[0]
            text = given.values[0] if isinstance(given, ast.JoinedStr) else given  # f"package.{name}": "package."
            if called in ("import_module", "__import__") and isinstance(text, ast.Constant):
                yield str(text.value)


def part_of(name: str) -> str | None:
    """The part of the package that an imported name belongs to, `None` for another library."""
    first, *rest = name.split(".")
    if first != "replica_icl":
        return None
    if not rest:
        return "<package>"
    if (found := ".".join(rest[:2])) in LOADING:
        return found
    return LAZY.get(rest[0], rest[0]).split(".")[0]  # `from replica_icl import solve` imports numeric.solve


def violations(source: str, module: str) -> list[str]:
    """What the module imports and must not, as "module -> name"."""
    part = part_of(module) or ""
    found = []
    for name in imported(source, module):
        library = name.split(".")[0]
        edges = part_of(name) in FORBIDDEN.get(part, ())
        if edges or any(library in FORBIDDEN_LIBRARIES.get(where, ()) for where in ("", part)):
            found.append(f"{module} -> {name}")
    return found


def modules() -> dict[str, str]:
    """Source of every module of the package by dotted name."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text("utf-8") for path in paths}


def test_no_module_imports_against_the_flow() -> None:
    sources = modules()
    assert {"replica_icl.setting", "replica_icl.numeric.limit", "replica_icl.simulator.ensemble"} <= set(sources)
    assert [line for module, source in sources.items() for line in violations(source, module)] == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("replica_icl.simulator.fake", "import replica_icl.numeric.solve"),
        ("replica_icl.simulator.fake", "import replica_icl.conventions as c"),
        ("replica_icl.simulator.fake", "from replica_icl.lowering.loading import load"),
        ("replica_icl.simulator.fake", "from replica_icl import solve"),
        ("replica_icl.simulator.fake", "from replica_icl import conventions"),
        ("replica_icl.simulator.fake", "import replica_icl"),
        ("replica_icl.simulator.fake", "from ..numeric import solve"),
        ("replica_icl.simulator.fake", "from ..meeting import validation"),
        ("replica_icl.simulator.__init__", "from ..symbolic.moments import concentrated_means"),
        ("replica_icl.simulator.fake", "def late():\n    from replica_icl.theory import THEORIES"),
        ("replica_icl.simulator.fake", "importlib.import_module('replica_icl.symbolic')"),
        ("replica_icl.simulator.fake", "import sympy as sp"),
        ("replica_icl.numeric.fake", "from replica_icl.simulator.ensemble import simulate"),
        ("replica_icl.numeric.fake", "from replica_icl import validate"),
        ("replica_icl.numeric.fake", "from replica_icl.symbolic import symbols"),
        ("replica_icl.numeric.fake", "from replica_icl.theory import THEORIES"),
        ("replica_icl.numeric.fake", "from replica_icl import lowering"),
        ("replica_icl.numeric.fake", "from replica_icl.lowering.source import compiled"),
        ("replica_icl.numeric.fake", "from replica_icl.lowering import loading, source"),
        ("replica_icl.lowering.loading", "import sympy as sp"),
        ("replica_icl.numeric.fake", "if x:\n    from sympy import Symbol"),
        ("replica_icl.symbolic.fake", "from replica_icl.simulator import features"),
        ("replica_icl.theory.fake", "from replica_icl.meeting.validation import compare"),
        ("replica_icl.lowering.source", "from replica_icl import simulate"),
        ("replica_icl.lowered.fake", "import replica_icl.simulator"),
        ("replica_icl.conventions", "from replica_icl.simulator.prompts import Prompts"),
        ("replica_icl.setting", "from replica_icl.conventions import ratios"),
        ("replica_icl.cli", "import torch"),
        ("replica_icl.plotting.fake", "from jax import numpy"),
    ],
)
def test_the_walk_sees_a_forbidden_import(module: str, line: str) -> None:
    assert len(violations(line, module)) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("replica_icl.simulator.fake", "from replica_icl.setting import Setting\nfrom replica_icl import __version__"),
        ("replica_icl.simulator.fake", "from replica_icl import Setting, ParameterError\nfrom .prompts import Prompts"),
        ("replica_icl.numeric.fake", "from replica_icl.lowering.model import Model\nimport numpy, mpmath"),
        ("replica_icl.symbolic.fake", "import sympy as sp\nfrom . import symbols"),
        ("replica_icl.meeting.validation", "from replica_icl import simulate, solve"),
    ],
)
def test_the_walk_lets_an_allowed_import_pass(module: str, line: str) -> None:
    assert violations(line, module) == []


def test_what_everything_imports_needs_no_other_library() -> None:
    """One setting is made without NumPy; arrays in one import it."""
    code = "import sys, replica_icl; replica_icl.Setting(D=4, N=8, P=20, ridge=0.1)\n"
    code += "raise SystemExit(', '.join({'numpy', 'sympy', 'scipy'} & set(sys.modules)) or 0)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")


def reach(*parts: str) -> set[str]:
    """Modules that parts of the package import, followed through everything that these import."""
    sources = modules()
    seen: set[str] = set()
    todo = [module for module in sources if module.split(".")[1] in parts or module in parts]
    assert todo
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        for name in imported(sources[module], module):
            head, *rest = name.split(".")
            if head == "replica_icl" and rest and rest[0] in LAZY:
                name = f"replica_icl.{LAZY[rest[0]]}.{rest[0]}"
            todo += [other for other in sources if name == other or name.startswith(f"{other}.")]
            todo += [other for other in sources if other == f"{name}.__init__"]
    return seen


def test_the_simulator_shares_with_the_theory_only_what_is_at_ground_level() -> None:
    """Followed through everything that each side imports, not only its own files."""
    theory, simulator = reach(*THEORY), reach("simulator")
    assert "replica_icl.numeric.solve" in theory
    assert "replica_icl.simulator.ensemble" in simulator
    assert theory & simulator <= {f"replica_icl.{module}" for module in (*GROUND, "__init__")}


@pytest.mark.parametrize("module", GROUND)
def test_what_is_at_ground_level_imports_only_that(module: str) -> None:
    """So no scaling can hide there: what both sides use is numbers, checks, files, threads and processes."""
    assert reach(f"replica_icl.{module}") <= {f"replica_icl.{each}" for each in GROUND}


def _of_figures() -> tuple[str, ...]:
    """The modules that figure scripts import."""
    scripts = [(path.stem, path.read_text("utf-8")) for path in (ROOT / "figures").glob("*.py")]
    names = {".".join(name.split(".")[:3]) for stem, source in scripts for name in imported(source, stem)}
    found = tuple(sorted(names & set(modules())))
    assert len(found) > 10
    return (*DERIVING, "lowered", *found)


FIGURES = _of_figures()
WITHOUT_NUMBERS = {
    "errors",
    "parameters",
    "store",
    "threads",
    "processes",
    "__init__",
    "options",
    "answers",
    "citations",
    "status",
}
"""Ground level that decides no number of a result, only whether there is one."""


@pytest.mark.parametrize(
    ("code", "computing"),
    [
        (work.THEORY_CODE, (*DERIVING, "lowered", "numeric")),
        (work.SIMULATION_CODE, ("simulator",)),
        (figure.CODE, FIGURES),
    ],
)
def test_a_key_covers_the_source_of_everything_that_decides_a_number(
    code: tuple[str, ...], computing: tuple[str, ...]
) -> None:
    """A module that a computation imports and its key forgets would let old results pass for new ones."""
    derivation = {*DERIVING, "lowered"}  # by the text of what is lowered: `lowering.loading.derivation_version`
    covered = {part.replace("/", ".") for part in code} | WITHOUT_NUMBERS | derivation
    inner = {module.removeprefix("replica_icl.") for module in reach(*computing)}
    forgotten = {module for module in inner if not any(f"{module}.".startswith(f"{part}.") for part in covered)}
    assert forgotten <= {
        "plotting.__init__",
        "plotting.figure",
        "plotting.manifest",
        "plotting.style",
        "cli",
        "exits",
    }  # frames


def dependencies(sources: dict[str, str]) -> dict[str, set[str]]:
    """Module -> modules that its import statements load, wherever in the file these stand.

    That is: at the top, inside a function, for the type checker alone, or by `import_module` of a constant (of a
    f-string: every module that it may name); and the `__init__` of every folder on the way, which Python runs first.
    Of the package's own `__init__`, which holds a table of public names, a name stands for the module that it is from.
    """

    def known(name: str) -> str | None:
        return next((found for found in (name, f"{name}.__init__") if found in sources), None)

    def loaded(name: str) -> Iterator[str]:
        head, *rest = name.split(".")
        if head != "replica_icl" or not rest:
            return
        if rest[0] in LAZY:
            rest = [*LAZY[rest[0]].split("."), *rest]
        if not rest[-1]:
            yield from (other for other in sources if other.startswith(f"{name}"))
        for length in range(1, len(rest) + 1):
            if (found := known(".".join([head, *rest[:length]]))) is not None:
                yield found

    return {
        module: {other for name in imported(source, module) for other in loaded(name)} - {module}
        for module, source in sources.items()
    }


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Sets of modules that reach each other (strongly connected components of more than one)."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = list(graph[start])
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                todo += graph[module]
        return seen

    reach_of = {module: reached(module) for module in graph}
    return {
        frozenset(other for other in reach_of[module] if module in reach_of[other])
        for module in graph
        if module in reach_of[module]
    }


def test_no_modules_import_each_other() -> None:
    graph = dependencies(modules())
    assert graph["replica_icl.lowering.loading"] >= {"replica_icl.theory.fresh_tasks", "replica_icl.theory.__init__"}
    assert "replica_icl.numeric.solve" in graph["replica_icl.meeting.validation"]
    assert circles(graph) == set()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("from replica_icl.b import y", "from replica_icl.a import x"),
        ("import replica_icl.b", "def late():\n    from replica_icl import a"),
        ("from .b import y", "if TYPE_CHECKING:\n    from replica_icl.a import x"),
        ("import_module('replica_icl.b')", "import_module(f'replica_icl.{name}')"),
    ],
)
def test_a_circle_is_found(first: str, second: str) -> None:
    sources = {"replica_icl.a": first, "replica_icl.b": second}
    assert circles(dependencies(sources)) == {frozenset({"replica_icl.a", "replica_icl.b"})}


def test_a_circle_by_way_of_a_folder_is_found() -> None:
    sources = {"replica_icl.p.__init__": "from replica_icl.p import a", "replica_icl.p.a": "import replica_icl.p.b"}
    sources["replica_icl.p.b"] = ""
    assert circles(dependencies(sources)) == {frozenset({"replica_icl.p.__init__", "replica_icl.p.a"})}


SECRET = [
    "/".join(parts)
    for parts in (("", "work", ""), ("", "tmp", "bash"), ("", "home", ""), ("", "Users", ""), ("..", "shared"))
]
"""Places on somebody's machine, put together here so that this file does not hold them."""


def machine_paths(text: str) -> list[str]:
    return [place for place in SECRET if place in text]


def test_no_file_of_the_repository_names_a_place_on_a_machine() -> None:
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a checkout")
    paths = [ROOT / name for name in listing.decode().split("\0") if name]
    assert ROOT / "pyproject.toml" in paths
    named = {}
    for path in paths:
        try:
            found = machine_paths(path.read_text("utf-8"))
        except (UnicodeDecodeError, FileNotFoundError):  # a binary file, or one deleted but not yet committed
            continue
        if found:
            named[str(path.relative_to(ROOT))] = found
    assert named == {}


def test_a_place_on_a_machine_is_seen() -> None:
    assert machine_paths("open('" + "/wo" + "rk/data.npy')") == ["/wo" + "rk/"]
    assert machine_paths("network/ and https://arxiv.org/abs/2405.11751") == []
    assert machine_paths(Path(__file__).read_text("utf-8")) == []


def test_the_lowest_versions_that_are_tested_are_those_that_are_promised() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    promised = [*project["dependencies"], *project["optional-dependencies"]["cluster"]]
    lines = (ROOT / "tests" / "lowest.txt").read_text("utf-8").splitlines()
    assert sorted(line.replace("==", ">=") for line in lines if not line.startswith("#")) == sorted(promised)
