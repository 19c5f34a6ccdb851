"""Run a suite from its cases to its report: on a world, on someone else's clips, or on any ``Dynamics``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ...base.cluster import check_address
from ...base.device import default_dtype, resolve_device
from ...base.lock import in_use
from ...base.log import git_revision
from ...dynamics.spec import FRAMES_PER_LATENT, WorldSpec
from ...memory.config import MemoryConfig, num_slots
from ...models.heads import DepthHead
from ...world.world import World, shared_world
from ..learned import UsableMetric, available
from ..learned import score as learned_scores
from ..motion import PoseEstimator, measure_floor
from ..report.document import print_arms, print_written, write_report
from ..report.latency import latency
from ..report.pictures import (
    Show,
    as_they_are,
    draw_curves,
    draw_means,
    draw_memory_map,
    write_contact,
    write_video,
)
from ..report.statistics import Estimate
from .action import run_action
from .arms import Make, WorldArm, control_arms, doubted, memory_arms, rendering_arms, splat_arm, vae_arm
from .cases import Cases, protocol_of
from .depth import run_depth
from .display import run_display
from .figures import arm_figures
from .geometry import run_geometry
from .heads import run_heads
from .manipulation import run_manipulation
from .open_loop import run_open_loop
from .reconstruction import run_reconstruction
from .registry import HELD_OUT, RUNS, Suite, check_asked, suite_cases
from .run import NUM_SHOWN, ArmResult, finish, num_batches, run_arms
from .score import Judge
from .walls import run_walls

POSE_METRICS = ("r_dist", "t_dist", "traj_acc_iworld", "traj_acc_signed", "action_score", "frechet_pose_features")
"""Metrics that need the pose network."""
NUM_FLOOR = 16
"""Cases that its floor is measured on."""


@dataclass(frozen=True)
class Subject:
    """Whose frames are scored."""

    world: Mapping[str, str]
    """What reports say of it: ``name``, ``sha256``, ..."""
    spec: WorldSpec
    memory: MemoryConfig
    enlarge: Show = as_they_are
    """How pictures of frames are drawn, of all arms alike; what is measured are frames."""


def run_suite(
    name: str,
    world: str,
    out: Path,
    *,
    num_worlds: int | None = None,
    first_seed: int | None = None,
    num_chunks: int | None = None,
    weights: Path | None = None,
    recording: Path | None = None,
    ray: str = "",
) -> None:
    """Run a suite on a world by name and write its report, page, table and pictures."""
    if name not in SUITES:
        raise ValueError(f"unknown suite {name!r}; choose one of {', '.join(SUITES)}")
    check_asked(num_worlds, first_seed)
    other = OTHERS.get(name)
    recorded = other is not None and other.recorded
    if recording is not None and not recorded:
        raise ValueError(
            f"--recording is for suites open_loop, heads and manipulation; suite {name} has cases of its own"
        )
    if recorded and recording is None:
        raise ValueError(f"suite {name} looks at recorded clips; pass --recording DIR, from worldenv record")
    device = resolve_device("auto")
    loaded = shared_world(world, device=device, dtype=default_dtype(device))
    if not recorded:
        loaded.spec.require_camera(f"suite {name!r} (open_loop does not)")
    if weights is not None and other is not None and not other.weighed:
        raise ValueError(
            f"--weights is for suites that step worlds along cases, and manipulation; suite {name} computes no metric "
            "that needs them"
        )
    if ray and other is not None:
        raise ValueError(
            f"--ray is for suites that step worlds along cases ({', '.join(RUNS)}); leave it out for {name}"
        )
    check_address(ray)
    with in_use(out):
        cases = {"num_worlds": num_worlds, "first_seed": first_seed}
        if other is None:
            run_world(name, loaded, out, **cases, num_chunks=num_chunks, weights=weights, ray=ray)
        else:
            given = {"recording": recording} if recorded else {}
            other.run(loaded, out, **cases, **given, **({"weights": weights} if other.weighed else {}))


def run_world(
    name: str,
    world: World,
    out: Path,
    *,
    num_worlds: int | None = None,
    first_seed: int | None = None,
    num_chunks: int | None = None,
    weights: Path | None = None,
    ray: str = "",
) -> None:
    """Run every arm of a suite on the same cases and noise."""
    suite = RUNS[name] if num_chunks is None else replace(RUNS[name], chunks=num_chunks)
    cases, source = suite_cases(suite, world.spec, num_worlds, first_seed)
    arms = memory_arms(world, suite.policies)
    if len(cases) > 1:  # they take from the next case
        arms |= {arm: make for arm, make in doubted(world).items() if arm in suite.doubts}
    if suite.continued and suite.chunks > 1:
        arms["continued"] = WorldArm(world, world.config.memory, given=suite.chunks // 2)
    controls = control_arms(world.spec)
    if world.renders(replace(world.config.memory, render=None)):
        arms |= rendering_arms(world) if suite.rendering else {}
        controls |= {"splat_only": splat_arm(world)}
    controls |= {"vae": vae_arm(world), "simulator": controls.pop("simulator")}
    arms |= {arm: make for arm, make in controls.items() if arm in suite.controls}
    subject = Subject(world.identity(), world.spec, world.config.memory, world.enlarge)
    report = measure(name, suite, arms, cases, out, subject=subject, source=source, weights=weights, ray=ray)
    if name in ("revisit", "demo"):
        draw_memory_map(out / "memory_map.png", world, cases)
    conclude(report, out)


def run_foreign(
    name: str, label: str, make: Make, cases: Cases, out: Path, *, spec: WorldSpec, weights: Path | None
) -> None:
    """Score clips or dynamics from elsewhere beside the controls."""
    suite = RUNS[name]
    arms = {label: make, **control_arms(spec)}
    subject = Subject({"name": label, "sha256": ""}, spec, MemoryConfig())
    conclude(measure(name, suite, arms, cases, out, subject=subject, source="given", weights=weights), out)


def measure(
    name: str,
    suite: Suite,
    arms: dict[str, Make],
    cases: Cases,
    out: Path,
    *,
    subject: Subject,
    source: str,
    weights: Path | None,
    depth_head: DepthHead | None = None,
    more: Callable[[dict[str, ArmResult]], dict[str, Any]] = lambda results: {},
    ray: str = "",
) -> dict[str, Any]:
    """Run and score the arms, write the report (with what ``more`` makes of the results) and the pictures."""
    spec, world = subject.spec, dict(subject.world)
    judge = Judge(
        spec,
        FRAMES_PER_LATENT * num_slots(subject.memory, spec.chunk_latents),
        suite.num_frames,
        suite.ssim_step,
        suite.ages,
        pose_step=suite.pose_step,
        depth_head=depth_head,
    )
    usable, skipped = available(weights)
    try:
        judge = replace(judge, estimator=PoseEstimator.load(spec=spec, quick=suite.quick))
    except ValueError as error:  # frames of another size or camera
        skipped |= dict.fromkeys(POSE_METRICS, str(error))
    results = run_arms(
        arms,
        cases,
        judge,
        out,
        num_chunks=suite.chunks,
        keep=len(cases) if usable else NUM_SHOWN,
        key=f"{name} {protocol_of(spec)} {suite} {world} {source} {git_revision()}",
        ray=ray,
    )
    cut = cases.cut(suite.num_frames)
    for arm, figures in arm_figures(results, cut, ages=suite.ages).items():
        results[arm].figures = figures | _learned(usable, results[arm], cut, skipped)
    report = write_report(
        out / "report.json",
        suite=name,
        protocol=protocol_of(spec),
        world=world,
        seeds=cases.seeds,
        kinds=cases.kinds,
        arms={arm: result.metrics for arm, result in results.items()},
        against=_pairs(suite, list(arms)),
        figures={arm: result.figures for arm, result in results.items()},
        timing=_timing(results, cases, spec),
        skipped=skipped,
        cases=source,
        floor=_floor(judge, cut),
        weights={metric: one.sha256 for metric, one in usable.items()},
        **more(results),
    )
    _draw(name, suite, results, cases, out, fps=spec.fps, enlarge=subject.enlarge)
    return report


def conclude(report: Mapping[str, Any], out: Path) -> None:
    """Clear away what an interrupted run would have gone on from, and say what there is to look at."""
    finish(out)
    print_arms(report)
    print_written(out)


def _floor(judge: Judge, cases: Cases) -> dict[str, Any]:
    """Return what the estimator makes of true frames: medians and 95th percentiles, over some cases."""
    if judge.estimator is None or not judge.pose_step or len(cases) < 2:
        return {}
    some = cases.rows(slice(0, NUM_FLOOR))
    path = torch.cat([some.start_c2w[:, None], some.c2w], 1)
    return {"pose": measure_floor(judge.estimator, some.frames, path, spec=judge.spec)}


def _learned(
    usable: dict[str, UsableMetric], result: ArmResult, cases: Cases, skipped: dict[str, str]
) -> dict[str, Estimate]:
    """Add the metrics that need weights to an arm; return those of the arm as a whole, which have no interval."""
    if not usable:
        return {}
    assert result.shown is not None
    each, whole, failed = learned_scores(usable, result.shown[:, : cases.frames.shape[1]], cases.frames)
    result.metrics |= each
    skipped |= failed
    return {name: Estimate(value) for name, value in whole.items()}


def _pairs(suite: Suite, arms: list[str]) -> list[tuple[str, str]]:
    """Name the arms that are compared: the first with what takes something from it, all with the baseline."""
    leaders = dict.fromkeys((arms[0], *(arm for arm in arms[:2] if arm == "worldplay")))
    pairs = [(arm, other) for arm in leaders for other in suite.against if other in arms and other != arm]
    return pairs + [(arm, suite.baseline) for arm in arms if suite.baseline in arms and arm != suite.baseline]


def _timing(results: dict[str, ArmResult], cases: Cases, spec: WorldSpec) -> dict[str, float]:
    """Return throughput and latency of the arms that a world made, decoding included."""
    seconds = [s for result in results.values() for s in result.seconds]
    if not seconds:
        return {}
    steps = len(seconds) // num_batches(len(cases)) * len(cases)  # every chunk of an arm is timed in every batch
    frames = steps * spec.chunk_frames
    return {
        "frames_per_s": frames / sum(seconds),
        "env_steps_per_s": steps / sum(seconds),
        "num_envs": round(steps / len(seconds)),
        "frames_per_step": spec.chunk_frames,
        "pixel_throughput": frames * spec.width * spec.height / 1e6 / sum(seconds),
        **latency(seconds),
    }


def _draw(
    name: str, suite: Suite, results: dict[str, ArmResult], cases: Cases, out: Path, *, fps: int, enlarge: Show
) -> None:
    first = next(iter(results))
    wanted = [arm for arm in ("simulator", "continued", first, "none") if arm in results]
    rows = {arm: shown for arm in wanted if (shown := results[arm].shown) is not None}
    write_video(out / f"{name}.mp4", rows, fps=fps, enlarge=enlarge)
    if (cases.first >= 0).any():
        write_contact(out / "contact.png", rows, cases.rows(slice(0, len(rows[first]))), enlarge=enlarge)
    draw_curves(out / "over_time.png", {arm: result.curves for arm, result in results.items()})
    if suite.panels:
        draw_means(out / "means.png", {arm: result.metrics for arm, result in results.items()}, suite.panels)


def _geometry(world: World, out: Path, *, num_worlds: int | None, first_seed: int | None) -> None:
    """Check the simulator that the world was learned from."""
    run_geometry(
        out, spec=world.spec, num_worlds=num_worlds or 64, first_seed=HELD_OUT if first_seed is None else first_seed
    )


@dataclass(frozen=True)
class Other:
    """A suite with a way of its own."""

    run: Callable[..., None]
    """Called with the world, the folder, ``num_worlds`` and ``first_seed``."""
    recorded: bool = False
    """Whether its cases are clips of a ``recording``, of any world, and not paths through mazes."""
    weighed: bool = False
    """Whether it computes published metrics on the user's ``weights``."""


OTHERS = {
    "action": Other(run_action),
    "reconstruction": Other(run_reconstruction),
    "geometry": Other(_geometry),
    "depth": Other(run_depth),
    "display": Other(run_display),
    "walls": Other(run_walls),
    "open_loop": Other(run_open_loop, recorded=True),
    "heads": Other(run_heads, recorded=True),
    "manipulation": Other(run_manipulation, recorded=True, weighed=True),
}
SUITES = (*RUNS, *OTHERS)
