"""Recording: simulators, environments and recordings from elsewhere to shards, by several processes, resumable.

Clip i of a recording depends on (seed, i) alone, so workers, interruptions and extensions change nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from ..base.cluster import check_address
from ..base.config import check_counts, check_numbers, from_dict, to_dict
from ..base.documents import read_table
from ..base.files import save_text
from ..base.lock import in_use
from ..base.log import console, git_revision, progress_bar
from ..base.objects import call_own, import_object
from ..base.said import check_path
from ..base.workers import when_worker_ends, worker_pool
from ..dynamics.labels import CLASSES
from ..dynamics.spec import FRAMES_PER_LATENT, WorldSpec
from ..sims.mujoco.sim import HAND_SPEC
from .imported import ImportedSource
from .schema import Clip, write_shard
from .sources.gym import GymSource
from .sources.hand import HandSource
from .sources.imports import IMPORTS, is_import
from .sources.sim import SimSource
from .trajectories import TrajectoryConfig


@dataclass(frozen=True, kw_only=True)
class RecordConfig:
    """What to record."""

    env: str = "doom/maze"
    """``doom/maze``, ``doom/freedoom``, ``hand/place``, ``hand/lift``, ``hand/push``, the id of any registered
    Gymnasium environment, a recording from elsewhere (``lerobot:DIR`` and the like: docs/own-data.md), or
    ``package.module:Class`` of a source, called with this configuration."""
    clips: int | None = None
    """Number of clips; a later call with more goes on where this one ended. By default 64, and all of a recording from
    elsewhere."""
    first_seed: int = 0
    """Map seed of clip 0; clip i has first_seed + i. Training maps have seeds below 900,000, held-out ones above: of
    recordings from elsewhere every tenth episode, or the last."""
    num_latents: int = 64
    """Latents after the first frame; a clip has 4 * num_latents + 1 frames."""
    size: tuple[int, int] | None = None
    """Width and height that an environment's or a recording's pictures are resized to; by default they stay."""
    camera: str = ""
    """Which pictures of a recording from elsewhere; by default the only ones that it has."""
    policy: str = "random"
    """Who acts in a Gymnasium environment: ``random``, ``sticky`` (random, three times in four as before), ``expert``
    (what ``info["expert"]`` says), ``noisy:LEVEL`` (the same with noise of levels up to that), ``ppo:DIR`` or
    ``imagination:DIR`` (what `worldenv-agents train` made in the world of that environment), or
    ``package.module:function``, called with the picture, the action space and a generator."""
    clips_per_shard: int = 16
    """Clips in one file."""
    poses: bool = True
    """Whether to record the camera's pose where a Gymnasium environment's ``info`` has it."""
    depth: bool = True
    """Whether to store depth where the source knows it, and the segmentation of goal objects where there are some."""
    spec: WorldSpec = field(default_factory=WorldSpec)
    """Picture, camera and steps (simulators)."""
    trajectories: TrajectoryConfig = field(default_factory=TrajectoryConfig)
    """Kinds of paths (simulators)."""

    def __post_init__(self) -> None:
        check_numbers(self, counts=("num_latents", "clips_per_shard"), natural=("first_seed",))
        if self.clips is not None:
            check_numbers(self, counts=("clips",))
        if self.size is not None:
            check_numbers(self, sizes=("size",))


class Source(Protocol):
    """Makes clips by number."""

    def clip(self, index: int) -> Clip:
        """Record clip ``index``."""
        ...

    def close(self) -> None:
        """Stop whatever runs."""
        ...


SOURCES: dict[str, Callable[[RecordConfig], Source]] = {
    "doom/maze": lambda c: SimSource("maze", c.spec, c.trajectories, c.num_latents, c.first_seed, depth=c.depth),
    "doom/freedoom": lambda c: SimSource("freedoom", c.spec, c.trajectories, c.num_latents, c.first_seed, depth=False),
    "hand/place": lambda c: HandSource("place", c.num_latents, c.first_seed, depth=c.depth),
    "hand/lift": lambda c: HandSource("lift", c.num_latents, c.first_seed, depth=c.depth),
    "hand/push": lambda c: HandSource("push", c.num_latents, c.first_seed, depth=c.depth),
}


DEFAULT_CLIPS = 64


def make_source(config: RecordConfig) -> Source:
    """Open a source: a simulator, a recording from elsewhere, someone's class, or a Gymnasium environment by id."""
    if config.env in SOURCES:
        if config.size is not None or config.spec.frames_per_latent != FRAMES_PER_LATENT:
            raise ValueError(
                f"{config.env} renders what [spec] says, {FRAMES_PER_LATENT} frames a latent; leave size out"
            )
        return SOURCES[config.env](config)
    kind, _, where = config.env.partition(":")
    if kind in IMPORTS:
        if not where or not check_path(where).is_dir():
            raise ValueError(f"{config.env}: {f'{where}: no such folder' if where else f'give a folder, {kind}:DIR'}")
        return ImportedSource(
            IMPORTS[kind],
            Path(where),
            config.camera,
            num_latents=config.num_latents,
            first_seed=config.first_seed,
            spec=config.spec,
            size=config.size,
        )
    if where.isidentifier():  # ``module:Id-v0`` is Gymnasium's
        made: Source = call_own(import_object(config.env, what="source"), config, what="source")
        return made
    return GymSource(
        config.env,
        config.num_latents,
        config.first_seed,
        known=(*SOURCES, *(f"{name}:DIR" for name in IMPORTS)),
        spec=config.spec,
        size=config.size,
        policy=config.policy,
        poses=config.poses,
    )


