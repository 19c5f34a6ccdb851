"""Run every arm of a suite on its cases, in batches; an interrupted run goes on after its last whole batch."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import as_completed
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...base.files import save_arrays, save_text
from ...base.log import console, progress_bar
from ...base.workers import worker_pool
from ..image import Array
from ..report.statistics import Estimate
from .arms import Make, Progress
from .cases import Cases, digests

BATCH = 16
"""Cases that are stepped together."""
FIELDS = ("metrics", "curves", "features")
NUM_SHOWN = 6
"""Cases whose frames are kept for pictures."""


@dataclass
class Scores:
    """What was measured on some cases."""

    metrics: dict[str, Array] = field(default_factory=dict)  # (N,) each, NaN where a case has none
    curves: dict[str, Array] = field(default_factory=dict)  # (N, chunks) each, to be plotted
    features: dict[str, Array] = field(default_factory=dict)  # (N, n, D) of n frames, for distances between arms


Scorer = Callable[[Tensor, Cases, int], Scores]
"""Scores frames (B, T, H, W, 3), of which so many behind the start view were given."""


@dataclass
class ArmResult(Scores):
    """What one arm did on all cases."""

    shown: Tensor | None = None  # (N', T, H, W, 3) uint8: the first cases, or all where somebody needs them
    seconds: list[float] = field(default_factory=list)  # of every chunk of a batch, where a world made it
    figures: dict[str, Estimate] = field(default_factory=dict)  # of the arm as a whole, added when all arms are there


def run_arms(
    arms: Mapping[str, Make],
    cases: Cases,
    scorer: Scorer,
    folder: Path,
    *,
    num_chunks: int,
    key: str,
    keep: int = NUM_SHOWN,
    ray: str = "",
) -> dict[str, ArmResult]:
    """Run and score all arms. What is done lies under ``folder/parts`` until ``finish``; ``key`` names the run.

    The frames of the first ``keep`` cases are kept. Parts of another run (another world, suite, version, or other
    cases) are thrown away. Over Ray (see ``worker_pool``) every batch is a task, and the numbers are the same.
    """
    parts = folder / "parts"
    _claim(parts, hashlib.sha256(json.dumps([key, keep, list(arms), digests(cases)]).encode()).hexdigest())
    pieces = [(cases.rows(piece), max(0, keep - piece.start)) for piece in _split(len(cases))]
    files = {name: [parts / f"{name}-{i}.npz" for i in range(len(pieces))] for name in arms}
    jobs = [Job(files[name][i], name, make, i) for name, make in arms.items() for i in range(len(pieces))]
    missing = [job for job in jobs if not job.file.is_file()]
    with progress_bar() as bar:
        task = bar.add_task("", total=len(jobs) * num_chunks, completed=(len(jobs) - len(missing)) * num_chunks)
        if ray and missing:
            for job in _run_elsewhere(missing, pieces, scorer, ray):
                bar.update(task, advance=num_chunks, description=job.name)
            missing = []
        for job in missing:
            bar.update(task, description=job.name)
            start = bar.tasks[0].completed
            rows, shown = pieces[job.piece]
            save_arrays(job.file, _run(job.make, rows, scorer, lambda: bar.advance(task), shown))
            bar.update(task, completed=start + num_chunks)
    return {name: _join([dict(np.load(file, allow_pickle=False)) for file in files[name]]) for name in arms}


@dataclass(frozen=True)
class Job:
    """One arm on one batch."""

    file: Path
    name: str
    make: Make
    piece: int


def _run_elsewhere(jobs: list[Job], pieces: list[tuple[Cases, int]], scorer: Scorer, ray: str) -> Iterator[Job]:
    """Run jobs in a Ray cluster, with as many threads and, if this process has one, a GPU each; yield the finished."""
    with worker_pool(0, threads=torch.get_num_threads(), ray=ray, gpus=float(torch.cuda.is_available())) as pool:
        makes = {job.name: pool.share(job.make) for job in jobs}
        rows, judge = {job.piece: pool.share(pieces[job.piece][0]) for job in jobs}, pool.share(scorer)
        running = {
            pool.submit(_run, makes[job.name], rows[job.piece], judge, _nothing, pieces[job.piece][1]): job
            for job in jobs
        }
        for done in as_completed(running):
            save_arrays(running[done].file, done.result())
            yield running[done]


def _nothing() -> None:
    """Tell nobody of a chunk."""


def finish(folder: Path) -> None:
    """Remove the parts of a run whose report is written."""
    shutil.rmtree(folder / "parts", ignore_errors=True)


def _claim(parts: Path, key: str) -> None:
    """Keep the parts of this very run, if there are any; clear away those of another."""
    mark = parts / "key"
    if mark.is_file() and mark.read_text() == key:
        console.print(f"going on with the parts in {parts}")
        return
    shutil.rmtree(parts, ignore_errors=True)
    save_text(mark, key)


def num_batches(count: int) -> int:
    """Return how many batches so many cases are stepped in."""
    return math.ceil(count / BATCH)


def _split(count: int) -> list[slice]:
    """Cut cases into batches of equal size, or nearly."""
    borders = np.linspace(0, count, num_batches(count) + 1).round().astype(int).tolist()
    return [slice(a, b) for a, b in itertools.pairwise(borders)]


def _run(make: Make, cases: Cases, scorer: Scorer, advance: Callable[[], None], shown: int) -> dict[str, Array]:
    """Return one batch as named arrays."""
    progress = Progress(advance, [])
    frames = make(cases, progress)
    scores = scorer(frames, cases, progress.given_frames)
    arrays = {f"{field}/{key}": v for field in FIELDS for key, v in getattr(scores, field).items()}
    return {
        **arrays,
        "seconds": np.asarray(progress.seconds),
        "shown": frames[:shown].numpy(),
        "count": np.asarray(len(cases)),
    }


def _join(parts: list[dict[str, Array]]) -> ArmResult:
    """Put batches together; a metric that a batch lacks is NaN there."""
    names = dict.fromkeys(name for part in parts for name in part if "/" in name)
    result = ArmResult(shown=torch.from_numpy(np.concatenate([part["shown"] for part in parts])))
    result.seconds = [s for part in parts for s in part["seconds"].tolist()]
    for name in names:
        shape = next(part[name].shape[1:] for part in parts if name in part)
        whole = np.concatenate([p.get(name, np.full((int(p["count"]), *shape), np.nan)) for p in parts])
        field, _, key = name.partition("/")
        getattr(result, field)[key] = whole
    return result
