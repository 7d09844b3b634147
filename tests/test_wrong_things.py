"""What is given to a public function and is no such thing is one `ParameterError`, before any work."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import replica_icl
from replica_icl import ParameterError, Ratios, Setting
from replica_icl.errors import FileEntryError, ReplicaICLError
from replica_icl.narration.derivation import FailedClaim
from replica_icl.simulator.outcomes import RealisationError

ONE = Setting(D=6, N=12, P=72, ridge=0.05)
GRID = Setting(D=6, N=[12, 13], P=72, ridge=0.05)
RATIOS = Ratios(alpha=2.0, nu=2.0, lam=0.1)
WRONG: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "no settings": ("sample_spread", (3,), {}),
    "ratios for settings": ("susceptibility", (RATIOS,), {}),
    "a list of other things": ("susceptibility", ([ONE, 3],), {}),
    "an empty list": ("sample_spread", ([],), {}),
    "no setting to transfer": ("transfer_error", (RATIOS, None), {}),
    "no solution to transfer": ("transfer_error", (ONE, 100), {}),
    "a grid for the Hessian": ("hessian_density", (GRID, [1.0]), {}),
    "ratios for the Hessian": ("hessian_density", (RATIOS, [1.0]), {}),
    "a setting for the flow": ("gradient_flow", (ONE, [1.0]), {}),
    "a number for the flow": ("gradient_flow", (3, [1.0]), {}),
    "a setting for ratios": ("setting_at", (ONE, 10), {}),
    "no dimension": ("setting_at", (RATIOS, "x"), {}),
    "no grid": ("run_sweep", ("g.toml",), {}),
    "no file of a grid": ("read_grid", (3,), {}),
    "ragged tasks": ("solve", (ONE,), {"tasks": [[1.0, 2.0], [3.0]]}),
    "ratios to simulate": ("simulate", (RATIOS, 2), {}),
    "tiny tasks to simulate": ("simulate", (ONE, 2), {"tasks": np.full((3, 6), 1e-30)}),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_thing_is_one_clear_error(case: str) -> None:
    name, arguments, options = WRONG[case]
    with pytest.raises(ParameterError, match="must "):
        getattr(replica_icl, name)(*arguments, **options)


def test_a_setting_or_a_grid_is_asked_like_a_list() -> None:
    listed = replica_icl.sample_spread(list(GRID.points()))
    assert all(np.array_equal(values, listed[name]) for name, values in replica_icl.sample_spread(GRID).items())
    assert replica_icl.susceptibility(ONE).chi_SG == replica_icl.susceptibility([ONE]).chi_SG


def subclasses(kind: type[ReplicaICLError]) -> set[type[ReplicaICLError]]:
    return {kind}.union(*(subclasses(one) for one in kind.__subclasses__()))


def test_every_error_survives_the_way_between_processes() -> None:
    made: dict[type[ReplicaICLError], tuple[Any, ...]] = {
        ParameterError: ("D", 1, "must be more"),
        FileEntryError: ("g.toml", "D", 1, "must be more"),
        FailedClaim: ("chapter", "step", "a = b", "1 != 2"),
        RealisationError: ("realisation 1 failed", {1: "singular"}, {0: {"m": 0.5}}),
    }
    assert set(made) <= subclasses(ReplicaICLError)
    for kind in subclasses(ReplicaICLError):
        arguments = next((made[base] for base in kind.__mro__ if base in made), ("told",))
        error = kind(*arguments)
        back = pickle.loads(pickle.dumps(error))
        assert type(back) is kind
        assert (str(back), vars(back)) == (str(error), vars(error))


def test_an_entry_of_a_grid_file_is_told_by_its_name(tmp_path: Path) -> None:
    grid = "[fixed]\nD = 6\nN = 12\nP = 20\nridge = 0.1\n%s\n[theory]\nlevels = [%s]\n"
    for entry, levels, told in (
        ("minimum_norm = 'no'", "'limit'", "minimum_norm = no: must be true or false"),
        ("", "'foo'", r"levels = \['foo'\]: must be a list out of finite-size"),
    ):
        (tmp_path / "g.toml").write_text(grid % (entry, levels))
        with pytest.raises(FileEntryError, match=told):
            replica_icl.read_grid(tmp_path / "g.toml")
