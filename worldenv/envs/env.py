"""``gymnasium.Env``: one episode, the vector env with one row."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch

from ..base.rng import derive_seed
from .core import EnvCore
from .make import make_core
from .options import check_options, read_clip, read_images, read_prompts, read_seeds, read_starts
from .spaces import check_actions
from .vector_env import make_metadata

# pygame key codes of w, s, d, a for ``gymnasium.utils.play``; basic actions in the same order.
PLAY_KEYS: dict[str, dict[tuple[int, ...], int]] = {
    "basic": {(ord("w"),): 0, (ord("s"),): 1, (ord("d"),): 2, (ord("a"),): 3}
}


class WorldEnv(gym.Env[Any, Any]):
    """One episode of a world.

    Args:
        render_mode: ``rgb_array`` or None.
        output: ``numpy``, or ``torch`` for tensors.
        time_limit: ``max_episode_steps`` under a name that ``gym.make`` passes on: it keeps the other for a wrapper of
            its own, which can only shorten episodes.
        kwargs: see ``make_core``.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 1.5}  # noqa: RUF012

    def __init__(
        self,
        *,
        render_mode: str | None = None,
        output: str = "numpy",
        time_limit: int | None = 0,
        **kwargs: Any,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode={render_mode!r}; choose 'rgb_array' or None")
        if output not in ("numpy", "torch"):
            raise ValueError(f"output={output!r}; choose 'numpy' or 'torch'")
        if time_limit != 0:
            kwargs["max_episode_steps"] = time_limit
        self.core: EnvCore = make_core(num_envs=1, **kwargs)
        self.metadata = make_metadata(self.core, None, torch_output=output == "torch")
        self.render_mode, self.output = render_mode, output
        self.action_space, self.observation_space = self.core.action_space, self.core.observation_space
        self._seed_value: int | None = None
        self._episode = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a new episode; options as for the vector environment, without ``reset_mask``."""
        chosen = dict(options or {})
        check_options(chosen)
        if "reset_mask" in chosen:
            raise ValueError("options['reset_mask'] is for vector environments")
        images = read_images(chosen.get("image"), self.core.spec, 1)
        starts = read_starts(chosen.get("start"), 1)
        prompts = read_prompts(chosen.get("prompt"), 1)
        read_seeds(seed, 1)
        clip = read_clip(chosen, self.core.spec, 1)
        self.core.check_reset(starts, images, prompts, clip)
        super().reset(seed=seed)
        if seed is not None:
            self._seed_value, self._episode = int(seed), 0
        elif self._seed_value is None:
            self._seed_value = int(np.random.SeedSequence().generate_state(1)[0])
        else:
            self._episode += 1
        now = self._seed_value if self._episode == 0 else derive_seed(self._seed_value, "episode", self._episode)
        obs, info = self.core.reset(
            seeds=[now], starts=starts, mask=torch.ones(1, dtype=torch.bool), images=images, prompts=prompts, clip=clip
        )
        return self._give(obs), self._info(info)

    def set_prompt(self, prompt: str) -> None:
        """Describe the world anew from the next step on (worlds with text)."""
        self.core.set_prompts({0: prompt})

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advance by one chunk."""
        if self._seed_value is None:
            raise gym.error.ResetNeeded("call reset() before step()")
        value = action.detach().cpu().numpy() if isinstance(action, torch.Tensor) else np.asarray(action)
        checked = check_actions(value[None], self.action_space, 1, clip=self.core.config.clip_actions)
        result = self.core.step(checked)
        signals = float(result.reward[0]), bool(result.terminated[0]), bool(result.truncated[0])
        return self._give(result.obs), *signals, self._info(result.info)

    def render(self) -> npt.NDArray[np.uint8] | None:
        """Return the newest frame, (H, W, 3) uint8."""
        if self.render_mode is None or self.core.frames is None:
            return None
        frame: npt.NDArray[np.uint8] = self.core.frames[0, -1].numpy().copy()
        return frame

    @property
    def chunk_frames(self) -> npt.NDArray[np.uint8]:
        """All frames of the newest chunk, (1, T, H, W, 3)."""
        if self.core.frames is None:
            raise gym.error.ResetNeeded("call reset() first")
        return self.core.frames.numpy().copy()

    def get_keys_to_action(self) -> dict[tuple[int, ...], Any]:
        """Return the keyboard mapping for ``gymnasium.utils.play`` (w, s, d, a; ``basic`` actions)."""
        mode = self.core.config.action_mode
        if mode not in PLAY_KEYS:
            raise ValueError(f"no keyboard mapping for action_mode={mode!r}; use action_mode='basic'")
        return dict(PLAY_KEYS[mode])

    def close(self) -> None:
        """Stop the simulator, if there is one."""
        close = getattr(self.core.dynamics, "close", None)
        if close is not None:
            close()

    def _give(self, obs: Any) -> Any:
        if isinstance(obs, dict):
            return {key: self._give(value) for key, value in obs.items()}
        return obs[0] if self.output == "torch" else obs[0].cpu().numpy()

    @staticmethod
    def _info(info: dict[str, torch.Tensor]) -> dict[str, Any]:
        return {
            key: value[0].cpu().numpy().copy() if value.ndim > 1 else value[0].item() for key, value in info.items()
        }
