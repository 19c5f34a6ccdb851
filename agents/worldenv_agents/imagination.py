"""An actor-critic on short imagined episodes, after DreamerV3 (Hafner et al. 2023) and DIAMOND (Alonso et al. 2024).

Every update lets B episodes begin at the world's recorded starts, acts for H steps, and learns from lambda-returns that
end in what a slow critic expects of the rest: a policy gradient with a baseline, advantages in units of the spread of
returns, a critic two-hot over symlog bins. There imagination costs little and a batch is used once; here it costs most,
so each is gone over a few times. Nothing is carried from one update to the next but the networks: a run that was
interrupted goes on to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor, nn

from worldenv.base.config import MOST_SIZE, check_most, check_numbers, check_shares
from worldenv.base.device import resolve_device
from worldenv.base.rng import derive_seed
from worldenv.envs.sb3 import check_learnable
from worldenv.models.heads.event import two_hot

from .environments import EnvConfig, make_envs
from .limits import MOST_WEIGHT
from .policy import LearnerConfig, TrainedPolicy, build_network
from .progress import Kept, finite, kept_in
from .recurrent import Recurrent
from .rollouts import Imagined, each, imagine, lambda_returns

Envs = VectorEnv[Any, Any, Any]
CRITIC = 0.5
"""What the critic's error counts; the policy shares its features."""
PERCENTILES = (0.05, 0.95)
"""Between which the spread of returns is taken."""
KEPT = 0.95
"""Share of the spread so far that an update keeps."""
LARGEST = 10.0
"""Norm that gradients are cut to."""


def in_generated_world() -> EnvConfig:
    """Return where it learns unless it is told otherwise: on latents, from recorded moments on."""
    return EnvConfig(env="worldenv/World-v0", obs_mode="latent", horizon=32)


@dataclass(frozen=True, kw_only=True)
class ImaginationConfig(LearnerConfig):
    """What is learned in imagination, and how; episodes begin anew with every update."""

    kind = "imagination"
    network = Recurrent
    environment: EnvConfig = field(default_factory=in_generated_world)
    """The environment, a generated one."""
    rollout: int = 15
    """Steps that are imagined from each start."""
    lr: float = 2e-3
    """Learning rate of Adam."""
    gamma: float = 0.99
    """Discount per step."""
    entropy: float = 3e-3
    """Weight of the entropy bonus, beside advantages in units of the spread of returns."""
    trace: float = 0.95
    """Lambda of the returns: 0 trusts the critic after one step, 1 only where imagination stops."""
    slow: float = 0.98
    """Share of the slow critic that an update keeps."""
    epochs: int = 4
    """Passes over what was imagined; the ratio of probabilities is clipped as in PPO."""
    batches: int = 2
    """Gradient steps of a pass, each on whole episodes of a share of the envs; 1, with 1 pass, is plain REINFORCE."""
    clip_range: float = 0.2
    """Clip of the probability ratio."""
    recall: int = 0
    """Numbers that a GRU remembers of what was seen; 0 acts on the observation alone, which ``obs_mode stack``
    widens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, counts=("epochs", "batches"), natural=("recall",), positive=("clip_range",))
        if self.batches > self.num_envs:
            raise ValueError(f"batches={self.batches} of {self.num_envs} envs; use as many or fewer")
        check_shares(self, "trace", "slow")
        check_most(self, clip_range=MOST_WEIGHT, recall=MOST_SIZE)
        self.check_weights(3 * self.recall * (self.features + self.recall))
        if self.environment.place == "sim":
            raise ValueError("imagination learns in generated worlds alone; in a simulator train ppo")

    def network_options(self) -> dict[str, Any]:
        """Return the arguments that shape the network."""
        return {**super().network_options(), "memory": self.recall}


class Learner:
    """Networks, optimizer and the spread of returns so far; an update is a function of these and of its number."""

    def __init__(self, config: ImaginationConfig, envs: Envs) -> None:
        if envs.metadata["autoreset_mode"] != AutoresetMode.SAME_STEP:
            raise ValueError("imagination needs autoreset_mode='SameStep'; make the env without another mode")
        check_learnable(envs.single_observation_space)
        self.config, self.envs, self.steps, self.spread = config, envs, 0, 0.0
        with self._random("network"):
            network = build_network(config, envs.single_observation_space, envs.single_action_space)
        assert isinstance(network, Recurrent)
        self.network = network.to(resolve_device(config.device))
        self.slow = deepcopy(self.network).requires_grad_(False)
        self.both = nn.ModuleDict({"network": self.network, "slow": self.slow})

    @contextmanager
    def _random(self, *what: int | str) -> Iterator[None]:
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(self.config.seed, *what))
            yield

    def update(self) -> dict[str, float]:
        """Imagine, learn from it, and return figures of both."""
        config, envs = self.config, self.envs
        seeds = [derive_seed(config.seed, "imagined", self.steps, row) for row in range(envs.num_envs)]
        with self._random("update", self.steps):
            lived = imagine(envs, self.network, seeds=seeds, steps=config.rollout)
            figures = self._learn(lived)
        self.steps += lived.reward.numel()
        return {"mean_return": float(lived.reward.sum(0).mean()), "success": lived.success, **figures}

    def _learn(self, lived: Imagined) -> dict[str, float]:
        """Go over what was imagined."""
        config = self.config
        returns, expected = self._returns(lived)
        low, high = returns.flatten().quantile(torch.tensor(PERCENTILES, device=returns.device)).tolist()
        self.spread = KEPT * self.spread + (1 - KEPT) * (high - low) if self.steps else high - low
        advantage = (returns - expected) / max(1.0, self.spread)
        told = []
        for _ in range(config.epochs):
            for rows in torch.randperm(returns.shape[1], device=returns.device).tensor_split(config.batches):
                told.append(self._descend(lived, rows, returns[:, rows], advantage[:, rows]))
        entropy, critic = (sum(parts) / len(told) for parts in zip(*told, strict=True))
        return {"expected": float(returns.mean()), "spread": self.spread, "entropy": entropy, "critic": critic}

    @torch.no_grad()
    def _returns(self, lived: Imagined) -> tuple[Tensor, Tensor]:
        """Return lambda-returns by the slow critic and what the critic expected, both (H, B)."""
        slow, config = self.slow, self.config
        before, after = (slow.see(each(_flat, seen)) for seen in (lived.seen, lived.after))
        memory = slow.remember(after, slow.unroll(before, lived.ended))
        ahead = slow.expected(slow.heads(after, memory)[1]).view_as(lived.reward)
        features = self.network.see(each(_flat, lived.seen))
        logits = self.network.heads(features, self.network.unroll(features, lived.ended))[1]
        how = {"gamma": config.gamma, "trace": config.trace}
        returns = lambda_returns(lived.reward, ahead, lived.terminated, lived.ended, **how)
        return returns, self.network.expected(logits).view_as(returns)

    def _descend(
        self,
        lived: Imagined,
        rows: Tensor,  # (N,) of the B envs
        returns: Tensor,  # (H, N)
        advantage: Tensor,  # (H, N)
    ) -> tuple[float, float]:
        """Take a gradient step on some envs' episodes; return the policy's entropy and the critic's error."""
        network, config = self.network, self.config
        features = network.see(each(lambda part: _flat(part[:, rows]), lived.seen))
        distribution, logits = network.heads(features, network.unroll(features, lived.ended[:, rows]))
        entropy, log_prob = distribution.entropy(), distribution.log_prob(_flat(lived.actions[:, rows]))
        assert entropy is not None
        ratio, gain = (log_prob - _flat(lived.log_prob[:, rows])).exp(), _flat(advantage)
        clipped = ratio.clamp(1 - config.clip_range, 1 + config.clip_range)
        actor = -torch.minimum(ratio * gain, clipped * gain).mean() - config.entropy * entropy.mean()
        critic = -(two_hot(_flat(returns), network.values) * logits.log_softmax(1)).sum(1).mean()
        network.optimizer.zero_grad()
        (actor + CRITIC * critic).backward()
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST)
        network.optimizer.step()
        with torch.no_grad():
            for slow, now in zip(self.slow.parameters(), network.parameters(), strict=True):
                slow.lerp_(now, 1 - config.slow)
        return float(entropy.detach().mean()), float(critic.detach())


