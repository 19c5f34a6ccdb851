"""PPO from Stable-Baselines3 on worldenv's vector environments, saved as safetensors and JSON, never as pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize, VecTransposeImage

from worldenv.base.budget import Budget
from worldenv.base.checkpoint import load_module, load_tensors, save_tensors
from worldenv.base.config import check_numbers, from_dict, to_dict
from worldenv.base.documents import read_table
from worldenv.base.files import save_text
from worldenv.base.lock import in_use
from worldenv.base.log import JsonlLog
from worldenv.base.rng import derive_seed
from worldenv.envs.sb3 import SB3VecEnv

from .environments import EnvConfig, make_envs
from .features import WorldFeatures
from .progress import Checkpoint, Progress, sb3_logger, steps_done

FORMAT = 1
CONFIG_FILE, WEIGHTS_FILE, LOG_FILE = "policy.json", "policy.safetensors", "log.jsonl"
CHECKPOINT_FILE = "checkpoint.safetensors"


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """What PPO learns on, and how. One step is a whole chunk (16 frames by default), so horizons are short."""

    environment: EnvConfig = field(default_factory=EnvConfig)
    """The environment."""
    num_envs: int = 16
    """Envs stepped together."""
    steps: int = 20_000
    """Env steps altogether, rounded up to whole rollouts."""
    rollout: int = 32
    """Steps per env between two updates."""
    minibatch: int = 128
    """Transitions per gradient step."""
    epochs: int = 8
    """Passes over each rollout."""
    lr: float = 5e-4
    """Learning rate of Adam."""
    gamma: float = 0.97
    """Discount per step."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    clip_range: float = 0.2
    """Clip of the probability ratio."""
    entropy: float = 0.01
    """Weight of the entropy bonus."""
    features: int = 128
    """Features of a picture."""
    hidden: int = 64
    """Width of the two layers of each head."""
    scale_rewards: bool = False
    """Whether rewards are divided by the deviation of returns so far: for environments whose rewards are large."""
    seed: int = 0
    """Seed of the envs, the network and the actions."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the policy learns."""

    def __post_init__(self) -> None:
        counts = ("num_envs", "steps", "rollout", "minibatch", "epochs")
        check_numbers(self, counts=counts, sizes=("features", "hidden"), positive=("lr",))
        if self.rollout * self.num_envs < 2 or self.minibatch < 2:
            raise ValueError(f"a rollout of {self.rollout} x {self.num_envs} steps is too short; use 2 or more")


class PPOPolicy:
    """A trained policy."""

    def __init__(
        self, network: ActorCriticPolicy, config: PPOConfig, *, deterministic: bool = True, seed: int = 0
    ) -> None:
        self.network, self.config, self.deterministic = network, config, deterministic
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Let the stream of random numbers that actions are drawn from begin anew."""
        self._stream = torch.Generator().manual_seed(seed).get_state()

    def reset(self, num_envs: int) -> None:
        """Do nothing: the policy remembers nothing."""

    def act(self, obs: Any, info: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Return the most likely action of each env, or one drawn from the policy's own stream of random numbers."""
        with torch.random.fork_rng(devices=[]):
            torch.random.set_rng_state(self._stream)
            action, _ = self.network.predict(obs, deterministic=self.deterministic)
            self._stream = torch.random.get_rng_state()
        return np.asarray(action)

    def save(self, folder: str | Path) -> None:
        """Write ``policy.safetensors`` and ``policy.json`` to a folder."""
        path = Path(folder)
        save_tensors(path / WEIGHTS_FILE, self.network.state_dict())
        values = {"format": FORMAT, "policy": "ppo", "config": to_dict(self.config), "action": self.action_text}
        save_text(path / CONFIG_FILE, json.dumps(values, indent=1) + "\n")

    @property
    def action_text(self) -> str:
        """The action space in words, to tell a mismatch by."""
        return str(self.network.action_space)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        deterministic: bool = True,
        seed: int = 0,
    ) -> PPOPolicy:
        """Read a policy for envs with these (single) spaces.

        Raises:
            ValueError: if the folder holds no policy of this version, or one for other spaces.
        """
        path, (config, trained_on) = Path(folder), read_policy(folder)
        weights, _ = load_tensors(path / WEIGHTS_FILE)
        with Budget(sum(part.numel() for part in weights.values()), where=str(path / CONFIG_FILE)):
            network = build_network(config, observation_space, action_space)
        policy = cls(network, config, deterministic=deterministic, seed=seed)
        if trained_on != policy.action_text:
            raise ValueError(f"{path}: the policy acts in {trained_on}, the env takes {policy.action_text}")
        load_module(policy.network, weights, where=str(path / WEIGHTS_FILE))
        policy.network.set_training_mode(False)
        return policy


