"""Names of files and folders, as readers and writers are given them."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from hypothesis import strategies as st

import worldenv  # noqa: F401
from tests.conftest import make_tiny_world
from tests.fuzz.case import Case
from worldenv.base.arrays import read_npy, read_npz
from worldenv.base.checkpoint import describe_tensors, load_tensors, save_tensors
from worldenv.base.config import load_toml
from worldenv.base.documents import read_json
from worldenv.base.files import save_arrays, save_text
from worldenv.base.lock import in_use
from worldenv.base.media import save_picture, save_video
from worldenv.data.record import RecordConfig, make_source
from worldenv.data.schema import Clip, describe_shards, read_shard, shard_paths, write_shard
from worldenv.data.video import open_video
from worldenv.eval.report.document import compare
from worldenv.geometry.trajectory_file import read_trajectory
from worldenv.training.stages.config import TrainConfig
from worldenv.world.world import World
from worldenv_agents.action_chunks import ClonedPolicy
from worldenv_agents.loop import run_loop
from worldenv_agents.policy import TrainedPolicy

SEEN, ACTS = spaces.Box(0, 255, (16, 16, 3), np.uint8), spaces.Discrete(4)
PICTURE = np.zeros((8, 8, 3), np.uint8)
READERS: Mapping[str, Callable[[str], Any]] = {
    "world": World.from_pretrained,
    "environment": lambda name: gym.make_vec("worldenv/Navigate-v0", num_envs=1, world=name, device="cpu"),
    "settings": lambda name: load_toml(TrainConfig, name),
    "JSON": lambda name: read_json(Path(name)),
    "tensors": lambda name: load_tensors(Path(name)),
    "described tensors": lambda name: describe_tensors(Path(name)),
    "shard": lambda name: list(read_shard(Path(name))),
    "recording": lambda name: shard_paths(Path(name)),
    "described shards": lambda name: describe_shards(Path(name)),
    "policy": lambda name: TrainedPolicy.load(name, SEEN, ACTS),
    "clone": lambda name: ClonedPolicy.load(Path(name), num_latents=1),
    "table": lambda name: run_loop(Path(name), Path("out")),
    "trajectory": lambda name: read_trajectory(Path(name)),
    "video": lambda name: open_video(Path(name)),
    "array": lambda name: read_npy(Path(name), most=2**20),
    "arrays": lambda name: read_npz(Path(name), "x", most=2**20),
    "videos": lambda name: make_source(RecordConfig(env=f"videos:{name}")),
    "minari": lambda name: make_source(RecordConfig(env=f"minari:{name}")),
    "report": lambda name: compare(Path(name), Path(name)),
}
"""What reads a file or a folder."""
NAMES = {
    "of 300 characters": "x" * 300,
    "of 6000 characters": "x/" * 3000,
    "with a null byte": "a\0b",
    "of two lines": "a\nb",
    "with an escape": "a\x1b[31mb",
    "with half a character": "a\ud800",
    "of no UTF-8": "a\udcff",
    "of nobody's home": "~nobody/x",
    "above": "../nothing",
    "in a file": "file/inside",
    "of a link to itself": "loop",
    "of a link to nothing": "dangling",
    "of a pipe": "pipe",
    "of what never ends": "/dev/zero",
}
"""Under which nothing lies that could be read."""
UNWRITABLE = ("of 300 characters", "of 6000 characters", "with a null byte", "with half a character", "in a file")
"""Those under which nothing can be written."""


def name(folder: Path) -> st.SearchStrategy[Case]:
    """Names of files."""
    world = make_tiny_world()
    env = gym.make_vec("worldenv/Navigate-v0", num_envs=1, world=world, device="cpu")
    env.reset(seed=0)
    readers = {**READERS, "state": env.unwrapped.load_state}  # type: ignore[attr-defined]
    writers: dict[str, Callable[[str], Any]] = {
        "text": lambda name: save_text(Path(name), "x"),
        "picture": lambda name: save_picture(Path(f"{name}.png"), PICTURE),
        "video": lambda name: save_video(Path(f"{name}.mp4"), [PICTURE], fps=4),
        "tensors": lambda name: save_tensors(Path(name), {"a": torch.zeros(2)}),
        "arrays": lambda name: save_arrays(Path(name), {"a": PICTURE}),
        "shard": lambda name: write_shard(Path(name), [Clip(PICTURE[None])], attributes={}),
        "state": env.unwrapped.save_state,  # type: ignore[attr-defined]
        "world": world.save_pretrained,
        "folder": lambda name: contextlib.ExitStack().enter_context(in_use(Path(name))),
    }

    def case(what: str, act: Callable[[str], Any], called: str) -> Case:
        def acted(scratch: Path) -> None:
            _strange(scratch)
            with contextlib.chdir(scratch), contextlib.redirect_stderr(io.StringIO()):
                act(called)

        return Case(what, False, acted)

    menu = [case(f"read {kind} {what}", act, NAMES[what]) for kind, act in readers.items() for what in NAMES]
    menu += [case(f"write {kind} {what}", act, NAMES[what]) for kind, act in writers.items() for what in UNWRITABLE]
    return st.sampled_from(menu)


def _strange(folder: Path) -> None:
    """Lay what is no file into a folder."""
    (folder / "file").write_text("x")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nothing")
    os.mkfifo(folder / "pipe")
