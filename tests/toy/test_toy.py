"""Another kind of world, of one file each: recorded, trained, saved, stepped, cloned, evaluated; worldenv knows none.

A simulator without a camera, a body of three continuous numbers, a task with an observation of its own, a memory policy
without poses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from worldenv.data.record import RecordConfig, record
from worldenv.data.schema import read_shard, shard_paths
from worldenv.eval.suites.evaluate import run_suite
from worldenv.memory.config import MemoryConfig
from worldenv.models.types import DiTConfig
from worldenv.models.vae import VAEConfig
from worldenv.training.loop.optim import OptimConfig
from worldenv.training.material import DenoiseConfig
from worldenv.training.stages.config import TrainConfig
from worldenv.training.stages.registry import train
from worldenv.training.stages.vae import VAELossConfig
from worldenv.world.world import World

HERE = Path(__file__).parent
PARTS = {"body": "push_body:Pusher", "task": "glow_task:Glow"}


@pytest.fixture(scope="module", autouse=True)
def importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        patch.setenv("PYTHONPATH", str(HERE))  # of the processes that record
        yield


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from slide_sim import SPEC

    folder = tmp_path_factory.mktemp("slide") / "recording"
    config = RecordConfig(env="slide_sim:Recorder", clips=8, clips_per_shard=4, num_latents=8, spec=SPEC)
    record(config, folder, workers=1)
    return folder


@pytest.fixture(scope="module")
def trained(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from slide_sim import SPEC

    out = tmp_path_factory.mktemp("trained")
    config = TrainConfig(
        name="slide",
        data=recording,
        spec=replace(SPEC, gives={}),  # what the disc does is for the picture to show
        num_starts=4,
        vae=VAEConfig(latent_channels=4, encoder_widths=(4, 4, 8), decoder_widths=(4, 4, 8)),
        dit=DiTConfig(width=16, num_layers=2, num_heads=2, ffn_dim=32, freq_dim=16),
        memory=MemoryConfig(policy="recent", temporal_latents=4, retrieved_chunks=1),
        vae_loss=VAELossConfig(num_frames=9),
        denoise=DenoiseConfig(num_chunks=2, policies=(("recent", 0.5), ("none", 0.5))),
        optim=OptimConfig(steps=3, batch=2, preview_every=3, save_every=3, log_every=1),
    )
    train("vae", config, out / "vae")
    train("causal", replace(config, init=out / "vae"), out / "causal")
    train("memory", replace(config, init=out / "causal"), out / "memory")
    return out / "memory"


def make(world: Path, **options: Any) -> Any:
    return gym.make_vec("worldenv/Revisit-v0", num_envs=2, world=str(world), **PARTS, **options)


def test_what_is_recorded_is_what_was_declared(recording: Path) -> None:
    clip = next(read_shard(shard_paths(recording)[0]))
    assert clip.signals["push"].shape == (9, 3)
    assert clip.signals["disc"].shape == (9, 3)
    assert "c2w" not in clip.signals
    moved = np.diff(clip.signals["disc"], axis=0)
    assert np.abs(moved - 0.4 * clip.signals["push"][1:]).min() < 1e-6  # where it hit no border


def test_a_world_of_it_is_saved_opened_and_stepped(trained: Path) -> None:
    world = World.from_pretrained(trained)
    assert list(world.spec.takes) == ["push"]
    assert world.config.dit.codes == {"push": 3}
    assert not world.config.dit.camera_branch
    assert [stage.stage for stage in world.config.provenance] == ["vae", "causal", "memory"]
    envs = make(trained)
    assert envs.single_action_space.shape == (3,)
    obs, info = envs.reset(seed=0)
    assert set(obs) == {"image", "brightest"}
    assert obs["image"].shape == (2, 32, 32, 3)
    assert "c2w" not in info
    for _ in range(4):
        obs, reward, terminated, truncated, _ = envs.step(envs.action_space.sample())
    assert (reward <= 1).all()
    assert truncated.all()
    assert not terminated.any()


@pytest.mark.parametrize("memory", ["auto", "alike_policy:Alike", "none"])
def test_what_was_pushed_and_remembered_matters_and_is_cloned(trained: Path, memory: str) -> None:
    envs = make(trained, memory=memory, output="torch")
    envs.reset(seed=[5, 5])
    push = np.zeros((2, 3), np.float32)
    for _ in range(3):
        envs.step(push)
    state = envs.unwrapped.clone_state([0])
    push[1, 0] = 1.0
    first = envs.step(push)[0]["image"]
    envs.unwrapped.restore_state(state, [1])
    second = envs.step(np.zeros((2, 3), np.float32))[0]["image"]
    third = make(trained, memory=memory, output="torch")
    third.reset(seed=[5, 5])
    for _ in range(4):
        again = third.step(np.zeros((2, 3), np.float32))[0]["image"]
    assert (second[1] == first[0]).all()  # row 1 went on where row 0 was, and was pushed like it
    assert (again[0] == first[0]).all()


def test_policies_that_ask_for_poses_are_refused(trained: Path) -> None:
    with pytest.raises(ValueError, match="asks where the camera was, and this world takes push"):
        make(trained, memory="worldplay")
    with pytest.raises(ValueError, match="body Camera commands keys, c2w, and not push as this world takes it"):
        gym.make_vec("worldenv/Revisit-v0", num_envs=1, world=str(trained), task=PARTS["task"], body="camera")
    with pytest.raises(ValueError, match="which no known body commands"):
        gym.make_vec("worldenv/Revisit-v0", num_envs=1, world=str(trained), task=PARTS["task"])


def test_the_simulator_stands_in_for_the_world(trained: Path) -> None:
    envs = make(trained, dynamics="slide_sim:Slide", obs_keys=["image", "brightest", "disc"])
    obs, info = envs.reset(seed=3)
    assert obs["disc"].shape == (2, 3)
    before = info["disc"]
    push = np.array([[0.5, 0.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    obs, *_, info = envs.step(push)
    np.testing.assert_allclose(info["disc"] - before, np.clip(before + 0.8 * push, -0.8, 0.8) - before, atol=1e-6)
    np.testing.assert_allclose(obs["disc"], info["disc"])
    kept = obs["disc"].copy()
    for _ in range(7):  # over the end of an episode
        _, _, _, truncated, info = envs.step(push)
    assert truncated.any()
    assert set(info) >= {"disc", "final_info"}
    np.testing.assert_array_equal(obs["disc"], kept)  # what was handed out is never written again


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_episodes_begin_anew_by_themselves(trained: Path, mode: str) -> None:
    envs = make(trained, autoreset_mode=mode, max_episode_steps=2)
    envs.reset(seed=0)
    for _ in range(5):
        obs, *_ = envs.step(envs.action_space.sample())
    assert obs["image"].shape == (2, 32, 32, 3)


def test_what_asks_for_a_camera_is_refused_by_name(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="task Revisit reads c2w, and this world gives frames alone"):
        gym.make_vec("worldenv/Revisit-v0", num_envs=1, world=str(trained), body=PARTS["body"])
    with pytest.raises(ValueError, match=r"suite 'action' \(open_loop does not\) needs a camera"):
        run_suite("action", str(trained), tmp_path)


def test_policies_are_held_to_what_there_is(trained: Path) -> None:
    from alike_policy import Alike

    class Beyond(Alike):
        def __call__(self, *asked: Any) -> Any:
            chosen = super().__call__(*asked)
            return replace(chosen, index=chosen.index + 100)

    envs = make(trained, memory=Beyond())
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="the memory policy chose latents that are not there"):
        envs.step(envs.action_space.sample())


def test_it_is_evaluated_and_shown(
    trained: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_suite("open_loop", str(trained), tmp_path, recording=recording, num_worlds=4)
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["arms"]) == {"recent", "frozen", "vae", "shuffled_actions"}
    assert report["arms"]["recent"]["psnr_16"]["n"] == 4
    assert report["recording"]["env"] == "slide_sim:Recorder"
    assert {"open_loop.png", "open_loop.mp4", "over_time.png", "report.md"} <= {p.name for p in tmp_path.iterdir()}
    assert "in-use.json" not in "".join(capsys.readouterr()), "it holds the folder while it says what it wrote there"


def test_no_file_of_worldenv_knows_it() -> None:
    package = HERE.parents[1] / "worldenv"
    names = ("slide_sim", "Pusher", "Glow", "alike_policy")
    assert not [path for path in package.rglob("*.py") if any(name in path.read_text() for name in names)]
