"""Train what an ablation table needs and lacks, several runs at a time; whatever is killed goes on when run again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..base.config import read_toml, to_dict
from ..base.log import console
from ..base.workers import worker_pool
from ..data.record import record
from ..models.presets import PRESETS
from ..training.encode import encode_recording
from ..training.stages.registry import train
from ..world.files import find_world
from ..world.world import World
from .table import AblationTable, Run, digest, ordered, origin_of, run_of


@dataclass(frozen=True)
class Workshop:
    """Where runs lie, and what they start from."""

    folder: Path
    start: Path
    data: Path

    def path(self, run: Run) -> Path:
        """Return a run's folder."""
        return self.folder / run.key

    def is_done(self, run: Run) -> bool:
        """Tell whether a run has left its world."""
        return (self.path(run) / "world.toml").is_file()

    def train(self, run: Run) -> None:
        """Train a run from where it stopped; what it prints goes to ``console.log`` beside its other logs."""
        out = self.path(run)
        out.mkdir(parents=True, exist_ok=True)
        with (out / "console.log").open("a") as file, redirect_stderr(file):
            train(run.stage, run.config(self.folder, start=self.start, data=self.data), out, resume=True)

    def minutes(self, run: Run) -> float:
        """Return how long a finished run took."""
        stages = read_toml(self.path(run) / "world.toml")["provenance"]
        return 60 * float(stages[max(stages)]["hours"])


def default_processes() -> int:
    """Return how many small models this machine trains at a time: one per CPU core, or a few on a GPU."""
    cores = os.cpu_count() or 1
    return max(1, cores // 4) if torch.cuda.is_available() else cores


def train_table(table: AblationTable, folder: Path, *, processes: int, ray: str = "") -> dict[str, Path]:
    """Train every arm of a table with every seed; return the worlds by ``ARM@SEED``.

    So many ``processes`` at a time: of this machine, or of a Ray cluster whose machines all see the folder.
    """
    shop = prepare(table, folder.resolve(), processes=processes, ray=ray)
    origin = origin_of(table)
    arms = {f"{arm}@{seed}": run_of(table, arm, seed, origin) for seed in table.seeds for arm in table.arms}
    runs = ordered(list(arms.values()))
    missing = [run for run in runs if not shop.is_done(run)]
    console.print(f"{len(runs)} runs in {folder}, {len(missing)} to train, {processes} at a time")
    if missing:
        _encode(shop, missing)
    for count, run in enumerate(_trained(shop, missing, processes, ray), 1):
        users = sorted({name.partition("@")[0] for name, last in arms.items() if run in ordered([last])})
        console.print(
            f"[{count}/{len(missing)}] {run.name}, seed {run.seed} ({', '.join(users)}): {shop.minutes(run):.1f} min, "
            f"about {_left(shop, runs, missing, processes):.0f} min left"
        )
    return {name: shop.path(run) for name, run in arms.items()}


def prepare(table: AblationTable, folder: Path, *, processes: int, ray: str = "") -> Workshop:
    """Make what all runs start from where it is missing: the recording, and a world that is a VAE and nothing else."""
    data, start = folder / f"data-{digest(to_dict(table.record))}", folder / f"start-{origin_of(table)}"
    record(table.record, data, workers=processes, ray=ray)
    if not (start / "world.toml").is_file():
        whole = World.load(find_world(table.world))
        config = whole.config
        world = World(
            replace(
                config,
                dit=replace(PRESETS["tiny"].dit, latent_channels=config.vae.latent_channels),
                spec=replace(config.spec, chunk_latents=table.chunk_latents),
                provenance=tuple(done for done in config.provenance if done.stage in ("vae", "decoder")),
            ),
            vae=whole.vae.float(),
        )
        world.save_pretrained(start)
    return Workshop(folder, start, data)


def _encode(shop: Workshop, runs: Sequence[Run]) -> None:
    """Encode the recording before several processes want it, once for every window that its need depends on."""
    world = World.load(shop.start)
    world.vae.to("cuda" if torch.cuda.is_available() else "cpu")
    configs = [run.config(shop.folder, start=shop.start, data=shop.data) for run in runs]
    for config in {config.memory.temporal_latents: config for config in configs}.values():
        world.config = replace(world.config, memory=config.memory)
        encode_recording(world, config.data, shop.folder / "latents", max_clips=config.max_clips)


def _left(shop: Workshop, runs: Sequence[Run], missing: Sequence[Run], processes: int) -> float:
    """Estimate the minutes that training still takes, from finished runs of the same stage, or of any."""
    took = {run.key: (run.name, shop.minutes(run)) for run in runs if shop.is_done(run)}
    total = 0.0
    for run in (run for run in missing if run.key not in took):
        alike = [m for name, m in took.values() if name == run.name] or [m for _, m in took.values()]
        total += sum(alike) / len(alike)
    return total / processes


def _trained(shop: Workshop, runs: Sequence[Run], processes: int, ray: str = "") -> Iterator[Run]:
    """Train runs, each after those that it needs, and yield them as they finish."""
    if processes == 1 and not ray:
        for run in runs:
            _announce(run)
            shop.train(run)
            yield run
        return
    threads = 1 if torch.cuda.is_available() else max(1, (os.cpu_count() or 1) // processes)
    with worker_pool(processes, threads=threads, ray=ray, gpus=float(torch.cuda.is_available())) as pool:
        running: dict[Future[None], Run] = {}
        waiting = list(runs)
        while waiting or running:
            ready = [run for run in waiting if all(map(shop.is_done, run.before))]
            for run in ready[: processes - len(running)]:
                _announce(run)
                waiting.remove(run)
                running[pool.submit(shop.train, run)] = run
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                yield running.pop(future)


def _announce(run: Run) -> None:
    console.print(f"training {run.name}, seed {run.seed}: {run.key}/console.log")
