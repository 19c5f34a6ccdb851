"""Simulators in threads, forks and processes that are killed."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from worldenv.sims import DoomDynamics
from worldenv.sims.doom.scratch import PREFIX, Scratch

pytest.importorskip("vizdoom", reason="the simulators need pip install worldenv[sims]")
pytestmark = pytest.mark.sim

KILLED = """
import os, signal
from worldenv.sims import DoomDynamics

world = DoomDynamics(1, depth=False)
world.reset(seeds=[0], starts=[None])
os.kill(os.getpid(), signal.SIGKILL)
"""


def begun(seed: int) -> DoomDynamics:
    world = DoomDynamics(1, depth=False)
    world.reset(seeds=[seed], starts=[None])
    return world


def wait_for(there: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Wait until something is there."""
    end = time.monotonic() + seconds
    while not there() and time.monotonic() < end:
        time.sleep(0.05)
    return there()


def engines_in(folder: Path) -> list[int]:
    """Find the processes that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if folder in (process / "cwd").readlink().parents:
                found.append(int(process.name))
        except OSError:  # another user's, or it has ended
            continue
    return found


def test_simulators_started_in_threads_leave_the_working_directory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is all threads': one that comes back to it late would bring everybody into a folder that is gone."""
    monkeypatch.chdir(tmp_path)
    changed: list[object] = []
    monkeypatch.setattr(os, "chdir", changed.append)
    with ThreadPoolExecutor(2) as threads:
        worlds = list(threads.map(begun, (1, 2)))
    frames = [world.reset(seeds=[3], starts=[None]).frames for world in worlds]  # their threads have ended
    for world in worlds:
        world.close()
    assert torch.equal(*frames)
    assert not changed
    assert not list(tmp_path.iterdir()), "engines drop files where they work"


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="processes are looked up in /proc")
def test_a_killed_process_leaves_no_engine_and_its_folder_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    assert wait_for(lambda: not engines_in(tmp_path))
    (left,) = tmp_path.glob(f"{PREFIX}*")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    one, other = Scratch(), Scratch()
    assert not left.exists()
    assert one.path.exists(), "its process lives"
    one.close()
    other.close()
    assert not list(tmp_path.iterdir())


def test_a_fork_leaves_its_parents_simulator_alone() -> None:
    """Whether the child closes it, forgets it, or ends."""
    world, other = begun(1), begun(1)
    child = os.fork()
    if not child:
        try:
            for act in (lambda: world.follow(world.c2w[:, None]), lambda: world.reset(seeds=[0], starts=[None])):
                with pytest.raises(RuntimeError, match="runs in the process that forked this one"):
                    act()
            world.close()
            other._rows.clear()
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    again = [one.reset(seeds=[2], starts=[None]).frames for one in (world, other)]
    assert torch.equal(*again)
    for one in (world, other):
        one.close()
