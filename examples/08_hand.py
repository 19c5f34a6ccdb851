"""Does a world of hands say the same as its simulator? An expert places objects; the same commands are imagined.

    python examples/08_hand.py --out hand.png

The expert sees the simulator (``pip install "worldenv[manip,agents]"``) and acts there; the world is told the same
actions and makes its own pictures, off which a head reads where the object is. Both begin at the same tables.
"""

from pathlib import Path

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np
import tyro

import worldenv  # noqa: F401  registers the environment ids
from worldenv_agents.registry import find_policy


def main(
    world: str = "hand", out: Path = Path("hand.png"), num_envs: int = 4, noise: float = 0.0, seed: int = 0
) -> None:
    """Place objects in both.

    Args:
        world: packaged name, directory or hub:org/name, of a world of hands.
        out: picture to write: a row for each env of the simulator, the world's below it, a column for each step.
        num_envs: tables.
        noise: how badly the expert acts; 0 succeeds, 1 seldom does.
        seed: chooses the tables.
    """
    options = {"world": world, "obs_keys": ["image", "goal"], "autoreset_mode": "Disabled"}
    sim = gym.make_vec("worldenv/HandPlaceSim-v0", num_envs=num_envs, **options)
    imagined = gym.make_vec("worldenv/HandPlace-v0", num_envs=num_envs, **options)
    expert = find_policy("noisy:0")[0].factory(sim, str(noise), seed)

    obs, info = sim.reset(seed=seed)
    shown, _ = imagined.reset(seed=seed)
    expert.reset(num_envs)
    views, placed = [np.stack([obs["image"], shown["image"]])], np.zeros((2, num_envs), bool)
    for _ in range(sim.unwrapped.core.config.max_episode_steps):
        action = expert.act(obs, info)
        obs, _, _, _, info = sim.step(action)
        shown, _, _, _, guessed = imagined.step(action)
        placed |= np.stack([info["is_success"], guessed["is_success"]])
        views.append(np.stack([obs["image"], shown["image"]]))
        apart = np.linalg.norm(info["object"][:, :3] - guessed["object_read"][:, :3], axis=-1)
        print(f"object in the simulator and as read off the world's pictures: {1000 * np.median(apart):.0f} mm apart")
        for envs in (sim, imagined):
            envs.unwrapped.go_on()
    rows = np.stack(views, 3).transpose(1, 0, 2, 3, 4, 5)  # (envs, both, H, steps, W, 3)
    imageio.imwrite(out, rows.reshape(num_envs * 2 * rows.shape[2], -1, 3))
    for name, one in zip(("simulator", "world"), placed, strict=True):
        print(f"{name}: {one.sum()} of {num_envs} placed")
    print(f"wrote {out}")


if __name__ == "__main__":
    tyro.cli(main)
