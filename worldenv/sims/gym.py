"""Somebody's Gymnasium environment, latent by latent: what recordings are made of, and the twin of their worlds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import entry_points
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..base.said import one_line
from ..bodies.vector import ACTION, unembed
from ..dynamics.environment import Environment
from ..dynamics.protocol import Chunk, check_rows, check_starts
from ..dynamics.signals import REWARD, TERMINATED
from ..dynamics.spec import WorldSpec
from .reopened import Reopened

Frame = npt.NDArray[np.uint8]
LOOKS_BACK = 2
"""Latents before a chunk that are encoded with it, for the encoder to look back at."""


class GymRow:
    """One episode after another of an environment; an action is held for a latent.

    Its picture is its observation where that is one, else what ``render()`` (``rgb_array``) gives; of another size it
    is resized. An episode that has ended shows its last picture.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        *,
        name: str,
        frames_per_latent: int,
        size: tuple[int, int] | None = None,  # width and height
    ) -> None:
        self.env, self.name, self.frames_per_latent, self.size = env, name, frames_per_latent, size
        space = env.observation_space
        self.seen = isinstance(space, gym.spaces.Box) and space.dtype == np.uint8 and space.shape[2:] == (3,)
        self.over = False
        self.info: dict[str, Any] = {}
        self._native: tuple[int, ...] | None = None
        self._shown: Frame = np.zeros((0, 0, 3), np.uint8)

    def reset(self, seed: int | None = None) -> Frame:
        """Begin an episode; return its start view, (H, W, 3)."""
        obs, self.info = self.env.reset(seed=seed)
        self.over, self._shown = False, self._picture(obs)
        return self._shown

    def hold(self, action: Any) -> tuple[Frame, float, bool, bool]:
        """Hold an action for a latent; return frames (T, H, W, 3), what was earned, and whether it ended or was cut.

        Raises:
            ValueError: if the environment gives what cannot be learned from.
        """
        frames, earned, terminated, truncated = [], 0.0, False, False
        for _ in range(self.frames_per_latent):
            if not self.over:
                obs, reward, terminated, truncated, self.info = self.env.step(action)
                if not np.isfinite(float(reward)):
                    raise ValueError(f"{self.name}: step() gave the reward {reward}; rewards must be finite numbers")
                earned, self.over = earned + float(reward), bool(terminated or truncated)
                self._shown = self._picture(obs)
            frames.append(self._shown)
        return np.stack(frames), earned, bool(terminated), bool(truncated and not terminated)

    def _picture(self, obs: Any) -> Frame:
        source = "observations" if self.seen else "render()"
        try:
            frame = obs if self.seen else self.env.render()
        except NotImplementedError:
            frame = None
        if not isinstance(frame, np.ndarray):
            raise ValueError(
                f"{self.name}: {source} must give (H, W, 3) uint8 arrays, got {type(frame).__name__}; let it render "
                "rgb_array, or wrap it to observe pictures"
            )
        frame = _eight_bits(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"{self.name}: {source} must give (H, W, 3) uint8, got {frame.dtype} {frame.shape}")
        if self._native not in (None, frame.shape):
            raise ValueError(f"{self.name}: pictures change their size from {self._native} to {frame.shape}")
        self._native = frame.shape
        return frame.copy() if self.size is None else resized(frame, *self.size)


