"""From an environment of one's own to a world, and to an agent that has learned inside of it.

    python examples/07_own_environment.py --out out/catch

``catch.py`` beside this file is the environment: thirty lines, no poses, actions in a dictionary. On the command line
the first half is, in this folder, ``worldenv make catch:Catch-v0 --out out --size 48 48 --frames-per-latent 1``.
"""

from pathlib import Path

import gymnasium as gym
import tyro
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor

from worldenv.envs.sb3 import SB3VecEnv
from worldenv.making.config import MakeConfig
from worldenv.making.make import make

GAME = "catch:Catch-v0"


def main(
    out: Path,
    what: MakeConfig = MakeConfig(size=(48, 48), frames_per_latent=1, hours=0.5),  # noqa: B008
    steps: int = 20_000,
    num_envs: int = 16,
) -> None:
    """Make the world, train PPO in it alone, and play the real game.

    Args:
        out: folder for everything; the same command goes on where it was interrupted.
        what: how the world is made; see ``worldenv make --help``.
        steps: steps of the agent in the world.
        num_envs: episodes stepped together.
    """
    make(GAME, what, out)

    def opened(name: str, **settings: object) -> VecMonitor:
        return VecMonitor(SB3VecEnv(gym.make_vec(name, num_envs=num_envs, world=str(out / "world"), **settings)))

    inside, real = opened("worldenv/World-v0"), opened("worldenv/WorldSim-v0", sim_env=GAME)
    print("actions:", inside.venv.base.single_action_space, "as", inside.action_space)
    model = PPO("CnnPolicy", inside, n_steps=64, batch_size=256, gamma=0.97, ent_coef=0.01, seed=0)
    before, _ = evaluate_policy(model, real, n_eval_episodes=num_envs, deterministic=False)
    model.learn(steps)
    after, deviation = evaluate_policy(model, real, n_eval_episodes=num_envs)
    print(f"return in the real game before {before:.2f}, after {after:.2f} +- {deviation:.2f}")
    model.save(out / "ppo")


if __name__ == "__main__":
    tyro.cli(main)
