"""Stages: what ``worldenv train STAGE`` runs. Each takes a world (or none), trains one module, and writes a world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from ...base.config import difference, to_dict
from ...base.log import console
from ...data.dataset import DepthDataset
from ...models.dit import WorldDiT
from ...models.heads import DepthConfig, DepthHead, DisplayConfig, DisplayHead
from ...world.files import world_sha256
from ...world.world import World
from ..encode import encode_recording
from ..loop.parallel import process_state, writing
from ..loop.protocols import Stage
from ..material import Material
from .config import TrainConfig
from .consistency import SpatialStage
from .consistency_distill import ConsistencyStage
from .context_forcing import ContextForcingStage
from .display import DisplayStage
from .events import EventsStage
from .heads import HeadsStage
from .memory import MemoryStage
from .object import ObjectStage
from .rolling import rolling_stage
from .run import run_stage
from .start import first_starts, start_world
from .teacher import TeacherStage
from .vae import DecoderStage, Frames, VAEStage
from .window import WindowStage


def _frames(world: World, config: TrainConfig) -> Frames:
    return Frames(
        world, config.vae_loss, config.optim.batch, data=config.data, heldout=config.heldout, max_clips=config.max_clips
    )


def _vae_stage(world: World, config: TrainConfig, out: Path) -> Stage:
    return VAEStage(_frames(world, config), fresh=config.optim.seed if config.init is None else None)


def _decoder_stage(world: World, config: TrainConfig, out: Path) -> Stage:
    return DecoderStage(_frames(world, config))


def _heads_stage(world: World, config: TrainConfig, out: Path) -> Stage:
    if config.head == "object" or (config.head == "auto" and "joints" in world.spec.takes):
        return ObjectStage(
            world, config.object, config.optim, data=config.data, heldout=config.heldout, max_clips=config.max_clips
        )
    if config.head == "events" or (config.head == "auto" and not world.spec.has_camera):
        return EventsStage(
            world, config.events, config.optim, data=config.data, heldout=config.heldout, max_clips=config.max_clips
        )
    if world.depth_head is None:
        world.config = replace(world.config, heads=replace(world.config.heads, depth=config.depth))
        world.heads["depth"] = DepthHead(config.depth)
    elif config.depth not in (DepthConfig(), world.config.heads.depth):
        raise ValueError(f"[depth]: the depth head of {config.init} has other sizes; leave [depth] out")
    world.require_depth_head().float()
    world.config = replace(world.config, memory=replace(world.config.memory, rendering=config.memory.rendering))
    return HeadsStage(
        world, config.heads, config.optim, data=config.data, heldout=config.heldout, max_clips=config.max_clips
    )


def _display_stage(world: World, config: TrainConfig, out: Path) -> Stage:
    if world.display is None:
        world.config = replace(world.config, heads=replace(world.config.heads, display=config.display))
        world.heads["display"] = DisplayHead(config.display)
    elif config.display not in (DisplayConfig(), world.config.heads.display):
        raise ValueError(f"[display]: the display decoder of {config.init} has other sizes; leave [display] out")
    world.require_display().float()
    assert config.init is not None
    maker = World.from_pretrained(config.init, device="auto", dtype="auto")
    return DisplayStage(
        world,
        maker,
        config.display_loss,
        config.optim,
        data=config.data,
        heldout=config.heldout,
        max_clips=config.max_clips,
    )


def _material(world: World, config: TrainConfig, out: Path, *, rendered: bool) -> Material:
    """Encode the recordings; ``rendered`` makes renders of every chunk, which stages that roll out make themselves."""
    encode = partial(encode_recording, world, cache=out.parent / "latents", weights=config.weights)
    renders = config.renders if rendered else None
    data, heldout = encode(config.data, max_clips=config.max_clips, renders=renders), None
    if config.heldout is not None:
        heldout = encode(config.heldout, max_clips=64)
    return Material(world, config.denoise, config.optim.batch, data=data, heldout=heldout, degrade=config.renders)


def _denoise_stage(
    kind: Callable[[Material], Stage], *, rendered: bool = True
) -> Callable[[World, TrainConfig, Path], Stage]:
    return lambda world, config, out: kind(_material(world, config, out, rendered=rendered))


def _same_latents(a: World, b: World) -> bool:
    """Tell whether two worlds' VAEs encode alike; their decoders may differ."""
    theirs = b.vae.state_dict()
    return all(
        name in theirs and torch.equal(tensor, theirs[name])
        for name, tensor in a.vae.state_dict().items()
        if not name.startswith("decoder.")
    )


