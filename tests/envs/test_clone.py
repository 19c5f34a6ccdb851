"""Branching: rows continue as other rows would have."""

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import worldenv  # noqa: F401
from tests.envs.conftest import make_local, make_sharded
from worldenv.world.world import World


@pytest.fixture(params=[1, 2, 4], ids=["local", "2 shards", "4 shards"])
def make(request: pytest.FixtureRequest) -> Any:
    shards = request.param
    kwargs = {"num_envs": 4, "task": "revisit", "obs_mode": "chunk"}
    if shards == 1:
        return partial(make_local, **kwargs)
    return partial(make_sharded, **kwargs, num_actors=shards)


def actions(step: int, num_envs: int = 4) -> np.ndarray:
    """Rows 2 and 3 do what rows 0 and 1 do."""
    half = np.random.default_rng(step).integers(0, 4, num_envs // 2)
    return np.concatenate([half, half])


def test_a_fork_repeats_the_trunk_through_resets(make: Any, tiny_world: World) -> None:
    envs = make(tiny_world, max_episode_steps=5)
    envs.reset(seed=0)
    for i in range(3):
        obs = envs.step(actions(i))[0]
    assert (obs[0] != obs[2]).any(), "different seeds so far"
    envs.restore_state(envs.clone_state([0, 1]), [2, 3])
    for i in range(3, 9):  # past the time limit, into the next episode
        obs, reward, terminated, truncated, _ = envs.step(actions(i))
        assert (obs[:2] == obs[2:]).all()
        assert (reward[:2] == reward[2:]).all()
        assert (truncated[:2] == truncated[2:]).all()
        assert (terminated[:2] == terminated[2:]).all()


def test_a_state_goes_back_to_where_it_was_taken(make: Any, tiny_world: World) -> None:
    envs = make(tiny_world)
    envs.reset(seed=0)
    envs.step(actions(0))
    state = envs.clone_state([0])
    first = [envs.step(actions(i))[0][0] for i in (1, 2)]
    kept = first[0].copy()
    envs.restore_state(state, [0])
    again = [envs.step(actions(i))[0][0] for i in (1, 2)]
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] == kept).all(), "what was handed out is not written again"


def test_states_that_do_not_fit_are_refused(make: Any, tiny_world: World) -> None:
    envs = make(tiny_world)
    with pytest.raises(gym.error.ResetNeeded):
        envs.clone_state([0])
    envs.reset(seed=0)
    state = envs.clone_state([0, 1])
    with pytest.raises(ValueError, match="holds 2 rows, 1 were named"):
        envs.restore_state(state, [3])
    other = gym.make_vec("worldenv/Navigate-v0", num_envs=2, world=tiny_world).unwrapped
    other.reset(seed=0)
    with pytest.raises(ValueError, match="another environment"):
        other.restore_state(state, [0, 1])


@pytest.mark.usefixtures("sims")
def test_a_simulator_cannot_be_cloned(maze_world: World) -> None:
    envs = gym.make_vec("worldenv/RevisitSim-v0", num_envs=1, world=maze_world).unwrapped
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="cloned state needs a generated world"):
        envs.clone_state([0])
    envs.close()
