import dataclasses
import json
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from worldenv.base.config import load_toml
from worldenv.data import record as recording
from worldenv.data.record import RecordConfig, record
from worldenv.data.schema import Clip, read_shard, shard_paths, write_shard
from worldenv.data.sources.gym import GymSource
from worldenv.data.trajectories import TrajectoryConfig
from worldenv.dynamics.labels import CLASSES
from worldenv.dynamics.spec import WorldSpec
from worldenv.sims import MAZES, clearance, generate_maze


class Turntable(gym.Env[Any, Any]):
    """A picture whose brightness counts the steps; ends after 10, with a pose in its info if asked."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 24}  # noqa: RUF012
    size = (16, 24)

    def __init__(self, render_mode: str | None = None, *, poses: bool = True) -> None:
        self.render_mode, self.poses = render_mode, poses
        self.action_space, self.observation_space = gym.spaces.Discrete(3), gym.spaces.Box(0, 255, (1,))
        self.count, self.offset = 0, 0

    def _info(self) -> dict[str, Any]:
        c2w = np.eye(4)
        c2w[2, 3] = self.count
        return {"c2w": c2w, "K": np.eye(3)} if self.poses else {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.count, self.offset = 0, int(self.np_random.integers(100))
        return np.zeros(1, np.float32), self._info()

    def step(self, action: Any) -> Any:
        self.count += 1
        return np.zeros(1, np.float32), 1.0, self.count >= 10, False, self._info()

    def render(self) -> Any:
        return np.full((*self.size, 3), self.offset + self.count, np.uint8)


gym.register("test/Turntable-v0", entry_point=lambda **k: Turntable(**k), order_enforce=False, disable_env_checker=True)
gym.register(
    "test/TurntableBlind-v0",
    entry_point=lambda **k: Turntable(poses=False, **k),
    order_enforce=False,
    disable_env_checker=True,
)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record in this process: environments registered by a test are unknown in a spawned one."""

    class Here(Executor):
        def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
            done: Future[Any] = Future()
            done.set_result(function(*arguments, **options))
            return done

    monkeypatch.setattr(recording, "worker_pool", lambda count: Here())
    monkeypatch.setattr(recording, "_source", None)


def clips_of(folder: Path) -> list[Clip]:
    return [clip for path in shard_paths(folder) for clip in read_shard(path)]


GYM = RecordConfig(env="test/Turntable-v0", clips=5, num_latents=4, clips_per_shard=2, first_seed=20)


def test_a_gym_env_with_poses(in_process: None, tmp_path: Path) -> None:
    frames = record(GYM, tmp_path)
    clips = clips_of(tmp_path)
    assert frames == 5 * 17
    assert [len(list(read_shard(p))) for p in shard_paths(tmp_path)] == [2, 2, 1]
    for index, clip in enumerate(clips):
        assert clip.frames.shape == (17, 16, 24, 3)
        assert {"c2w", "K"} <= clip.signals.keys()
        assert clip.signals["c2w"].shape == (5, 4, 4)
        assert clip.signals["c2w"][:3, 2, 3].tolist() == [0, 4, 8]
        assert clip.attributes["seed"] == 20 + index
        assert clip.attributes["poses"] == "info"
        assert (np.diff(clip.frames[:9, 0, 0, 0].astype(int)) == 1).all()
    assert len({clip.frames.tobytes() for clip in clips}) == 5


def test_a_gym_env_without_poses(in_process: None, tmp_path: Path) -> None:
    record(dataclasses.replace(GYM, env="test/TurntableBlind-v0", clips=1), tmp_path)
    (clip,) = clips_of(tmp_path)
    assert not {"c2w", "K"} & clip.signals.keys()
    assert clip.attributes["poses"] == "absent"
    spec = json.loads((tmp_path / "recording.json").read_text())["spec"]
    assert list(spec["takes"]) == ["action"]
    assert spec["gives"] == {}
    assert clip.frames.shape == (17, 16, 24, 3)


def test_episodes_that_end_are_marked_and_restarted(in_process: None, tmp_path: Path) -> None:
    """The env ends at step 10, in latent 3 of a chunk of 4, which its last picture fills; then the next one begins."""
    record(dataclasses.replace(GYM, clips=1, num_latents=6), tmp_path)
    (clip,) = clips_of(tmp_path)
    assert clip.signals["terminated"].tolist() == [False, False, False, True, False, False, False]
    assert clip.signals["reward"].tolist() == [0, 4, 4, 2, 0, 0, 4]
    assert clip.signals["c2w"][:, 2, 3].tolist() == [0, 4, 8, 10, 10, 0, 4]
    assert clip.signals["is_first"].tolist() == [True, False, False, False, False, True, False]
    first, second = clip.episodes()
    assert (first.num_latents, second.num_latents) == (5, 2)
    assert (len(first.frames), len(second.frames)) == (17, 5)
    assert (np.diff(second.frames[:, 0, 0, 0].astype(int)) == 1).all()  # its start view once, then four frames
    assert second.signals["K"].shape == (3, 3)


