"""Ablation tables: what a file of ``configs/ablations`` declares, and the training runs that follow from it.

A file names claims (pairs of arms, the better one first), the metric that decides, the cases, a chain of training
stages, and per arm the settings that differ. Settings have the names of ``configs/maze``. Arms share every run whose
settings are the same, within a file and between files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..base.config import from_dict, merge, read_layers, to_dict
from ..base.files import file_sha256
from ..data.record import RecordConfig
from ..eval.report.claims import Question
from ..eval.suites.registry import RUNS
from ..training.stages.config import TrainConfig
from ..training.stages.registry import STAGES
from ..world.files import find_world

Settings = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class CasesConfig:
    """What the arms are scored on."""

    suite: str = "revisit"
    """Suite whose published maps are taken."""
    worlds: int | None = None
    """Number of maps; all by default."""
    chunks: int = 16
    """Chunks of a path."""
    given: int = 0
    """Chunks of the path that a world remembers as they truly were; it makes the rest."""
    kind: str = ""
    """Kind of path of all cases; by default the suite's."""
    depth: bool = True
    """Whether seen and unseen ground are told apart."""
    pose_step: int = 0
    """Every how manieth case's camera motion is measured; 0 is none."""
    reprojection: bool = False
    """Whether views are shown in one another, by the depth head of the table's ``world``."""
    quick: bool = True
    """Whether it is measured in a quarter of the time, less precisely."""


@dataclass(frozen=True, kw_only=True)
class AblationTable:
    """The contents of a file of ``configs/ablations``."""

    title: str
    """Which table or figure, and what it says."""
    question: Question
    """Claims and metrics, fixed before anything is trained."""
    cases: CasesConfig = field(default_factory=CasesConfig)
    """What the arms are scored on."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Training seeds; five are needed for a positive verdict."""
    world: str = "maze"
    """World whose VAE and camera are taken; transformers start from nothing."""
    chunk_latents: int = 4
    """Latents that are made together."""
    record: RecordConfig = field(default_factory=RecordConfig)
    """Training mazes, recorded where they are missing."""
    base: Settings
    """Settings of all stages."""
    stages: dict[str, Settings]
    """Stages in order: settings, and ``stage`` (the kind of training, by default its name), ``init`` (a stage before;
    by default the last one) and ``teacher`` (a stage before)."""
    arms: dict[str, Settings]
    """Arms: settings that differ, and ``from`` (the first stage they count in), ``world`` (the stage whose outcome is
    scored, by default the last) and ``step`` (``sampler`` and ``memory`` while it is scored)."""

    def __post_init__(self) -> None:
        named = {name for claim in self.question.claims for name in claim}
        if not named or named - set(self.arms):
            raise ValueError(f"claims name {sorted(named)}; the arms are {', '.join(self.arms)}")
        if self.cases.suite not in RUNS:
            raise ValueError(f"unknown suite {self.cases.suite!r}; choose one of {', '.join(RUNS)}")


@dataclass(frozen=True)
class Run:
    """One stage trained with one seed."""

    name: str  # of the stage in the file
    stage: str  # the kind of training
    seed: int
    settings: Settings  # of TrainConfig, without paths and seed
    origin: str  # VAE and recording, of the chain's first run
    init: Run | None
    teacher: Run | None

    @property
    def before(self) -> list[Run]:
        """The runs that it needs."""
        return [run for run in (self.init, self.teacher) if run is not None]

    @property
    def key(self) -> str:
        """The name of its folder: all that the outcome depends on."""
        parts = [self.stage, self.settings, self.seed, self.origin, *(run.key for run in self.before)]
        return f"{self.name}-{digest(parts)}@{self.seed}"

    def config(self, folder: Path, *, start: Path, data: Path) -> TrainConfig:
        """Build the stage's configuration for runs that lie in ``folder``."""
        paths: Settings = {"data": str(data), "init": str(start if self.init is None else folder / self.init.key)}
        if self.teacher is not None:
            paths["teacher"] = str(folder / self.teacher.key)
        settings = merge(self.settings, {**paths, "optim": {"seed": self.seed}})
        return from_dict(TrainConfig, settings, where=f"stage {self.name}")


def read_table(path: Path, *, gpu: bool | None = None) -> AblationTable:
    """Read a file over the one it ``extends``; its table ``gpu`` counts where there is one.

    Raises:
        ValueError: on unknown keys, stages or arms, or claims about arms that are not there.
    """
    values = read_layers(path)
    larger = values.pop("gpu", {})
    if torch.cuda.is_available() if gpu is None else gpu:
        values = merge(values, larger)
    table = from_dict(AblationTable, values, where=str(path))
    for arm in table.arms:
        for run in ordered([run_of(table, arm, table.seeds[0], "")]):
            run.config(Path(), start=Path(), data=Path())
    return table


def digest(value: Any) -> str:
    """Hash plain values to twelve hex digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def origin_of(table: AblationTable) -> str:
    """Name what all chains of a table start from: the VAE, the chunk and the recording."""
    vae = file_sha256([find_world(table.world) / "vae.safetensors"])
    return digest([vae, table.chunk_latents, to_dict(table.record)])


def run_of(table: AblationTable, arm: str, seed: int, origin: str) -> Run:
    """Return the run whose outcome is the arm; what it needs hangs on it.

    Raises:
        ValueError: on a stage that is not there.
    """
    own = dict(table.arms[arm])
    first, last = own.pop("from", next(iter(table.stages))), own.pop("world", list(table.stages)[-1])
    own.pop("step", None)
    made: dict[str, Run] = {}
    counts = False
    for name, settings in table.stages.items():
        rest, counts = dict(settings), counts or name == first
        stage, before = rest.pop("stage", name), rest.pop("init", next(reversed(made), None))
        teacher = rest.pop("teacher", None)
        _check(f"stage {name}", stage, list(STAGES))
        for needed in (n for n in (before, teacher) if n is not None):
            _check(f"stage {name}", needed, list(made))
        settings = merge(merge(table.base, rest), own if counts else {})
        made[name] = Run(name, stage, seed, settings, origin, made.get(before or ""), made.get(teacher or ""))
    for name in (first, last):
        _check(f"arm {arm}", name, list(made))
    return made[last]


def _check(where: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise ValueError(f"{where}: unknown stage {name!r}; choose one of {', '.join(known)}")


def ordered(runs: Sequence[Run]) -> list[Run]:
    """List runs and all that they need, each once, before what needs it."""
    found: dict[str, Run] = {}
    for run in runs:
        found |= {need.key: need for need in [*ordered(run.before), run]}
    return list(found.values())
