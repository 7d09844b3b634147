"""Every narrated derivation runs to its checks, and the chain of the package holds and prints."""

import runpy
from pathlib import Path

import pytest

from replica_icl.narration.derivation import FORMATS, Derivation
from replica_icl.narration.fresh_tasks import chain

SCRIPTS = sorted((Path(__file__).resolve().parents[2] / "derivations").glob("[0-9]*.py"))


def test_there_are_narrated_derivations() -> None:
    assert [script.name[:2] for script in SCRIPTS] == [f"{i:02d}" for i in range(1, len(SCRIPTS) + 1)]
    assert len(SCRIPTS) >= 5


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_narrated_derivation_holds(script: Path) -> None:
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_narrated_derivation_ends_in_checks_that_can_fail(script: Path) -> None:
    source = script.read_text(encoding="utf-8")
    assert source.startswith("# %% [markdown]\n")
    narrative, checks = source.split("# ## Checks")
    assert checks.count("\nassert ") + checks.count("    assert ") >= 3
    assert narrative.count("# %% [markdown]") >= 3


@pytest.fixture(scope="module")
def fresh_tasks() -> Derivation:
    return chain()


def test_every_claim_of_the_chain_holds(fresh_tasks: Derivation) -> None:
    claims = [claim.statement for step in fresh_tasks.steps for claim in step.claims]
    assert fresh_tasks.check() == tuple(claims)
    assert len(claims) >= 30
    assert all(step.claims for step in fresh_tasks.steps)


def test_chain_follows_the_theory_from_attention_to_the_ridgeless_limit(fresh_tasks: Derivation) -> None:
    titles = [step.title for step in fresh_tasks.steps]
    assert titles[0] == "Attention to Hamiltonian"
    assert titles[-1].startswith("Ridgeless limits")
    assert fresh_tasks.name == "fresh-tasks"


@pytest.mark.parametrize("format", FORMATS)
def test_chain_prints_in_every_format(fresh_tasks: Derivation, format: str) -> None:
    rendered = fresh_tasks.render(format)
    assert len(rendered) > 10_000
    for step in fresh_tasks.steps:
        assert step.title.split("$")[0] in rendered
    assert "Dummy" not in rendered
    assert "_eval" not in rendered
    if format == "latex":
        assert rendered.count("{") == rendered.count("}")
        assert rendered.count(r"\begin{") == rendered.count(r"\end{")
        assert rendered.count("$") % 2 == 0
    if format == "text":
        assert "$" not in rendered
        assert "\\" not in rendered
