"""Keywords of environments."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from hypothesis import strategies as st

import worldenv  # noqa: F401
from tests.conftest import make_tiny_world
from tests.fuzz.case import Case

WRONG = ("x", -1, 0, 1.5, math.nan, math.inf, 10**12, [], {}, True, None, b"x", [1], {"a": 1}, object)
"""Values of keywords."""
KEYWORDS: dict[str, tuple[Any, ...]] = {
    "num_envs": (2, 1),
    "memory": ("worldplay", "none", {"policy": "recent"}, {"temporal_latents": 8}),
    "action_mode": ("basic", "keys", "camera", "discrete", None),
    "obs_mode": ("image", "dict", "stack", "chunk", "latent", None),
    "obs_keys": (["image", "goal"], None),
    "stack": (3, 1, None),
    "chunk_latents": (4, 1, None),
    "num_steps": (2, 1, None),
    "max_episode_steps": (5, -1, None, 0),
    "autoreset_mode": ("SameStep", "NextStep", "Disabled"),
    "output": ("numpy", "torch"),
    "device": ("cpu", "auto"),
    "dtype": ("float32", "auto"),
    "clip_actions": (True, False),
    "report_memory": (True, False),
    "capture": (False,),
    "pessimism": (None,),
    "dynamics": ("world",),
    "body": ("auto", "camera"),
    "task": ("navigate", "revisit"),
    "prompt": ("",),
    "backend": ("auto", "torch"),
}
"""Keywords, and values that they take."""
TAKES = {
    "max_episode_steps": (0, None, -1, 10**12),
    "chunk_latents": (None,),
    "num_steps": (None,),
    "stack": (None,),
    "obs_keys": (None,),
    "obs_mode": (None,),
    "action_mode": (None,),
    "pessimism": (None, 0, 1.5, 10**12),
    "clip_actions": (True,),
    "report_memory": (True,),
    "capture": (True,),
    "memory": ({},),
}
"""Those of ``WRONG`` that some of them take, or may."""
REFUSED: tuple[dict[str, Any], ...] = (
    {"memory": {"policy": "x"}},
    {"memory": {"surprise": 1}},
    {"memory": {"temporal_latents": -3}},
    {"memory": {"radius": math.nan}},
    {"memory": {"num_points": 10**12}},
    {"memory": {"temporal_latents": 10**9}},
    {"memory": {"retrieved_chunks": 10**9}},
    {"memory": {"fov_deg": [60]}},
    {"memory": {"fov_deg": ["a", "b"]}},
    {"num_envs": 10**7},
    {"stack": 10**7, "obs_mode": "stack"},
    {"world": 3},
    {"world": "nothing"},
    {"world": ""},
    {"world": []},
    {"world": b"maze"},
    {"dynamics": "nothing"},
    {"dynamics": "no.module:X"},
    {"dynamics": ":"},
    {"dynamics": "os:getcwd"},
    {"dynamics": dict},
    {"body": "os:DirEntry"},
    {"memory": "os:DirEntry"},
    {"body": "os:sep"},
    {"task": "os:sep"},
    {"obs_mode": "dict", "obs_keys": []},
    {"obs_mode": "dict", "obs_keys": ["x"]},
    {"obs_mode": "dict", "obs_keys": "image"},
    {"obs_mode": "dict", "obs_keys": [3]},
    {"memory": {"render": True}},
    {"memory": {"walls": True}},
    {"task_options": {"x": 1}},
    {"task_options": 3},
)
"""Keywords that say nothing, or what cannot be."""
LINES = type("Lines", (), {"__repr__": lambda self: "two\nlines"})()
"""What shows itself in several lines."""
REMOTE: tuple[dict[str, Any], ...] = (
    {},
    {"env": "worldenv/Navigate-v0"},
    {"url": "ws://127.0.0.1:1"},
    *(
        {"url": url, "env": "worldenv/Navigate-v0"}
        for url in (None, 3, "", "http://x", "ws://a\nb", "ws://", "ws://x:0")
    ),
    *({"url": "ws://127.0.0.1:1", "env": env} for env in (None, 3, "", [])),
)
"""What is no server, and no environment of one."""
UNKNOWN = ("surprise", "num_env", "wrld", "")
"""Names of none. ``wrappers`` is one of Gymnasium's own, which measures it before we are asked for anything: what it
raises of ``wrappers=1`` is not ours, and no case."""


def keyword(folder: Path) -> st.SearchStrategy[Case]:
    """Keywords of ``gym.make_vec``."""
    world = make_tiny_world()

    def case(given: dict[str, Any], accept: bool | None) -> Case:
        def act(_: Path) -> None:
            envs = gym.make_vec("worldenv/Navigate-v0", **{"num_envs": 2, "world": world, "device": "cpu", **given})
            envs.reset(seed=0)
            envs.close()

        return Case(f"make {given}"[:200], accept, act)

    def remote(given: dict[str, Any]) -> Case:
        def act(_: Path) -> None:
            gym.make_vec("worldenv/Remote-v0", **given)

        return Case(f"remote {given}"[:200], False, act)

    menu = [
        case({name: value}, None if name in ("obs_keys", "stack", "clip_actions") else True)
        for name, some in KEYWORDS.items()
        for value in some
    ]
    menu += [case({name: value}, None if _may(name, value) else False) for name in KEYWORDS for value in WRONG]
    menu += [case({name: 1}, False) for name in UNKNOWN]
    menu += [
        case(given, False) for given in (*REFUSED, *({name: LINES} for name in (*KEYWORDS, "render_mode", "sim_env")))
    ]
    menu += [case({"obs_mode": ""}, False), case({"action_mode": ""}, False), case({"pessimism": 1e300}, False)]
    menu += [case({name: np.array([1, 2])}, False) for name in ("body", "render_mode", "memory", "task", "dynamics")]
    menu += [case({"world": "x" * 5000}, False), *(remote(given) for given in REMOTE)]
    return st.sampled_from(menu)


def _may(name: str, value: Any) -> bool:
    """Tell whether a keyword may take a value that others do not."""
    return any(value is one or (value == one and type(value) is type(one)) for one in TAKES.get(name, ()))
