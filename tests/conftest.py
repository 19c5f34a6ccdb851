"""Fixtures: a tiny world with random weights, and the sims extra where it is there."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from worldenv.engine.world import Starts, World, WorldConfig
from worldenv.models.types import DiTConfig
from worldenv.models.vae import VAEConfig

torch.set_num_threads(1)


def make_tiny_world() -> World:
    """Build a world of the packaged one's shape with a few thousand random weights and 64 start views."""
    torch.manual_seed(0)
    config = WorldConfig(
        name="tiny",
        vae=VAEConfig(latent_channels=4, encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8)),
        dit=DiTConfig(latent_channels=4, width=48, num_layers=2, num_heads=2, ffn_dim=96),
    )
    c2w = torch.eye(4, dtype=torch.float64).repeat(64, 1, 1)
    goals = c2w.clone()
    goals[:, 2, 3] = 3.0
    frames = torch.randint(0, 256, (64, 48, 64, 3), dtype=torch.uint8)
    world = World(config, starts=Starts(frames, c2w, goals, torch.arange(900_000, 900_064)))
    for module in (world.dit, world.vae):
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.1)
        module.eval().requires_grad_(False)
    return world


@pytest.fixture(scope="session")
def tiny_world() -> World:
    return make_tiny_world()


@pytest.fixture(scope="session")
def tiny_world_dir(tiny_world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("worlds") / "tiny"
    tiny_world.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sims() -> None:
    if importlib.util.find_spec("vizdoom") is None:
        pytest.skip("the sims extra (vizdoom) is not installed")


@pytest.fixture(scope="session")
def maze_world(sims: None) -> World:
    """The tiny world with start views on three real mazes, for the simulator twins."""
    from worldenv.sims import DoomDynamics

    seeds = [900_000, 900_001, 900_002]
    dynamics = DoomDynamics(1, map_seeds=seeds, depth=False)
    views = [dynamics.reset(seeds=[seed], starts=[seed]) for seed in seeds]
    dynamics.close()
    c2w = torch.cat([view.c2w[:, -1] for view in views])
    goals = c2w.clone()
    goals[:, :3, 3] += 1.5 * c2w[:, :3, 2]
    world = make_tiny_world()
    world.starts = Starts(torch.cat([view.frames[:, -1] for view in views]), c2w, goals, torch.tensor(seeds))
    return world
