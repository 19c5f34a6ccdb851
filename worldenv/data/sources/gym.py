"""Recording any registered Gymnasium environment, with a camera pose in its ``info`` or without.

Its actions become the signal ``action``: numbers as Gymnasium flattens them, one-hot where they are discrete.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from ...dynamics.signals import C2W, Signal
from ..schema import Clip

CELL = 8
"""Pixels of a VAE's smallest cell, each way."""
MIN_LATENTS = 4
"""Latents after the first frame that stage ``vae`` needs: its previews have 17 frames."""


class GymSource:
    """Random actions, one per latent, held for four frames.

    An episode that ends repeats its last frame until its latent is full; the next latent of the clip is of a new one.
    Frames come from ``render()`` (``rgb_array``). Where ``info`` holds ``c2w`` (4, 4) and ``K`` (3, 3) they are
    recorded; otherwise poses are absent and the clip's attribute ``poses`` says so.

    Raises:
        ValueError: if there is no such environment, or no stage could train on what it shows.
    """

    def __init__(self, env_id: str, num_latents: int, first_seed: int, *, simulators: tuple[str, ...]) -> None:
        try:
            self.env: gym.Env[Any, Any] = gym.make(env_id, render_mode="rgb_array")
        except (gym.error.Error, ModuleNotFoundError) as error:
            raise ValueError(
                f"unknown environment {env_id!r} ({error}); give a simulator ({', '.join(simulators)}) or the id of a "
                "registered Gymnasium environment with rgb_array rendering, as module:Id-v0 if importing that module "
                "registers it"
            ) from None
        self.env_id, self.num_latents, self.first_seed = env_id, num_latents, first_seed
        if num_latents < MIN_LATENTS:
            raise ValueError(
                f"num_latents={num_latents}: no stage trains on clips this short; pass {MIN_LATENTS} or more"
            )
        space = gym.spaces.flatten_space(self.env.action_space)
        if not isinstance(space, gym.spaces.Box):
            raise ValueError(f"{env_id}: actions of {self.env.action_space} are no fixed number of numbers")
        self.num_actions = space.shape[0]
        _, info = self.env.reset(seed=first_seed)
        self.has_poses = "c2w" in info and "K" in info
        self.height, self.width, _ = self._render().shape
        if self.height % CELL or self.width % CELL:
            raise ValueError(
                f"{env_id} shows {self.width}x{self.height} frames; no stage trains on sides that are not multiples of "
                f"{CELL}: render it, or wrap it to, {_rounded(self.width)}x{_rounded(self.height)}"
            )

    @property
    def takes(self) -> dict[str, Signal]:
        """What a world of it takes."""
        return {"action": Signal(shape=(self.num_actions,))} | ({"c2w": C2W} if self.has_poses else {})

    def clip(self, index: int) -> Clip:
        """Record one clip: the episode with seed first_seed + index, restarted when it ends."""
        seed = self.first_seed + index
        self.env.action_space.seed(seed)
        _, info = self.env.reset(seed=seed)
        frames, infos = [self._render()], [info]
        rewards, terminated, truncated = [0.0], [False], [False]
        actions = [np.zeros(self.num_actions, np.float32)]
        for _ in range(self.num_latents):
            action, done = self.env.action_space.sample(), False
            actions.append(np.asarray(gym.spaces.flatten(self.env.action_space, action), np.float32))
            reward = 0.0
            for _ in range(4):
                if not done:
                    _, r, term, trunc, info = self.env.step(action)
                    reward, done = reward + float(r), term or trunc
                frames.append(self._render())
            infos.append(info)
            rewards.append(reward)
            terminated.append(term)
            truncated.append(trunc)
            if done:
                _, info = self.env.reset()
        signals = {
            "action": np.stack(actions),
            "reward": np.asarray(rewards, np.float32),
            "terminated": np.asarray(terminated),
            "truncated": np.asarray(truncated),
        }
        if self.has_poses:
            if not all("c2w" in i for i in infos):
                raise ValueError(f"{self.env_id}: info has c2w at some moments only; give it always, or never")
            signals["c2w"] = np.stack([np.asarray(i["c2w"], np.float64) for i in infos])
            signals["K"] = np.asarray(infos[0]["K"], np.float32)
        attributes = {"seed": seed, "env": self.env_id, "poses": "info" if self.has_poses else "absent"}
        return Clip(np.stack(frames), signals, attributes)

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _render(self) -> npt.NDArray[np.uint8]:
        frame = self.env.render()
        if not isinstance(frame, np.ndarray):
            raise ValueError(f"{self.env_id}: render() must give an (H, W, 3) uint8 array, got {type(frame).__name__}")
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"{self.env_id}: render() must give (H, W, 3) uint8, got {frame.dtype} {frame.shape}")
        return frame


def _rounded(side: int) -> int:
    """Return the nearest side that a VAE takes."""
    return max(CELL, CELL * round(side / CELL))
