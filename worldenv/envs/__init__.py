"""Gymnasium and Stable-Baselines3 shells over one batched core."""

from . import sb3 as sb3  # ``worldenv.envs.sb3`` is there without an import of its own
