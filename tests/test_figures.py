"""The figure scripts run at small size and write picture, data and table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_fig4b_is_written_with_its_data_and_settings(tmp_path: Path) -> None:
    script = ROOT / "figures" / "li_fig4b.py"
    command = [sys.executable, "-W", "error", str(script), "--out", str(tmp_path), "--realisations", "2", "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"li_fig4b.png", "li_fig4b.pdf", "li_fig4b.json", "li_fig4b.md"}
    data = json.loads((tmp_path / "li_fig4b.json").read_text(encoding="utf-8"))
    assert data["settings"]["seed"] == 5
    assert data["version"]
    for series in ("sgd", "amp"):
        points = data["series"][series]["points"]
        assert [p["N"] for p in points] == [20, 60, 100, 140, 180]
        # Two realisations at 1e4 prompts: within 2 % of the finite-size ground state (their spread is 0.3 %).
        assert all(abs(p["simulation"]["mean"] / p["ground state"] - 1) < 0.02 for p in points)
