import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

import worldenv  # noqa: F401
from worldenv.envs.env import WorldEnv
from worldenv.envs.vector_env import WorldVectorEnv
from worldenv.world.world import World

IDS = ("worldenv/Navigate-v0", "worldenv/Revisit-v0")
SIM_IDS = ("worldenv/NavigateSim-v0", "worldenv/RevisitSim-v0")


def complaints(env: gym.Env[Any, Any]) -> list[str]:
    """Return what Gymnasium's checker warns of; it raises what is worse."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_env(env.unwrapped)
    env.close()
    return [str(warning.message) for warning in said]


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("action_mode", ["basic", "camera"])
def test_gymnasiums_checker_passes(tiny_world: World, env_id: str, action_mode: str) -> None:
    env = gym.make(env_id, world=tiny_world, device="cpu", render_mode="rgb_array", action_mode=action_mode)
    assert complaints(env) == []


@pytest.mark.sim
@pytest.mark.parametrize("env_id", SIM_IDS)
def test_gymnasiums_checker_passes_on_the_simulators(maze_world: World, env_id: str) -> None:
    assert complaints(gym.make(env_id, world=maze_world, device="cpu", render_mode="rgb_array")) == []


def test_the_checkers_complaints_are_heard(tiny_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it raises and what it warns of: an observation outside its space, and render modes that are not said."""
    with monkeypatch.context() as patch:
        patch.setitem(WorldEnv.metadata, "render_modes", [])
        assert any("render" in said for said in complaints(gym.make(IDS[1], world=tiny_world, device="cpu")))
    env = gym.make(IDS[1], world=tiny_world, device="cpu", render_mode="rgb_array")
    env.unwrapped.observation_space = gym.spaces.Box(0, 255, (1, 1, 3), np.uint8)
    with pytest.raises(AssertionError, match="observation"):
        complaints(env)


@pytest.mark.parametrize("env_id", IDS)
def test_defaults_of_the_ids(tiny_world: World, env_id: str) -> None:
    env = gym.make(env_id, world=tiny_world, device="cpu")
    assert env.action_space == gym.spaces.Discrete(4)
    assert env.action_space.dtype == np.int64
    assert isinstance(env.observation_space, gym.spaces.Dict) == ("Navigate" in env_id)
    assert env.spec is not None
    assert env.spec.max_episode_steps is None, "the time limit lives inside the core"


@pytest.mark.parametrize("env_id", IDS)
def test_specs_survive_json(tiny_world_dir: Path, env_id: str) -> None:
    """Every argument is plain JSON, and the spec makes the same environment again."""
    kwargs = {
        "world": str(tiny_world_dir),
        "device": "cpu",
        "dtype": "float32",
        "action_mode": "keys",
        "memory": {"policy": "recent", "fov_deg": [70, 50]},
        "num_steps": 2,
        "clip_actions": False,
    }
    env = gym.make(env_id, **json.loads(json.dumps(kwargs)))
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    for one in (env, again):
        one.reset(seed=3)
    a, b = (e.step(np.array([1, 1])) for e in (env, again))
    np.testing.assert_array_equal(*(x[0]["image"] if isinstance(x[0], dict) else x[0] for x in (a, b)))
    assert a[1] == b[1]


def test_make_vec_builds_one_batched_env(tiny_world_dir: Path) -> None:
    envs = gym.make_vec(
        "worldenv/Revisit-v0",
        num_envs=3,
        world=str(tiny_world_dir),
        device="cpu",
        autoreset_mode="NextStep",
        memory="none",
    )
    assert isinstance(envs.unwrapped, WorldVectorEnv)
    assert envs.num_envs == 3
    obs, _ = envs.reset(seed=0)
    assert obs.shape == (3, 48, 64, 3)
    assert envs.spec is not None
    assert json.loads(envs.spec.to_json())["kwargs"]["memory"] == "none"
    assert envs.metadata["autoreset_mode"] == gym.vector.AutoresetMode.NEXT_STEP


@pytest.mark.parametrize("output", ["numpy", "torch"])
def test_signals_are_plain_numbers(tiny_world: World, output: str) -> None:
    env = WorldEnv(task="revisit", world=tiny_world, device="cpu", output=output)
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(1)
    assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
    assert info["c2w"].shape == (4, 4)
    assert info["n_frames"] == 16
    assert info["is_success"] is False


@pytest.mark.parametrize(
    ("action", "message"), [(4, "outside"), (1.0, "integers"), (np.array([1]), "shape"), (-1, "outside"), (None, ".")]
)
def test_bad_actions_are_refused_and_change_nothing(tiny_world: World, action: Any, message: str) -> None:
    env, plain = (WorldEnv(task="revisit", world=tiny_world, device="cpu") for _ in range(2))
    env.reset(seed=0)
    plain.reset(seed=0)
    with pytest.raises((ValueError, TypeError), match=message):
        env.step(action)
    np.testing.assert_array_equal(env.step(0)[0], plain.step(0)[0])
    assert env.core.elapsed.tolist() == [1]


def test_bad_resets_leave_the_stream_of_episodes_alone(tiny_world: World) -> None:
    env, plain = (WorldEnv(task="revisit", world=tiny_world, device="cpu") for _ in range(2))
    env.reset(seed=0)
    plain.reset(seed=0)
    wrong = np.zeros((3, 3, 3), np.uint8)
    for arguments in (
        {"options": {"start": 64}},
        {"seed": 5, "options": {"start": -1}},
        {"seed": -1},
        {"options": {"reset_mask": None}},
        {"options": {"image": wrong}},
    ):
        with pytest.raises((ValueError, gym.error.Error)):
            env.reset(**arguments)  # type: ignore[arg-type]
    np.testing.assert_array_equal(env.reset()[0], plain.reset()[0])


