"""What the stages that train a world read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ...diffusion.schedule import SamplerConfig
from ...dynamics.spec import WorldSpec
from ...memory.config import MemoryConfig
from ...models.heads import DepthConfig, DisplayConfig
from ...models.types import DiTConfig
from ...models.vae import VAEConfig
from ..material import DenoiseConfig
from ..renders import RendersConfig
from ..weights import WeightsConfig
from .consistency import SpatialConfig
from .consistency_distill import ConsistencyConfig
from .context_forcing import ContextForcingConfig
from .display import DisplayTrainConfig
from .events import EventsConfig
from .heads import HeadsConfig
from .object import ObjectTrainConfig
from .rolling import RollingConfig
from .run import RunConfig
from .vae import VAELossConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """Everything a world's stage reads; a TOML file of ``configs/`` holds the same names."""

    name: str = "world"
    """Name of the world."""
    teacher: Path | None = None
    """World that stages ``context_forcing`` and ``rolling`` distil: the output of stage ``teacher``."""
    num_starts: int = 0
    """Start views to make, if the world has none yet: on held-out mazes after a recording of mazes (the sims extra),
    else the first frames of recorded clips."""
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
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    """How much errors of the transformer count where; stages that distil a teacher's distribution weigh nothing."""
    renders: RendersConfig = field(default_factory=RendersConfig)
    """What degraded renders bear, where the transformer takes renders in (``[dit] render_input``)."""
    spatial: SpatialConfig = field(default_factory=SpatialConfig)
    """Losses on depth and rendered views of stage ``consistency``."""
    consistency: ConsistencyConfig = field(default_factory=ConsistencyConfig)
    """Noise levels of stage ``consistency_distill``."""
    context_forcing: ContextForcingConfig = field(default_factory=ContextForcingConfig)
    """Self-rollout and scores of stages ``context_forcing`` and ``rolling``."""
    rolling: RollingConfig = field(default_factory=RollingConfig)
    """Windows of stage ``rolling``."""
    head: Literal["auto", "depth", "events", "object"] = "auto"
    """What stage ``heads`` trains: the depth head, those of reward and end, or what reads a hand's object; auto: depth
    where there is a camera, the object where joints command, else events."""
    depth: DepthConfig = field(default_factory=DepthConfig)
    """Sizes of the depth head (stage ``heads``)."""
    heads: HeadsConfig = field(default_factory=HeadsConfig)
    """Data and losses of stage ``heads``, of depth."""
    display: DisplayConfig = field(default_factory=DisplayConfig)
    """Sizes of the display decoder (stage ``display``)."""
    display_loss: DisplayTrainConfig = field(default_factory=DisplayTrainConfig)
    """Data and losses of stage ``display``."""
    events: EventsConfig = field(default_factory=EventsConfig)
    """Sizes, data and losses of stage ``heads``, of reward and end."""
    object: ObjectTrainConfig = field(default_factory=ObjectTrainConfig)
    """Sizes, data and losses of stage ``heads``, of where the object is."""
