"""Suite ``manipulation``: held-out clips of a hand's table, continued from their first frame by what was commanded.

Arm ``continued`` is given the first half as it was, and makes the second: what it gets wrong soon after was not lost
before.

A head that was trained on true frames reads every arm's pictures: where the object is, whether tasks are done, where
the hand's keypoints are. Its error on the simulator's own frames is the row ``simulator``. What the simulator made of
the same commands stands in the recording, so that nothing is simulated here. ``likeness`` adds the distances between
distributions of pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...base.log import Stopwatch, console, track
from ...base.media import save_picture
from ...models.heads import ObjectHead
from ...training.augment import round_trip
from ...world.pose_video import PoseVideo
from ...world.world import World
from ..learned import available
from ..report.document import print_arms, write_report
from ..report.pictures import sheet, write_video
from .likeness import FEATURES, measure_likeness
from .open_loop import continued
from .placing import NAMES, score
from .tables import Tables

PROTOCOL = "manipulation-v1"
NUM_CLIPS, NUM_SHOWN, COLUMNS = 32, 6, 12
"""Clips that are scored by default, clips in the pictures, and frames of each there."""
TOLD = (
    "object_error_mm_96",
    "object_visible",
    "place_agreement",
    "true_success",
    "false_success",
    "changed_psnr",
    "fid",
    "fvd",
    FEATURES,
)
"""Metrics on the console; the report has all."""


def run_manipulation(
    world: World,
    out: Path,
    *,
    recording: Path,
    num_worlds: int | None = None,
    first_seed: int | None = None,
    weights: Path | None = None,
) -> None:
    """Score ``num_worlds`` clips of a recording, the first of which is number ``first_seed``.

    ``weights`` is the folder with the weights of published metrics, see ``eval.learned``.

    Raises:
        ValueError: if the world has no head that reads objects, the recording too few clips of the hand's table, or
            the weights folder does not exist.
    """
    head = world.heads.get("object_read")
    if not isinstance(head, ObjectHead):
        raise ValueError(
            f"world {world.config.name!r} has no head that reads objects; train one: worldenv train heads --head object"
        )
    usable, skipped = available(weights)
    tables, watch = Tables.read(world, recording, num_worlds or NUM_CLIPS, first_seed or 0), Stopwatch()
    shown = make_arms(world, tables)
    arms = {
        arm: score(tables, frames, head, world) for arm, frames in track(shown.items(), "reading", total=len(shown))
    }
    like = measure_likeness(world.vae, shown, tables.seeds, usable)
    skipped |= {name: "no episode in which that can be told" for name in NAMES if name not in arms["simulator"]}
    against = [("world", arm) for arm in ("copy", "shuffled_actions", "skeleton") if arm in arms]
    report = write_report(
        out / "report.json",
        suite="manipulation",
        protocol=PROTOCOL,
        world=world.identity(),
        seeds=tables.seeds,
        arms={arm: metrics | like.metrics[arm] for arm, metrics in arms.items()},
        against=against,
        figures=like.figures,
        timing={"seconds": watch.seconds()},
        kinds=tables.tasks,
        skipped=skipped | like.skipped,
        weights={metric: one.sha256 for metric, one in usable.items()},
    )
    _show(report, out, tables, shown["world"], fps=world.spec.fps)


def _show(report: Mapping[str, Any], out: Path, tables: Tables, made: Tensor, *, fps: int) -> None:
    """Write pictures of what the world made beside the truth, and print the arms."""
    write_video(out / "manipulation.mp4", {"truth": tables.frames, "world": made}, fps=fps)
    skip = max(1, tables.frames.shape[1] // COLUMNS)
    some = slice(NUM_SHOWN)
    save_picture(out / "manipulation.png", sheet(tables.frames[some, ::skip], made[some, ::skip]))
    print_arms(report)
    for arm, metrics in report["arms"].items():
        told = "  ".join(f"{name} {metrics[name]['mean']:.2f}" for name in TOLD if name in metrics)
        console.print(f"{arm:18}{told}", highlight=False)


def make_arms(world: World, tables: Tables) -> dict[str, Tensor]:
    """Return what each arm shows, (N, T, H, W, 3) uint8."""
    frames, seeds = tables.frames, tables.seeds
    arms = {"world": continued(world, frames, tables.commands, seeds), "copy": frames[:, :1].expand_as(frames)}
    chunks = (tables.truth.shape[1] - 1) // world.spec.chunk_latents
    if chunks > 1:
        arms["continued"] = continued(world, frames, tables.commands, seeds, given=chunks // 2)
    if len(seeds) > 1:
        arms["shuffled_actions"] = continued(world, frames, tables.commands.map(lambda part: part.roll(1, 0)), seeds)
    arms["skeleton"] = _skeletons(world, tables)
    arms["vae"] = torch.stack([round_trip(world.vae, clip) for clip in frames])
    return arms | {"simulator": frames}


def _skeletons(world: World, tables: Tables) -> Tensor:
    """Draw the robot's bones where they were commanded over the first frames: what is known without a world."""
    video = PoseVideo(world.spec, world.vae)
    drawn = torch.stack([video.clip(joints) for joints in tables.commands["joints"]])
    return torch.where((drawn > 0).any(-1, keepdim=True), drawn, tables.frames[:, :1])
