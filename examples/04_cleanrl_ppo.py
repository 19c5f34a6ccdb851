"""PPO in one file, in the style of CleanRL: plain PyTorch on ``gym.make_vec``, nothing hidden.

    python examples/04_cleanrl_ppo.py --total-steps 256

The policy sees the goal vector (right, up, forward in metres, yaw) and picks one of the four ``basic`` actions.
"""

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch import nn
from torch.distributions import Categorical

import worldenv  # noqa: F401  registers the environment ids


@dataclass
class Args:
    """PPO on a generated world."""

    world: str = "maze"
    """packaged name, directory or hub:org/name"""
    total_steps: int = 256
    """env steps altogether; 20000 and more for a real run"""
    num_envs: int = 8
    """episodes stepped together, one model call per step"""
    rollout: int = 16
    """steps per env between two updates"""
    epochs: int = 4
    """passes over each rollout"""
    minibatches: int = 4
    """gradient steps per pass"""
    lr: float = 1e-3
    """learning rate of Adam"""
    gamma: float = 0.97
    """discount"""
    gae_lambda: float = 0.95
    """lambda of generalised advantage estimation"""
    clip: float = 0.2
    """clip of the probability ratio"""
    entropy: float = 0.01
    """weight of the entropy bonus"""
    seed: int = 0
    """seed of everything"""


class Agent(nn.Module):
    """Two small networks: one for the policy, one for the value."""

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.actor = nn.Sequential(
            nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, num_actions)
        )
        self.critic = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))

    def forward(self, goal: torch.Tensor) -> tuple[Categorical, torch.Tensor]:
        x = goal.sign() * goal.abs().log1p()  # metres have no bound
        return Categorical(logits=self.actor(x)), self.critic(x)[..., 0]


@torch.no_grad()
def collect(
    envs: gym.vector.VectorEnv, agent: Agent, obs: dict[str, np.ndarray], args: Args
) -> tuple[dict[str, torch.Tensor], dict[str, np.ndarray], list[float]]:
    """Play one rollout; return the batch, the newest observation and the returns of finished episodes."""
    keys = ("obs", "actions", "logprobs", "rewards", "values", "next_values", "terminated", "done")
    batch: dict[str, list[torch.Tensor]] = {key: [] for key in keys}
    successes = []
    for _ in range(args.rollout):
        goal = torch.as_tensor(obs["goal"])
        policy, value = agent(goal)
        action = policy.sample()
        obs, reward, terminated, truncated, info = envs.step(action.numpy())
        # SAME_STEP autoreset: obs of a finished row belongs to its next episode, so the value that the last step leads
        # to comes from final_obs. Without this a time limit would look like the end of the world.
        after, done = obs["goal"].copy(), terminated | truncated
        for row in np.flatnonzero(done):
            after[row] = info["final_obs"][row]["goal"]
            successes.append(float(info["final_info"]["is_success"][row]))
        next_value = agent(torch.as_tensor(after))[1]
        step = (goal, action, policy.log_prob(action), reward, value, next_value, terminated, done)
        for key, item in zip(keys, step, strict=True):
            item = torch.as_tensor(item)
            batch[key].append(item.float() if item.dtype in (torch.bool, torch.float64) else item)
    return {key: torch.stack(items) for key, items in batch.items()}, obs, successes


def advantages(batch: dict[str, torch.Tensor], args: Args) -> torch.Tensor:
    """Generalised advantage estimation (Schulman et al. 2016), backwards through the rollout."""
    result, running = torch.zeros_like(batch["rewards"]), torch.zeros_like(batch["rewards"][0])
    for t in reversed(range(len(result))):
        target = batch["rewards"][t] + args.gamma * (1 - batch["terminated"][t]) * batch["next_values"][t]
        running = target - batch["values"][t] + args.gamma * args.gae_lambda * (1 - batch["done"][t]) * running
        result[t] = running
    return result


def update(agent: Agent, optimizer: torch.optim.Optimizer, batch: dict[str, torch.Tensor], args: Args) -> float:
    """Take PPO's clipped gradient steps; return the last loss."""
    batch["advantages"] = advantages(batch, args)
    batch["returns"] = batch["advantages"] + batch["values"]
    flat = {key: value.flatten(0, 1) for key, value in batch.items()}
    loss = torch.zeros(())
    for _ in range(args.epochs):
        for index in torch.randperm(len(flat["actions"])).chunk(args.minibatches):
            b = {key: value[index] for key, value in flat.items()}
            policy, value = agent(b["obs"])
            advantage = (b["advantages"] - b["advantages"].mean()) / (b["advantages"].std() + 1e-8)
            ratio = (policy.log_prob(b["actions"]) - b["logprobs"]).exp()
            clipped = ratio.clamp(1 - args.clip, 1 + args.clip)
            policy_loss = -torch.min(ratio * advantage, clipped * advantage).mean()
            value_loss = (value - b["returns"]).square().mean()
            loss = policy_loss + 0.5 * value_loss - args.entropy * policy.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()
    return loss.item()


def main(args: Args) -> None:
    """Alternate between playing and learning."""
    torch.manual_seed(args.seed)
    envs = gym.make_vec(
        "worldenv/Navigate-v0", num_envs=args.num_envs, world=args.world, obs_keys=["goal"], max_episode_steps=16
    )
    assert isinstance(envs.single_action_space, gym.spaces.Discrete)
    agent = Agent(int(envs.single_action_space.n))
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.lr, eps=1e-5)
    obs, _ = envs.reset(seed=args.seed)
    per_rollout = args.rollout * args.num_envs
    for iteration in range(max(1, args.total_steps // per_rollout)):
        batch, obs, successes = collect(envs, agent, obs, args)
        loss = update(agent, optimizer, batch, args)
        rate = f"{np.mean(successes):.0%} of {len(successes)} episodes" if successes else "no episode ended"
        reward = float(batch["rewards"].mean())
        print(f"step {(iteration + 1) * per_rollout:6d}  loss {loss:+.3f}  reward {reward:+.4f}  success {rate}")
    envs.close()


if __name__ == "__main__":
    main(tyro.cli(Args))
