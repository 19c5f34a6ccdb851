"""``gymnasium.Env``: one episode, the vector env with one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import AutoresetMode

from .arguments import check_keywords
from .core import EnvCore
from .options import read_array, read_options, read_seeds
from .vector_env import KEYWORDS, WorldVectorEnv

VECTOR = "of gym.make_vec; gym.make makes one environment, which is reset by hand"


class WorldEnv(gym.Env[Any, Any]):
    """One episode of a world.

    Args:
        time_limit: ``max_episode_steps`` under a name that ``gym.make`` passes on: it keeps the other for a wrapper of
            its own, which can only shorten episodes.
        kwargs: see ``WorldVectorEnv``.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "depth_array"], "render_fps": 2}  # noqa: RUF012

    def __init__(self, *, time_limit: int | None = 0, **kwargs: Any) -> None:
        check_keywords(kwargs, (*KEYWORDS, "time_limit"), dict.fromkeys(("num_envs", "autoreset_mode"), VECTOR))
        if time_limit != 0:
            kwargs["max_episode_steps"] = time_limit
        self.row = WorldVectorEnv(1, autoreset_mode=AutoresetMode.DISABLED, **kwargs)
        assert isinstance(self.row.core, EnvCore)
        self.core: EnvCore = self.row.core
        self.metadata = {key: value for key, value in self.row.metadata.items() if key != "autoreset_mode"}
        self.render_mode = self.row.render_mode
        self.action_space, self.observation_space = self.core.action_space, self.core.observation_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a new episode; options as for the vector environment, without ``reset_mask``."""
        self.row.check_open("reset")
        chosen, (own,) = read_options(options), read_seeds(None if seed is None else [seed], 1)
        if "reset_mask" in chosen:
            raise ValueError("options['reset_mask'] is for vector environments")
        obs, info = self.row.reset(seed=own, options=chosen)
        super().reset(seed=own)
        return first_row(obs), plain_info(info)

    def set_prompt(self, prompt: str) -> None:
        """Describe the world anew from the next step on (worlds with text)."""
        self.row.set_prompt(prompt)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advance by one chunk; an episode that has ended may go on."""
        self.row.check_open("step")
        self.row.go_on()
        rows = {name: _row(part) for name, part in action.items()} if isinstance(action, Mapping) else _row(action)
        obs, reward, terminated, truncated, info = self.row.step(rows)
        return first_row(obs), float(reward[0]), bool(terminated[0]), bool(truncated[0]), plain_info(info)

    @property
    def compute_reward(self) -> Callable[[Any, Any, Any], Any]:
        """As the vector environment's, for one goal too, (D,): what makes this a ``GoalEnv``, if it is one."""
        rewards = self.row.compute_reward

        def compute(achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
            reward = rewards(achieved_goal, desired_goal, info)
            return reward if reward.ndim else float(reward)

        return compute

    def render(self) -> npt.NDArray[Any] | None:
        """Return the newest frame, (H, W, 3) uint8, or its depth, (H, W) float32 metres along z."""
        frames = self.row.render()
        return None if frames is None else frames[0]

    @property
    def chunk_frames(self) -> npt.NDArray[np.uint8]:
        """All frames of the newest chunk, (1, T, H, W, 3)."""
        return self.row.chunk_frames

    def get_keys_to_action(self) -> dict[tuple[int, ...], Any]:
        """Return the keyboard mapping for ``gymnasium.utils.play``: for a camera w, s, d, a of ``basic5``."""
        mode = self.core.config.action_mode
        keys = dict(self.core.body.keyboard(mode))
        if not keys:
            raise ValueError(f"no keyboard mapping for action_mode={mode!r}; for a camera use action_mode='basic5'")
        return keys

    def close(self) -> None:
        """Stop the simulator, if there is one; afterwards nothing can be stepped."""
        self.row.close()


def _row(action: Any) -> Any:
    """Return an action as a batch of one."""
    return (action if isinstance(action, torch.Tensor) else read_array(action, "action"))[None]


def first_row(obs: Any) -> Any:
    """Take the row out of a batch of one: of an observation."""
    return {key: value[0] for key, value in obs.items()} if isinstance(obs, dict) else obs[0]


def plain_info(info: dict[str, Any]) -> dict[str, Any]:
    """Take the row out of info: arrays and numbers, without Gymnasium's masks."""
    first = {key: value[0] for key, value in info.items() if not key.startswith("_")}
    return {key: value if value.ndim else value.item() for key, value in first.items()}
