"""SB3's actor-critic with a critic that is two-hot over symlog bins (DreamerV3) and, if wanted, a memory."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import Tensor, nn

BINS, REACH = 255, 20.0
"""Of the critic, and the symlog of the largest return that they hold."""


class Recurrent(ActorCriticPolicy):
    """SB3's actor-critic, whose critic is two-hot, and which remembers with a GRU if ``memory`` is not 0."""

    def __init__(self, *args: Any, memory: int, **kwargs: Any) -> None:
        self.memory = memory
        super().__init__(*args, **kwargs)

    def _build_mlp_extractor(self) -> None:
        self.gru = nn.GRUCell(self.features_dim, self.memory) if self.memory else None
        width = self.features_dim + self.memory
        self.mlp_extractor = MlpExtractor(width, self.net_arch, self.activation_fn, self.device)

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.value_net = nn.Linear(self.mlp_extractor.latent_dim_vf, BINS)
        nn.init.zeros_(self.value_net.weight)
        nn.init.zeros_(self.value_net.bias)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]
        self.remembered: Tensor | None = None

    @property
    def values(self) -> Tensor:
        """What the critic's bins stand for, (BINS,)."""
        reach = torch.linspace(-REACH, REACH, BINS, device=self.device)
        return reach.sign() * reach.abs().expm1()  # symexp

    def see(self, obs: Any) -> Tensor:
        """Return features of observations (N, ...), (N, D)."""
        features = self.extract_features(obs)
        assert isinstance(features, Tensor)  # the policy and the critic share them
        return features

    def remember(
        self,
        features: Tensor,  # (N, D)
        memory: Tensor,  # (N, M)
    ) -> Tensor:
        """Return what is known once this is seen too, (N, M)."""
        return memory if self.gru is None else self.gru(features, memory)

    def unroll(
        self,
        features: Tensor,  # (H * B, D)
        ended: Tensor,  # (H, B): whether an episode ended with what was done then
    ) -> Tensor:
        """Return what is known at every step of episodes that begin with the first, (H * B, M)."""
        known, memory = [], features.new_zeros(ended.shape[1], self.memory)
        for seen, over in zip(features.unflatten(0, ended.shape), ended, strict=True):
            memory = self.remember(seen, memory)
            known.append(memory)
            memory = memory * ~over[:, None]
        return torch.cat(known)

    def heads(
        self,
        features: Tensor,  # (N, D)
        memory: Tensor,  # (N, M), these features in it
    ) -> tuple[Distribution, Tensor]:
        """Return the distribution of actions and the critic's logits (N, BINS)."""
        actor, critic = self.mlp_extractor(torch.cat([features, memory], 1))
        return self._get_action_dist_from_latent(actor), self.value_net(critic)

    def expected(
        self,
        logits: Tensor,  # (N, BINS)
    ) -> Tensor:
        """Return the returns that the critic expects, (N,)."""
        return logits.softmax(1) @ self.values

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> Any:
        """Return actions, and what is remembered of each env for the next ones; ``state`` None begins anew."""
        self.remembered = state
        actions, _ = super().predict(observation, None, episode_start, deterministic)
        return actions, self.remembered

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:
        features = self.see(observation)
        before = features.new_zeros(len(features), self.memory) if self.remembered is None else self.remembered
        self.remembered = self.remember(features, before)
        return self.heads(features, self.remembered)[0].get_actions(deterministic=deterministic)
