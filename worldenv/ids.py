"""Environment ids: strings only, so that importing worldenv imports no torch."""

from __future__ import annotations

import gymnasium as gym

# id name -> task; each also has a twin on ground truth, ``<name>Sim``.
ENVIRONMENTS = {"Navigate": "navigate", "Revisit": "revisit"}
VERSION = 0


def register_all() -> None:
    """Register every id with Gymnasium, once."""
    for name, task in ENVIRONMENTS.items():
        for suffix, dynamics in (("", "world"), ("Sim", "sim")):
            env_id = f"worldenv/{name}{suffix}-v{VERSION}"
            if env_id in gym.registry:
                continue
            gym.register(
                env_id,
                entry_point="worldenv.envs.env:WorldEnv",
                vector_entry_point="worldenv.envs.vector_env:WorldVectorEnv",
                kwargs={"task": task, "dynamics": dynamics},
                disable_env_checker=True,
            )
