import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import worldenv  # noqa: F401
from tests.envs.conftest import Make, make_local
from worldenv.envs.vector_env import WorldVectorEnv
from worldenv.memory.config import POLICIES
from worldenv.world.world import World

FORWARD, BACK, RIGHT, LEFT = range(4)
H, W = 48, 64


make = make_local


def images(obs: Any) -> np.ndarray:
    return np.asarray(obs["image"] if isinstance(obs, dict) else obs)


def snapshot(envs: WorldVectorEnv) -> dict[str, Any]:
    """Everything that an episode consists of."""
    return dict(envs.clone_state(range(envs.num_envs)))


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Name the parts of two snapshots that differ."""
    assert before.keys() == after.keys()
    return [key for key in before if not np.array_equal(np.asarray(before[key]), np.asarray(after[key]))]


def test_shapes_and_types(make: Make, tiny_world: World) -> None:
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


def test_an_environment_that_another_thread_is_stepping_is_refused(make: Make, tiny_world: World) -> None:
    """One after the other they may; whoever meets the other is told what to do instead, and nothing has changed."""
    envs = make(tiny_world)
    envs.reset(seed=0)
    action, said = np.zeros(3, np.int64), list[str]()

    def meanwhile() -> None:
        for act in (lambda: envs.step(action), lambda: envs.reset(seed=1), lambda: envs.clone_state([0])):
            with pytest.raises(RuntimeError, match="is stepping this environment") as refused:
                act()
            said.append(str(refused.value))

    advance = envs.core.step

    def slow(action: Any) -> Any:
        other = threading.Thread(target=meanwhile)
        other.start()
        other.join()
        return advance(action)

    envs.core.step = slow  # type: ignore[method-assign]
    envs.step(action)
    envs.core.step = advance  # type: ignore[method-assign]
    assert len(said) == 3
    assert "step() while thread 'MainThread'" in said[0]
    after = threading.Thread(target=lambda: said.append(f"earned {envs.step(action)[1]}"))
    after.start()
    after.join()
    assert said[3].startswith("earned")


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
def test_bad_actions_change_nothing(make: Make, tiny_world: World, mode: str, action: Any, message: str) -> None:
    envs = make(tiny_world, action_mode=mode)
    envs.reset(seed=0)
    before = snapshot(envs)
    with pytest.raises((ValueError, TypeError), match=message):
        envs.step(action)
    assert changed(before, snapshot(envs)) == []


def test_steps_before_the_first_reset_are_refused(make: Make, tiny_world: World) -> None:
    envs = make(tiny_world)
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(np.zeros(3, int))
    with pytest.raises(ValueError, match="every row"):
        envs.reset(options={"reset_mask": np.array([True, False, True])})


def test_a_closed_environment_is_not_stepped(make: Make, tiny_world: World) -> None:
    """Nor reset, copied or changed; closing it again does nothing."""
    envs, env = make(tiny_world, 2), gym.make("worldenv/Revisit-v0", world=tiny_world, device="cpu")
    envs.reset(seed=0)
    env.reset(seed=0)
    for one in (envs, env, envs, env):
        one.close()
    uses: list[Callable[[], Any]] = [
        lambda: envs.step(np.array([0, 1])),
        envs.reset,
        lambda: envs.clone_state([0]),
        lambda: envs.fork([0], [1]),
        lambda: envs.restore_state({}, [0]),
        lambda: envs.set_prompt("a maze"),
        lambda: envs.load_state("none"),
        lambda: env.step(0),
        env.reset,
    ]
    for use in uses:
        with pytest.raises(gym.error.ClosedEnvironmentError, match="of a closed environment; make another"):
            use()


def test_memory_chunks_on_request(make: Make, tiny_world: World) -> None:
    assert "memory_chunks" not in make(tiny_world, 1).reset(seed=0)[1]
    envs = make(tiny_world, 2, report_memory=True)
    assert envs.reset(seed=0)[1]["memory_chunks"].tolist() == [1, 1]
    assert envs.step(np.array([1, 2]))[4]["memory_chunks"].tolist() == [2, 2]


def test_rendering_shows_the_newest_frames(make: Make, tiny_world: World) -> None:
    envs = make(tiny_world, 2, "revisit", render_mode="rgb_array")
    assert envs.metadata["render_modes"] == ["rgb_array"]
    assert envs.metadata["render_fps"] == 2
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
        ({"obs_mode": "smell"}, "image, stack"),
        ({"action_mode": "jump"}, "basic"),
        ({"memory": "elephant"}, "worldplay"),
        ({"memory": {"policies": 1}}, "policy"),
        ({"dynamics": "dream"}, "one of world, sim"),
        ({"output": "jax"}, "numpy"),
        ({"dtype": "int8"}, "bfloat16"),
        ({"backend": "fast"}, "choose auto, torch, onednn"),
        ({"capture": True}, "not of a world on cpu"),
        ({"obs_mode": "dict", "obs_keys": ["image", "depth"]}, "depth.*image, c2w, goal"),
        ({"task_options": {"reach": 1}}, "tolerance"),
        ({"num_envs": 0}, "at least 1"),
        ({"chunk_latents": -1}, "chunk_latents"),
        ({"num_steps": 0}, "num_steps"),
        ({"stack": 0}, "stack"),
        ({"max_episode_steps": -5}, "max_episode_steps"),
        ({"num_envs": 2.5}, "num_envs=2.5; pass a whole number"),
        ({"stack": True, "obs_mode": "stack"}, "stack=True; pass a whole"),
        ({"obs_keys": []}, "offers image, c2w"),
        ({"obs_keys": ["image"], "obs_mode": "image"}, r"obs_keys=\['image'\] is for obs_mode='dict', and this one is"),
        ({"stack": 2}, "stack=2 is for obs_mode='stack'"),
        ({"clip_actions": True}, "clip_actions=True is for cont"),
        ({"prompt": "a maze"}, "takes no prompt"),
        ({"dynamics": "sim", "num_steps": 4}, "num_steps=4 is for gen"),
        ({"dynamics": "sim", "capture": True}, "capture=True is for generated"),
        ({"dynamics": "tests.envs.test_foreign:Painted", "report_memory": True}, "has a memory to explain; Painted"),
    ],
)
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


@pytest.mark.parametrize(
    ("stochastic", "given", "said"),
    [
        (True, {"chunk_latents": 3}, "chunk_latents=3: world 'tiny' was trained for 1, 4, and"),
        (True, {"num_steps": 3}, "num_steps=3: world 'tiny' was trained for 1, 2, 4, and"),
        (True, {"num_steps": 8}, "num_steps=8"),
        (False, {"num_steps": 3}, "trained for 1, 2, 4 or more, and"),
        (False, {"num_steps": 8}, None),
        (True, {"chunk_latents": 1, "num_steps": 2}, None),
        (True, {"chunk_latents": 4, "num_steps": 4}, None),
    ],
)
def test_a_world_is_stepped_as_it_was_trained(
    tiny_world: World, stochastic: bool, given: dict[str, int], said: str | None
) -> None:
    """Chunks and steps of another number are a smear; more steps are not where the sampler follows the ODE."""
    sampler = replace(tiny_world.config.sampler, stochastic=stochastic)
    config = replace(tiny_world.config, sampler=sampler)
    world = World(config, vae=tiny_world.vae, dit=tiny_world.dit, starts=tiny_world.starts)
    if said is None:
        make(world, 1, **given)
    else:
        with pytest.raises(ValueError, match=said):
            make(world, 1, **given)


def test_the_packaged_world_is_trained_for_its_own_chunks_alone() -> None:
    for given in ({"chunk_latents": 1}, {"num_steps": 1}, {"num_steps": 16}):
        with pytest.raises(ValueError, match="world 'maze' was trained for 4, and others show a smear"):
            gym.make_vec("worldenv/Revisit-v0", num_envs=1, **given)


def test_a_world_without_start_views_says_which_task_it_has(tiny_world: World) -> None:
    world = World(tiny_world.config, vae=tiny_world.vae, dit=tiny_world.dit)
    for given in ({"task": "navigate"}, {"task": "revisit", "dynamics": "sim"}):
        with pytest.raises(ValueError, match=r"no start views with goals, .* task='revisit' in the generated world"):
            make(world, 1, **given)
    envs = make(world, 1, "revisit")
    assert envs.reset(seed=0, options={"image": np.full((H, W, 3), 9, np.uint8)})[0].shape == (1, H, W, 3)


def test_chunk_latents_and_steps(tiny_world: World) -> None:
    envs = make(
        tiny_world, 1, "revisit", chunk_latents=1, num_steps=1, obs_mode="chunk", action_mode="camera_per_latent"
    )
    envs.reset(seed=0)
    obs, *_, info = envs.step(np.zeros((1, 5), np.float32))
    assert obs.shape == (1, 4, H, W, 3)
    assert info["n_frames"].tolist() == [4]
    assert envs.metadata["render_fps"] == 6
