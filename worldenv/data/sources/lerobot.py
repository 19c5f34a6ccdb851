"""LeRobot datasets of format v3: many episodes a file, rows in parquet, pictures in videos or in the rows themselves.

A row is a moment: what was seen, and what was done then. What the last row of an episode led to was not recorded; where
it was rewarded or ended the episode, the last picture stands for it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ...base.documents import read_table
from ...base.media import read_picture
from ...base.objects import import_extra
from ...bodies.vector import ACTION
from ...dynamics.environment import ActionPart
from ..columns import check_finite, describe_numbers, embedded
from ..schema import Array
from ..spans import Span
from ..video import MAX_SIDE, Frame, Video, open_video

VERSION = "v3"
TOLD = {"next.reward": "reward", "next.done": "terminated"}
"""Columns of what happened, by the names of a clip."""
EPISODE = ("episode_index", "length", "data/chunk_index", "data/file_index")
MOST_FPS = 1000
FPS_SHARE = 0.02
"""By how much the films' rate may differ from what is said of it."""
MAX_ROWS = 50_000_000


@dataclass(frozen=True)
class _Images:
    """Pictures in the rows of a parquet file."""

    path: Path
    key: str
    first: int
    """Row of the episode's first frame."""

    def frames(self, first: int, stop: int) -> Iterator[Frame]:
        parquet = import_extra("pyarrow.parquet", extra="data", needs="LeRobot datasets are read with pyarrow")
        with parquet.ParquetFile(self.path) as file:
            ends = np.cumsum([file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)])
            wanted = np.arange(self.first + first, self.first + stop)
            groups = np.unique(np.searchsorted(ends, wanted, side="right"))
            before = int(ends[groups[0] - 1]) if groups[0] else 0
            column = file.read_row_groups(groups.tolist(), columns=[self.key]).column(self.key)
        for row in wanted.tolist():
            held = column[row - before].as_py()
            data = held.get("bytes") if isinstance(held, dict) else None
            if not data:
                raise ValueError(f"{self.path}: row {row}: {self.key} holds no picture; embed them in the rows")
            yield read_picture(data, what=f"{self.path}: row {row}: {self.key}", most=MAX_SIDE)


