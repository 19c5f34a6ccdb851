"""Step many episodes with one model call per step; what happens when some of them end.

    python examples/02_vector_envs.py

Shows the default autoreset (SAME_STEP, with the last observation in ``final_obs``) and resets by hand with a mask.
"""

import gymnasium as gym
import numpy as np
import tyro

import worldenv  # noqa: F401  registers the environment ids


def main(world: str = "maze", num_envs: int = 4) -> None:
    """Step a batch of episodes.

    Args:
        world: packaged name, directory or hub:org/name.
        num_envs: episodes side by side; at least 2.
    """
    autoreset(world, num_envs)
    reset_by_mask(world, num_envs)


def autoreset(world: str, num_envs: int) -> None:
    """Let the environment begin the next episode in the step that ends one."""
    envs = gym.make_vec("worldenv/Navigate-v0", num_envs=num_envs, world=world, max_episode_steps=3)
    print("autoreset mode:", envs.metadata["autoreset_mode"].value)
    obs, info = envs.reset(seed=0)  # row i gets seed 0 + i and is the single env with that seed
    for step in range(4):
        obs, reward, terminated, truncated, info = envs.step(envs.action_space.sample())
        print(f"step {step}: images {obs['image'].shape}, rewards {reward.round(3)}, ended {terminated | truncated}")
        for row in np.flatnonzero(terminated | truncated):
            # obs[row] is already the first view of the next episode; bootstrap values from final_obs instead.
            last = info["final_obs"][row]
            success = info["final_info"]["is_success"][row]
            print(f"  row {row} ended {np.linalg.norm(last['goal'][:3]):.2f} m from its goal, success {success}")
    envs.close()


def reset_by_mask(world: str, num_envs: int) -> None:
    """Reset some rows; the others keep their episodes, bit by bit."""
    envs = gym.make_vec(
        "worldenv/Navigate-v0", num_envs=num_envs, world=world, obs_mode="image", autoreset_mode="Disabled"
    )
    envs.reset(seed=0)
    before, *_ = envs.step(np.zeros(num_envs, np.int64))  # everyone walks forward
    mask = np.zeros(num_envs, bool)
    mask[0] = True
    after, _ = envs.reset(options={"reset_mask": mask, "start": 5})  # row 0 begins again, at start view 5
    same = [bool((before[row] == after[row]).all()) for row in range(num_envs)]
    print("rows that a masked reset of row 0 left alone:", same)
    envs.close()


if __name__ == "__main__":
    tyro.cli(main)
