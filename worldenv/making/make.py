"""``worldenv make``: record, train, evaluate, say how to go on. What is done stays; the same command goes on."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..base.config import difference, to_dict
from ..base.files import save_text
from ..base.log import JsonlLog, Stopwatch, console
from ..bench.engine import bench_engine
from ..data.imported import ImportedSource
from ..data.record import SOURCES, make_source, record
from ..data.schema import count_clips, shard_paths
from ..eval.suites.evaluate import run_suite
from ..training.stages.registry import train
from ..world.world import convert_world
from .config import CLIP_FRAMES, STAGES, MakeConfig, recordings, stage_config

PROBE = (4, 16)
"""Steps of a stage that are timed: from the first of them on."""
LEAST_STEPS, BENCH_STEPS = 20, 20
PLAN = "make.json"
LEAST_CLIPS = 2
"""Of recordings from elsewhere that are held out: thresholds are chosen on one half and judged on the other."""


def make(env: str, config: MakeConfig, out: Path) -> None:
    """Make a world of an environment in ``out/world``.

    Raises:
        ValueError: if ``out`` holds something else, or nothing can be made of the environment; before hours are spent.
    """
    if env in SOURCES:
        raise ValueError(f"{env} is a simulator of ours: record it with worldenv record, then train stage by stage")
    _check_source(env, config)  # refuses what nothing can be made of, before a file is there
    out.mkdir(parents=True, exist_ok=True)
    plan = _Plan.load(out, env, config)
    watch, name = Stopwatch(), env.rpartition(":")[2].rpartition("/")[2].lower()
    for folder, what in recordings(config, env).items():
        record(what, out / folder, workers=config.workers)
    console.print(f"recorded after {watch.seconds() / 60:.1f} min; training takes {60 * config.hours:.0f} min")
    for number, stage in enumerate(STAGES, start=1):
        _train(stage, number, config, out, name, plan)
    if not (out / "world" / "world.toml").is_file():
        convert_world(out / "heads", out / "world", dtype="bfloat16")
    report = evaluate(out, config)
    save_text(out / "summary.json", json.dumps(report, indent=1))
    console.print(_says(env, out, report), markup=False, highlight=False)


def _check_source(env: str, config: MakeConfig) -> None:
    """Open what is to be recorded; of recordings from elsewhere there must be enough to hold out."""
    for what in recordings(config, env).values():
        source = make_source(what)
        source.close()
        if not isinstance(source, ImportedSource):
            return
        if not source.reader.parts:
            raise ValueError(f"{env} is of a camera: record it with worldenv record, then train stage by stage")
        if source.num_clips < LEAST_CLIPS:
            raise ValueError(
                f"{env}: too little to train on and to hold out; a tenth of the episodes, or the last, is held out, "
                f"and must hold {LEAST_CLIPS} clips of {CLIP_FRAMES + 1} frames or more"
            )


class _Plan:
    """What was asked, and how many steps the clock has given each stage; kept in a file, so that a run goes on."""

    def __init__(self, path: Path, asked: dict[str, Any], steps: dict[str, int]) -> None:
        self.path, self.asked, self.steps = path, asked, steps

    @classmethod
    def load(cls, out: Path, env: str, config: MakeConfig) -> _Plan:
        """Read the plan of a folder, or begin one.

        Raises:
            ValueError: if the folder is another environment's, or was asked for otherwise.
        """
        path, asked = out / PLAN, json.loads(json.dumps({"env": env, **to_dict(config)}))
        asked.pop("workers")  # changes nothing
        if not path.is_file():
            there = [name for name in (*STAGES, "world", *recordings(config, env)) if (out / name).exists()]
            if there:
                raise ValueError(f"{out} holds {', '.join(there)} of something else; use another --out")
            plan = cls(path, asked, {})
            plan.save()
            return plan
        written = json.loads(path.read_text())
        changed = difference(written["asked"], asked)
        if changed is not None:
            raise ValueError(f"{out} was begun with another {changed}; use the same, or another --out")
        return cls(path, asked, written["steps"])

    def note(self, stage: str, steps: int) -> None:
        """Keep how many steps a stage takes."""
        self.steps[stage] = steps
        self.save()

    def save(self) -> None:
        """Write it."""
        save_text(self.path, json.dumps({"asked": self.asked, "steps": self.steps}, indent=1))


def _train(stage: str, number: int, config: MakeConfig, out: Path, name: str, plan: _Plan) -> None:
    """Train a stage for its share of the hours, from where it is."""
    share, folder = STAGES[stage], out / stage
    if (folder / "world.toml").is_file():
        console.print(f"{number}/{len(STAGES)} {stage}: done before")
        return
    asked = stage_config(stage, config, out, name)
    if stage not in plan.steps:
        seconds = _seconds_per_step(stage, replace(asked, max_clips=8), out / "probe")
        plan.note(stage, max(LEAST_STEPS, int(3600 * share * config.hours / seconds)))
    steps = plan.steps[stage]
    later = sum(part for key, part in STAGES.items() if list(STAGES).index(key) > number - 1)
    ends = [
        time.strftime("%H:%M", time.localtime(time.time() + 3600 * config.hours * s)) for s in (share, share + later)
    ]
    console.print(
        f"{number}/{len(STAGES)} {stage}: {steps} steps, done at about {ends[0]}; all stages at about {ends[1]}"
    )
    train(stage, replace(asked, optim=replace(asked.optim, steps=steps)), folder, resume=True)


def _seconds_per_step(stage: str, asked: Any, folder: Path) -> float:
    """Time a few steps on a few clips, and leave nothing behind."""
    shutil.rmtree(folder, ignore_errors=True)
    first, last = PROBE
    quick = replace(asked.optim, steps=last, log_every=1, preview_every=0, save_every=last + 1)
    train(stage, replace(asked, optim=quick, heldout=None if stage != "heads" else asked.heldout), folder)
    hours = {line["step"]: line["hours"] for line in JsonlLog.read(folder / "log.jsonl") if "hours" in line}
    shutil.rmtree(folder)
    return max(1e-3, 3600 * (hours[last] - hours[first]) / (last - first))


def evaluate(out: Path, config: MakeConfig) -> dict[str, Any]:
    """Score the world on what was held out, and its speed; return the figures that matter."""
    world, held_out = str(out / "world"), out / "heldout"
    clips = sum(count_clips(path) for path in shard_paths(held_out))
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


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _says(env: str, out: Path, report: Mapping[str, Any]) -> str:
    """Say what came out and how to go on."""
    psnr = ", ".join(f"{arm} {value:.1f}" for arm, value in report["psnr"].items())
    lines = [f"{out / 'world'} is a world of {env}", f"  held-out clips continued as commanded, PSNR in dB: {psnr}"]
    for head in ("reward", "terminated"):
        f1 = [f"{arm} {m[f'{head}_f1']:.2f}" for arm, m in report["heads"].items() if f"{head}_f1" in m]
        lines.append(f"  {head}, F1: {', '.join(f1) or 'no such event was held out'}")
    speed = ", ".join(f"{value:.0f} in {count} env(s)" for count, value in report["decisions_per_s"].items())
    lines += [
        f"  decisions a second: {speed}",
        "",
        "step it:      import gymnasium as gym, worldenv",
        f'              envs = gym.make_vec("worldenv/World-v0", num_envs=16, world="{out / "world"}")',
        f'              its twin: gym.make_vec("worldenv/WorldSim-v0", world=..., sim_env="{env}")',
        f"look at it:   {out / 'eval' / 'open_loop' / 'open_loop.png'}, truth above what the world makes",
        "make it more: the same command with --frames and --hours, and another --out",
    ]
    return "\n".join(lines)
