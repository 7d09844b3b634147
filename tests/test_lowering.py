"""The bridge from SymPy to numbers: what it refuses, and that generated files are current in either arithmetic."""

import ast
import inspect
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp

from replica_icl.lowering import loading, writing
from replica_icl.lowering.model import Model
from replica_icl.lowering.source import Axis, Matrix, Program, Vector, VectorArgument, compiled, lower, module_source
from replica_icl.numeric.arithmetic import NUMPY, MpmathArithmetic
from replica_icl.numeric.averages.groups import Groups, multiplied_out
from replica_icl.symbolic.averages import Average
from replica_icl.theory import THEORIES

WRITTEN_WITH = "1.14.0"
"""SymPy of the committed files; another version may order terms in another way."""

x, y, z = sp.symbols("x y z", positive=True)


def program(**outputs: Any) -> Program:
    return Program(name="f", summary="An example.", arguments=(x, y), outputs=outputs)


def run(made: Program, share: bool = True, **values: Any) -> Any:
    return compiled("example", [made], share).f(NUMPY, **values)


def test_free_symbols_without_an_argument_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="f: total has free symbols without an argument: w, z"):
        program(total=x + z + sp.Symbol("w"))


def test_definitions_may_use_earlier_ones_only() -> None:
    with pytest.raises(ValueError, match="f: y has free symbols without an argument: z"):
        Program("f", "An example.", (x,), {"out": y}, definitions=((y, z + 1), (z, x)))


def test_free_symbol_inside_an_average_is_refused() -> None:
    with pytest.raises(ValueError, match="free symbols without an argument: w"):
        program(total=Average(z * sp.Symbol("w"), (z,)))


def test_rounded_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the rounded number 0\.1"):
        lower(program(total=sp.Float("0.1") * x))


def test_powers_that_one_text_cannot_serve_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot lower the power"):
        lower(program(total=x**y))
    with pytest.raises(ValueError, match="cannot lower the power"):
        lower(program(total=x ** sp.Rational(1, 3)))


def test_averages_over_two_laws_in_one_function_are_refused() -> None:
    with pytest.raises(ValueError, match="averages over different laws"):
        lower(program(total=Average(x * z, (z,)) + Average(y * x, (y,))))


def test_nested_averages_are_refused() -> None:
    inner = Average(z * y, (z,))
    with pytest.raises(ValueError, match="average"):
        lower(program(total=Average(x * inner, (x,))))


def test_integrand_cannot_use_a_definition() -> None:
    made = Program("f", "An example.", (x,), {"out": Average(y * z, (z,))}, definitions=((y, x**2),))
    with pytest.raises(ValueError, match="an integrand uses a definition: y"):
        lower(made)


def test_averages_are_taken_by_the_law_that_is_given() -> None:
    made = program(mean=Average(x * z + y, (z,)), log=sp.log(Average(z**2, (z,))))
    nodes, weights = np.array([1.0, 3.0]), np.array([0.25, 0.75])
    functions = compiled("example", [made])
    found = functions.f(
        NUMPY,
        lambda integrands: tuple(np.dot(f * np.ones(2), weights) for f in multiplied_out(integrands(nodes))),
        x=2.0,
        y=1.0,
    )
    assert found.mean == pytest.approx(2 * 2.5 + 1)
    assert found.log == pytest.approx(np.log(7.0))


@pytest.mark.parametrize("share", [True, False])
def test_expressions_have_their_values(share: bool) -> None:
    branches = sp.Piecewise((sp.sqrt(x), x > y), (1 / (x + y) ** 3, True))
    made = program(a=branches, b=sp.pi * sp.log(x / y) + sp.Rational(1, 7), c=sp.Abs(x - y) / sp.sqrt(x + y), d=1 / x)
    found = run(made, share, x=np.array([4.0, 1.0]), y=np.array([1.0, 3.0]))
    np.testing.assert_allclose(found.a, [2.0, 1 / 64])
    np.testing.assert_allclose(found.b, [np.pi * np.log(4) + 1 / 7, np.pi * np.log(1 / 3) + 1 / 7])
    np.testing.assert_allclose(found.c, [3 / np.sqrt(5), 1.0])
    np.testing.assert_allclose(found.d, [0.25, 1.0])


PAIR = Axis("PAIR", ("first", "second"))


