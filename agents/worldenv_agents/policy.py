"""What every learner is told and leaves: settings, a network of SB3's, and a policy saved as safetensors and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import VecTransposeImage

from worldenv.base.budget import Budget
from worldenv.base.checkpoint import load_module, load_tensors, save_tensors
from worldenv.base.config import MOST_SIZE, check_most, check_numbers, check_shares, from_dict, to_dict
from worldenv.base.documents import is_format, read_table
from worldenv.base.files import save_text
from worldenv.base.objects import import_object
from worldenv.base.said import check_path

from .environments import EnvConfig
from .features import WorldFeatures
from .learners import LEARNERS, config_class, find_learner
from .limits import MOST_RATE, MOST_SEED, MOST_WEIGHT, MOST_WEIGHTS

FORMAT = 1
CONFIG_FILE, WEIGHTS_FILE, LOG_FILE = "policy.json", "policy.safetensors", "log.jsonl"
CHECKPOINT_FILE = "checkpoint.safetensors"


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """What a policy is trained on, and how. One step is a whole chunk (16 frames by default), so horizons are short."""

    kind: ClassVar[str]
    """The algorithm's name."""
    network: ClassVar[type[ActorCriticPolicy]] = ActorCriticPolicy
    """What it trains."""
    environment: EnvConfig = field(default_factory=EnvConfig)
    """The environment."""
    num_envs: int = 16
    """Envs stepped together."""
    steps: int = 20_000
    """Env steps altogether, rounded up to whole rollouts."""
    rollout: int = 32
    """Steps per env between two updates."""
    lr: float = 5e-4
    """Learning rate of Adam."""
    gamma: float = 0.97
    """Discount per step."""
    entropy: float = 0.01
    """Weight of the entropy bonus."""
    spread: float = 1.0
    """Deviation with which numbers of continuous actions are drawn at first."""
    features: int = 128
    """Features of a picture."""
    hidden: int = 64
    """Width of the two layers of each head."""
    seed: int = 0
    """Seed of the envs, the network and the actions."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the policy learns."""

    def __post_init__(self) -> None:
        counts, sizes = ("num_envs", "steps", "rollout"), ("features", "hidden")
        check_numbers(self, counts=counts, sizes=sizes, natural=("entropy", "seed"), positive=("lr", "spread"))
        check_shares(self, "gamma")
        check_most(self, rollout=MOST_SIZE, lr=MOST_RATE, entropy=MOST_WEIGHT, spread=MOST_WEIGHT, seed=MOST_SEED)
        self.check_weights(2 * self.hidden * (self.features + self.hidden))

    def check_weights(self, count: int) -> None:
        """Refuse, by a ValueError, layers of more weights than any policy here has."""
        if count > MOST_WEIGHTS:
            raise ValueError(
                f"features={self.features}, hidden={self.hidden} ask for {count} weights; most are {MOST_WEIGHTS}"
            )

    def network_options(self) -> dict[str, Any]:
        """Return the arguments that shape the network."""
        return {
            "features_extractor_class": WorldFeatures,
            "features_extractor_kwargs": {"width": self.features},
            "net_arch": [self.hidden, self.hidden],
            "log_std_init": math.log(self.spread),
        }


class TrainedPolicy:
    """A trained policy."""

    def __init__(
        self, network: ActorCriticPolicy, config: LearnerConfig, *, deterministic: bool = True, seed: int = 0
    ) -> None:
        self.network, self.config, self.deterministic = network, config, deterministic
        self._memory: Any = None  # what the network remembers of each env; None of those that do not, and at first
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Let the stream of random numbers that actions are drawn from begin anew."""
        self._stream = torch.Generator().manual_seed(seed).get_state()

    def reset(self, num_envs: int) -> None:
        """Forget what was seen."""
        self._memory = None

    def act(self, obs: Any, info: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Return the most likely action of each env, or one drawn from the policy's own stream of random numbers."""
        with torch.random.fork_rng(devices=[]):
            torch.random.set_rng_state(self._stream)
            action, self._memory = self.network.predict(obs, self._memory, deterministic=self.deterministic)
            self._stream = torch.random.get_rng_state()
        return np.asarray(action)

    def save(self, folder: str | Path) -> None:
        """Write ``policy.safetensors`` and ``policy.json`` to a folder."""
        path = Path(folder)
        save_tensors(path / WEIGHTS_FILE, self.network.state_dict())
        config = to_dict(self.config)
        values = {"format": FORMAT, "policy": self.config.kind, "config": config, "action": self.action_text}
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
    ) -> TrainedPolicy:
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


def read_policy(folder: str | Path) -> tuple[LearnerConfig, str]:
    """Read what a saved policy was trained on: its configuration, and its action space in words.

    Raises:
        ValueError: if there is no policy, or it is of another version.
    """
    path = check_path(Path(folder) / CONFIG_FILE)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a folder that `worldenv-agents train ... --out` wrote")
    values = read_table(path)
    whole = isinstance(values.get("action"), str) and "config" in values
    if not is_format(values.get("format"), FORMAT) or not whole:
        raise ValueError(f"{path}: not a policy of format {FORMAT}; train it again")
    kind = values.get("policy", "ppo")
    if not isinstance(kind, str) or kind not in LEARNERS:
        raise ValueError(f"{path}: a policy of {str(kind)[:40]!r}, known are {', '.join(LEARNERS)}; train it again")
    config: LearnerConfig = from_dict(config_class(kind), values["config"], where=str(path))
    return config, values["action"]


def train(config: LearnerConfig, *, out: Path, **options: Any) -> TrainedPolicy:
    """Train by the algorithm that the settings are of; see ``ppo.train`` for the options."""
    policy: TrainedPolicy = import_object(find_learner(config.kind).train, what="algorithm")(config, out=out, **options)
    return policy


def build_network(
    config: LearnerConfig, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> ActorCriticPolicy:
    """Build an untrained network on the CPU for the spaces of a single env."""
    space = channels_first(observation_space)
    return config.network(space, action_space, lambda _: config.lr, **config.network_options())


def channels_first(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return the space as SB3's networks see it: pictures as (C, H, W)."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: channels_first(part) for key, part in space.spaces.items()})
    if is_image_space(space) and not is_image_space_channels_first(space):  # type: ignore[arg-type]
        return VecTransposeImage.transpose_space(space)  # type: ignore[arg-type]
    return space
