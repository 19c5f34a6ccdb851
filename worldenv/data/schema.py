"""The shard format: HDF5 files of clips, lossless, with conventions and provenance in the attributes.

One group per clip, ``clip_00000``, with the datasets

    frames uint8 (T, H, W, 3)          depth float16 (T, H, W) metres along z, optional
    c2w, c2w_commanded float64 (F, 4, 4) at the last frame of each latent, optional
    segmentation uint8 (T, H, W): 0, or 1 + the class of the goal object that is seen, optional
    distances float32 (F, classes): metres to walk until one stands beside the nearest object of each class, infinite
                                    where there is none, optional
    K float32 (3, 3) pixels            keys int64 (F, 2), camera float32 (F, 5): the action into each latent
    reward float32 (F,)                terminated, truncated bool (F,)
    is_first bool (F,): latents that show the start view of an episode alone, where a clip may hold several
    action float32 (F, D): a Gymnasium environment's, flattened; and what else bodies command and sources show, by name

where T = 4 F - 3: latent 0 is the first frame, every later latent four frames (T = F where the world's
``frames_per_latent`` is 1). Attributes of a dataset: ``sha256``; of a clip: ``seed``; from
simulators ``kind``, ``map_seed``, ``text``, ``move``, ``turn_deg``, ``objects`` (JSON: colour, shape, tiles, height);
from Gymnasium environments ``env``, ``poses``. Of the file: ``format``, ``conventions``, ``config``,
``git``, ``fps``, ``classes`` (JSON: names of the goal objects' classes, in order).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..base.documents import is_format
from ..base.files import replacing
from ..base.said import check_file, check_path, named, one_line
from ..dynamics.spec import FRAMES_PER_LATENT
from .check_shard import check_group, check_own, check_values, frames_per_latent, read_attribute, shard_settings

FORMAT = 1
CONVENTIONS = "c2w OpenCV (x right, y down, z forward), metres; K pixels; depth metres along z; frames sRGB"


Array = npt.NDArray[Any]
BROKEN = (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError, RuntimeError)
"""What h5py raises of files that are damaged."""


@dataclass
class Clip:
    """One recorded clip in memory."""

    frames: npt.NDArray[np.uint8]  # (T, H, W, 3)
    signals: dict[str, Array] = field(default_factory=dict)
    """Everything else that was recorded, by the names above or those of a body's and a source's own signals."""
    attributes: dict[str, Any] = field(default_factory=dict)
    frames_per_latent: int = FRAMES_PER_LATENT
    """Frames of every latent but the first."""

    @property
    def num_latents(self) -> int:
        """Latents in the clip."""
        return (len(self.frames) + self.frames_per_latent - 1) // self.frames_per_latent

    @property
    def starts(self) -> list[int]:
        """Latents that episodes begin with, in order."""
        first = self.signals.get("is_first")
        return [0] if first is None else [0, *(int(i) for i in np.flatnonzero(first) if i)]

    def episodes(self) -> Iterator[Clip]:
        """Yield each episode as a clip of its own, whose first latent is its start view alone."""
        for begin, end in pairwise([*self.starts, self.num_latents]):
            frames = slice(self.frames_per_latent * begin, self.frames_per_latent * (end - 1) + 1)
            signals = {
                name: value if name in WHOLE else value[frames if name in PER_FRAME else slice(begin, end)]
                for name, value in self.signals.items()
            }
            yield replace(self, frames=self.frames[frames], signals=signals)


PER_FRAME = ("frames", "depth", "segmentation")
"""Datasets that are pictures, and are compressed."""
WHOLE = ("K",)
"""Datasets that hold for all of a clip."""
SUM = "sha256"
"""Attribute of a dataset: the hash of its type, shape and values. Shards of earlier versions have none."""


def write_shard(path: Path, clips: list[Clip], *, attributes: Mapping[str, Any]) -> None:
    """Write clips to one shard; the file appears whole or not at all.

    Raises:
        OSError: if the disk is full or the folder not writable; nothing already written is lost.
    """
    with h5py.File("shard", "w", driver="core", backing_store=False) as file:  # in memory: a full disk crashes HDF5
        file.attrs.update({"format": FORMAT, "conventions": CONVENTIONS, **attributes})
        for i, clip in enumerate(clips):
            _write_clip(file.create_group(f"clip_{i:05d}"), clip)
        file.flush()
        image = file.id.get_file_image()
    with replacing(path) as partial:
        partial.write_bytes(image)


def _write_clip(group: h5py.Group, clip: Clip) -> None:
    for name, value in {"frames": clip.frames, **clip.signals}.items():
        if value.ndim >= 3 and len(value) > 1 and name in PER_FRAME:
            chunks = (min(16, len(value)), *value.shape[1:])
            options = {"chunks": chunks, "compression": "gzip", "compression_opts": 1, "shuffle": True}
        else:
            options = {}
        group.create_dataset(name, data=value, **options).attrs[SUM] = _sha256(value)
    group.attrs.update(clip.attributes)


def read_shard(path: Path, *, only: tuple[str, ...] | None = None) -> Iterator[Clip]:
    """Read the clips of one shard, all of them or only these datasets (frames that are not read have no pixels).

    Raises:
        ValueError: if the file is truncated, not HDF5 or of another format.
    """
    with _opened(path) as file:
        every = frames_per_latent(file)
        for name in _clips(file):
            group = file[name]
            check_group(path, group, every)
            values = {key: _values(path, group, key) for key in group if only is None or key in only}
            check_values(path, name, values)
            frames = values.pop("frames", None)
            if frames is None:
                frames = np.zeros((len(group["frames"]), 0, 0, 3), np.uint8)
            yield Clip(frames, values, {key: read_attribute(group, key) for key in group.attrs}, every)


def _values(path: Path, group: h5py.Group, name: str) -> Array:
    """Read a data set, checked against its sha256 if it has one.

    Raises:
        ValueError: if it holds anything but what was written.
    """
    values: Array = np.asarray(group[name][()])
    told = read_attribute(group[name], SUM)
    if told is not None and not (isinstance(told, str) and told == _sha256(values)):
        raise ValueError(
            f"{path}: {group.name}/{name} is not as written; the file was damaged or edited, copy it or record it again"
        )
    return values


def _sha256(values: Array) -> str:
    """Hash an array: dtype, shape and values."""
    digest = hashlib.sha256(f"{values.dtype.str} {values.shape}".encode())
    digest.update(np.ascontiguousarray(values).data if values.size else b"")
    return digest.hexdigest()


def has_sums(path: Path) -> bool:
    """Tell whether the data sets of a shard say what they hash to."""
    with _opened(path) as file:
        return all(SUM in part.attrs for name in _clips(file) for part in file[name].values())


def describe_shards(path: Path) -> str:
    """Say what a shard or a recording holds, and whether that is known to be what was written.

    Raises:
        ValueError: if it is not, or there is none.
    """
    paths = shard_paths(path) if check_path(path).is_dir() else [path]
    frames = [len(clip.frames) for shard in paths for clip in read_shard(shard)]
    old = [shard.name for shard in paths if not has_sums(shard)]
    some = f"{', '.join(old[:3])}{' and others' if len(old) > 3 else ''} of an earlier version, without"
    return "\n".join(
        [
            f"{path}: {len(paths)} shard(s), {len(frames)} clips, {sum(frames)} frames",
            f"source    {shard_config(paths[0]).get('env', 'not named')}",
            f"sha256    {f'not all checked: {some}' if old else 'as written, by that of each data set'}",
        ]
    )


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    check_file(path)
    try:
        with h5py.File(path, "r") as file:
            found = read_attribute(file, "format", 0)
            if not is_format(found.item() if isinstance(found, np.integer) else found, FORMAT):
                raise ValueError(f"{path}: shard format {found}, this version reads {FORMAT}; record it again")
            check_own(path, file)
            yield file
    except BROKEN as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: not a readable shard ({said}); delete it and run the recording again") from None


def _clips(file: h5py.File) -> list[str]:
    return sorted(name for name in file if name.startswith("clip_"))


def shard_config(path: Path) -> dict[str, Any]:
    """Return the settings that a shard was recorded with, {} where they are not in it."""
    with _opened(path) as file:
        return shard_settings(file)


def shard_paths(folder: Path, *, max_clips: int | None = None) -> list[Path]:
    """List a folder's shards in order, as many as hold the first ``max_clips``, by default all.

    A folder of recordings is one too: their shards take turns.

    Raises:
        ValueError: if there is none.
    """
    try:
        paths = sorted(check_path(folder).rglob("shard-*.h5"), key=lambda path: (path.name, path))
    except OSError as error:  # a folder that goes while it is looked through, or that nobody may look into
        raise ValueError(f"{named(folder)}: cannot be looked through ({one_line(error)})") from None
    if not paths:
        raise ValueError(f"{folder}: no shards (shard-*.h5) here; make some with `worldenv record --out {folder}`")
    if max_clips is None:
        return paths
    before = list(accumulate((count_clips(path) for path in paths), initial=0))
    return [path for path, count in zip(paths, before, strict=False) if count < max_clips]


def count_clips(path: Path) -> int:
    """Return how many clips a shard holds."""
    with _opened(path) as file:
        return len(_clips(file))
