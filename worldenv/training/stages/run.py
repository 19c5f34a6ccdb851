"""One run of one stage: its part of the batch, the trainer, and the account of what was done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ...base.config import to_dict
from ...base.log import console, git_revision, hardware
from ...world.config import Provenance
from ...world.files import world_sha256
from ..encode import recording_digest, recording_name
from ..loop.optim import OptimConfig
from ..loop.parallel import process_state
from ..loop.protocols import Stage
from ..loop.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every stage reads."""

    data: Path = Path("data/train")
    """Recording to train on (from ``worldenv record``)."""
    heldout: Path | None = None
    """Recording of other maps, for the previews."""
    init: Path | None = None
    """World to start from: the output of the stage before."""
    max_clips: int | None = None
    """Use only this many clips."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimizer and loop."""


ConfigT = TypeVar("ConfigT", bound=RunConfig)


def run_stage(
    stage: str,
    config: ConfigT,
    make: Callable[[ConfigT], Stage],
    out: Path,
    *,
    resume: bool,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
) -> tuple[Stage, Provenance]:
    """Train what ``make`` builds for this process's share of the batch; return it with the account of it.

    With ``evaluate`` what was best by its ``score`` is kept instead of the last.
    """
    processes = process_state()
    accumulate, count = config.optim.accumulate, processes.num_processes
    if accumulate < 1:
        raise ValueError(f"optim.accumulate={accumulate}; pass 1 or more")
    share, rest = divmod(config.optim.batch, count * accumulate)
    if rest:
        each = f", {accumulate} parts each" if accumulate > 1 else ""
        raise ValueError(f"optim.batch={config.optim.batch} does not divide among {count} processes{each}")
    console.quiet = not processes.is_main_process
    task = make(replace(config, optim=replace(config.optim, batch=share)))
    task.module.requires_grad_(True).train()
    settings = to_dict(config) | _contents(config)
    for changeable in ("steps", "accumulate", "recompute"):  # how far, on how many processes, in how much memory
        settings["optim"].pop(changeable)
    trainer = Trainer(
        task,
        config.optim,
        out,
        resume=resume,
        run={"stage": stage, "config": settings},
        evaluate=evaluate,
    )
    console.print(f"{stage}: {sum(p.numel() for p in task.module.parameters()) / 1e6:.2f} M parameters")
    trainer.train()
    done = Provenance(
        stage=stage,
        steps=trainer.kept_step,
        data=recording_name(config.data),
        hardware=hardware(),
        hours=round(trainer.hours, 3),
        git=git_revision(),
        seed=config.optim.seed,
        blend=config.optim.blend,
    )
    return task, done


def _contents(config: RunConfig) -> dict[str, str]:
    """Name what a run reads by what it holds: it goes on wherever its files are taken, not with others instead."""
    worlds = {name: path for name in ("init", "teacher") if (path := getattr(config, name, None)) is not None}
    recordings = {name: path for name in ("data", "heldout") if (path := getattr(config, name)) is not None}
    return {
        **{name: world_sha256(path) for name, path in worlds.items()},
        **{name: recording_digest(path) for name, path in recordings.items()},
    }
