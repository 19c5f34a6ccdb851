"""Fixtures: a tiny world with random weights, and the sims and kernels extras where they are there."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

# Read when Triton is first imported, which other libraries do too: kernels run in its interpreter.
os.environ.setdefault("TRITON_INTERPRET", "1")

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from worldenv.bodies.hand import joints_at
from worldenv.bodies.vector import ACTION, action_signal, describe_actions
from worldenv.dynamics.environment import Environment
from worldenv.dynamics.signals import Track
from worldenv.dynamics.spec import WorldSpec
from worldenv.memory.config import MemoryConfig
from worldenv.models.dit import WorldDiT
from worldenv.models.heads import DepthConfig, DepthHead, EventConfig, HeadConfigs, ObjectConfig
from worldenv.models.presets import PRESETS
from worldenv.models.types import Conditioning, DiTConfig
from worldenv.models.vae import VAEConfig
from worldenv.sims.mujoco.sim import HAND_SPEC
from worldenv.world.config import Trained, WorldConfig
from worldenv.world.histories import Histories
from worldenv.world.starts import Starts
from worldenv.world.world import World

torch.set_num_threads(1)


def make_tiny_world() -> World:
    """Build a world of the packaged one's shape with a few thousand random weights and 64 start views."""
    torch.manual_seed(0)
    config = WorldConfig(
        name="tiny",
        vae=PRESETS["tiny"].vae,
        dit=PRESETS["tiny"].dit,
        trained=Trained(chunk_latents=(1,), num_steps=(1, 2)),
    )
    c2w = torch.eye(4, dtype=torch.float64).repeat(64, 1, 1)
    goals = c2w.clone()
    goals[:, 2, 3] = 3.0
    frames = torch.randint(0, 256, (64, 48, 64, 3), dtype=torch.uint8)
    return with_random_weights(World(config, starts=Starts(frames, c2w, goals, torch.arange(900_000, 900_064))))


def with_random_weights(world: World) -> World:
    """Draw every weight of a world, those that begin at 0 too."""
    for module in (world.dit, world.vae, *world.heads.values()):
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.1)
        module.eval().requires_grad_(False)
    return world


def make_hand_world() -> World:
    """Build a world of random weights with a pose video, a head that reads objects, six trays and two marks."""
    torch.manual_seed(0)
    tiny, spec = PRESETS["tiny"], replace(HAND_SPEC, chunk_latents=2)
    head = ObjectConfig(widths=(8, 8), num_points=4, hidden=8)
    config = WorldConfig(
        name="hands",
        spec=spec,
        vae=tiny.vae,
        dit=replace(tiny.dit, camera_branch=False, key_branch=False, codes={"joints": 26}, pose_video=True),
        memory=MemoryConfig(policy="recent", temporal_latents=4, retrieved_chunks=0),
        heads=HeadConfigs(object_read=head),
    )
    plans = torch.tensor([[-0.1, 0.0, 0.2, 0.0, 0.1, 0.0, -1.0]]).repeat(8, 1) + 0.01 * torch.randn(8, 7)
    starts = Starts(
        torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8),
        joints=joints_at(plans.double()).float(),
        target=torch.tensor([0.1, 0.05, 0.0]).repeat(8, 1),
        marked=torch.arange(8) >= 6,
        tables=torch.arange(8),
    )
    return with_random_weights(World(config, starts=starts))


def vector_dit(numbers: int, **changed: Any) -> DiTConfig:
    """The smallest network of a world whose actions are so many numbers."""
    return DiTConfig(
        latent_channels=4,
        width=16,
        num_layers=1,
        num_heads=2,
        ffn_dim=32,
        freq_dim=16,
        codes={ACTION: numbers},
        camera_branch=False,
        key_branch=False,
        **changed,
    )


def saved(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a world; return its folder, which has its name."""
    folder = tmp_path_factory.mktemp("worlds") / world.config.name
    world.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_world() -> World:
    return make_tiny_world()


@pytest.fixture(scope="session")
def tiny_world_dir(tiny_world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tiny_world, tmp_path_factory)


@pytest.fixture(scope="session")
def hand_world() -> World:
    return make_hand_world()


@pytest.fixture(scope="session")
def hand_world_dir(hand_world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(hand_world, tmp_path_factory)


@pytest.fixture(scope="session")
def rendered_world(tiny_world: World) -> World:
    """The tiny world with a depth head that sees a few metres everywhere."""
    torch.manual_seed(1)
    head = DepthHead(DepthConfig(widths=(8, 8, 8), num_blocks=1))
    nn.init.zeros_(head.out.bias)
    head.eval().requires_grad_(False)
    config = replace(tiny_world.config, heads=HeadConfigs(depth=head.config))
    return World(config, vae=tiny_world.vae, dit=tiny_world.dit, heads={"depth": head}, starts=tiny_world.starts)


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """What lets files grow no further than so many bytes, as on a disk that is full; here and in new processes."""
    resource = pytest.importorskip("resource", reason="this system limits no file sizes")

    @contextmanager
    def full(room: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return full


@pytest.fixture(scope="session")
def sims() -> None:
    if importlib.util.find_spec("vizdoom") is None:
        pytest.skip("the sims extra (vizdoom) is not installed")


@pytest.fixture(scope="session")
def triton() -> None:
    """Skip without Triton; what is there runs in the interpreter."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed (the kernels extra)")
    from worldenv_kernels.backend import interpreting

    if not interpreting():
        pytest.skip("TRITON_INTERPRET=0 was asked for")


