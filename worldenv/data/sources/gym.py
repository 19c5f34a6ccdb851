"""Recording any registered Gymnasium environment, with a camera pose in its ``info`` or without.

Its actions become the signal ``action``: numbers, one-hot where they are discrete (``bodies.vector``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
import torch

from ...base.objects import find_object, import_object
from ...bodies.vector import ACTION, action_signal, describe_actions, embed
from ...dynamics.environment import Environment
from ...dynamics.signals import C2W, Signal
from ...dynamics.spec import FRAMES_PER_LATENT, WorldSpec, frames_of
from ...sims.gym import GymRow, open_registered
from ..schema import Array, Clip
from .expert import Told

CELL = 8
"""Pixels of a VAE's smallest cell, each way."""
LEAST_FRAMES = 17
"""Frames of a clip that stage ``vae`` needs for its previews."""


STICKY = 0.75
"""How often a sticky policy does what it did before."""
Policy = Callable[[Array, gym.Space[Any], np.random.Generator], Any]


def anything(frame: Array, space: gym.Space[Any], generator: np.random.Generator) -> Any:
    """Return a random action; the space is seeded with the clip."""
    return space.sample()


@runtime_checkable
class Watching(Protocol):
    """A policy that looks at every frame, not only at the newest one when it acts."""

    def watch(
        self,
        frames: Array,  # (T, H, W, 3): of one latent
        *,
        begins: bool,
    ) -> None:
        """Look at what came of the last action, or at the start view of an episode."""
        ...


POLICIES: dict[str, Policy] = {"random": anything, "sticky": anything}
"""What ``policy`` may name."""
LEARNED = ("ppo", "imagination")
"""What ``policy`` may begin with, before the folder of what `worldenv-agents train` made."""


