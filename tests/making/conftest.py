"""Everything that takes its time, cut to seconds: short clips, few held out, two steps of a stage."""

from __future__ import annotations

from functools import partial

import pytest

from worldenv.making.config import MakeConfig
from worldenv.models.heads import EventConfig
from worldenv.models.types import DiTConfig
from worldenv.models.vae import VAEConfig

TINY = MakeConfig(
    size=(16, 16),
    frames=256,
    hours=1e-6,
    frames_per_latent=1,
    workers=1,
    vae=VAEConfig(latent_channels=4, encoder_widths=(4, 4, 8), decoder_widths=(4, 4, 8)),
    dit=DiTConfig(width=16, num_layers=1, num_heads=2, ffn_dim=32, freq_dim=16),
    batch=2,
    rounds=2,
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "training.loop.trainer.plot_losses": lambda log, path: None,
        "making.config.CLIP_FRAMES": 32,
        "making.make.CLIP_FRAMES": 32,
        "making.config.LEAST_HELD_OUT": 4,
        "making.config.EventConfig": partial(EventConfig, widths=(8, 8), hidden=16),
        "making.make.BENCH_STEPS": 2,
        "making.make.PROBE": (1, 3),
        "making.make.LEAST_STEPS": 2,
        "making.agent.LEAST_STEPS": 16,
        "bench.engine.WARM_UP": 1,
        "eval.suites.open_loop.draw_curves": lambda path, curves: None,
        "eval.suites.heads.HISTORY": 8,
        "eval.suites.heads.STRETCH": 16,
    }
    for name, value in settings.items():
        monkeypatch.setattr(f"worldenv.{name}", value)
