"""What ``worldenv make`` is asked, and what it asks of each stage."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ..base.config import check_numbers
from ..data.record import RecordConfig
from ..data.sources.imports import is_import
from ..data.spans import HELD_OUT_SEED
from ..dynamics.spec import WorldSpec
from ..memory.config import MemoryConfig
from ..models.heads import EventConfig
from ..models.types import DiTConfig
from ..models.vae import VAEConfig
from ..training.loop.optim import OptimConfig
from ..training.material import DenoiseConfig
from ..training.stages.config import TrainConfig
from ..training.stages.events import EventsConfig
from ..training.stages.vae import VAELossConfig

SEEDS = 1000
"""Seeds that each ``seed`` has for its clips, at least."""
HELD_OUT_SHARE = 10
"""One clip is held out for so many that are trained on."""
LEAST_HELD_OUT = 8
"""Clips that are held out at least: thresholds are chosen on one half and judged on the other."""
CLIP_FRAMES = 256
"""Frames of a clip behind its first one."""


@dataclass(frozen=True, kw_only=True)
class MakeConfig:
    """What is to be made of an environment."""

    size: tuple[int, int] = (64, 64)
    """Width and height of the world's pictures, multiples of 8."""
    frames: int = 20_000
    """Frames to record; a tenth as many more are held out."""
    policy: str = "random"
    """Who acts while it is recorded: ``random``, ``sticky`` (random, three times in four as before), or
    ``package.module:function``, called with the picture, the action space and a generator."""
    hours: float = 1.0
    """Hours of training, all stages together; recording and evaluation come on top."""
    frames_per_latent: Literal[1, 4] = 4
    """Frames for which an action is held, and that a latent shows."""
    chunk_latents: int = 1
    """Latents of a step."""
    workers: int = 2
    """Processes that record."""
    seed: int = 0
    """Of everything random."""
    vae: VAEConfig = field(
        default_factory=lambda: VAEConfig(latent_channels=8, encoder_widths=(16, 32, 64), decoder_widths=(24, 48, 96))
    )
    """Sizes of the VAE."""
    dit: DiTConfig = field(default_factory=lambda: DiTConfig(width=192, num_layers=6, num_heads=4, ffn_dim=768))
    """Sizes of the transformer."""
    batch: int = 16
    """Samples of a step of training."""

    def __post_init__(self) -> None:
        check_numbers(
            self, counts=("frames", "chunk_latents", "workers", "batch"), positive=("hours",), natural=("seed",)
        )
        stride = self.vae.stride
        if any(side % stride or side < stride for side in self.size):
            raise ValueError(f"size={self.size}: width and height must be multiples of {stride}")
        if SEEDS * self.seed + self.num_clips > HELD_OUT_SEED:
            raise ValueError(f"seed={self.seed} reaches into the clips that are held out; pass a smaller one")

    @property
    def num_clips(self) -> int:
        """Clips that are trained on."""
        return -(-self.frames // CLIP_FRAMES)


def recordings(config: MakeConfig, env: str) -> dict[str, RecordConfig]:
    """Return what to record, by folder: to train on, and to hold out."""
    num_latents = CLIP_FRAMES // config.frames_per_latent
    clips = config.num_clips
    train = RecordConfig(
        env=env,
        clips=clips,
        first_seed=0 if is_import(env) else SEEDS * config.seed,  # of what is recorded there is one row
        num_latents=num_latents,
        size=config.size,
        policy=config.policy,
        clips_per_shard=4,
        poses=False,  # what acts is the environment's own action
        spec=WorldSpec(chunk_latents=config.chunk_latents, frames_per_latent=config.frames_per_latent),
    )
    held_out = max(LEAST_HELD_OUT, clips // HELD_OUT_SHARE)
    return {"heldout": replace(train, clips=held_out, first_seed=HELD_OUT_SEED), "train": train}


STAGES = {"vae": 0.25, "causal": 0.6, "heads": 0.15}
"""Stages in order, and each one's share of the hours."""


def stage_config(stage: str, config: MakeConfig, out: Path, name: str) -> TrainConfig:
    """Return what a stage is trained with; its steps are for the clock to say."""
    before = {"causal": "vae", "heads": "causal"}.get(stage)
    patch = 2 if all(side // config.vae.stride % 2 == 0 for side in config.size) else 1
    window = max(2, 8 // config.chunk_latents)
    return TrainConfig(
        name=name,
        data=out / "train",
        heldout=out / "heldout",
        init=None if before is None else out / before,
        num_starts=64,
        vae=config.vae,
        dit=replace(config.dit, patch=patch),
        memory=MemoryConfig(policy="recent", temporal_latents=config.chunk_latents * window, retrieved_chunks=1),
        vae_loss=VAELossConfig(num_frames=9),
        denoise=DenoiseConfig(num_chunks=window, policies=(("recent", 1.0),)),
        head="events",
        events=EventsConfig(reward=EventConfig(), terminated=EventConfig(output="logit")),
        optim=OptimConfig(
            batch=config.batch,
            seed=config.seed,
            lr={"vae": 1e-3, "causal": 1e-3, "heads": 3e-3}[stage],
            warmup=20,
            log_every=20,
            save_every=100,
            preview_every=10**9,  # after the last step alone
        ),
    )
