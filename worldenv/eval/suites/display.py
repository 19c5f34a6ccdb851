"""Suite ``display``: is the display decoder worth more than enlarging frames, on true, decoded and generated ones?

Held-out mazes are recorded at the display's size; shrunk they are the small frames. Where small frames show the truth,
pictures are compared with it pixel by pixel; everywhere crops of pictures, at their full size, are compared with crops
of the truth as distributions. Two enlargements that know nothing of the world stand beside it: bicubic interpolation,
and Lanczos with an unsharp mask, the cheapest way to look sharp.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from ...base.log import Stopwatch, console, track
from ...base.media import save_picture
from ...dynamics.spec import FRAMES_PER_LATENT
from ...engine.engine import Engine
from ...models.codec import to_frames, to_pixels
from ...models.heads.display import SCALE, enlarged, shrunk
from ...training.augment import round_trip
from ...world.world import World
from ..image import Array, psnr
from ..motion import PoseEstimator
from ..report.document import write_report
from ..report.pictures import sheet
from ..report.statistics import draw_weights
from .arms import Progress, WorldArm
from .cases import KINDS, Cases, make_cases, protocol_of
from .figures import frechet_figures

FIRST_SEED = 964_000
"""First of the mazes, on which no display decoder is trained or chosen."""
NUM_CHUNKS = 4
PATHS = tuple(kind for kind in KINDS if kind != "another_way")  # which takes longer
STILL_CHUNKS = 2
"""Chunks for which a world is left standing, to see what flickers."""
NUM_SHOWN = 3
FEATURES = "frechet_pose_features_crops"


def sharpened(frames: Tensor) -> Tensor:
    """Enlarge frames (..., H, W, 3) by Lanczos and an unsharp mask of two pixels, (..., 4 H, 4 W, 3) uint8."""
    shown = []
    for frame in frames.flatten(0, -4).numpy():
        size = (SCALE * frame.shape[1], SCALE * frame.shape[0])
        large = Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)
        shown.append(np.asarray(large.filter(ImageFilter.UnsharpMask(radius=2, percent=150, threshold=0))))
    return torch.from_numpy(np.stack(shown)).view(*frames.shape[:-3], *shown[0].shape)


def smooth(frames: Tensor) -> Tensor:
    """Enlarge frames (..., H, W, 3) by bicubic interpolation, (..., 4 H, 4 W, 3) uint8."""
    pictures = to_frames(enlarged(to_pixels(frames.flatten(0, -4))))
    return pictures.view(*frames.shape[:-3], *pictures.shape[1:])


def run_display(world: World, out: Path, *, num_worlds: int | None, first_seed: int | None) -> None:
    """Compare the display decoder with enlarging; write report.json and two sheets.

    Raises:
        ValueError: if the world has no display decoder.
    """
    head, spec = world.require_display(), world.spec
    first, count = FIRST_SEED if first_seed is None else first_seed, num_worlds or 16
    large = replace(spec, width=SCALE * spec.width, height=SCALE * spec.height)
    kinds = [PATHS[i % len(PATHS)] for i in range(count)]
    recorded = make_cases(large, list(range(first, first + count)), kinds, NUM_CHUNKS)
    cases = replace(recorded, frames=shrunk(recorded.frames))
    inputs = {
        "truth": cases.frames,
        "vae": torch.stack([round_trip(world.vae, clip) for clip in track(cases.frames, "decoding", total=count)]),
        "generated": WorldArm(world, world.config.memory)(cases, Progress()),
    }
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "bicubic": smooth,
        "lanczos_unsharp": sharpened,
        "display": head.show,
    }
    ends = torch.arange(FRAMES_PER_LATENT, cases.frames.shape[1], FRAMES_PER_LATENT)
    truth, still, watch = recorded.frames[:, ends], standing(world, cases), Stopwatch()
    estimator, arms, features, shown = PoseEstimator.load(), {}, {}, {}
    for name, way in ways.items():
        for source, frames in inputs.items():
            pictures = torch.stack([way(clip) for clip in frames[:, ends]])
            arm = f"{name}_{source}"
            arms[arm] = measure_pictures(pictures, truth, frames[:, ends], paired=source != "generated")
            features[arm] = crop_features(estimator, pictures)
            shown[arm] = pictures[:NUM_SHOWN]
            if source == "generated":
                arms[arm]["flicker"] = np.stack([changes(way(clip)) for clip in still])
        console.print(f"{name}: {watch.seconds():.0f} s")
    every = np.ones((count, features["display_vae"].shape[1]), bool)
    weights = draw_weights([np.asarray(cases.seeds)])
    found = frechet_figures(features, crop_features(estimator, truth), every, weights)
    report = write_report(
        out / "report.json",
        suite="display",
        protocol=protocol_of(spec),
        world=world.identity(),
        seeds=cases.seeds,
        kinds=kinds,
        arms=arms,
        against=[(f"display_{source}", f"{way}_{source}") for source in inputs for way in list(ways)[:2]],
        figures={arm: {FEATURES: figure} for arm, figure in found.items()},
        timing={"frames_per_s": _speed(head.show, inputs["generated"][0])},
    )
    some = slice(1, None, 4)
    decoded = [shown[f"{way}_vae"][:, some] for way in ways]
    save_picture(out / "vae.png", sheet(truth[:NUM_SHOWN, some], *decoded, scale=1))
    made = [shown[f"{way}_generated"][:, some] for way in ("bicubic", "display")]
    save_picture(out / "generated.png", sheet(*made, scale=1))
    for arm, summary in report["arms"].items():
        console.print(f"{arm:>26}  " + "  ".join(f"{key} {value['mean']:.3f}" for key, value in summary.items()))


def standing(world: World, cases: Cases) -> Tensor:
    """Leave the world standing at each start view, (B, T, H, W, 3) uint8: what changes there is its own doing."""
    engine, count = Engine(world, len(cases)), len(cases)
    engine.resume(cases.frames[:, :1], {"c2w": cases.start_c2w[:, None]}, seeds=cases.seeds)
    keys = torch.zeros(count, world.spec.chunk_latents, 2, dtype=torch.long)
    c2w = cases.start_c2w[:, None].expand(-1, world.spec.chunk_latents, -1, -1)
    return torch.cat([engine.step({"keys": keys, "c2w": c2w}).frames for _ in range(STILL_CHUNKS)], 1)


def changes(
    pictures: Tensor,  # (T, H, W, 3) uint8
) -> Array:
    """Return the mean absolute change from one picture to the next, of 255: ()."""
    result: Array = pictures.float().diff(dim=0).abs().mean().numpy()
    return result


def measure_pictures(
    pictures: Tensor,  # (B, F, 4 H, 4 W, 3) uint8
    truth: Tensor,  # (B, F, 4 H, 4 W, 3) uint8
    frames: Tensor,  # (B, F, H, W, 3) uint8: what the pictures show
    *,
    paired: bool,
) -> dict[str, Array]:
    """Return each case's PSNR against the truth if they are of the same, its sharpness over the truth's, and the PSNR
    of shrunk pictures against the frames, each (B,).
    """
    edges, true_edges = (_edges(x) for x in (pictures, truth))
    faithful = np.asarray(psnr(shrunk(pictures), frames))
    figures = {"sharpness_ratio": edges / true_edges, "faithful_psnr": faithful}
    return {"psnr": np.asarray(psnr(pictures, truth)), **figures} if paired else figures


def _edges(pictures: Tensor) -> Array:
    """Return the mean absolute difference of neighbouring pixels, (B,)."""
    rows = [float(x.diff(dim=1).abs().mean() + x.diff(dim=2).abs().mean()) for x in (p.float() for p in pictures)]
    return np.asarray(rows)


def crop_features(
    estimator: PoseEstimator,
    pictures: Tensor,  # (B, F, 4 H, 4 W, 3) uint8
) -> Array:
    """Describe crops of the size of frames, which tile the pictures, (B, F 16, D): texture as it is seen."""
    config, count = estimator.net.config, len(pictures)
    crops = pictures.unflatten(3, (-1, config.width)).unflatten(2, (-1, config.height))  # (B, F, 4, H, 4, W, 3)
    tiles = crops.permute(0, 1, 2, 4, 3, 5, 6).flatten(0, 3)
    found: Array = estimator.features(tiles).reshape(count, -1, estimator.features(tiles[:1]).shape[1])
    return found


def _speed(show: Callable[[Tensor], Tensor], frames: Tensor) -> float:
    """Return frames a second, on as many threads as torch uses here."""
    show(frames[:8])
    watch = Stopwatch()
    show(frames)
    return len(frames) / watch.seconds()
