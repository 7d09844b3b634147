"""Every command and every line of code in the README runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from replica_icl.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


COMMANDS = [
    line.split("#")[0].strip()
    for block in blocks("sh")
    for line in block.splitlines()
    if line.startswith("replica-icl")
]
INLINE = sorted(set(re.findall(r"`(replica-icl [a-z][^`]*)`", README)))


def test_the_readme_shows_commands() -> None:
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("command", [*COMMANDS, *INLINE])
def test_command_of_the_readme_succeeds(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)[1:]) == 0


def test_the_ten_lines_run(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    assert "CONVERGED" in capsys.readouterr().out


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, flags=re.MULTILINE))
    assert targets
    missing = [target for target in targets if not re.search(rf"^{target}:", makefile, flags=re.MULTILINE)]
    assert not missing


def test_every_file_of_the_readme_exists() -> None:
    named = re.findall(r"`((?:derivations|figures|benchmarks|tests|docs)/[\w./]*)`|\((docs/[\w./]+)\)", README)
    paths = [ROOT / (first or second) for first, second in named]
    assert paths
    assert all(path.exists() for path in paths)
