"""Stage ``pose``: the network that measures camera motion, from recorded frames and the poses they were taken at.

It is no stage of a world: it takes the VAE of one, whose artefacts it learns to bear, and writes one file,
``motion.safetensors``. Besides the motion itself, the recording's depth teaches every cell where it goes and how far
away it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ...base.config import to_dict
from ...base.log import console
from ...base.rng import derive_seed
from ...data.dataset import MotionDataset
from ...geometry.action import ActionSteps
from ...geometry.fit import project_points
from ...geometry.pose import chain, invert_se3, relative
from ...models.codec import Codec, to_pixels
from ...models.motion import CELL, Measurement, PoseConfig, PoseNet, save_pose
from ...world.world import World
from ..augment import AugmentConfig, degrade, round_trip
from ..loop.parallel import process_state, writing
from ..loop.plots import plot_tracks
from .run import RunConfig, run_stage

WINDOW = 3
"""Latents per window: two motions, learned forwards and backwards."""
STILL = 0.05
"""Share of windows whose frames are one and the same, with noise of its own on each."""
NUM_PREVIEW = 16
"""Held-out clips per preview."""


@dataclass(frozen=True, kw_only=True)
class PoseLossConfig:
    """Losses and windows of stage ``pose``."""

    flow: float = 0.3
    """Weight of the cells' mean error in pixels."""
    inverse_depth: float = 1.0
    """Weight of the cells' mean error in 1 / metres."""
    guess: float = 0.5
    """Weight of the errors at first look, beside those at the second."""
    decoded_clips: int = 160
    """Clips that are also shown as the world's VAE decodes them."""
    sideways: float = 0.35
    """Share of windows drawn among those with sideways motion, which is rare in recordings and looks like a turn."""
    decoded: float = 0.5
    """Share of windows from those."""
    latent_noise: float = 0.15
    """Largest noise on their latents, which generated ones are never free of; every clip has its own."""


