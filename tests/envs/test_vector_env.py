from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import worldenv  # noqa: F401
from worldenv.engine.world import World
from worldenv.envs.env import WorldEnv
from worldenv.envs.vector_env import WorldVectorEnv
from worldenv.memory.config import POLICIES

FORWARD, BACK, RIGHT, LEFT = range(4)
H, W = 48, 64


def make(world: World, num_envs: int = 3, task: str = "navigate", **kwargs: Any) -> WorldVectorEnv:
    return WorldVectorEnv(num_envs, task=task, world=world, device="cpu", **kwargs)


def images(obs: Any) -> np.ndarray:
    return np.asarray(obs["image"] if isinstance(obs, dict) else obs)


def snapshot(envs: WorldVectorEnv) -> dict[str, Any]:
    """Everything that an episode consists of."""
    rows = list(range(envs.num_envs))
    engine, core = envs.core.dynamics, envs.core
    return {
        **engine.clone_state(rows),  # type: ignore[attr-defined]
        **{f"task.{k}": v.clone() for k, v in core.state.items()},
        "elapsed": core.elapsed.clone(), "frames": core.frames, "stacked": core.stacked,
        "seeds_": list(envs._seeds or []), "episodes": list(envs._episodes), "done": envs._done.copy(),
    }  # fmt: skip


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Name the parts of two snapshots that differ."""
    assert before.keys() == after.keys()
    return [key for key in before if not np.array_equal(np.asarray(before[key]), np.asarray(after[key]))]


def test_shapes_and_types(tiny_world: World) -> None:
    envs = make(tiny_world)
    obs, info = envs.reset(seed=0)
    assert obs in envs.observation_space
    assert isinstance(envs.observation_space, gym.spaces.Dict)
    obs, reward, terminated, truncated, info = envs.step(envs.action_space.sample())
    assert obs in envs.observation_space
    assert (reward.dtype, terminated.dtype, truncated.dtype) == (np.float64, np.bool_, np.bool_)
    assert reward.shape == terminated.shape == truncated.shape == (3,)
    for key in ("c2w_commanded", "c2w", "n_frames", "is_success"):
        assert isinstance(info[key], np.ndarray)
        assert len(info[key]) == 3
        assert info[f"_{key}"].all()
    assert info["n_frames"].tolist() == [16] * 3
    assert "episode" not in info
    assert all(isinstance(value, np.ndarray) for value in info.values())
    assert envs.metadata["autoreset_mode"] == envs.autoreset_mode == AutoresetMode.SAME_STEP


@pytest.mark.parametrize("mode", ["basic", "discrete", "keys", "keys_per_latent", "camera", "camera_per_latent"])
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


BAD_ACTIONS: list[tuple[str, Any, str]] = [
    ("basic", np.array([0, 1]), "shape"),
    ("basic", np.array([[0], [1], [2]]), "shape"),
    ("basic", np.array([0, 1, 4]), "outside"),
    ("basic", np.array([0, -1, 2]), "outside"),
    ("basic", np.array([0.0, 1.0, 2.0]), "integers"),
    ("basic", np.array([True, False, True]), "integers"),
    ("discrete", np.array([0, 81, 1]), "outside"),
    ("keys", np.zeros((3, 2)), "integers"),
    ("keys", np.array([[0, 9]] * 3), "outside"),
    ("keys_per_latent", np.zeros((3, 2), int), "shape"),
    ("camera", np.full((3, 5), np.nan), "NaN"),
    ("camera", np.full((3, 5), np.inf), "NaN"),
    ("camera", np.full((3, 5), 1.1), "outside"),
    ("camera", np.zeros((3, 4)), "shape"),
    ("camera_per_latent", np.zeros((3, 5)), "shape"),
    ("camera", [["a"] * 5] * 3, "."),
]


@pytest.mark.parametrize(("mode", "action", "message"), BAD_ACTIONS)
def test_bad_actions_change_nothing(tiny_world: World, mode: str, action: Any, message: str) -> None:
    envs = make(tiny_world, action_mode=mode)
    envs.reset(seed=0)
    before = snapshot(envs)
    with pytest.raises((ValueError, TypeError), match=message):
        envs.step(action)
    assert changed(before, snapshot(envs)) == []


BAD_RESETS: list[tuple[dict[str, Any], str]] = [
    ({"options": {"strat": 1}}, "'strat'.*start"),
    ({"options": {"prompt": "a castle"}}, "prompt"),
    ({"options": {"image": np.zeros((H, W, 3), np.float32)}}, "uint8"),
    ({"options": {"image": np.zeros((H, W), np.uint8)}}, "shape"),
    ({"options": {"image": np.zeros((2, H, W, 3), np.uint8)}}, "shape"),
    ({"options": {"start": 64}}, "64 start views"),
    ({"options": {"start": [0, 1, -1]}}, "64 start views"),
    ({"options": {"start": [0, 1]}}, "2 entries"),
    ({"options": {"reset_mask": np.array([True, False])}}, "reset_mask"),
    ({"options": {"reset_mask": np.array([1, 0, 1])}}, "reset_mask"),
    ({"options": {"reset_mask": np.zeros(3, bool)}}, "no row"),
    ({"seed": [1, 2]}, "2 seeds"),
    ({"seed": -1}, "."),
    ({"seed": 5, "options": {"start": 64}}, "64 start views"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_RESETS)
def test_bad_resets_change_nothing(tiny_world: World, arguments: dict[str, Any], message: str) -> None:
    envs = make(tiny_world)
    envs.reset(seed=0)
    envs.step(np.array([FORWARD, RIGHT, LEFT]))
    before = snapshot(envs)
    with pytest.raises((ValueError, TypeError, gym.error.Error), match=message):
        envs.reset(**arguments)
    assert changed(before, snapshot(envs)) == []


@pytest.mark.sim
@pytest.mark.parametrize(
    "arguments", [{"seed": 9, "options": {"start": [0, 1, 3]}}, {"options": {"image": np.zeros((H, W, 3), np.uint8)}}]
)
def test_bad_resets_change_nothing_in_a_simulator(maze_world: World, arguments: dict[str, Any]) -> None:
    kwargs: dict[str, Any] = {"task": "revisit", "world": maze_world, "dynamics": "sim", "device": "cpu"}
    envs, plain = (WorldVectorEnv(3, max_episode_steps=2, **kwargs) for _ in range(2))
    envs.reset(seed=0)
    plain.reset(seed=0)
    with pytest.raises(ValueError, match=r"start|image"):
        envs.reset(**arguments)
    for _ in range(3):  # past the autoreset, so that the seeds' streams count too
        a, b = envs.step(np.array([FORWARD, RIGHT, LEFT])), plain.step(np.array([FORWARD, RIGHT, LEFT]))
        np.testing.assert_array_equal(a[0], b[0])
    envs.close()
    plain.close()


def test_steps_before_the_first_reset_are_refused(tiny_world: World) -> None:
    envs = make(tiny_world)
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(np.zeros(3, int))
    with pytest.raises(ValueError, match="every row"):
        envs.reset(options={"reset_mask": np.array([True, False, True])})


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
        "keys": [[1, 1]], "discrete": [10], "keys_per_latent": [[1, 1] * 4],
        "camera": [[1.0, 0, 0, 1, 0]], "camera_per_latent": [[1.0, 0, 0, 1, 0] * 4],
    }  # fmt: skip
    results = []
    for mode, action in said.items():
        envs = make(tiny_world, 1, action_mode=mode)
        envs.reset(seed=0)
        obs, *_, info = envs.step(np.array(action))
        results.append((images(obs), info["c2w"]))
    for obs, c2w in results[1:]:
        np.testing.assert_array_equal(obs, results[0][0])
        np.testing.assert_allclose(c2w, results[0][1], atol=1e-9)


SCRIPT = np.array([[FORWARD, RIGHT, FORWARD], [FORWARD, RIGHT, BACK], [FORWARD, RIGHT, FORWARD], [FORWARD, LEFT, RIGHT],
                   [FORWARD, LEFT, FORWARD], [FORWARD, FORWARD, FORWARD], [FORWARD, FORWARD, FORWARD]])  # fmt: skip


def compare_with_gymnasium(
    make_single: Callable[[], gym.Env[Any, Any]], envs: WorldVectorEnv, mode: AutoresetMode, tolerance: int
) -> list[str]:
    """Step both through rows that end at different times; return what happened."""
    reference = SyncVectorEnv([make_single] * 3, autoreset_mode=mode)

    def close(a: Any, b: Any, where: str) -> None:
        assert np.abs(images(a).astype(int) - images(b).astype(int)).max() <= tolerance, where

    def check_info(a: dict[str, Any], b: dict[str, Any], where: str) -> None:
        assert set(a) == set(b), where
        for key in a:
            if key in ("final_obs", "final_info"):
                continue
            np.testing.assert_array_equal(a[key], b[key], err_msg=f"{where} {key}")

    obs, info = envs.reset(seed=7)
    wanted, wanted_info = reference.reset(seed=7)
    close(obs, wanted, "reset")
    check_info(info, wanted_info, "reset")
    events = []
    for t, action in enumerate(SCRIPT):
        obs, reward, terminated, truncated, info = envs.step(action)
        wanted, *signals, wanted_info = reference.step(action)
        where = f"step {t}"
        close(obs, wanted, where)
        np.testing.assert_allclose(reward, signals[0], atol=1e-9, err_msg=where)
        np.testing.assert_array_equal(terminated, signals[1], err_msg=where)
        np.testing.assert_array_equal(truncated, signals[2], err_msg=where)
        check_info(info, wanted_info, where)
        done = terminated | truncated
        events += ["terminated"] * bool(terminated.any()) + ["truncated"] * bool(truncated.any())
        if mode == AutoresetMode.SAME_STEP and done.any():
            for row in range(3):
                assert (info["final_obs"][row] is None) == (not done[row])
            for row in np.flatnonzero(done):
                close(info["final_obs"][row], wanted_info["final_obs"][row], where)
                for key in ("c2w", "c2w_commanded", "is_success", "n_frames"):
                    a, b = info["final_info"][key][row], wanted_info["final_info"][key][row]
                    np.testing.assert_array_equal(a, b, err_msg=f"{where} final {key}")
                    assert info["final_info"][f"_{key}"].tolist() == done.tolist()
    return events


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_autoreset_as_gymnasiums_own_vector_env(tiny_world: World, mode: AutoresetMode) -> None:
    kwargs: dict[str, Any] = {"task": "navigate", "world": tiny_world, "max_episode_steps": 4, "device": "cpu"}
    envs = WorldVectorEnv(3, autoreset_mode=mode, **kwargs)
    events = compare_with_gymnasium(lambda: WorldEnv(**kwargs), envs, mode, tolerance=3)
    assert {"terminated", "truncated"} <= set(events)


@pytest.mark.sim
@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_the_simulators_vector_env_is_bit_equal_to_single_envs(maze_world: World, mode: AutoresetMode) -> None:
    kwargs: dict[str, Any] = {
        "task": "navigate", "world": maze_world, "dynamics": "sim", "max_episode_steps": 3, "device": "cpu"
    }  # fmt: skip
    envs = WorldVectorEnv(3, autoreset_mode=mode, **kwargs)
    events = compare_with_gymnasium(lambda: WorldEnv(**kwargs), envs, mode, tolerance=0)
    assert "truncated" in events
    envs.close()


def test_disabled_autoreset_waits_for_a_masked_reset(tiny_world: World) -> None:
    envs = make(tiny_world, 3, autoreset_mode="Disabled", max_episode_steps=5)
    envs.reset(seed=0)
    for _ in range(3):
        *_, terminated, truncated, info = envs.step(np.array([FORWARD, RIGHT, LEFT]))
    assert terminated.tolist() == [True, False, False]
    assert "final_obs" not in info
    before = snapshot(envs)
    with pytest.raises(gym.error.ResetNeeded, match=r"\[0\]"):
        envs.step(np.array([FORWARD, RIGHT, LEFT]))
    assert changed(before, snapshot(envs)) == []
    envs.reset(options={"reset_mask": terminated})
    *_, terminated, truncated, _ = envs.step(np.array([FORWARD, RIGHT, LEFT]))
    assert not terminated.any()
    *_, truncated, _ = envs.step(np.array([FORWARD, RIGHT, LEFT]))
    assert truncated.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("name", "mode"), [("SameStep", "SAME_STEP"), ("next_step", "NEXT_STEP"), ("DISABLED", "DISABLED")]
)
def test_autoreset_modes_by_name(tiny_world: World, name: str, mode: str) -> None:
    envs = make(tiny_world, 1, autoreset_mode=name)
    assert envs.autoreset_mode == envs.metadata["autoreset_mode"] == AutoresetMode[mode]
    assert make(tiny_world, 1).metadata["autoreset_mode"] == AutoresetMode.SAME_STEP, "per instance"
    with pytest.raises(ValueError, match="SameStep"):
        make(tiny_world, 1, autoreset_mode="sometimes")


def rollout(envs: WorldVectorEnv, **reset: Any) -> np.ndarray:
    obs = [images(envs.reset(**reset)[0])]
    obs += [images(envs.step(np.full(envs.num_envs, a))[0]) for a in (FORWARD, RIGHT)]
    return np.stack(obs)


def test_an_int_seed_is_seed_plus_row(tiny_world: World) -> None:
    by_int, by_list = rollout(make(tiny_world), seed=5), rollout(make(tiny_world), seed=[5, 6, 7])
    np.testing.assert_array_equal(by_int, by_list)
    np.testing.assert_array_equal(rollout(make(tiny_world), seed=np.int64(5)), by_int)
    assert not np.array_equal(by_int[:, 0], by_int[:, 1])


def test_row_i_is_the_single_env_with_its_seed(tiny_world: World) -> None:
    frames = rollout(make(tiny_world), seed=[11, 3, 11])
    np.testing.assert_array_equal(frames[:, 0], frames[:, 2])
    for row, seed in ((0, 11), (1, 3)):
        env = WorldEnv(task="navigate", world=tiny_world, device="cpu")
        alone = [images(env.reset(seed=seed)[0])] + [images(env.step(a)[0]) for a in (FORWARD, RIGHT)]
        assert np.abs(np.stack(alone).astype(int) - frames[:, row]).max() <= 2
    same_size = rollout(make(tiny_world, 1), seed=3)
    np.testing.assert_array_equal(same_size[:, 0], np.stack(alone))


def test_resets_without_seed_go_on_with_each_rows_stream(tiny_world: World) -> None:
    one, two = make(tiny_world), make(tiny_world)
    for envs in (one, two):
        rollout(envs, seed=5)
    a, b = rollout(one), rollout(two)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, rollout(one, seed=5))
    unseeded, other = make(tiny_world), make(tiny_world)
    assert not np.array_equal(rollout(unseeded), rollout(other))


def test_a_masked_reset_touches_the_masked_rows_only(tiny_world: World) -> None:
    masked, plain = make(tiny_world), make(tiny_world)
    for envs in (masked, plain):
        envs.reset(seed=0)
        shown = envs.step(np.array([FORWARD, RIGHT, LEFT]))[0]
    mask = np.array([False, True, False])
    obs, info = masked.reset(seed=[0, 99, 0], options={"reset_mask": mask, "start": [None, 4, None]})
    np.testing.assert_array_equal(images(obs)[[0, 2]], images(shown)[[0, 2]])
    assert tiny_world.starts is not None
    np.testing.assert_array_equal(images(obs)[1], tiny_world.starts.frames[4].numpy())
    assert info["_c2w"].tolist() == mask.tolist()
    for action in ([FORWARD, RIGHT, LEFT], [LEFT, FORWARD, FORWARD]):
        a, b = masked.step(np.array(action)), plain.step(np.array(action))
        np.testing.assert_array_equal(images(a[0])[[0, 2]], images(b[0])[[0, 2]])
        np.testing.assert_array_equal(a[1][[0, 2]], b[1][[0, 2]])
    assert masked.core.elapsed.tolist() == [3, 2, 3]


def test_options_are_not_changed_and_hold_for_one_reset(tiny_world: World) -> None:
    envs = make(tiny_world, 2, max_episode_steps=1)
    mask, starts = np.array([True, True]), [3, 4]
    options = {"reset_mask": mask, "start": starts}
    envs.reset(seed=0, options=options)
    assert options == {"reset_mask": mask, "start": starts}
    assert options["reset_mask"] is mask
    assert starts == [3, 4]
    drawn = {images(envs.step(np.array([LEFT, LEFT]))[0]).tobytes() for _ in range(3)}
    assert len(drawn) == 3, "autoreset draws fresh starts"


def test_a_start_or_picture_may_be_shared_or_one_per_row(tiny_world: World) -> None:
    envs = make(tiny_world, 2, "revisit")
    assert tiny_world.starts is not None
    views = tiny_world.starts.frames.numpy()
    np.testing.assert_array_equal(envs.reset(options={"start": 6})[0], views[[6, 6]])
    np.testing.assert_array_equal(envs.reset(options={"start": np.array([6, 2])})[0], views[[6, 2]])
    picture = np.random.default_rng(0).integers(0, 256, (2, H, W, 3), dtype=np.uint8)
    np.testing.assert_array_equal(envs.reset(options={"image": picture})[0], picture)
    np.testing.assert_array_equal(envs.reset(options={"image": picture[0]})[0], picture[[0, 0]])
    picture[:] = 0
    assert envs.core.frames is not None
    assert bool(envs.core.frames.any()), "the caller's array is not kept"


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


@pytest.mark.parametrize(("limit", "expected"), [(0, 64), (5, 5), (None, None), (-1, None)])
def test_time_limits(tiny_world: World, limit: int | None, expected: int | None) -> None:
    assert make(tiny_world, 1, max_episode_steps=limit).core.config.max_episode_steps == expected


def test_truncation_at_the_limit_and_not_on_success(tiny_world: World) -> None:
    envs = make(tiny_world, 2, max_episode_steps=3)
    envs.reset(seed=0)
    for _ in range(2):
        *_, terminated, truncated, _ = envs.step(np.array([FORWARD, RIGHT]))
        assert not terminated.any()
        assert not truncated.any()
    *_, terminated, truncated, info = envs.step(np.array([FORWARD, RIGHT]))
    assert terminated.tolist() == [True, False]
    assert truncated.tolist() == [False, True]
    assert info["final_info"]["is_success"].tolist() == [True, False]
    assert not info["is_success"].any(), "info describes the new episodes"


def test_memory_chunks_on_request(tiny_world: World) -> None:
    assert "memory_chunks" not in make(tiny_world, 1).reset(seed=0)[1]
    envs = make(tiny_world, 2, report_memory=True)
    assert envs.reset(seed=0)[1]["memory_chunks"].tolist() == [1, 1]
    assert envs.step(np.array([1, 2]))[4]["memory_chunks"].tolist() == [2, 2]


def test_rendering_shows_the_newest_frames(tiny_world: World) -> None:
    envs = make(tiny_world, 2, "revisit", render_mode="rgb_array")
    assert envs.metadata["render_modes"] == ["rgb_array"]
    assert envs.metadata["render_fps"] == 24 / 16
    obs, _ = envs.reset(seed=0)
    np.testing.assert_array_equal(np.stack(envs.render()), obs)  # type: ignore[arg-type]
    obs = envs.step(np.array([0, 1]))[0]
    np.testing.assert_array_equal(np.stack(envs.render()), obs)  # type: ignore[arg-type]
    np.testing.assert_array_equal(envs.chunk_frames[:, -1], obs)
    assert make(tiny_world, 1).render() is None
    with pytest.raises(ValueError, match="rgb_array"):
        make(tiny_world, 1, render_mode="human")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"obs_mode": "smell"}, "image, stack"), ({"action_mode": "jump"}, "basic"),
        ({"memory": "elephant"}, "worldplay"), ({"memory": {"policies": 1}}, "policy"),
        ({"dynamics": "dream"}, "'world' or 'sim'"), ({"output": "jax"}, "numpy"), ({"dtype": "int8"}, "bfloat16"),
        ({"backend": "fast"}, "choose auto, torch, onednn"), ({"quantize": "int4"}, "none, int8"),
        ({"obs_mode": "dict", "obs_keys": ["image", "depth"]}, "depth.*image, goal, c2w"),
        ({"task_options": {"reach": 1}}, "tolerance"), ({"num_envs": 0}, "at least 1"),
        ({"chunk_latents": -1}, "chunk_latents"), ({"num_steps": 0}, "num_steps"), ({"stack": 0}, "stack"),
        ({"max_episode_steps": -5}, "max_episode_steps"),
    ],
)  # fmt: skip
def test_bad_arguments_say_what_to_use(tiny_world: World, kwargs: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"num_envs": 1, "task": "navigate", "world": tiny_world, "device": "cpu", **kwargs}
    with pytest.raises(ValueError, match=message):
        WorldVectorEnv(**arguments)


def test_unknown_worlds_and_tasks() -> None:
    with pytest.raises(ValueError, match="packaged worlds"):
        WorldVectorEnv(1, task="navigate", world="atlantis")
    with pytest.raises(ValueError, match="navigate"):
        WorldVectorEnv(1, task="sleep")


@pytest.mark.parametrize("policy", [*POLICIES, "auto"])
def test_memory_by_name(tiny_world: World, policy: str) -> None:
    envs = make(tiny_world, 1, memory=policy)
    wanted = tiny_world.config.memory.policy if policy == "auto" else policy
    assert envs.core.dynamics.memory.policy == wanted  # type: ignore[attr-defined]


def test_memory_by_table(tiny_world: World) -> None:
    envs = make(tiny_world, 1, "revisit", memory={"policy": "recent", "temporal_latents": 4, "retrieved_chunks": 0})
    envs.reset(seed=0)
    for _ in range(3):
        envs.step(np.array([0]))
    assert envs.core.dynamics.history.selection.index.tolist() == [[5, 6, 7, 8]]  # type: ignore[attr-defined]


def test_chunk_latents_and_steps(tiny_world: World) -> None:
    envs = make(
        tiny_world, 1, "revisit", chunk_latents=1, num_steps=1, obs_mode="chunk", action_mode="camera_per_latent"
    )
    envs.reset(seed=0)
    obs, *_, info = envs.step(np.zeros((1, 5), np.float32))
    assert obs.shape == (1, 4, H, W, 3)
    assert info["n_frames"].tolist() == [4]
    assert envs.metadata["render_fps"] == 6


def test_actions_may_be_tensors(tiny_world: World) -> None:
    one, two = make(tiny_world, 2), make(tiny_world, 2)
    one.reset(seed=0)
    two.reset(seed=0)
    a, b = one.step(np.array([1, 2])), two.step(torch.tensor([1, 2]))
    np.testing.assert_array_equal(images(a[0]), images(b[0]))
