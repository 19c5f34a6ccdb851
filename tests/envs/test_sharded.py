"""What only rows in shards have: forks within a shard, states across them, shards that die."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from tests.envs.conftest import HereVectorEnv, make_local, make_sharded
from tests.envs.test_vector_env import FORWARD, LEFT, images
from worldenv.world.world import World


def make(world: World, **kwargs: Any) -> HereVectorEnv:
    return make_sharded(world, 4, num_actors=2, **kwargs)


def walk(envs: Any, steps: int, first: int = 0) -> list[Any]:
    """Step by actions that depend on row and time alone; return what every step returned."""
    rng = np.random.default_rng(first)
    return [envs.step(rng.integers(0, 4, envs.num_envs)) for _ in range(steps)]


def same(a: Any, b: Any, rows: slice = slice(None), rows_b: slice | None = None) -> bool:
    """Tell whether steps are equal to the last bit, in rows of each."""
    theirs = rows if rows_b is None else rows_b
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k], rows, rows_b) for k in a)
    if isinstance(a, tuple | list):
        return all(same(x, y, rows, rows_b) for x, y in zip(a, b, strict=True))
    if a.dtype == object:
        pairs = zip(a[rows], b[theirs], strict=True)
        return all(x is y is None or (x is not None and y is not None and same(x, y, slice(None))) for x, y in pairs)
    return np.array_equal(a[rows], b[theirs])


def test_a_shard_is_the_local_environment_of_its_rows(tiny_world: World) -> None:
    """Through success, time limits and resets, info and all."""
    whole, part = make(tiny_world, max_episode_steps=3), make_local(tiny_world, 2, max_episode_steps=3)
    assert same(whole.reset(seed=[5, 6, 7, 8]), part.reset(seed=[7, 8]), slice(2, 4), slice(0, 2))
    for action in ([FORWARD, LEFT], [FORWARD, FORWARD], [LEFT, LEFT], [FORWARD, LEFT]):
        theirs = part.step(np.array(action))
        ours = whole.step(np.array([LEFT, FORWARD, *action]))
        assert ours[4].keys() == theirs[4].keys() or "final_obs" in ours[4]
        common = {k: v for k, v in ours[4].items() if k in theirs[4]}
        assert same((*ours[:4], common), theirs, slice(2, 4), slice(0, 2))


@pytest.mark.parametrize("policy", ["worldplay", "worldscape"])
def test_states_go_from_shards_of_any_length_to_any_rows(tiny_world: World, tmp_path: Path, policy: str) -> None:
    """Also to the environment in one piece, and through a file."""
    envs = make(tiny_world, memory=policy)
    envs.reset(seed=0)
    walk(envs, 5)
    envs.reset(seed=9, options={"reset_mask": np.array([True, True, False, False])})
    walk(envs, 2, first=1)
    state = envs.clone_state([2, 1, 0, 3])
    envs.save_state(tmp_path / "state.safetensors")
    once = walk(envs, 2, first=2)
    envs.load_state(tmp_path / "state.safetensors")
    assert same(walk(envs, 2, first=2), once)
    envs.restore_state(state, [2, 1, 0, 3])
    assert same(walk(envs, 2, first=2), once)
    local = make_local(tiny_world, 4, memory=policy)
    local.load_state(tmp_path / "state.safetensors")
    there = walk(local, 1, first=2)[0]
    assert np.abs(images(there[0]).astype(int) - images(once[0][0]).astype(int)).max() <= 2, "in another batch size"


def test_a_refused_state_changes_no_shard(tiny_world: World) -> None:
    envs, plain = make(tiny_world), make(tiny_world)
    for one in (envs, plain):
        one.reset(seed=0)
        walk(one, 2)
    state = envs.clone_state([0, 1, 2, 3])
    state["engine.generators"][3] = 255
    with pytest.raises(ValueError, match="generators holds what no episode has"):
        envs.restore_state(state, [1, 0, 3, 2])
    assert same(walk(envs, 1), walk(plain, 1))


def test_a_shard_that_dies_while_states_are_restored_leaves_the_others_as_they_were(tiny_world: World) -> None:
    envs, plain = make(tiny_world), make(tiny_world)
    for one in (envs, plain):
        one.reset(seed=0)
        walk(one, 2)
    state = envs.clone_state([3, 2, 1, 0])
    envs.shards.dying = {1}
    envs.shards.spared = 1  # the call that copies what there is
    with pytest.raises(ChildProcessError, match="rows 2 to 3 died"):
        envs.restore_state(state, [0, 1, 2, 3])
    assert same(walk(envs, 1)[0][:2], walk(plain, 1)[0][:2], slice(0, 2))


def test_forks_stay_within_a_shard(tiny_world: World) -> None:
    envs = make(tiny_world)
    envs.reset(seed=0)
    walk(envs, 2)
    with pytest.raises(ValueError, match=r"row 2 cannot share the memory of row 0, .*restore_state\(clone_state"):
        envs.fork([0, 0], [1, 2])
    with pytest.raises(ValueError, match="name as many others"):
        envs.fork([0], [0])
    envs.fork([0, 3], [1, 2])
    obs = images(envs.step(np.array([FORWARD, FORWARD, LEFT, LEFT]))[0])
    np.testing.assert_array_equal(obs[[0, 3]], obs[[1, 2]])


@pytest.mark.parametrize("mode", AutoresetMode)
def test_rows_of_a_shard_that_dies_are_truncated_and_the_others_go_on(tiny_world: World, mode: AutoresetMode) -> None:
    envs, plain = (make(tiny_world, autoreset_mode=mode) for _ in range(2))
    for one in (envs, plain):
        one.reset(seed=0)
        shown = walk(one, 2)[-1]
    lost = np.array([False, False, True, True])
    envs.shards.dying = {1}
    ours, theirs = walk(envs, 1)[0], walk(plain, 1)[0]
    assert same(ours[:4], theirs[:4], slice(0, 2))
    assert (ours[1][2:].tolist(), ours[2][2:].tolist(), ours[3].tolist()) == ([0, 0], [False, False], lost.tolist())
    assert ours[4]["actor_lost"].tolist() == lost.tolist()
    last = ours[4]["final_obs"][2:].tolist() if mode == AutoresetMode.SAME_STEP else ours[0]
    last = np.stack([obs["image"] for obs in last]) if isinstance(last, list) else images(last)[2:]
    np.testing.assert_array_equal(last, images(shown[0])[2:], err_msg="what they last showed")
    for one in (envs, plain):
        if mode == AutoresetMode.DISABLED:
            one.reset(options={"reset_mask": lost})
        elif one is plain:
            one.reset(options={"reset_mask": lost})  # their second episodes, by the same seeds
    if mode == AutoresetMode.NEXT_STEP:
        walk(envs, 1)
        plain.step(np.random.default_rng(0).integers(0, 4, 4))
        assert not walk(envs, 1)[0][4].get("actor_lost", lost[:2]).any()
        return
    ours, theirs = walk(envs, 1)[0], walk(plain, 1)[0]
    assert "actor_lost" not in ours[4]
    assert same(ours[:4], theirs[:4])


def test_what_a_dead_shard_cannot_do_is_an_error_and_the_next_step_goes_on(tiny_world: World) -> None:
    envs = make(tiny_world)
    envs.reset(seed=0)
    walk(envs, 1)
    envs.shards.dying = {0}
    with pytest.raises(ChildProcessError, match="the actor of rows 0 to 1 died, and their episodes with it"):
        envs.clone_state([0])
    assert walk(envs, 1)[0][4]["actor_lost"].tolist() == [True, True, False, False]
    assert "actor_lost" not in walk(envs, 1)[0][4]


def test_a_shard_that_dies_in_a_reset_begins_with_all_its_rows(tiny_world: World) -> None:
    """Those that were not asked for are truncated in the next step."""
    envs = make(tiny_world)
    envs.reset(seed=0)
    walk(envs, 1)
    envs.shards.dying = {1}
    envs.reset(seed=3, options={"reset_mask": np.array([False, False, True, False])})
    assert walk(envs, 1)[0][3].tolist() == [False, False, True, True]
    envs.shards.dying = {0, 1}
    obs = envs.reset(seed=3)[0]
    np.testing.assert_array_equal(images(obs), images(make(tiny_world).reset(seed=3)[0]))
    assert not walk(envs, 1)[0][3].any()
