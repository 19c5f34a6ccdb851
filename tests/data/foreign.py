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


def write_video(path: Path, frames: Array, *, fps: int | Fraction = 10) -> Path:
    """Write an .mp4 as robots' recorders do: H.264 with predicted frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "4", "g": "6"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.time_base = 1 / Fraction(fps)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


VIDEO = "observation.images.top"
"""The camera's name."""


def write_lerobot(folder: Path, lengths: list[int], *, rewards: bool = True, width: int = 2) -> Array:
    """Write a dataset of format v3: all episodes in one file of rows and one video; return every row's action."""
    total = sum(lengths)
    actions = np.random.default_rng(0).uniform(-1, 1, (total, width)).astype(np.float32)
    meta = folder / "meta"
    meta.mkdir(parents=True)
    (meta / "info.json").write_text(json.dumps(_lerobot_info(lengths, rewards=rewards, width=width)))
    (meta / "stats.json").write_text(json.dumps({"action": {"min": [-1.0] * width, "max": [1.0] * width}}))
    pq.write_table(pa.table({"task_index": [0], "task": ["push"]}), meta / "tasks.parquet")
    tables = {"meta/episodes": _lerobot_episodes(lengths), "data": _lerobot_rows(lengths, actions, rewards=rewards)}
    for name, table in tables.items():
        file = folder / name / "chunk-000" / "file-000.parquet"
        file.parent.mkdir(parents=True)
        pq.write_table(pa.table(table), file)
    write_video(folder / "videos" / VIDEO / "chunk-000" / "file-000.mp4", pictures(total))
    return actions


def _lerobot_rows(lengths: list[int], actions: Array, *, rewards: bool) -> dict[str, Any]:
    """Return the columns of all rows; the last of an episode is rewarded and ends it."""
    total, ends = sum(lengths), np.cumsum(lengths)
    episode = np.repeat(np.arange(len(lengths)), lengths)
    index = np.arange(total) - (ends - lengths)[episode]
    last = index == np.asarray(lengths)[episode] - 1
    told = {"next.reward": pa.array(last.astype(np.float32)), "next.done": pa.array(last)}
    return {
        "action": pa.FixedSizeListArray.from_arrays(pa.array(actions.ravel()), actions.shape[1]),
        "timestamp": pa.array((index / 10).astype(np.float32)),
        "frame_index": pa.array(index),
        "episode_index": pa.array(episode),
        "index": pa.array(np.arange(total)),
        "task_index": pa.array(np.zeros(total, np.int64)),
        **(told if rewards else {}),
    }


def _lerobot_episodes(lengths: list[int]) -> dict[str, Any]:
    """Return what is said of each episode, and where its rows and frames are."""
    ends, count = np.cumsum(lengths), len(lengths)
    files = [
        f"{name}/{kind}_index" for name in ("data", f"videos/{VIDEO}", "meta/episodes") for kind in ("chunk", "file")
    ]
    return {
        "episode_index": np.arange(count),
        "tasks": [["push"]] * count,
        "length": lengths,
        "dataset_from_index": ends - lengths,
        "dataset_to_index": ends,
        f"videos/{VIDEO}/from_timestamp": (ends - lengths) / 10,
        f"videos/{VIDEO}/to_timestamp": ends / 10,
        **{name: [0] * count for name in files},
    }


def _lerobot_info(lengths: list[int], *, rewards: bool, width: int) -> dict[str, Any]:
    """Return ``meta/info.json``."""
    numbers = dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64")
    numbers |= {"timestamp": "float32"} | ({"next.reward": "float32", "next.done": "bool"} if rewards else {})
    picture = {"dtype": "video", "shape": [SIZE[1], SIZE[0], 3], "names": ["height", "width", "channels"]}
    return {
        "codebase_version": "v3.0",
        "robot_type": "toy",
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 10,
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {
            VIDEO: picture,
            "action": {"dtype": "float32", "shape": [width], "names": None},
            **{name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in numbers.items()},
        },
    }


def turning(count: int) -> Array:
    """Return poses (count, 4, 4) of a camera that walks forward, a tenth a frame, and turns right by a degree."""
    c2w = np.eye(4).repeat(count, 1).reshape(4, 4, count).transpose(2, 0, 1).copy()
    angle = np.deg2rad(np.arange(count))
    c2w[:, 0, 0] = c2w[:, 2, 2] = np.cos(angle)
    c2w[:, 0, 2], c2w[:, 2, 0] = np.sin(angle), -np.sin(angle)
    c2w[:, 2, 3] = 0.1 * np.arange(count)
    return c2w
