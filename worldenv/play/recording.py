"""What was played, as files: a video, and shards that training reads."""

from __future__ import annotations

import json
import math
import re
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
from ..data.check_shard import check_values
from ..data.record import RecordConfig
from ..data.schema import Clip, write_shard
from ..dynamics.signals import Track, check_signals
from ..dynamics.spec import WorldSpec, frames_of
from ..dynamics.wire import MessageError
from ..envs.spaces import check_actions

NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
"""Of an arm, and of a recording: what is safe as a folder's name."""
MOST_PANES = 4
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


def read_panes(panes: Sequence[Mapping[str, Any]]) -> list[Played]:
    """Read what a page sent of each arm: ``arm``, ``frames``, ``signals`` and ``rewards``.

    Raises:
        MessageError: naming the field that is missing or none.
    """
    if not 1 <= len(panes) <= MOST_PANES:
        raise MessageError("panes", f"holds {len(panes)}; send 1 to {MOST_PANES}")
    read = [_read_pane(pane, f"panes[{i}]") for i, pane in enumerate(panes)]
    if len({one.arm for one in read}) < len(read):
        raise MessageError("panes", f"hold the arms {', '.join(one.arm for one in read)}; name each once")
    return read


def _read_pane(pane: Mapping[str, Any], where: str) -> Played:
    for name in ("arm", "frames", "signals", "rewards"):
        if name not in pane:
            raise MessageError(f"{where}.{name}", "is missing")
    arm, frames, signals, rewards = (pane[name] for name in ("arm", "frames", "signals", "rewards"))
    if not isinstance(arm, str) or not NAME.fullmatch(arm):
        raise MessageError(f"{where}.arm", f"got {arm!r}; use letters, digits and -")
    if not isinstance(frames, np.ndarray):
        raise MessageError(f"{where}.frames", f"expected an array (T, H, W, 3) uint8, got {type(frames).__name__}")
    if not isinstance(signals, Mapping):
        raise MessageError(f"{where}.signals", f"expected a map of arrays, got {type(signals).__name__}")
    for name, part in signals.items():
        if not name.isidentifier() or not isinstance(part, np.ndarray) or not part.ndim:
            raise MessageError(f"{where}.signals.{name}", f"expected an array (F, ...), got {type(part).__name__}")
    if not isinstance(rewards, list) or not all(type(one) in (int, float) and math.isfinite(one) for one in rewards):
        raise MessageError(f"{where}.rewards", "expected a list of numbers")
    return Played(arm=arm, frames=frames, signals=signals, rewards=rewards)


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
    if not actions:
        raise ValueError("actions: there are none; a recording has one at least")
    count, (height, width) = 1 + len(actions) * spec.chunk_latents, (spec.height, spec.width)
    wanted = (frames_of(count, spec.frames_per_latent), height, width, 3)
    if played.frames.shape != wanted or played.frames.dtype != np.uint8:
        raise ValueError(f"frames: {len(actions)} actions show {wanted} uint8, got {played.frames.shape}")
    for name, part in played.signals.items():
        if len(part) != count:
            raise ValueError(f"signals.{name}: {len(actions)} actions lead to {count} latents, got {part.shape}")
    known = {name: torch.from_numpy(part.copy()) for name, part in played.signals.items() if name in spec.takes}
    check_signals(known, {name: spec.takes[name] for name in known}, what="signals", lead=(count,))
    if len(played.rewards) != len(actions):
        raise ValueError(f"rewards: {len(actions)} actions earn as many, got {len(played.rewards)}")
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
    check_values(Path("recording"), played.arm, signals)
    attributes = {"kind": "played", "seed": seed, "text": "", "move": spec.steps.move, "turn_deg": spec.steps.turn_deg}
    return Clip(played.frames, signals, attributes, spec.frames_per_latent)


def _commanded(signals: Mapping[str, Array], actions: Sequence[Any], mode: str, spec: WorldSpec) -> Track:
    """Return what the actions commanded, each (F, ...), from where they were taken."""
    body, every = _body(spec), spec.chunk_latents
    space, parts = body.space(mode, every), [spec.still(1)]
    for i, action in enumerate(actions):
        present = {name: torch.from_numpy(part[i * every : i * every + 1].copy()) for name, part in signals.items()}
        try:
            parts.append(body.command(check_actions(_batched(action), space, 1, clip=False), mode, present, spec))
        except KeyError as error:
            raise ValueError(f"signals.{error.args[0]}: is missing, where this world's actions begin") from None
        except (TypeError, ValueError) as error:
            raise ValueError(f"actions[{i}]: {error}") from None
    whole = Track.join(parts).at(0)
    for name in whole.keys() & signals.keys():
        whole[name][0] = torch.from_numpy(signals[name][0].copy())
    return whole


def _body(spec: WorldSpec) -> Body:
    """Return what acts in a world; recordings hold its actions without a world's normalisation."""
    if spec.environment is None:
        return make_body("auto", spec)
    return Vector([replace(part, mean=(), scale=()) for part in spec.environment.actions])


def _batched(action: Any) -> Any:
    """Return an action as a batch of one: an array, or a dictionary of them."""
    if isinstance(action, Mapping):
        return {name: _batched(part) for name, part in action.items()}
    return np.asarray(action)[None]


def _side_by_side(arms: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Put videos (T, H, W, 3) beside one another, enlarged."""
    scale = max(1, -(-VIDEO_WIDTH // arms[0].shape[2]))
    return np.concatenate(arms, 2).repeat(scale, 1).repeat(scale, 2)
