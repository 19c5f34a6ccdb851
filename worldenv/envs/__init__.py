"""Gymnasium and Stable-Baselines3 shells over one batched core."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    if name != "sb3":  # which is there without an import of its own, but not before it is asked for: an extra
        raise AttributeError(f"module 'worldenv.envs' has no attribute {name!r}")
    return importlib.import_module("worldenv.envs.sb3")
