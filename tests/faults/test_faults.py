"""A few faults of each kind; ``make faults`` has many."""

from pathlib import Path

import pytest

from tests.faults.disks import WRITTEN, run_full, serve_full
from tests.faults.jobs import JOBS, make_material
from tests.faults.kills import Counts, run_kills, two_at_once, whole

pytest.importorskip("vizdoom", reason="the simulators need pip install worldenv[sims]")
pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_material(tmp_path_factory.mktemp("material"))


@pytest.mark.parametrize("name", ["train", "closed loop"])
def test_a_command_that_is_killed_goes_on_to_the_same_end(name: str, material: Path, tmp_path: Path) -> None:
    counts = Counts()
    run_kills(JOBS[name], material, tmp_path, counts, kills=2, seed=0)
    assert not counts.wrong
    assert sum(counts.kills.values()) == 2


def test_a_second_run_in_a_folder_is_refused(material: Path, tmp_path: Path) -> None:
    wanted, _ = whole(JOBS["train"], material, tmp_path)
    assert not two_at_once(JOBS["train"], material, tmp_path, wanted)


def test_a_full_disk_is_a_line_and_with_room_the_command_goes_on(material: Path, tmp_path: Path) -> None:
    (rollout,) = (what for what in WRITTEN if what.name == "rollout")
    assert not run_full(rollout, material, tmp_path, None, times=1, seed=0)


def test_a_server_without_room_says_so_and_its_sessions_go_on(material: Path, tmp_path: Path) -> None:
    assert not serve_full(material, tmp_path / "states")
