"""Resets by seed, option and mask, autoreset, and what ends an episode."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import worldenv  # noqa: F401
from tests.envs.conftest import Make
from tests.envs.test_vector_env import BACK, FORWARD, LEFT, RIGHT, H, W, changed, images, make, snapshot
from worldenv.envs.env import WorldEnv
from worldenv.envs.vector_env import WorldVectorEnv
from worldenv.world.world import World

BAD_RESETS: list[tuple[dict[str, Any], str]] = [
    ({"options": {"strat": 1}}, "'strat'.*start"),
    ({"options": {"prompt": "a castle"}}, "prompt"),
    ({"options": {"image": np.zeros((H, W, 3), np.float32)}}, "uint8"),
    ({"options": {"image": np.zeros((H, W), np.uint8)}}, "shape"),
    ({"options": {"image": np.zeros((2, H, W, 3), np.uint8)}}, "shape"),
    ({"options": {"start": 64}}, "64 start views"),
    ({"options": {"start": [0, 1, -1]}}, "64 start views"),
    ({"options": {"start": [0, 1]}}, "2 entries"),
    ({"options": {"start": "abc"}}, "must be an index or one per env, got 'abc'"),
    ({"options": {"reset_mask": np.array([True, False])}}, "reset_mask"),
    ({"options": {"reset_mask": np.array([1, 0, 1])}}, "reset_mask"),
    ({"options": {"reset_mask": np.zeros(3, bool)}}, "no row"),
    ({"seed": [1, 2]}, "2 seeds"),
    ({"seed": True}, "seed=True; pass a whole number"),
    ({"seed": [1, False, 2]}, "seed=.*False.*; seeds are whole numbers"),
    ({"seed": -1}, "."),
    ({"seed": 5, "options": {"start": 64}}, "64 start views"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_RESETS)
def test_bad_resets_change_nothing(make: Make, tiny_world: World, arguments: dict[str, Any], message: str) -> None:
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


SCRIPT = np.array(
    [
        [FORWARD, RIGHT, FORWARD],
        [FORWARD, RIGHT, BACK],
        [FORWARD, RIGHT, FORWARD],
        [FORWARD, LEFT, RIGHT],
        [FORWARD, LEFT, FORWARD],
        [FORWARD, FORWARD, FORWARD],
        [FORWARD, FORWARD, FORWARD],
    ]
)


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
def test_autoreset_as_gymnasiums_own_vector_env(make: Make, tiny_world: World, mode: AutoresetMode) -> None:
    kwargs: dict[str, Any] = {"task": "navigate", "world": tiny_world, "max_episode_steps": 4, "device": "cpu"}
    envs = make(autoreset_mode=mode, **kwargs)
    events = compare_with_gymnasium(lambda: WorldEnv(**kwargs), envs, mode, tolerance=3)
    assert {"terminated", "truncated"} <= set(events)


@pytest.mark.sim
@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_the_simulators_vector_env_is_bit_equal_to_single_envs(maze_world: World, mode: AutoresetMode) -> None:
    kwargs: dict[str, Any] = {
        "task": "navigate",
        "world": maze_world,
        "dynamics": "sim",
        "max_episode_steps": 3,
        "device": "cpu",
    }
    envs = WorldVectorEnv(3, autoreset_mode=mode, **kwargs)
    events = compare_with_gymnasium(lambda: WorldEnv(**kwargs), envs, mode, tolerance=0)
    assert "truncated" in events
    envs.close()


def test_disabled_autoreset_waits_for_a_masked_reset(make: Make, tiny_world: World) -> None:
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


def test_an_int_seed_is_seed_plus_row(make: Make, tiny_world: World) -> None:
    by_int, by_list = rollout(make(tiny_world), seed=5), rollout(make(tiny_world), seed=[5, 6, 7])
    np.testing.assert_array_equal(by_int, by_list)
    np.testing.assert_array_equal(rollout(make(tiny_world), seed=np.int64(5)), by_int)
    assert not np.array_equal(by_int[:, 0], by_int[:, 1])


def test_row_i_is_the_single_env_with_its_seed(make: Make, tiny_world: World) -> None:
    frames = rollout(make(tiny_world), seed=[11, 3, 11])
    np.testing.assert_array_equal(frames[:, 0], frames[:, 2])
    for row, seed in ((0, 11), (1, 3)):
        env = WorldEnv(task="navigate", world=tiny_world, device="cpu")
        alone = [images(env.reset(seed=seed)[0])] + [images(env.step(a)[0]) for a in (FORWARD, RIGHT)]
        assert np.abs(np.stack(alone).astype(int) - frames[:, row]).max() <= 2
    same_size = rollout(make(tiny_world, 1), seed=3)
    np.testing.assert_array_equal(same_size[:, 0], np.stack(alone))


def test_resets_without_seed_go_on_with_each_rows_stream(make: Make, tiny_world: World) -> None:
    one, two = make(tiny_world), make(tiny_world)
    for envs in (one, two):
        rollout(envs, seed=5)
    a, b = rollout(one), rollout(two)
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, rollout(one, seed=5))
    unseeded, other = make(tiny_world), make(tiny_world)
    assert not np.array_equal(rollout(unseeded), rollout(other))


def test_a_masked_reset_touches_the_masked_rows_only(make: Make, tiny_world: World) -> None:
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
    assert masked.clone_state([0, 1, 2])["core.elapsed"].tolist() == [3, 2, 3]


def test_options_are_not_changed_and_hold_for_one_reset(make: Make, tiny_world: World) -> None:
    envs = make(tiny_world, 2, max_episode_steps=1)
    mask, starts = np.array([True, True]), [3, 4]
    options = {"reset_mask": mask, "start": starts}
    envs.reset(seed=0, options=options)
    assert options == {"reset_mask": mask, "start": starts}
    assert options["reset_mask"] is mask
    assert starts == [3, 4]
    drawn = {images(envs.step(np.array([LEFT, LEFT]))[0]).tobytes() for _ in range(3)}
    assert len(drawn) == 3, "autoreset draws fresh starts"


def test_a_start_or_picture_may_be_shared_or_one_per_row(make: Make, tiny_world: World) -> None:
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


@pytest.mark.parametrize(("limit", "expected"), [(0, 64), (5, 5), (None, None), (-1, None)])
def test_time_limits(tiny_world: World, limit: int | None, expected: int | None) -> None:
    assert make(tiny_world, 1, max_episode_steps=limit).core.config.max_episode_steps == expected


def test_truncation_at_the_limit_and_not_on_success(make: Make, tiny_world: World) -> None:
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
