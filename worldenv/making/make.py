"""``worldenv make``: record, train, evaluate, say how to go on. What is done stays; the same command goes on."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..base.files import check_folder, save_text
from ..base.lock import in_use
from ..base.log import JsonlLog, Stopwatch, console
from ..bench.engine import bench_engine
from ..data.events import read_episodes
from ..data.imported import ImportedSource
from ..data.record import SOURCES, make_source, record
from ..data.schema import count_clips, shard_paths
from ..data.sources.gym import LEAST_FRAMES
from ..data.sources.imports import is_import
from ..eval.suites.evaluate import run_suite
from ..eval.suites.heads import measure_doubt
from ..training.decoded import Decoded
from ..training.stages.config import TrainConfig
from ..training.stages.registry import train
from ..world.world import World, convert_world
from .agent import train_agent
from .config import CLIP_FRAMES, DISTIL, DISTILLING, STAGES, MakeConfig, named, recordings, stage_config, world_name
from .distil import better_of
from .plan import Plan

PROBE = (4, 16)
"""Steps of a stage that are timed: from the first of them on."""
PROBE_CLIPS = 8
"""Clips that they are of."""
LEAST_STEPS, BENCH_STEPS = 20, 20
LEAST_CLIPS = 2
"""Of recordings from elsewhere that are held out: thresholds are chosen on one half and judged on the other."""


def make(env: str, config: MakeConfig, out: Path) -> None:
    """Make a world of an environment in ``out/world``.

    Raises:
        ValueError: if ``out`` holds something else, or nothing can be made of the environment; before hours are spent.
    """
    if env in SOURCES:
        raise ValueError(f"{env} is a simulator of ours: record it with worldenv record, then train stage by stage")
    if is_import(env) and config.rounds > 1:
        raise ValueError(f"rounds={config.rounds}: nobody can act in {env}; leave --rounds out")
    check_folder(out)
    num_clips = _check_source(env, config)  # refuses what nothing can be made of, before a file is there
    with in_use(out):
        plan = Plan.load(out, env, config)
        for number in range(1, config.rounds + 1):
            _round(env, number, config, out, plan)
        report = evaluate(out)
        save_text(out / "summary.json", json.dumps(report, indent=1))
        told = _beside(env, out) if num_clips is None else _more(num_clips, config)
        console.print("\n".join([*_says(env, out, report), *told]), markup=False, highlight=False)


def _check_source(env: str, config: MakeConfig) -> int | None:
    """Open what is to be recorded; return how many clips there are to train on in recordings from elsewhere, of which
    there must be enough to hold out.
    """
    there, least = {}, -(-(LEAST_FRAMES - 1) // config.frames_per_latent)
    for folder, what in recordings(config, env).items():
        source = make_source(replace(what, num_latents=least) if is_import(env) else what)
        source.close()
        if not isinstance(source, ImportedSource):
            return None
        if not source.reader.parts:
            raise ValueError(f"{env} is of a camera: record it with worldenv record, then train stage by stage")
        frames = source.num_clips * least * config.frames_per_latent
        there[folder] = frames // CLIP_FRAMES
        if there[folder] < LEAST_CLIPS:
            raise ValueError(
                f"{env}: {frames} frames to {'train on' if folder == 'train' else 'hold out'}, at least "
                f"{LEAST_CLIPS * CLIP_FRAMES} are needed; every tenth episode, or the last, is held out: give it more, "
                "or longer ones"
            )
    return there["train"]


def _round(env: str, number: int, config: MakeConfig, out: Path, plan: Plan) -> None:
    """Record, and train on all that was recorded; in later rounds an agent that learned in the world so far acts."""
    world, policy = out / ("world" if number == config.rounds else f"world-{number}"), None
    if (world / "world.toml").is_file():
        return
    watch, name = Stopwatch(), world_name(env)
    if number > 1:
        policy = f"ppo:{train_agent(out / f'world-{number - 1}', out / named('agent', number), config, plan)}"
    for folder, what in recordings(config, env, number=number, policy=policy).items():
        record(what, out / folder, workers=config.workers)
    console.print(f"recorded after {watch.seconds() / 60:.1f} min; training takes {60 * config.hours:.0f} min in all")
    for stage in list(STAGES) if number == 1 else ("causal", "heads"):
        _train(stage, number, config, out, name, plan)
    heads, clips = out / named("heads", number), _held_out(out)
    if number == config.rounds and config.few_steps:
        _train(DISTIL, number, config, out, name, plan)
        heads = better_of(heads, out / named(DISTIL, number), out, clips=clips)
    doubt = measure_doubt(World.from_pretrained(heads, dtype="auto"), out / "heldout", num_clips=clips)
    convert_world(heads, world, dtype="bfloat16", doubt=doubt)


def _train(stage: str, number: int, config: MakeConfig, out: Path, name: str, plan: Plan) -> None:
    """Train a stage of a round for its share of the hours, from where it is."""
    called, hours = named(stage, number), config.hours / config.rounds
    if _is_done(out / called, plan.steps.get(called, 0)):
        console.print(f"{called}: done before")
        return
    asked, shares = stage_config(stage, config, out, name, number=number), _shares(config)
    if called not in plan.steps:
        plan.note(called, _steps(stage, asked, 3600 * shares[stage] * hours, out / "probe"))
    steps, order = plan.steps[called], list(shares)
    later = sum(shares[key] for key in order[order.index(stage) :]) + config.rounds - number
    ends = [time.strftime("%H:%M", time.localtime(time.time() + 3600 * hours * s)) for s in (shares[stage], later)]
    console.print(f"{called}: {steps} steps, done at about {ends[0]}; all training at about {ends[1]}")
    train(stage, replace(asked, optim=replace(asked.optim, steps=steps)), out / called, resume=True)


def _is_done(folder: Path, steps: int) -> bool:
    """Tell whether a stage has written its world, after so many steps."""
    taken = [line["step"] for line in JsonlLog.read(folder / "log.jsonl") if "step" in line]
    return (folder / "world.toml").is_file() and max(taken, default=0) >= steps


def _shares(config: MakeConfig) -> dict[str, float]:
    """Return what share of a round's hours each stage takes that is to come."""
    return STAGES | ({DISTIL: DISTILLING} if config.few_steps else {})