def _require_renoising(stage: str, config: TrainConfig) -> None:
    if not config.sampler.stochastic:
        raise ValueError(f"stage {stage!r} trains for the sampler that re-noises; set [sampler] stochastic = true")


def _consistency_stage(world: World, config: TrainConfig, out: Path) -> Stage:
    _require_renoising("consistency_distill", config)
    return ConsistencyStage(_material(world, config, out, rendered=True), config.consistency)


def _spatial_stage(world: World, config: TrainConfig, out: Path) -> Stage:
    material = _material(world, config, out, rendered=True)
    views = DepthDataset.load(config.data, max_clips=config.max_clips)
    return SpatialStage(material, config.spatial, views=views, steps=config.optim.steps)


def _teacher(stage: str, world: World, config: TrainConfig) -> WorldDiT:
    """Load what a stage distils with distribution matching."""
    _require_renoising(stage, config)
    if config.teacher is None:
        raise ValueError(f"stage {stage!r} distils a teacher; pass --teacher DIR, the output of stage 'teacher'")
    teacher = World.load(config.teacher)
    if teacher.config.memory != world.config.memory:
        changed = difference(to_dict(teacher.config.memory), to_dict(world.config.memory))
        raise ValueError(f"{config.teacher}: it was trained with another {changed!r} than [memory] has; use the same")
    if not _same_latents(teacher, world):
        raise ValueError(f"{config.teacher}: its latents are not those of {config.init}; train both from one world")
    return teacher.dit


def _context_forcing_stage(world: World, config: TrainConfig, out: Path) -> Stage:
    teacher = _teacher("context_forcing", world, config)
    return ContextForcingStage(_material(world, config, out, rendered=False), config.context_forcing, teacher=teacher)


def _rolling_stage(world: World, config: TrainConfig, out: Path) -> Stage:
    if not config.sampler.rolling:
        raise ValueError("stage 'rolling' trains for a rolling window; set [sampler] rolling = true")
    teacher = _teacher("rolling", world, config)
    material = _material(world, config, out, rendered=False)
    return rolling_stage(material, config.context_forcing, config.rolling, teacher=teacher)


STAGES: dict[str, Callable[[World, TrainConfig, Path], Stage]] = {
    "vae": _vae_stage,
    "decoder": _decoder_stage,
    "bidirectional": _denoise_stage(partial(WindowStage, causal=False)),
    "causal": _denoise_stage(partial(WindowStage, causal=True)),
    "memory": _denoise_stage(MemoryStage),
    "consistency": _spatial_stage,
    "teacher": _denoise_stage(TeacherStage, rendered=False),
    "consistency_distill": _consistency_stage,
    "context_forcing": _context_forcing_stage,
    "rolling": _rolling_stage,
    "heads": _heads_stage,
    "display": _display_stage,
}


def train(
    stage: str,
    config: TrainConfig,
    out: Path,
    *,
    resume: bool = False,
    evaluate: Callable[[World], Mapping[str, float]] | None = None,
) -> World:
    """Run one stage and write the resulting world to ``out``.

    ``evaluate`` says how good a world is, in figures one of which is its ``score``; it is asked at the beginning and
    with every preview, and the best world is written instead of the last.

    Raises:
        ValueError: on an unknown stage, missing data, or a run that does not fit what is in ``out``.
    """
    if stage not in STAGES:
        raise ValueError(f"unknown stage {stage!r}; choose one of {', '.join(STAGES)}")
    if config.sampler.rolling and stage != "rolling":
        raise ValueError("[sampler] rolling = true belongs to stage 'rolling' and to no other")
    with writing(out):
        world = start_world(stage, config)
        if world.starts is None and config.num_starts:
            world.starts = first_starts(config, world.spec)
        task, done = run_stage(
            stage,
            config,
            lambda shared: STAGES[stage](world, shared, out),
            out,
            resume=resume,
            evaluate=None if evaluate is None else lambda: evaluate(world),
        )
        if isinstance(task, VAEStage):
            task.measure_latents()
        if isinstance(task, EventsStage):
            task.finish()
        if isinstance(task, ContextForcingStage) and config.teacher is not None:
            done = replace(done, teacher=_account(config.teacher))
        world.config = world.with_stage(done)
        if process_state().is_main_process:
            world.save_pretrained(out)
        console.print(f"wrote {out}")
        return world


def _account(folder: Path) -> str:
    """Say in a line how a teacher was made, and which weights it has."""
    stages = World.load(folder).config.provenance[-1:]
    made = [f"{p.stage}, {p.steps} steps, {p.hours:g} h, git {p.git}" for p in stages]
    return ", ".join([*made, f"sha256 {world_sha256(folder)[:12]}"])
