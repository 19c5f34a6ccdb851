"""Datasets of LeRobot's format v3, in and out again, and what of them is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.foreign import SIZE, pictures, write_lerobot, write_video
from tests.data.turntable import clips_of
from worldenv import World
from worldenv.data.lerobot_writer import write_lerobot as write_lerobot_set
from worldenv.data.record import RecordConfig, make_source, record
from worldenv.data.schema import Clip
from worldenv.data.sources.lerobot import LeRobot
from worldenv.dynamics.environment import ActionPart
from worldenv.dynamics.spec import WorldSpec
from worldenv.play.generated import generated

EVERY_FRAME = WorldSpec(frames_per_latent=1, chunk_latents=1)
ROWS = "data/chunk-000/file-000.parquet"


def asked(folder: Path, **changes: Any) -> RecordConfig:
    return replace(RecordConfig(env=f"lerobot:{folder}", num_latents=16, spec=EVERY_FRAME), **changes)


def test_a_dataset_is_recorded_frame_by_frame(in_process: None, tmp_path: Path) -> None:
    """Episodes of 20, 10 and 30 rows, the last of which is held out; each row is what was done at its frame."""
    actions = write_lerobot(tmp_path / "pusher", [20, 10, 30])
    record(asked(tmp_path / "pusher", num_latents=16), tmp_path / "out")
    (clip,) = clips_of(tmp_path / "out")
    assert clip.frames.shape == (17, SIZE[1], SIZE[0], 3)
    levels = clip.frames[:, 0, 0, 0].astype(int)
    assert (abs(levels - (10 + 4 * np.arange(17))) <= 2).all()
    assert not clip.signals["action"][0].any()
    assert np.array_equal(clip.signals["action"][1:], actions[:16])  # what was done on the way to each frame
    spec = json.loads((tmp_path / "out" / "recording.json").read_text())["spec"]
    assert (spec["fps"], spec["environment"]["id"]) == (10, "lerobot:pusher")
    (part,) = spec["environment"]["actions"]
    assert part["kind"] == "box"
    assert np.allclose(part["low"], actions.min(0))


def test_rewards_and_ends_are_kept_where_the_last_picture_stands_for_what_was_not_recorded(
    in_process: None, tmp_path: Path
) -> None:
    write_lerobot(tmp_path / "pusher", [20, 30, 16])
    record(asked(tmp_path / "pusher", num_latents=20), tmp_path / "out")
    first, second = clips_of(tmp_path / "out")
    assert first.signals["reward"].tolist() == [0] * 20 + [1]
    assert np.flatnonzero(first.signals["terminated"]).tolist() == [20]
    assert np.array_equal(first.frames[19], first.frames[20])
    assert not second.signals["reward"].any()  # the next episode; what is left of it fills no clip
    record(asked(tmp_path / "pusher", first_seed=900_000, clips=5), tmp_path / "heldout")
    (held_out,) = clips_of(tmp_path / "heldout")  # the last episode
    assert abs(int(held_out.frames[0, 0, 0, 0]) - (10 + 4 * 50)) <= 2
    assert held_out.signals["reward"].sum() == 1


def test_four_frames_a_latent_hold_the_mean_of_what_was_done(in_process: None, tmp_path: Path) -> None:
    actions = write_lerobot(tmp_path / "pusher", [20, 11, 30], rewards=False)
    record(asked(tmp_path / "pusher", num_latents=6, spec=WorldSpec(chunk_latents=2), size=(24, 16)), tmp_path / "out")
    (clip,) = clips_of(tmp_path / "out")
    assert clip.frames.shape == (25, 16, 24, 3)
    assert clip.signals["is_first"].tolist() == [True, False, False, False, False, True, False]
    for latent, row in ((1, 0), (4, 12), (6, 20)):  # the episode of 20 shows 4 latents behind its first frame
        assert np.allclose(clip.signals["action"][latent], actions[row : row + 4].mean(0), atol=1e-6)
    levels = clip.frames[:, 0, 0, 0].astype(int)
    assert len({*levels[17:21]}) == 1  # a later start view stands for a latent
    assert abs(levels[21] - (10 + 4 * 21)) <= 2
    assert not clip.signals["reward"].any()


def test_pictures_in_the_rows(in_process: None, tmp_path: Path) -> None:
    folder = tmp_path / "pusher"
    write_lerobot(folder, [20, 10])
    info = json.loads((folder / "meta" / "info.json").read_text())
    info["features"]["observation.images.top"]["dtype"] = "image"
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    table = pq.read_table(folder / ROWS)
    cells = [{"bytes": iio.imwrite("<bytes>", one, extension=".png"), "path": None} for one in pictures(30)]
    pq.write_table(table.append_column("observation.images.top", pa.array(cells)), folder / ROWS, row_group_size=7)
    record(asked(folder), tmp_path / "out")
    (clip,) = clips_of(tmp_path / "out")
    assert np.array_equal(clip.frames, pictures(17))


def _rewrite(folder: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(folder / ROWS)), folder / ROWS)


def _set(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def _with_nan(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        def change(table: pa.Table) -> pa.Table:
            values = table.column(name).to_pylist()
            values[13] = [0.0, float("nan")] if name == "action" else float("nan")
            return _set(table, name, pa.array(values, table.schema.field(name).type))

        _rewrite(folder, change)

    return spoil


def _edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        info = json.loads((folder / "meta" / "info.json").read_text())
        change(info)
        (folder / "meta" / "info.json").write_text(json.dumps(info))

    return spoil


CAMERA = "observation.images.top"


def _told(name: str, values: Any, file: str = "meta/episodes/chunk-000/file-000.parquet") -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        pq.write_table(_set(pq.read_table(folder / file), name, pa.array(values)), folder / file)

    return spoil


def _unlisted(folder: Path) -> None:
    file = folder / "meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(file).slice(0, 1), file)


def _of_halves(folder: Path) -> None:
    _edit(lambda info: info["features"]["action"].update(dtype="int64"))(folder)


def _in_two_files(folder: Path) -> None:
    """Put the last rows into a file of their own, where actions have a number more."""
    table = pq.read_table(folder / ROWS)
    wider = _set(table.slice(25), "action", pa.array([[0.0] * 3] * 5, pa.list_(pa.float32())))
    pq.write_table(wider, folder / ROWS.replace("000.p", "001.p"))
    pq.write_table(table.slice(0, 25), folder / ROWS)


VIDEO = "videos/observation.images.top/chunk-000/file-000.mp4"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_with_nan("action"), r"file-000.parquet: row 13: action is \[ *0. +nan\]"),
        (_with_nan("next.reward"), r"file-000.parquet: row 13: next.reward is nan"),
        (lambda f: _rewrite(f, lambda t: t.slice(0, 29)), "episode 1 has 9 rows under data, meta/episodes says 10"),
        (lambda f: (f / ROWS).write_bytes((f / ROWS).read_bytes()[:-200]), r"file-000.parquet: cannot be read"),
        (lambda f: (f / VIDEO).write_bytes((f / VIDEO).read_bytes()[:-200]), r"file-000.mp4: cannot be read"),
        (lambda f: write_video(f / VIDEO, pictures(25)), r"mp4: 5 frames from second 2 to 3, .* episode 1 has 10 rows"),
        (
            lambda f: _rewrite(f, lambda t: _set(t, "action", pa.array(["left"] * 30))),
            "action: string, where numbers are read",
        ),
        (_edit(lambda i: i["features"].pop("observation.images.top")), "there are no pictures to learn from"),
        (_edit(lambda i: i["features"].pop("action")), "no feature 'action' of numbers"),
        (_edit(lambda i: i.update(codebase_version="v2.1")), "format v2.1, v3 is read"),
        (_edit(lambda i: i.update(video_path="../../{video_key}.mp4")), "leads out of the dataset"),
        (_edit(lambda i: i.update(fps=1.5)), r"info.json: fps is 1.5; episode 0 in .*mp4 has 10 a second"),
        (_edit(lambda i: i.update(data_path=3)), "info.json: data_path is '3'; expected a path with"),
        (_edit(lambda i: i.update(data_path="data/{nothing}")), "data_path is 'data/{nothing}'; expected a path"),
        (
            _told("data/chunk_index", [0, 2**62]),
            r"has the rows of episode 1; they are in data/chunk-4611686018427387904/",
        ),
        (
            _told("data/file_index", [0, -5]),
            "episodes/.*parquet: data/file_index: row 1 is -5, where numbers from 0 on",
        ),
        (_told("episode_index", [0.0, 1.5]), "parquet: episode_index holds float64, where whole numbers are read"),
        (_told("length", [True, True]), "parquet: length holds bool, where whole numbers are read"),
        (_told(f"videos/{CAMERA}/file_index", [0.0, 0.0]), "file_index holds float64, where whole numbers are read"),
        (_told(f"videos/{CAMERA}/to_timestamp", [2.0, np.nan]), "row 1: videos/.*/to_timestamp is nan"),
        (_told("frame_index", [-1] * 30, ROWS), "frame_index: row 0 is -1, where numbers from 0 on are read"),
        (
            _told("action", pa.array([[]] * 30, pa.list_(pa.float32())), ROWS),
            r"file-000.parquet: actions of shape \(0,\)",
        ),
        (lambda f: _rewrite(f, lambda t: t.slice(0, 0)), "pusher/data: no rows"),
        (_unlisted, "file-000.parquet: has rows of episode 1, which meta/episodes does not list"),
        (_of_halves, r"file-000.parquet: row 0: action is \[.*; choices are whole numbers"),
        (_in_two_files, r"file-001.parquet: actions of shape \(3,\); every one has as many"),
        (
            _edit(lambda i: i["features"].update(wrist=i["features"]["observation.images.top"])),
            "2 cameras; choose one with --camera: observation.images.top, wrist",
        ),
    ],
)
def test_what_cannot_be_learned_from_is_refused_by_file_and_row(
    tmp_path: Path, spoil: Callable[[Path], Any], said: str
) -> None:
    write_lerobot(tmp_path / "pusher", [20, 10])
    spoil(tmp_path / "pusher")
    with pytest.raises(ValueError, match=said):
        make_source(asked(tmp_path / "pusher"))


def test_sizes_and_lengths_that_no_stage_trains_on_are_refused(tmp_path: Path) -> None:
    write_lerobot(tmp_path / "pusher", [20, 10])
    with pytest.raises(ValueError, match=r"shows 30x32 frames; .* multiples of 8: pass --size 32 32"):
        make_source(asked(tmp_path / "pusher", size=(30, 32)))
    with pytest.raises(ValueError, match=r"episodes hold 20 frames in all, a clip of num_latents=64 65; pass .* 20 or"):
        make_source(asked(tmp_path / "pusher", num_latents=64))
    with pytest.raises(ValueError, match="is no LeRobot dataset"):
        make_source(asked(tmp_path))


def test_a_recording_goes_out_and_comes_in_again(in_process: None, tmp_path: Path) -> None:
    """Dict actions, two episodes, four frames a latent; the last picture of an episode is not kept."""
    parts = (
        ActionPart(name="by", kind="box", shape=(2,), low=(-1.0,) * 2, high=(1.0,) * 2, dtype="float32"),
        ActionPart(name="gear", kind="discrete", counts=(3,), least=(-1,)),
    )
    rng = np.random.default_rng(0)
    action = np.concatenate([rng.uniform(-1, 1, (10, 2)), np.eye(3)[rng.integers(0, 3, 10)]], 1).astype(np.float32)
    first, ended = np.zeros(10, bool), np.zeros(10, bool)
    first[[0, 5]], ended[4] = True, True
    signals = {"action": action, "is_first": first, "terminated": ended, "reward": ended.astype(np.float32)}
    clip = Clip(pictures(37), signals)
    assert write_lerobot_set(tmp_path / "set", [clip], fps=24, task="turn", parts=parts) == (2, 32)
    reader = LeRobot(tmp_path / "set")
    assert (reader.width, reader.height, reader.fps) == (*SIZE, 24)
    one, two = reader.spans
    assert (one.num_frames, one.num_steps, two.num_steps) == (16, 16, 16)
    assert np.allclose(one.steps["action"][::4, :2], action[1:5, :2])
    assert np.array_equal(one.steps["action"][::4, 2], action[1:5, 2:].argmax(1) - 1)
    assert np.flatnonzero(one.steps["reward"]).tolist() == [15]
    assert (one.ended, two.ended) == (True, False)
    shown = np.stack([*reader.frames(two, 0, 16)])
    assert (abs(shown[:, 0, 0, 0].astype(int) - clip.frames[20:36, 0, 0, 0]) <= 2).all()
    statistics = json.loads((tmp_path / "set" / "meta" / "stats.json").read_text())
    assert np.shape(statistics["observation.images.world"]["mean"]) == (3, 1, 1)
    assert pandas_index(tmp_path / "set" / "meta" / "tasks.parquet") == ["task"]
    with pytest.raises(ValueError, match="is not empty; pass another one"):
        write_lerobot_set(tmp_path / "set", [clip], fps=24, task="turn")


def test_what_a_world_generates_goes_out(tiny_world: World, tmp_path: Path) -> None:
    clips = list(generated(tiny_world, episodes=2, chunks=2, seed=0))
    count, frames = write_lerobot_set(tmp_path / "set", clips, fps=24, task="walk")
    assert (count, frames) == (2, 2 * 2 * tiny_world.spec.chunk_frames)
    (part,) = LeRobot(tmp_path / "set").parts
    assert part.kind == "multi_discrete"  # key codes


def pandas_index(path: Path) -> list[str]:
    return list(json.loads(pq.read_schema(path).metadata[b"pandas"])["index_columns"])
