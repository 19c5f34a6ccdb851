"""What ``worldenv make`` is asked, and what it asks of each stage."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ..base.config import check_numbers
from ..data.record import RecordConfig
from ..data.sources.imports import is_import
from ..data.spans import HELD_OUT_SEED
from ..diffusion.schedule import SamplerConfig
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
from ..training.weights import WeightsConfig

SEEDS = 1000
"""Seeds that each ``seed`` has for its clips, at least."""
HELD_OUT_SHARE = 10
"""One clip is held out for so many that are trained on."""
LEAST_HELD_OUT = 8
"""Clips that are held out at least: thresholds are chosen on one half and judged on the other."""
MEMBERS = 4
"""Output layers of a head: where they disagree the world is uncertain."""
CLIP_FRAMES = 256
"""Frames of a clip behind its first one."""


@dataclass(frozen=True, kw_only=True)
class MakeConfig:
    """What is to be made of an environment."""

    size: tuple[int, int] = (64, 64)
    """Width and height of the world's pictures, multiples of 8."""
    frames: int = 20_000
    """Frames to record, or to take of a recording from elsewhere; a tenth as many more are held out."""
    camera: str = ""
    """Which pictures of a recording from elsewhere; by default the only ones that it has."""
    policy: str = "random"
    """Who acts while it is recorded: ``random``, ``sticky`` (random, three times in four as before), ``ppo:DIR``, or
    ``package.module:function``, called with the picture, the action space and a generator."""
    hours: float = 1.0
    """Hours of training, all stages together; recording, evaluation and a tenth for ``few_steps`` come on top. Asked
    again with more, with one round, a folder's transformer trains on, and heads are trained anew."""
    frames_per_latent: Literal[1, 4] = 4
    """Frames for which an action is held, and that a latent shows."""
    chunk_latents: int = 1
    """Latents of a step."""
    workers: int = 2
    """Processes that record."""
    few_steps: int = 2
    """Denoising steps of a chunk that the world is distilled to in the end, if that costs next to nothing (``distil``);
    0 does not try."""
    rounds: int = 1
    """Rounds, which share frames and hours: in each but the first an agent is trained inside the world, records in the
    environment, and the world learns on from all recordings."""
    seed: int = 0
    """Of everything random."""
    vae: VAEConfig = field(
        default_factory=lambda: VAEConfig(latent_channels=8, encoder_widths=(16, 32, 64), decoder_widths=(24, 48, 96))
    )
    """Sizes of the VAE."""
    dit: DiTConfig = field(default_factory=lambda: DiTConfig(width=192, num_layers=6, num_heads=4, ffn_dim=768))
    """Sizes of the transformer."""
    batch: int = 16
    """Samples of a step of training; of the transformer, whose windows are long, half as many."""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            counts=("frames", "chunk_latents", "workers", "rounds", "batch"),
            positive=("hours",),
            natural=("seed", "few_steps"),
        )
        stride = self.vae.stride
        if any(side % stride or side < stride for side in self.size):
            raise ValueError(f"size={self.size}: width and height must be multiples of {stride}")
        if SEEDS * self.seed + self.rounds * self.num_clips > HELD_OUT_SEED:
            raise ValueError(f"seed={self.seed} reaches into the clips that are held out; pass a smaller one")

    @property
    def num_clips(self) -> int:
        """Clips of a round that are trained on."""
        return -(-self.frames // (CLIP_FRAMES * self.rounds))


def recordings(config: MakeConfig, env: str, *, number: int = 1, policy: str | None = None) -> dict[str, RecordConfig]:
    """Return what a round records, by folder: to train on, and to hold out; ``policy`` acts instead of the one asked
    for. Later rounds lie in the folders of the first.
    """
    num_latents = CLIP_FRAMES // config.frames_per_latent
    clips = config.num_clips
    first = 0 if is_import(env) else SEEDS * config.seed + (number - 1) * clips  # what is recorded there is one row
    train = RecordConfig(
        env=env,
        clips=clips,
        first_seed=first,
        num_latents=num_latents,
        size=config.size,
        camera=config.camera,
        policy=config.policy if policy is None else policy,
        clips_per_shard=4,
        poses=False,  # what acts is the environment's own action
        spec=WorldSpec(chunk_latents=config.chunk_latents, frames_per_latent=config.frames_per_latent),
    )
    held_out = max(LEAST_HELD_OUT, clips // HELD_OUT_SHARE)
    kept = replace(train, clips=held_out, first_seed=HELD_OUT_SEED + (number - 1) * held_out)
    inside = "" if number == 1 else f"/round-{number}"
    return {f"heldout{inside}": kept, f"train{inside}": train}


STAGES = {"vae": 0.25, "causal": 0.6, "heads": 0.15}
"""Stages in order, and each one's share of a round's hours; in later rounds an agent learns in place of the VAE."""
DISTIL = "consistency_distill"
DISTILLING = 0.1
"""Share of a round's hours that the distillation takes in the end, on top."""


def world_name(env: str) -> str:
    """Return what a world is called: as its environment, or the folder of a recording from elsewhere."""
    where = env.partition(":")[2]
    return (Path(where).resolve().name if is_import(env) else (where or env).rpartition("/")[2]).lower()


def named(stage: str, number: int) -> str:
    """Return what a stage of a round is called, as its folder is."""
    return stage if number == 1 else f"{stage}-{number}"


def stage_config(stage: str, config: MakeConfig, out: Path, name: str, *, number: int = 1) -> TrainConfig:
    """Return what a stage of a round is trained with; its steps are for the clock to say."""
    so_far = "vae" if number == 1 else named("causal", number - 1)
    before = {"causal": so_far, "heads": named("causal", number), DISTIL: named("heads", number)}.get(stage)
    few = stage == DISTIL
    patch = 2 if all(side // config.vae.stride % 2 == 0 for side in config.size) else 1
    chunk, longest = config.chunk_latents, CLIP_FRAMES // config.frames_per_latent // config.chunk_latents
    window = max(2, 8 // chunk)  # chunks
    return TrainConfig(
        name=name,
        data=out / "train",
        heldout=out / "heldout",
        init=None if before is None else out / before,
        num_starts=64,
        vae=config.vae,
        dit=replace(config.dit, patch=patch),
        memory=MemoryConfig(policy="recent", kept=True, temporal_latents=chunk * window, retrieved_chunks=1),
        vae_loss=VAELossConfig(num_frames=9, hardest=0.1),
        weights=WeightsConfig(moved=1.0),
        denoise=DenoiseConfig(num_chunks=max(1, min(2 * window, longest)), policies=(("recent", 1.0),)),
        sampler=SamplerConfig(num_steps=config.few_steps, stochastic=True) if few else SamplerConfig(),
        head="events",
        events=EventsConfig(
            reward=EventConfig(num_members=MEMBERS), terminated=EventConfig(output="logit", num_members=MEMBERS)
        ),
        optim=OptimConfig(
            batch=max(1, config.batch // 2) if stage == "causal" else config.batch,
            seed=config.seed,
            lr={"vae": 1e-3, "causal": 1e-3, "heads": 3e-3, DISTIL: 1e-4}[stage],
            ema=0.99 if few else OptimConfig().ema,
            warmup=20,
            log_every=20,
            save_every=100,
            preview_every=10**9,  # after the last step alone
        ),
    )