def test_one_frame_a_latent(in_process: None, tmp_path: Path) -> None:
    spec = WorldSpec(frames_per_latent=1, chunk_latents=1)
    blind = dataclasses.replace(GYM, env="test/TurntableBlind-v0", clips=1, num_latents=16, spec=spec)
    record(blind, tmp_path / "frames")
    (clip,) = clips_of(tmp_path / "frames")
    assert clip.frames.shape == (17, 16, 24, 3)
    assert clip.num_latents == 17
    assert [episode.num_latents for episode in clip.episodes()] == [11, 6]
    with pytest.raises(ValueError, match="worlds with a camera have frames_per_latent=4"):
        record(dataclasses.replace(blind, env=GYM.env), tmp_path / "poses")


def test_pictures_are_resized_and_are_observations_where_those_are_some(
    in_process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Turntable, "size", (30, 41))
    record(dataclasses.replace(GYM, clips=1, size=(32, 24)), tmp_path / "small")
    (clip,) = clips_of(tmp_path / "small")
    assert clip.frames.shape[1:] == (24, 32, 3)
    assert (np.diff(clip.frames[:9, 0, 0, 0].astype(int)) == 1).all()


@pytest.mark.parametrize(("reward", "said"), [(float("nan"), "gave the reward nan"), (1.0, None)])
def test_rewards_that_are_no_numbers_are_refused(monkeypatch: pytest.MonkeyPatch, reward: float, said: str) -> None:
    monkeypatch.setattr(Turntable, "step", lambda self, action: (0, reward, False, False, self._info()))
    source = GymSource("test/Turntable-v0", 4, 0, simulators=())
    if said:
        with pytest.raises(ValueError, match=said):
            source.clip(0)
    else:
        assert source.clip(0).signals["reward"].sum() == 16


def test_actions_that_cannot_be_embedded_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Talker(Turntable):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.action_space = gym.spaces.Dict({"say": gym.spaces.Text(8)})

    with monkeypatch.context() as patched:
        patched.setitem(gym.registry, "test/Talker-v0", gym.envs.registration.EnvSpec("test/Talker-v0", Talker))
        with pytest.raises(ValueError, match=r"test/Talker-v0: actions of Text.* under 'say' cannot be embedded"):
            GymSource("test/Talker-v0", 4, 0, simulators=())


def test_unknown_environments_list_the_simulators() -> None:
    with pytest.raises(ValueError, match=r"doom/maze, doom/freedoom"):
        GymSource("nobody/Knows-v0", 4, 0, simulators=tuple(recording.SOURCES))


def test_environments_without_pictures_are_refused(in_process: None, tmp_path: Path) -> None:
    source = GymSource("test/Turntable-v0", 4, 0, simulators=())
    source.env.unwrapped.render = lambda: None  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(ValueError, match="render"):
        source.clip(0)


