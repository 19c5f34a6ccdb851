"""Stable-Baselines3's ``VecEnv`` over a SAME_STEP vector environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

try:
    from stable_baselines3.common.vec_env import VecEnv
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices
except ImportError as error:
    raise ImportError("worldenv.envs.sb3 needs Stable-Baselines3: pip install 'worldenv[agents]'") from error

from .flat_actions import FlatActions
from .remote import RemoteVectorEnv
from .vector_env import WorldVectorEnv


class SB3VecEnv(VecEnv):
    """Wraps ``gym.make_vec("worldenv/...")`` for SB3's algorithms, actions in a ``Dict`` as one array.

    Raises:
        ValueError: if the env is of another kind, autoresets otherwise, gives tensors, or gives observations that SB3
            cannot learn from; the message says what to use.
    """

    def __init__(self, envs: Any) -> None:
        base = envs.unwrapped
        if not isinstance(base, WorldVectorEnv | RemoteVectorEnv):
            raise ValueError(f"SB3VecEnv wraps worldenv's vector environments, got {type(base).__name__}")
        if base.autoreset_mode != AutoresetMode.SAME_STEP:
            raise ValueError("SB3 needs autoreset_mode='SameStep'; make the env without another mode")
        if base.output != "numpy":
            raise ValueError("SB3 takes arrays; make the env with output='numpy'")
        self.envs, self.base = envs, base
        check_learnable(base.single_observation_space)
        space = envs.single_action_space
        self.flat = FlatActions(space) if isinstance(space, spaces.Dict) else None
        taken = space if self.flat is None else self.flat.space
        super().__init__(base.num_envs, base.single_observation_space, taken)
        self._actions: Any = None

    def reset(self) -> Any:
        """Reset every env with the seeds and options set through ``seed`` and ``set_options``."""
        seeds = None if all(s is None for s in self._seeds) else list(self._seeds)
        options = next((o for o in self._options if o), None)
        obs, info = self.envs.reset(seed=seeds, options=options)
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = self._split(info)
        return obs

    def step_async(self, actions: Any) -> None:
        """Remember the actions."""
        self._actions = actions if self.flat is None else self.flat.restore(actions)

    def step_wait(self) -> tuple[Any, Any, Any, list[dict[str, Any]]]:
        """Step; SB3's ``done`` is terminated or truncated, and its info holds ``terminal_observation``."""
        obs, reward, terminated, truncated, info = self.envs.step(self._actions)
        infos, done = self._split(info), terminated | truncated
        for row in np.flatnonzero(done):
            infos[row]["terminal_observation"] = info["final_obs"][row]
            infos[row] |= {k: v[row] for k, v in info["final_info"].items() if not k.startswith("_")}
            infos[row]["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
        return obs, reward.astype(np.float32), done, infos

    def _split(self, info: dict[str, Any]) -> list[dict[str, Any]]:
        keys = [k for k in info if not k.startswith("_") and not k.startswith("final_")]
        return [{key: info[key][row] for key in keys} for row in range(self.num_envs)]

    def close(self) -> None:
        """Close the environment."""
        self.envs.close()

    def get_images(self) -> Sequence[Any]:
        """Return the newest frame of each env."""
        return list(self.envs.render() or [])

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Read an attribute of the vector env, once per index."""
        value = getattr(self.base, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the vector env, which all its envs share."""
        self._require_all("set_attr", indices)
        setattr(self.base, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Call a method of the vector env once, for all envs, and return its result for each.

        ``compute_reward``, which hindsight replay calls, is of no env: some may be asked.
        """
        if method_name != "compute_reward":
            self._require_all("env_method", indices)
        result = getattr(self.base, method_name)(*args, **kwargs)
        return [result for _ in self._get_indices(indices)]

    def _require_all(self, what: str, indices: VecEnvIndices) -> None:
        if len(set(self._get_indices(indices))) != self.num_envs:
            raise ValueError(
                f"{what} of some envs: they are rows of one vector env; leave indices out, or call the method of "
                "`.base` that takes rows"
            )

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """Tell that single envs are not wrapped: there are none."""
        return [False for _ in self._get_indices(indices)]


def check_learnable(space: spaces.Space[Any]) -> None:
    """Refuse observation spaces that SB3's networks do not take."""
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    for part in parts:
        if part.shape is not None and len(part.shape) > 3 and part.dtype == np.uint8:
            raise ValueError(
                f"SB3 has no network for observations of shape {part.shape}; use obs_mode='image' or 'stack' "
                "(or 'dict' with image and goal)"
            )
