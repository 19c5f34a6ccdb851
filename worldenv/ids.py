"""Environment ids: strings only, so that importing worldenv imports no torch."""

from __future__ import annotations

import gymnasium as gym

from .tasks.registry import id_names

REMOTE = "worldenv/Remote-v0"


def environment_ids() -> dict[str, dict[str, str]]:
    """Return the arguments of each id: those of worlds, and their twins on ground truth, ``<name>Sim``."""
    return {
        f"worldenv/{name}{suffix}-{version}": {"task": task, "dynamics": dynamics}
        for task, (name, version) in id_names().items()
        for suffix, dynamics in (("", "world"), ("Sim", "sim"))
    }


def register_all() -> None:
    """Register every id with Gymnasium, once, and ``REMOTE``, any of them on a server."""
    if REMOTE not in gym.registry:
        gym.register(
            REMOTE,
            entry_point="worldenv.envs.remote:RemoteEnv",
            vector_entry_point="worldenv.envs.remote:RemoteVectorEnv",
            disable_env_checker=True,
        )
    for env_id, arguments in environment_ids().items():
        if env_id in gym.registry:
            continue
        gym.register(
            env_id,
            entry_point="worldenv.envs.env:WorldEnv",
            vector_entry_point="worldenv.envs.vector_env:WorldVectorEnv",
            kwargs=arguments,
            disable_env_checker=True,
        )
