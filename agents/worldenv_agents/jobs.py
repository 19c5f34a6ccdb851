"""Batches of episodes, one after another here or at the same time in a Ray cluster; the episodes are the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from typing import Any

import torch

from worldenv.base.workers import worker_pool

from .ledger import Ledger

OnBatch = Callable[[str, int], None]
"""Is told what is run, and how many episodes of it are done."""


@dataclass(frozen=True)
class Job:
    """A batch of episodes."""

    what: str
    count: int
    run: Callable[[], Sequence[Mapping[str, Any]]]
    """Returns a row of the ledger for each; a function of a module with its arguments, so that it can be sent."""


def run_jobs(jobs: Sequence[Job], ledger: Ledger, on_batch: OnBatch, *, ray: str = "") -> None:
    """Run all, and keep the episodes of each as soon as they are there; see ``worker_pool`` for ``ray``."""
    done: dict[str, int] = {}

    def keep(job: Job, rows: Sequence[Mapping[str, Any]]) -> None:
        ledger.add(rows)
        done[job.what] = done.get(job.what, 0) + job.count
        on_batch(job.what, done[job.what])

    if not ray or not jobs:
        for job in jobs:
            keep(job, job.run())
        return
    with worker_pool(0, threads=torch.get_num_threads(), ray=ray, gpus=float(torch.cuda.is_available())) as pool:
        running = {pool.submit(job.run): job for job in jobs}
        for future in as_completed(running):
            keep(running[future], future.result())