class LeRobot:
    """A reader of a folder with ``meta/info.json``.

    Raises:
        ValueError: naming the file, and the row, that cannot be learned from.
    """

    def __init__(self, path: Path, camera: str = "") -> None:
        self.path, self.name = path, f"lerobot:{path.resolve().name}"
        self.notes: Sequence[str] = ()
        info = _read_info(path)
        self.fps, self.info = float(info["fps"]), info
        self.camera = _choose_camera(path, info["features"], camera)
        self.parquet = import_extra("pyarrow.parquet", extra="data", needs="LeRobot datasets are read with pyarrow")
        episodes, rows = self._episodes(), self._rows()
        unknown = sorted(rows.keys() - {int(one["episode_index"]) for one in episodes})
        if unknown:
            (file, _), *_ = rows[unknown[0]]["where"]
            raise ValueError(f"{file}: has rows of episode {unknown[0]}, which meta/episodes does not list")
        self.parts: tuple[ActionPart, ...] = describe_numbers(
            [one[ACTION] for one in rows.values()],
            integer="int" in str(info["features"][ACTION]["dtype"]),
            what=path / "data",
        )
        self._pictures: dict[int, tuple[Video | _Images, int]] = {}
        self.spans: Sequence[Span] = [self._span(one, rows.get(int(one["episode_index"]))) for one in episodes]
        self.width, self.height = self._size()

    def frames(self, span: Span, first: int, stop: int) -> Iterator[Frame]:
        """Decode some frames of an episode."""
        pictures, before = self._pictures[span.episode]
        first, stop = first + span.first, stop + span.first
        for number, frame in enumerate(pictures.frames(before + first, before + stop), start=first):
            if frame.shape[:2] != (self.height, self.width):
                size = f"{frame.shape[1]}x{frame.shape[0]}"
                raise ValueError(f"{span.name}: frame {number} is {size}, others {self.width}x{self.height}")
            yield frame

    def _under(self, template: str, **numbers: Any) -> Path:
        """Return a file of the dataset; what it says of itself leads nowhere else."""
        found = self.path / template.format(**numbers)
        if not found.resolve().is_relative_to(self.path.resolve()):
            raise ValueError(f"{self.path}/meta/info.json: {template!r} leads out of the dataset")
        return found

    def _table(self, file: Path, columns: Sequence[str]) -> Any:
        """Read columns of a parquet file."""
        try:
            with self.parquet.ParquetFile(file) as opened:
                lacking = [name for name in columns if name not in opened.schema_arrow.names]
                if lacking:
                    raise ValueError(f"{file}: no column {lacking[0]!r}; it has {', '.join(opened.schema_arrow.names)}")
                if opened.metadata.num_rows > MAX_ROWS:
                    raise ValueError(f"{file}: {opened.metadata.num_rows} rows; up to {MAX_ROWS} are read")
                return opened.read(columns=list(columns))
        except (
            OSError,
            UnicodeDecodeError,
            MemoryError,
            import_extra("pyarrow", extra="data", needs="parquet").ArrowException,
        ) as error:
            said = " ".join(str(error).split())[:200]
            raise ValueError(f"{file}: cannot be read ({said}); is the file whole?") from None

    def _episodes(self) -> list[dict[str, Any]]:
        """Return what is said of each episode, in order."""
        files = sorted((self.path / "meta" / "episodes").glob("*/*.parquet"))
        if not files:
            raise ValueError(f"{self.path}: no meta/episodes/chunk-000/file-000.parquet")
        videos = [f"videos/{self.camera}/{x}" for x in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")]
        columns = [*EPISODE, *(videos if self._filmed else [])]
        found: list[dict[str, Any]] = []
        for file in files:
            table = self._table(file, columns)
            read = {name: _numbers(table.column(name), f"{file}: {name}", single=True) for name in columns}
            for name, values in read.items():
                if name.endswith("timestamp"):
                    check_finite(values, what=str(file), name=name)
                else:
                    _check_natural(values, f"{file}: {name}")
            found += [dict(zip(read, row)) for row in zip(*(values.tolist() for values in read.values()))]
        if not found:
            raise ValueError(f"{files[0]}: lists no episodes")
        found.sort(key=lambda row: int(row["episode_index"]))
        twice = [
            one["episode_index"] for one, other in pairwise(found) if one["episode_index"] == other["episode_index"]
        ]
        if twice:
            raise ValueError(f"{files[0].parent.parent}: episode {twice[0]} is listed twice")
        return found

    @property
    def _filmed(self) -> bool:
        return str(self.info["features"][self.camera]["dtype"]) == "video"

    def _rows(self) -> dict[int, dict[str, Any]]:
        """Return the rows of each episode: what was done and happened, and where they are."""
        features = self.info["features"]
        told = [name for name in TOLD if name in features]
        parts: dict[int, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
        shape: tuple[int, ...] | None = None  # of an action
        for file in sorted((self.path / "data").glob("*/*.parquet")):
            table = self._table(file, ["episode_index", "frame_index", ACTION, *told])
            columns = {
                name: _numbers(table.column(name), f"{file}: {name}", single=name != ACTION)
                for name in table.column_names
            }
            for name in ("episode_index", "frame_index"):
                _check_natural(columns[name], f"{file}: {name}")
            for name in (ACTION, *told):
                choices = name == ACTION and "int" in str(features[ACTION]["dtype"])
                check_finite(columns[name], what=f"{file}", name=name, whole=choices)
            found = columns[ACTION].shape[1:]
            if len(columns[ACTION]) and (0 in found or found != (found if shape is None else shape)):
                raise ValueError(f"{file}: actions of shape {found}; every one has as many numbers, 1 or more")
            shape = found if len(columns[ACTION]) else shape
            index = columns.pop("episode_index")
            borders = np.flatnonzero(np.diff(index, prepend=index[:1] - 1)).tolist()
            for first, stop in zip(borders, [*borders[1:], len(index)]):
                one = parts[int(index[first])]
                one["where"].append((file, int(first)))
                for name, values in columns.items():
                    one[name].append(values[first:stop])
        return {
            number: {name: np.concatenate(some) if name != "where" else some for name, some in one.items()}
            for number, one in parts.items()
        }

    def _span(self, said: Mapping[str, Any], rows: Mapping[str, Any] | None) -> Span:
        """Check an episode's rows against what is said of it and against its video."""
        number, length = int(said["episode_index"]), int(said["length"])
        if rows is None or len(rows[ACTION]) != length:
            have = 0 if rows is None else len(rows[ACTION])
            raise ValueError(f"{self.path}: episode {number} has {have} rows under data, meta/episodes says {length}")
        (file, row), *more = rows["where"]
        name = f"{file}, episode {number}"
        where = self.info["data_path"].format(
            video_key=self.camera, chunk_index=said["data/chunk_index"], file_index=said["data/file_index"]
        )
        if file != self.path / where:
            raise ValueError(f"{file} has the rows of episode {number}; they are in {where} by what meta/episodes says")
        if more or (rows["frame_index"] != np.arange(length)).any():
            bad = 0 if more else int(np.flatnonzero(rows["frame_index"] != np.arange(length))[0])
            raise ValueError(f"{file}: row {row + bad}: frame_index of episode {number} does not count up from 0")
        if self._filmed:
            chunk, index, begin, end = (
                said[f"videos/{self.camera}/{x}"]
                for x in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
            )
            path = self._under(self.info["video_path"], video_key=self.camera, chunk_index=chunk, file_index=index)
            video = open_video(path)
            first, stop = video.between(float(begin), float(end))
            if stop - first != length:
                raise ValueError(
                    f"{path}: {stop - first} frames from second {begin:g} to {end:g}, where episode {number} has "
                    f"{length} rows; is the file whole?"
                )
            if abs((end - begin) * self.fps - length) > max(0.6, FPS_SHARE * length):
                rate = length / (end - begin)
                raise ValueError(
                    f"{self.path}/meta/info.json: fps is {self.fps:g}; episode {number} in {path} has {rate:g} a second"
                )
            self._pictures[number] = video, first
        else:
            self._pictures[number] = _Images(file, self.camera, row), 0
        steps = {ACTION: embedded(self.parts, rows[ACTION])}
        for column, known in TOLD.items():
            if column in rows:
                steps[known] = rows[column].astype(np.float32 if known == "reward" else bool)
        if "terminated" in steps and steps["terminated"][:-1].any():
            bad = row + int(np.flatnonzero(steps["terminated"])[0])
            raise ValueError(f"{file}: row {bad}: next.done before the end of episode {number}")
        if len(steps) == 1:  # nothing is known of what the last action led to
            steps = {ACTION: steps[ACTION][:-1]}
        return Span(name, number, 0, length, steps)

    def _size(self) -> tuple[int, int]:
        """Return width and height, the same of all videos."""
        sizes = {(one.width, one.height): one.path for one, _ in self._pictures.values() if isinstance(one, Video)}
        if len(sizes) > 1:
            (a, first), (b, second) = list(sizes.items())[:2]
            raise ValueError(f"{second}: frames of {b[0]}x{b[1]}, {first} has {a[0]}x{a[1]}; one size is learned from")
        if sizes:
            return next(iter(sizes))
        height, width = _picture_shape(self.info["features"][self.camera])
        return width, height


def _read_info(path: Path) -> dict[str, Any]:
    """Return ``meta/info.json``."""
    file = path / "meta" / "info.json"
    if not file.is_file():
        raise ValueError(f"{path} is no LeRobot dataset: there is no meta/info.json in it")
    info = read_table(file)
    if not {"codebase_version", "fps", "features", "data_path"} <= info.keys():
        raise ValueError(f"{file}: no codebase_version, fps, features and data_path in it")
    if not str(info["codebase_version"]).startswith(VERSION):
        raise ValueError(
            f"{file}: format {info['codebase_version']}, {VERSION} is read; lerobot has a script that converts"
        )
    if type(info["fps"]) not in (int, float) or not 0 < info["fps"] <= MOST_FPS:
        raise ValueError(f"{file}: fps is {str(info['fps'])[:40]!r}; frames a second, up to {MOST_FPS}")
    features = info["features"]
    if not isinstance(features, dict) or not all(isinstance(one, dict) and "dtype" in one for one in features.values()):
        raise ValueError(f"{file}: features is {str(features)[:80]!r}; a table with the dtype of each")
    if not _names_files(info["data_path"]):
        raise ValueError(
            f"{file}: data_path is {str(info['data_path'])[:80]!r}; expected a path with {{chunk_index:03d}} and "
            "{file_index:03d}"
        )
    template = info.get("video_path")
    if any(one["dtype"] == "video" for one in features.values()) and not _names_files(template):
        raise ValueError(
            f"{file}: video_path is {str(template)[:80]!r}; expected a path with {{video_key}}, {{chunk_index:03d}} "
            "and {file_index:03d}"
        )
    for name, one in features.items():
        shape = one.get("shape")
        if one["dtype"] == "image" and not (_whole_numbers(shape) and len(shape) == 3):
            raise ValueError(f"{file}: features.{name}.shape is {str(shape)[:80]}; a picture has three sizes")
    if ACTION not in features or not (
        "float" in str(features[ACTION]["dtype"]) or "int" in str(features[ACTION]["dtype"])
    ):
        raise ValueError(f"{file}: no feature 'action' of numbers; a world is commanded by it")
    return info


def _names_files(template: Any) -> bool:
    """Tell whether this is a path with numbers to be filled in."""
    if not isinstance(template, str) or "\0" in template or not template:
        return False
    rest = re.sub(r"\{(video_key|(chunk|file)_index(:0?[0-9]d)?)\}", "", template)
    return not set("{}") & set(rest)


def _whole_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(type(one) is int and one > 0 for one in values)


def _choose_camera(path: Path, features: Mapping[str, Any], asked: str) -> str:
    """Return the name of the camera that was asked for, or of the only one."""
    cameras = [
        name for name, one in features.items() if one["dtype"] in ("video", "image") and not _is_depth(one.get("info"))
    ]
    if not cameras:
        raise ValueError(f"{path}: no feature is a video or an image, so there are no pictures to learn from")
    if asked and asked not in cameras:
        raise ValueError(f"{path}: no camera {asked!r}; it has {', '.join(cameras)}")
    if not asked and len(cameras) > 1:
        raise ValueError(f"{path}: {len(cameras)} cameras; choose one with --camera: {', '.join(cameras)}")
    return asked or cameras[0]


def _is_depth(told: Any) -> bool:
    return isinstance(told, dict) and bool(told.get("video.is_depth_map"))


def _picture_shape(feature: Mapping[str, Any]) -> tuple[int, int]:
    """Return height and width of a feature, whichever way round its axes are."""
    shape, told = feature["shape"], feature.get("names")
    names = [str(x) for x in told] if isinstance(told, list) else []
    first = names[0].startswith("c") if names else shape[0] == 3
    return (shape[1], shape[2]) if first else (shape[0], shape[1])


def _numbers(column: Any, what: str, *, single: bool = False) -> Array:
    """Return a column as an array (rows, ...); of a ``single`` number in each row (rows,)."""
    if column.null_count:
        rows = np.flatnonzero(np.asarray(column.is_null()))
        raise ValueError(f"{what}: row {rows[0]} is empty")
    compute = import_extra("pyarrow.compute", extra="data", needs="LeRobot datasets are read with pyarrow")
    kind = str(column.type)
    if single and "list" in kind:
        raise ValueError(f"{what}: {kind}, where one number in each row is read")
    flat = compute.list_flatten(column) if "list" in kind else column
    values: Array = flat.to_numpy()
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{what}: {kind}, where numbers are read")
    if "list" not in kind:
        return values
    lengths = compute.list_value_length(column).to_numpy()
    if len(lengths) and (lengths != lengths[0]).any():
        row = int(np.flatnonzero(lengths != lengths[0])[0])
        raise ValueError(f"{what}: row {row} has {lengths[row]} numbers, those before it {lengths[0]}")
    return values.reshape(len(column), int(lengths[0]) if len(lengths) else 0)


def _check_natural(values: Array, what: str) -> None:
    """Refuse a column of counts and indices with what is none."""
    if values.dtype.kind not in "iu":
        raise ValueError(f"{what} holds {values.dtype}, where whole numbers are read")
    if (values < 0).any():
        row = int(np.flatnonzero(values < 0)[0])
        raise ValueError(f"{what}: row {row} is {values[row]}, where numbers from 0 on are read")