def _steps(stage: str, asked: TrainConfig, seconds: float, probe: Path) -> int:
    """Return how many steps a stage takes in so many seconds; the probe's are timed on a few clips."""
    quick = replace(asked, max_clips=PROBE_CLIPS)
    if stage == "heads":  # whatever is drawn first is decoded once: that takes its time, but not in every step
        quick = replace(quick, events=replace(quick.events, decoded=0.0))
        seconds -= min(seconds / 2, _decoding(asked))
    return max(LEAST_STEPS, int(seconds / _seconds_per_step(stage, quick, probe)))


def _decoding(asked: TrainConfig) -> float:
    """Return how many seconds the VAE takes for all that heads learn from, by the time that it takes for a clip."""
    assert asked.init is not None
    world = World.from_pretrained(asked.init, device="auto", dtype="float32")
    few, watch = read_episodes(asked.data, world.spec, max_clips=1), Stopwatch()
    Decoded(world.vae, few).all()
    return watch.seconds() * sum(count_clips(path) for path in shard_paths(asked.data))


def _seconds_per_step(stage: str, asked: TrainConfig, folder: Path) -> float:
    """Time a few steps, and leave nothing behind."""
    shutil.rmtree(folder, ignore_errors=True)
    first, last = PROBE
    quick = replace(asked.optim, steps=last, log_every=1, preview_every=0, save_every=last + 1)
    train(stage, replace(asked, optim=quick, heldout=None if stage != "heads" else asked.heldout), folder)
    hours = {line["step"]: line["hours"] for line in JsonlLog.read(folder / "log.jsonl") if "hours" in line}
    shutil.rmtree(folder)
    return max(1e-3, 3600 * (hours[last] - hours[first]) / (last - first))


def evaluate(out: Path) -> dict[str, Any]:
    """Score the world on what was held out, and its speed; return the figures that matter."""
    world, held_out = str(out / "world"), out / "heldout"
    clips = _held_out(out)
    run_suite("open_loop", world, out / "eval" / "open_loop", num_worlds=clips, recording=held_out)
    run_suite("heads", world, out / "eval" / "heads", num_worlds=clips, recording=held_out)
    bench_engine(world, out / "eval" / "engine.json", sizes=(1, 16), num_steps=BENCH_STEPS)
    found = {name: _read(out / "eval" / name / "report.json") for name in ("open_loop", "heads")}
    speed = _read(out / "eval" / "engine.json")["timing"]
    return {
        "psnr": {arm: metrics["psnr"]["mean"] for arm, metrics in found["open_loop"]["arms"].items()},
        "heads": {
            arm: {key: value["mean"] for key, value in metrics.items()}
            for arm, metrics in found["heads"]["arms"].items()
        },
        "decisions_per_s": {str(row["num_envs"]): row["env_steps_per_s"] for row in speed},
    }


def _held_out(out: Path) -> int:
    """Return how many clips are held out."""
    return sum(count_clips(path) for path in shard_paths(out / "heldout"))


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _says(env: str, out: Path, report: Mapping[str, Any]) -> list[str]:
    """Say what came out and how to look at it."""
    psnr = ", ".join(f"{arm} {value:.1f}" for arm, value in report["psnr"].items())
    lines = [f"{out / 'world'} is a world of {env}", f"  held-out clips continued as commanded, PSNR in dB: {psnr}"]
    for head in ("reward", "terminated"):
        f1 = [f"{arm} {m[f'{head}_f1']:.2f}" for arm, m in report["heads"].items() if f"{head}_f1" in m]
        lines.append(f"  {head}, F1: {', '.join(f1) or 'no such event was held out'}")
    speed = ", ".join(f"{value:.0f} in {count} env(s)" for count, value in report["decisions_per_s"].items())
    return [
        *lines,
        f"  decisions a second: {speed}",
        "",
        f"look at it:   {out / 'eval' / 'open_loop' / 'open_loop.png'}, truth above what the world makes",
        "step it:      import gymnasium as gym, worldenv",
        f'              envs = gym.make_vec("worldenv/World-v0", num_envs=16, world="{out / "world"}")',
    ]


def _beside(env: str, out: Path) -> list[str]:
    """Say how to compare a world with its environment, and how to get a better one."""
    return [
        f'              its twin: gym.make_vec("worldenv/WorldSim-v0", world=..., sim_env="{env}")',
        f"is it good to train in? worldenv-agents gain --world {out / 'world'} --sim-env {env} --out {out / 'gain'}",
        "make it more: the same command with longer --hours trains on; with more --frames it needs another --out",
    ]


def _more(num_clips: int, config: MakeConfig) -> list[str]:
    """Say how to get a better world of recordings from elsewhere, of so many clips: there is no environment to ask."""
    left = num_clips - config.num_clips
    rest = f"--frames {CLIP_FRAMES * num_clips}, which is all of it," if left > 0 else "more episodes in the recording"
    return [f"make it more: the same command with longer --hours trains on; with {rest} it needs another --out"]
