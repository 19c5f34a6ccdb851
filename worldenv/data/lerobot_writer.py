"""Recordings as LeRobot datasets of format v3, for whoever trains policies with what reads them.

A row is a moment: what was seen, and what was done then. The last picture of an episode is not written, as that format
has no row for it; rewards and ends stand in the row that led to them (``next.reward``, ``next.done``).
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..base.files import check_folder, replacing, save_text
from ..base.objects import import_extra
from ..bodies.vector import ACTION
from ..dynamics.environment import ActionPart
from .schema import Array, Clip

KEY = "observation.images.world"
"""Name of the only camera."""
DATA, VIDEO = "data/chunk-000/file-000.parquet", f"videos/{KEY}/chunk-000/file-000.mp4"
BESIDE = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""Columns that every such dataset has."""
ROBOT, STATE = "proprio", "observation.state"
"""What recordings and such datasets call a robot's measured joints."""


def write_lerobot(
    folder: Path, clips: Iterable[Clip], *, fps: int, task: str, parts: Sequence[ActionPart] = ()
) -> tuple[int, int]:
    """Write the episodes of clips, one file of rows and one video; return their number and that of frames.

    What commanded a latent is written at each of its frames: actions of an environment whose space is ``parts``,
    choices as whole numbers; else of a camera what it did (signal ``camera``), or its two key codes, of a robot its
    commanded joints.

    Raises:
        ValueError: if the folder is not empty, or a clip says nothing of actions.
        OSError: if it cannot be written; then nothing of it is left.
    """
    check_folder(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; pass another one")
    try:
        return _write(folder, clips, fps=fps, task=task, parts=parts)
    except BaseException:
        for part in folder.glob("*"):  # the folder was empty, and is again: the same command goes on
            shutil.rmtree(part)
        raise


def _write(folder: Path, clips: Iterable[Clip], *, fps: int, task: str, parts: Sequence[ActionPart]) -> tuple[int, int]:
    columns: dict[str, list[Array]] = defaultdict(list)
    lengths: list[int] = []
    with replacing(folder / VIDEO) as partial, _Writer(partial, fps) as video:
        for clip in clips:
            for episode in clip.episodes():
                rows = episode_rows(episode, parts)
                if not len(rows[ACTION]):
                    continue
                for frame in episode.frames[: len(rows[ACTION])]:
                    video.append(frame)
                for name, values in rows.items():
                    columns[name].append(values)
                lengths.append(len(rows[ACTION]))
        if not lengths:
            raise ValueError("no episode is longer than its start view; there is nothing to write")
        size = video.size
    whole = {name: np.concatenate(values) for name, values in columns.items()} | _places(lengths, fps)
    _write_tables(folder, whole, lengths, fps=fps, task=task)
    statistics = {KEY: video.statistics(), **{name: _statistics(x) for name, x in whole.items()}}
    save_text(folder / "meta" / "stats.json", json.dumps(statistics, indent=1))
    save_text(folder / "meta" / "info.json", json.dumps(_info(whole, lengths, fps, size), indent=1))
    return len(lengths), sum(lengths)


def episode_rows(clip: Clip, parts: Sequence[ActionPart] = ()) -> dict[str, Array]:
    """Return what was done at each frame of an episode but the last, what that led to, and of robots how they stood.

    Raises:
        ValueError: if the recording says nothing of actions.
    """
    name = next((name for name in (ACTION, "camera", "keys", "joints") if name in clip.signals), None)
    if name is None:
        raise ValueError("the recording has no action, camera, keys or joints in it; policies learn from what was done")
    every = clip.frames_per_latent
    done = clip.signals[name][1:]
    done = _numbers(done, parts) if parts and name == ACTION else done
    rows = {ACTION: np.repeat(done if done.dtype.kind == "i" else done.astype(np.float32), every, 0)}
    if ROBOT in clip.signals:  # measured where latents end: frames of one begin at what the last one led to
        rows[STATE] = np.repeat(clip.signals[ROBOT][:-1].astype(np.float32), every, 0)
    for ours, theirs, kind in (("reward", "next.reward", np.float32), ("terminated", "next.done", np.bool_)):
        if ours in clip.signals:
            rows[theirs] = np.zeros(len(rows[ACTION]), kind)
            rows[theirs][every - 1 :: every] = clip.signals[ours][1:]
    over = np.flatnonzero(rows.get("next.done", np.zeros(0)))
    stop = len(rows[ACTION]) if not len(over) else int(over[0]) + 1  # an episode that has ended stands still
    return {name: values[:stop] for name, values in rows.items()}


def _numbers(
    vectors: Array,  # (F, A) as recorded
    parts: Sequence[ActionPart],
) -> Array:
    """Return embedded actions as numbers, (F, D), choices by their value; whole numbers if there is nothing else."""
    found, first = [], 0
    for part in parts:
        for count, least in zip(part.counts, part.least, strict=True):
            found.append(vectors[:, first : first + count].argmax(1)[:, None] + least)
            first += count
        if not part.counts:
            some = vectors[:, first : first + part.size]
            found.append(some if part.kind == "box" else (some > 0.5).astype(np.int64))
            first += part.size
    return np.concatenate(found, 1)


def _places(lengths: list[int], fps: int) -> dict[str, Array]:
    """Return the columns that say where a row is."""
    index = np.concatenate([np.arange(length) for length in lengths])
    return {
        "timestamp": (index / fps).astype(np.float32),
        "frame_index": index,
        "episode_index": np.repeat(np.arange(len(lengths)), lengths),
        "index": np.arange(len(index)),
        "task_index": np.zeros(len(index), np.int64),
    }


def _write_tables(folder: Path, whole: Mapping[str, Array], lengths: list[int], *, fps: int, task: str) -> None:
    """Write rows, episodes and tasks."""
    needs = "LeRobot datasets are written with pyarrow"
    arrow = import_extra("pyarrow", extra="data", needs=needs)
    stops = np.cumsum(lengths)
    count, videos = len(lengths), f"videos/{KEY}"
    episodes = {
        "episode_index": np.arange(count),
        "tasks": [[task]] * count,
        "length": np.array(lengths),
        "dataset_from_index": stops - lengths,
        "dataset_to_index": stops,
        f"{videos}/from_timestamp": (stops - lengths) / fps,
        f"{videos}/to_timestamp": stops / fps,
        **{
            f"{place}/{kind}_index": np.zeros(count, np.int64)
            for place in ("data", videos, "meta/episodes")
            for kind in ("chunk", "file")
        },
    }
    rows = {
        name: arrow.FixedSizeListArray.from_arrays(arrow.array(x.ravel()), x.shape[1]) if x.ndim > 1 else arrow.array(x)
        for name, x in whole.items()
    }
    index = {"index_columns": ["task"], "column_indexes": [], "columns": [], "pandas_version": "2.0"}
    tasks = arrow.table({"task_index": [0], "task": [task]}).replace_schema_metadata({"pandas": json.dumps(index)})
    tables = {
        DATA: arrow.table(rows),
        "meta/episodes/chunk-000/file-000.parquet": arrow.table(episodes),
        "meta/tasks.parquet": tasks,
    }
    parquet = import_extra("pyarrow.parquet", extra="data", needs=needs)
    for name, table in tables.items():
        with replacing(folder / name) as partial:
            parquet.write_table(table, partial)


def _statistics(values: Array) -> dict[str, list[float]]:
    rows = values.reshape(len(values), -1).astype(np.float64)
    found = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    return {name: x.tolist() for name, x in found.items()} | {"count": [len(rows)]}


def _info(whole: Mapping[str, Array], lengths: list[int], fps: int, size: tuple[int, int]) -> dict[str, Any]:
    """Return what the dataset says of itself."""
    width, height = size
    film = {
        "video.height": height,
        "video.width": width,
        "video.channels": 3,
        "video.codec": "h264",
        "video.pix_fmt": "yuv420p",
        "video.fps": fps,
        "video.is_depth_map": False,
        "has_audio": False,
    }
    picture = {"dtype": "video", "shape": [height, width, 3], "names": ["height", "width", "channels"], "info": film}
    numbers = {
        name: {"dtype": str(x.dtype), "shape": list(x.shape[1:]) or [1], "names": None} for name, x in whole.items()
    }
    return {
        "codebase_version": "v3.0",
        "robot_type": None,
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": fps,
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {KEY: picture, **numbers},
    }


class _Writer:
    """A video of all episodes, one behind the other."""

    def __init__(self, path: Path, fps: int) -> None:
        self.av = import_extra("av", extra="data", needs="videos are written with PyAV")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.container = self.av.open(str(path), "w", format="mp4")
        self.stream = self.container.add_stream("libx264", rate=fps, options={"crf": "12", "g": "8"})
        self.colours: list[Array] = []  # of each frame (4, 3): least, largest, mean, mean square
        self.stream.pix_fmt, self.stream.time_base, self.size = "yuv420p", Fraction(1, fps), (0, 0)

    def append(self, frame: Array) -> None:
        if not any(self.size):
            self.size = self.stream.width, self.stream.height = frame.shape[1], frame.shape[0]
        share = frame.reshape(-1, 3) / 255.0
        self.colours.append(np.stack([share.min(0), share.max(0), share.mean(0), (share**2).mean(0)]))
        self.container.mux(self.stream.encode(self.av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))

    def statistics(self) -> dict[str, Any]:
        """Return what ``stats.json`` says of the pictures, each colour as (3, 1, 1)."""
        least, most, mean, square = np.moveaxis(np.stack(self.colours), 1, 0)
        found = {"min": least.min(0), "max": most.max(0), "mean": mean.mean(0)}
        found["std"] = np.sqrt(np.maximum(square.mean(0) - found["mean"] ** 2, 0))
        return {name: x.reshape(3, 1, 1).tolist() for name, x in found.items()} | {"count": [len(self.colours)]}

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if kind is None and any(self.size):
            self.container.mux(self.stream.encode())
        self.container.close()
