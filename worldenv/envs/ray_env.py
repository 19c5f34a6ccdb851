"""A vector environment whose rows are shared among Ray actors, each with an engine of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..base.cluster import LOCAL, cause_of, check_version, connect, load_ray
from ..base.said import one_line, said
from ..ids import environment_ids
from .arguments import MOST, WHOLE, Arguments
from .core import Transition
from .make import make_core
from .sharded import ShardedCore
from .vector_env import WorldVectorEnv

START_SECONDS = 600.0
"""How long an actor may take until it is there; a cluster that others have filled would let it wait for ever."""


class RayVectorEnv(WorldVectorEnv):
    """``gym.make_vec(env_id, num_envs)`` with its rows in blocks of ``num_envs / num_actors``, one block per actor.

    Rows are what they are in a local environment of a block's size, to the last bit where machines are alike. ``fork``
    stays within a block; everything else works across blocks. The rows of an actor that dies are truncated, and
    ``info["actor_lost"]`` (B,) names them in that step; another actor takes its place.

    Args:
        env_id: an id of this package.
        num_envs: B.
        num_actors: blocks.
        address: a running cluster's ``HOST:PORT``, or ``local`` for one of this machine that ends with the program. A
            program that has called ``ray.init`` stays in that cluster.
        actor_options: options of ``ray.remote`` for the actors; by default an equal share of the cluster's CPU
            cores, and of its GPUs unless ``device="cpu"``, one at most of either.
        threads: threads that an actor computes on; 0 shares this process's among them.
        kwargs: see ``WorldVectorEnv``. Tensors (``output="torch"``) are on the CPU.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int = 1,
        *,
        num_actors: int = 1,
        address: str = LOCAL,
        actor_options: Mapping[str, Any] | None = None,
        threads: int = 0,
        **kwargs: Any,
    ) -> None:
        known = environment_ids()
        if not isinstance(env_id, str) or env_id not in known:
            raise ValueError(f"unknown id {said(env_id)}; RayVectorEnv makes {', '.join(known)}")
        for name, count, least in (("num_envs", num_envs, 1), ("num_actors", num_actors, 1), ("threads", threads, 0)):
            if not isinstance(count, WHOLE) or isinstance(count, bool) or not least <= count <= MOST["num_envs"]:
                raise ValueError(f"{name}={said(count)}; pass a whole number from {least} to {MOST['num_envs']}")
        _check_options(actor_options)
        if num_envs % num_actors:
            raise ValueError(f"num_envs={num_envs} rows cannot be shared equally by num_actors={num_actors}")
        self._num_actors, self._address = num_actors, address
        self._options, self._threads = actor_options, threads or max(1, torch.get_num_threads() // num_actors)
        super().__init__(num_envs, **{**known[env_id], **kwargs})

    def _open(self, asked: Arguments) -> ShardedCore:
        leave = connect(self._address)
        try:
            part = self.part(asked)
            options = dict(self._options) if self._options is not None else _share(self._num_actors, asked.device)
            shards = RayShards(part, self._num_actors, options, self._threads, leave)
            return ShardedCore(shards, part.num_envs)
        except BaseException:
            leave()
            raise

    def part(self, asked: Arguments) -> Arguments:
        """Return what is asked of an actor."""
        return replace(asked, num_envs=asked.num_envs // self._num_actors)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Advance every env by one chunk; ``info["actor_lost"]`` is there when episodes were lost."""
        *signals, info = super().step(actions)
        assert isinstance(self.core, ShardedCore)
        lost = self.core.lost.numpy()
        if lost.any():
            info |= {"actor_lost": lost.copy(), "_actor_lost": np.ones(self.num_envs, bool)}
        return (*signals, info)


class _Shard:
    """What an actor holds."""

    def open(self, asked: Arguments, threads: int) -> str:
        """Make the core; return the version of what makes it."""
        torch.set_num_threads(threads)
        self.core = make_core(asked)
        return __version__

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        """Ask the core."""
        return _on_cpu(function(self.core, *arguments))


class RayShards:
    """Cores in actors; see ``shards.Shards``."""

    def __init__(
        self, asked: Arguments, count: int, options: Mapping[str, Any], threads: int, leave: Callable[[], None]
    ) -> None:
        self._ray, self._leave = load_ray(), leave
        _check_room(options, count)
        self._asked, self._threads = self._ray.put(asked), threads
        self._make = self._ray.remote(**options)(_Shard).remote
        self.actors = [self._make() for _ in range(count)]
        try:
            self._start(self.actors)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self.actors)

    def _start(self, actors: list[Any]) -> None:
        """Let actors open their cores.

        Raises:
            ValueError: what the environment refuses; that the cluster has no room, or another version.
        """
        ray = self._ray
        try:
            opening = [actor.open.remote(self._asked, self._threads) for actor in actors]
            versions = ray.get(opening, timeout=START_SECONDS)
        except ray.exceptions.GetTimeoutError:
            left = {name: ray.available_resources().get(name, 0.0) for name in ("CPU", "GPU")}
            raise ValueError(
                f"{len(actors)} actors did not start within {START_SECONDS:g} s; the cluster has {left} left: pass "
                "fewer num_actors, or smaller actor_options"
            ) from None
        except ray.exceptions.RayError as error:
            raise cause_of(error) from None
        for version in versions:
            check_version(version)

    def call(
        self, function: Callable[..., Any], arguments: Mapping[int, tuple[Any, ...]]
    ) -> tuple[dict[int, Any], set[int]]:
        """Call ``function(core, *arguments)`` in some actors; replace those that have died."""
        ray = self._ray
        waiting = {k: self.actors[k].call.remote(function, given) for k, given in arguments.items()}
        results, dead, failed = {}, set(), None
        for k, reference in waiting.items():
            try:
                results[k] = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                failed = failed or cause_of(error)
            except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError):
                dead.add(k)
        for k in dead:
            ray.kill(self.actors[k])
            self.actors[k] = self._make()
        self._start([self.actors[k] for k in dead])
        if failed is not None:
            raise failed from None
        return results, dead

    def close(self) -> None:
        """End the actors, and leave a cluster that was joined for them."""
        if self._ray.is_initialized():
            for actor in self.actors:
                self._ray.kill(actor)
            self._leave()


