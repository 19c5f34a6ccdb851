"""Gymnasium and Stable-Baselines3 shells over one batched core."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    if name not in ("sb3", "ray_env"):  # there without an import of their own, but not before they are asked for
        raise AttributeError(f"module 'worldenv.envs' has no attribute {name!r}")
    return importlib.import_module(f"worldenv.envs.{name}")
