"""PPO from Stable-Baselines3 on worldenv's vector environments, saved as safetensors and JSON, never as pickle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gymnasium import spaces
from gymnasium.vector import VectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

from worldenv.base.config import check_numbers, to_dict
from worldenv.base.lock import in_use
from worldenv.base.log import JsonlLog
from worldenv.base.rng import derive_seed
from worldenv.envs.sb3 import SB3VecEnv

from .environments import make_envs
from .policy import CHECKPOINT_FILE, LOG_FILE, LearnerConfig, TrainedPolicy, build_network, read_policy
from .progress import Checkpoint, Progress, Report, restore, sb3_logger, steps_done

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
        check_numbers(self, counts=("minibatch", "epochs"))
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
        restore(model, checkpoint)
    log = None if out is None else JsonlLog(out / LOG_FILE, resume_step=done)
    report = Report(config.kind, config.steps, log, show=progress)
    callback = Progress(report, checkpoint)
    try:
        if done < config.steps:
            model.learn(config.steps - done, callback=callback, reset_num_timesteps=not done)
            callback.save()
    finally:
        report.close()
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
        policy_kwargs=config.network_options(),
        seed=seed,
        device=config.device,
    )