class GymSource:
    """An action of a policy per latent.

    A clip holds episodes one behind the other. One that ends repeats its last frame until its chunk is full; the next
    begins with a latent of its start view alone, marked ``is_first``, as every episode of a world does. Where ``info``
    holds ``c2w`` (4, 4) and ``K`` (3, 3) they are recorded; otherwise poses are absent and the clip's attribute
    ``poses`` says so.

    Raises:
        ValueError: if there is no such environment, or no stage could train on what it shows, or its actions cannot be
            embedded.
    """

    def __init__(
        self,
        env_id: str,
        num_latents: int,
        first_seed: int,
        *,
        known: tuple[str, ...] = (),  # what else could have been meant, for the error
        spec: WorldSpec | None = None,  # its clock; default of every world
        size: tuple[int, int] | None = None,  # width and height of what is recorded; as it is shown by default
        policy: str = "random",  # see ``RecordConfig``
        poses: bool = True,  # whether to record those of ``info``
    ) -> None:
        self.policy = find_policy(policy)
        self.repeats = STICKY if policy == "sticky" else 0.0
        try:
            self.env: gym.Env[Any, Any] = open_registered(env_id)
        except (gym.error.Error, ModuleNotFoundError) as error:
            raise ValueError(
                f"unknown environment {env_id!r} ({error}); give the id of a registered Gymnasium environment with "
                "rgb_array rendering, as module:Id-v0 if importing that module registers it"
                + (f", or one of {', '.join(known)}" if known else "")
            ) from None
        clock = WorldSpec() if spec is None else spec
        self.env_id, self.num_latents, self.first_seed = env_id, num_latents, first_seed
        self.chunk, self.frames_per_latent = clock.chunk_latents, clock.frames_per_latent
        least = -(-(LEAST_FRAMES - 1) // self.frames_per_latent)
        if num_latents < least:
            raise ValueError(f"num_latents={num_latents}: no stage trains on clips this short; pass {least} or more")
        try:
            self.parts = describe_actions(self.env.action_space)
        except ValueError as error:
            raise ValueError(f"{env_id}: {error}") from None
        self.row = GymRow(self.env, name=env_id, frames_per_latent=self.frames_per_latent, size=size)
        self.height, self.width, _ = self.row.reset(first_seed).shape
        self.K = self.row.info.get("K")
        self.has_poses = poses and "c2w" in self.row.info and self.K is not None
        if self.has_poses and self.frames_per_latent != FRAMES_PER_LATENT:
            raise ValueError(f"{env_id} has poses; worlds with a camera have frames_per_latent={FRAMES_PER_LATENT}")
        if self.height % CELL or self.width % CELL:
            raise ValueError(
                f"{env_id} shows {self.width}x{self.height} frames; no stage trains on sides that are not multiples of "
                f"{CELL}: render it, or wrap it to, {_rounded(self.width)}x{_rounded(self.height)}, or pass --size"
            )

    @property
    def takes(self) -> dict[str, Signal]:
        """What a world of it takes."""
        return {ACTION: action_signal(self.parts)} | ({"c2w": C2W} if self.has_poses else {})

    @property
    def environment(self) -> Environment:
        """What a world of it says of it."""
        limit = self.env.spec.max_episode_steps if self.env.spec is not None else None
        return Environment(id=self.env_id, actions=self.parts, max_episode_steps=limit or 0)

    def clip(self, index: int) -> Clip:
        """Record one clip: episodes from the one with seed first_seed + index on."""
        seed = self.first_seed + index
        self.env.action_space.seed(seed)
        generator, action = np.random.default_rng(seed), None
        frames, latents = [self.row.reset(seed)[None]], [self._entry(is_first=True)]
        self._show(frames[-1], begins=True)
        lived = 0  # latents of the episode behind its start view
        while len(latents) <= self.num_latents:
            if self.row.over and lived % self.chunk == 0:
                frames.append(np.repeat(self.row.reset()[None], self.frames_per_latent, 0))
                latents.append(self._entry(is_first=True))
                self._show(frames[-1], begins=True)
                lived = 0
                continue
            if isinstance(self.policy, Told):
                self.policy.inform(self.row.info, begins=lived == 0)
            action = self._act(frames[-1][-1], generator, action)
            shown, reward, terminated, truncated = self.row.hold(action)
            frames.append(shown)
            self._show(shown, begins=False)
            latents.append(self._entry(action, reward, terminated=terminated, truncated=truncated))
            lived += 1
        columns: dict[str, list[Any]] = defaultdict(list)
        for one in latents:
            for name, value in one.items():
                columns[name].append(value)
        signals = {name: np.stack(values) for name, values in columns.items()}
        if self.has_poses:
            signals["K"] = np.asarray(self.K, np.float32)
        attributes = {"seed": seed, "env": self.env_id, "poses": "info" if self.has_poses else "absent"}
        whole = np.concatenate(frames)
        assert len(whole) == frames_of(len(latents), self.frames_per_latent)
        return Clip(whole, signals, attributes, self.frames_per_latent)

    def _show(self, frames: Array, *, begins: bool) -> None:
        policy: object = self.policy
        if isinstance(policy, Watching):
            policy.watch(frames, begins=begins)

    def _act(self, frame: Array, generator: np.random.Generator, before: Any) -> Any:
        """Let the policy choose an action of the space.

        Raises:
            ValueError: if it chooses another.
        """
        space = self.env.action_space
        if before is not None and generator.random() < self.repeats:
            return before
        action = self.policy(frame, space, generator)
        if not space.contains(action):
            raise ValueError(f"the policy chose {action!r}, which is no action of {space}")
        return action

    def _entry(
        self,
        action: Any = None,  # of its space; None led to a start view
        reward: float = 0.0,
        *,
        terminated: bool = False,
        truncated: bool = False,
        is_first: bool = False,
    ) -> dict[str, Array]:
        """Return what is recorded of a latent, by name."""
        size = sum(part.size for part in self.parts)
        entry: dict[str, Array] = {
            ACTION: np.zeros(size, np.float32) if action is None else self._vector(action),
            "reward": np.asarray(reward, np.float32),
            "terminated": np.asarray(terminated),
            "truncated": np.asarray(truncated),
            "is_first": np.asarray(is_first),
        }
        if self.has_poses:
            if "c2w" not in self.row.info:
                raise ValueError(f"{self.env_id}: info has c2w at some moments only; give it always, or never")
            entry["c2w"] = np.asarray(self.row.info["c2w"], np.float64)
        return entry

    def _vector(self, action: Any) -> Array:
        """Embed one action, as a row of one."""
        rows = (
            {name: torch.as_tensor(np.asarray(value))[None] for name, value in action.items()}
            if isinstance(action, dict)
            else torch.as_tensor(np.asarray(action))[None]
        )
        return embed(self.parts, rows)[0].numpy()

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def find_policy(name: str) -> Policy:
    """Return who acts: see ``RecordConfig.policy``.

    Raises:
        ValueError: if there is nobody of that name.
    """
    kind, _, folder = name.partition(":")
    if name == "expert" or kind == "noisy":
        return Told.named(folder)
    if kind in LEARNED:
        actor: Policy = import_object("worldenv_agents.acting:Actor", what="policy")(folder)
        return actor
    found: Policy = find_object(name, POLICIES, what="policy")
    return found


def _rounded(side: int) -> int:
    """Return the nearest side that a VAE takes."""
    return max(CELL, CELL * round(side / CELL))