def record(config: RecordConfig, out: Path, *, workers: int = 2, ray: str = "") -> int:
    """Record what is missing in ``out`` and return the number of frames written now.

    Args:
        config: what to record.
        out: folder of the shards; over Ray one that all machines of the cluster see under this path.
        workers: processes.
        ray: see ``worker_pool``.

    Raises:
        ValueError: if ``out`` is in use or holds a recording of another configuration, the source does not exist, or no
            stage could train on a recording of it.
        OSError: if the disk is full, or a worker dies; finished shards stay, and the same command goes on from there.
    """
    check_counts(workers=workers)
    check_address(ray)
    config = _as_shown(config if config.clips or is_import(config.env) else replace(config, clips=DEFAULT_CLIPS))
    with in_use(out):
        return _record(config, out, workers=workers, ray=ray)


def _record(config: RecordConfig, out: Path, *, workers: int, ray: str) -> int:
    assert config.clips is not None
    _check_manifest(config, out)
    size = config.clips_per_shard
    shards = range((config.clips + size - 1) // size)
    jobs = [(config, out.resolve(), k) for k in shards if not _complete(config, out, k)]
    if not jobs:
        console.print(f"{out}: all {config.clips} clips are there")
        return 0
    make_source(config).close()  # fail here, with a clear message, rather than in every worker
    frames = 0
    with progress_bar() as bar, worker_pool(min(workers, len(jobs)), ray=ray) as pool:
        task = bar.add_task(f"recording {config.env} (shards of {size} clips)", total=len(jobs))
        for done in as_completed([pool.submit(_record_shard, *job) for job in jobs]):
            frames += done.result()
            bar.advance(task)
    return frames


def _as_shown(config: RecordConfig) -> RecordConfig:
    """Return the configuration with what the hand's table or a Gymnasium environment shows and takes."""
    if config.env.startswith("hand/") and config.env in SOURCES:
        return replace(config, spec=replace(HAND_SPEC, chunk_latents=config.spec.chunk_latents))
    if config.env in SOURCES:
        return config
    source = make_source(config)
    source.close()
    if isinstance(source, ImportedSource):
        if config.clips is not None and config.clips > source.num_clips:
            console.print(f"{config.env}: {config.clips} clips were asked for, and there are {source.num_clips}")
        console.print(f"{config.env}: {source.describe()}")
        count = min(config.clips or source.num_clips, source.num_clips)
        return replace(config, spec=source.shown_as, clips=count)
    if not isinstance(source, GymSource):
        return config
    spec, plain, shown = config.spec, WorldSpec(), (source.width, source.height)
    if (spec.width, spec.height) not in (shown, (plain.width, plain.height)):
        raise ValueError(
            f"{config.env} shows {source.width}x{source.height} frames, [spec] says {spec.width}x{spec.height}; leave "
            "the size out: what an environment shows is recorded as it is"
        )
    shown_as = replace(
        spec,
        width=source.width,
        height=source.height,
        takes=source.takes,
        gives={"c2w": source.takes["c2w"]} if source.has_poses else {},
        environment=source.environment,
    )
    console.print(
        f"{config.env} shows {source.width}x{source.height} frames; a world of it takes "
        + ", ".join(f"{name} {signal.shape}" for name, signal in source.takes.items())
        + ("" if source.has_poses else ", and has no camera: set memory.policy to recent, none or random")
    )
    return replace(config, spec=shown_as)


def _shard(out: Path, k: int) -> Path:
    return out / f"shard-{k:05d}.h5"


def _expected(config: RecordConfig, k: int) -> int:
    assert config.clips is not None
    return min(config.clips - k * config.clips_per_shard, config.clips_per_shard)


def _complete(config: RecordConfig, out: Path, k: int) -> bool:
    """A shard counts if it opens and holds its clips: a truncated one is recorded again."""
    import h5py

    try:
        with h5py.File(_shard(out, k), "r") as file:
            return len([name for name in file if name.startswith("clip_")]) >= _expected(config, k)
    except OSError:
        return False


def _settings(config: RecordConfig) -> dict[str, object]:
    """Return what must not change within one recording: all but the number of clips."""
    values = to_dict(config)
    values.pop("clips", None)
    return json.loads(json.dumps(values))


def _check_manifest(config: RecordConfig, out: Path) -> None:
    manifest = out / "recording.json"
    if manifest.exists():
        written = from_dict(RecordConfig, read_table(manifest), where=str(manifest))
        known, wanted = _settings(written), _settings(config)  # settings that it did not know yet have their defaults
        different = [key for key in wanted if known.get(key) != wanted[key]]
        if different:
            key = different[0]
            raise ValueError(
                f"{out} holds a recording with {key}={known.get(key)!r}, asked for {wanted[key]!r}; "
                "use another --out, or the same settings to go on"
            )
    elif any(out.glob("shard-*.h5")):
        raise ValueError(f"{out} holds shards but no recording.json; use another --out")
    save_text(manifest, json.dumps(_settings(config), indent=1))


_source: tuple[RecordConfig, Source] | None = None


def _record_shard(config: RecordConfig, out: Path, k: int) -> int:
    """Record one shard in a worker; the source is kept for the worker's next shard."""
    global _source
    if _source is None or _source[0] != config:
        _source = (config, make_source(config))
        when_worker_ends(_source[1].close)
    first = k * config.clips_per_shard
    clips = [_source[1].clip(i) for i in range(first, first + _expected(config, k))]
    attributes = {
        "config": json.dumps(to_dict(config)),
        "git": git_revision(),
        "fps": config.spec.fps,
        "classes": json.dumps(CLASSES),
    }
    write_shard(_shard(out, k), clips, attributes=attributes)
    return sum(len(clip.frames) for clip in clips)
