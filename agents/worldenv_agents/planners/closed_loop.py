"""Act in the simulator by plans that were imagined; what really happens is what the world then remembers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from worldenv.base.rng import derive_seed
from worldenv.dynamics.signals import Track
from worldenv.engine.engine import Engine
from worldenv.envs.beginning import Beginning
from worldenv.envs.core import EnvCore
from worldenv.tasks.base import Outcome

from ..environments import EnvConfig, make_envs
from .copied import Copied
from .imagine import Branching, Tree, act
from .planner import Planner, PlannerConfig
from .sequences import as_actions

Where = Literal["world", "floor", "blank"]
PLACES: tuple[Where, ...] = get_args(Where)


@dataclass
class Episode:
    """What an episode brought and cost."""

    seed: int
    earned: float = 0.0
    success: float = 0.0
    length: int = 0
    decisions: int = 0
    chunks: float = 0.0
    """Imagined, of all decisions."""
    seconds: float = 0.0
    """Of one core, on planning; shared out equally among the episodes that were planned for together."""


def core_of(config: EnvConfig, num_envs: int) -> EnvCore:
    """Make an environment and return its core."""
    core: EnvCore = make_envs(config, num_envs).unwrapped.core  # type: ignore[attr-defined]
    return core


def check_planning(config: EnvConfig, planning: PlannerConfig, imagine: Sequence[Where]) -> None:
    """Refuse what nobody can plan with, by a ValueError: a twin or a world that cannot be had, actions, places."""
    twin = core_of(replace(config, dynamics="sim"), 1)
    twin.close()
    if twin.config.max_episode_steps is None:
        raise ValueError("max_episode_steps=-1: an episode without a limit may never end; give it one to plan for")
    Planner(planning, twin.action_space, rollouts=1, seeds=[0]).about()
    for where in imagine:
        open_imagination(where, config, episodes=1, room=1)


def open_imagination(where: Where, config: EnvConfig, *, episodes: int, room: int) -> Branching:
    """Return what plans are imagined in, ``episodes`` rows and ``room`` branches of each.

    ``world`` is the generated world, ``floor`` its memory of what was seen, without a picture being made, and ``blank``
    the last frame in an empty space.

    Raises:
        ValueError: for a world that is no engine's, or has no start views.
    """
    rows = episodes * (1 + room)
    core = core_of(replace(config, dynamics="world"), {"world": rows, "floor": episodes, "blank": 1}[where])
    if where != "world" and not core.spec.has_camera:
        raise ValueError(
            f"imagine={where!r} tells where a camera goes, and {config.env} has none; pass --imagine world"
        )
    if not isinstance(core.dynamics, Engine) or core.episodes.starts is None:
        raise ValueError(f"{config.env} of world {config.world!r} has no start views to plan from in a generated world")
    if where == "world":
        return core.dynamics
    keeps = core.dynamics if where == "floor" else None
    return Copied(rows, spec=core.spec, starts=core.episodes.starts, keeps=keeps)


def run_planned(
    where: Where, config: EnvConfig, planning: PlannerConfig, *, rollouts: int, seeds: Sequence[int]
) -> list[Episode]:
    """Run one episode of each seed in the simulator, deciding by what is imagined; the batch changes nothing."""
    twin = core_of(replace(config, dynamics="sim"), len(seeds))
    imagined = open_imagination(where, config, episodes=len(seeds), room=rollouts * planning.lookahead)
    drawn = [derive_seed(seed, "plan") for seed in seeds]
    planner = Planner(planning, twin.action_space, rollouts=rollouts, seeds=drawn)
    tree = Tree(imagined, twin, episodes=len(seeds), discount=planning.discount)
    try:
        return run_closed_loop(twin, tree, planner, seeds)
    finally:
        twin.close()


def run_closed_loop(twin: EnvCore, tree: Tree, planner: Planner, seeds: Sequence[int]) -> list[Episode]:
    """Step all episodes until the last has ended."""
    count, execute, branches = len(seeds), planner.config.execute, tree.dynamics
    twin.reset(Beginning.drawn(seeds), torch.ones(count, dtype=torch.bool))
    others = branches.num_envs - count
    own = torch.arange(branches.num_envs) < count
    branches.reset(seeds=[*seeds, *[0] * others], starts=[None] * branches.num_envs, mask=own)
    episodes, running, plans = [Episode(seed) for seed in seeds], list(range(count)), {}
    for step in range(twin.config.max_episode_steps or 0):
        if step % execute == 0:
            plans = _decide(tree, planner, twin, [episodes[e] for e in running], running)
        planned = np.stack([plans[e][step % execute] for e in running])
        outcome = _carry_out(twin, branches, as_actions(twin.action_space, planned), running)
        for i, e in enumerate(running):
            episodes[e].earned += float(outcome.reward[i])
            episodes[e].success = float(outcome.success[i])
            episodes[e].length += 1
        running = [e for i, e in enumerate(running) if not outcome.terminated[i]]
        if not running:
            break
    return episodes


def _carry_out(twin: EnvCore, branches: Branching, actions: npt.NDArray[Any], running: list[int]) -> Outcome:
    """Act in the simulator, and let what plans are imagined in take in what came of it."""
    state = {name: part[running] for name, part in twin.state.items()}
    asked = torch.as_tensor(actions)
    commanded, chunk, outcome = act(twin.dynamics, twin.body, twin.task, twin.config.action_mode, asked, state, running)
    for name, part in outcome.state.items():
        twin.state[name] = twin.state[name].index_copy(0, torch.tensor(running), part)
    real = {name: part for name, part in chunk.signals.items() if name in commanded}
    branches.observe(chunk.frames, Track({**commanded, **real}), rows=running)
    return outcome


def _decide(
    tree: Tree, planner: Planner, twin: EnvCore, episodes: list[Episode], running: list[int]
) -> dict[int, npt.NDArray[Any]]:
    """Plan for the episodes that go on, and note what that costs."""
    began, before = time.process_time(), tree.imagined
    tree.begin(running, twin.state)
    plans = planner.decide(running, tree.returns)
    for episode in episodes:
        episode.decisions += 1
        episode.chunks += (tree.imagined - before) / len(running)
        episode.seconds += (time.process_time() - began) / len(running)
    return plans
