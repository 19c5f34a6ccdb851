"""Which environment a policy is trained or evaluated on, as plain values that JSON can hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

import worldenv  # noqa: F401  registers the ids
from worldenv.base.config import to_dict
from worldenv.envs.flat_actions import FlatActions
from worldenv.ids import environment_ids
from worldenv.tasks.registry import SIMULATED, make_task
from worldenv.world.files import find_world, world_sha256

from .action_chunks import OBS_KEYS
from .correction import Corrected

PREFIX = "worldenv/"
ELSEWHERE = {"world": ("sim_env",), "sim": ("horizon", "pessimism")}
"""What is nothing in one place, but may be asked for where both are."""


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """Arguments of ``gym.make_vec``; None leaves the task's default."""

    env: str = "worldenv/Navigate-v0"
    """Environment id."""
    world: str | None = None
    """Packaged name, directory or hub:org/name; by default the packaged one that the id is about."""
    dynamics: str | None = None
    """``world`` generates, ``sim`` is the simulator twin, package.module:Class another; by default what the id says."""
    task: str | None = None
    """A task's name, or package.module:Class, instead of the id's own."""
    task_options: dict[str, int | float | str] | None = None
    """The task's options, such as ``variant in_view`` of ObjectNav; by default its own."""
    body: str | None = None
    """What acts: a body's name, or package.module:Class; by default the one that commands what the world takes."""
    action_mode: str | None = None
    """What an action is; a mode of the body."""
    obs_mode: Literal["image", "stack", "dict", "latent"] | None = None
    """What an observation is."""
    obs_keys: tuple[str, ...] | None = None
    """What ``dict`` observations hold."""
    pictures: bool | None = None
    """Whether frames are made; policies that do not look can do without on the hand's table."""
    memory: str | None = None
    """Memory policy of the world; by default its own."""
    render: bool | None = None
    """Whether what is remembered is rendered into the coming view; by default where the world can."""
    starts: tuple[int, int] | None = None
    """Of what episodes can begin at, those alone from the first number to before the second."""
    max_episode_steps: int | None = None
    """Steps per episode; -1 is no limit."""
    horizon: int | None = None
    """Steps of an episode that begins at a recorded moment, where it is generated (``worldenv/World-v0``)."""
    pessimism: float | None = None
    """What a unit of the world's uncertainty costs, where it is generated."""
    sim_env: str | None = None
    """Id of the environment that the twin is made of, which may name its module; by default the recorded one."""
    blank: bool = False
    """Whether observations are black, to see what can be earned without looking."""
    correct: str | None = None
    """Folder of a cloned policy of hands that acts here: actions are 7 numbers that correct it (``correction``)."""

    def __post_init__(self) -> None:
        if self.world is None and self.env in environment_ids():  # said, so that it is written down
            object.__setattr__(self, "world", world_of(self.env))

    @property
    def place(self) -> str:
        """Where it is: ``world``, ``sim`` or somebody's dynamics."""
        return self.dynamics or ("sim" if "Sim-v" in self.env else "world")

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments of ``gym.make_vec``: of those for one place what concerns this one."""
        elsewhere = {"env", "blank", "render", "correct", *ELSEWHERE.get(self.place, ())}
        chosen = {key: value for key, value in vars(self).items() if key not in elsewhere and value is not None}
        if self.render is not None:
            policy = {} if self.memory in (None, "auto") else {"policy": self.memory}
            chosen["memory"] = {**policy, "render": self.render}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in chosen.items()}

    def check_used(self) -> None:
        """Refuse what is for the other place alone, where only this one is asked for.

        Raises:
            ValueError: naming it.
        """
        for name in ELSEWHERE.get(self.place, ()):
            if (value := getattr(self, name)) is not None:
                other = "the simulator" if self.place == "world" else "generated worlds"
                raise ValueError(f"{name}={value!r} is for {other}, and here it would change nothing; leave it out")

    def registered(self) -> dict[str, Any]:
        """Return what comparisons register of it: its settings, and which weights its world has now."""
        return {"env": to_dict(self), "weights": self.weights()}

    def weights(self) -> str:
        """Return the checksum of its world's weights; "" where no world is stepped."""
        return "" if self.world is None else world_sha256(find_world(self.world))

    def check_both(self) -> None:
        """Refuse, by a ValueError, one place where both are asked for."""
        if self.dynamics is not None:
            raise ValueError(
                f"dynamics={self.dynamics!r}, but this runs in the world and in its simulator; leave it out"
            )
        if self.world is None:
            generated = self.env.replace("Sim-v", "-v")
            raise ValueError(f"env={self.env!r} needs no world, and this runs in one too; pass env={generated!r}")


