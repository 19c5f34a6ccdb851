"""One file and one line make a task: ids, environment tests and the table of the documentation follow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest

from worldenv.ids import environment_ids, register_all
from worldenv.tasks.registry import TASKS, make_task
from worldenv.tasks.revisit import Revisit
from worldenv.world.world import World

ROOT = Path(__file__).resolve().parents[2]
TASK = '''"""Be paid for nothing."""
from worldenv.tasks.revisit import Revisit


class Idle(Revisit):
    """Ends as a revisit does."""
'''


@pytest.fixture
def idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "idle_task.py").write_text(TASK)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(TASKS, "idle", "idle_task:Idle")


@pytest.mark.usefixtures("idle")
def test_a_line_makes_the_ids(tiny_world: World) -> None:
    assert environment_ids()["worldenv/IdleSim-v0"] == {"task": "idle", "dynamics": "sim"}
    register_all()
    try:
        envs = gym.make_vec("worldenv/Idle-v0", num_envs=1, world=tiny_world)
        assert isinstance(envs.unwrapped.core.task, Revisit)  # type: ignore[attr-defined]
        envs.reset(seed=0)
        envs.step(envs.action_space.sample())
    finally:
        for env_id in ("worldenv/Idle-v0", "worldenv/IdleSim-v0"):
            gym.registry.pop(env_id)


@pytest.mark.usefixtures("idle")
def test_a_line_makes_the_row_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "tables"))
    from environments import environments_table

    row, options = [line for line in environments_table() if "Idle" in line]
    assert "`worldenv/IdleSim-v0`" in row
    assert "Be paid for nothing." in row
    assert "`away` 1.5: metres from the start that count as having left;" in options


def test_the_committed_table_has_all_tasks() -> None:
    page = (ROOT / "docs" / "environments.md").read_text()
    assert all(f"| `{env_id}` |" in page for env_id in environment_ids())


def test_names_are_strings_until_a_task_is_made() -> None:
    code = "import sys, worldenv; assert 'torch' not in sys.modules and 'worldenv.tasks.navigate' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(ValueError, match="did you mean 'navigate'"):
        make_task("navigat")
