"""Simulators in threads, forks and processes that are killed."""

import copy
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from worldenv.sims import DoomDynamics
from worldenv.sims.doom import engine, game, scratch
from worldenv.sims.doom.engine import Engine
from worldenv.sims.doom.scratch import INSTANCE, PREFIX, SHARED, Scratch

pytest.importorskip("vizdoom", reason="the simulators need pip install worldenv[sims]")
pytestmark = pytest.mark.sim

KILLED = """
import os, signal
from worldenv.sims import DoomDynamics
from worldenv.sims.doom.scratch import INSTANCE

world = DoomDynamics(1, depth=False)
world.reset(seeds=[0], starts=[None])
(instance,) = world._rows[0]._scratch.path.glob(f"*/{INSTANCE}")
print(instance.read_text(), flush=True)
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


def test_a_copy_is_another_simulator_made_with_the_same() -> None:
    world = DoomDynamics(1, map_seeds=(3, 4), depth=False)
    for copied in (pickle.loads(pickle.dumps(world)), copy.deepcopy(world)):
        frames = [one.reset(seeds=[5], starts=[None]).frames for one in (world, copied)]
        assert torch.equal(*frames)
        copied.close()
    world.close()


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
def test_a_killed_process_leaves_no_engine_no_folder_and_no_shared_memory(tmp_path: Path) -> None:
    command, env = [sys.executable, "-c", KILLED], {**os.environ, "TMPDIR": str(tmp_path)}
    number = subprocess.run(command, env=env, check=False, stdout=subprocess.PIPE, text=True).stdout.strip()
    assert len(number) == 10
    assert wait_for(lambda: not engines_in(tmp_path))
    assert wait_for(lambda: not list(tmp_path.iterdir()))
    assert wait_for(lambda: not list(SHARED.glob(f"ViZDoom*{number}")))


def test_a_process_killed_as_it_makes_a_folder_leaves_none(tmp_path: Path) -> None:
    code = (
        "import os\nfrom worldenv.sims.doom import scratch\n"
        "scratch.fcntl.flock = lambda *_: print(*os.listdir(os.environ['TMPDIR'])) or os.kill(os.getpid(), 9)\n"
        "scratch.Scratch()"
    )
    command, env = [sys.executable, "-u", "-c", code], {**os.environ, "TMPDIR": str(tmp_path)}
    there = subprocess.run(command, env=env, check=False, stdout=subprocess.PIPE, text=True).stdout
    assert there.startswith("worldenv-new-")
    assert wait_for(lambda: not list(tmp_path.iterdir()))


def test_what_nobody_removed_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what waits for the end of a process was killed with it."""
    left = tmp_path / f"{PREFIX}left"
    (left / "engine-x").mkdir(parents=True)
    (left / "engine-x" / INSTANCE).write_text("0123456789\n")
    (left / "lock").touch()
    memory = tmp_path / "ViZDoomSM0123456789"
    memory.touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratch, "SHARED", tmp_path)
    one, other = Scratch(), Scratch()
    assert not left.exists()
    assert not memory.exists()
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


def test_an_engine_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ViZDoom itself ends by SIGSEGV when its engine ends before the first message."""
    binary = tmp_path / "engine"
    binary.write_text("#!/bin/sh\necho 'no such library: libSDL.' >&2\nexit 127\n")
    binary.chmod(0o700)
    monkeypatch.setattr(engine, "PATIENCE", 0.2)
    monkeypatch.setattr(game, "Engine", lambda _, folder: Engine(binary, folder))
    world = DoomDynamics(1, depth=False)
    for _ in range(2):
        with pytest.raises(ChildProcessError, match=r"a Doom engine died \(no such library: libSDL\)"):
            world.reset(seeds=[0], starts=[None])
    world.close()


def test_a_call_that_waits_for_an_engine_that_is_no_more_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PATIENCE", 0.1)
    one, waits = Engine(Path("/bin/true"), tmp_path), threading.Event()
    threading.Timer(0.5, (tmp_path / "ended").touch).start()
    began = time.monotonic()
    with pytest.raises(ChildProcessError, match="a Doom engine died"):
        one.run(waits.wait)
    assert time.monotonic() - began > 0.5, "as long as the engine lives its calls are waited for"
    assert one.lost
    with pytest.raises(ChildProcessError, match="a Doom engine died"):
        one.run(lambda: None)
    waits.set()


def test_calls_to_an_engine_return_and_raise_as_made_here(tmp_path: Path) -> None:
    one = Engine(Path("/bin/true"), tmp_path)
    with pytest.raises(ZeroDivisionError):
        one.run(lambda: 1 / 0)
    assert one.run(lambda: 3) == 3


def test_the_thread_of_an_engine_ends_with_it(tmp_path: Path) -> None:
    one, threads = Engine(Path("/bin/true"), tmp_path), threading.active_count()
    one.run(lambda: None)
    del one
    assert wait_for(lambda: threading.active_count() < threads)
