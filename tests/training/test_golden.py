"""Ten steps of every stage on fixed tiny data reproduce the committed losses.

After a change that is meant to move them: ``python -m tests.training.test_golden`` writes them anew.
"""

from __future__ import annotations

import json
import tempfile
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.conftest import make_tiny_world
from tests.training import test_consistency, test_motion, test_stages
from tests.training.test_segments import MEMORY, walks
from worldenv.base.log import JsonlLog
from worldenv.diffusion.schedule import SamplerConfig
from worldenv.geometry.action import ActionSteps
from worldenv.models.heads import DepthConfig, DisplayConfig, HeadConfigs
from worldenv.models.presets import PRESETS
from worldenv.models.refine import with_inputs
from worldenv.training.loop.optim import OptimConfig
from worldenv.training.loop.protocols import Stage
from worldenv.training.loop.trainer import Trainer
from worldenv.training.material import DenoiseConfig, Material
from worldenv.training.stages.consistency_distill import ConsistencyConfig, ConsistencyStage
from worldenv.training.stages.context_forcing import ContextForcingConfig, ContextForcingStage
from worldenv.training.stages.display import DisplayStage, DisplayTrainConfig
from worldenv.training.stages.heads import HeadsConfig, HeadsStage
from worldenv.training.stages.memory import MemoryStage
from worldenv.training.stages.motion import PoseStage
from worldenv.training.stages.registry import STAGES
from worldenv.training.stages.rolling import RollingConfig, rolling_stage
from worldenv.training.stages.teacher import TeacherStage
from worldenv.training.stages.vae import DecoderStage, Frames, VAELossConfig, VAEStage
from worldenv.training.stages.window import WindowStage
from worldenv.world.config import WorldConfig
from worldenv.world.world import World

PATH = Path(__file__).with_name("golden.json")
OPTIM = OptimConfig(
    steps=10,
    batch=2,
    lr=1e-3,
    warmup=2,
    beta1=0.0,
    beta2=0.999,
    log_every=1,
    save_every=100,
    preview_every=100,
    mixed_precision="no",
)
DENOISING = {
    "bidirectional": partial(WindowStage, causal=False),
    "causal": partial(WindowStage, causal=True),
    "memory": MemoryStage,
    "memory_cached": MemoryStage,
    "memory_render": MemoryStage,
    "teacher": TeacherStage,
}
RECORDED = ("vae", "decoder", "pose", "heads", "display")
NAMES = (*RECORDED, *DENOISING, "consistency", "consistency_distill", "context_forcing", "rolling")


def make_recorded_stage(name: str, folder: Path) -> Stage:
    """Make a stage that trains on frames."""
    torch.manual_seed(0)
    world = World(WorldConfig(spec=test_stages.SPEC, vae=PRESETS["tiny"].vae, dit=PRESETS["tiny"].dit))
    spec = test_stages.LARGE if name == "display" else test_stages.SPEC
    data, config = test_stages.record(folder, 2, spec=spec), VAELossConfig(num_frames=9)
    if name == "pose":
        tiny = test_motion.config_for(data, None, batch=2)
        recorded = replace(tiny.pose_loss, decoded=0.0)  # others are decoded in bfloat16 where the CPU has it
        return PoseStage(
            world.vae, ActionSteps(), replace(tiny, pose=replace(tiny.pose, height=32), pose_loss=recorded)
        )
    if name == "heads":
        small = DepthConfig(widths=(8, 8, 8), num_blocks=1)
        world = World(replace(world.config, heads=HeadConfigs(depth=small)), vae=world.vae, dit=world.dit)
        return HeadsStage(world, HeadsConfig(decoded=0.0), OPTIM, data=data, heldout=None, max_clips=None)
    if name == "display":
        sizes = DisplayConfig(widths=(8, 8, 8), fine=8, num_blocks=1)
        world = World(replace(world.config, heads=HeadConfigs(display=sizes)), vae=world.vae, dit=world.dit)
        losses = DisplayTrainConfig(crop=16, decoded=0.0, walks=0, adversarial=0.5)
        return DisplayStage(world, world, losses, OPTIM, data=data, heldout=None, max_clips=None)
    frames = Frames(world, config, OPTIM.batch, data=data, heldout=None, max_clips=None)
    if name == "vae":
        return VAEStage(frames, fresh=OPTIM.seed)
    return DecoderStage(frames)


def make_stage(name: str, folder: Path) -> Stage:
    if name in RECORDED:
        return make_recorded_stage(name, folder / "data")
    if name == "consistency":
        return test_consistency.make_stage(OPTIM.steps)
    tiny = make_tiny_world()
    sampler = SamplerConfig(num_steps=4, stochastic=True, rolling=name == "rolling")
    config = replace(tiny.config, memory=MEMORY, sampler=sampler)
    world = World(config, vae=tiny.vae, dit=tiny.dit.requires_grad_(True))
    denoise, data, teacher = DenoiseConfig(num_chunks=3, draws=2), walks(world), deepcopy(world.dit)
    if name == "memory_render":
        dit = with_inputs(world.dit, render_input=True).requires_grad_(True)
        world = World(replace(config, dit=dit.config), vae=world.vae, dit=dit)
        shape = (len(data), 2, data.latents.shape[1], 1 + data.latents.shape[2], *data.latents.shape[3:])
        data = replace(data, renders=torch.rand(shape, generator=torch.Generator().manual_seed(1)).half())
    if name in DENOISING:
        denoise = replace(denoise, cached=0.6 if name == "memory_cached" else 0.0)
        return DENOISING[name](Material(world, denoise, OPTIM.batch, data=data))
    material = Material(world, denoise, OPTIM.batch, data=data)
    if name == "consistency_distill":
        return ConsistencyStage(material, ConsistencyConfig())
    forcing = ContextForcingConfig(critic_updates=2, history_steps=5)
    if name == "rolling":
        return rolling_stage(material, forcing, RollingConfig(), teacher=teacher)
    return ContextForcingStage(material, forcing, teacher=teacher)


def run(name: str, folder: Path) -> dict[str, list[float]]:
    """Take the steps; return the losses that the log holds."""
    trainer = Trainer(make_stage(name, folder), OPTIM, folder, resume=False, run={})
    for _ in range(OPTIM.steps):
        figures = trainer._update()
        trainer.step += 1
        assert trainer.log is not None
        trainer.log.write({"step": trainer.step, **figures})
    lines = JsonlLog.read(folder / "log.jsonl")
    return {key: [line[key] for line in lines] for key in ("loss", "critic_loss", "grad_norm") if key in lines[0]}


def test_no_stage_is_left_out() -> None:
    assert {*STAGES, "pose"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_the_committed_ones(name: str, tmp_path: Path) -> None:
    assert torch.get_num_threads() == 1
    found, wanted = run(name, tmp_path), json.loads(PATH.read_text())[name]
    assert found.keys() == wanted.keys()
    for key, values in found.items():
        assert values == pytest.approx(wanted[key], rel=1e-4), key


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        golden = {name: run(name, Path(folder) / name) for name in NAMES}
    PATH.write_text(json.dumps(golden, indent=1) + "\n")