@pytest.mark.parametrize(
    ("size", "changes", "said"),
    [
        ((210, 160), {}, "Turntable-v0 shows 160x210 frames; no stage trains on sides .* of 8: .* to, 160x208"),
        ((16, 24), {"num_latents": 3}, "num_latents=3: no stage trains on clips this short; pass 4"),
        (
            (16, 24),
            {"spec": WorldSpec(width=32, height=24)},
            r"shows 24x16 frames, \[spec\] says 32x24; leave the size",
        ),
    ],
)
def test_what_no_stage_trains_on_is_refused_before_it_is_recorded(
    in_process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], changes: Any, said: str
) -> None:
    monkeypatch.setattr(Turntable, "size", size)
    with pytest.raises(ValueError, match=said):
        record(dataclasses.replace(GYM, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_without_three_colours_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Turntable, "render", lambda self: np.zeros((16, 24, 4), np.uint8))
    with pytest.raises(ValueError, match=r"\(H, W, 3\) uint8, got uint8 \(16, 24, 4\)"):
        GymSource("test/Turntable-v0", 4, 0, simulators=())


def test_a_gym_recording_says_what_it_shows_and_takes(
    in_process: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(GYM, tmp_path)
    written = json.loads((tmp_path / "recording.json").read_text())["spec"]
    assert (written["width"], written["height"]) == (24, 16)
    assert written["takes"]["action"]["shape"] == [3]
    assert "24x16 frames; a world of it takes action (3,), c2w (4, 4)" in capsys.readouterr().err
    for clip in clips_of(tmp_path):
        assert clip.signals["action"].shape == (5, 3)
        assert not clip.signals["action"][0].any()  # nothing led to the start view
        assert (clip.signals["action"][1:].sum(1) == 1).all()  # one-hot


def test_ids_that_a_module_registers_are_gymnasiums() -> None:
    """``module:Id-v0`` is an environment, ``module:Class`` someone's source."""
    made = recording.make_source(dataclasses.replace(GYM, env="tests.data.test_record:test/Turntable-v0"))
    assert isinstance(made, GymSource)
    with pytest.raises(ValueError, match="unknown environment 'no_such:Thing-v0'"):
        recording.make_source(dataclasses.replace(GYM, env="no_such:Thing-v0"))


def test_resuming_records_missing_shards_only(in_process: None, tmp_path: Path) -> None:
    record(GYM, tmp_path)
    paths = shard_paths(tmp_path)
    before = [p.read_bytes() for p in paths]
    times = [p.stat().st_mtime_ns for p in paths]
    paths[1].write_bytes(before[1][:300])
    assert record(GYM, tmp_path) == 2 * 17
    assert [p.stat().st_mtime_ns for p in paths][::2] == times[::2]
    assert [c.frames.tobytes() for c in read_shard(paths[1])] == [c.frames.tobytes() for c in clips_of(tmp_path)[2:4]]
    assert record(GYM, tmp_path) == 0


def test_a_recording_can_be_extended(in_process: None, tmp_path: Path) -> None:
    """Clip i depends on (seed, i) alone: interrupted, extended or whole, the clips are the same."""
    record(dataclasses.replace(GYM, clips=3), tmp_path / "a")
    record(dataclasses.replace(GYM, clips=6), tmp_path / "a")
    record(dataclasses.replace(GYM, clips=6), tmp_path / "b")
    a, b = (clips_of(tmp_path / name) for name in "ab")
    assert len(a) == 6
    assert [c.frames.tobytes() for c in a] == [c.frames.tobytes() for c in b]


def test_a_recording_killed_as_it_begins_can_be_taken_up(
    in_process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Path, text: str, **options: Any) -> None:
        self.write_bytes(text.encode()[:20])
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", killed)
        with pytest.raises(SystemExit):
            record(GYM, tmp_path)
    assert record(GYM, tmp_path) > 0


NOISY = """
import os, signal, gymnasium as gym, numpy as np

class Noise(gym.Env):
    metadata = {"render_modes": ["rgb_array"]}
    action_space, observation_space = gym.spaces.Discrete(2), gym.spaces.Discrete(2)

    def __init__(self, render_mode=None, fatal=False):
        self.render_mode, self.fatal = render_mode, fatal

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        if self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0, 0.0, False, False, {}

    def render(self):
        return self.np_random.integers(0, 256, (48, 64, 3), dtype=np.uint8)

gym.register("Noise-v0", Noise)
gym.register("Fatal-v0", Noise, kwargs={"fatal": True})
"""


@pytest.fixture
def noisy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordConfig:
    """Incompressible pictures, of an environment that other processes know too."""
    (tmp_path / "noisy_envs.py").write_text(NOISY)
    monkeypatch.syspath_prepend(tmp_path)
    return RecordConfig(env="noisy_envs:Noise-v0", clips=6, num_latents=8, clips_per_shard=1)


def test_a_full_disk_ends_a_recording_with_an_error(noisy: RecordConfig, tmp_path: Path, full_disk: Any) -> None:
    """HDF5 crashes when its file cannot grow, and a pool that does not see its workers die waits for ever."""
    out = tmp_path / "out"
    with full_disk(100_000), pytest.raises(OSError, match=r"shard-0000\d\.h5: could not be written .*is the disk full"):
        record(noisy, out, workers=2)
    assert [path.name for path in out.iterdir()] == ["recording.json"]
    record(dataclasses.replace(noisy, clips=1), out, workers=1)
    assert len(clips_of(out)) == 1


def test_a_worker_that_is_killed_ends_a_recording_with_an_error(noisy: RecordConfig, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"a worker process died .*the same command goes on"):
        record(dataclasses.replace(noisy, env="noisy_envs:Fatal-v0"), tmp_path / "out", workers=2)
    assert not list((tmp_path / "out").glob("*.h5"))


def test_another_configuration_is_refused(in_process: None, tmp_path: Path) -> None:
    record(GYM, tmp_path)
    with pytest.raises(ValueError, match="num_latents=4, asked for 8"):
        record(dataclasses.replace(GYM, num_latents=8), tmp_path)
    (tmp_path / "recording.json").unlink()
    with pytest.raises(ValueError, match=r"no recording\.json"):
        record(GYM, tmp_path)


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
