"""A recording made in this process, and the plan of a world so small that all its stages take seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from worldenv.base.config import to_dict
from worldenv.data import record as recording
from worldenv.data.schema import write_shard
from worldenv.memory.config import MemoryConfig
from worldenv.models.heads import EventConfig
from worldenv.models.types import DiTConfig
from worldenv.models.vae import VAEConfig
from worldenv.training.loop.optim import OptimConfig
from worldenv.training.material import DenoiseConfig
from worldenv.training.stages.config import TrainConfig
from worldenv.training.stages.events import EventsConfig
from worldenv.training.stages.vae import VAELossConfig


def record_here(asked: recording.RecordConfig, folder: Path) -> recording.RecordConfig:
    """Record without other processes, which do not know an environment that a test has registered."""
    config = recording._as_shown(asked)
    source = recording.make_source(config)
    assert config.clips is not None
    clips = [source.clip(i) for i in range(config.clips)]
    attributes = {"config": json.dumps(to_dict(config)), "fps": config.spec.fps}
    folder.mkdir(parents=True, exist_ok=True)
    write_shard(folder / "shard-00000.h5", clips, attributes=attributes)
    return config


def small_plan(data: Path, *, num_latents: int = 6, **changes: Any) -> TrainConfig:
    """Return how a world of a recording is trained; ``num_latents`` are those of a window of its heads."""
    plan: dict[str, Any] = {
        "data": data,
        "num_starts": 4,
        "vae": VAEConfig(latent_channels=4, encoder_widths=(4, 4, 8), decoder_widths=(4, 4, 8)),
        "dit": DiTConfig(width=16, num_layers=1, num_heads=2, ffn_dim=32, freq_dim=16, patch=1),
        "memory": MemoryConfig(policy="recent", temporal_latents=4),
        "vae_loss": VAELossConfig(num_frames=9),
        "denoise": DenoiseConfig(num_chunks=2, policies=(("recent", 1.0),)),
        "events": EventsConfig(
            reward=EventConfig(widths=(8, 8), hidden=16),
            terminated=EventConfig(output="logit", widths=(8, 8), hidden=16),
            num_latents=num_latents,
        ),
        "optim": OptimConfig(steps=2, batch=2, preview_every=0, save_every=1000, log_every=1),
    }
    return TrainConfig(**{**plan, **changes})
