"""The world that a stage starts from: the one of the stage before, grown where it may be, or the first one."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...base.config import changes, from_dict, to_dict
from ...base.rng import derive_seed
from ...bodies.registry import bodies_of
from ...bodies.vector import ACTION, with_statistics
from ...data.schema import Clip, read_shard, shard_config, shard_paths
from ...dynamics.spec import WorldSpec
from ...models.dit import WorldDiT
from ...models.refine import with_finer_tokens, with_inputs
from ...models.types import DiTConfig
from ...world.config import Trained, WorldConfig
from ...world.starts import Starts, make_starts
from ...world.world import World
from .config import TrainConfig

BESIDE = ("vae", "decoder", "heads", "display")
"""Stages that train something other than the transformer."""

INPUTS = ("render_input", "grasp_offsets", "grasp_branch")
"""Of a transformer, that it may get after it was trained without."""


def start_world(stage: str, config: TrainConfig) -> World:
    """Load the world of the stage before, or make the first one, with reproducible initial weights.

    A transformer trained before keeps its sizes, which need not be given again, except for ``patch``, a smaller one
    of which gives it finer tokens, and ``INPUTS``, which it may get. Until it is trained ``spec.maze`` may say
    that it is to learn other mazes than the VAE's.
    """
    torch.manual_seed(derive_seed(config.optim.seed, "init"))
    if stage == "vae" and config.init is None:
        spec = with_action_statistics(recorded_spec(config.data, config.spec), config.data)
        return World(
            WorldConfig(
                name=config.name,
                spec=spec,
                vae=replace(config.vae, frames_per_latent=spec.frames_per_latent),
                dit=conditioned(replace(config.dit, latent_channels=config.vae.latent_channels), spec),
                sampler=config.sampler,
                memory=config.memory,
            )
        )
    if config.init is None:
        raise ValueError(f"stage {stage!r} starts from a world; pass --init DIR, the output of the stage before it")
    world = World.load(config.init)
    for part in world.parts().values():
        part.float()  # packaged weights are bfloat16
    own, trained = world.config.dit, any(p.stage not in BESIDE for p in world.config.provenance)
    asked = conditioned(replace(config.dit, latent_channels=world.config.vae.latent_channels), world.spec)
    if trained and config.dit == DiTConfig():  # nothing was asked for
        asked = own
    more: dict[str, Any] = {name: True for name in INPUTS if getattr(asked, name) and not getattr(own, name)}
    finer = asked.patch < own.patch
    if not trained and asked != own:
        world = _with_transformer(world, asked, None)
    elif (more or finer) and asked == replace(own, patch=min(asked.patch, own.patch), **more):
        dit = with_inputs(world.dit, **more)
        world = _with_transformer(world, asked, with_finer_tokens(dit, asked.patch) if finer else dit)
    elif asked != own:
        changed = ", ".join(f"{k}={v!r}" for k, v in to_dict(asked).items() if v != getattr(own, k))
        raise ValueError(
            f"[dit] {changed}: the transformer of {config.init} was trained with other sizes; leave [dit] out, or "
            f"repeat them with a smaller patch or with {' or '.join(INPUTS)} = true"
        )
    if not trained and config.spec.maze not in (WorldSpec().maze, world.spec.maze):
        world.config = replace(world.config, spec=replace(world.spec, maze=config.spec.maze))
        world.starts = None  # they were of other mazes
    world.config = replace(world.config, name=config.name)
    if stage == "vae":
        world.clips = world.moments = None  # latents of another encoder
    if stage not in BESIDE:
        singles = stage == "memory" and config.denoise.single > 0
        further = Trained(chunk_latents=(1,)) if singles else Trained()
        world.config = replace(world.config, sampler=config.sampler, memory=config.memory, trained=further)
    return world


def recorded_spec(folder: Path, asked: WorldSpec) -> WorldSpec:
    """Return what a recording says of its world, under what a recipe says of it."""
    recorded = shard_config(shard_paths(folder)[0]).get("spec", {})
    said = changes(to_dict(WorldSpec()), to_dict(asked))
    return from_dict(WorldSpec, {**recorded, **{key: to_dict(asked)[key] for key in said}}, where=f"{folder}: spec")


def with_action_statistics(spec: WorldSpec, folder: Path) -> WorldSpec:
    """Let the numbers of a recorded environment's actions be normalised by what was recorded, start views left out."""
    if spec.environment is None or all(part.kind != "box" for part in spec.environment.actions):
        return spec
    clips = (clip for path in shard_paths(folder) for clip in read_shard(path, only=(ACTION, "is_first")))
    acted = (np.delete(clip.signals[ACTION], clip.starts, 0) for clip in clips)
    environment = replace(spec.environment, actions=with_statistics(spec.environment.actions, acted))
    return replace(spec, environment=environment)


