"""What is interrupted: commands on tiny worlds, what they have finished, and what comes out of them in the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.conftest import make_tiny_world
from tests.training.test_stages import config_for, record
from worldenv.base.checkpoint import load_tensors
from worldenv.base.config import dump_toml, to_dict
from worldenv.base.log import JsonlLog
from worldenv.data.record import RecordConfig, _complete
from worldenv.data.schema import read_shard, shard_paths
from worldenv.sims import DoomDynamics
from worldenv.world.starts import Starts
from worldenv.world.world import World

from .processes import AGENTS, WORLDENV

SEEDS = (995_000, 995_001)
"""Mazes of the cases."""


@dataclass(frozen=True)
class Command:
    """A command that writes."""

    name: str
    entry: str
    words: Callable[[Path, Path], list[str]]
    """Its words, given the material and where it writes."""
    result: Callable[[Path], object]
    """All that came out but clocks, as something to compare."""


@dataclass(frozen=True)
class Job(Command):
    """A command that goes on where it was interrupted."""

    done: Callable[[Path], int]
    """How much of it is finished: shards, steps, batches, episodes."""


def make_material(folder: Path) -> Path:
    """Make what the commands read: a world of a few thousand weights that begins on two mazes, and a recording."""
    dynamics = DoomDynamics(1, map_seeds=SEEDS, depth=False)
    views = [dynamics.reset(seeds=[seed], starts=[seed]) for seed in SEEDS]
    dynamics.close()
    c2w = torch.cat([view.signals["c2w"][:, -1] for view in views])
    goals = c2w.clone()
    goals[:, :3, 3] += 1.5 * c2w[:, :3, 2]
    world = make_tiny_world()
    world.starts = Starts(torch.cat([view.frames[:, -1] for view in views]), c2w, goals, torch.tensor(SEEDS))
    world.save_pretrained(folder / "world")
    data = record(folder / "data")
    config = to_dict(config_for(data, steps=40, save_every=4, preview_every=20, log_every=1, batch=2))
    (folder / "train.toml").write_text(dump_toml(_without_none(config)))
    return folder


def _without_none(values: dict[str, object]) -> dict[str, object]:
    """TOML has no nothing."""
    kept = {key: value for key, value in values.items() if value is not None}
    return {key: _without_none(value) if isinstance(value, dict) else value for key, value in kept.items()}


def _digest(parts: Iterable[object]) -> str:
    return hashlib.sha256(json.dumps([*parts], sort_keys=True, default=str).encode()).hexdigest()


CLIPS = 6


def _recorded(out: Path) -> int:
    """Count the shards that are whole."""
    config = RecordConfig(clips=CLIPS, clips_per_shard=1)
    return sum(_complete(config, out, k) for k in range(CLIPS))


def _clips(out: Path) -> str:
    """Hash all clips; shards also say by which revision they were made."""
    found = []
    for path in shard_paths(out):
        for clip in read_shard(path):
            parts = {"frames": clip.frames, **clip.signals}
            values = {name: hashlib.sha256(part.tobytes()).hexdigest() for name, part in parts.items()}
            found.append((path.name, values, {key: str(value) for key, value in clip.attributes.items()}))
    return _digest(found)


def _step(out: Path) -> int:
    """Return the step of a checkpoint, whose tensors are checked."""
    path = out / "checkpoint.safetensors"
    return int(load_tensors(path)[1]["progress"]["step"]) if path.exists() else 0


def _trained(out: Path) -> str:
    losses = [line["loss"] for line in JsonlLog.read(out / "log.jsonl") if "loss" in line]
    return _digest([World.load(out).sha256, losses])


def _scored(out: Path) -> str:
    report = json.loads((out / "report.json").read_text())
    return _digest([report["arms"], report["differences"], (out / "trajectories.csv").read_text()])


def _played(out: Path) -> str:
    """Hash the episodes, as good as they were, whatever they took."""
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in JsonlLog.read(out / "episodes.jsonl")]
    return _digest(sorted(json.dumps(row, sort_keys=True) for row in rows))


def _record_words(material: Path, out: Path) -> list[str]:
    how = ["--clips", str(CLIPS), "--clips-per-shard", "1", "--num-latents", "8", "--workers", "1"]
    return ["record", "--env", "doom/maze", *how, "--out", str(out)]


def _train_words(material: Path, out: Path) -> list[str]:
    return ["train", "vae", "--config", str(material / "train.toml"), "--resume", "--out", str(out)]


def _eval_words(material: Path, out: Path) -> list[str]:
    cases = ["--worlds", "1", "--first-seed", str(SEEDS[0])]
    return ["eval", "short_term", "--world", str(material / "world"), *cases, "--out", str(out)]


def _plan_words(material: Path, out: Path) -> list[str]:
    where = ["--env", "worldenv/Navigate-v0", "--world", str(material / "world"), "--max-episode-steps", "3"]
    arms = ["--imagine", "world", "blank", "--rollouts", "1", "2", "--policies", "random"]
    size = ["--episodes", "4", "--num-envs", "2", "--lookahead", "2", "--execute", "1"]
    return ["plan", *where, *arms, *size, "--out", str(out)]


JOBS = {
    job.name: job
    for job in (
        Job("record", WORLDENV, _record_words, _clips, _recorded),
        Job("train", WORLDENV, _train_words, _trained, _step),
        Job("eval", WORLDENV, _eval_words, _scored, lambda out: len([*(out / "parts").glob("*.npz")])),
        Job("closed loop", AGENTS, _plan_words, _played, lambda out: len(JsonlLog.read(out / "episodes.jsonl"))),
    )
}