@dataclass(frozen=True, kw_only=True)
class PoseTrainConfig(RunConfig):
    """Everything stage ``pose`` reads; ``init`` is the world whose VAE is used."""

    pose: PoseConfig = field(default_factory=PoseConfig)
    """Camera and sizes of the network."""
    pose_loss: PoseLossConfig = field(default_factory=PoseLossConfig)
    """Losses and windows."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """What is done to the frames."""


class PoseStage:
    """Trains the network on recorded and on decoded windows."""

    def __init__(self, vae: Codec, steps: ActionSteps, config: PoseTrainConfig) -> None:
        self.config, self.steps = config, steps
        self.module = PoseNet(config.pose)
        clips = min(config.pose_loss.decoded_clips, config.max_clips or config.pose_loss.decoded_clips)
        self.data = MotionDataset.load(config.data, cell=CELL, max_clips=config.max_clips)
        self.decoded = self._decoded(vae, config.data, clips, config.pose_loss.latent_noise)
        self.places = [sideways_windows(data.c2w) for data in (self.data, self.decoded)]
        self.heldout = {"truth": self.data, "vae": self.decoded}
        if config.heldout is not None:
            self.heldout = {
                "truth": MotionDataset.load(config.heldout, cell=CELL, max_clips=NUM_PREVIEW),
                "vae": self._decoded(vae, config.heldout, NUM_PREVIEW, 0.0),
            }
        width, height = config.pose.width, config.pose.height
        for data in (self.data, *self.heldout.values()):
            if data.frames.shape[2:4] != (height, width):
                found = f"{data.frames.shape[3]}x{data.frames.shape[2]}"
                raise ValueError(f"the recording has {found} frames, [pose] {width}x{height}; set [pose] width, height")

    def _decoded(self, vae: Codec, folder: Path, num_clips: int, noise: float) -> MotionDataset:
        generator = torch.Generator().manual_seed(derive_seed(self.config.optim.seed, "decoded"))
        through = partial(round_trip, vae, noise=noise, generator=generator)
        return MotionDataset.load(folder, cell=CELL, max_clips=num_clips, through=through)

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Measure the motions of a batch of windows, forwards and backwards."""
        config = self.config.pose_loss
        frames, c2w, inverse_depth = self._windows(generator)
        pixels = degrade(to_pixels(frames), self.config.augment, generator).to(self.module.rays.device)
        maps = [m.unflatten(0, frames.shape[:2]) for m in self.module.encode(pixels.flatten(0, 1))]
        before, after = slice(None, -1), slice(1, None)

        def pairs(values: Tensor, first: slice, second: slice) -> Tensor:
            return torch.cat([values[:, first].flatten(0, 1), values[:, second].flatten(0, 1)])

        first, second = (
            (pairs(maps[0], *order), pairs(maps[1], *order), pairs(maps[2], *order))
            for order in ((before, after), (after, before))
        )
        truth = relative(pairs(c2w, before, after), pairs(c2w, after, before)).float().to(pixels.device)
        near = pairs(inverse_depth, before, after).flatten(1).to(pixels.device)
        guess, found = self.module.compare(first, second)
        loss = self._error(found, truth, near) + config.guess * self._error(guess, truth, near)
        rotation, translation = motion_error(found.motion.detach(), truth)
        flow, depth = self._cell_errors(found, truth, near)
        figures = {
            "turn_deg": float(rotation.norm(dim=-1).mean().rad2deg()),
            "move_m": float(translation.norm(dim=-1).mean()),
            "flow_px": float(flow.detach()),
            "inverse_depth": float(depth.detach()),
        }
        return loss, figures

    def _error(self, found: Measurement, truth: Tensor, inverse_depth: Tensor) -> Tensor:
        """Return the mean error of motions in steps, plus the cells' errors at their weights."""
        turn, move = self._units()
        rotation, translation = motion_error(found.motion, truth)
        flow, depth = self._cell_errors(found, truth, inverse_depth)
        motion = smooth_norm(rotation / turn) + smooth_norm(translation / move)
        return motion.mean() + self.config.pose_loss.flow * flow + self.config.pose_loss.inverse_depth * depth

    def _units(self) -> tuple[float, float]:
        """Return a step's turn in radians and its move in metres."""
        units = self.steps.units()
        return float(units[3]), float(units[0])

    def _windows(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw windows, some of them still, half of them mirrored."""
        num_decoded = round(self.config.pose_loss.decoded * self.config.optim.batch)
        parts = [
            *self._draw(self.data, self.places[0], self.config.optim.batch - num_decoded, generator),
            *self._draw(self.decoded, self.places[1], num_decoded, generator),
        ]
        window = tuple(torch.cat(part) for part in zip(*parts, strict=True))
        still = torch.rand(len(window[0]), generator=generator) < STILL
        frames, c2w, near = (torch.where(_wide(still, x), x[:, :1], x) for x in window)
        mirrored = torch.rand(len(frames), generator=generator) < 0.5
        sides = torch.diag(c2w.new_tensor([-1, 1, 1, 1]))
        return (
            torch.where(_wide(mirrored, frames), frames.flip(3), frames),
            torch.where(_wide(mirrored, c2w), sides @ c2w @ sides, c2w),
            torch.where(_wide(mirrored, near), near.flip(3), near),
        )

    def _draw(
        self, data: MotionDataset, sideways: Tensor, count: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, ...]]:
        """Draw windows, a share of them from those with sideways motion."""
        chosen = round(self.config.pose_loss.sideways * count) if len(sideways) else 0
        yield data.sample(count - chosen, WINDOW, generator)
        if chosen:
            yield data.windows(sideways[torch.randint(len(sideways), (chosen,), generator=generator)], WINDOW)

    def _cell_errors(
        self,
        found: Measurement,
        truth: Tensor,  # (B, 4, 4)
        inverse_depth: Tensor,  # (B, P)
    ) -> tuple[Tensor, Tensor]:
        """Return the mean error of where cells go, pixels, of those that stay in view, and of their inverse depth."""
        (u, v), z = project_points(self.module.rays, inverse_depth, invert_se3(truth))
        width, height = self.config.pose.width, self.config.pose.height
        focal = float(self.config.pose.K[0, 0])
        seen = (u.abs() < width / 2 / focal) & (v.abs() < height / 2 / focal) & (z > 0.2)
        error = focal * (found.image - torch.stack([u, v], -1)).abs().sum(-1)
        flow = (error * seen).sum() / seen.sum().clamp(min=1)
        return flow, (found.inverse_depth - inverse_depth).abs().mean()

    def preview(self, folder: Path, step: int) -> dict[str, float]:
        """Measure held-out clips, recorded and decoded; draw their tracks from above."""
        figures: dict[str, float] = {}
        tracks: dict[str, Tensor] = {}
        for name, data in self.heldout.items():
            frames = data.frames[:NUM_PREVIEW]
            pixels = to_pixels(frames).to(self.module.rays.device)
            found = torch.cat([self.module(clip[None]) for clip in pixels]).double().cpu()
            c2w = data.c2w[: len(frames)]
            errors = motion_error(found, relative(c2w[:, :-1], c2w[:, 1:]))
            rotation, translation = (error.norm(dim=-1).flatten() for error in errors)
            figures |= {
                f"{name}_deg": float(rotation.median().rad2deg()),
                f"{name}_m": float(translation.median()),
                f"{name}_deg_95": float(rotation.quantile(0.95).rad2deg()),
                f"{name}_m_95": float(translation.quantile(0.95)),
            }
            tracks[name] = chain(c2w[:, 0], found)
        plot_tracks(folder / "samples" / f"{step:06d}.png", self.heldout["truth"].c2w[:NUM_PREVIEW], tracks)
        return figures


def sideways_windows(
    c2w: Tensor,  # (N, F, 4, 4)
) -> Tensor:
    """List windows whose camera moves sideways, by more than half of its way forwards: clip and first entry, (M, 2)."""
    right, _, forward = relative(c2w[:, :-1], c2w[:, 1:])[..., :3, 3].abs().unbind(-1)
    sideways = (right > 0.05) & (right > forward / 2)
    return sideways.unfold(1, WINDOW - 1, 1).any(-1).nonzero()


def motion_error(
    found: Tensor,  # (..., 4, 4)
    truth: Tensor,  # (..., 4, 4)
) -> tuple[Tensor, Tensor]:
    """Return the axis of the rotation between both times the sine of its angle, and the translation between, (..., 3).

    Smooth at no error, unlike angles.
    """
    between = found[..., :3, :3].mT @ truth[..., :3, :3]
    skew = (between - between.mT) / 2
    axis = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1)
    return axis, found[..., :3, 3] - truth[..., :3, 3]


def smooth_norm(
    vector: Tensor,  # (..., 3)
    softness: float = 0.02,
) -> Tensor:
    """Return the length, (...), that below ``softness`` grows like the square."""
    return (vector.square().sum(-1) + softness**2).sqrt() - softness


def _wide(
    mask: Tensor,  # (B,)
    like: Tensor,  # (B, ...)
) -> Tensor:
    """Give a mask as many axes as another tensor has."""
    return mask.view(-1, *[1] * (like.ndim - 1))


def train_pose(config: PoseTrainConfig, out: Path, *, resume: bool = False) -> PoseNet:
    """Train the network and write it to ``out / motion.safetensors``.

    Raises:
        ValueError: without a world, poses or depth, or if the run does not fit what is in ``out``.
    """
    if config.init is None:
        raise ValueError("stage 'pose' learns to bear a VAE's artefacts; pass --init WORLD, whose VAE is used")
    world = World.from_pretrained(config.init, dtype="auto")
    torch.manual_seed(derive_seed(config.optim.seed, "init"))

    def make(shared: PoseTrainConfig) -> PoseStage:
        return PoseStage(world.vae, world.spec.steps, shared)

    with writing(out):
        stage, done = run_stage("pose", config, make, out, resume=resume)
        assert isinstance(stage.module, PoseNet)
        if process_state().is_main_process:
            save_pose(out / "motion.safetensors", stage.module, provenance=to_dict(done))
    console.print(f"wrote {out / 'motion.safetensors'}")
    return stage.module
