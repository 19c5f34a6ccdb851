"""Suite ``manipulation``: held-out clips of a hand's table, continued from their first frame by what was commanded.

A head that was trained on true frames reads every arm's pictures: where the object is, whether tasks are done, where
the hand's keypoints are. Its error on the simulator's own frames is the row ``simulator``. What the simulator made of
the same commands stands in the recording, so that nothing is simulated here. ``likeness`` adds the distances between
distributions of pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...base.log import Stopwatch, console, track
from ...base.media import save_picture
from ...bodies.registry import make_body
from ...bodies.robot import RobotBody
from ...data.dataset import clip_track
from ...data.objects import object_truth, seen_keypoints
from ...data.schema import Clip, read_shard, shard_paths
from ...dynamics.protocol import Chunk
from ...dynamics.signals import Track
from ...models.heads import ObjectHead
from ...sims.mujoco.scene import SEGMENTS
from ...tasks.base import Start
from ...tasks.registry import make_task
from ...training.augment import round_trip
from ...training.stages.object import read_objects
from ...training.weights import CHANGED
from ...world.world import World
from ..image import Array, decibels
from ..learned import available
from ..report.document import print_arms, write_report
from ..report.pictures import sheet, write_video
from .likeness import FEATURES, measure_likeness
from .open_loop import continued

PROTOCOL = "manipulation-v1"
HORIZONS = (24, 48, 96)
"""Frames after the first one that the object's error is given at."""
NUM_CLIPS, NUM_SHOWN, COLUMNS = 32, 6, 12
"""Clips that are scored by default, clips in the pictures, and frames of each there."""
NAMES = ("object_visible", "true_success", "false_success", *(f"object_error_mm_{t}" for t in HORIZONS))
"""Metrics that some recordings do not have."""
OBJECT = 1 + SEGMENTS.index("object")
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
LEAST_PIXELS, MOVED = 12, 0.03
"""Pixels of an object from which it is there to be seen, and metres from which it has moved."""
ALIKE = 50
"""Difference of a colour, of 255, up to which most of an object's pixels must agree for it to be seen."""


@dataclass(frozen=True)
class Tables:
    """Recorded episodes of one length."""

    frames: Tensor  # (N, T, H, W, 3) uint8
    commands: Track  # each (N, F, ...)
    truth: Tensor  # (N, F, 5): see ``data.objects.object_truth``
    keypoints: Tensor  # (N, F, K, 3) metres
    target: Tensor  # (N, F, 3)
    thing: Tensor  # (N, T, H, W) bool: the object's pixels
    tasks: tuple[str, ...]
    seeds: list[int]

    @classmethod
    def read(cls, world: World, recording: Path, count: int, first: int) -> Tables:
        """Read ``count`` clips from number ``first`` on.

        Raises:
            ValueError: if there are fewer, or they do not say what the hand's table records.
        """
        shards = (read_shard(path) for path in shard_paths(recording))
        clips = list(islice(chain.from_iterable(shards), first, first + count))
        if len(clips) < count:
            raise ValueError(f"{recording} has {first + len(clips)} clips, {first + count} are needed; record more")
        _check(recording, clips, world)
        chunk = world.spec.chunk_latents
        latents = 1 + (min(clip.num_latents for clip in clips) - 1) // chunk * chunk
        frames = 1 + (latents - 1) * world.spec.frames_per_latent

        def stacked(name: str, stop: int = latents) -> Tensor:
            return torch.stack([torch.from_numpy(clip.signals[name][:stop]) for clip in clips])

        tracks = [clip_track(clip, world.spec).at(slice(latents)) for clip in clips]
        return cls(
            frames=torch.stack([torch.from_numpy(clip.frames[:frames]) for clip in clips]),
            commands=Track({name: torch.stack([one[name] for one in tracks]) for name in world.spec.takes}),
            truth=torch.stack([object_truth(clip)[:latents] for clip in clips]),
            keypoints=stacked("keypoints"),
            target=stacked("target"),
            thing=stacked("segmentation", frames) == OBJECT,
            tasks=tuple(str(clip.attributes["task"]) for clip in clips),
            seeds=[int(clip.attributes["seed"]) for clip in clips],
        )


def _check(recording: Path, clips: list[Clip], world: World) -> None:
    needed = ("object", "contact", "keypoints", "target", "segmentation")
    lacking = [name for name in needed if any(name not in clip.signals for clip in clips)]
    if lacking:
        raise ValueError(f"{recording} lacks {', '.join(lacking)}; record --env hand/place, hand/lift or hand/push")
    if clips[0].frames.shape[1:3] != (world.spec.height, world.spec.width):
        raise ValueError(f"{recording}: frames {clips[0].frames.shape[1:3]} are not of the world's size")


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
    if len(seeds) > 1:
        arms["shuffled_actions"] = continued(world, frames, tables.commands.map(lambda part: part.roll(1, 0)), seeds)
    arms["skeleton"] = _skeletons(world, tables)
    arms["vae"] = torch.stack([round_trip(world.vae, clip) for clip in frames])
    return arms | {"simulator": frames}


