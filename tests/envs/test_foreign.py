"""Someone else's dynamics and tasks under the ids of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from worldenv.dynamics.protocol import Branchable, Chunk, require
from worldenv.dynamics.signals import Signal, Signals, Track
from worldenv.dynamics.spec import WorldSpec
from worldenv.engine.engine import Engine
from worldenv.tasks.base import Defaults, Outcome, Start, TaskState
from worldenv.world.world import World


class Painted:
    """A plain colour that tells how far one has come; it can do what every ``Dynamics`` can, and no more."""

    def __init__(self, num_envs: int, *, spec: WorldSpec) -> None:
        self.num_envs, self.spec = num_envs, spec
        self.c2w = torch.eye(4, dtype=torch.float64).repeat(num_envs, 1, 1)

    @property
    def present(self) -> dict[str, Tensor]:
        return {"c2w": self.c2w}

    def _chunk(self, c2w: Tensor, num_frames: int) -> Chunk:
        far = (20 * c2w[:, -1, :3, 3].norm(dim=-1)).round().to(torch.uint8)
        shape = (len(c2w), num_frames, self.spec.height, self.spec.width, 3)
        return Chunk(far.view(-1, 1, 1, 1, 1).expand(shape).contiguous(), {"c2w": c2w})

    def reset(self, *, seeds: Sequence[int], starts: Sequence[int | None], mask: Tensor | None = None) -> Chunk:
        rows = slice(None) if mask is None else mask
        self.c2w[rows] = torch.eye(4, dtype=torch.float64)
        return self._chunk(self.c2w[:, None].clone(), 1)

    def step(self, commands: Track, rows: Sequence[int] | None = None) -> Chunk:
        self.c2w[list(range(self.num_envs) if rows is None else rows)] = commands["c2w"][:, -1]
        return self._chunk(commands["c2w"], self.spec.chunk_frames)


@dataclass(frozen=True, kw_only=True)
class Wander:
    """Be rewarded for the distance from the start, which is also shown."""

    defaults: ClassVar[Defaults] = Defaults(obs_mode="dict", obs_keys=("image", "away"), max_episode_steps=3)
    shows: ClassVar[Mapping[str, Signal]] = {"away": Signal(shape=(1,), low=0.0)}

    scale: float = 1.0

    def reset(self, start: Start) -> TaskState:
        return {"start": start.present["c2w"][:, :3, 3].clone()}

    def step(self, state: TaskState, chunk: Chunk) -> Outcome:
        away = self.scale * (chunk.signals["c2w"][:, -1, :3, 3] - state["start"]).norm(dim=-1)
        never = torch.zeros(len(away), dtype=torch.bool)
        return Outcome(away, never, never, state)

    def observe(self, state: TaskState, present: Signals) -> dict[str, Tensor]:
        return {"away": (present["c2w"][:, :3, 3] - state["start"]).norm(dim=-1, keepdim=True).float()}


@pytest.mark.parametrize("named", [False, True])
def test_foreign_dynamics_and_tasks_are_stepped_like_our_own(tiny_world: World, named: bool) -> None:
    dynamics = "tests.envs.test_foreign:Painted" if named else Painted(2, spec=tiny_world.spec)
    task = "tests.envs.test_foreign:Wander" if named else Wander(scale=2.0)
    options = {"task_options": {"scale": 2.0}} if named else {}
    envs = gym.make_vec(
        "worldenv/Navigate-v0",
        num_envs=2,
        world=tiny_world,
        dynamics=dynamics,
        task=task,
        action_mode="keys",
        **options,
    )
    obs, _ = envs.reset(seed=0)
    assert set(obs) == {"image", "away"}
    assert not obs["away"].any()
    for step in range(1, 4):
        obs, reward, terminated, truncated, info = envs.step(np.array([[1, 0], [0, 0]]))
        if step < 3:
            np.testing.assert_allclose(obs["away"][:, 0], [step, 0], atol=1e-6)
        np.testing.assert_allclose(reward, [2 * step, 0], atol=1e-6)
    assert truncated.all()
    assert not terminated.any()
    assert "memory_chunks" not in info
    with pytest.raises(ValueError, match="copies episodes; Painted does not"):
        envs.unwrapped.clone_state([0])
    with pytest.raises(ValueError, match="goes on from pictures; Painted does not"):
        envs.reset(options={"image": obs["image"]})


def test_what_is_unknown_is_named_with_the_nearest_known(tiny_world: World) -> None:
    for name, said in (("wrold", "did you mean 'world'"), ("no.such:Thing", "pass package.module:Class")):
        with pytest.raises(ValueError, match=said):
            gym.make_vec("worldenv/Navigate-v0", num_envs=1, world=tiny_world, dynamics=name)
    with pytest.raises(ValueError, match="dynamics holds 3 envs, num_envs=2"):
        gym.make_vec("worldenv/Navigate-v0", num_envs=2, world=tiny_world, dynamics=Painted(3, spec=tiny_world.spec))


def test_capabilities_are_asked_for_by_name(tiny_world: World) -> None:
    engine = Engine(tiny_world, 1, decode=False)
    assert require(engine, Branchable, "a fork") is engine
    with pytest.raises(ValueError, match="a fork needs a generated world"):
        require(Painted(1, spec=tiny_world.spec), Branchable, "a fork")


def test_what_cannot_be_called_as_it_has_to_be_is_refused(tiny_world: World) -> None:
    for keyword, value in (
        ("dynamics", object),
        ("dynamics", "os:getcwd"),
        ("body", "os:DirEntry"),
        ("memory", Painted),
    ):
        with pytest.raises(ValueError, match=f"{keyword}.* is called with .*, and cannot"):
            gym.make_vec("worldenv/Navigate-v0", num_envs=1, world=tiny_world, **{keyword: value})


def test_an_error_of_somebody_elses_class_stays_as_it_is(tiny_world: World) -> None:
    def broken(num_envs: int, *, spec: WorldSpec) -> None:
        raise TypeError(f"no {spec.width}")

    with pytest.raises(TypeError, match="no 64"):
        gym.make_vec("worldenv/Navigate-v0", num_envs=1, world=tiny_world, dynamics=broken)
