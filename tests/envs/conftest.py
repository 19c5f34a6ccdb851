"""Vector environments of both kinds: in one piece, and with their rows in shards of one core."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pytest

from worldenv.envs.arguments import Arguments
from worldenv.envs.core import EnvCore
from worldenv.envs.make import make_core
from worldenv.envs.ray_env import RayVectorEnv
from worldenv.envs.sharded import ShardedCore
from worldenv.envs.vector_env import WorldVectorEnv
from worldenv.ids import environment_ids
from worldenv.world.world import World

ID = {arguments["task"]: name for name, arguments in environment_ids().items() if arguments["dynamics"] == "world"}


class Make(Protocol):
    def __call__(self, world: World, num_envs: int = 3, task: str = "navigate", **kwargs: Any) -> WorldVectorEnv: ...


class HereShards:
    """Shards in this process, which die when they are told to."""

    def __init__(self, asked: list[Arguments]) -> None:
        self.asked, self.cores = asked, [make_core(part) for part in asked]
        self.dying: set[int] = set()
        self.spared = 0
        """Calls that those who are to die live through."""

    def __len__(self) -> int:
        return len(self.cores)

    def call(
        self, function: Callable[..., Any], arguments: Mapping[int, tuple[Any, ...]]
    ) -> tuple[dict[int, Any], set[int]]:
        dead = self.dying & set(arguments)
        if dead and self.spared:
            dead, self.spared = set(), self.spared - 1
        self.dying -= dead
        results = {k: function(self.cores[k], *given) for k, given in arguments.items() if k not in dead}
        for k in dead:
            self.cores[k] = make_core(self.asked[k])
        return results, dead

    def close(self) -> None:
        for core in self.cores:
            EnvCore.close(core)


class HereVectorEnv(RayVectorEnv):
    """RayVectorEnv without Ray."""

    def _open(self, asked: Arguments) -> ShardedCore:
        part = self.part(asked)
        self.shards = HereShards([part] * (asked.num_envs // part.num_envs))
        return ShardedCore(self.shards, part.num_envs)


def make_sharded(world: World, num_envs: int = 3, task: str = "navigate", **kwargs: Any) -> HereVectorEnv:
    """Make an environment of shards of one row each, or of ``num_actors`` shards."""
    kwargs = {"num_actors": num_envs, "device": "cpu"} | kwargs
    return HereVectorEnv(ID[task], num_envs, world=world, **kwargs)


def make_local(world: World, num_envs: int = 3, task: str = "navigate", **kwargs: Any) -> WorldVectorEnv:
    return WorldVectorEnv(num_envs, **{"task": task, "world": world, "device": "cpu"} | kwargs)


@pytest.fixture(params=[make_local, make_sharded], ids=["local", "sharded"])
def make(request: pytest.FixtureRequest) -> Make:
    return request.param
