"""How well a camera track follows another: published definitions, in float64, for arrays or tensors.

Tracks are camera to world, (..., T, 4, 4). Leading batch axes are returned, a float for one track.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from .image import Array, as_array, frame_psnr, mean_over_frames

STILL = 1e-9
"""Motion below this counts as none."""


def r_dist(c2w: Any, c2w_ref: Any) -> Any:
    """Return the mean rotation error in radians, both tracks relative to their first frame (WorldPlay section 4).

    The angle of R R_ref^T, mean over all T frames.
    """
    a, b = (_relative(t) for t in _pair(c2w, c2w_ref))
    return mean_over_frames(_angle(a[..., :3, :3] @ np.swapaxes(b[..., :3, :3], -1, -2)))


def t_dist(c2w: Any, c2w_ref: Any) -> Any:
    """Return the mean translation error over the reference's largest distance from its start (WorldPlay section 4).

    Raises:
        ValueError: if the reference does not move; a turn on the spot has no T_dist.
    """
    a, b = (_relative(t)[..., :3, 3] for t in _pair(c2w, c2w_ref))
    return mean_over_frames(np.linalg.norm(a - b, axis=-1) / _extent(b)[..., None])


def t_dist_scaled(c2w: Any, c2w_ref: Any) -> Any:
    """Return ``t_dist`` after the one scale that fits the track's translations to the reference best."""
    a, b = (_relative(t)[..., :3, 3] for t in _pair(c2w, c2w_ref))
    scale = (a * b).sum((-2, -1)) / np.maximum((a * a).sum((-2, -1)), STILL)
    return mean_over_frames(np.linalg.norm(scale[..., None, None] * a - b, axis=-1) / _extent(b)[..., None])


def rpe(c2w: Any, c2w_ref: Any) -> tuple[Any, Any]:
    """Return relative pose errors between neighbouring frames: mean translation (units of the tracks), mean radians.

    E = (Q_i^-1 Q_i+1)^-1 (P_i^-1 P_i+1) (MIND).
    """
    a, b = (_steps(t) for t in _pair(c2w, c2w_ref))
    error = np.linalg.inv(b) @ a
    return mean_over_frames(np.linalg.norm(error[..., :3, 3], axis=-1)), mean_over_frames(_angle(error[..., :3, :3]))


def traj_acc(c2w: Any, c2w_ref: Any, *, variant: Literal["iworld", "signed"] = "iworld") -> Any:
    """Return the trajectory accuracy of iWorld-Bench, 1 is perfect.

    Per frame the cosine between the two motions' translations, and between their rotations (as Euler angles), the
    mean of those that the reference has. ``iworld`` takes their absolute values, as published: moving backwards scores
    1, chance 0.5. ``signed`` maps -1..1 to 0..1 instead.

    Raises:
        ValueError: if the reference never moves.
    """
    if variant not in ("iworld", "signed"):
        raise ValueError(f"variant={variant!r}; choose 'iworld' or 'signed'")
    a, b = (_steps(t) for t in _pair(c2w, c2w_ref))
    scores = []
    for x, y in ((a[..., :3, 3], b[..., :3, 3]), (_euler(a[..., :3, :3]), _euler(b[..., :3, :3]))):
        moving = np.linalg.norm(y, axis=-1) > STILL
        norms = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
        cosine = np.where(norms > STILL**2, (x * y).sum(-1) / np.maximum(norms, STILL**2), 0.0)
        score = np.abs(cosine) if variant == "iworld" else (1 + cosine) / 2
        scores.append(np.where(moving, score, np.nan))
    both = np.stack(scores)
    there = ~np.isnan(both)
    if not there.any((0, -1)).all():
        raise ValueError("the reference track never moves; there is no accuracy to speak of")
    per_frame = np.where(there, both, 0).sum(0) / np.maximum(there.sum(0), 1)
    counted = there.any(0)
    result = (per_frame * counted).sum(-1) / counted.sum(-1)
    return float(result) if np.ndim(result) == 0 else result


