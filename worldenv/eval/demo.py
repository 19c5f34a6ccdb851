"""``worldenv demo``: the revisit arms on held-out mazes, as a video, a contact sheet and a report."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
from torch import Tensor

from ..base.device import default_dtype, resolve_device
from ..base.dynamics import WorldSpec
from ..base.log import Stopwatch, console
from ..engine.world import World, shared_world
from ..envs.wrappers import tile
from ..memory.config import MemoryConfig, num_slots, with_policy
from .external import NUM_CHUNKS, load_dynamics, read_manifest, read_videos, run_dynamics
from .image import Array
from .report import paired, write_report
from .revisit import PROTOCOL, controls, make_cases, mirror, run_arm, score, swap_memory, with_other_actions

ARMS = ("worldplay", "recent", "none", "random")


def run_demo(name: str, out: Path, *, num_worlds: int, first_seed: int, num_chunks: int) -> None:
    """Run the revisit suite at demo size on a world by name."""
    device = resolve_device("auto")
    world = shared_world(name, device=device, dtype=default_dtype(device))
    run_revisit(world, out, num_worlds=num_worlds, first_seed=first_seed, num_chunks=num_chunks, suite="demo")


def run_revisit(
    world: World, out: Path, *, num_worlds: int, first_seed: int, num_chunks: int = NUM_CHUNKS, suite: str = "revisit"
) -> None:
    """Run every arm on the same cases and noise; write demo.mp4, contact.png and report.json to ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    cases = make_cases(world.spec, list(range(first_seed, first_seed + num_worlds)), num_chunks)
    watch = Stopwatch()
    memory = world.config.memory
    videos = {arm: run_arm(world, cases, with_policy(memory, arm)) for arm in ARMS}
    seconds = watch.seconds()
    if num_worlds > 1:
        edit = swap_memory(memory)
        videos["swapped"] = run_arm(world, cases, with_policy(memory, "worldplay"), edit=edit, label="swapped")
        if suite == "revisit":
            own = with_policy(memory, "worldplay")
            videos["shuffled_actions"] = run_arm(world, with_other_actions(cases), own, label="shuffled_actions")
    shown = {"frozen", "simulator"} if suite == "demo" else {"frozen", "last_frame", "blur", "simulator"}
    videos |= {arm: frames for arm, frames in controls(cases, world.spec.chunk_frames) if arm in shown}
    window = 4 * num_slots(memory, world.spec.chunk_latents)
    metrics = {arm: score(frames, cases.frames, window_frames=window) for arm, frames in videos.items()}
    made = len(ARMS) * num_worlds * (cases.frames.shape[1] - 1)
    write_report(
        out / "report.json",
        suite=suite,
        protocol=PROTOCOL,
        world={"name": world.config.name, "sha256": world.sha256},
        seeds=cases.seeds,
        arms=metrics,
        differences={
            f"worldplay - {a}": paired(metrics["worldplay"], m) for a, m in metrics.items() if a != "worldplay"
        },
        timing={
            "frames_per_s": made / seconds,
            "env_steps_per_s": made / seconds / world.spec.chunk_frames,
            "num_envs": num_worlds,
            "frames_per_step": world.spec.chunk_frames,
        },
    )
    write_video(out / "demo.mp4", videos, cases.frames, fps=world.spec.fps)
    write_contact(out / "contact.png", videos, cases.frames)
    _print_table(metrics)
    console.print(f"{made / seconds:.0f} frames/s; wrote {out}/demo.mp4, contact.png, report.json")


def run_foreign(
    out: Path, *, videos: Path | None, manifest: Path | None, dynamics: str, num_worlds: int, first_seed: int,
    spec: WorldSpec,
) -> None:  # fmt: skip
    """Score clips made elsewhere, or any ``Dynamics``, on suite ``revisit``, beside the controls."""
    out.mkdir(parents=True, exist_ok=True)
    if videos is not None and manifest is None:
        raise ValueError("--videos needs --manifest, the manifest.json that worldenv bench-data wrote")
    seeds = list(range(first_seed, first_seed + num_worlds)) if manifest is None else read_manifest(manifest)
    make = None if videos is not None else load_dynamics(dynamics)
    cases = make_cases(spec, seeds, NUM_CHUNKS)
    if videos is not None:
        name, frames = videos.name, read_videos(videos, cases)
    else:
        assert make is not None
        name, frames = dynamics.rpartition(":")[2], run_dynamics(make(len(seeds), spec=spec), cases)
    arms = {name: frames, **dict(controls(cases, spec.chunk_frames))}
    window = 4 * num_slots(MemoryConfig(), spec.chunk_latents)
    metrics = {arm: score(shown, cases.frames, window_frames=window) for arm, shown in arms.items()}
    write_report(
        out / "report.json", suite="revisit", protocol=PROTOCOL, world={"name": name, "sha256": ""}, seeds=seeds,
        arms=metrics, timing={}, differences={f"{name} - frozen": paired(metrics[name], metrics["frozen"])},
    )  # fmt: skip
    _print_table(metrics)
    console.print(f"wrote {out}/report.json, report.md, trajectories.csv")


def write_video(path: Path, videos: dict[str, Tensor], truth: Tensor, *, fps: int, count: int = 6) -> None:
    """Write a grid: a column per maze; rows simulator, with memory, without."""
    rows = [tile(v[:count].numpy(), count) for v in (truth, videos["worldplay"], videos["none"])]
    grid = np.concatenate(rows, 1).repeat(2, 1).repeat(2, 2)
    iio.imwrite(path, grid, fps=fps, macro_block_size=1, quality=8)


def write_contact(path: Path, videos: dict[str, Tensor], truth: Tensor, *, count: int = 3, columns: int = 9) -> None:
    """Write a sheet: for each maze and arm the way out above the mirrored way back."""
    total = truth.shape[1]
    half = (total - 1) // 2
    outward = np.linspace(0, half - 1, columns).round().astype(int)
    back = np.array([total - 1 - i for i in outward])
    assert (mirror(total)[back - half - 1] == outward).all()
    rows = []
    for case in range(min(count, len(truth))):
        for arm in (truth, videos["worldplay"], videos["none"]):
            rows += [np.concatenate(list(arm[case, index].numpy()), 1) for index in (outward, back)]
            rows.append(np.full((2, rows[0].shape[1], 3), 255, np.uint8))
        rows.append(np.zeros((6, rows[0].shape[1], 3), np.uint8))
    iio.imwrite(path, np.concatenate(rows).repeat(2, 0).repeat(2, 1))


SHOWN = ("return_psnr_self", "return_psnr_self_far", "return_psnr_gt", "return_psnr_gt_far", "contrast_ratio_return",
         "motion_ratio")  # fmt: skip
"""Columns of the table on the console; the report has all."""


def _print_table(metrics: dict[str, dict[str, Array]]) -> None:
    from rich.table import Table

    names = [name for name in SHOWN if name in next(iter(metrics.values()))]
    table = Table("arm", *(name.replace("_", " ") for name in names), title="held-out mazes, means")
    for arm, values in metrics.items():
        table.add_row(arm, *(f"{values[name].mean():.2f}" for name in names))
    console.print(table)