def _skeletons(world: World, tables: Tables) -> Tensor:
    """Draw the robot's bones where they were commanded over the first frames: what is known without a world."""
    body = make_body("auto", world.spec)
    assert isinstance(body, RobotBody)
    joints, every = tables.commands["joints"], world.spec.frames_per_latent
    share = (torch.arange(every) + 1)[:, None] / every
    way = torch.cat([joints[:, :1], joints[:, :-1, None].lerp(joints[:, 1:, None], share).flatten(1, 2)], 1)
    drawn = torch.stack([body.pose_video(clip) for clip in way])
    return torch.where((drawn > 0).any(-1, keepdim=True), drawn, tables.frames[:, :1])


def score(tables: Tables, made: Tensor, head: ObjectHead, world: World) -> dict[str, Array]:
    """Return an arm's metrics, one number per episode, NaN where one has none; what no episode has is left out."""
    every = world.spec.frames_per_latent
    found, hand = read_objects(head, made, every)
    off = 1000 * (found[..., :3] - tables.truth[..., :3]).norm(dim=-1)  # (N, F) millimetres
    errors = {f"object_error_mm_{t}": _array(off[:, t // every]) for t in HORIZONS if t // every < off.shape[1]}
    seen = (hand - seen_keypoints(tables.keypoints, world.spec)).norm(dim=-1) * world.spec.width / 2
    measured = {
        **errors,
        "object_visible": _visible(tables, made, every),
        **_outcomes(tables, found, world),
        **_fidelity(tables, made),
        "keypoint_error_px": _array(seen[:, 1:].mean((1, 2))),
    }
    return {name: values for name, values in measured.items() if not np.isnan(values).all()}


def _visible(tables: Tables, made: Tensor, every: int) -> Array:
    """Return the share of latents in which an object that has moved is seen where it is."""
    ends = slice(None, None, every)
    thing, true, shown = tables.thing[:, ends], tables.frames[:, ends].short(), made[:, ends].short()
    alike = ((true - shown).abs().amax(-1) <= ALIKE) & thing
    pixels = thing.sum((2, 3))
    moved = (tables.truth[..., :3] - tables.truth[:, :1, :3]).norm(dim=-1) > MOVED
    asked = (pixels >= LEAST_PIXELS) & moved
    seen = asked & (2 * alike.sum((2, 3)) >= pixels)
    return _array(seen.sum(1) / asked.sum(1))  # NaN where nothing has moved


def _outcomes(tables: Tables, found: Tensor, world: World) -> dict[str, Array]:
    """Return whether success that is read agrees with the simulator's, where that succeeded and where it failed."""
    really, read = (succeeded(tables, what) for what in (tables.truth, found))
    nothing = np.full(len(really), np.nan)
    return {
        "place_agreement": (really == read).astype(np.float64),
        "true_success": np.where(really, read, nothing),
        "false_success": np.where(really, nothing, read),
    }


def succeeded(
    tables: Tables,
    thing: Tensor,  # (N, F, 5) as it is, or as it is read
) -> Any:
    """Return in which episodes their own task was done, (N,) bool: by its rules for worlds, latent by latent."""
    done = []
    for i, name in enumerate(tables.tasks):
        one = slice(i, i + 1)
        task, signals = make_task(f"hand_{name}"), {"object_read": thing[one], "keypoints": tables.keypoints[one]}
        present = {key: part[:, 0] for key, part in signals.items()} | {"target": tables.target[one, 0]}
        blank, ended = torch.zeros(1, 1, 1, 1, 3, dtype=torch.uint8), False
        state = task.reset(Start(blank[:, 0], present, {}))
        for k in range(1, thing.shape[1]):
            outcome = task.step(state, Chunk(blank, {key: part[:, k : k + 1] for key, part in signals.items()}))
            state, ended = outcome.state, ended or bool(outcome.success)
        done.append(ended)
    return np.array(done)


def _fidelity(tables: Tables, made: Tensor) -> dict[str, Array]:
    """Return PSNR over all pixels, over those that differ from the first frame, and over the object's."""
    true, shown = (x.double() / 255 for x in (tables.frames[:, 1:], made[:, 1:]))
    squares = (true - shown).square().mean(-1)  # (N, T, H, W)
    changed = (true - tables.frames[:, :1].double() / 255).abs().amax(-1) > CHANGED
    masks = {"psnr": torch.ones_like(changed), "changed_psnr": changed, "object_psnr": tables.thing[:, 1:]}
    return {
        name: decibels(_array((squares * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)))) for name, mask in masks.items()
    }


def _array(values: Tensor) -> Array:
    result: Array = values.double().numpy()
    return result