def test_keywords_of_the_other_way_of_making_are_named(tiny_world: World) -> None:
    for keyword, said in (
        ({"num_envs": 4}, "'num_envs' is of gym.make_vec"),
        ({"autoreset_mode": "NextStep"}, "is of gym.make_vec"),
        ({"obs_mod": "image"}, r"unknown keyword 'obs_mod'; did you mean 'obs_mode'\?; known are action_mode, "),
    ):
        with pytest.raises(TypeError, match=said):
            gym.make(IDS[1], world=tiny_world, **keyword)
    for keyword, said in (({"time_limit": 4}, "is of gym.make; "), ({"wrld": "maze"}, "did you mean 'world'")):
        with pytest.raises(TypeError, match=said):
            gym.make_vec(IDS[1], num_envs=2, **keyword)


def test_stepping_before_reset_is_refused(tiny_world: World) -> None:
    with pytest.raises(gym.error.ResetNeeded):
        WorldEnv(task="revisit", world=tiny_world, device="cpu").step(0)


def test_an_episode_may_go_on_past_its_end(tiny_world: World) -> None:
    env = WorldEnv(task="revisit", world=tiny_world, device="cpu", max_episode_steps=1)
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(2)] == [True, True]
    assert env.core.elapsed.tolist() == [2]


def test_same_seed_same_episode(tiny_world: World) -> None:
    env = WorldEnv(task="revisit", world=tiny_world, device="cpu")
    episodes = []
    for seed in (3, 3, None, 4):
        episodes.append([env.reset(seed=seed)[0], *(env.step(a)[0] for a in (0, 2))])
    np.testing.assert_array_equal(episodes[0], episodes[1])
    assert not np.array_equal(episodes[0], episodes[2])
    assert not np.array_equal(episodes[0], episodes[3])


def test_keys_for_playing(tiny_world: World) -> None:
    env = WorldEnv(task="revisit", world=tiny_world, device="cpu")
    keys = env.get_keys_to_action()
    assert {chr(k[0]) for k in keys} == set("wsda")
    assert keys[(ord("d"),)] == 2, "turn right"
    with pytest.raises(ValueError, match="basic5"):
        WorldEnv(task="revisit", world=tiny_world, device="cpu", action_mode="camera").get_keys_to_action()


def test_gymnasium_plays_it(tiny_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody touches a key and the agent stands; w is pressed and it walks; escape ends the game."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame = pytest.importorskip("pygame")
    from gymnasium.utils.play import play

    walked: list[float] = []

    def note(before: Any, after: Any, action: int, *rest: Any) -> None:
        walked.append(float(rest[-1]["c2w"][2, 3]))
        key = {2: pygame.K_w, 4: pygame.K_ESCAPE}.get(len(walked))
        if key is not None:
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))

    env = gym.make(IDS[1], world=tiny_world, device="cpu", render_mode="rgb_array", action_mode="basic5")
    assert env.metadata["render_fps"] == 2
    assert isinstance(env.metadata["render_fps"], int)
    play(env, fps=1000, callback=note, seed=0)
    assert walked[:4] == pytest.approx([0, 0, 1, 2])


def test_every_gymnasium_single_env_wrapper_we_name_works(tiny_world: World) -> None:
    env = gym.wrappers.RecordEpisodeStatistics(
        gym.make("worldenv/Revisit-v0", world=tiny_world, device="cpu", max_episode_steps=2)
    )
    env.reset(seed=0)
    env.step(0)
    *_, truncated, info = env.step(0)
    assert truncated
    assert info["episode"]["l"] == 2


@pytest.mark.parametrize("limit", [40, -1])
def test_the_time_limit_can_be_lengthened(tiny_world: World, limit: int) -> None:
    """``gym.make`` keeps ``max_episode_steps`` for itself, so the core's own limit (32) has another name."""
    env = gym.make("worldenv/Revisit-v0", world=tiny_world, device="cpu", num_steps=1, time_limit=limit)
    env.reset(seed=0)
    for step in range(34):
        _, _, terminated, truncated, _ = env.step(2 + step % 2)
        assert not terminated
        assert not truncated, step


@pytest.mark.parametrize("before", ["", "import worldenv.envs.env\n"])
def test_the_contracts_snippet_finds_its_names(before: str) -> None:
    """README's names resolve after ``import worldenv`` alone, and after an env was made."""
    code = before + (
        "import worldenv\n"
        "assert worldenv.envs.sb3.SB3VecEnv and worldenv.wrappers.RecordChunkVideo and worldenv.World.from_pretrained"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert result.returncode == 0, result.stderr


def test_one_environment_refuses_what_several_do_and_stays_as_it_is(tiny_world: World) -> None:
    env: Any = gym.make("worldenv/Navigate-v0", world=tiny_world, device="cpu").unwrapped
    env.reset(seed=np.int64(1))
    drawn = env.np_random.bit_generator.state
    for seed in ("x", 1.5, -1, [1], {}, 2**70):
        with pytest.raises(ValueError, match="seeds"):
            env.reset(seed=seed)
    grown = torch.zeros(4, requires_grad=True)
    for options in (3, [], {3: 1}, {"start": np.array(5)}, {"goal": [b"x"]}, {"goal": grown, "start": "x"}):
        with pytest.raises(ValueError, match="options"):
            env.reset(seed=7, options=options)
    assert env.np_random.bit_generator.state == drawn
    with pytest.raises(ValueError, match=r"action is .* no array"):
        env.step([[1], [2, 3]])
    env.step(0)
