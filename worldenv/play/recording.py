"""What was played, as files: a video, and shards that training reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..base.config import to_dict
from ..base.files import save_text
from ..base.log import git_revision
from ..base.media import save_video
from ..bodies.base import Body
from ..bodies.registry import make_body
from ..bodies.vector import Vector
from ..data.record import RecordConfig
from ..data.schema import Clip, write_shard
from ..dynamics.signals import Track
from ..dynamics.spec import WorldSpec, frames_of

VIDEO_WIDTH = 256
"""Pixels that a picture of the video has at least."""
Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Played:
    """What one arm showed under the player's actions."""

    arm: str
    frames: npt.NDArray[np.uint8]  # (T, H, W, 3), the view before the first action first
    signals: Mapping[str, Array]  # each (F, ...), the moment before the first action first
    rewards: Sequence[float]  # one for each action


def save_played(
    folder: Path, played: Sequence[Played], actions: Sequence[Any], *, mode: str, spec: WorldSpec, world: str, seed: int
) -> None:
    """Write ``video.mp4``, all arms side by side, and a recording of each arm in a folder of its name.

    Raises:
        ValueError: if frames and signals are not those of so many actions in this world; nothing is written then.
    """
    clips = {one.arm: make_clip(one, actions, mode=mode, spec=spec, seed=seed) for one in played}
    config = RecordConfig(
        env=f"play/{world}", clips=1, num_latents=next(iter(clips.values())).num_latents - 1, spec=spec
    )
    settings = json.dumps(to_dict(config))
    for arm, clip in clips.items():
        attributes = {"config": settings, "git": git_revision(), "fps": spec.fps, "arm": arm}
        write_shard(folder / arm / "shard-00000.h5", [clip], attributes=attributes)
        save_text(folder / arm / "recording.json", settings)
    save_video(folder / "video.mp4", _side_by_side([clip.frames for clip in clips.values()]), fps=spec.fps)


def make_clip(played: Played, actions: Sequence[Any], *, mode: str, spec: WorldSpec, seed: int) -> Clip:
    """Make a clip of what was played: what was commanded, where that led, and what was seen.

    Raises:
        ValueError: if frames and signals are not those of so many actions in this world.
    """
    count, (height, width) = 1 + len(actions) * spec.chunk_latents, (spec.height, spec.width)
    wanted = (frames_of(count, spec.frames_per_latent), height, width, 3)
    if played.frames.shape != wanted or played.frames.dtype != np.uint8:
        raise ValueError(f"{len(actions)} actions show frames {wanted} uint8, got {played.frames.shape}")
    wrong = {name: part.shape for name, part in played.signals.items() if len(part) != count}
    if wrong or len(played.rewards) != len(actions):
        raise ValueError(f"{len(actions)} actions lead to {count} latents and a reward each, got {wrong or 'others'}")
    commanded = _commanded(played.signals, actions, mode, spec)
    reward = np.zeros(count, np.float32)
    reward[spec.chunk_latents :: spec.chunk_latents] = played.rewards
    none = np.zeros(count, bool)
    signals = {name: np.asarray(part) for name, part in commanded.items()} | {
        name: part for name, part in played.signals.items() if name not in ("reward", "terminated", "depth")
    }
    signals |= {"reward": reward, "terminated": none, "truncated": none}
    if spec.has_camera:
        signals |= {"K": spec.K.float().numpy(), "c2w_commanded": commanded["c2w"].numpy()}
    attributes = {"kind": "played", "seed": seed, "text": "", "move": spec.steps.move, "turn_deg": spec.steps.turn_deg}
    return Clip(played.frames, signals, attributes, spec.frames_per_latent)


def _commanded(signals: Mapping[str, Array], actions: Sequence[Any], mode: str, spec: WorldSpec) -> Track:
    """Return what the actions commanded, each (F, ...), from where they were taken."""
    body, every = _body(spec), spec.chunk_latents
    parts = [spec.still(1)]
    for i, action in enumerate(actions):
        present = {name: torch.from_numpy(part[i * every : i * every + 1].copy()) for name, part in signals.items()}
        parts.append(body.command(_batched(action), mode, present, spec))
    whole = Track.join(parts).at(0)
    if "c2w" in whole:
        whole["c2w"][0] = torch.from_numpy(signals["c2w"][0].copy())
    return whole


def _body(spec: WorldSpec) -> Body:
    """Return what acts in a world; recordings hold its actions without a world's normalisation."""
    if spec.environment is None:
        return make_body("auto", spec)
    return Vector([replace(part, mean=(), scale=()) for part in spec.environment.actions])


def _batched(action: Any) -> Any:
    """Return an action as a batch of one: a tensor, or a dictionary of them."""
    if isinstance(action, Mapping):
        return {name: _batched(part) for name, part in action.items()}
    return torch.from_numpy(np.array(action))[None]


def _side_by_side(arms: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Put videos (T, H, W, 3) beside one another, enlarged."""
    scale = max(1, -(-VIDEO_WIDTH // arms[0].shape[2]))
    return np.concatenate(arms, 2).repeat(scale, 1).repeat(scale, 2)
