"""Collect transitions with TorchRL, straight from the vector environment, in this process or in several.

    pip install torchrl
    python examples/05_torchrl.py
    python examples/05_torchrl.py --processes 2          # a vector environment in each, stepped at the same time
    python examples/05_torchrl.py --processes 2 --ray    # the same in Ray actors (pip install "worldenv[ray]")

TorchRL resets finished rows itself, with a mask, so the environment is made with ``autoreset_mode="Disabled"``.
"""

import sys
from functools import partial
from typing import Any

import gymnasium as gym
import tyro


def make(world: str, num_envs: int) -> Any:
    """Make a vector environment as TorchRL takes it; also what every other process runs."""
    from torchrl.envs import GymWrapper

    envs = gym.make_vec(
        "worldenv:worldenv/Navigate-v0", num_envs=num_envs, world=world, autoreset_mode="Disabled", max_episode_steps=5
    )
    return GymWrapper(envs)


def collect(world: str, num_envs: int, steps: int, processes: int, ray: bool) -> Any:
    """Take random steps in several processes; return the batch of all, (processes, num_envs, steps) or the like."""
    from torchrl.collectors import MultiSyncCollector

    makers = [partial(make, world, num_envs)] * processes
    frames = {"frames_per_batch": processes * num_envs * steps, "total_frames": processes * num_envs * steps}
    if ray:
        from torchrl.collectors.distributed import RayCollector

        collector = RayCollector(
            makers,
            None,
            **frames,
            sync=True,
            ray_init_config={"include_dashboard": False},
            remote_configs={"num_cpus": 1, "num_gpus": 0},
        )
    else:
        collector = MultiSyncCollector(makers, None, **frames, cat_results="stack")
    batch = next(iter(collector)).clone()
    collector.shutdown()
    return batch


def main(world: str = "maze", num_envs: int = 4, steps: int = 8, processes: int = 1, ray: bool = False) -> None:
    """Take random steps and print the batch that TorchRL makes of them.

    Args:
        world: packaged name, directory or hub:org/name.
        num_envs: episodes stepped together, one model call per step.
        steps: env steps.
        processes: vector environments of so many envs, each in a process of its own; 1 is this one.
        ray: let Ray hold the processes.
    """
    try:
        import torchrl  # noqa: F401
    except ImportError as error:
        sys.exit(f"this example needs TorchRL: pip install torchrl ({error})")

    if processes > 1 or ray:
        batch = collect(world, num_envs, steps, processes, ray)
    else:
        env = make(world, num_envs)
        env.set_seed(0)
        batch = env.rollout(steps, break_when_any_done=False)  # a TensorDict (num_envs, steps)
        env.close()
    print(batch)
    print("images:", tuple(batch["image"].shape), batch["image"].dtype)
    print("rewards:", tuple(batch["next", "reward"].shape), "mean", round(float(batch["next", "reward"].mean()), 4))
    print("episodes that ended:", int(batch["next", "done"].sum()))


if __name__ == "__main__":
    tyro.cli(main)
