"""What environments step: a generated world, its twin, a simulator of its own, as keyword arguments say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..base.config import from_dict, merge, to_dict
from ..base.device import resolve_device, resolve_dtype
from ..base.objects import call_own, find_object
from ..base.said import said
from ..diffusion.schedule import SamplerConfig
from ..dynamics.protocol import Dynamics
from ..dynamics.spec import WorldSpec
from ..engine.engine import Engine
from ..memory.config import MemoryConfig
from ..memory.select import Policy
from ..models.backend import resolve_backend
from ..models.codec import Codec, to_pixels
from ..sims.gym import EncodedGymDynamics, twin_maker
from ..tasks.base import Task
from ..world.histories import Histories
from ..world.starts import Starts
from ..world.world import World, shared_world
from .arguments import Arguments
from .episodes import with_starts


def load_world(world: str | World, device: str, dtype: str, backend: str) -> World:
    """Check how a world is to be computed, then load it, unless it is there."""
    where, kind = check_computation(device, dtype, backend)
    if isinstance(world, World):
        return world
    return shared_world(world, device=where, dtype=kind, backend=backend)


def check_computation(device: str, dtype: str, backend: str) -> tuple[torch.device, torch.dtype]:
    """Return device and dtype by their names, which may be ``auto``; refuse, by a ValueError, what there is not."""
    where = resolve_device(device)
    kind = resolve_dtype(dtype, where)
    resolve_backend(backend, device=where, dtype=kind)
    return where, kind


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How a world is to be stepped."""

    memory: MemoryConfig
    choose: Policy | None
    sampler: SamplerConfig
    spec: WorldSpec
    capture: bool
    begins: Histories | None  # what episodes begin after; None: start views
    doubts: bool  # whether to tell how far chunks are to be trusted
    depth: bool  # whether depth is wanted, which a simulator has to cast rays for
    sim_env: str | Callable[..., Any] | None  # what the twin of a recorded environment is made of


def _generated(world: World, num_envs: int, wanted: Wanted) -> Dynamics:
    return Engine(
        world,
        num_envs,
        memory=wanted.memory,
        choose=wanted.choose,
        sampler=wanted.sampler,
        chunk_latents=wanted.spec.chunk_latents,
        capture=wanted.capture,
        walls=world.has_walls(wanted.memory),
        begins=wanted.begins,
        doubts=wanted.doubts,
    )


def _simulated(world: World, num_envs: int, wanted: Wanted) -> Dynamics:
    environment = world.spec.environment
    if environment is not None:
        return EncodedGymDynamics(
            num_envs,
            spec=wanted.spec,
            make=twin_maker(environment, wanted.sim_env),
            encode=partial(_encoded, world.vae),
            latent_shape=world.latent_shape,
        )
    from ..sims.doom.presets import with_many  # the simulator is an extra
    from ..sims.doom.sim import DoomDynamics

    if wanted.begins is not None:
        starts, maze = wanted.begins.starts, with_many(wanted.spec.maze)
    else:
        starts, maze = world.require_starts(), wanted.spec.maze
    spec = replace(wanted.spec, maze=maze)
    seeds, c2w = starts.require_maps()
    return DoomDynamics(num_envs, spec=spec, map_seeds=seeds.tolist(), start_c2w=c2w, depth=wanted.depth)


@torch.inference_mode()
def _encoded(
    vae: Codec,
    frames: Tensor,  # (B, 1 + T F, H, W, 3) uint8
) -> Tensor:
    """Return latents, (B, 1 + F, C, h, w) float32 on the CPU."""
    return vae.encode(to_pixels(frames).to(vae.latent_mean.device, vae.dtype)).float().cpu()


Opens = Callable[[World, int, Wanted], Dynamics]

DYNAMICS: dict[str, Opens] = {"world": _generated, "sim": _simulated}
"""What ``dynamics=`` may name."""


def find_opener(dynamics: str | Dynamics) -> Opens:
    """Return what opens what ``dynamics=`` stands for."""
    found = find_object(dynamics, DYNAMICS, what="dynamics")
    if isinstance(dynamics, str) and dynamics in DYNAMICS:
        return DYNAMICS[dynamics]
    if not callable(found):
        return lambda *_: found
    return lambda _, num_envs, wanted: call_own(found, num_envs, what="dynamics", spec=wanted.spec)


def sampler_config(own: SamplerConfig, num_steps: int | None, lookahead_policy: str | None) -> SamplerConfig:
    """Resolve the arguments ``num_steps`` and ``lookahead_policy`` over the world's own sampler."""
    given = {"num_steps": num_steps, "lookahead_policy": lookahead_policy}
    if lookahead_policy is not None and not own.rolling:
        raise ValueError(f"lookahead_policy={lookahead_policy!r}, but this world has no rolling window; leave it out")
    wanted = {name: value for name, value in given.items() if value is not None}
    return from_dict(SamplerConfig, {**to_dict(own), **wanted}, where="sampler")