def _eight_bits(frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a picture of shares, as plotting libraries have them, in eight bits; any other as it is."""
    if np.issubdtype(frame.dtype, np.floating) and frame.size and frame.min() >= 0 and frame.max() <= 1:
        shares: Frame = np.rint(255 * frame).astype(np.uint8)
        return shares
    return frame


def resized(frame: Frame, width: int, height: int) -> Frame:
    """Return a picture (H, W, 3) in another size: smoothed where it shrinks, its pixels repeated where it grows."""
    if frame.shape[:2] == (height, width):
        return frame.copy()
    pixels = torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float()
    if width >= frame.shape[1] and height >= frame.shape[0]:
        made = F.interpolate(pixels, size=(height, width), mode="nearest-exact")
    else:
        made = F.interpolate(pixels, size=(height, width), mode="bilinear", antialias=True)
    found: Frame = made[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return found


def open_registered(env_id: str) -> gym.Env[Any, Any]:
    """Make an environment by its id; those without ``rgb_array`` rendering may show pictures as observations.

    An installed package may offer a namespace of ids (entry points of the group ``gymnasium.envs``), which Gymnasium
    itself no longer looks up: ``MinAtar/Breakout-v1``.
    """
    namespace = env_id.rpartition("/")[0]
    if namespace and env_id not in gym.registry:
        for offered in entry_points(group="gymnasium.envs", name=namespace):
            offered.load()()
    try:
        return gym.make(env_id, render_mode="rgb_array")
    except TypeError:  # its class takes no render_mode
        return gym.make(env_id)


class GymDynamics(Reopened):
    """``Dynamics``: B of them, each of its own; a row whose episode has ended stands still until it is reset."""

    def __init__(self, num_envs: int, *, spec: WorldSpec, make: Callable[[], gym.Env[Any, Any]]) -> None:
        assert spec.environment is not None
        self.num_envs, self.environment = num_envs, spec.environment
        self.spec = replace(spec, gives={"reward": REWARD, "terminated": TERMINATED, "truncated": TERMINATED})
        size = (spec.width, spec.height)
        self.rows = [
            GymRow(make(), name=self.environment.id, frames_per_latent=spec.frames_per_latent, size=size)
            for _ in range(num_envs)
        ]
        self.frames = torch.zeros(num_envs, spec.height, spec.width, 3, dtype=torch.uint8)
        self.present: dict[str, Tensor] = {
            "reward": torch.zeros(num_envs),
            "terminated": torch.zeros(num_envs, dtype=torch.bool),
            "truncated": torch.zeros(num_envs, dtype=torch.bool),
        }

    def reset(
        self,
        *,
        seeds: Sequence[int],
        starts: Sequence[int | None],
        mask: Tensor | None = None,  # (B,) bool
    ) -> Chunk:
        """Begin episodes as the environment does, by seed; it has no start views to choose."""
        check_starts(seeds, starts, self.num_envs)
        for row in range(self.num_envs) if mask is None else mask.nonzero()[:, 0].tolist():
            self.frames[row] = torch.from_numpy(self.rows[row].reset(seeds[row] % 2**31))
            for part in self.present.values():
                part[row] = 0
        return Chunk(self.frames[:, None].clone(), {name: part[:, None].clone() for name, part in self.present.items()})

    def step(self, commands: Mapping[str, Tensor], rows: Sequence[int] | None = None) -> Chunk:
        """Do what the vectors embed, (R, F, A), latent by latent."""
        chosen, parts = list(range(self.num_envs) if rows is None else rows), self.environment.actions
        check_rows(chosen, self.num_envs)
        shown, told = [], []
        for row, vectors in zip(chosen, commands[ACTION].numpy(), strict=True):
            held = [self.rows[row].hold(unembed(parts, vector)) for vector in vectors]
            frames = torch.from_numpy(np.concatenate([one[0] for one in held]))
            shown.append(frames)
            told.append([one[1:] for one in held])
            self.frames[row] = frames[-1]
        signals = {
            name: torch.tensor([[one[i] for one in row] for row in told], dtype=part.dtype)
            for i, (name, part) in enumerate(self.present.items())
        }
        present = {name: part.clone() for name, part in self.present.items()}  # what was handed out stays as it was
        for name, part in present.items():
            part[chosen] = signals[name][:, -1]
        self.present = present
        return Chunk(torch.stack(shown), signals)

    def close(self) -> None:
        """Close the environments."""
        for row in self.rows:
            row.env.close()


class EncodedGymDynamics(GymDynamics):
    """The same, with latents beside frames: what a world's encoder makes of them."""

    def __init__(
        self,
        num_envs: int,
        *,
        spec: WorldSpec,
        make: Callable[[], gym.Env[Any, Any]],
        encode: Callable[[Tensor], Tensor],  # (B, 1 + T F, H, W, 3) uint8 to (B, 1 + F, C, h, w)
        latent_shape: tuple[int, int, int],
    ) -> None:
        super().__init__(num_envs, spec=spec, make=make)
        self.encode, self.latent_shape = encode, latent_shape
        length = 1 + spec.frames_per_latent * (spec.chunk_latents + LOOKS_BACK)
        self.newest = self.frames[:, None].repeat(1, length, 1, 1, 1)  # before an episode its start view is repeated

    def reset(
        self,
        *,
        seeds: Sequence[int],
        starts: Sequence[int | None],
        mask: Tensor | None = None,  # (B,) bool
    ) -> Chunk:
        """Begin episodes; see ``GymDynamics.reset``."""
        chunk = super().reset(seeds=seeds, starts=starts, mask=mask)
        rows = slice(None) if mask is None else mask
        self.newest[rows] = self.frames[rows][:, None]
        return chunk

    def step(self, commands: Mapping[str, Tensor], rows: Sequence[int] | None = None) -> Chunk:
        """Do what the vectors embed; see ``GymDynamics.step``."""
        chunk = super().step(commands, rows)
        chosen = list(range(self.num_envs) if rows is None else rows)
        self.newest[chosen] = torch.cat([self.newest[chosen], chunk.frames], 1)[:, -self.newest.shape[1] :]
        return chunk

    def newest_latents(self) -> Tensor:
        """Return the latents of the newest chunk, (B, F, C, h, w) float32."""
        return self.encode(self.newest)[:, -self.spec.chunk_latents :]


def twin_maker(environment: Environment, given: Any) -> Callable[[], gym.Env[Any, Any]]:
    """Return what makes the twin: somebody's class, function or id, else the recorded id if it is registered here.

    Raises:
        ValueError: if it is not, for nothing that a file names is imported.
    """
    if callable(given):
        return partial(_made, given)
    if isinstance(given, str):
        return partial(_open_named, given)
    name = environment.id.rpartition(":")[2]
    if name not in gym.registry:
        raise ValueError(
            f"this world was recorded from {environment.id!r}, which is not registered here, and a file is no reason "
            "to import anything; import what registers it, or pass sim_env='module:Id-v0', a class or a function"
        )
    return partial(open_registered, name)


def _open_named(env_id: str) -> gym.Env[Any, Any]:
    """Make what ``sim_env`` names; a ValueError if there is none of that name."""
    try:
        if env_id.startswith(":"):
            raise ImportError("no module is named")
        return open_registered(env_id)
    except (gym.error.Error, ImportError) as error:
        raise ValueError(f"sim_env={env_id[:80]!r}: {one_line(error)}; pass an id, or module:Id-v0") from None


def _made(make: Callable[..., gym.Env[Any, Any]]) -> gym.Env[Any, Any]:
    try:
        return make(render_mode="rgb_array")
    except TypeError:
        return make()
