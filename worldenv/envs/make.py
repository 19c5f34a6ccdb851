"""From keyword arguments to a core: which world, which task, which modes. Every argument is plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..base.config import from_dict, merge, to_dict
from ..base.device import resolve_device, resolve_dtype
from ..base.dynamics import Dynamics
from ..diffusion.schedule import SamplerConfig
from ..engine.engine import Engine
from ..engine.world import World, shared_world
from ..memory.config import MemoryConfig
from ..models.backend import resolve_backend
from ..models.quantize import check_kind
from ..tasks.registry import make_task
from .core import CoreConfig, EnvCore, Episodes


def make_core(
    *,
    num_envs: int,
    task: str,
    world: str | World = "maze",
    dynamics: str = "world",
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "auto",
    quantize: str = "none",
    capture: bool = False,
    memory: str | Mapping[str, Any] = "auto",
    action_mode: str | None = None,
    obs_mode: str | None = None,
    obs_keys: Sequence[str] | None = None,
    stack: int = 4,
    chunk_latents: int | None = None,
    num_steps: int | None = None,
    lookahead_policy: str | None = None,
    clip_actions: bool = False,
    max_episode_steps: int | None = 0,
    task_options: Mapping[str, Any] | None = None,
    report_memory: bool = False,
    prompt: str = "",
) -> EnvCore:
    """Build the core of an environment.

    Args:
        num_envs: batch size B.
        task: key of ``tasks.registry.TASKS``.
        world: packaged name, directory, ``hub:org/name``, or a ``World``.
        dynamics: ``world`` (generated) or ``sim`` (the simulator twin: same size, K, steps, starts).
        device: ``auto``, ``cpu``, ``cuda`` ...
        dtype: ``auto``, ``float32`` or ``bfloat16``; a ``World`` keeps its own, and its backend and quantisation.
        backend: ``auto`` (the fastest on the device), ``torch``, ``onednn`` or ``triton``; see ``models.backend``.
        quantize: ``none`` or ``int8``; see ``models.quantize``.
        capture: launch chunks as CUDA graphs; see ``engine.capture``.
        memory: ``auto`` (the world's own), a policy's name, or a table of ``MemoryConfig``; the simulator needs none.
        action_mode: see ``spaces.ACTION_MODES``; None is the task's default.
        obs_mode: image, stack, chunk, dict or latent; None is the task's default.
        obs_keys: what ``dict`` observations hold.
        stack: frames of ``stack`` observations.
        chunk_latents: latents per step; None is the world's.
        num_steps: denoising steps per chunk; None is the world's; the simulator takes none.
        lookahead_policy: ``hold`` or ``reset``, what a world with a rolling window does when the action changes (see
            ``SamplerConfig``); None is the world's.
        clip_actions: clip continuous actions instead of refusing them.
        max_episode_steps: chunks per episode; 0 is the task's default, None or -1 no limit.
        task_options: options of the task.
        report_memory: put ``memory_chunks`` into ``info``, and what a chunk had in context: ``memory_entries``,
            ``memory_retrieved``, ``memory_score`` and ``memory_retrieved_c2w``; see ``History.explain``.
        prompt: what episodes of a world with text begin with, unless ``reset`` says otherwise; a text, or the path of
            its embedding (.safetensors).

    Raises:
        ValueError: on anything unknown; nothing is loaded before the arguments are checked.
    """
    made, entry = make_task(task, task_options)
    _check_counts(num_envs=num_envs, chunk_latents=chunk_latents, num_steps=num_steps, stack=stack)
    if dynamics not in ("world", "sim"):
        raise ValueError(f"dynamics={dynamics!r}; choose 'world' or 'sim'")
    if max_episode_steps is not None and max_episode_steps < -1:
        raise ValueError(f"max_episode_steps={max_episode_steps}; pass a positive number, or -1 for no limit")
    loaded = _load(world, device, dtype, backend, quantize)
    starts = loaded.require_starts() if entry.needs_goal or dynamics == "sim" else loaded.starts
    limit = entry.max_episode_steps if max_episode_steps == 0 else max_episode_steps
    config = CoreConfig(
        action_mode=action_mode or entry.action_mode,
        obs_mode=obs_mode or entry.obs_mode,
        obs_keys=tuple(obs_keys or (("image", "goal") if entry.needs_goal else ("image",))),
        stack=stack,
        clip_actions=clip_actions,
        max_episode_steps=None if limit in (None, -1) else limit,
        report_memory=report_memory,
        prompt=prompt,
    )
    sampler = sampler_config(loaded.config.sampler, num_steps, lookahead_policy)
    made_dynamics = _dynamics(dynamics, loaded, num_envs, memory, chunk_latents, sampler, capture)
    return EnvCore(made_dynamics, made, Episodes(starts), config)


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name}={count} must be at least 1")


def _load(world: str | World, device: str, dtype: str, backend: str, quantize: str) -> World:
    """Check how a world is to be computed, then load it, unless it is there."""
    where = resolve_device(device)
    kind = resolve_dtype(dtype, where)
    resolve_backend(backend, device=where, dtype=kind)
    check_kind(quantize)
    if isinstance(world, World):
        return world
    return shared_world(world, device=where, dtype=kind, backend=backend, quantize=quantize)


def _dynamics(
    kind: str, world: World, num_envs: int, memory: str | Mapping[str, Any], chunk_latents: int | None,
    sampler: SamplerConfig, capture: bool,
) -> Dynamics:  # fmt: skip
    policy = memory_config(memory, world.config.memory)
    if kind == "world":
        return Engine(
            world, num_envs, memory=policy, sampler=sampler, chunk_latents=chunk_latents, capture=capture
        )  # fmt: skip
    from ..sims.doom import DoomDynamics

    starts = world.require_starts()
    spec = replace(world.spec, chunk_latents=chunk_latents or world.spec.chunk_latents)
    return DoomDynamics(
        num_envs, spec=spec, map_seeds=starts.map_seeds.tolist(), start_c2w=starts.c2w, depth=False
    )  # fmt: skip


def sampler_config(own: SamplerConfig, num_steps: int | None, lookahead_policy: str | None) -> SamplerConfig:
    """Resolve the arguments ``num_steps`` and ``lookahead_policy`` over the world's own sampler."""
    given = {"num_steps": num_steps, "lookahead_policy": lookahead_policy}
    if lookahead_policy is not None and not own.rolling:
        raise ValueError(f"lookahead_policy={lookahead_policy!r}, but this world has no rolling window; leave it out")
    wanted = {name: value for name, value in given.items() if value is not None}
    return from_dict(SamplerConfig, {**to_dict(own), **wanted}, where="sampler")


def memory_config(memory: str | Mapping[str, Any], own: MemoryConfig) -> MemoryConfig:
    """Resolve the ``memory`` argument: ``auto``, a policy's name over the world's budgets, or a table."""
    if isinstance(memory, str):
        return own if memory == "auto" else replace(own, policy=memory)
    return from_dict(MemoryConfig, merge(to_dict(own), memory), where="memory")
