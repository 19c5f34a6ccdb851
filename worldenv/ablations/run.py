"""Suite ``ablations``: worlds trained differently, on the same cases and noise, and the verdict on what was claimed.

An arm is ``NAME=DIR``; worlds of one arm trained with several seeds are ``NAME@1=DIR``, ``NAME@2=DIR``. Settings that
follow a folder (``DIR,sampler.num_steps=16``) say how it is stepped; a teacher denoises its chunks jointly. The claim
is that the first arm is better than each of the others. Or a table of ``configs/ablations`` says what is claimed, and
its arms are trained first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..base.cluster import check_address
from ..base.config import from_dict, merge, to_dict
from ..base.device import default_dtype, resolve_device
from ..base.lock import in_use
from ..base.log import console
from ..diffusion.schedule import SamplerConfig
from ..eval.report.claims import DISTRIBUTION, PRIMARY, SECONDARY, Question
from ..eval.report.pictures import draw_claims
from ..eval.suites.arms import Make, WorldArm, control_arms
from ..eval.suites.evaluate import Subject, conclude, measure
from ..eval.suites.registry import RUNS, Suite, suite_cases
from ..eval.suites.teacher import JointArm
from ..memory.config import MemoryConfig
from ..models.heads import DepthHead
from ..world.world import World, shared_world
from .table import AblationTable, Settings, read_table
from .training import default_processes, train_table


def run_ablations(
    arms: Sequence[str],
    out: Path,
    *,
    num_worlds: int | None,
    first_seed: int | None,
    suite: str = "revisit",
    primary: str = PRIMARY,
    given: int = 0,
    ray: str = "",
) -> None:
    """Run worlds as arms of a suite and judge the first arm against the others, also by early and late chunks.

    So many chunks at the beginning are ``given`` as they truly were.

    Raises:
        ValueError: if an arm is not NAME=DIR or named twice, there are fewer than two, or worlds differ in frames.
    """
    check_address(ray)
    if not 0 <= given < RUNS[suite].chunks:
        raise ValueError(f"{given} chunks given of {RUNS[suite].chunks}; leave one or more to be made")
    worlds = {arm: stepped(load_world(path), settings) for arm, (path, settings) in parse_arms(arms).items()}
    first, *others = dict.fromkeys(arm.partition("@")[0] for arm in worlds)
    claims = tuple((first, other) for other in others)
    question = Question(claims=claims, primary=primary, secondary=(PRIMARY, *SECONDARY, *DISTRIBUTION))
    wanted = replace(RUNS[suite], against=tuple(worlds)[1:], ages=True, given=given)
    score_worlds(worlds, question, wanted, out, num_worlds=num_worlds, first_seed=first_seed, ray=ray)


def run_table(
    path: Path,
    out: Path,
    *,
    runs: Path | None = None,
    seeds: Sequence[int] = (),
    processes: int | None = None,
    num_worlds: int | None = None,
    first_seed: int | None = None,
    ray: str = "",
) -> None:
    """Train what a table lacks, score its arms and judge its claims.

    Raises:
        ValueError: if the file says what is not known.
    """
    check_address(ray)
    table = read_table(path)
    table = replace(table, seeds=tuple(seeds) or table.seeds)
    console.print(f"{table.title}: {len(table.arms)} arms, seeds {', '.join(map(str, table.seeds))}")
    folders = train_table(table, runs or out.parent / "runs", processes=processes or default_processes(), ray=ray)
    changes = {name: arm.get("step", {}) for name, arm in table.arms.items()}
    worlds = {arm: stepped(load_world(path), changes[arm.partition("@")[0]]) for arm, path in folders.items()}
    score_worlds(
        worlds,
        table.question,
        suite_of(table),
        out,
        num_worlds=num_worlds or table.cases.worlds,
        first_seed=first_seed,
        title=table.title,
        ray=ray,
        depth_head=load_world(table.world).require_depth_head() if table.cases.reprojection else None,
    )


def parse_arms(arms: Sequence[str]) -> dict[str, tuple[str, Settings]]:
    """Return the folder of each arm and how it is stepped, by NAME@SEED."""
    found: dict[str, tuple[str, Settings]] = {}
    for arm in arms:
        name, sign, rest = arm.partition("=")
        folder, *settings = rest.split(",")
        if not (name and sign and folder):
            raise ValueError(f"arm {arm!r}: write NAME=DIR, or NAME@SEED=DIR for one of several training seeds")
        key = name if "@" in name else f"{name}@0"
        if key in found:
            raise ValueError(f"arm {name!r} is named twice; number its training seeds: NAME@1=DIR")
        found[key] = folder, parse_settings(settings)
    if len({key.partition("@")[0] for key in found}) < 2:
        raise ValueError("an ablation compares arms; pass two or more: --arms full=DIR without=DIR")
    return found


def parse_settings(settings: Sequence[str]) -> Settings:
    """Read ``sampler.KEY=VALUE`` and ``memory.KEY=VALUE``; values are JSON, or words as they stand.

    Raises:
        ValueError: if one sets something else.
    """
    found: Settings = {"sampler": {}, "memory": {}}
    for setting in settings:
        place, sign, value = setting.partition("=")
        part, *names = place.split(".")
        if part not in found or not sign or not names or not all(names):
            raise ValueError(f"setting {setting!r}: write sampler.KEY=VALUE or memory.KEY=VALUE, as in world.toml")
        *tables, key = names
        into = found[part]
        for table in tables:
            into = into.setdefault(table, {})
        try:
            into[key] = json.loads(value)
        except json.JSONDecodeError:
            into[key] = value
    return found


def load_world(folder: str | Path) -> World:
    """Load a world for stepping."""
    device = resolve_device("auto")
    return shared_world(folder, device=device, dtype=default_dtype(device))


def stepped(world: World, changes: Mapping[str, Any]) -> World:
    """Return the same weights under another ``sampler`` and ``memory``."""
    config = world.config
    sampler = from_dict(SamplerConfig, merge(to_dict(config.sampler), changes.get("sampler", {})), where="sampler")
    memory = from_dict(MemoryConfig, merge(to_dict(config.memory), changes.get("memory", {})), where="memory")
    other = World(
        replace(config, sampler=sampler, memory=memory),
        vae=world.vae,
        dit=world.dit,
        heads=world.heads,
        starts=world.starts,
    )
    other.sha256 = world.sha256
    return other


def suite_of(table: AblationTable) -> Suite:
    """Return the suite that a table is scored by."""
    cases = table.cases
    suite = replace(
        RUNS[cases.suite],
        chunks=cases.chunks,
        depth=cases.depth,
        pose_step=cases.pose_step,
        quick=cases.quick,
        given=cases.given,
        against=(),
        panels={},
        num_frames=None,
    )
    return replace(suite, kinds=(cases.kind,)) if cases.kind else suite


def score_worlds(
    worlds: Mapping[str, World],
    question: Question,
    suite: Suite,
    out: Path,
    *,
    num_worlds: int | None,
    first_seed: int | None,
    title: str = "ablations",
    depth_head: DepthHead | None = None,
    ray: str = "",
) -> None:
    """Step all worlds, by ARM@SEED, through the same cases; judge and write the report."""
    name, first = next(iter(worlds.items()))
    for arm, world in worlds.items():
        if world.spec != first.spec:
            raise ValueError(f"arm {arm}: its frames, camera or steps are not those of {name}")
    cases, source = suite_cases(suite, first.spec, num_worlds, first_seed)
    made: dict[str, Make] = {arm: _arm(world, suite.given) for arm, world in worlds.items()}
    made["simulator"] = control_arms(first.spec)["simulator"]
    both = {"name": title, "sha256": " ".join(map(_identity, worlds.values()))}
    subject = Subject(both, first.spec, first.config.memory)
    with in_use(out):
        report = measure(
            "ablations",
            suite,
            made,
            cases,
            out,
            subject=subject,
            source=source,
            weights=None,
            depth_head=depth_head,
            more=lambda results: {
                "worlds": _describe(worlds),
                "given_chunks": suite.given,
                "question": to_dict(question),
                "verdicts": question.judge(results, cases.seeds),
            },
            ray=ray,
        )
        draw_claims(out / "claims.png", report["verdicts"], question.primary)
        conclude(report, out)
    for claim, judged in report["verdicts"].items():
        said = judged.get(question.primary)
        found = f"no case has {question.primary}" if said is None else f"{said['verdict']} ({said['why']})"
        console.print(f"{claim}, {question.primary}: {found}")


def _arm(world: World, given: int) -> Make:
    """Return what steps a world: chunk by chunk, or a teacher's segments."""
    stages = world.config.provenance
    if stages and stages[-1].stage == "teacher":
        return JointArm(world, given=given)
    return WorldArm(world, world.config.memory, given=given)


def _identity(world: World) -> str:
    """Name a world and how it is stepped, in twelve hex digits."""
    how = f"{world.sha256} {world.config.sampler} {world.config.memory}"
    return hashlib.sha256(how.encode()).hexdigest()[:12]


def _describe(worlds: Mapping[str, World]) -> dict[str, Any]:
    return {
        arm: world.identity() | {"sampler": to_dict(world.config.sampler), "memory": to_dict(world.config.memory)}
        for arm, world in worlds.items()
    }
