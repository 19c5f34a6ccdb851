"""Agents for worldenv: random, scripted and PPO policies, and their evaluation on a world and on its simulator twin."""

from .base import Policy
from .environments import EnvConfig, make_envs
from .evaluate import Scores, evaluate, evaluate_named
from .random_agent import RandomPolicy
from .registry import POLICIES, find_policy
from .scripted import FollowKeys, FollowPath, OutAndBack, SeekGoal

__all__ = [
    "POLICIES",
    "EnvConfig",
    "FollowKeys",
    "FollowPath",
    "OutAndBack",
    "Policy",
    "RandomPolicy",
    "Scores",
    "SeekGoal",
    "evaluate",
    "evaluate_named",
    "find_policy",
    "make_envs",
]