def _flat(part: Tensor) -> Tensor:
    """Turn (H, B, ...) into (H * B, ...)."""
    return part.flatten(0, 1)


def train(
    config: ImaginationConfig,
    *,
    envs: Envs | None = None,
    out: Path | None = None,
    progress: bool = False,
    resume: bool = False,
    tensorboard: bool = False,
) -> TrainedPolicy:
    """Train a policy; see ``ppo.train``. What goes on from a checkpoint is to the last bit what was not interrupted.

    Raises:
        ValueError: if ``out`` is in use, holds a run and ``resume`` is false, or a run of another configuration.
        ImportError: if TensorBoard is asked for and not installed.
    """
    with kept_in(out, config, resume=resume, tensorboard=tensorboard, show=progress) as kept:
        made = make_envs(config.environment, config.num_envs) if envs is None else envs
        try:
            learner = Learner(config, made)
            _learn(learner, kept)
        finally:
            if envs is None:
                made.close()
        policy = TrainedPolicy(learner.network.cpu(), config)
        policy.network.set_training_mode(False)
        if out is not None:
            policy.save(out)
        return policy


def _learn(learner: Learner, kept: Kept) -> None:
    optimizer, checkpoint = learner.network.optimizer, kept.checkpoint
    if kept.done and checkpoint is not None:
        run = checkpoint.load(learner.both, optimizer)
        learner.steps, learner.spread = run.steps, run.spread or 0.0
    while learner.steps < learner.config.steps:
        with finite(learner.network):
            figures = learner.update()
        kept.report.write(learner.steps, **figures)
        for name, value in figures.items():
            kept.logger.record(name, value)
        kept.logger.dump(learner.steps)
        if checkpoint is not None:
            checkpoint.save(learner.steps, learner.both, optimizer, spread=learner.spread)
