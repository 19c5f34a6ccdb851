"""Suites: what ``worldenv eval SUITE`` runs on a world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..base.log import Stopwatch, console
from ..engine.engine import default_dtype, resolve_device
from ..engine.world import World, shared_world
from .action import obedience, turn_shifts
from .demo import run_revisit
from .report import write_report


def run_action(world: World, out: Path, *, num_worlds: int, first_seed: int) -> None:
    """Turn left and right from ``num_worlds`` held-out start views, from ``first_seed`` on."""
    starts = world.require_starts()
    if first_seed + num_worlds > len(starts):
        raise ValueError(
            f"start views {first_seed}..{first_seed + num_worlds - 1} asked for, the world has {len(starts)}"
        )
    watch = Stopwatch()
    right, left = turn_shifts(world, list(range(first_seed, first_seed + num_worlds)))
    obeyed = obedience(right, left)
    arms = {world.config.memory.policy: {"obeyed": obeyed, "shift_right": right, "shift_left": left}}
    write_report(
        out / "report.json", suite="action", protocol="action-v1",
        world={"name": world.config.name, "sha256": world.sha256}, seeds=starts.map_seeds[:num_worlds].tolist(),
        arms=arms, timing={"seconds": watch.seconds()},
    )  # fmt: skip
    console.print(f"turns obeyed in {100 * obeyed.mean():.1f} % of {len(obeyed)} states; wrote {out / 'report.json'}")


SUITES: dict[str, Callable[..., None]] = {"revisit": run_revisit, "action": run_action}


def run_suite(suite: str, name: str, out: Path, *, num_worlds: int, first_seed: int) -> None:
    """Run a suite on a world and write its report."""
    if suite not in SUITES:
        raise ValueError(f"unknown suite {suite!r}; choose one of {', '.join(SUITES)}")
    device = resolve_device("auto")
    world = shared_world(name, device=device, dtype=default_dtype(device))
    out.mkdir(parents=True, exist_ok=True)
    SUITES[suite](world, out, num_worlds=num_worlds, first_seed=first_seed)
