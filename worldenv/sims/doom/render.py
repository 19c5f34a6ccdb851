"""A square-pixel pinhole camera out of ViZDoom's level view.

The engine stretches pixels (fy = 1.2 fx) and shears instead of pitching, so it only ever renders a level
view, larger and wider than asked for. Each target pixel averages a grid of subsamples; a subsample's ray,
turned by the pitch, falls on one pixel of the level view (the exact homography of a rotating camera).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from ...dynamics.spec import WorldSpec
from .maze import Array

_LANES = np.array([0, 21, 42], np.uint64)
_CACHE_SIZE = 256


RESOLUTIONS = (
    (320, 240),
    (400, 300),
    (512, 384),
    (640, 480),
    (800, 600),
    (1024, 768),
    (1280, 960),
    (1600, 1200),
)
"""ViZDoom's 4:3 screens."""


@dataclass(frozen=True, kw_only=True)
class LevelView:
    """The engine's camera: screen size, field of view and the intrinsics that follow.

    The factors and offsets were fitted to pictures of known maps (the engine rounds its focal length and its
    columns); they hold to 0.1 pixel of a 64x48 frame.
    """

    width: int
    """Screen width in pixels; with ``height`` one of ViZDoom's resolutions."""
    height: int
    """Screen height in pixels."""
    fov_deg: int
    """Engine field of view across the screen, whole degrees."""

    @classmethod
    def for_spec(cls, spec: WorldSpec, *, oversampling: float = 2.5) -> LevelView:
        """Choose the smallest view that covers the spec's frame at any pitch within its limit.

        Raises:
            ValueError: if no field of view or no screen is large enough.
        """
        K, pitch = spec.K.double(), math.radians(spec.steps.pitch_limit_deg)
        x, y = float(K[0, 2] / K[0, 0]), float(K[1, 2] / K[1, 1])
        forward = math.cos(pitch) - y * math.sin(pitch)
        reach_x, reach_y = x / forward, (y * math.cos(pitch) + math.sin(pitch)) / forward
        # A 4:3 screen with 1.2 times taller pixels sees 0.625 as far up as it sees to the side.
        half = math.atan(1.01 * max(reach_x, reach_y / 0.625)) if forward > 0 else math.pi / 2
        fov_deg = math.ceil(2 * math.degrees(half))
        if fov_deg > 150:
            raise ValueError(
                f"fov_deg={spec.fov_deg} with pitch_limit_deg={spec.steps.pitch_limit_deg} needs a "
                f"level view of {fov_deg} degrees, the engine has 150; lower one of them"
            )
        for width, height in RESOLUTIONS:
            view = cls(width=width, height=height, fov_deg=fov_deg)
            if view.fx >= oversampling * float(K[0, 0]):
                return view
        raise ValueError(f"a {spec.width}x{spec.height} frame needs a screen beyond 1600x1200; ask for a smaller one")

    @property
    def fx(self) -> float:
        """Horizontal focal length in pixels."""
        return 1.004 * self.width / 2 / math.tan(math.radians(self.fov_deg) / 2)

    @property
    def fy(self) -> float:
        """Vertical focal length in pixels."""
        return 1.198 * self.fx

    @property
    def cx(self) -> float:
        """Principal point, pixel centres at half integers."""
        return self.width / 2 + 0.3

    @property
    def cy(self) -> float:
        """Principal point, pixel centres at half integers."""
        return self.height / 2 - 0.5


class Resampler:
    """Turn palette-indexed level screens into RGB frames of the target camera."""

    def __init__(
        self,
        view: LevelView,
        K: Array,  # (3, 3) target intrinsics
        *,
        width: int,
        height: int,
        palette: Array,  # (256, 3) uint8
        samples: int = 3,
    ) -> None:
        self.view, self.K, self.width, self.height, self.samples = view, K, width, height, samples
        # One 64-bit word holds the three channels with room for sums: one lookup and one add per subsample.
        self.packed: Array = (palette.astype(np.uint64) << _LANES).sum(1)
        self._indices: OrderedDict[float, Array] = OrderedDict()

    def frame(
        self,
        screen: Array,  # (level height, level width) uint8 palette indices
        pitch: float,
    ) -> Array:
        """Return the frame (H, W, 3) uint8 seen with this pitch in radians, positive up.

        Raises:
            ValueError: if the pitched frame reaches beyond the level view.
        """
        total = self.packed[screen.ravel()[self._index(pitch)]].sum(0)
        count = self.samples**2
        channels = (total[:, None] >> _LANES & np.uint64(0x1FFFFF)).astype(np.uint32)
        mean: Array = ((channels + count // 2) // count).astype(np.uint8)
        return mean.reshape(self.height, self.width, 3)

    def _index(self, pitch: float) -> Array:
        """Return the level pixel of each subsample, (samples^2, H * W), from the cache of recent pitches."""
        key = round(pitch, 7)
        if key not in self._indices:
            self._indices[key] = self._build(key)
            if len(self._indices) > _CACHE_SIZE:
                self._indices.popitem(last=False)
        self._indices.move_to_end(key)
        return self._indices[key]

    def _build(self, pitch: float) -> Array:
        s, view = self.samples, self.view
        x = ((np.arange(self.width * s) + 0.5) / s - self.K[0, 2]) / self.K[0, 0]
        y = ((np.arange(self.height * s) + 0.5) / s - self.K[1, 2]) / self.K[1, 1]
        # Turning up by the pitch: y' = y cos - sin, z' = y sin + cos (y points down).
        forward = y * math.sin(pitch) + math.cos(pitch)
        row = np.floor(view.cy + view.fy * (y * math.cos(pitch) - math.sin(pitch)) / forward)
        column = np.floor(view.cx + view.fx * x[None, :] / forward[:, None])
        if row.min() < 0 or row.max() >= view.height or column.min() < 0 or column.max() >= view.width:
            raise ValueError(
                f"pitch of {math.degrees(pitch):.1f} degrees looks beyond the level view; "
                f"stay within the world's pitch_limit_deg"
            )
        index = (row[:, None] * view.width + column).astype(np.int32)
        grid = index.reshape(self.height, s, self.width, s).transpose(1, 3, 0, 2)
        return np.ascontiguousarray(grid.reshape(s * s, -1))
