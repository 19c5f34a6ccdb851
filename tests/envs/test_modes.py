"""Every way to give actions and to see."""

from typing import Any

import numpy as np
import pytest
import torch

import worldenv  # noqa: F401
from tests.envs.test_vector_env import FORWARD, LEFT, RIGHT, H, W, images, make
from worldenv.world.world import World


@pytest.mark.parametrize(
    "mode", ["basic", "basic5", "discrete", "keys", "keys_per_latent", "camera", "camera_per_latent"]
)
def test_every_action_mode_steps(tiny_world: World, mode: str) -> None:
    envs = make(tiny_world, 2, action_mode=mode)
    envs.reset(seed=0)
    envs.action_space.seed(0)
    for _ in range(2):
        obs, *_, info = envs.step(envs.action_space.sample())
    assert obs in envs.observation_space
    assert np.isfinite(info["c2w"]).all()


@pytest.mark.parametrize("mode", ["image", "stack", "chunk", "dict", "latent"])
@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_every_obs_mode(tiny_world: World, mode: str, output: str) -> None:
    envs = make(tiny_world, 2, "revisit", obs_mode=mode, output=output)
    obs, _ = envs.reset(seed=0)
    stepped, reward, *_ = envs.step(np.array([FORWARD, RIGHT]))
    for each in (obs, stepped):
        arrays = each if isinstance(each, dict) else {"": each}
        assert all(isinstance(v, np.ndarray if output == "numpy" else torch.Tensor) for v in arrays.values())
        plain = {k: np.asarray(v) for k, v in arrays.items()}
        assert (plain if isinstance(each, dict) else plain[""]) in envs.observation_space
    assert isinstance(reward, np.ndarray if output == "numpy" else torch.Tensor)
    assert envs.metadata.get("torch", False) == (output == "torch")


def test_obs_modes_show_the_same_frames(tiny_world: World) -> None:
    kinds = ("image", "stack", "chunk", "dict")
    shown = {}
    for kind in kinds:
        envs = make(tiny_world, 2, "revisit", obs_mode=kind)
        start = envs.reset(seed=0)[0]
        shown[kind] = (start, envs.step(np.array([FORWARD, RIGHT]))[0])
    chunk = shown["chunk"][1]
    assert chunk.shape == (2, 16, H, W, 3)
    np.testing.assert_array_equal(shown["image"][1], chunk[:, -1])
    np.testing.assert_array_equal(shown["dict"][1]["image"], chunk[:, -1])
    stack = shown["stack"][1].reshape(2, H, W, 4, 3)
    for i in range(4):
        np.testing.assert_array_equal(stack[:, :, :, i], chunk[:, 12 + i])
    start = shown["image"][0]
    assert all((shown["chunk"][0][:, t] == start).all() for t in range(16)), "at reset the start view repeated"
    assert (shown["stack"][0].reshape(2, H, W, 4, 3) == start[:, :, :, None]).all()


def test_latents_are_those_of_the_engine(tiny_world: World) -> None:
    envs = make(tiny_world, 2, "revisit", obs_mode="latent", max_episode_steps=2)
    first = envs.reset(seed=0)[0]
    assert first.shape == (2, 4, *tiny_world.latent_shape)
    assert (first == first[:, :1]).all(), "after a reset latent 0, repeated"
    moved = envs.step(np.array([0, 1]))[0]
    np.testing.assert_array_equal(moved, envs.core.dynamics.newest_latents().numpy())  # type: ignore[attr-defined]
    again = envs.step(np.array([0, 1]))[0]
    assert (again == again[:, :1]).all(), "reset in the same step"


