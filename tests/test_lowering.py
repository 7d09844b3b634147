"""The bridge from SymPy to numbers: what it refuses, and that generated files are current in either arithmetic."""

import inspect
import logging
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy as sp

from replica_icl import lowered
from replica_icl.lowering import Program, compiled, lower, module_source
from replica_icl.numeric.arithmetic import NUMPY, MpmathArithmetic
from replica_icl.symbolic.averages import Average
from replica_icl.theory import PROGRAMS

WRITTEN_WITH = "1.14.0"
"""SymPy of the committed files; another version may order terms in another way."""

x, y, z = sp.symbols("x y z", positive=True)


def program(**outputs: sp.Expr) -> Program:
    return Program(name="f", summary="An example.", arguments=(x, y), outputs=outputs)


def run(made: Program, share: bool = True, **values: Any) -> dict[str, Any]:
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
        NUMPY, lambda integrands: tuple(np.dot(f * np.ones(2), weights) for f in integrands(nodes)), x=2.0, y=1.0
    )
    assert found["mean"] == pytest.approx(2 * 2.5 + 1)
    assert found["log"] == pytest.approx(np.log(7.0))


@pytest.mark.parametrize("share", [True, False])
def test_expressions_have_their_values(share: bool) -> None:
    branches = sp.Piecewise((sp.sqrt(x), x > y), (1 / (x + y) ** 3, True))
    made = program(a=branches, b=sp.pi * sp.log(x / y) + sp.Rational(1, 7), c=sp.Abs(x - y) / sp.sqrt(x + y), d=1 / x)
    found = run(made, share, x=np.array([4.0, 1.0]), y=np.array([1.0, 3.0]))
    np.testing.assert_allclose(found["a"], [2.0, 1 / 64])
    np.testing.assert_allclose(found["b"], [np.pi * np.log(4) + 1 / 7, np.pi * np.log(1 / 3) + 1 / 7])
    np.testing.assert_allclose(found["c"], [3 / np.sqrt(5), 1.0])
    np.testing.assert_allclose(found["d"], [0.25, 1.0])


# Generated files

LAW = ((0.3, 0.7), (0.75, 1.25))
"""Weights, and factors that spread the variables: a law of two points for any number of bound variables."""


@pytest.fixture(scope="module", params=sorted(PROGRAMS))
def derived(request: pytest.FixtureRequest) -> tuple[str, tuple[Program, ...]]:
    return request.param, PROGRAMS[request.param]()


def average_in(number: Callable[[Any], Any]) -> Callable[..., tuple[Any, ...]]:
    def average(integrands: Callable[..., tuple[Any, ...]]) -> tuple[Any, ...]:
        count = len(inspect.signature(integrands).parameters)
        values = [
            integrands(*(number(scale) * number(1 + i) / number(4) + number(1) for i in range(count)))
            for scale in LAW[1]
        ]
        return tuple(
            sum((number(w) * v for w, v in zip(LAW[0], vs, strict=True)), number(0)) for vs in zip(*values, strict=True)
        )

    return average


def evaluate(
    functions: ModuleType, program: Program, xp: Any, number: Callable[[Any], Any], seed: int
) -> dict[str, Any]:
    """A lowered function at a random point; arguments between 1/2 and 2, the inner names as the function has them."""
    function = getattr(functions, program.name)
    names = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    draws = np.random.default_rng(seed).uniform(0.5, 2.0, len(names))
    given = (xp, average_in(number)) if "average" in inspect.signature(function).parameters else (xp,)
    with np.errstate(all="ignore"):
        return function(*given, **{name: number(value) for name, value in zip(names, draws, strict=True)})


def test_generated_file_equals_a_fresh_derivation_at_fifty_digits(derived: tuple[str, tuple[Program, ...]]) -> None:
    name, programs = derived
    generated, fresh = import_module(f"replica_icl.lowered.{name}"), compiled(name, programs)
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
    path = Path(lowered.__file__).with_name(f"{name}.py")
    assert path.read_text(encoding="utf-8") == module_source(name, programs), "run `make lower`"


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
    lowered.load.cache_clear()
    yield
    lowered.load.cache_clear()


@pytest.mark.usefixtures("fresh_loader")
def test_current_file_is_used_as_it_is() -> None:
    assert lowered.load("fresh_tasks_limit") is import_module("replica_icl.lowered.fresh_tasks_limit")


@pytest.mark.usefixtures("fresh_loader")
@pytest.mark.parametrize("missing", [False, True], ids=["stale", "missing"])
def test_stale_or_missing_file_is_never_used(
    missing: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The derivation is replaced by a tiny one, so that what comes back tells where it comes from."""
    name = "not_generated" if missing else "fresh_tasks_limit"
    monkeypatch.setitem(PROGRAMS, name, lambda: (program(total=x + y),))
    if not missing:
        monkeypatch.setattr(lowered, "fingerprint", lambda: "another source")
    with caplog.at_level(logging.WARNING):
        functions = lowered.load(name)
    assert functions.f(NUMPY, x=1.0, y=2.0) == {"total": 3.0}
    assert not hasattr(functions, "solution")
    assert "make lower" in caplog.text


def test_fingerprint_changes_with_every_source_of_a_derivation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(lowered.__file__).resolve().parent.parent
    sources = [path for part in ("symbolic", "model", "theory") for path in package.rglob(f"{part}/**/*.py")]
    sources.append(package / "lowering.py")
    for source in sources:
        copy = tmp_path / source.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())

    original = lowered.fingerprint.__wrapped__()
    monkeypatch.setattr(lowered, "_PACKAGE", tmp_path)
    assert lowered.fingerprint.__wrapped__() == original
    for changed in ("model/attention/merged.py", "theory/fresh_tasks.py", "lowering.py"):
        text = (tmp_path / changed).read_bytes()
        (tmp_path / changed).write_bytes(text + b"# changed\n")
        assert lowered.fingerprint.__wrapped__() != original
        (tmp_path / changed).write_bytes(text.replace(b"\n", b"\r\n"))
        assert lowered.fingerprint.__wrapped__() == original, "line ends are no change"


@pytest.mark.parametrize("ensemble", sorted(PROGRAMS))
def test_generated_file_has_the_fingerprint_of_its_sources(ensemble: str) -> None:
    module = import_module(f"replica_icl.lowered.{ensemble}")
    assert module.FINGERPRINT == lowered.fingerprint.__wrapped__(), "run `make lower`"