@pytest.fixture(scope="session")
def maze_world(sims: None) -> World:
    """The tiny world with start views on three real mazes, for the simulator twins."""
    from worldenv.sims import DoomDynamics

    seeds = [900_000, 900_001, 900_002]
    dynamics = DoomDynamics(1, map_seeds=seeds, depth=False)
    views = [dynamics.reset(seeds=[seed], starts=[seed]) for seed in seeds]
    dynamics.close()
    c2w = torch.cat([view.signals["c2w"][:, -1] for view in views])
    goals = c2w.clone()
    goals[:, :3, 3] += 1.5 * c2w[:, :3, 2]
    world = make_tiny_world()
    world.starts = Starts(torch.cat([view.frames[:, -1] for view in views]), c2w, goals, torch.tensor(seeds))
    return world


TINY_RELEASE = {
    "transformer": {
        "patch_size": [1, 2, 2],
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 4,
        "out_channels": 4,
        "text_dim": 10,
        "freq_dim": 16,
        "ffn_dim": 32,
        "num_layers": 2,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "eps": 1e-06,
        "image_dim": None,
        "added_kv_proj_dim": None,
        "rope_max_seq_len": 1024,
        "pos_embed_seq_len": None,
    },
    "vae": {
        "base_dim": 4,
        "decoder_base_dim": 4,
        "z_dim": 4,
        "dim_mult": [1, 1, 2, 2],
        "num_res_blocks": 1,
        "attn_scales": [],
        "temperal_downsample": [False, True, True],
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "scale_factor_temporal": 4,
        "scale_factor_spatial": 16,
    },
    "height": 32,
    "width": 64,
}


def write_release(folder: Path, values: dict[str, Any]) -> Path:
    """Write a WorldPlay release of random weights, with the embedding of one prompt in text.safetensors."""
    from worldenv.base.checkpoint import save_tensors
    from worldenv.models.pretrained.wan_vae import WanVAE
    from worldenv.models.pretrained.worldplay import config_from_diffusers, released_state

    torch.manual_seed(0)
    dit, vae = WorldDiT(config_from_diffusers(values["transformer"])), WanVAE(values["vae"])
    for parameter in [*dit.parameters(), *vae.parameters()]:
        nn.init.normal_(parameter, std=0.2)
    (folder / "config.json").write_text(json.dumps(values))
    save_tensors(folder / "transformer.safetensors", released_state(dit))
    save_tensors(folder / "vae.safetensors", vae.vae.state_dict())
    save_tensors(folder / "text.safetensors", {"text": torch.randn(1, 7, 10)})
    save_tensors(folder / "other.safetensors", {"text": torch.randn(1, 7, 10)})
    return folder


@pytest.fixture(scope="session")
def release_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of a few thousand weights."""
    pytest.importorskip("diffusers")
    return write_release(tmp_path_factory.mktemp("release"), TINY_RELEASE)


def note_positions(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Return a list that grows by the temporal positions of every pass of a transformer, context first."""
    seen: list[torch.Tensor] = []

    def noting(act: Any) -> Any:
        def noted(dit: WorldDiT, latents: torch.Tensor, cond: Conditioning, **rest: Any) -> Any:
            seen.append(cond.positions)
            return act(dit, latents, cond, **rest)

        return noted

    for name in ("prefill", "forward"):
        monkeypatch.setattr(WorldDiT, name, noting(getattr(WorldDiT, name)))
    return seen


class Bright(gym.Env[Any, Any]):
    """The picture is bright or dark; pressing is paid while it is bright, and costs while it is not."""

    action_space = gym.spaces.Discrete(2)
    observation_space = gym.spaces.Box(0, 255, (16, 16, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.bright, self.age = bool(self.np_random.integers(2)), 0
        return self.show(), {}

    def step(self, action: Any) -> Any:
        reward = float(action) * (1.0 if self.bright else -1.0)
        self.bright, self.age = bool(self.np_random.integers(2)), self.age + 1
        return self.show(), reward, False, self.age >= 8, {}

    def show(self) -> Any:
        return np.full((16, 16, 3), 220 if self.bright else 30, np.uint8)


gym.register("test/Bright-v0", Bright, disable_env_checker=True)


@pytest.fixture(scope="session")
def bright(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world of it that has learned nothing."""
    torch.manual_seed(0)
    parts = describe_actions(Bright.action_space)
    spec = WorldSpec(
        width=16,
        height=16,
        chunk_latents=1,
        frames_per_latent=1,
        takes={ACTION: action_signal(parts)},
        gives={},
        environment=Environment(id="test/Bright-v0", actions=parts, max_episode_steps=8),
    )
    head = EventConfig(num_codes=2, num_frames=1, widths=(4,), hidden=4, threshold=0.6, num_members=2)
    config = WorldConfig(
        name="bright",
        spec=spec,
        vae=VAEConfig(latent_channels=4, encoder_widths=(4, 4, 8), decoder_widths=(4, 4, 8), frames_per_latent=1),
        dit=vector_dit(2, patch=1),
        memory=MemoryConfig(policy="recent", temporal_latents=2, retrieved_chunks=1),
        heads=HeadConfigs(reward=head, terminated=replace(head, output="logit", threshold=1.0)),
    )
    views = torch.stack([torch.full((16, 16, 3), level, dtype=torch.uint8) for level in (30, 220)])
    moments = Histories(torch.randn(2, 3, 4, 2, 2).half(), Track({ACTION: torch.zeros(2, 3, 2)}), views[:, None])
    world = World(config, starts=Starts(views), moments=moments)
    for module in world.parts().values():
        module.eval().requires_grad_(False)
    folder = tmp_path_factory.mktemp("bright")
    world.save_pretrained(folder / "world")
    (folder / "make.json").write_text(json.dumps({"asked": {"frames": 1024}}))
    return folder / "world"
