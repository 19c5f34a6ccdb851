"""Score what a world showed along a suite's cases, per trajectory; NaN where a metric has no meaning for one.

``_gt`` compares with the simulator, ``_self`` with the world's own first pass over the same pose. What is measured
frame by frame is also split by gap (``gaps``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...dynamics.spec import FRAMES_PER_LATENT, WorldSpec
from ...geometry.pose import chain, relative
from ...models.heads import DepthHead
from ...training.stages.heads import measure
from ..image import Array, as_unit, decibels, frame_contrast, frame_psnr, frame_ssim, motion_ratio
from ..motion import PoseEstimator, action_score, steps_off
from ..reprojection import GAPS, reprojection
from ..symmetry import memory_symmetry
from ..trajectory import nmr, r_dist, rpe, t_dist, t_dist_scaled, traj_acc
from .cases import STRIDE, Cases
from .gaps import Returns, gaps, mean_where
from .run import Scores

ENDS = slice(FRAMES_PER_LATENT, None, FRAMES_PER_LATENT)
"""The last frame of each latent."""
LEAST_SHARE = 0.02
"""Share of a view that must be seen (or unseen) for its PSNR to count."""

LOWER_IS_BETTER = (
    "r_dist",
    "r_dist_deg",
    "t_dist",
    "t_dist_scaled",
    "rpe_translation",
    "rpe_rotation",
    "rpe_rotation_deg",
    "lpips",
    *(f"reprojection_depth_{gap}" for gap in GAPS),
)
"""Metrics that measure an error."""


@dataclass(frozen=True)
class Judge:
    """Everything that a suite measures on a batch of cases."""

    spec: WorldSpec
    window_frames: int
    """Frames that the memory's recent window holds anyway."""
    num_frames: int | None = None
    """Frames that are scored; None is all."""
    ssim_step: int = 1
    """Every how manieth frame SSIM is computed on."""
    ages: bool = False
    """Whether early and late chunks are compared."""
    estimator: PoseEstimator | None = None
    """Measures camera motion and describes frames; without one there are no such metrics."""
    pose_step: int = 1
    """Every how manieth case's motion is measured; 0 is none."""
    depth_head: DepthHead | None = None
    """What views are shown in one another by (``reprojection``); without one they are not."""

    def __call__(self, frames: Tensor, cases: Cases, given_frames: int = 0) -> Scores:
        """Score frames (B, T, H, W, 3) uint8; what is measured over a whole clip, after those that were given."""
        chunk = self.spec.chunk_frames
        plotted = curves(frames, cases, chunk_frames=chunk)
        frames, cases = frames[:, : self.num_frames], cases.cut(self.num_frames)
        metrics = score(
            frames,
            cases,
            chunk_frames=chunk,
            window_frames=self.window_frames,
            ssim_step=self.ssim_step,
            given_frames=given_frames,
        )
        if self.ages:
            metrics |= by_age({name: curve[:, given_frames // chunk :] for name, curve in plotted.items()})
        if self.depth_head is not None:
            metrics |= self._reprojection(frames[:, ENDS], cases, given_frames // FRAMES_PER_LATENT)
        if self.estimator is None:
            return Scores(metrics, plotted)
        if self.pose_step:
            some = slice(None, None, self.pose_step)
            measured = pose_scores(
                frames[some],
                cases.rows(some),
                self.estimator,
                self.spec,
                window_frames=self.window_frames,
                given_frames=given_frames,
            )
            for name, values in measured.items():
                metrics[name] = np.full(len(cases), np.nan)
                metrics[name][some] = values
        ends = frames[:, ENDS][:, given_frames // FRAMES_PER_LATENT :]
        features = self.estimator.features(ends.flatten(0, 1)).reshape(*ends.shape[:2], -1)
        return Scores(metrics, plotted, {"frechet_pose_features": features})

    def _reprojection(self, ends: Tensor, cases: Cases, given: int) -> dict[str, Array]:
        assert self.depth_head is not None
        ends, c2w = ends[:, given:], cases.c2w[:, given:]
        depth, _ = measure(self.depth_head, ends.flatten(0, 1))
        return reprojection(ends, depth.view(ends.shape[:-1]), c2w, self.spec.K)


def score(
    frames: Tensor, cases: Cases, *, chunk_frames: int, window_frames: int, ssim_step: int = 1, given_frames: int = 0
) -> dict[str, Array]:
    """Return every metric of frames (B, T, H, W, 3) uint8 that needs no weights, each (B,).

    ``window_frames`` is what the memory holds anyway; SSIM is computed on every ``ssim_step``-th frame.
    """
    truth, returns = cases.frames, Returns(gaps(cases.first), chunk_frames, window_frames)
    fidelity, contrast = frame_psnr(frames, truth), frame_contrast(frames, truth)
    some = slice(ssim_step, None, ssim_step)
    likeness = frame_ssim(frames[:, some], truth[:, some])
    made = np.arange(frames.shape[1]) > given_frames
    metrics = {
        "psnr": fidelity[:, made].mean(1),
        "ssim": likeness[:, made[some]].mean(1),
        "motion_ratio": np.asarray(motion_ratio(frames[:, given_frames:], truth[:, given_frames:])),
        "contrast_ratio": contrast[:, made].mean(1),
        "contrast_ratio_new": mean_where(contrast[:, made], returns.gap[:, made] == 0),
        "contrast_ratio_unseen": mean_where(contrast[:, ENDS], cases.unseen & made[ENDS]),
        **returns.split("return_psnr_self", frame_psnr(_first_pass(frames, cases), frames)),
        **returns.split("return_psnr_gt", fidelity),
        **returns.split("return_ssim_gt", likeness, at=some),
        **returns.split("contrast_ratio_return", contrast),
        **_motion_on_return(frames, truth, returns),
        **_memory_symmetry(frames, cases),
        **_nmr(frames, cases),
        **_seen(frames, cases, returns),
    }
    return {name: values for name, values in metrics.items() if not np.isnan(values).all()}


def pose_scores(
    frames: Tensor,
    cases: Cases,
    estimator: PoseEstimator,
    spec: WorldSpec,
    *,
    window_frames: int,
    given_frames: int = 0,
) -> dict[str, Array]:
    """Compare the camera motion measured in the frames that were made with the one commanded, each metric (B,).

    The simulator's row of the same table is the estimator's own error: measured motions are chained over the whole
    clip, and their errors with them.
    """
    made = slice(given_frames // FRAMES_PER_LATENT, None)
    path, whole = torch.cat([cases.start_c2w[:, None], cases.c2w], 1), estimator.steps(frames)
    asked_for = relative(path[:, :-1], path[:, 1:])
    commanded, motions, asked = path[:, made], whole[:, made], asked_for[:, made]
    track = chain(commanded[:, 0], motions)
    values = {
        "r_dist": np.asarray(r_dist(track, commanded)),
        "t_dist": _where_it_moves(t_dist, track, commanded),
        "t_dist_scaled": _where_it_moves(t_dist_scaled, track, commanded),
        "rpe_translation": np.asarray(rpe(track, commanded)[0]),
        "rpe_rotation": np.asarray(rpe(track, commanded)[1]),
        "traj_acc_iworld": np.asarray(traj_acc(track, commanded)),
        "traj_acc_signed": np.asarray(traj_acc(track, commanded, variant="signed")),
        "action_score": action_score(motions, asked, units=spec.steps).score,
        **_action_on_return(whole, asked_for, cases, spec, window_frames),
    }
    return {**values, **{f"{name}_deg": np.degrees(values[name]) for name in ("r_dist", "rpe_rotation")}}


def _action_on_return(
    motions: Tensor, asked: Tensor, cases: Cases, spec: WorldSpec, window_frames: int
) -> dict[str, Array]:
    """Return the action score of the latents that return, and of those of each class of gaps: 1 - E / E0 there."""
    returns = Returns(gaps(cases.first), spec.chunk_frames, window_frames)
    none = torch.eye(4, dtype=asked.dtype).expand_as(asked)
    errors, errors_none = (
        returns.split("action_score_return", steps_off(found, asked, units=spec.steps).numpy(), at=ENDS)
        for found in (motions, none)
    )
    with np.errstate(invalid="ignore", divide="ignore"):  # classes without latents, or without motion
        scores = {name: np.clip(1 - errors[name] / errors_none[name], 0, 1) for name in errors}
    return {name: values for name, values in scores.items() if not np.isnan(values).all()}


def _where_it_moves(metric: Callable[[Tensor, Tensor], Any], track: Tensor, commanded: Tensor) -> Array:
    """Apply a metric that turns on the spot do not have."""
    moves = (commanded[:, :, :3, 3] - commanded[:, :1, :3, 3]).norm(dim=-1).amax(1) > 1e-6
    return np.array([metric(a, b) if m else np.nan for a, b, m in zip(track, commanded, moves, strict=True)])


def curves(frames: Tensor, cases: Cases, *, chunk_frames: int) -> dict[str, Array]:
    """Return what can be plotted against the chunk's index, each (B, chunks)."""
    truth = cases.frames
    per_frame = {
        "psnr": frame_psnr(frames, truth)[:, 1:],
        "contrast_ratio": frame_contrast(frames, truth)[:, 1:],
        "motion": np.abs(np.diff(as_unit(frames), axis=1)).mean((2, 3, 4)),
        "sharpness": _gradient(frames)[:, 1:] / np.maximum(_gradient(truth)[:, 1:].mean(1, keepdims=True), 1e-6),
    }
    return {name: values.reshape(len(values), -1, chunk_frames).mean(2) for name, values in per_frame.items()}


def by_age(values: Mapping[str, Array]) -> dict[str, Array]:
    """Summarise curves as figures: the first and the last eighth of the chunks, and their difference; each (B,)."""
    result: dict[str, Array] = {}
    for name, curve in values.items():
        part = max(1, curve.shape[1] // 8)
        early, late = curve[:, :part].mean(1), curve[:, -part:].mean(1)
        result |= {f"{name}_early": early, f"{name}_late": late, f"{name}_drift": late - early}
    return result


def _first_pass(frames: Tensor, cases: Cases) -> Tensor:
    """Return for every frame the one that showed its pose first, itself on new ground."""
    first = cases.first.where(cases.first >= 0, _arange_like(cases.first))
    return frames.gather(1, first[..., None, None, None].expand_as(frames))


def _arange_like(index: Tensor) -> Tensor:
    return index.new_ones(index.shape).cumsum(1) - 1


def _motion_on_return(frames: Tensor, truth: Tensor, returns: Returns) -> dict[str, Array]:
    """Return how much returning frames move, relative to the truth, also by gap."""
    made, true = (
        returns.split("motion_ratio_return", np.abs(np.diff(as_unit(x), axis=1)).mean((2, 3, 4)), at=slice(1, None))
        for x in (frames, truth)
    )
    return {name: made[name] / np.maximum(true[name], 1e-6) for name in made}


def _gradient(frames: Tensor) -> Array:
    """Return the mean absolute difference of neighbouring pixels; (B, T)."""
    x = as_unit(frames)
    across, down = np.abs(np.diff(x, axis=-2)).mean((-3, -2, -1)), np.abs(np.diff(x, axis=-3)).mean((-3, -2, -1))
    result: Array = (across + down) / 2
    return result


def _memory_symmetry(frames: Tensor, cases: Cases) -> dict[str, Array]:
    """Score the clips whose paths mirror in time, which is what the metric is defined for."""
    mirrors = np.array([kind == "out_and_back" for kind in cases.kinds])
    variants = {"memory_symmetry": "paper", "memory_symmetry_engine": "engine"}
    return {
        name: np.where(mirrors, np.asarray(memory_symmetry(frames, variant=variant)), np.nan)  # type: ignore[arg-type]
        for name, variant in variants.items()
    }


def _nmr(frames: Tensor, cases: Cases) -> dict[str, Array]:
    """Return the normalised memory ratio of one frame per latent, of clips that revisit."""
    values = np.full(len(cases), np.nan)
    for i, clip in enumerate(frames[:, ENDS]):
        if cases.kinds[i] != "explore":
            try:
                values[i] = nmr(clip, cases.c2w[i], short=1)
            except ValueError:
                continue  # no pair of views far enough apart in time, or none that differ
    return {"nmr": values}


def _seen(frames: Tensor, cases: Cases, returns: Returns) -> dict[str, Array]:
    """PSNR of the points that the start view showed, which is all a world was given, by depth; and of the others."""
    if cases.seen is None:
        return {}
    offset = STRIDE // 2
    a, b = (as_unit(x[:, ENDS, offset::STRIDE, offset::STRIDE]) for x in (frames, cases.frames))
    error = ((a - b) ** 2).mean(-1).reshape(*a.shape[:2], -1)  # (B, F, P)
    seen = cases.seen.numpy()
    result: dict[str, Array] = {}
    for name, chosen in (("seen_psnr", seen), ("unseen_psnr", ~seen)):
        count = chosen.sum(2)
        mse = (error * chosen).sum(2) / np.maximum(count, 1)
        psnr = decibels(mse)
        psnr[count <= LEAST_SHARE * chosen.shape[2]] = np.nan
        result |= returns.split(name, psnr, at=ENDS)
        result[name] = mean_where(psnr, np.ones(psnr.shape, bool))  # on all frames, not those that return
    return result
