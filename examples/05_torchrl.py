"""Collect a batch of transitions with TorchRL, straight from the vector environment.

    pip install torchrl
    python examples/05_torchrl.py

TorchRL resets finished rows itself, with a mask, so the environment is made with ``autoreset_mode="Disabled"``.
"""

import sys

import gymnasium as gym
import tyro

import worldenv  # noqa: F401  registers the environment ids


def main(world: str = "maze", num_envs: int = 4, steps: int = 8) -> None:
    """Take random steps and print the batch that TorchRL makes of them.

    Args:
        world: packaged name, directory or hub:org/name.
        num_envs: episodes stepped together, one model call per step.
        steps: env steps.
    """
    try:
        from torchrl.envs import GymWrapper
    except ImportError as error:
        sys.exit(f"this example needs TorchRL: pip install torchrl ({error})")

    envs = gym.make_vec(
        "worldenv/Navigate-v0", num_envs=num_envs, world=world, autoreset_mode="Disabled", max_episode_steps=5
    )
    env = GymWrapper(envs)
    env.set_seed(0)
    batch = env.rollout(steps, break_when_any_done=False)  # a TensorDict (num_envs, steps)
    print(batch)
    print("images:", tuple(batch["image"].shape), batch["image"].dtype)
    print("rewards:", tuple(batch["next", "reward"].shape), "mean", round(float(batch["next", "reward"].mean()), 4))
    print("episodes that ended:", int(batch["next", "done"].sum()))
    env.close()


if __name__ == "__main__":
    tyro.cli(main)