@pytest.mark.parametrize("share", [True, False])
def test_vectors_and_matrices_hold_their_entries_in_the_order_of_their_axes(share: bool) -> None:
    given = VectorArgument("both", PAIR, (x, y))
    made = Program(
        "two_fields",
        "An example.",
        (given, z),
        {
            "sums": Vector.of(PAIR, [x + z, y + z]),
            "products": Matrix.of(PAIR, PAIR, [[1, x * z], [y * z, 2]]),
            "symmetric": Matrix.symmetric_of(PAIR, lambda i, j: (x, y)[i] * sp.log((x, y)[j] + z)),
        },
    )
    functions = compiled("example", [made], share)
    found = functions.two_fields(NUMPY, both=(3.0, 5.0), z=2.0)
    assert functions.PAIR == ("first", "second")
    assert type(found).__name__ == "TwoFields"
    assert found._fields == ("sums", "products", "symmetric")
    assert found.sums == (5.0, 7.0)
    assert found.products == ((1, 6.0), (10.0, 2))
    across = 3 * np.log(7.0)
    np.testing.assert_allclose(found.symmetric, [[3 * np.log(5.0), across], [across, 5 * np.log(7.0)]])


def test_entries_that_do_not_fit_their_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="3 entries along PAIR, which has 2"):
        Vector.of(PAIR, [x, y, z])
    with pytest.raises(ValueError, match="not a matrix over PAIR and PAIR"):
        Matrix.of(PAIR, PAIR, [[x, y], [z]])
    with pytest.raises(ValueError, match="f: sums has free symbols without an argument: z"):
        program(sums=Vector.of(PAIR, [x, z]))


def test_one_name_of_an_axis_has_one_meaning() -> None:
    turned = Axis("PAIR", ("second", "first"))
    with pytest.raises(ValueError, match="two axes have the name PAIR"):
        module_source("example", [program(a=Vector.of(PAIR, [x, y]), b=Vector.of(turned, [y, x]))])


# Generated files

LAW = ((0.3, 0.7), (0.75, 1.25))
"""Weights, and factors that spread the variables: a law of two points for any number of bound variables."""


@pytest.fixture(scope="module", params=THEORIES)
def derived(request: pytest.FixtureRequest) -> tuple[str, tuple[Program, ...]]:
    return request.param, import_module(f"replica_icl.theory.{request.param}").programs()


def average_in(number: Callable[[Any], Any]) -> Callable[..., tuple[Any, ...]]:
    def average(integrands: Callable[..., Groups]) -> tuple[Any, ...]:
        count = len(inspect.signature(integrands).parameters)
        values = [
            multiplied_out(integrands(*(number(scale) * number(1 + i) / number(4) + number(1) for i in range(count))))
            for scale in LAW[1]
        ]
        return tuple(
            sum((number(w) * v for w, v in zip(LAW[0], vs, strict=True)), number(0)) for vs in zip(*values, strict=True)
        )

    return average


def evaluate(functions: Any, program: Program, xp: Any, number: Callable[[Any], Any], seed: int) -> dict[str, Any]:
    """All values of a lowered function at a random point; arguments are between 1/2 and 2, D beside matrices is 2."""
    function = getattr(functions, program.name)
    names = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    rng = np.random.default_rng(seed)
    arguments: dict[str, Any] = {}
    matrices = [a for a in program.arguments if isinstance(a, sp.MatrixSymbol)]
    for name, argument in zip(names, program.arguments, strict=True):
        if argument in matrices:
            shape = tuple(int(size.subs(sp.Symbol("D", positive=True), 2)) for size in argument.shape)
            rows = rng.uniform(0.5, 2.0, shape)
            arguments[name] = rows if xp is NUMPY else xp.context.matrix(rows.tolist())
            continue
        vector = isinstance(argument, VectorArgument)
        draws = [number(value) for value in rng.uniform(0.5, 2.0, len(argument.symbols) if vector else 1)]
        arguments[name] = tuple(draws) if vector else draws[0]
    if matrices:
        arguments["D"] = number(2)
    given = (xp, average_in(number)) if "average" in inspect.signature(function).parameters else (xp,)
    with np.errstate(all="ignore"):
        return dict(flat(function(*given, **arguments)))


def flat(record: Any) -> Iterator[tuple[str, Any]]:
    """Every value of a record, with the place where it is."""
    for name, value in record._asdict().items():
        value = value.tolist() if hasattr(value, "tolist") else value  # a matrix in either arithmetic
        for i, row in enumerate(value if isinstance(value, tuple | list) else (value,)):
            for j, entry in enumerate(row if isinstance(row, tuple | list) else (row,)):
                yield f"{name}[{i}][{j}]", entry


