from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.training.test_segments import MEMORY, walks
from worldenv.diffusion.schedule import SamplerConfig, inference_sigmas
from worldenv.engine.rollout import Prepared
from worldenv.models.dit import WorldDiT
from worldenv.training.material import DenoiseConfig, Material
from worldenv.training.stages.consistency_distill import ConsistencyConfig, ConsistencyStage
from worldenv.world.world import World

SAMPLER = SamplerConfig(num_steps=4, shift=3.0, stochastic=True)


def make_stage(tiny_world: World) -> ConsistencyStage:
    torch.manual_seed(0)
    dit = WorldDiT(tiny_world.dit.config)
    for parameter in dit.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    world = World(replace(tiny_world.config, memory=MEMORY, sampler=SAMPLER), vae=tiny_world.vae, dit=dit)
    material = Material(world, DenoiseConfig(draws=3), 4, data=walks(world))
    return ConsistencyStage(material, ConsistencyConfig(num_levels=12))


def test_the_worlds_levels_are_among_the_trained_ones(tiny_world: World) -> None:
    levels = make_stage(tiny_world).levels
    assert len(levels) == 13
    torch.testing.assert_close(levels[::3], inference_sigmas(SAMPLER).float())


def test_a_model_that_knows_the_data_is_consistent(tiny_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the straight velocity to one x0 everywhere, the teacher's step stays on its line: no loss, no error."""
    stage = make_stage(tiny_world)
    _, target, _ = stage.chunks.targets(torch.Generator().manual_seed(0))
    x0 = target.latents.repeat_interleave(3, 0)
    calls: list[tuple[WorldDiT, torch.Tensor]] = []

    def straight(prepared: Prepared, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        calls.append((prepared.dit, timesteps))
        sigmas = (timesteps / 1000)[..., None, None, None]
        return torch.where(sigmas > 0, (x - x0) / sigmas.clamp(min=1e-6), 0.0)

    monkeypatch.setattr(Prepared, "velocity", straight)
    loss, figures = stage.loss(torch.Generator().manual_seed(0))
    assert loss.item() < 1e-9
    assert figures["error"] < 1e-9
    assert [dit for dit, _ in calls] == [stage.teacher, stage.target, stage.module]
    (_, now), (_, after), (_, mine) = calls
    assert torch.equal(now, mine)
    places = [(stage.levels * 1000 - t[:, :1]).abs().argmin(1) for t in (now, after)]
    assert torch.equal(places[1], places[0] + 1), "one step nearer to the data"


def test_only_the_student_learns(tiny_world: World) -> None:
    stage = make_stage(tiny_world)
    stage.module.requires_grad_(True)
    loss, _ = stage.loss(torch.Generator().manual_seed(0))
    loss.backward()
    assert all(p.grad is not None for p in stage.module.parameters())
    for frozen in (stage.teacher, stage.target):
        assert all(p.grad is None and not p.requires_grad for p in frozen.parameters())


def test_its_contexts_are_clean_and_recorded(tiny_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = make_stage(tiny_world)
    seen: list[torch.Tensor] = []
    prefill = WorldDiT.prefill

    def noting(dit: WorldDiT, latents: torch.Tensor, cond: Any, **rest: Any) -> None:
        seen.append(latents)
        assert (cond.timesteps == 14).all()
        prefill(dit, latents, cond, **rest)

    monkeypatch.setattr(WorldDiT, "prefill", noting)
    stage.loss(torch.Generator().manual_seed(0))
    assert len(seen) == 3
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])
    recorded = {latent.numpy().tobytes() for latent in stage.material.data.latents.flatten(0, 1).float()}
    assert {latent.numpy().tobytes() for latent in seen[0].flatten(0, 1)} <= recorded
