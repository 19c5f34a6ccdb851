"""Stages: what ``worldenv train STAGE`` runs. Each takes a world (or none), trains one module, and writes a world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from ...base.config import difference, to_dict
from ...base.log import console, git_revision, hardware
from ...base.rng import derive_seed
from ...diffusion.schedule import SamplerConfig
from ...dynamics.spec import WorldSpec
from ...memory.config import MemoryConfig
from ...models.dit import WorldDiT
from ...models.heads import DepthConfig, DepthHead
from ...models.refine import with_finer_tokens, with_render_input
from ...models.types import DiTConfig
from ...models.vae import VAEConfig
from ...world.config import Provenance, Trained, WorldConfig
from ...world.files import world_sha256
from ...world.starts import make_starts
from ...world.world import World
from ..encode import encode_recording, recording_digest, recording_name
from ..loop.parallel import process_state
from ..loop.protocols import Stage
from ..loop.trainer import OptimConfig, Trainer
from ..material import DenoiseConfig, Material
from ..renders import RendersConfig
from .consistency_distill import ConsistencyConfig, ConsistencyStage
from .context_forcing import ContextForcingConfig, ContextForcingStage
from .heads import HeadsConfig, HeadsStage
from .memory import MemoryStage
from .rolling import RollingConfig, rolling_stage
from .teacher import TeacherStage
from .vae import DecoderStage, Frames, VAELossConfig, VAEStage
from .window import WindowStage


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every stage reads."""

    data: Path = Path("data/train")
    """Recording to train on (from ``worldenv record``)."""
    heldout: Path | None = None
    """Recording of other maps, for the previews."""
    init: Path | None = None
    """World to start from: the output of the stage before."""
    max_clips: int | None = None
    """Use only this many clips."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimizer and loop."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """Everything a world's stage reads; a TOML file of ``configs/`` holds the same names."""

    name: str = "world"
    """Name of the world."""
    teacher: Path | None = None
    """World that stages ``context_forcing`` and ``rolling`` distil: the output of stage ``teacher``."""
    num_starts: int = 0
    """Start views to make on held-out mazes, if the world has none yet (needs the sims extra)."""
    spec: WorldSpec = field(default_factory=WorldSpec)
    """Picture, camera, clock, steps (first stage only; later stages take the world's)."""
    vae: VAEConfig = field(default_factory=VAEConfig)
    """Sizes of the VAE (stage ``vae``)."""
    dit: DiTConfig = field(default_factory=DiTConfig)
    """Sizes of the transformer (first transformer stage)."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """How chunks are denoised in previews and in the world."""
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    """The world's memory."""
    vae_loss: VAELossConfig = field(default_factory=VAELossConfig)
    """Losses and windows of stages ``vae`` and ``decoder``."""
    denoise: DenoiseConfig = field(default_factory=DenoiseConfig)
    """Windows and noise of the transformer stages."""
    renders: RendersConfig = field(default_factory=RendersConfig)
    """What degraded renders bear, where the transformer takes renders in (``[dit] render_input``)."""
    consistency: ConsistencyConfig = field(default_factory=ConsistencyConfig)
    """Noise levels of stage ``consistency_distill``."""
    context_forcing: ContextForcingConfig = field(default_factory=ContextForcingConfig)
    """Self-rollout and scores of stages ``context_forcing`` and ``rolling``."""
    rolling: RollingConfig = field(default_factory=RollingConfig)
    """Windows of stage ``rolling``."""
    depth: DepthConfig = field(default_factory=DepthConfig)
    """Sizes of the depth head (stage ``heads``)."""
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    """Data and losses of stage ``heads``."""


BESIDE = ("vae", "decoder", "heads")
"""Stages that train something other than the transformer."""

ConfigT = TypeVar("ConfigT", bound=RunConfig)


