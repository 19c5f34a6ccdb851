"""Make a generated world, take a few steps in it, save what was seen.

    python examples/01_make_and_step.py --out frames.png

A step is a whole chunk: the action is held for 16 frames (0.67 s of world time), and the observation shows the last.
"""

from pathlib import Path

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np
import tyro

import worldenv  # noqa: F401  registers the environment ids

FORWARD, BACK, TURN_RIGHT, TURN_LEFT = range(4)  # action_mode="basic", the default


def main(world: str = "maze", out: Path = Path("frames.png"), seed: int = 0) -> None:
    """Walk a little and look around.

    Args:
        world: packaged name, directory or hub:org/name.
        out: picture to write: the start view and the view after each step, side by side.
        seed: chooses the start view and the noise; the same seed and actions give the same pictures.
    """
    env = gym.make("worldenv/Navigate-v0", world=world)
    obs, info = env.reset(seed=seed)
    print("observation:", {key: f"{value.shape} {value.dtype}" for key, value in obs.items()})
    print("action space:", env.action_space)

    views = [obs["image"]]
    for action in (FORWARD, FORWARD, TURN_RIGHT, TURN_RIGHT, FORWARD):
        obs, reward, terminated, truncated, info = env.step(action)
        views.append(obs["image"])
        right, _, forward, _ = obs["goal"]  # right, up, forward in metres and yaw, in the camera's own frame
        print(f"reward {reward:+.3f}  goal {forward:+.2f} m ahead, {right:+.2f} m right  frames {info['n_frames']}")
        if terminated or truncated:
            break

    imageio.imwrite(out, np.concatenate(views, axis=1))
    print(f"wrote {out}")
    env.close()


if __name__ == "__main__":
    tyro.cli(main)
