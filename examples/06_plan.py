"""Plan in branches of a generated world: try every way to go for some chunks, then go the best one.

    python examples/06_plan.py

Rows 1 to 4 continue row 0 (``fork``), each with an action of its own, held; row 0 then does what earned most.
``worldenv-agents plan`` does this with CEM and MPPI, and acts in the simulator.
"""

import gymnasium as gym
import numpy as np
import tyro

import worldenv  # noqa: F401  registers the environment ids

ACTIONS = {1: "forward", 2: "back", 3: "right", 4: "left"}


def main(world: str = "maze", decisions: int = 4, lookahead: int = 2, seed: int = 0) -> None:
    """Walk to a goal by looking ahead.

    Args:
        world: packaged name, directory or hub:org/name.
        decisions: chunks that are really walked.
        lookahead: chunks that are imagined for each of them.
        seed: which start and goal.
    """
    envs = gym.make_vec(
        "worldenv/Navigate-v0", num_envs=1 + len(ACTIONS), world=world, action_mode="keys", autoreset_mode="Disabled"
    )
    obs, _ = envs.reset(seed=seed)
    branches = list(range(1, envs.num_envs))
    keys = np.array([[0, 0], *([action, 0] for action in ACTIONS)])  # walk, do not turn; row 0 stands still
    for _ in range(decisions):
        envs.unwrapped.fork([0] * len(branches), branches)
        here = envs.unwrapped.clone_state([0])
        earned, going = np.zeros(envs.num_envs), np.ones(envs.num_envs, bool)
        for _ in range(lookahead):
            _, reward, terminated, _, _ = envs.step(keys)
            earned += reward * going
            going &= ~terminated
            envs.unwrapped.go_on()
        best = 1 + int(earned[1:].argmax())
        envs.unwrapped.restore_state(here, [0])  # row 0 has stood still in the meantime; that did not happen
        obs, reward, terminated, _, _ = envs.step(keys[best][None].repeat(envs.num_envs, 0))
        metres = float(np.linalg.norm(obs["goal"][0, :3]))
        print(f"{ACTIONS[best]:8} imagined to earn {earned[best]:.2f}; {metres:.2f} m from the goal")
        if terminated[0]:
            print("arrived")
            break
        envs.unwrapped.go_on()
    envs.close()


if __name__ == "__main__":
    tyro.cli(main)
