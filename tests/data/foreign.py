"""Recordings in foreign formats, written as their own tools lay them out."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from worldenv.data.schema import Array

SIZE = (48, 32)
"""Width and height of their pictures."""


def pictures(count: int, *, first: int = 0, size: tuple[int, int] = SIZE) -> Array:
    """Return pictures that are the brighter, the later: 4 levels a frame, which no codec takes for another."""
    levels = (10 + 4 * (first + np.arange(count)) % 240).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, size[1], size[0], 3)).copy()


def write_video(path: Path, frames: Array, *, fps: int = 10) -> Path:
    """Write an .mp4 as robots' recorders do: H.264 with predicted frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "4", "g": "6"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.time_base = Fraction(1, fps)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_lerobot(folder: Path, lengths: list[int], *, rewards: bool = True, width: int = 2) -> Array:
    """Write a dataset of format v3: all episodes in one file of rows and one video; return every row's action."""
    total, key = sum(lengths), "observation.images.top"
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (total, width)).astype(np.float32)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    episode = np.repeat(np.arange(len(lengths)), lengths)
    index = np.arange(total) - starts[episode]
    columns: dict[str, Any] = {
        "action": pa.FixedSizeListArray.from_arrays(pa.array(actions.ravel()), width),
        "timestamp": pa.array((index / 10).astype(np.float32)),
        "frame_index": pa.array(index),
        "episode_index": pa.array(episode),
        "index": pa.array(np.arange(total)),
        "task_index": pa.array(np.zeros(total, np.int64)),
    }
    features: dict[str, Any] = {
        key: {"dtype": "video", "shape": [SIZE[1], SIZE[0], 3], "names": ["height", "width", "channels"]},
        "action": {"dtype": "float32", "shape": [width], "names": None},
        **{name: {"dtype": "int64", "shape": [1], "names": None} for name in ("frame_index", "episode_index", "index")},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        "task_index": {"dtype": "int64", "shape": [1], "names": None},
    }
    if rewards:
        columns["next.reward"] = pa.array((index == np.asarray(lengths)[episode] - 1).astype(np.float32))
        columns["next.done"] = pa.array(index == np.asarray(lengths)[episode] - 1)
        features |= {
            "next.reward": {"dtype": "float32", "shape": [1], "names": None},
            "next.done": {"dtype": "bool", "shape": [1], "names": None},
        }
    said = {
        "episode_index": np.arange(len(lengths)),
        "tasks": [["push"]] * len(lengths),
        "length": lengths,
        "data/chunk_index": [0] * len(lengths),
        "data/file_index": [0] * len(lengths),
        "dataset_from_index": starts,
        "dataset_to_index": ends,
        f"videos/{key}/chunk_index": [0] * len(lengths),
        f"videos/{key}/file_index": [0] * len(lengths),
        f"videos/{key}/from_timestamp": starts / 10,
        f"videos/{key}/to_timestamp": ends / 10,
        "meta/episodes/chunk_index": [0] * len(lengths),
        "meta/episodes/file_index": [0] * len(lengths),
    }
    info = {
        "codebase_version": "v3.0",
        "robot_type": "toy",
        "total_episodes": len(lengths),
        "total_frames": total,
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 10,
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": features,
    }
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    (folder / "meta" / "stats.json").write_text(json.dumps({"action": {"min": [-1.0] * width, "max": [1.0] * width}}))
    pq.write_table(pa.table({"task_index": [0], "task": ["push"]}), folder / "meta" / "tasks.parquet")
    for name, table in (("meta/episodes", pa.table(said)), ("data", pa.table(columns))):
        file = folder / name / "chunk-000" / "file-000.parquet"
        file.parent.mkdir(parents=True)
        pq.write_table(table, file)
    write_video(folder / "videos" / key / "chunk-000" / "file-000.mp4", pictures(total))
    return actions


def turning(count: int) -> Array:
    """Return poses (count, 4, 4) of a camera that walks forward, a tenth a frame, and turns right by a degree."""
    c2w = np.eye(4).repeat(count, 1).reshape(4, 4, count).transpose(2, 0, 1).copy()
    angle = np.deg2rad(np.arange(count))
    c2w[:, 0, 0] = c2w[:, 2, 2] = np.cos(angle)
    c2w[:, 0, 2], c2w[:, 2, 0] = np.sin(angle), -np.sin(angle)
    c2w[:, 2, 3] = 0.1 * np.arange(count)
    return c2w