def world_of(env_id: str) -> str | None:
    """Return the packaged world that an id is about, None of those on ground truth that need none."""
    said = environment_ids()[env_id]
    return None if said["task"] in SIMULATED and said["dynamics"] == "sim" else make_task(said["task"]).defaults.world


def check_env(env_id: str) -> None:
    """Refuse an id that is not one of worldenv's.

    Raises:
        ValueError: naming the ids there are.
    """
    known = sorted(known_id for known_id in gym.registry if known_id.startswith(PREFIX))
    if env_id not in known:
        raise ValueError(f"unknown env {env_id!r}; choose one of {', '.join(known)}")


def make_envs(config: EnvConfig, num_envs: int, **options: Any) -> VectorEnv[Any, Any, Any]:
    """Make the vector environment; ``options`` are further arguments of ``gym.make_vec``.

    Raises:
        ValueError: on anything unknown; see ``worldenv.envs.make``.
    """
    check_env(config.env)
    if config.correct is not None:
        corrected = _corrected(config, Path(config.correct), num_envs, **options)
        return Blank(corrected) if config.blank else corrected
    envs = gym.make_vec(config.env, num_envs=num_envs, **config.options(), **options)
    if isinstance(envs.single_action_space, spaces.Dict):
        envs = ArrayActions(envs, envs.single_action_space)
    return Blank(envs) if config.blank else envs


def _corrected(config: EnvConfig, clone: Path, num_envs: int, **options: Any) -> VectorEnv[Any, Any, Any]:
    """Make the environment in which a cloned policy is corrected."""
    for name in ("action_mode", "obs_mode", "obs_keys", "pictures"):
        if (value := getattr(config, name)) is not None:
            raise ValueError(f"{name}={value!r}: a clone that is corrected sees and acts as it learned; leave it out")
    envs = make_envs(replace(shown_to_clones(config), blank=False), num_envs, **options)
    try:
        return Corrected(envs, clone)
    except ValueError:
        envs.close()
        raise


def shown_to_clones(config: EnvConfig) -> EnvConfig:
    """Return the same environment as a cloned policy sees it and acts in it."""
    return replace(config, action_mode="joints", obs_mode="dict", obs_keys=OBS_KEYS, correct=None)


class ArrayActions(VectorWrapper):
    """Takes arrays (B, N) for actions that are a dictionary."""

    def __init__(self, envs: VectorEnv[Any, Any, Any], space: spaces.Dict) -> None:
        super().__init__(envs)
        self.flat = FlatActions(space)
        self.single_action_space = self.flat.space
        self.action_space = batch_space(self.single_action_space, envs.num_envs)

    def step(self, actions: Any) -> Any:
        """Act as the arrays say."""
        return self.env.step(self.flat.restore(np.asarray(actions)))


class Blank(VectorWrapper):
    """Shows nothing: observations of zeros, those that episodes end with included."""

    def reset(self, **kwargs: Any) -> Any:
        """Begin episodes in the dark."""
        obs, info = self.env.reset(**kwargs)
        return zeros(obs), info

    def step(self, actions: Any) -> Any:
        """Act in the dark."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        for row in np.flatnonzero(info.get("_final_obs", ())):
            info["final_obs"][row] = zeros(info["final_obs"][row])
        return zeros(obs), reward, terminated, truncated, info


def zeros(obs: Any) -> Any:
    """Return an observation, or a dictionary of them, of zeros."""
    if isinstance(obs, dict):
        return {key: zeros(part) for key, part in obs.items()}
    return np.zeros_like(obs)
