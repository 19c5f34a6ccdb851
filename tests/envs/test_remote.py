"""Remote-v0 against the environment that is served: equal to the last bit, and clear when the server is not there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

pytest.importorskip("uvicorn", reason="the play extra is not installed")
pytest.importorskip("starlette", reason="the play extra is not installed")
pytest.importorskip("websockets", reason="the play extra is not installed")

import worldenv
from worldenv.play.server.app import running
from worldenv.play.server.config import ServeConfig

REMOTE = "worldenv/Remote-v0"


@pytest.fixture(scope="module")
def url(tiny_world_dir: Path) -> Iterator[str]:
    with running(ServeConfig(port=0, worlds=(str(tiny_world_dir),), batch=4)) as where:
        yield f"ws://{where}"


def equal(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[name], b[name]) for name in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.ndarray) and a.dtype == object:
        return a.shape == b.shape and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and (not isinstance(a, np.ndarray) or a.dtype == b.dtype) and np.array_equal(a, b)


def test_fifty_steps_are_equal_to_the_last_bit(url, tiny_world):
    options = {"action_mode": "keys", "max_episode_steps": 60, "chunk_latents": 1}
    remote = gym.make(REMOTE, url=url, env="worldenv/Navigate-v0", batch=False, render_mode="rgb_array", **options)
    local = gym.make("worldenv/Navigate-v0", world=tiny_world, render_mode="rgb_array", **options)
    assert remote.action_space == local.action_space
    assert remote.observation_space == local.observation_space
    assert remote.metadata["render_fps"] == local.metadata["render_fps"]
    assert equal(remote.reset(seed=5), local.reset(seed=5))
    local.action_space.seed(0)
    for _ in range(50):
        action = local.action_space.sample()
        for a, b in zip(remote.step(action), local.step(action), strict=True):
            assert equal(a, b)
        np.testing.assert_array_equal(remote.render(), local.render())
    remote.close()
    with pytest.raises(gym.error.ClosedEnvironmentError):
        remote.unwrapped.step(action)


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_a_vector_env_resets_as_a_local_one_does(url, tiny_world, mode):
    options = {"num_envs": 3, "action_mode": "keys", "max_episode_steps": 2, "chunk_latents": 1}
    remote = gym.make_vec(REMOTE, url=url, env="worldenv/Navigate-v0", batch=False, autoreset_mode=mode, **options)
    local = gym.make_vec("worldenv/Navigate-v0", world=tiny_world, autoreset_mode=mode, **options)
    assert remote.observation_space == local.observation_space
    assert equal(remote.reset(seed=4), local.reset(seed=4))
    local.action_space.seed(0)
    for _ in range(5):
        actions = local.action_space.sample()
        for a, b in zip(remote.step(actions), local.step(actions), strict=True):
            assert equal(a, b)
    mask = np.array([True, False, True])
    assert equal(
        remote.reset(seed=9, options={"reset_mask": mask, "start": [3, None, 1]}),
        local.reset(seed=9, options={"reset_mask": mask, "start": [3, None, 1]}),
    )
    remote.close()


def test_a_batched_one_is_as_near_as_batches_are(url, tiny_world):
    envs = [gym.make(REMOTE, url=url, env="worldenv/Revisit-v0", action_mode="keys") for _ in range(2)]
    local = gym.make("worldenv/Revisit-v0", world=tiny_world, action_mode="keys")
    for env in envs:
        env.reset(seed=1)
    local.reset(seed=1)
    wanted = local.step([1, 0])[0].astype(int)
    for env in envs:
        assert np.abs(env.step([1, 0])[0] - wanted).max() <= 2
        env.close()


def test_it_passes_the_checkers(url):
    env = gym.make(REMOTE, url=url, env="worldenv/Revisit-v0", render_mode="rgb_array")
    check_env(env.unwrapped, skip_close_check=True)
    assert env.unwrapped.get_keys_to_action()
    assert gym.make(gym.spec(env.spec.id), **env.spec.kwargs).observation_space == env.observation_space
    assert gym.envs.registration.EnvSpec.from_json(env.spec.to_json()).kwargs["url"] == url
    env.close()


def test_stable_baselines_and_torchrl_see_it_as_any_other(url):
    pytest.importorskip("stable_baselines3")
    venv = worldenv.envs.sb3.SB3VecEnv(gym.make_vec(REMOTE, num_envs=2, url=url, env="worldenv/Revisit-v0"))
    assert venv.reset().shape == (2, 48, 64, 3)
    assert venv.step(np.zeros(2, np.int64))[1].dtype == np.float32
    venv.close()
    torchrl = pytest.importorskip("torchrl.envs")
    env = torchrl.GymWrapper(gym.make(REMOTE, url=url, env="worldenv/Revisit-v0"))
    assert env.rollout(2)["next", "reward"].shape == (2, 1)
    env.close()


def test_a_lost_connection_is_made_again(url, tiny_world):
    env = gym.make(REMOTE, url=url, env="worldenv/Revisit-v0", action_mode="keys", batch=False).unwrapped
    local = gym.make("worldenv/Revisit-v0", world=tiny_world, action_mode="keys")
    env.reset(seed=1)
    local.reset(seed=1)
    for _ in range(3):
        env.remote.link._socket.socket.shutdown(2)
        np.testing.assert_array_equal(env.step([1, 1])[0], local.step([1, 1])[0])
    env.close()


def test_what_is_refused_is_not_asked_again_and_leaves_no_connection(url):
    with urllib.request.urlopen(url.replace("ws", "http", 1) + "/healthz") as answer:
        before = json.load(answer)["connections"]
    env = gym.make(REMOTE, url=url, env="worldenv/Revisit-v0").unwrapped
    env.reset(seed=1)
    link = env.remote.link
    link._key = "another"
    link._socket.socket.shutdown(2)
    began = time.monotonic()
    with pytest.raises(ConnectionError, match="another key"):
        env.step(0)
    with pytest.raises(ValueError, match="is not served"):
        gym.make(REMOTE, url=url, env="worldenv/Nothing-v0")
    assert time.monotonic() - began < 3
    end = time.monotonic() + 5
    while True:
        with urllib.request.urlopen(url.replace("ws", "http", 1) + "/healthz") as answer:
            if json.load(answer)["connections"] == before:
                break
        assert time.monotonic() < end
    env.close()


def test_wrong_values_are_told_as_locally(url):
    env = gym.make(REMOTE, url=url, env="worldenv/Revisit-v0", action_mode="keys")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="outside"):
        env.unwrapped.step([99, 0])
    with pytest.raises(ValueError, match="64 start views"):
        env.reset(options={"start": 64})
    env.close()
    with pytest.raises(ValueError, match="is not served"):
        gym.make(REMOTE, url=url, env="worldenv/Nothing-v0")
    with pytest.raises(ValueError, match="ws://host:port"):
        gym.make(REMOTE, url="127.0.0.1", env="worldenv/Revisit-v0")
    with pytest.raises(ConnectionError, match="is gone"):
        gym.make(REMOTE, url="ws://127.0.0.1:9", env="worldenv/Revisit-v0")


def test_a_killed_server_is_told_of_within_five_seconds_and_its_session_goes_on_elsewhere(
    url, tiny_world, tiny_world_dir, tmp_path
):
    command = [sys.executable, "-m", "worldenv.cli", "serve", "--port", "0", "--worlds", str(tiny_world_dir)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        other = next(word for word in server.stderr.readline().split() if word.startswith("ws://")).rstrip(";")
        options = {"env": "worldenv/Revisit-v0", "action_mode": "keys", "batch": False}
        env = gym.make(REMOTE, url=other, linger=3.0, **options).unwrapped
        env.reset(seed=1)
        env.step([1, 0])
        env.save_state(tmp_path / "state.safetensors")
        ahead = env.step([1, 1])[0]
        server.send_signal(signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(ConnectionError, match="is gone"):
            env.step([1, 0])
        assert time.monotonic() - began < 5
    finally:
        server.kill()
        server.wait()
    again = gym.make(REMOTE, url=url, **options).unwrapped
    again.load_state(tmp_path / "state.safetensors")
    np.testing.assert_array_equal(again.step([1, 1])[0], ahead)
    again.close()
    local = gym.make("worldenv/Revisit-v0", world=str(tiny_world_dir), action_mode="keys").unwrapped
    local.row.load_state(tmp_path / "state.safetensors")  # a state is a state
    np.testing.assert_array_equal(local.step([1, 1])[0], ahead)


def test_a_full_server_says_so(tiny_world_dir):
    with running(ServeConfig(port=0, worlds=(str(tiny_world_dir),), max_sessions=1)) as where:
        one = gym.make(REMOTE, url=f"ws://{where}", env="worldenv/Revisit-v0", linger=0.0)
        with pytest.raises(ConnectionError, match="its most"):
            gym.make(REMOTE, url=f"ws://{where}", env="worldenv/Revisit-v0")
        one.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "ws://",
        "ws://[",
        "ws://a:99999999",
        "ws://a:b",
        "ws:///",
        "ws://a?b",
        "ws://a#b",
        3,
        None,
        "ws://" + "x" * 99,
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_connected(url):
    with pytest.raises(ValueError, match=r"url=.*; pass ws://host:port"):
        gym.make_vec(REMOTE, num_envs=1, url=url, env="worldenv/Navigate-v0")


def test_what_cannot_be_said_is_refused_as_a_local_environment_does(url, tmp_path):
    """A message that the server cannot read is answered too: nobody waits for an answer to it for ever."""
    with pytest.raises(ValueError, match="not allowed for map key"):
        gym.make_vec(REMOTE, num_envs=2, url=url, env="worldenv/Navigate-v0", task_options={1: 2})
    envs = gym.make_vec(REMOTE, num_envs=2, url=url, env="worldenv/Navigate-v0")
    envs.reset(seed=0)
    for seed in ("x", 1.5, {}, [1, "x"], [None, 1.5], [1], -1):
        with pytest.raises(ValueError, match=r"seeds?"):
            envs.reset(seed=seed)
    for options in ([], "x", 3, {3: 1}):
        with pytest.raises(ValueError, match="options"):
            envs.reset(options=options)
    for action in (None, [[1], [2, 3]], object, np.array([1, 2], object), "x"):
        with pytest.raises(ValueError, match=r"action is .*; it must be numbers|no array"):
            envs.step(action)
    for file in ("nothing", "/dev/zero", ".", "a\x00b"):
        with pytest.raises(ValueError, match=r"cannot be read|which are read"):
            envs.unwrapped.load_state(file)
    for file in ("", "/", "/dev/null/x", "a\x00b"):
        with pytest.raises(OSError, match="cannot be written"):
            envs.unwrapped.save_state(file)
    envs.step([0, 1])
    envs.close()