def nmr(
    frames: Any,  # (T, H, W, 3)
    c2w: Any,  # (T, 4, 4)
    *,
    max_distance: float = 0.25,
    max_angle_deg: float = 10.0,
    short: int = 4,
) -> float:
    """Return the normalised memory ratio of R2M-Bench with s = PSNR: is a revisit more alike than chance?

    (s_revisit - s_base) / (s_short - s_base): pairs at least max(T / 5, 10) frames apart with the same viewpoint; pairs
    of the same gaps with other viewpoints; pairs ``short`` frames apart. 1 is as alike as neighbours, 0 as strangers.

    Raises:
        ValueError: if no pair of frames is a revisit, or none of the same gap is not.
    """
    track = _track(c2w)
    count = len(track)
    first, second = np.triu_indices(count, k=int(max(0.2 * count, 10)))
    apart = np.linalg.norm(track[first, :3, 3] - track[second, :3, 3], axis=-1)
    turned = _angle(track[first, :3, :3] @ np.swapaxes(track[second, :3, :3], -1, -2))
    same = (apart <= max_distance) & (turned <= np.radians(max_angle_deg))
    gaps = second - first
    base = ~same & np.isin(gaps, gaps[same])
    if not same.any() or not base.any():
        raise ValueError(f"{int(same.sum())} pairs are revisits and {int(base.sum())} of their gaps are not; need both")
    array = as_array(frames)

    def likeness(a: Any, b: Any) -> float:
        return float(frame_psnr(array[a], array[b]).mean())

    revisit, other = likeness(first[same], second[same]), likeness(first[base], second[base])
    near = likeness(np.arange(count - short), np.arange(short, count))
    return (revisit - other) / (near - other + 1e-9)


def _pair(a: Any, b: Any) -> tuple[Array, Array]:
    x, y = _track(a), _track(b)
    if x.shape != y.shape:
        raise ValueError(f"tracks have shapes {x.shape} and {y.shape}; cut them to the same frames")
    return x, y


def _track(c2w: Any) -> Array:
    array = as_array(c2w)
    if array.ndim < 3 or array.shape[-2:] != (4, 4):
        raise ValueError(f"a track has shape (..., T, 4, 4), got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("a track holds NaN or infinite numbers")
    return array.astype(np.float64)


def _relative(track: Array) -> Array:
    result: Array = np.linalg.inv(track[..., :1, :, :]) @ track
    return result


def _steps(track: Array) -> Array:
    if track.shape[-3] < 2:
        raise ValueError("one pose is no motion; pass at least 2")
    result: Array = np.linalg.inv(track[..., :-1, :, :]) @ track[..., 1:, :, :]
    return result


def _angle(rotation: Array) -> Array:
    """Return the angle of rotations in radians, exact near 0 and pi."""
    sine = np.linalg.norm(
        np.stack(
            [
                rotation[..., 2, 1] - rotation[..., 1, 2],
                rotation[..., 0, 2] - rotation[..., 2, 0],
                rotation[..., 1, 0] - rotation[..., 0, 1],
            ],
            -1,
        ),
        axis=-1,
    )
    trace = rotation[..., 0, 0] + rotation[..., 1, 1] + rotation[..., 2, 2]
    result: Array = np.arctan2(sine, trace - 1)
    return result


def _euler(rotation: Array) -> Array:
    """Return x, y, z angles of rotations R = Rz Ry Rx, radians."""
    x = np.arctan2(rotation[..., 2, 1], rotation[..., 2, 2])
    y = np.arcsin(np.clip(-rotation[..., 2, 0], -1, 1))
    z = np.arctan2(rotation[..., 1, 0], rotation[..., 0, 0])
    result: Array = np.stack([x, y, z], -1)
    return result


def _extent(translations: Array) -> Array:
    extent: Array = np.linalg.norm(translations, axis=-1).max(-1)
    if (extent < STILL).any():
        raise ValueError("the reference does not move, so T_dist has no unit; leave it out for turns on the spot")
    return extent
