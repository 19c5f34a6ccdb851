"""Recording goes on where it was, and ends with an error where it must."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.data.turntable import GYM, clips_of
from worldenv.data.record import RecordConfig, record
from worldenv.data.schema import read_shard, shard_paths


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