def first_starts(config: TrainConfig, spec: WorldSpec) -> Starts:
    """Make start views: on held-out mazes where those were recorded, else the first frames of recorded clips.

    Raises:
        ValueError: if the recording does not say where everything is that a world takes.
    """
    if len(bodies_of(spec)) > 1:
        raise ValueError(
            f"num_starts={config.num_starts}: recordings of one body do not say where the others are, and this world "
            f"takes {', '.join(spec.takes)}; set num_starts = 0, and begin with options={{'clip': ...}}"
        )
    folder = config.data if config.heldout is None else config.heldout
    paths = shard_paths(folder)
    if shard_config(paths[0]).get("env", "").startswith("doom/"):  # mazes
        return make_starts(spec, config.num_starts)
    clips = (clip for path in paths for clip in read_shard(path))
    chosen = list(islice((episode for clip in clips for episode in clip.episodes()), config.num_starts))
    frames = torch.stack([torch.from_numpy(clip.frames[0]) for clip in chosen])
    if "joints" in spec.takes:
        return _table_starts(chosen, frames)
    if not spec.has_camera:
        return Starts(frames)
    if not all("c2w" in clip.signals for clip in chosen):
        raise ValueError(f"{folder} has no camera poses, and a world with a camera begins at one; set num_starts = 0")
    return Starts(frames, torch.stack([torch.from_numpy(clip.signals["c2w"][0]) for clip in chosen]))


def _table_starts(clips: list[Clip], frames: Tensor) -> Starts:
    """Return start views of a robot's table: where its joints were told to be, and, where that is known, its goal."""
    joints = torch.stack([torch.from_numpy(clip.signals["joints"][0]) for clip in clips]).float()
    if not all("target" in clip.signals for clip in clips):
        return Starts(frames, joints=joints)
    targets = torch.stack([torch.from_numpy(clip.signals["target"][0]) for clip in clips]).float()
    marked = torch.tensor([clip.attributes.get("task") == "push" for clip in clips])
    seeds = [clip.attributes.get("seed") for clip in clips]
    tables = None if None in seeds else torch.tensor(seeds)
    return Starts(frames, joints=joints, target=targets, marked=marked, tables=tables)


def conditioned(dit: DiTConfig, spec: WorldSpec) -> DiTConfig:
    """Let a transformer take in what the world takes: keys and a camera unless left out, the rest as codes."""
    codes = {name: math.prod(signal.shape) for name, signal in spec.takes.items() if name not in ("keys", "c2w")}
    if dit.codes and dit.codes != codes:
        raise ValueError(f"[dit] codes follow from what the world takes, {codes}; leave them out")
    return replace(
        dit,
        camera_branch=dit.camera_branch and spec.has_camera,
        key_branch=dit.key_branch and "keys" in spec.takes,
        codes=codes,
    )


def _with_transformer(world: World, config: DiTConfig, dit: WorldDiT | None) -> World:
    """Return the same world with another transformer, a fresh one if none is given."""
    return World(
        replace(world.config, dit=config),
        vae=world.vae,
        dit=dit,
        heads=world.heads,
        starts=world.starts,
        clips=world.clips,
        moments=world.moments,
    )
