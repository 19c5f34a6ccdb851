"""What ``world.toml`` holds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from ..base.config import changes, to_dict
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
class Trained:
    """What a world was trained for beside its own settings; environments refuse the rest."""

    chunk_latents: tuple[int, ...] = ()
    """Further latents per chunk."""
    num_steps: tuple[int, ...] = ()
    """Further denoising steps per chunk. A sampler that follows the ODE may take more steps than its own anyway."""


@dataclass(frozen=True, kw_only=True)
class DoubtConfig:
    """What signs of doubt are on held-out recordings, on average; ``uncertainty`` is the mean of each by that."""

    latents: float = 1.0
    """Of a chunk whose last step is denoised again: RMS of the difference, in latents."""
    reward: float = 0.0
    """Of the members of the reward head: deviation of what they expect; 0 is not measured, and does not count."""
    terminated: float = 0.0
    """The same of the head that says whether an episode ended: of its probability."""
    limit: float = 0.0
    """Uncertainty that one in twenty held-out chunks exceeds: where pessimistic episodes end; 0 is not known."""


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
    trained: Trained = field(default_factory=Trained)
    """What else it may be stepped with."""
    doubt: DoubtConfig = field(default_factory=DoubtConfig)
    """How its uncertainty is read."""
    provenance: tuple[Provenance, ...] = ()
    """Training stages, oldest first."""

    def check_trained(self, *, chunk_latents: int | None, num_steps: int | None) -> None:
        """Refuse chunks and numbers of steps that the world was not trained for; None is its own.

        Pictures in them would be a smear, and nothing would tell. Fewer steps than its own are too coarse for any
        sampler, more are as good where they follow the ODE.

        Raises:
            ValueError: naming what it was trained for.
        """
        chunks = {self.spec.chunk_latents, *self.trained.chunk_latents}
        steps = {self.sampler.num_steps, *self.trained.num_steps}
        for name, value, known in (("chunk_latents", chunk_latents, chunks), ("num_steps", num_steps, steps)):
            finer = name == "num_steps" and not self.sampler.stochastic
            if value is None or value in known or (finer and value > self.sampler.num_steps):
                continue
            trained = ", ".join(map(str, sorted(known))) + (" or more" if finer else "")
            raise ValueError(
                f"{name}={value}: world {self.name!r} was trained for {trained}, and others show a smear; leave it "
                "out, or name what it was trained for under [trained] in its world.toml"
            )


def config_digest(config: WorldConfig) -> str:
    """Hash what a world does beside its weights: all settings that are not the defaults.

    Name, licence and provenance are none of it; nor are settings that a later version adds, until somebody sets them.
    """
    plain = WorldConfig(name=config.name, licence=config.licence, provenance=config.provenance)
    told = changes(to_dict(plain), to_dict(config))
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
