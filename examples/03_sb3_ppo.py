"""Train PPO from Stable-Baselines3 inside a generated world.

    python examples/03_sb3_ppo.py --steps 256

The goal vector alone is enough to learn Navigate, so this example leaves the pictures out and learns quickly; with
``--pictures`` the network sees them as well. ``worldenv-agents train ppo`` is the full version, with saving.
"""

import gymnasium as gym
import tyro
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor

import worldenv
import worldenv.envs.sb3


def main(world: str = "maze", steps: int = 256, num_envs: int = 8, pictures: bool = False) -> None:
    """Train for a moment and show what SB3 reports; a real run needs --steps 20000 or more.

    Args:
        world: packaged name, directory or hub:org/name.
        steps: env steps altogether.
        num_envs: episodes stepped together, one model call per step.
        pictures: observe the image besides the goal.
    """
    envs = gym.make_vec(
        "worldenv/Navigate-v0",
        num_envs=num_envs,
        world=world,
        obs_keys=["image", "goal"] if pictures else ["goal"],
        max_episode_steps=16,
    )
    # SB3 has its own vector interface; VecMonitor adds the episode statistics that SB3 prints.
    venv = VecMonitor(worldenv.envs.sb3.SB3VecEnv(envs))
    model = PPO("MultiInputPolicy", venv, n_steps=16, batch_size=64, gamma=0.97, ent_coef=0.01, seed=0, verbose=1)
    model.learn(steps)

    mean, deviation = evaluate_policy(model, venv, n_eval_episodes=num_envs)
    print(f"return after {model.num_timesteps} steps: {mean:.2f} +- {deviation:.2f}")
    venv.close()


if __name__ == "__main__":
    tyro.cli(main)