def share_of(there: float, count: int) -> float:
    """Return how much of so many cores or GPUs each of ``count`` actors gets: one, or an equal part of one, so that
    nothing is left over in pieces that no actor fits into.
    """
    return int(1000 / math.ceil(count / there)) / 1000 if there else 0.0


def _share(count: int, device: str) -> dict[str, Any]:
    """Return what an actor asks of the cluster."""
    there = load_ray().cluster_resources()
    cores, gpus = (share_of(there.get(name, 0.0), count) for name in ("CPU", "GPU"))
    return {"num_cpus": cores, "num_gpus": 0.0 if device == "cpu" else gpus, "scheduling_strategy": "SPREAD"}


def _check_options(options: Mapping[str, Any] | None) -> None:
    """Refuse, by a ValueError, what Ray takes for no options of an actor; before a cluster is joined."""
    if options is None:
        return
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise ValueError(f"actor_options={said(options)}; pass a table of ray.remote's options, or None")
    for name in ("num_cpus", "num_gpus"):
        count = options.get(name) or 0.0
        if isinstance(count, bool) or not isinstance(count, int | float) or not 0 <= count <= MOST["num_envs"]:
            raise ValueError(f"actor_options: {name}={said(count)}; pass a number from 0 to {MOST['num_envs']}")
    try:
        load_ray().remote(**options)(_Shard)
    except (TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"actor_options={said(options)}: {one_line(error)}") from None


def _check_room(options: Mapping[str, Any], count: int) -> None:
    """Refuse at once what the cluster could never give.

    Raises:
        ValueError: naming what it has.
    """
    there = load_ray().cluster_resources()
    for name, resource in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
        asked = options.get(name) or 0.0
        if asked * count > there.get(resource, 0.0) + 1e-6:
            raise ValueError(
                f"{count} actors of {name}={asked:g} do not fit a cluster of {there.get(resource, 0.0):g}; pass fewer "
                f"num_actors, or actor_options={{{name!r}: {there.get(resource, 0.0) / count:.3g}}}"
            )


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {name: _on_cpu(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_on_cpu(part) for part in value)
    return Transition(**_on_cpu(vars(value))) if isinstance(value, Transition) else value
