"""PPO from Stable-Baselines3 on worldenv's vector environments, saved as safetensors and JSON, never as pickle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gymnasium import spaces
from gymnasium.vector import VectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

from worldenv.base.config import check_most, check_numbers, check_shares
from worldenv.base.rng import derive_seed
from worldenv.envs.sb3 import SB3VecEnv

from .environments import make_envs
from .limits import MOST_WEIGHT
from .policy import LearnerConfig, TrainedPolicy, build_network, read_policy
from .progress import Kept, Progress, finite, kept_in, restore

__all__ = ["PPOConfig", "PPOPolicy", "build_network", "read_policy", "train"]

PPOPolicy = TrainedPolicy
"""What PPO leaves is what every learner leaves."""


@dataclass(frozen=True, kw_only=True)
class PPOConfig(LearnerConfig):
    """What PPO learns on, and how. One step is a whole chunk (16 frames by default), so horizons are short."""

    kind = "ppo"
    minibatch: int = 128
    """Transitions per gradient step."""
    epochs: int = 8
    """Passes over each rollout."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    clip_range: float = 0.2
    """Clip of the probability ratio."""
    scale_rewards: bool = False
    """Whether rewards are divided by the deviation of returns so far: for environments whose rewards are large."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, counts=("minibatch", "epochs"), positive=("clip_range",))
        check_shares(self, "gae_lambda")
        check_most(self, clip_range=MOST_WEIGHT)
        if self.rollout * self.num_envs < 2 or self.minibatch < 2:
            raise ValueError(f"a rollout of {self.rollout} x {self.num_envs} steps is too short; use 2 or more")


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
    with kept_in(out, config, resume=resume, tensorboard=tensorboard, show=progress) as kept:
        venv = wrap(config, make_envs(config.environment, config.num_envs) if envs is None else envs)
        try:
            policy = PPOPolicy(_learn(config, venv, kept).policy.cpu(), config)
        finally:
            if envs is None:
                venv.close()
        policy.network.set_training_mode(False)
        if out is not None:
            policy.save(out)
        return policy


def wrap(config: PPOConfig, envs: VectorEnv[Any, Any, Any]) -> VecEnv:
    """Return an environment as SB3 wants it, its returns counted and, if asked for, its rewards scaled."""
    venv = VecMonitor(SB3VecEnv(envs))
    return VecNormalize(venv, norm_obs=False, gamma=config.gamma) if config.scale_rewards else venv


def _learn(config: PPOConfig, venv: VecEnv, kept: Kept) -> PPO:
    done, callback = kept.done, Progress(kept.report, kept.checkpoint)
    seed = derive_seed(config.seed, "resumed", done) % 2**32 if done else config.seed  # SB3's have 32 bits
    model = build_model(config, venv, seed=seed)
    model.set_logger(kept.logger)
    if done and kept.checkpoint is not None:
        restore(model, kept.checkpoint)
    if done < config.steps:
        with finite(model.policy):
            model.learn(config.steps - done, callback=callback, reset_num_timesteps=not done)
        callback.save()
    return model


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
        policy_kwargs=config.network_options(),
        seed=seed,
        device=config.device,
    )
