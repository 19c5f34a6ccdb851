"""From arguments to a core: which world, which task, which modes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gymnasium import spaces

from ..base.objects import nearest
from ..bodies.base import Body
from ..bodies.registry import BODIES, make_body
from ..dynamics.protocol import Doubting, Dynamics
from ..models.heads import EVENTS
from ..sims.registry import open_simulator
from ..tasks.base import Defaults, Task
from ..tasks.registry import make_task
from .arguments import Arguments
from .core import CoreConfig, EnvCore
from .episodes import Episodes
from .opening import check_computation, find_opener, open_world, recorded_limit, table_starts
from .spaces import OBS_MODES


def make_core(asked: Arguments) -> EnvCore:
    """Build the core of an environment.

    Raises:
        ValueError: on anything unknown, or given where it cannot apply; nothing is loaded before what can be checked
            without the world.
    """
    task, opens = make_task(asked.task, asked.task_options), find_opener(asked.dynamics)
    config = _settings(asked, task.defaults)
    if isinstance(asked.body, str) and asked.body == "auto":
        _check_action_mode(asked.action_mode, [mode for known in BODIES.values() for mode in known.modes])
    seen = config.obs_keys if config.obs_mode == "dict" else ()
    if asked.named == "sim" and task.defaults.simulator:
        stepped, episodes = _open_table(asked, task, seen)
    elif not asked.pictures:
        raise ValueError("pictures=False is for the hand's table; leave it out")
    else:
        asked = replace(asked, world=task.defaults.world) if asked.world == "auto" else asked
        stepped, starts = open_world(asked, task, opens, depth="depth" in (*task.defaults.reads, *seen))
        episodes = Episodes(starts)
    _check_fits(stepped, task, asked)
    acting = make_body(asked.body, stepped.spec, mode=asked.action_mode or task.defaults.action_mode)
    config = replace(config, action_mode=_action_mode(asked.action_mode, task.defaults, acting))
    if asked.obs_keys is None and "palm" not in stepped.spec.gives:  # which no world imagines
        config = replace(config, obs_keys=tuple(key for key in config.obs_keys if key != "palm"))
    if asked.pessimism is not None:
        limit = stepped.uncertainty_limit if isinstance(stepped, Doubting) else 0.0
        config = replace(config, pessimism=asked.pessimism, limit=limit)
    if asked.horizon is not None:
        config = replace(config, max_episode_steps=asked.horizon)
    elif task.defaults.recorded and asked.max_episode_steps == 0:
        config = replace(config, max_episode_steps=recorded_limit(stepped.spec))
    elif task.defaults.max_episode_latents and asked.max_episode_steps == 0:
        chunks = -(-task.defaults.max_episode_latents // stepped.spec.chunk_latents)
        config = replace(config, max_episode_steps=chunks)
    if asked.clip_actions and not isinstance(acting.space(config.action_mode, stepped.spec.chunk_latents), spaces.Box):
        raise ValueError(
            f"clip_actions=True is for continuous actions, and action_mode is {config.action_mode!r}; leave it out"
        )
    return EnvCore(stepped, acting, task, episodes, config)


def _open_table(asked: Arguments, task: Task, seen: Sequence[str]) -> tuple[Dynamics, Episodes]:
    """Open the simulator of a task that needs no world, or the twin of a world: its steps, and its start views."""
    asked.refuse_ungenerated("sim_env", asked.sim_env)
    bare = asked.world == "auto"
    if asked.starts is not None and bare:
        raise ValueError(f"starts={list(asked.starts)} are of a world of hands; pass world=DIR, or leave it out")
    if not asked.pictures and "depth" in seen:
        raise ValueError("pictures=False takes none, and depth is of one; leave it out of obs_keys")
    check_computation(asked.device, asked.dtype, asked.backend)  # which a simulator makes nothing of
    starts, spec = (None, None) if bare else table_starts(asked, task)
    opened = open_simulator(
        task.defaults.simulator,
        asked.num_envs,
        spec=spec,
        chunk_latents=asked.chunk_latents,
        palm="palm" in seen,
        pictures=asked.pictures,
        start_seeds=None if starts is None else starts.require_tables(),
    )
    return opened, Episodes(starts)


def _check_fits(stepped: Dynamics, task: Task, asked: Arguments) -> None:
    """Refuse what is of another size than was asked for, or lacks what the task reads."""
    if not hasattr(stepped, "spec") or not hasattr(stepped, "num_envs"):
        raise ValueError(f"dynamics={str(stepped)[:80]!r} has not what is stepped; see dynamics.protocol")
    spec = stepped.spec
    if stepped.num_envs != asked.num_envs:
        raise ValueError(f"dynamics holds {stepped.num_envs} envs, num_envs={asked.num_envs}; make them equal")
    if asked.chunk_latents not in (None, spec.chunk_latents):
        raise ValueError(f"chunk_latents={asked.chunk_latents}, but dynamics has {spec.chunk_latents}; leave it out")
    own = task.defaults
    lacking = [name for name in own.reads if name not in spec.gives]
    if lacking and own.learned and asked.named != "sim":
        lacking = [name for name in own.learned if name not in spec.gives]
    if lacking:
        remedy = "pass a task of its own: task='package.module:Class'"
        if own.learned:
            remedy = (
                "leave world out, or pass world=DIR of a world of hands with the head that reads objects (configs/hand)"
            )
        elif set(lacking) <= set(EVENTS):
            remedy = "heads give that: `worldenv train heads` on a recording of an environment"
        raise ValueError(
            f"task {type(task).__name__} reads {', '.join(lacking)}, and this world gives "
            f"{', '.join(spec.gives) or 'frames alone'}; {remedy}"
        )


def _check_action_mode(mode: str | None, known: Sequence[str]) -> None:
    if mode is not None and mode not in known:
        raise ValueError(f"unknown action_mode {mode!r}; choose one of {', '.join(known)}{nearest(mode, known)}")


def _action_mode(mode: str | None, defaults: Defaults, body: Body) -> str:
    """Return the mode that was asked for, or the task's if the body has it, or the body's first."""
    _check_action_mode(mode, body.modes)
    return mode or (defaults.action_mode if defaults.action_mode in body.modes else body.modes[0])


def _settings(asked: Arguments, defaults: Defaults) -> CoreConfig:
    """Resolve what was asked of the core over the task's defaults; refuse what the modes make nothing of."""
    limit = defaults.max_episode_steps if asked.max_episode_steps == 0 else asked.max_episode_steps
    config = CoreConfig(
        obs_mode=asked.obs_mode or defaults.obs_mode,
        obs_keys=tuple(defaults.obs_keys if asked.obs_keys is None else asked.obs_keys),
        stack=4 if asked.stack is None else asked.stack,
        max_episode_steps=None if limit == -1 else limit,
        clip_actions=asked.clip_actions,
        report_memory=asked.report_memory,
        prompt=asked.prompt,
    )
    for name, value, mode in (("obs_keys", asked.obs_keys, "dict"), ("stack", asked.stack, "stack")):
        if value is not None and config.obs_mode in OBS_MODES and config.obs_mode != mode:
            raise ValueError(
                f"{name}={value!r} is for obs_mode={mode!r}, and this one is {config.obs_mode!r}; leave it out, or "
                f"pass obs_mode={mode!r}"
            )
    return config
