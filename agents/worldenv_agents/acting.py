"""A trained policy in the environment itself, while that is recorded: it is shown what it was shown in the world."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces

from worldenv.bodies.vector import make_space
from worldenv.envs.core import CoreConfig
from worldenv.envs.flat_actions import FlatActions
from worldenv.envs.spaces import observation_space
from worldenv.models.codec import to_pixels
from worldenv.sims.gym import LOOKS_BACK
from worldenv.world.world import World

from .policy import TrainedPolicy, read_policy

Frames = npt.NDArray[np.uint8]


class Actor:
    """Called with the newest picture, the action space and a generator, as other policies of recordings are.

    Raises:
        ValueError: if the folder holds no policy that was trained in the world of an environment.
    """

    def __init__(self, folder: str) -> None:
        environment = read_policy(folder)[0].environment
        world = World.from_pretrained(environment.world or "maze", dtype="auto")
        self.spec, self.vae, self.mode = world.spec, world.vae, environment.obs_mode or "image"
        if self.spec.environment is None or self.mode not in ("image", "stack", "latent"):
            raise ValueError(f"{folder}: this policy looks at {self.mode} in {environment.env}; train one in World-v0")
        self.stack = CoreConfig().stack
        shown = observation_space(self.mode, self.spec, obs_keys=(), stack=self.stack, latent_shape=world.latent_shape)
        acts = make_space(self.spec.environment.actions)
        self.flat = FlatActions(acts) if isinstance(acts, spaces.Dict) else None
        self.policy = TrainedPolicy.load(folder, shown, self.flat.space if self.flat else acts, deterministic=False)
        self.length = max(self.stack, 1 + self.spec.frames_per_latent * (self.spec.chunk_latents + LOOKS_BACK))
        self.newest: Frames = np.zeros((0, self.spec.height, self.spec.width, 3), np.uint8)
        self.age = 0  # latents since the episode began
        self.action: Any = None  # what is held for a chunk

    def watch(
        self,
        frames: Frames,  # (T, H, W, 3): of one latent
        *,
        begins: bool,
    ) -> None:
        """Look at what came of the last action, or at the start view of an episode."""
        if begins:
            self.newest, self.age = np.repeat(frames[-1:], self.length, 0), 0
            self.policy.reset(1)
            return
        self.newest, self.age = np.concatenate([self.newest, frames])[-self.length :], self.age + 1

    def __call__(self, frame: Frames, space: gym.Space[Any], generator: np.random.Generator) -> Any:
        """Return an action, drawn as in training; it is held for a chunk."""
        if self.age % self.spec.chunk_latents == 0:
            self.policy.seed(int(generator.integers(2**31)))
            action = self.policy.act(self._seen()[None], {})
            parts = None if self.flat is None else self.flat.restore(action)
            self.action = action[0] if parts is None else {name: part[0] for name, part in parts.items()}
        return self.action

    @torch.inference_mode()
    def _seen(self) -> npt.NDArray[Any]:
        """Return the observation that the world's environment would give."""
        if self.mode == "image":
            return self.newest[-1]
        if self.mode == "stack":
            return np.concatenate(list(self.newest[-self.stack :]), -1)
        chunk, every = self.spec.chunk_latents, self.spec.frames_per_latent
        some = torch.from_numpy(self.newest[-(1 + every * (chunk + LOOKS_BACK)) :])
        latents = self.vae.encode(to_pixels(some[None]).to(self.vae.latent_mean.device, self.vae.dtype))
        found: npt.NDArray[Any] = latents[0, -chunk:].float().cpu().numpy()
        return found
