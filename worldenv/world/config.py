"""What ``world.toml`` holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..diffusion.schedule import SamplerConfig
from ..dynamics.spec import WorldSpec
from ..memory.config import MemoryConfig
from ..models.heads import HeadConfigs
from ..models.types import DiTConfig
from ..models.vae import VAEConfig

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """One training stage that a world went through."""

    stage: str
    """Name of the stage."""
    steps: int
    """Optimizer steps."""
    data: str
    """The recording it was trained on: env, clips, first and last map seed."""
    hardware: str
    """Machine."""
    hours: float
    """Wall-clock hours."""
    git: str
    """Revision of the code."""
    seed: int = 0
    """Training seed."""
    blend: float = 1.0
    """How far from the weights before to those that training reached the kept ones lie (``OptimConfig.blend``)."""
    teacher: str = ""
    """What was distilled."""


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """The contents of world.toml."""

    format: int = FORMAT
    """Version of this layout."""
    name: str = "world"
    """What people call it."""
    licence: str = "Apache-2.0"
    """Licence of the weights."""
    spec: WorldSpec = field(default_factory=WorldSpec)
    """Picture, camera, clock, steps."""
    vae: VAEConfig = field(default_factory=VAEConfig)
    """Sizes of the VAE."""
    dit: DiTConfig = field(default_factory=DiTConfig)
    """Sizes of the transformer."""
    heads: HeadConfigs = field(default_factory=HeadConfigs)
    """Sizes of the heads that there are."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """How a chunk is denoised."""
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    """The world's own memory policy and budgets."""
    provenance: tuple[Provenance, ...] = ()
    """Training stages, oldest first."""
