"""What a world looks like from outside."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from ..base.config import MOST_SIZE, check_numbers
from ..geometry.action import ActionSteps, c2w_to_keys
from ..geometry.camera import intrinsics
from ..geometry.pose import interpolate
from .environment import Environment
from .signals import C2W, KEYS, Signal, Signals, Track

FRAMES_PER_LATENT = 4
"""Of worlds that say nothing else, and of all with a camera."""
MOST_AXES = 8
"""Of a signal."""
OWN = {"keys": KEYS, "c2w": C2W}
"""Signals whose meaning is fixed."""


def frames_of(num_latents: int, frames_per_latent: int = FRAMES_PER_LATENT) -> int:
    """Return how many frames so many latents show, the first of which is the lone start view."""
    return frames_per_latent * num_latents - (frames_per_latent - 1)


@dataclass(frozen=True, kw_only=True)
class WorldSpec:
    """What a world looks like from outside: picture, camera, clock and step sizes."""

    width: int = 64
    """Frame width in pixels."""
    height: int = 48
    """Frame height in pixels."""
    fov_deg: float = 90.0
    """Horizontal field of view; pixels are square."""
    fps: int = 24
    """Frames per second of world time."""
    chunk_latents: int = 4
    """Latents generated together, one environment step."""
    frames_per_latent: int = FRAMES_PER_LATENT
    """Frames that a latent shows: 4, or 1 where an agent is to act on every frame."""
    steps: ActionSteps = field(default_factory=ActionSteps)
    """What one key does in one latent."""
    unit: float = 1.0
    """Metres in one unit of the poses that the model sees."""
    start_in_chunk: bool = False
    """Whether the start view is the first latent of the first chunk, as in WorldPlay's release, or stands alone."""
    focal: tuple[float, float] | None = None
    """fx / width and fy / height, where they are not what ``fov_deg`` and square pixels give."""
    maze: str = "classic"
    """Mazes that the world was recorded in: a name in ``sims.doom.presets.MAZES``."""
    takes: dict[str, Signal] = field(default_factory=lambda: {"keys": KEYS, "c2w": C2W}, hash=False)
    """Signals that command it and condition every latent; by default a camera's."""
    gives: dict[str, Signal] = field(default_factory=lambda: {"c2w": C2W}, hash=False)
    """Signals that it shows beside frames."""
    environment: Environment | None = None
    """The environment it was recorded from, whose actions are the signal ``action`` (``bodies.vector``)."""

    def __post_init__(self) -> None:
        check_numbers(self, sizes=("width", "height", "fps", "chunk_latents"), positive=("unit",))
        if not 0 < self.fov_deg < 180:
            raise ValueError(f"fov_deg={self.fov_deg} must be an angle between 0 and 180 degrees")
        if self.focal is not None:
            check_numbers(self, positive=("focal",))
        if self.frames_per_latent not in (1, FRAMES_PER_LATENT):
            raise ValueError(f"frames_per_latent={self.frames_per_latent} must be 1 or {FRAMES_PER_LATENT}")
        if not self.takes:
            raise ValueError("takes: a world that nothing commands is a film; name at least one signal")
        for name, signal in (*self.takes.items(), *self.gives.items()):
            if not name.isidentifier():
                raise ValueError(f"{name!r} is no name of a signal; use letters, digits and underscores")
            if any(size < -1 or size > MOST_SIZE for size in signal.shape) or len(signal.shape) > MOST_AXES:
                raise ValueError(f"signal {name!r} has shape {signal.shape}; sizes from 0 to {MOST_SIZE}, or -1, are")
            if name in OWN:
                _check_own(name, signal)
        for name, signal in self.takes.items():
            if -1 in signal.shape:
                raise ValueError(f"takes: {name!r} has shape {signal.shape}; commands do not have the picture's size")
            if signal.rate != "latent":
                raise ValueError(f"takes: {name!r} has rate {signal.rate!r}; commands come once per latent")

    @property
    def has_camera(self) -> bool:
        """Whether poses of a camera are among what it takes."""
        return "c2w" in self.takes

    def require_camera(self, what: str) -> None:
        """Refuse ``what`` in worlds without a camera, by a ValueError."""
        if not self.has_camera:
            raise ValueError(f"{what} needs a camera, and this world takes {', '.join(self.takes)}")

    @property
    def K(self) -> Tensor:
        """Intrinsics in pixels, (3, 3)."""
        K = intrinsics(self.width, self.height, fov_deg=self.fov_deg)
        if self.focal is not None:
            K[0, 0], K[1, 1] = self.focal[0] * self.width, self.focal[1] * self.height
        return K

    @property
    def chunk_frames(self) -> int:
        """Frames in one chunk."""
        return self.frames_per_latent * self.chunk_latents

    def still(self, num_envs: int) -> Track:
        """Return what leads to a start view, (B, 1, ...): nothing commanded, the camera at the origin."""
        track = Track()
        for name, signal in self.takes.items():
            nothing = torch.zeros(num_envs, 1, *signal.shape, dtype=getattr(torch, signal.dtype))
            track[name] = nothing if signal.dtype == "bool" else nothing.clamp(*signal.bounds).to(nothing.dtype)
        if self.has_camera:
            track["c2w"] = torch.eye(4, dtype=torch.float64).repeat(num_envs, 1, 1, 1)
        return track

    def complete(
        self,
        given: Signals,  # each (B, F, ...), from the start view on
    ) -> Track:
        """Return a clip's track: what was given, keys read off the camera's way, and zeros for what is missing."""
        num_envs, num_latents = next(iter(given.values())).shape[:2]
        track = self.still(num_envs).map(lambda tensor: tensor.expand(-1, num_latents, *tensor.shape[2:]).clone())
        for name in track.keys() & given.keys():
            track[name] = given[name].to(track[name].dtype)
        if "keys" in track and "keys" not in given and "c2w" in given:
            track["keys"][:, 1:] = self.keys_along(track["c2w"])
        return track

    def at_rest(
        self,
        commands: Track,  # some of what it takes, each (B, F, ...)
        present: Signals,  # each (B, ...)
    ) -> Track:
        """Return the commands, and for the rest of what it takes what is commanded now, or nothing."""
        rest = {name: part for name, part in self.still(commands.num_rows).items() if name not in commands}
        for name, still in rest.items():
            now = present[name][:, None].to(still) if name in present else still
            rest[name] = now.expand(-1, commands.num_latents, *now.shape[2:])
        return Track({**commands, **rest})

    def keys_along(
        self,
        path: Tensor,  # (..., F + 1, 4, 4), start first
    ) -> Tensor:
        """Label the motion into each pose with key codes, (..., F, 2); below a tenth of a step it is no key.

        Where the start view is in the first chunk, translations are read as in WorldPlay's release.
        """
        return c2w_to_keys(
            path,
            move_threshold=0.1 * self.steps.move,
            turn_threshold_deg=0.1 * self.steps.turn_deg,
            axes="old" if self.start_in_chunk else "new",
        )


def _check_own(name: str, signal: Signal) -> None:
    """Refuse a signal that is another than its name means; its bounds may be any."""
    for part in fields(Signal):
        told, wanted = getattr(signal, part.name), getattr(OWN[name], part.name)
        if part.name not in ("low", "high") and told != wanted:
            raise ValueError(f"signal {name!r} has {part.name} {told!r}, not {wanted!r}; give another one another name")


def frame_path(
    c2w_start: Tensor,  # (..., 4, 4)
    c2w: Tensor,  # (..., F, 4, 4) pose at the end of each latent
) -> Tensor:
    """Return the pose at each frame, 4 per latent; shape (..., 4 F, 4, 4)."""
    before = torch.cat([c2w_start[..., None, :, :], c2w[..., :-1, :, :]], -3)
    return interpolate(before, c2w, FRAMES_PER_LATENT).flatten(-4, -3)
