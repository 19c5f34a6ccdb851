"""From keyword arguments to a core: which world, which task, which modes. Every argument is plain JSON."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces

from ..base.objects import nearest
from ..bodies.base import Body
from ..bodies.registry import BODIES, make_body
from ..dynamics.protocol import Dynamics
from ..memory.select import Policy
from ..models.heads import EVENTS
from ..sims.registry import open_simulator
from ..tasks.base import Defaults, Task
from ..tasks.registry import make_task
from ..world.world import World
from .core import CoreConfig, EnvCore
from .episodes import Episodes
from .opening import (
    Wanted,
    begins_of,
    find_opener,
    load_world,
    memory_config,
    recorded_limit,
    sampler_config,
    starts_of,
)
from .spaces import OBS_MODES


def make_core(
    *,
    num_envs: int,
    task: str | Task,
    world: str | World = "maze",
    dynamics: str | Dynamics = "world",
    body: str | Body = "auto",
    device: str = "auto",
    dtype: str = "auto",
    backend: str = "auto",
    capture: bool = False,
    memory: str | Mapping[str, Any] | Policy = "auto",
    action_mode: str | None = None,
    obs_mode: str | None = None,
    obs_keys: Sequence[str] | None = None,
    stack: int | None = None,
    chunk_latents: int | None = None,
    num_steps: int | None = None,
    lookahead_policy: str | None = None,
    clip_actions: bool = False,
    max_episode_steps: int | None = 0,
    task_options: Mapping[str, Any] | None = None,
    report_memory: bool = False,
    prompt: str = "",
    depth: bool = False,
    horizon: int | None = None,
    sim_env: str | Callable[..., Any] | None = None,
    pictures: bool = True,
) -> EnvCore:
    """Build the core of an environment.

    Args:
        num_envs: batch size B.
        task: key of ``tasks.registry.TASKS``, ``package.module:Class``, or a ``Task``.
        world: packaged name, directory, ``hub:org/name``, or a ``World``.
        dynamics: ``world`` (generated), ``sim`` (the simulator twin: same size, K, steps, starts), a ``Dynamics``, or
            ``package.module:Class`` of one, called with ``num_envs`` and ``spec=``.
        body: ``auto`` (the one that commands what the world takes), a key of ``bodies.registry.BODIES``, a ``Body``, or
            ``package.module:Class`` of one.
        device: ``auto``, ``cpu``, ``cuda`` ...
        dtype: ``auto``, ``float32`` or ``bfloat16``; a ``World`` keeps its own, and its backend.
        backend: ``auto`` (the fastest on the device), ``torch``, ``onednn`` or ``triton``; see ``models.backend``.
        capture: launch chunks as CUDA graphs; see ``engine.capture``.
        memory: ``auto`` (the world's own), a policy's name, a table of ``MemoryConfig``, or a ``memory.select.Policy``
            (``package.module:Class`` of one) within the world's own budgets; the simulator needs none.
        action_mode: a mode of the body (``bodies.camera.ACTION_MODES``); None is the task's default, or the body's.
        obs_mode: image, stack, chunk, dict or latent; None is the task's default.
        obs_keys: what ``dict`` observations hold; for ``obs_mode="dict"`` alone.
        stack: frames of ``stack`` observations, 4 by default; for ``obs_mode="stack"`` alone.
        chunk_latents: latents per step; None is the world's. A world takes others where it was trained for them.
        num_steps: denoising steps per chunk; None is the world's; the simulator takes none. A world takes others where
            it was trained for them, or more where its sampler follows the ODE.
        lookahead_policy: ``hold`` or ``reset``, what a world with a rolling window does when the action changes (see
            ``SamplerConfig``); None is the world's.
        clip_actions: clip continuous actions instead of refusing them; for modes whose space is a Box.
        max_episode_steps: chunks per episode; 0 is the task's default, None or -1 no limit.
        task_options: options of the task.
        report_memory: put ``memory_chunks`` into ``info``, and what a chunk had in context: ``memory_entries``,
            ``memory_retrieved``, ``memory_score``, ``memory_retrieved_c2w``, ``memory_information_gain`` and
            ``memory_rendered``; see ``History.explain``.
        prompt: what episodes of a world with text begin with, unless ``reset`` says otherwise; a text, or the path of
            its embedding (.safetensors).
        depth: whether to know the newest view's depth, which a simulator has to cast rays for; what observations and
            tasks need of it is known anyway.
        horizon: steps of an episode that begins at a recorded moment, instead of as the environment does; None begins
            with start views. Generated worlds of recorded environments have such moments.
        sim_env: what the twin of a recorded environment is made of, a class, a function, or an id that may import its
            module (``module:Id-v0``); by default the recorded id, if it is registered here. Nothing that a world's
            file names is imported.
        pictures: False leaves frames black, for policies that do not look: the hand's table is a few times faster then.

    Raises:
        ValueError: on anything unknown, or given where it cannot apply; nothing is loaded before what can be checked
            without the world.
    """
    made, opens = make_task(task, task_options), find_opener(dynamics)
    _check_counts(num_envs=num_envs, chunk_latents=chunk_latents, num_steps=num_steps, stack=stack, horizon=horizon)
    if horizon is not None and max_episode_steps:
        raise ValueError(f"horizon={horizon} is a limit already; leave max_episode_steps={max_episode_steps} out")
    config = _settings(
        made.defaults,
        obs_mode=obs_mode,
        obs_keys=obs_keys,
        stack=stack,
        max_episode_steps=max_episode_steps,
        clip_actions=clip_actions,
        report_memory=report_memory,
        prompt=prompt,
    )
    if sim_env is not None and dynamics != "sim":
        raise ValueError(f"sim_env={sim_env!r} is what the twin is made of; leave it out, or pass dynamics='sim'")
    if body == "auto":
        _check_action_mode(action_mode, [mode for known in BODIES.values() for mode in known.modes])
    named = dynamics if isinstance(dynamics, str) else ""
    if named != "world":
        _check_ungenerated(
            num_steps=num_steps, lookahead_policy=lookahead_policy, capture=capture or None, horizon=horizon
        )
    seen = config.obs_keys if config.obs_mode == "dict" else ()
    stepped: Dynamics
    starts, recorded = None, False
    if named == "sim" and made.defaults.simulator:
        _check_ungenerated(world=None if world == "maze" else world, sim_env=sim_env)
        looks = {"palm": "palm" in seen, "pictures": pictures}
        stepped = open_simulator(made.defaults.simulator, num_envs, chunk_latents=chunk_latents, **looks)
    else:
        if not pictures:
            raise ValueError("pictures=False is for the hand's table; leave it out")
        loaded = load_world(world, device, dtype, backend)
        if named == "world":
            loaded.config.check_trained(chunk_latents=chunk_latents, num_steps=num_steps)
        recorded = loaded.spec.environment is not None
        if sim_env is not None and not recorded:
            raise ValueError(f"sim_env={sim_env!r}: world {loaded.config.name!r} was recorded from no environment")
        begins = begins_of(loaded, made, horizon=horizon)
        starts = starts_of(loaded, made, begins, needed=named == "sim" and not recorded)
        settings, choose = memory_config(memory, loaded.config.memory)
        wanted = Wanted(
            settings,
            choose,
            sampler_config(loaded.config.sampler, num_steps, lookahead_policy),
            replace(loaded.spec, chunk_latents=chunk_latents or loaded.spec.chunk_latents),
            capture,
            begins,
            depth or "depth" in (*made.defaults.reads, *seen),
            sim_env,
        )
        stepped = opens(loaded, num_envs, wanted)
    _check_fits(stepped, made, num_envs=num_envs, chunk_latents=chunk_latents)
    acting = make_body(body, stepped.spec)
    config = replace(config, action_mode=_action_mode(action_mode, made.defaults, acting))
    if horizon is not None:
        config = replace(config, max_episode_steps=horizon)
    elif made.defaults.recorded and not max_episode_steps and max_episode_steps is not None:
        config = replace(config, max_episode_steps=recorded_limit(stepped.spec))
    if clip_actions and not isinstance(acting.space(config.action_mode, stepped.spec.chunk_latents), spaces.Box):
        raise ValueError(
            f"clip_actions=True is for continuous actions, and action_mode is {config.action_mode!r}; leave it out"
        )
    episodes = Episodes(None if dynamics == "sim" and recorded else starts)  # that twin begins as it always does
    return EnvCore(stepped, acting, made, episodes, config)


def _check_fits(stepped: Dynamics, task: Task, *, num_envs: int, chunk_latents: int | None) -> None:
    """Refuse what is of another size than was asked for, or lacks what the task reads."""
    spec = stepped.spec
    if stepped.num_envs != num_envs:
        raise ValueError(f"dynamics holds {stepped.num_envs} envs, num_envs={num_envs}; make them equal")
    if chunk_latents not in (None, spec.chunk_latents):
        raise ValueError(f"chunk_latents={chunk_latents}, but dynamics has {spec.chunk_latents}; leave it out")
    lacking = [name for name in task.defaults.reads if name not in spec.gives]
    if lacking:
        remedy = "pass a task of its own: task='package.module:Class'"
        if set(lacking) <= set(EVENTS):
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


def _settings(
    defaults: Defaults,
    *,
    obs_mode: str | None,
    obs_keys: Sequence[str] | None,
    stack: int | None,
    max_episode_steps: int | None,
    **given: Any,
) -> CoreConfig:
    """Resolve what was asked of the core over the task's defaults."""
    if max_episode_steps is not None and max_episode_steps < -1:
        raise ValueError(f"max_episode_steps={max_episode_steps}; pass a positive number, or -1 for no limit")
    limit = defaults.max_episode_steps if max_episode_steps == 0 else max_episode_steps
    config = CoreConfig(
        obs_mode=obs_mode or defaults.obs_mode,
        obs_keys=tuple(defaults.obs_keys if obs_keys is None else obs_keys),
        stack=4 if stack is None else stack,
        max_episode_steps=None if limit == -1 else limit,
        **given,
    )
    _check_modes(config, obs_keys=obs_keys, stack=stack)
    return config


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is None:
            continue
        if isinstance(count, bool) or not isinstance(count, int | np.integer):
            raise ValueError(f"{name}={count!r}; pass a whole number")
        if count < 1:
            raise ValueError(f"{name}={count} must be at least 1")


def _check_modes(config: CoreConfig, *, obs_keys: Sequence[str] | None, stack: int | None) -> None:
    """Refuse what the modes make nothing of."""
    for name, value, mode in (("obs_keys", obs_keys, "dict"), ("stack", stack, "stack")):
        if value is not None and config.obs_mode in OBS_MODES and config.obs_mode != mode:
            raise ValueError(
                f"{name}={value!r} is for obs_mode={mode!r}, and this one is {config.obs_mode!r}; leave it out, or "
                f"pass obs_mode={mode!r}"
            )


def _check_ungenerated(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name}={value!r} is for generated worlds; leave it out, or pass dynamics='world'")


def check_keywords(given: Iterable[str], own: Sequence[str], elsewhere: Mapping[str, str]) -> None:
    """Refuse keywords that nothing takes.

    Args:
        given: keywords of an environment.
        own: those that its class takes itself; the others are ``make_core``'s.
        elsewhere: what to say of keywords that belong to another way of making one.

    Raises:
        TypeError: naming the nearest known keyword.
    """
    known = [name for name in (*inspect.signature(make_core).parameters, *own) if name not in elsewhere]
    for name in given:
        if name in elsewhere:
            raise TypeError(f"keyword {name!r} is {elsewhere[name]}")
        if name not in known:
            raise TypeError(f"unknown keyword {name!r}{nearest(name, known)}; known are {', '.join(sorted(known))}")
