"""The worked example of a weight prior from outside the package runs as it is printed, line by line."""

import re
from pathlib import Path
from typing import Any

import pytest

from replica_icl.simulator.optima.registry import MINIMISERS

PAGE = (Path(__file__).parent.parent / "docs" / "add_a_prior.md").read_text(encoding="utf-8")


def test_the_page_runs_and_its_three_ways_agree(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "add_a_prior"}
    try:
        for text in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
            exec(compile(text, "add_a_prior.md", "exec"), names)
    finally:
        MINIMISERS.pop("huber", None)
    theory, passed, exact, best = (names[name] for name in ("theory", "passed", "exact", "best"))
    assert theory.converged
    assert 0 < theory.replicon < 1
    assert names["checked"].agrees
    assert exact.gap.mean < 1e-9
    for name in ("e_icl", "m", "q", "u", "train_error"):
        assert passed.values[name] == pytest.approx(exact.values[name], rel=1e-4), name
    assert best.interior
    assert best.test_error < theory.e_icl
    printed = capsys.readouterr().out.splitlines()
    assert "CONVERGED" in printed[0]
    assert printed[-3].endswith("True")
    assert float(printed[-2]) < 1e-4