def test_generated_file_equals_a_fresh_derivation_at_fifty_digits(derived: tuple[str, tuple[Program, ...]]) -> None:
    name, programs = derived
    generated, fresh = import_module(f"replica_icl.lowered.{name}").Functions, compiled(name, programs)
    xp = MpmathArithmetic(50)
    for program in programs:
        for seed in range(3):
            theirs = evaluate(generated, program, xp, xp.number, seed)
            ours = evaluate(fresh, program, xp, xp.number, seed)
            assert theirs.keys() == ours.keys()
            for output, value in ours.items():
                assert xp.context.almosteq(
                    theirs[output], value, rel_eps=mpmath.mpf(10) ** -42, abs_eps=mpmath.mpf(10) ** -42
                )


def test_generated_file_is_the_text_of_a_fresh_derivation(derived: tuple[str, tuple[Program, ...]]) -> None:
    if sp.__version__ != WRITTEN_WITH:
        pytest.skip(f"the files were written with SymPy {WRITTEN_WITH}")
    name, programs = derived
    path = loading.PACKAGE / "lowered" / f"{name}.py"
    assert path.read_text(encoding="utf-8") == writing.file_source(name, programs), "run `make lower`"


def test_the_folder_of_generated_files_holds_no_other() -> None:
    found = {path.stem for path in (loading.PACKAGE / "lowered").glob("*.py")}
    assert found == {"__init__", *THEORIES}
    assert len(ast.parse((loading.PACKAGE / "lowered" / "__init__.py").read_text("utf-8")).body) == 1, "a docstring"


def test_shared_subexpressions_and_arithmetics_agree(derived: tuple[str, tuple[Program, ...]]) -> None:
    """With and without common subexpressions: to 42 digits in mpmath, and to rounding between mpmath and float64."""
    name, programs = derived
    shared, plain = compiled(name, programs, share=True), compiled(name, programs, share=False)
    xp = MpmathArithmetic(50)
    for program in programs:
        exact = evaluate(plain, program, xp, xp.number, 11)
        for output, value in evaluate(shared, program, xp, xp.number, 11).items():
            assert xp.context.almosteq(
                value, exact[output], rel_eps=mpmath.mpf(10) ** -42, abs_eps=mpmath.mpf(10) ** -42
            )
        for functions in (shared, plain):
            for output, value in evaluate(functions, program, NUMPY, np.float64, 11).items():
                assert float(value) == pytest.approx(float(exact[output]), rel=1e-10, abs=1e-10), (program.name, output)


@pytest.fixture
def fresh_loader() -> Iterator[None]:
    loading.load.cache_clear()
    yield
    loading.load.cache_clear()


@pytest.mark.usefixtures("fresh_loader")
def test_current_file_is_used_as_it_is() -> None:
    assert loading.load("fresh_tasks_limit") is import_module("replica_icl.lowered.fresh_tasks_limit").Functions


@pytest.mark.usefixtures("fresh_loader")
def test_stored_numbers_are_keyed_by_the_functions_and_not_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    version = loading.derivation_version.__wrapped__
    current = version()
    assert version() == current
    text = Path(import_module("replica_icl.lowered.fresh_tasks").__file__).read_text()
    functions = loading.functions_text(text)
    assert "class Functions" in functions
    assert "SOURCES" not in functions
    assert loading.functions_text(text.replace("FINGERPRINT = '", "FINGERPRINT = 'other")) == functions
    with monkeypatch.context() as patch:
        patch.setattr(loading, "functions_text", lambda source: source.replace("xp.rational(1, 2)", "1"))
        assert version() != current  # another function
    monkeypatch.setattr(loading, "fingerprint", lambda sources: "of an edited source")
    monkeypatch.setattr(loading, "code_version", lambda *parts: f"sources of {', '.join(parts)}")
    assert version() == "sources of symbolic, model, theory, lowering"


