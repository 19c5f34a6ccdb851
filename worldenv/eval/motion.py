"""How did the camera move? Measured in the pictures themselves, so on invented ground as well.

The network (``models.motion``, trained by stage ``pose`` on recorded and on decoded frames) compares the last frames of
neighbouring latents. What it cannot tell in true frames is the floor of every figure made with it: ``measure_floor``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..dynamics.spec import FRAMES_PER_LATENT, WorldSpec
from ..geometry.action import ActionSteps
from ..geometry.pose import chain, compose, orthonormal, relative, rotation_angle
from ..models.codec import Codec, to_pixels
from ..models.motion import PoseNet, four_ways, load_pose, packaged_pose
from ..training.augment import round_trip
from .image import Array

BATCH = 128
"""Frames that are looked at together."""


@dataclass(frozen=True)
class ActionScore:
    """How well trajectories follow their commands."""

    score: Array  # (B,): 1 is exact, 0 no better than standing still
    rotation: Array  # (B, F) radians between commanded and measured motion
    translation: Array  # (B, F) metres between them


class PoseEstimator:
    """Measures camera motion per latent in frames of the camera it was trained on; larger ones are shrunk first."""

    def __init__(self, net: PoseNet, *, quick: bool = False) -> None:
        self.net, self.quick = net, quick

    @classmethod
    def load(cls, path: Path | None = None, *, spec: WorldSpec | None = None, quick: bool = False) -> PoseEstimator:
        """Load the packaged network, or another one; refuse a world whose camera it was not trained on.

        ``quick`` looks at each pair of frames once, in a quarter of the time and with a tenth more error.

        Raises:
            ValueError: if the file is no such network, or the camera of ``spec`` is another one.
        """
        estimator = cls(load_pose(packaged_pose() if path is None else path), quick=quick)
        if spec is not None:
            times, config = estimator.times_larger(spec.width, spec.height), estimator.net.config
            if not times or not torch.allclose(spec.K[:2], times * config.K[:2]):
                focal = [round(float(f), 3) for f in (spec.K[0, 0], spec.K[1, 1])]
                found = f"{spec.width}x{spec.height} with focal lengths {focal} pixels"
                raise ValueError(f"the world's frames are {found}; the pose network needs {estimator.needs}")
        return estimator

    @property
    def needs(self) -> str:
        """The frames it was trained on, in words."""
        config = self.net.config
        size = f"{config.width}x{config.height} or whole multiples"
        return f"{size}, {config.fov_deg:g} degrees wide, square pixels; train another network"

    def times_larger(self, width: int, height: int) -> int:
        """Return how many times larger than the network's such frames are, 0 if that is no whole number."""
        times = max(1, width // self.net.config.width)
        return times if (width, height) == (times * self.net.config.width, times * self.net.config.height) else 0

    @torch.no_grad()
    def steps(
        self,
        frames: Tensor,  # (B, 1 + 4 F, H, W, 3) uint8
    ) -> Tensor:
        """Return the motion of every latent, inv(c2w before) @ c2w after, (B, F, 4, 4) float64.

        Raises:
            ValueError: for frames of another kind or size, or if their number is not 1 + 4 F with F >= 1.
        """
        self._check(frames, axes=5)
        if frames.shape[1] < 1 + FRAMES_PER_LATENT or (frames.shape[1] - 1) % FRAMES_PER_LATENT:
            raise ValueError(f"a clip has 1 + 4 F frames, F >= 1, got {frames.shape[1]}; cut it to whole latents")
        ends = frames[:, ::FRAMES_PER_LATENT]
        rows = ends.split(max(1, BATCH // ends.shape[1]))
        look = self.net if self.quick else lambda pixels: four_ways(self.net, pixels).mean(0)
        pixels = (to_pixels(self._shrunk(part)).to(self.net.rays.device) for part in rows)
        motion = torch.cat([look(part).double().cpu() for part in pixels])
        return compose(orthonormal(motion[..., :3, :3]), motion[..., :3, 3])

    def track(
        self,
        frames: Tensor,  # (B, 1 + 4 F, H, W, 3) uint8
        c2w_start: Tensor | None = None,  # (B, 4, 4); None is the origin
    ) -> Tensor:
        """Follow the measured motions from the first frame, (B, 1 + F, 4, 4) float64; errors add up along it."""
        motions = self.steps(frames)
        start = torch.eye(4, dtype=torch.float64).expand(len(motions), 4, 4) if c2w_start is None else c2w_start
        return chain(start.double(), motions)

    @torch.no_grad()
    def features(
        self,
        frames: Tensor,  # (N, H, W, 3) uint8
    ) -> Array:
        """Describe single frames for a Frechet distance, (N, D) float64.

        Mean and standard deviation over the picture of each channel of the encoder, at its three scales. They
        were learned to match places, not to recognise things: a distance of our own, under its own name
        (``frechet_pose_features``), not comparable with FID or FVD.
        """
        self._check(frames, axes=4)
        rows = []
        for part in frames.split(BATCH):
            maps = self.net.encode(to_pixels(self._shrunk(part)).to(self.net.rays.device))
            rows.append(torch.cat([moment for m in maps for moment in (m.mean((2, 3)), m.std((2, 3)))], 1))
        result: Array = torch.cat(rows).double().cpu().numpy()
        return result

    def _check(self, frames: Tensor, *, axes: int) -> None:
        config = self.net.config
        fits = frames.ndim == axes and frames.shape[-1] == 3 and self.times_larger(frames.shape[-2], frames.shape[-3])
        if not fits or frames.dtype != torch.uint8:
            wanted = f"({'B, 1 + 4 F' if axes == 5 else 'N'}, {config.height}, {config.width}, 3)"
            raise ValueError(
                f"frames are {frames.dtype} {tuple(frames.shape)}, expected uint8 {wanted}; "
                f"the pose network needs {self.needs}"
            )

    def _shrunk(self, frames: Tensor) -> Tensor:
        """Average squares of pixels, as recorded frames are made from larger ones: (..., H, W, 3) of the network."""
        times = self.times_larger(frames.shape[-2], frames.shape[-3])
        if times == 1:
            return frames
        squares = frames.unflatten(-2, (-1, times)).unflatten(-4, (-1, times))  # (..., h, times, w, times, 3)
        return squares.float().mean((-4, -2)).round().to(torch.uint8)


def action_score(
    steps: Tensor,  # (B, F, 4, 4) motion of every latent, measured
    commanded: Tensor,  # (B, F, 4, 4) as commanded: relative(c2w[:, :-1], c2w[:, 1:])
    *,
    units: ActionSteps,
) -> ActionScore:
    """Score every trajectory 1 - E / E0, clipped to 0..1.

    E is the mean over latents of the rotation error over one step's turn plus the translation error over one step's
    move; E0 is the same for an estimate of no motion at all.

    Raises:
        ValueError: if a trajectory is commanded to stand still, which has no score.
    """
    rotation, translation = _errors(steps, commanded)
    none = torch.eye(4, dtype=commanded.dtype).expand_as(commanded)
    error, error_none = (steps_off(found, commanded, units=units).mean(1) for found in (steps, none))
    if (error_none < 1e-9).any():
        still = int((error_none < 1e-9).nonzero()[0])
        raise ValueError(f"trajectory {still} is commanded to stand still; there is no action to score, leave it out")
    score = (1 - error / error_none).clamp(0, 1)
    return ActionScore(score.numpy(), rotation.numpy(), translation.numpy())


def _errors(found: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return the angle in radians and the metres between motions (..., 4, 4), each (...)."""
    between = relative(found, truth)
    return rotation_angle(between[..., :3, :3]), (found - truth)[..., :3, 3].norm(dim=-1)


def steps_off(
    found: Tensor,  # (..., 4, 4)
    truth: Tensor,  # (..., 4, 4)
    *,
    units: ActionSteps,
) -> Tensor:
    """Return how far motions are off, (...): rotation over one step's turn plus translation over one step's move."""
    (rotation, translation), sizes = _errors(found, truth), units.units()
    return rotation / sizes[3] + translation / sizes[0]


def measure_floor(
    estimator: PoseEstimator,
    frames: Tensor,  # (B, 1 + 4 F, H, W, 3) uint8, true frames of B >= 2 trajectories
    c2w: Tensor,  # (B, 1 + F, 4, 4) where they were taken
    *,
    spec: WorldSpec,
    vae: Codec | None = None,
) -> dict[str, dict[str, float]]:
    """Return what the estimator makes of the truth: ``truth`` and, with a VAE, of the truth decoded by it: ``vae``.

    Medians and 95th percentiles over latents, and over chunks (the motions of a chunk's latents chained); the mean
    score of the truth, with the commands of the next trajectory, and of the start view frozen.

    Raises:
        ValueError: for a single trajectory, which leaves none to take other commands from.
    """
    if len(frames) < 2:
        raise ValueError(f"a floor needs 2 trajectories or more, got {len(frames)}; simulate another")
    shown = {"truth": frames}
    if vae is not None:
        shown["vae"] = torch.stack([round_trip(vae, clip) for clip in frames])
    true = relative(c2w[:, :-1], c2w[:, 1:])
    return {name: _describe(estimator, clips, true, spec) for name, clips in shown.items()}


def _describe(estimator: PoseEstimator, frames: Tensor, true: Tensor, spec: WorldSpec) -> dict[str, float]:
    units, found = spec.steps, estimator.steps(frames)
    chunk = spec.chunk_latents
    kept = found.shape[1] // chunk * chunk
    over_chunks = (_chained(motions[:, :kept].unflatten(1, (-1, chunk))) for motions in (found, true))
    frozen = estimator.steps(frames[:, :1].expand_as(frames))
    scored = action_score(found, true, units=units)
    result = {
        **_quantiles("latent", *_errors(found, true), move=units.move),
        **_quantiles("chunk", *_errors(*over_chunks), move=units.move * chunk),
        "score_truth": float(scored.score.mean()),
        "score_shuffled": float(action_score(found, true.roll(1, 0), units=units).score.mean()),
        "score_frozen": float(action_score(frozen, true, units=units).score.mean()),
    }
    return {key: round(value, 5) for key, value in result.items()}


def _chained(
    motions: Tensor,  # (B, N, F, 4, 4)
) -> Tensor:
    """Return the motion over all F, (B, N, 4, 4)."""
    start = torch.eye(4, dtype=motions.dtype).expand(*motions.shape[:2], 4, 4)
    return chain(start, motions)[..., -1, :, :]


def _quantiles(name: str, rotation: Tensor, translation: Tensor, *, move: float) -> dict[str, Any]:
    """Name medians and 95th percentiles: degrees, metres, and share of ``move`` metres."""
    values = {"rotation_deg": rotation.rad2deg(), "translation_m": translation, "translation_share": translation / move}
    return {
        f"{name}_{key}_{suffix}": float(value.flatten().quantile(share))
        for key, value in values.items()
        for suffix, share in (("median", 0.5), ("p95", 0.95))
    }