def _start_world(stage: str, config: TrainConfig) -> World:
    """Load the world of the stage before, or make the first one, with reproducible initial weights.

    A transformer trained before keeps its sizes, which need not be given again, except for ``patch``, a smaller one
    of which gives it finer tokens, and ``render_input``, which it may get. Until it is trained ``spec.maze`` may say
    that it is to learn other mazes than the VAE's.
    """
    torch.manual_seed(derive_seed(config.optim.seed, "init"))
    if stage == "vae" and config.init is None:
        return World(
            WorldConfig(
                name=config.name,
                spec=config.spec,
                vae=config.vae,
                dit=replace(config.dit, latent_channels=config.vae.latent_channels),
                sampler=config.sampler,
                memory=config.memory,
            )
        )
    if config.init is None:
        raise ValueError(f"stage {stage!r} starts from a world; pass --init DIR, the output of the stage before it")
    world = World.load(config.init)
    own, trained = world.config.dit, any(p.stage not in BESIDE for p in world.config.provenance)
    asked = replace(config.dit, latent_channels=world.config.vae.latent_channels)
    if trained and config.dit == DiTConfig():  # nothing was asked for
        asked = own
    if not trained and asked != own:
        world = _with_transformer(world, asked, None)
    elif asked.patch < own.patch and asked == replace(own, patch=asked.patch):
        world = _with_transformer(world, asked, with_finer_tokens(world.dit, asked.patch))
    elif asked == replace(own, render_input=True):
        world = _with_transformer(world, asked, with_render_input(world.dit))
    elif asked != own:
        changed = ", ".join(f"{k}={v!r}" for k, v in to_dict(asked).items() if v != getattr(own, k))
        raise ValueError(
            f"[dit] {changed}: the transformer of {config.init} was trained with other sizes; leave [dit] out, or "
            "repeat them with a smaller patch or with render_input = true"
        )
    if not trained and config.spec.maze not in (WorldSpec().maze, world.spec.maze):
        world.config = replace(world.config, spec=replace(world.spec, maze=config.spec.maze))
        world.starts = None  # they were of other mazes
    world.config = replace(world.config, name=config.name)
    if stage not in BESIDE:
        singles = stage == "memory" and config.denoise.single > 0
        further = Trained(chunk_latents=(1,)) if singles else Trained()
        world.config = replace(world.config, sampler=config.sampler, memory=config.memory, trained=further)
    return world


def _with_transformer(world: World, config: DiTConfig, dit: WorldDiT | None) -> World:
    """Return the same world with another transformer, a fresh one if none is given."""
    return World(replace(world.config, dit=config), vae=world.vae, dit=dit, heads=world.heads, starts=world.starts)


def _frames(world: World, config: TrainConfig) -> Frames:
    return Frames(
        world, config.vae_loss, config.optim.batch, data=config.data, heldout=config.heldout, max_clips=config.max_clips
    )


def _vae_stage(world: World, config: TrainConfig, out: Path) -> Stage:
    return VAEStage(_frames(world, config), fresh=config.optim.seed if config.init is None else None)


def _decoder_stage(world: World, config: TrainConfig, out: Path) -> Stage:
    return DecoderStage(_frames(world, config))


def _heads_stage(world: World, config: TrainConfig, out: Path) -> Stage:
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


def _material(world: World, config: TrainConfig, out: Path, *, rendered: bool) -> Material:
    """Encode the recordings; ``rendered`` makes renders of every chunk, which stages that roll out make themselves."""
    encode = partial(encode_recording, world, cache=out.parent / "latents")
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
    "teacher": _denoise_stage(TeacherStage, rendered=False),
    "consistency_distill": _consistency_stage,
    "context_forcing": _context_forcing_stage,
    "rolling": _rolling_stage,
    "heads": _heads_stage,
}


def run_stage(
    stage: str,
    config: ConfigT,
    make: Callable[[ConfigT], Stage],
    out: Path,
    *,
    resume: bool,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
) -> tuple[Stage, Provenance]:
    """Train what ``make`` builds for this process's share of the batch; return it with the account of it.

    With ``evaluate`` what was best by its ``score`` is kept instead of the last.
    """
    processes = process_state()
    share, rest = divmod(config.optim.batch, processes.num_processes)
    if rest:
        raise ValueError(f"optim.batch={config.optim.batch} does not divide among {processes.num_processes} processes")
    console.quiet = not processes.is_main_process
    task = make(replace(config, optim=replace(config.optim, batch=share)))
    task.module.requires_grad_(True).train()
    settings = to_dict(config) | _contents(config)
    settings["optim"].pop("steps")
    trainer = Trainer(
        task,
        config.optim,
        out,
        resume=resume,
        run={"stage": stage, "config": settings},
        evaluate=evaluate,
    )
    console.print(f"{stage}: {sum(p.numel() for p in task.module.parameters()) / 1e6:.2f} M parameters")
    trainer.train()
    done = Provenance(
        stage=stage,
        steps=trainer.kept_step,
        data=recording_name(config.data),
        hardware=hardware(),
        hours=round(trainer.hours, 3),
        git=git_revision(),
        seed=config.optim.seed,
        blend=config.optim.blend,
    )
    return task, done


def _contents(config: RunConfig) -> dict[str, str]:
    """Name what a run reads by what it holds: it goes on wherever its files are taken, not with others instead."""
    worlds = {name: path for name in ("init", "teacher") if (path := getattr(config, name, None)) is not None}
    recordings = {name: path for name in ("data", "heldout") if (path := getattr(config, name)) is not None}
    return {
        **{name: world_sha256(path) for name, path in worlds.items()},
        **{name: recording_digest(path) for name, path in recordings.items()},
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
    world = _start_world(stage, config)
    if world.starts is None and config.num_starts:
        world.starts = make_starts(world.spec, config.num_starts)
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
