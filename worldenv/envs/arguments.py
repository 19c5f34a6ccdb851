"""What an environment may be asked for. All of it can be plain JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..base.objects import nearest
from ..base.said import said
from ..bodies.base import Body
from ..dynamics.protocol import Dynamics
from ..memory.select import Policy
from ..tasks.base import Task
from ..world.world import World

NONE = type(None)
WHOLE: tuple[type, ...] = (int, np.integer)
FLAG: tuple[tuple[type, ...], str] = ((bool, np.bool_), "True or False")
KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "num_envs": (WHOLE, "a whole number"),
    "world": ((str, Path, World), "a packaged name, a directory, hub:org/name, or a World"),
    "device": ((str,), "a device's name"),
    "dtype": ((str,), "auto, float32 or bfloat16"),
    "backend": ((str,), "a backend's name"),
    "capture": FLAG,
    "action_mode": ((str, NONE), "the name of a mode, or None"),
    "obs_mode": ((str, NONE), "the name of a mode, or None"),
    "obs_keys": ((list, tuple, NONE), "a list of names, or None"),
    "stack": ((*WHOLE, NONE), "a whole number"),
    "starts": ((list, tuple, NONE), "the first and the one behind the last, or None"),
    "chunk_latents": ((*WHOLE, NONE), "a whole number, or None"),
    "num_steps": ((*WHOLE, NONE), "a whole number, or None"),
    "horizon": ((*WHOLE, NONE), "a whole number, or None"),
    "lookahead_policy": ((str, NONE), "hold, reset or None"),
    "clip_actions": FLAG,
    "max_episode_steps": ((*WHOLE, NONE), "a whole number, or None"),
    "task_options": ((Mapping, NONE), "a table"),
    "report_memory": FLAG,
    "prompt": ((str,), "a text"),
    "depth": FLAG,
    "uncertainty": FLAG,
    "pessimism": ((float, np.floating, *WHOLE, NONE), "a number, or None"),
    "pictures": FLAG,
}
"""What arguments are, and how one says so; the others may be somebody's own classes."""
MOST = {"num_envs": 2**16, "chunk_latents": 2**10, "num_steps": 2**10, "stack": 2**10, "horizon": 2**20}
"""The largest of each, before anything of that size is made."""
MOST_PESSIMISM = 1e9
"""Rewards remain numbers that single precision holds."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Keyword arguments of ``gym.make_vec`` and, with one env, ``gym.make``."""

    num_envs: int
    """Batch size B."""
    task: str | Task
    """Key of ``tasks.registry.TASKS``, ``package.module:Class``, or a ``Task``."""
    world: str | World = "auto"
    """``auto`` (the packaged one that the task is about), packaged name, directory, ``hub:org/name``, a ``World``."""
    dynamics: str | Dynamics = "world"
    """``world`` (generated), ``sim`` (the simulator twin: same size, K, steps, starts), a ``Dynamics``, or
    ``package.module:Class`` of one, called with ``num_envs`` and ``spec=``."""
    body: str | Body = "auto"
    """``auto`` (the one that commands what the world takes), a key of ``bodies.registry.BODIES``, a ``Body``, or
    ``package.module:Class`` of one."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` ..."""
    dtype: str = "auto"
    """``auto``, ``float32`` or ``bfloat16``; a ``World`` keeps its own, and its backend."""
    backend: str = "auto"
    """``auto`` (the fastest on the device), ``torch``, ``onednn`` or ``triton``; see ``models.backend``."""
    capture: bool = False
    """Launch chunks as CUDA graphs; see ``engine.capture``."""
    memory: str | Mapping[str, Any] | Policy = "auto"
    """``auto`` (the world's own), a policy's name, a table of ``MemoryConfig``, or a ``memory.select.Policy``
    (``package.module:Class`` of one) within the world's own budgets; the simulator needs none."""
    action_mode: str | None = None
    """A mode of the body (``bodies.camera.ACTION_MODES``); None is the task's default, or the body's."""
    obs_mode: str | None = None
    """image, stack, chunk, dict or latent; None is the task's default."""
    obs_keys: Sequence[str] | None = None
    """What ``dict`` observations hold; for ``obs_mode="dict"`` alone."""
    stack: int | None = None
    """Frames of ``stack`` observations, 4 by default; for ``obs_mode="stack"`` alone."""
    chunk_latents: int | None = None
    """Latents per step; None is the world's. A world takes others where it was trained for them."""
    num_steps: int | None = None
    """Denoising steps per chunk; None is the world's; the simulator takes none. A world takes others where it was
    trained for them, or more where its sampler follows the ODE."""
    lookahead_policy: str | None = None
    """``hold`` or ``reset``, what a world with a rolling window does when the action changes (see ``SamplerConfig``);
    None is the world's."""
    clip_actions: bool = False
    """Clip continuous actions instead of refusing them; for modes whose space is a Box."""
    max_episode_steps: int | None = 0
    """Chunks per episode; 0 is the task's default, None or -1 no limit."""
    task_options: Mapping[str, Any] | None = None
    """Options of the task."""
    report_memory: bool = False
    """Put ``memory_chunks`` into ``info``, and what a chunk had in context: ``memory_entries``, ``memory_retrieved``,
    ``memory_score``, ``memory_retrieved_c2w``, ``memory_information_gain`` and ``memory_rendered``; see
    ``History.explain``."""
    prompt: str = ""
    """What episodes of a world with text begin with, unless ``reset`` says otherwise; a text, or the path of its
    embedding (.safetensors)."""
    depth: bool = False
    """Whether to know the newest view's depth, which a simulator has to cast rays for; what observations and tasks need
    of it is known anyway."""
    horizon: int | None = None
    """Steps of an episode that begins at a recorded moment, instead of as the environment does; None begins with start
    views. Generated worlds of recorded environments have such moments."""
    uncertainty: bool = False
    """Put ``uncertainty`` into ``info``: how far a chunk is to be doubted, 1 where as usual, for one more evaluation of
    the network; see ``engine.doubt``."""
    pessimism: float | None = None
    """What a unit of uncertainty costs: it is taken from the reward, and episodes end where the world is less certain
    than in 19 of 20 held-out chunks. Where rewards are negative an early end pays: look at the lengths."""
    sim_env: str | Callable[..., Any] | None = None
    """What the twin of a recorded environment is made of, a class, a function, or an id that may import its module
    (``module:Id-v0``); by default the recorded id, if it is registered here. Nothing that a world's file names is
    imported."""
    starts: Sequence[int] | None = None
    """Of the world's start views, or of the clips or moments that episodes begin with, those alone from the first
    number to before the second, so that policies are trained at some and tested at others; None is all of them."""
    pictures: bool = True
    """False leaves frames black, for policies that do not look: the hand's table is a few times faster then."""

    def __post_init__(self) -> None:
        for name, (kinds, says) in KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise ValueError(f"{name}={said(value)}; pass {says}")
        for name, most in MOST.items():
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"{name}={count} must be at least 1")
            if count is not None and count > most:
                raise ValueError(f"{name}={count} must be at most {most}")
        if self.obs_keys is not None and not all(isinstance(key, str) for key in self.obs_keys):
            raise ValueError(f"obs_keys={said(self.obs_keys)}; pass a list of names")
        if self.starts is not None and not (
            len(self.starts) == 2
            and all(isinstance(one, WHOLE) and not isinstance(one, bool) for one in self.starts)
            and 0 <= self.starts[0] < self.starts[1]
        ):
            raise ValueError(f"starts={said(self.starts)}; pass two whole numbers, the first below the second")
        if self.horizon is not None and self.max_episode_steps:
            raise ValueError(
                f"horizon={self.horizon} is a limit already; leave max_episode_steps={self.max_episode_steps} out"
            )
        if self.max_episode_steps is not None and self.max_episode_steps < -1:
            raise ValueError(f"max_episode_steps={self.max_episode_steps}; pass a positive number, or -1 for no limit")
        if self.max_episode_steps is not None and self.max_episode_steps >= 2**31:
            raise ValueError(f"max_episode_steps={self.max_episode_steps}; pass less than 2**31, or -1 for no limit")
        if self.pessimism is not None and not 0 <= self.pessimism <= MOST_PESSIMISM:
            raise ValueError(
                f"pessimism={self.pessimism} must be from 0 to {MOST_PESSIMISM:g}: what a unit of uncertainty costs"
            )
        if self.obs_mode == "":
            raise ValueError("obs_mode=''; pass the name of a mode, or None")
        if self.sim_env is not None and self.dynamics != "sim":
            raise ValueError(
                f"sim_env={said(self.sim_env)} is what the twin is made of; leave it out, or pass dynamics='sim'"
            )
        if self.named != "world":
            for name in ("num_steps", "lookahead_policy", "horizon"):
                self.refuse_ungenerated(name, getattr(self, name))
            self.refuse_ungenerated("pessimism", self.pessimism)
            self.refuse_ungenerated("uncertainty", self.uncertainty or None)
            self.refuse_ungenerated("capture", self.capture or None)

    @property
    def named(self) -> str:
        """``dynamics``, if it is a name, else nothing."""
        return self.dynamics if isinstance(self.dynamics, str) else ""

    @staticmethod
    def refuse_ungenerated(name: str, value: object) -> None:
        """Refuse what is for generated worlds alone, by a ValueError."""
        if value is not None:
            raise ValueError(f"{name}={value!r} is for generated worlds; leave it out, or pass dynamics='world'")


def check_keywords(given: Iterable[str], own: Sequence[str], elsewhere: Mapping[str, str]) -> None:
    """Refuse keywords that nothing takes.

    Args:
        given: keywords of an environment.
        own: those that its class takes itself; the others are ``Arguments``.
        elsewhere: what to say of keywords that belong to another way of making one.

    Raises:
        TypeError: naming the nearest known keyword.
    """
    known = [name for name in (*(field.name for field in fields(Arguments)), *own) if name not in elsewhere]
    for name in given:
        if name in elsewhere:
            raise TypeError(f"keyword {name!r} is {elsewhere[name]}")
        if name not in known:
            raise TypeError(f"unknown keyword {name!r}{nearest(name, known)}; known are {', '.join(sorted(known))}")
