"""A WorldPlay release behind the environment ids."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import worldenv  # noqa: F401


@pytest.fixture(scope="module")
def kwargs(release_dir: Path) -> dict[str, object]:
    return {"world": str(release_dir), "prompt": str(release_dir / "text.safetensors"), "dtype": "float32"}


def test_the_environment_checker_passes(kwargs: dict[str, object]) -> None:
    env = gym.make("worldenv/Revisit-v0", action_mode="keys", **kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*render.*")
        check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("action_mode", ["keys", "camera", "basic"])
def test_a_vector_of_envs_steps_from_pictures_and_prompts(
    kwargs: dict[str, object], release_dir: Path, action_mode: str
) -> None:
    envs = gym.make_vec("worldenv/Revisit-v0", num_envs=2, action_mode=action_mode, obs_mode="chunk", **kwargs)
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    other = str(release_dir / "other.safetensors")
    obs, info = envs.reset(seed=0, options={"image": image, "prompt": [None, other]})
    assert (obs == image).all()
    envs.action_space.seed(0)
    action = envs.action_space.sample()
    first, _, _, _, info = envs.step(action)
    assert info["n_frames"].tolist() == [12, 12]
    assert (first[:, :4] == image).all()
    second, _, _, _, info = envs.step(action)
    assert info["n_frames"].tolist() == [16, 16]
    envs.unwrapped.set_prompt(other, rows=[0])
    changed = envs.step(action)[0]
    again = gym.make_vec("worldenv/Revisit-v0", num_envs=2, action_mode=action_mode, obs_mode="chunk", **kwargs)
    again.reset(seed=0, options={"image": image, "prompt": [None, other]})
    assert (again.step(action)[0] == first).all()
    assert (again.step(action)[0] == second).all()
    same = again.step(action)[0]
    assert (same[0] != changed[0]).any(), "row 0 was told of another world"
    assert np.abs(same[1].astype(int) - changed[1].astype(int)).max() <= 2


def test_a_prompt_that_cannot_be_read_changes_nothing(kwargs: dict[str, object], tmp_path: Path) -> None:
    env = gym.make("worldenv/Revisit-v0", obs_mode="chunk", **kwargs).unwrapped
    env.reset(seed=0)
    before = env.step(0)[0]
    with pytest.raises(ValueError, match="no such file"):
        env.reset(options={"prompt": str(tmp_path / "none.safetensors")})
    with pytest.raises(ValueError, match="must be a text or one per env"):
        env.reset(options={"prompt": 3})
    after = env.step(0)[0]
    env.reset(seed=0)
    assert (env.step(0)[0] == before).all()
    assert (env.step(0)[0] == after).all()


def test_full_width_layers_step_on_a_cpu(release_dir: Path, tmp_path: Path) -> None:
    """The released width with two layers on random weights: shapes, loading, memory and decoding at real sizes."""
    from tests.conftest import TINY_RELEASE
    from worldenv.base.checkpoint import save_tensors
    from worldenv.models.dit import WorldDiT
    from worldenv.models.pretrained.wan_vae import WanVAE
    from worldenv.models.pretrained.worldplay import WORLDPLAY_5B, released_state

    config = replace(WORLDPLAY_5B, num_layers=2)
    torch.manual_seed(0)
    with torch.device("meta"):
        dit = WorldDiT(config).bfloat16()
    dit.to_empty(device="cpu")
    for parameter in dit.parameters():
        parameter.data.uniform_(-0.02, 0.02)
    vae_values = {**TINY_RELEASE["vae"], "z_dim": 48}
    values = {
        **TINY_RELEASE["transformer"],
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "in_channels": 48,
        "out_channels": 48,
        "text_dim": 4096,
        "freq_dim": 256,
        "ffn_dim": 14336,
        "num_layers": 2,
    }
    whole = {"transformer": values, "vae": vae_values, "height": 64, "width": 96}
    (tmp_path / "config.json").write_text(json.dumps(whole))
    save_tensors(tmp_path / "transformer.safetensors", released_state(dit))
    save_tensors(tmp_path / "vae.safetensors", WanVAE(vae_values).vae.state_dict())
    save_tensors(tmp_path / "text.safetensors", {"text": torch.randn(1, 512, 4096)})
    del dit
    env = gym.make(
        "worldenv/Revisit-v0",
        world=str(tmp_path),
        prompt=str(tmp_path / "text.safetensors"),
        obs_mode="chunk",
        action_mode="keys",
    )
    env.reset(seed=0)
    for n_frames in (13, 16):
        obs, _, _, _, info = env.step(np.array([1, 0]))
        assert obs.shape == (16, 64, 96, 3)
        assert info["n_frames"] == n_frames