@pytest.mark.parametrize("missing", [False, True], ids=["stale", "missing"])
def test_stale_or_missing_file_is_never_used(
    missing: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The derivation is replaced by a tiny one, so that what comes back tells where it comes from."""
    name = "not_generated" if missing else "fresh_tasks_limit"
    theory = ModuleType(f"replica_icl.theory.{name}")
    theory.__dict__["programs"] = lambda attention: (program(total=x + y),)
    monkeypatch.setitem(sys.modules, theory.__name__, theory)
    if not missing:
        monkeypatch.setattr(loading, "fingerprint", lambda sources: "another source")
    with caplog.at_level(logging.WARNING):
        functions = loading.load.__wrapped__(name)  # not kept for other tests
    assert functions.f(NUMPY, x=1.0, y=2.0).total == 3.0
    assert not hasattr(functions, "solution")
    assert "make lower" in caplog.text


def test_every_theory_of_a_model_is_one_that_is_lowered() -> None:
    assert {name for name, x in vars(Model).items() if isinstance(x, cached_property)} == set(THEORIES)


# Fingerprints


@pytest.mark.parametrize("theory", THEORIES)
def test_generated_file_has_the_fingerprint_of_its_sources(theory: str) -> None:
    module = import_module(f"replica_icl.lowered.{theory}")
    assert module.SOURCES == writing.sources_of(theory), "run `make lower`"
    assert module.FINGERPRINT == loading.fingerprint(module.SOURCES), "run `make lower`"


@pytest.mark.parametrize("theory", THEORIES)
def test_sources_of_a_theory_are_what_it_imports_and_nothing_else(theory: str) -> None:
    """Told by Python itself: what is loaded after the theory's module, but for the folders' `__init__.py`."""
    code = f"import sys, replica_icl.theory.{theory}; print(*(n for n in sys.modules if n.startswith('replica_icl.')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    files = {name.removeprefix("replica_icl.").replace(".", "/") + ".py" for name in loaded}
    assert {name for name in files if (loading.PACKAGE / name).is_file()} == set(writing.sources_of(theory))


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of all sources of the package, to be changed."""
    package = tmp_path / "replica_icl"
    for source in loading.PACKAGE.rglob("*.py"):
        copy = package / source.relative_to(loading.PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
    return package


def changed_by(package: Path, source: str, text: bytes = b"# changed\n") -> set[str]:
    """Theories whose fingerprint is another one after an addition to a source, which is then taken back."""
    path = package / source
    before = path.read_bytes() if path.is_file() else None
    loading._digest.cache_clear()
    old = {theory: loading.fingerprint(writing.sources_of(theory, package), package) for theory in THEORIES}
    path.write_bytes((before or b"") + text)
    loading._digest.cache_clear()
    new = {theory: loading.fingerprint(writing.sources_of(theory, package), package) for theory in THEORIES}
    loading._digest.cache_clear()
    path.unlink() if before is None else path.write_bytes(before)
    return {theory for theory in THEORIES if old[theory] != new[theory]}


def test_fingerprint_changes_with_the_sources_of_that_theory_alone(copied: Path) -> None:
    assert changed_by(copied, "theory/given_tasks.py") == {"given_tasks"}
    limit = {"fresh_tasks_limit", "gradient_flow", "prompt_fields", "task_diversity"}
    assert changed_by(copied, "theory/fresh_tasks_limit.py") == limit
    assert changed_by(copied, "model/priors/laplace.py") == {"prior_laplace"}
    assert changed_by(copied, "theory/task_spectrum.py") == {"gradient_flow", "marchenko_pastur", "task_diversity"}
    assert changed_by(copied, "lowering/source.py") == set(THEORIES)
    assert {"fresh_tasks", "task_diversity"} <= changed_by(copied, "model/attention/merged.py")


@pytest.mark.parametrize(
    "source",
    [
        "narration/fresh_tasks.py",
        "theory/__init__.py",
        "theory/another.py",
        "lowering/loading.py",
        "errors.py",
        "parameters.py",
        "priors.py",
    ],
)
def test_fingerprint_does_not_see_narrations_nor_other_theories(copied: Path, source: str) -> None:
    assert changed_by(copied, source) == set()


def test_a_source_that_is_newly_imported_belongs_to_the_fingerprint(copied: Path) -> None:
    (copied / "symbolic" / "new.py").write_text("x = 1\n", encoding="utf-8")
    assert changed_by(copied, "symbolic/new.py") == set()
    path = copied / "theory" / "task_spectrum.py"
    path.write_bytes(path.read_bytes() + b"\ndef late():\n    from replica_icl.symbolic import new\n")
    assert changed_by(copied, "symbolic/new.py") == {"task_diversity", "marchenko_pastur", "gradient_flow"}


def test_line_ends_are_no_change(copied: Path) -> None:
    path = copied / "theory" / "given_tasks.py"
    sources = writing.sources_of("given_tasks", copied)
    loading._digest.cache_clear()
    before = loading.fingerprint(sources, copied)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    loading._digest.cache_clear()
    assert loading.fingerprint(sources, copied) == before
    path.unlink()
    loading._digest.cache_clear()
    assert loading.fingerprint(sources, copied) != before