def memory_config(memory: str | Mapping[str, Any] | Policy, own: MemoryConfig) -> tuple[MemoryConfig, Policy | None]:
    """Resolve the ``memory`` argument: ``auto``, a policy's name over the world's budgets, a table, or a policy."""
    if isinstance(memory, Mapping):
        return from_dict(MemoryConfig, merge(to_dict(own), memory), where="memory"), None
    if isinstance(memory, str) and ":" not in memory:
        return own if memory == "auto" else replace(own, policy=memory), None
    found = find_object(memory, {}, what="memory policy")
    policy: Policy = call_own(found, what="memory policy") if isinstance(found, type) else found
    if not callable(policy):
        raise ValueError(f"memory policy {type(policy).__name__} cannot be called; see memory.select.Policy")
    return own, policy


def open_world(asked: Arguments, task: Task, opens: Opens, *, depth: bool) -> tuple[Dynamics, Starts | None]:
    """Load the world and open what steps it; return that and where its episodes begin.

    Args:
        asked: what was asked for.
        task: its task.
        opens: what ``dynamics=`` stands for.
        depth: whether observations or task need depth.

    Raises:
        ValueError: if the world lacks what was asked for.
    """
    world, twin = load_world(asked.world, asked.device, asked.dtype, asked.backend), asked.named == "sim"
    if asked.named == "world":
        world.config.check_trained(chunk_latents=asked.chunk_latents, num_steps=asked.num_steps)
    if task.defaults.simulator and world.starts is not None:
        world = with_tables(world, marked=task.defaults.simulator == "hand/mark")
    recorded = world.spec.environment is not None
    if asked.sim_env is not None and not recorded:
        raise ValueError(f"sim_env={said(asked.sim_env)}: world {world.config.name!r} was recorded from no environment")
    begins = None
    if asked.horizon is not None:
        begins = world.require_moments("horizon")
    elif task.defaults.from_clip:
        begins = world.require_clips(f"task {type(task).__name__}")
    if asked.starts is not None:
        if twin and recorded:
            raise ValueError(f"starts={list(asked.starts)}: the twin of a recorded environment begins as that does")
        world, begins = with_starts(world, begins, asked.starts)
    starts = starts_of(world, task, begins, needed=twin and not recorded)
    settings, choose = memory_config(asked.memory, world.config.memory)
    wanted = Wanted(
        memory=settings,
        choose=choose,
        sampler=sampler_config(world.config.sampler, asked.num_steps, asked.lookahead_policy),
        spec=replace(world.spec, chunk_latents=asked.chunk_latents or world.spec.chunk_latents),
        capture=asked.capture,
        begins=begins,
        doubts=asked.uncertainty or asked.pessimism is not None,
        depth=asked.depth or depth,
        sim_env=asked.sim_env,
    )
    stepped = opens(world, asked.num_envs, wanted)
    return stepped, None if twin and recorded else starts  # that twin begins as it always does


def table_starts(asked: Arguments, task: Task) -> tuple[Starts, WorldSpec]:
    """Return the start views of a world of tables, which its twin begins at too, and what the world looks like.

    Raises:
        ValueError: if it is a world of something else, or has no such start views.
    """
    world = load_world(asked.world, "cpu", asked.dtype, asked.backend)
    if "joints" not in world.spec.takes:
        raise ValueError(
            f"world {world.config.name!r} shows no hand, and this simulator lays the tables of one that does; pass "
            "world=DIR of a world of hands (configs/hand), or leave it out"
        )
    world = with_tables(world, marked=task.defaults.simulator == "hand/mark")
    if asked.starts is not None:
        world, _ = with_starts(world, None, asked.starts)
    return world.require_starts(), world.spec


def with_tables(world: World, *, marked: bool) -> World:
    """Return the same world with those start views alone in which a mark, or else a tray, is the goal.

    Raises:
        ValueError: if there are none.
    """
    starts = world.starts
    if starts is None or starts.marked is None:
        return world
    kept = starts.marked == marked
    if not kept.any():
        goal = "mark" if marked else "tray"
        raise ValueError(f"world {world.config.name!r} has no start view with a {goal}; record some with its task")
    other = copy(world)
    other.starts = starts.at(kept)
    return other


def starts_of(world: World, task: Task, begins: Histories | None, *, needed: bool) -> Starts | None:
    """Return where episodes begin; refuse worlds without start views, or goals, where those are needed."""
    starts = world.starts if begins is None else begins.starts
    goals = None if starts is None else starts.goals
    if task.defaults.simulator and (starts is None or starts.target is None) and "joints" in world.spec.takes:
        raise ValueError(
            f"world {world.config.name!r} has no start views with a tray or a mark; give it some with num_starts of "
            "`worldenv train vae`"
        )
    if (goals is None and task.defaults.needs_goal) or (starts is None and needed):
        raise ValueError(
            f"world {world.config.name!r} has no start views with goals, and the simulator's maps come with them too; "
            "task='revisit' in the generated world takes any picture: reset(options={'image': ...})"
        )
    return starts


def recorded_limit(spec: WorldSpec) -> int | None:
    """Return the recorded environment's time limit in chunks, None where it has none."""
    frames = 0 if spec.environment is None else spec.environment.max_episode_steps
    return -(-frames // spec.chunk_frames) or None
