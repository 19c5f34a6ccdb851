"""Mazes as sources of clips."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tests.data.turntable import clips_of
from worldenv.base.config import load_toml
from worldenv.data import record as recording
from worldenv.data.record import RecordConfig, record
from worldenv.data.schema import Clip, read_shard, write_shard
from worldenv.data.trajectories import TrajectoryConfig
from worldenv.dynamics.labels import CLASSES
from worldenv.dynamics.spec import WorldSpec
from worldenv.sims import MAZES, clearance, generate_maze


@pytest.mark.sim
def test_the_simulator_is_recorded_alike_by_any_number_of_workers(sims: None, tmp_path: Path) -> None:
    config = RecordConfig(clips=2, num_latents=8, clips_per_shard=1, first_seed=3)
    record(config, tmp_path / "two", workers=2)
    record(dataclasses.replace(config, clips=1), tmp_path / "one", workers=1)
    two, one = clips_of(tmp_path / "two"), clips_of(tmp_path / "one")
    assert len(two) == 2
    np.testing.assert_array_equal(two[0].frames, one[0].frames)
    clip = two[0]
    c2w, commanded = clip.signals["c2w"], clip.signals["c2w_commanded"]
    assert clip.frames.shape == (33, 48, 64, 3)
    assert clip.signals["depth"].shape == (33, 48, 64)
    assert c2w.shape == commanded.shape == (9, 4, 4)
    assert clip.signals["keys"][0].tolist() == [0, 0]
    np.testing.assert_allclose(clip.signals["K"], WorldSpec().K.numpy())
    if clip.attributes["kind"] != "acted":
        np.testing.assert_allclose(c2w[:, :3, 3], commanded[:, :3, 3], atol=0.01)


OBJECTS = RecordConfig(
    clips=4,
    num_latents=24,
    clips_per_shard=4,
    first_seed=7,
    spec=WorldSpec(maze="plain-objects"),
    trajectories=TrajectoryConfig(
        out_and_back=0, look_around=0, loop=0, explore=0, acted=0, goals=0.25, walls=0.5, restless=0.25
    ),
)


@pytest.fixture(scope="module")
def with_objects(sims: None) -> list[Clip]:
    source = recording.make_source(OBJECTS)
    clips = [source.clip(index) for index in range(6)]
    source.close()
    return clips


@pytest.mark.sim
def test_mazes_with_objects_are_recorded_with_their_classes_and_distances(
    with_objects: list[Clip], tmp_path: Path
) -> None:
    write_shard(tmp_path / "shard-00000.h5", with_objects, attributes={})
    for clip, read in zip(with_objects, read_shard(tmp_path / "shard-00000.h5"), strict=True):
        seen, distances = read.signals["segmentation"], read.signals["distances"]
        assert seen.shape == clip.frames.shape[:3] == (97, 48, 64)
        objects = json.loads(read.attributes["objects"])
        names = {CLASSES.index(f"{one['colour']} {one['shape']}") for one in objects}
        assert {int(k) - 1 for k in np.unique(seen) if k} <= names
        assert distances.shape == (25, len(CLASSES))
        assert {int(k) for k in np.isfinite(distances[0]).nonzero()[0]} == names
        steps = np.linalg.norm(np.diff(clip.signals["c2w"][:, :3, 3], axis=0), axis=1)
        change = np.abs(np.diff(distances[:, sorted(names)], axis=0)).max(1)
        assert (change <= 1.1 * steps + 0.08).all()
    assert sum(clip.signals["segmentation"].any() for clip in with_objects) >= 3


@pytest.mark.sim
def test_driven_clips_stay_on_free_ground_and_end_elsewhere_than_commanded(with_objects: list[Clip]) -> None:
    blocked = []
    for clip in with_objects:
        c2w, commanded = clip.signals["c2w"], clip.signals["c2w_commanded"]
        maze = generate_maze(clip.attributes["map_seed"], MAZES["plain-objects"])
        assert clearance(maze, c2w[:, [0, 2], 3]).min() > 0.49
        told, went = (np.linalg.norm(np.diff(c[:, :3, 3], axis=0), axis=1) for c in (commanded, c2w))
        assert (went <= told + 0.05).all(), "nobody goes further than told"
        if clip.attributes["kind"] == "walls":
            blocked.append((went < 0.9 * told)[told > 0].mean())
        elif clip.attributes["kind"] == "goals":
            np.testing.assert_allclose(c2w[:, :3, 3], commanded[:, :3, 3], atol=0.01)
        else:
            assert (np.abs(np.diff(clip.signals["camera"][1:], axis=0)).sum(1) > 0).all()
    assert {clip.attributes["kind"] for clip in with_objects} == {"walls", "goals", "restless"}
    assert np.mean(blocked) > 0.15


@pytest.mark.sim
def test_a_larger_recording_shows_the_same_paths(with_objects: list[Clip]) -> None:
    spec = WorldSpec(maze="plain-objects", width=256, height=192)
    source = recording.make_source(dataclasses.replace(OBJECTS, spec=spec, depth=False))
    for index, small in enumerate(with_objects[:1]):
        large = source.clip(index)
        assert large.frames.shape == (97, 192, 256, 3)
        assert "segmentation" not in large.signals
        np.testing.assert_array_equal(large.signals["c2w"], small.signals["c2w"])
        shrunk = large.frames.reshape(97, 48, 4, 64, 4, 3).mean((2, 4))
        assert np.abs(shrunk - small.frames).mean() < 5
        assert np.abs(shrunk - np.roll(small.frames, 8, 2)).mean() > 2 * np.abs(shrunk - small.frames).mean()
    source.close()


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "configs/maze").glob("*_plain.toml")))
def test_styles_are_recorded_alike(path: Path) -> None:
    plain = load_toml(RecordConfig, path)
    classic = load_toml(RecordConfig, path.with_name(path.name.replace("plain", "classic")))
    assert (plain.spec.maze, classic.spec.maze) == ("plain-objects", "classic-objects")
    assert dataclasses.replace(classic, spec=plain.spec) == plain
    assert sum(plain.trajectories.shares.values()) == pytest.approx(1)
    if path.stem.startswith("record"):
        large = load_toml(RecordConfig, path.with_name("record_large.toml"))
        assert (large.trajectories, large.first_seed, large.num_latents) == (
            plain.trajectories,
            plain.first_seed,
            plain.num_latents,
        )
        assert (large.spec.width, large.spec.height) == (4 * plain.spec.width, 4 * plain.spec.height)
    else:
        assert 960_000 <= plain.first_seed < 970_000 - plain.clips, "mazes that no suite has"