def test_goal_and_pose_observations(tiny_world: World) -> None:
    envs = make(tiny_world, 2, obs_keys=["goal", "c2w"])
    obs, _ = envs.reset(seed=0)
    np.testing.assert_allclose(obs["goal"], [[0, 0, 3, 0]] * 2, atol=1e-6)
    obs, *_ = envs.step(np.array([FORWARD, RIGHT]))
    np.testing.assert_allclose(obs["goal"][0], [0, 0, 2, 0], atol=1e-5)
    np.testing.assert_allclose(obs["goal"][1, 3], -np.pi / 4, atol=1e-5)
    assert obs["goal"][1, 0] < 0, "turned right, so the goal lies to the left"
    np.testing.assert_allclose(obs["c2w"][0, 2, 3], 1, atol=1e-6)


def test_small_excess_is_forgiven_and_clipping_clips(tiny_world: World) -> None:
    poses = []
    for value, clip in ((1.0, False), (1.0 + 5e-6, False), (7.0, True)):
        envs = make(tiny_world, 1, action_mode="camera", clip_actions=clip)
        envs.reset(seed=0)
        poses.append(envs.step(np.full((1, 5), value))[4]["c2w"])
    np.testing.assert_array_equal(poses[0], poses[1])
    np.testing.assert_array_equal(poses[0], poses[2])
    with pytest.raises(ValueError, match="NaN"):
        envs.step(np.full((1, 5), np.nan))


def test_equal_commands_in_every_action_mode(tiny_world: World) -> None:
    """Forward and right for a chunk says the same in keys, labels, per latent and as camera motion."""
    said: dict[str, Any] = {
        "keys": [[1, 1]],
        "discrete": [10],
        "keys_per_latent": [[1, 1] * 4],
        "camera": [[1.0, 0, 0, 1, 0]],
        "camera_per_latent": [[1.0, 0, 0, 1, 0] * 4],
    }
    results = []
    for mode, action in said.items():
        envs = make(tiny_world, 1, action_mode=mode)
        envs.reset(seed=0)
        obs, *_, info = envs.step(np.array(action))
        results.append((images(obs), info["c2w"]))
    for obs, c2w in results[1:]:
        np.testing.assert_array_equal(obs, results[0][0])
        np.testing.assert_allclose(c2w, results[0][1], atol=1e-9)


@pytest.mark.parametrize("output", ["numpy", "torch"])
@pytest.mark.parametrize("mode", ["image", "chunk", "stack", "latent", "dict"])
def test_observations_are_never_written_again(tiny_world: World, mode: str, output: str) -> None:
    envs, plain = (make(tiny_world, 2, "revisit", obs_mode=mode, output=output, max_episode_steps=2) for _ in range(2))

    def arrays(obs: Any) -> list[Any]:
        return list(obs.values()) if isinstance(obs, dict) else [obs]

    held = [(a, np.asarray(a).copy()) for a in arrays(envs.reset(seed=0)[0])]
    plain.reset(seed=0)
    for _ in range(3):
        result = envs.step(np.array([FORWARD, RIGHT]))
        held += [(a, np.asarray(a).copy()) for a in (*arrays(result[0]), *result[1:4])]
        held += [(v, v.copy()) for v in result[4].values() if isinstance(v, np.ndarray) and v.dtype != object]
    for array, copy in held:
        np.testing.assert_array_equal(np.asarray(array), copy)
    for array, _ in held:
        array[:] = 0  # what the caller does with them is none of the environment's business
    for _ in range(3):
        plain.step(np.array([FORWARD, RIGHT]))
    a, b = envs.step(np.array([LEFT, LEFT])), plain.step(np.array([LEFT, LEFT]))
    for x, y in zip((*arrays(a[0]), *a[1:4]), (*arrays(b[0]), *b[1:4]), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_actions_may_be_tensors(tiny_world: World) -> None:
    one, two = make(tiny_world, 2), make(tiny_world, 2)
    one.reset(seed=0)
    two.reset(seed=0)
    a, b = one.step(np.array([1, 2])), two.step(torch.tensor([1, 2]))
    np.testing.assert_array_equal(images(a[0]), images(b[0]))
