"""Collect a batch of transitions with TorchRL, straight from the vector environment, in one process or several.

    pip install torchrl
    python examples/05_torchrl.py
    python examples/05_torchrl.py --processes 2

TorchRL resets finished rows itself, with a mask, so the environment is made with ``autoreset_mode="Disabled"``.
"""

import sys
from functools import partial
from typing import Any

import gymnasium as gym
import tyro

import worldenv  # noqa: F401  registers the environment ids


def open_envs(world: str, num_envs: int) -> Any:
    """Make the environment as TorchRL sees it; each of its processes does."""
    from torchrl.envs import GymWrapper

    return GymWrapper(
        gym.make_vec(
            "worldenv/Navigate-v0", num_envs=num_envs, world=world, autoreset_mode="Disabled", max_episode_steps=5
        )
    )


def main(world: str = "maze", num_envs: int = 4, steps: int = 8, processes: int = 1) -> None:
    """Take random steps and print the batch that TorchRL makes of them.

    Args:
        world: packaged name, directory or hub:org/name.
        num_envs: episodes stepped together, one model call per step.
        steps: env steps.
        processes: processes that step so many episodes each, on a core each.
    """
    try:
        from torchrl.collectors import Collector, MultiSyncCollector
    except ImportError as error:
        sys.exit(f"this example needs TorchRL: pip install torchrl ({error})")

    make = partial(open_envs, world, num_envs)
    frames = num_envs * steps
    collector = (
        Collector(make, frames_per_batch=frames)
        if processes == 1
        else MultiSyncCollector([make] * processes, frames_per_batch=processes * frames, cat_results="stack")
    )
    collector.set_seed(0)
    batch = next(iter(collector))  # a TensorDict (num_envs, steps), of several processes (processes, num_envs, steps)
    print(batch)
    print("images:", tuple(batch["image"].shape), batch["image"].dtype)
    print("rewards:", tuple(batch["next", "reward"].shape), "mean", round(float(batch["next", "reward"].mean()), 4))
    print("episodes that ended:", int(batch["next", "done"].sum()))
    collector.shutdown()


if __name__ == "__main__":
    tyro.cli(main)
