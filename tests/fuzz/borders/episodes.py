"""Episodes: options and seeds of ``reset``, and actions."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from hypothesis import strategies as st

import worldenv  # noqa: F401
from tests.conftest import make_tiny_world
from tests.fuzz.borders.states import digest
from tests.fuzz.case import Case

IMAGE = np.zeros((48, 64, 3), np.uint8)
NO_STARTS = ("x", 1.5, -1, 10**6, 2**70, [1], [1, 2, 3], [1, "x"], {}, True, math.nan, [1, 1.5])
NO_IMAGES = (
    IMAGE.astype(np.float32),
    IMAGE[:-1],
    IMAGE[None, None],
    IMAGE[..., :1],
    "x",
    3,
    [],
    IMAGE.tolist(),
    np.array(None),
    {"a": 1},
)
NO_MASKS = ("x", 1, [], [1, 0], [True], [True] * 3, np.zeros(2, bool), [[True, True]], {})
NO_CLIPS = (IMAGE, "x", 3, [], np.zeros((5, 48, 64, 3)), np.zeros((0, 48, 64, 3), np.uint8))
NO_POSES = (
    np.full((5, 4, 4), np.nan),
    np.zeros((5, 4, 4)),
    2 * np.eye(4)[None].repeat(5, 0),
    np.eye(4),
    "x",
    3,
    np.eye(4)[None].repeat(4, 0),
)
NO_GOALS = ("x", [], [1.0], [math.nan] * 4, {}, True, [[1.0]], 10**400)
CLIP = np.zeros((5, 48, 64, 3), np.uint8)
POSES = np.eye(4)[None].repeat(5, 0)
OPTIONS: tuple[tuple[Any, bool | None], ...] = (
    *(({"start": one}, False) for one in NO_STARTS),
    *(({"start": one}, True) for one in (0, 63, [1, 2], [None, 3], None)),
    *(({"image": one}, False) for one in NO_IMAGES),
    ({"image": IMAGE}, None),
    *(({"reset_mask": one}, False) for one in NO_MASKS),
    ({"reset_mask": np.array([True, False])}, True),
    *(({"clip": one, "c2w": POSES}, False) for one in NO_CLIPS),
    *(({"clip": CLIP, "c2w": one}, False) for one in NO_POSES),
    ({"clip": CLIP}, False),
    ({"c2w": POSES}, False),
    *(
        ({"clip": CLIP, "c2w": POSES, "keys": one}, False)
        for one in ("x", 3, np.full((5, 2), 99), np.full((5, 2), -1), np.zeros((5, 2)), np.zeros((5, 3), int))
    ),
    *(
        ({"clip": CLIP, "c2w": POSES, "K": one}, False)
        for one in ("x", 3, np.full((3, 3), np.nan), np.eye(3), np.eye(4))
    ),
    *(({"goal": one}, False) for one in NO_GOALS),
    *(({"prompt": one}, False) for one in ("a maze", 3, ["a"], b"x", {})),
    ({"surprise": 1}, False),
    ({3: 1}, False),
    *((one, False) for one in ([], "x", 3, [1])),
    ({}, True),
    (None, True),
)
"""Options, and whether they are taken."""
NO_SEEDS = ("x", 1.5, -1, [1], [1, 2, 3], [1, -1], [1, "x"], {}, math.nan, 2**70, [None, 1.5])
SEEDS = (0, 7, 2**40, [1, 2], [None, 3], np.int64(3))
ACTIONS: tuple[tuple[Any, bool | None], ...] = (
    *(
        (one, False)
        for one in (
            None,
            "x",
            3,
            [],
            [1],
            [1, 2, 3],
            [1, 4],
            [-1, 0],
            [0.5, 1],
            [math.nan, 0],
            ["a", "b"],
            {},
            [[1, 2]],
            [1, None],
            [10**30, 0],
            [[1], [2, 3]],
            np.zeros((2, 1), int),
            np.array([1, 2], object),
            torch.zeros(2),
            b"ab",
            object,
            [True, False],
        )
    ),
    *((one, True) for one in ([0, 3], (1, 2), np.array([1, 2]), np.array([1, 2], np.int8), torch.tensor([1, 0]))),
)
"""Actions of two envs, and whether they are taken."""


def episode(folder: Path) -> st.SearchStrategy[Case]:
    """Episodes of two envs that go on, or begin anew; what is refused leaves them as they are."""
    envs: Any = gym.make_vec(
        "worldenv/Navigate-v0", num_envs=2, world=make_tiny_world(), memory="recent", device="cpu"
    ).unwrapped
    envs.reset(seed=1)
    before = digest(envs)

    def case(what: str, accept: bool | None, do: Callable[[], Any]) -> Case:
        def act(_: Path) -> None:
            try:
                do()
            except BaseException:
                if digest(envs) != before:
                    raise RuntimeError("refused, and the environment is another now") from None
                raise
            envs.reset(seed=1)

        return Case(what[:200], accept, act)

    def reset(number: int, options: Any, accept: bool | None) -> Case:
        return case(f"reset {number} {options}", accept, lambda: envs.reset(seed=1, options=options))

    def seeded(seed: Any, accept: bool | None) -> Case:
        return case(f"seed {seed!r}", accept, lambda: envs.reset(seed=seed))

    def step(action: Any, accept: bool | None) -> Case:
        return case(f"step {action!r}", accept, lambda: envs.step(action))

    menu = [reset(i, *one) for i, one in enumerate(OPTIONS)] + [step(*one) for one in ACTIONS]
    menu += [seeded(seed, False) for seed in NO_SEEDS] + [seeded(seed, True) for seed in SEEDS] + [seeded(True, None)]
    numbers = st.one_of(st.integers(), st.floats(), st.text(max_size=3), st.none(), st.booleans())
    drawn = st.lists(numbers, max_size=4).map(
        lambda some: step(some, len(some) == 2 and all(type(one) is int and 0 <= one < 4 for one in some))
    )
    return st.one_of(st.sampled_from(menu), st.sampled_from(menu), drawn)
