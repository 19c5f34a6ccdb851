"""Full disks: a command on one ends with a line that says so, nothing is broken, and with room it goes on."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gymnasium as gym
import numpy as np

import worldenv  # noqa: F401
from worldenv.base.lock import NAME
from worldenv.play.server.app import running
from worldenv.play.server.config import ServeConfig

from .jobs import JOBS, Command
from .processes import WORLDENV, finish, start

SIZE = 12 * 2**20
"""Bytes of the disk."""


def _rollout(material: Path, out: Path) -> list[str]:
    return ["rollout", "--world", str(material / "world"), "--pose", "w-4, right-4", "--out", str(out / "walk.mp4")]


def _export(material: Path, out: Path) -> list[str]:
    points = ["--points", str(out / "points.ply"), "--view", str(out / "view.png"), "--pose", "w-4"]
    return ["export", "--world", "maze", "--dtype", "bfloat16", "--weights", str(out / "world"), *points]


def _lerobot(material: Path, out: Path) -> list[str]:
    made = ["--episodes", "2", "--chunks", "2"]
    return ["export", "--world", str(material / "world"), "--lerobot", str(out / "lerobot"), *made]


def _listed(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


WRITTEN: tuple[Command, ...] = (
    *JOBS.values(),
    Command("rollout", WORLDENV, _rollout, _listed),
    Command("export", WORLDENV, _lerobot, _listed),
)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """Mount a disk of ``SIZE`` bytes in memory; None where that is not allowed, and file sizes are limited instead."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "worldenv-faults", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def _fill(disk: Path, room: int) -> None:
    with (disk / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, SIZE - room))


def serve_full(material: Path, folder: Path) -> list[str]:
    """Let a server have no room for states: who asks for one is told, its session goes on; return what went wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    state, options, wrong = folder / "state.safetensors", {"action_mode": "keys"}, list[str]()
    with running(ServeConfig(port=0, worlds=(str(material / "world"),))) as where:
        env = gym.make("worldenv/Remote-v0", url=f"ws://{where}", env="worldenv/Revisit-v0", **options).unwrapped
        env.reset(seed=1)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            env.save_state(state)
            wrong.append("serve: a state was saved where there was no room")
        except Exception as error:
            said = str(error)
            if "is the disk full?" not in said or "\n" in said:
                wrong.append(f"serve: said {type(error).__name__} {said!r}")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        if [*folder.iterdir()]:
            wrong.append(f"serve: left {[path.name for path in folder.iterdir()]}")
        env.step([1, 0])
        env.save_state(state)
        ahead = env.step([1, 1])[0]
        env.load_state(state)
        if not np.array_equal(env.step([1, 1])[0], ahead):
            wrong.append("serve: another episode after the state was saved")
        env.close()
    return wrong


def run_full(what: Command, material: Path, folder: Path, disk: Path | None, *, times: int, seed: int) -> list[str]:
    """Let a command meet the end of a disk at so many places of what it writes; return what went wrong."""
    draw, wrong, temporary = random.Random(f"{what.name} {seed}"), list[str](), folder / "temporary"
    how = {"log": folder / "full.log", "temporary": temporary}
    finish(what.entry, what.words(material, folder / "whole"), **how)
    wanted = what.result(folder / "whole")
    sizes = [path.stat().st_size for path in (folder / "whole").rglob("*") if path.is_file()]
    for _ in range(times):
        out = (folder if disk is None else disk) / "out"
        room = int(draw.uniform(0.02, 0.9) * (max(sizes) if disk is None else sum(sizes)))
        if disk is not None:
            _fill(disk, room)
        run = start(what.entry, what.words(material, out), **how, room=room if disk is None else None)
        status, where = run.wait(), f"{what.name}, {room} bytes of room"
        if status == 0 and what.result(out) == wanted:
            continue  # it needed less
        if status != 1 or "Traceback" in run.said():
            wrong.append(f"{where}: exit status {status}, {run.said()[-400:]!r}")
        elif not any(word in run.error() for word in ("is the disk full", "No space left", "File too large")):
            wrong.append(f"{where}: said {run.error()!r}")
        left = [path.name for path in out.rglob("*") if path.name.startswith("partial-") or path.name == NAME]
        if left:
            wrong.append(f"{where}: left {left}")
        if disk is not None:
            (disk / "filler").unlink()
        run = start(what.entry, what.words(material, out), **how)
        if run.wait() != 0 or what.result(out) != wanted:
            wrong.append(f"{where}: with room it ended with {run.process.exitcode}, {run.error()!r}")
        shutil.rmtree(out)
    shutil.rmtree(folder / "whole")
    return wrong