def read_policy(folder: str | Path) -> tuple[PPOConfig, str]:
    """Read what a saved policy was trained on: its configuration, and its action space in words.

    Raises:
        ValueError: if there is no policy, or it is of another version.
    """
    path = Path(folder) / CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a folder that `worldenv-agents train ppo --out` wrote")
    values = read_table(path)
    told = values.get("format"), values.get("policy", "ppo"), type(values.get("action"))
    if told != (FORMAT, "ppo", str) or "config" not in values:
        raise ValueError(f"{path}: not a policy of format {FORMAT}; train it again")
    return from_dict(PPOConfig, values["config"], where=str(path)), values["action"]


def network_options(config: PPOConfig) -> dict[str, Any]:
    """Return the arguments that shape the network."""
    return {
        "features_extractor_class": WorldFeatures,
        "features_extractor_kwargs": {"width": config.features},
        "net_arch": [config.hidden, config.hidden],
    }


def build_network(
    config: PPOConfig, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> ActorCriticPolicy:
    """Build an untrained network on the CPU for the spaces of a single env."""
    space = channels_first(observation_space)
    return ActorCriticPolicy(space, action_space, lambda _: config.lr, **network_options(config))


def channels_first(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return the space as SB3's networks see it: pictures as (C, H, W)."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: channels_first(part) for key, part in space.spaces.items()})
    if is_image_space(space) and not is_image_space_channels_first(space):  # type: ignore[arg-type]
        return VecTransposeImage.transpose_space(space)  # type: ignore[arg-type]
    return space


def train(
    config: PPOConfig,
    *,
    envs: VectorEnv[Any, Any, Any] | None = None,
    out: Path | None = None,
    progress: bool = False,
    resume: bool = False,
    tensorboard: bool = False,
) -> PPOPolicy:
    """Train a policy.

    Args:
        config: what and how.
        envs: an environment made already; by default the one that ``config.environment`` describes.
        out: folder for the policy, ``log.jsonl`` and a checkpoint after each update; None writes nothing.
        progress: show a progress bar.
        resume: go on from the checkpoint in ``out``, if there is one, with its weights and optimizer and new episodes.
        tensorboard: write what PPO logs to ``out`` for TensorBoard too.

    Raises:
        ValueError: if ``out`` is in use, holds a run and ``resume`` is false, or a run of another configuration.
        ImportError: if TensorBoard is asked for and not installed.
    """
    if out is None:
        return _train(config, envs=envs, out=None, progress=progress, resume=resume, tensorboard=False)
    with in_use(out):
        return _train(config, envs=envs, out=out, progress=progress, resume=resume, tensorboard=tensorboard)


def _train(
    config: PPOConfig,
    *,
    envs: VectorEnv[Any, Any, Any] | None,
    out: Path | None,
    progress: bool,
    resume: bool,
    tensorboard: bool,
) -> PPOPolicy:
    logger = sb3_logger(out if tensorboard else None)
    done = 0 if out is None else steps_done(out / CHECKPOINT_FILE, to_dict(config), resume=resume)
    venv: VecEnv = VecMonitor(SB3VecEnv(make_envs(config.environment, config.num_envs) if envs is None else envs))
    if config.scale_rewards:
        venv = VecNormalize(venv, norm_obs=False, gamma=config.gamma)
    seed = derive_seed(config.seed, "resumed", done) % 2**32 if done else config.seed  # SB3's have 32 bits
    model = build_model(config, venv, seed=seed)
    model.set_logger(logger)
    checkpoint = None if out is None else Checkpoint(out / CHECKPOINT_FILE, to_dict(config))
    if done and checkpoint is not None:
        checkpoint.load(model)
    log = None if out is None else JsonlLog(out / LOG_FILE, resume_step=done)
    callback = Progress(config.steps, log, checkpoint, show=progress)
    try:
        if done < config.steps:
            model.learn(config.steps - done, callback=callback, reset_num_timesteps=not done)
            callback.save()
    finally:
        callback.close()
        logger.close()
        if envs is None:
            venv.close()
    policy = PPOPolicy(model.policy.cpu(), config)
    policy.network.set_training_mode(False)
    if out is not None:
        policy.save(out)
    return policy


def build_model(config: PPOConfig, venv: VecEnv, *, seed: int) -> PPO:
    """Set PPO up on an environment."""
    size = config.rollout * venv.num_envs
    return PPO(
        "MultiInputPolicy" if isinstance(venv.observation_space, spaces.Dict) else "MlpPolicy",
        venv,
        learning_rate=config.lr,
        n_steps=config.rollout,
        batch_size=min(config.minibatch, size),
        n_epochs=config.epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        ent_coef=config.entropy,
        policy_kwargs=network_options(config),
        seed=seed,
        device=config.device,
    )
