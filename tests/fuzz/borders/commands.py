"""The command line, and the keywords, options and actions of environments."""

from __future__ import annotations

import contextlib
import io
import math
import sys
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
from worldenv.cli import main

NUMBERS = ("x", "-5", "0", "nan", "inf", "1e9", "1.5", "", "99999999999999999999", "None", "[1]", "0x10", "-1e300", "'")
"""What is no count."""
COUNTS = {
    "demo": ("--out", "out"),
    "record": ("--out", "out", "--env", "doom/maze"),
    "make": ("CartPole-v1", "--out", "out"),
    "train vae": ("--out", "out", "--data", "nothing"),
    "eval revisit": ("--out", "out"),
    "eval open_loop": ("--out", "out", "--recording", "nothing"),
    "bench engine": ("--out", "out.json"),
    "bench memory": ("--out", "out.json"),
    "rollout": ("--out", "out.mp4", "--pose", "w-3"),
    "export": ("--out", "out"),
    "bench-data revisit": ("--out", "out"),
}
"""Commands, and what they need."""
FLAGS = {
    "demo": ("--worlds", "--chunks", "--first-seed"),
    "record": (
        "--clips",
        "--workers",
        "--clips-per-shard",
        "--num-latents",
        "--first-seed",
        "--spec.width",
        "--spec.fps",
    ),
    "make": ("--frames", "--rounds", "--hours", "--workers", "--chunk-latents", "--few-steps", "--batch"),
    "train vae": ("--optim.steps", "--optim.batch", "--vae.stride", "--spec.height", "--dit.width", "--num-starts"),
    "eval revisit": ("--worlds", "--first-seed"),
    "eval open_loop": ("--worlds",),
    "bench engine": ("--envs", "--chunks"),
    "bench memory": ("--chunks", "--steps"),
    "rollout": ("--start", "--seed"),
    "export": ("--clips",),
    "bench-data revisit": ("--worlds", "--first-seed"),
}
"""Their flags that are numbers."""
MAY = {"0": ("first", "seed", "start", "clips", "num-starts"), "-5": ("seed",), "1.5": ("hours",)}
"""Values that some of them take."""


def command(folder: Path) -> st.SearchStrategy[Case]:
    """Commands that cannot do what is asked of them; those that can are for their own tests."""

    def case(words: tuple[str, ...], accept: bool | None, codes: tuple[int, ...] = (2,)) -> Case:
        def act(scratch: Path) -> None:
            said, before = io.StringIO(), sys.argv
            sys.argv = ["worldenv", *words]
            try:
                with contextlib.chdir(scratch), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                    main()
            except SystemExit as stop:
                if stop.code in (0, None):
                    return
                if isinstance(stop.code, str):
                    raise
                if stop.code not in codes or "Traceback" in said.getvalue():
                    raise RuntimeError(f"exit {stop.code}: {said.getvalue()[-200:]}") from None
                raise SystemExit(said.getvalue().replace("\n", " ")) from None  # a box of the parser's
            finally:
                sys.argv = before

        return Case(" ".join(words)[:200], accept, act)

    menu = [case((*name.split(), "--help"), True) for name in COUNTS]
    menu += [case(("info", "maze"), True), case(("--version",), True)]
    for name, needs in COUNTS.items():
        for flag in FLAGS[name]:
            for value in NUMBERS:
                free = any(part in flag for part in MAY.get(value, ())) or value in ("1e9", "None")
                if not free:  # what may be asked would be done
                    menu.append(case((*name.split(), *needs, flag, value), False))
        menu.append(case((*name.split(), *needs, "--surprise", "1"), False))
    for name in ("demo", "eval revisit", "rollout", "export", "info", "bench engine"):
        for value in (
            "nothing",
            "runs/nothing",
            "",
            ".",
            "/dev/null",
            "hub:",
            "hub:x",
            "hub:../x",
            "\x01",
            "x" * 5000,
            "maze/..",
        ):
            world = (value,) if name == "info" else ("--world", value)
            if not (name == "export" and value == ""):
                menu.append(case((*name.split(), *COUNTS.get(name, ()), *world), False))
    for value in ("", "w", "q-3", "nothing.json", "nothing.txt", ".", "w-10000000"):
        menu.append(case(("rollout", "--out", "out.mp4", "--pose", value), False))
    for value in ("nothing", "/dev/null", "/dev/zero", "."):
        menu.append(case(("train", "vae", "--out", "out", "--config", value), value == "/dev/null" and None))
        menu.append(case(("rollout", "--out", "out.mp4", "--pose", "w-3", "--image", value), False))
        menu.append(case(("eval", "compare", value, value), False))
        menu.append(case(("eval", "revisit", "--videos", ".", "--manifest", value, "--out", "out"), False))
    words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
    return st.one_of(
        st.sampled_from(menu),
        st.tuples(words, words).map(lambda two: case((f"x{two[0]}", two[1]), False)),
        st.tuples(st.sampled_from(sorted(COUNTS)), words).map(
            lambda two: case((*two[0].split(), *COUNTS[two[0]], f"--no{two[1]}such", two[1]), False)
        ),
    )


WRONG = ("x", -1, 0, 1.5, math.nan, math.inf, 10**12, [], {}, True, None, b"x", [1], {"a": 1})
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
    "capture": (),
    "memory": (),
}
"""Those of ``WRONG`` that some of them take, or may."""


def keyword(folder: Path) -> st.SearchStrategy[Case]:
    """Keywords of ``gym.make_vec``, options and seeds of ``reset``, and actions."""
    world = make_tiny_world()

    def made(**given: Any) -> Any:
        given = {"num_envs": 2, "world": world, "device": "cpu", **given}
        return gym.make_vec("worldenv/Navigate-v0", **given)

    def make(given: dict[str, Any], accept: bool | None) -> Case:
        def act(_: Path) -> None:
            envs = made(**given)
            envs.reset(seed=0)
            envs.close()

        return Case(f"make {given}"[:200], accept, act)

    menu = [
        make({name: value}, None if name in ("obs_keys", "stack", "clip_actions") else True)
        for name, some in KEYWORDS.items()
        for value in some
    ]
    for name in KEYWORDS:
        for value in WRONG:
            free = name in TAKES and any(
                value is one or (value == one and type(value) is type(one)) for one in TAKES[name]
            )
            bool_asked = name in ("capture", "clip_actions", "report_memory") and value is True
            menu.append(make({name: value}, None if free or bool_asked else False))
    menu += [make({name: 1}, False) for name in ("surprise", "num_env", "wrld", "")]
    for given in (
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
    ):
        menu.append(make(given, False))
    envs = made(memory="recent").unwrapped
    envs.reset(seed=1)
    before = digest(envs)

    def unchanged(what: str, accept: bool | None, do: Any) -> Case:
        def act(_: Path) -> None:
            try:
                do()
            except BaseException:
                if digest(envs) != before:
                    raise RuntimeError("refused, and the environment is another now") from None
                raise
            envs.reset(seed=1)

        return Case(what, accept, act)

    for options, accept in _options():
        menu.append(
            unchanged(f"reset {options}"[:200], accept, lambda options=options: envs.reset(seed=1, options=options))
        )
    for seed in ("x", 1.5, -1, [1], [1, 2, 3], [1, -1], [1, "x"], {}, math.nan, 2**70, True, [None, 1.5]):
        menu.append(
            unchanged(f"seed {seed!r}", None if seed is True else False, lambda seed=seed: envs.reset(seed=seed))
        )
    for seed in (0, 7, 2**40, [1, 2], [None, 3], np.int64(3)):
        menu.append(unchanged(f"seed {seed!r}", True, lambda seed=seed: envs.reset(seed=seed)))
    for action, accept in _actions():
        menu.append(unchanged(f"step {action!r}"[:200], accept, lambda action=action: envs.step(action)))
    numbers = st.one_of(st.integers(), st.floats(), st.text(max_size=3), st.none(), st.booleans())
    drawn = st.lists(numbers, max_size=4).map(
        lambda some: unchanged(
            f"step {some!r}",
            len(some) == 2 and all(type(one) is int and 0 <= one < 4 for one in some),
            lambda: envs.step(some),
        )
    )
    return st.one_of(st.sampled_from(menu), st.sampled_from(menu), drawn)


def _options() -> list[tuple[Any, bool | None]]:
    image = np.zeros((48, 64, 3), np.uint8)
    wrong_starts = ("x", 1.5, -1, 10**6, 2**70, [1], [1, 2, 3], [1, "x"], {}, True, math.nan, [1, 1.5])
    wrong_images = (
        image.astype(np.float32),
        image[:-1],
        image[None, None],
        image[..., :1],
        "x",
        3,
        [],
        image.tolist(),
        np.array(None),
        {"a": 1},
    )
    wrong_masks = ("x", 1, [], [1, 0], [True], [True] * 3, np.zeros(2, bool), [[True, True]], {})
    wrong_clips = (image, "x", 3, [], np.zeros((5, 48, 64, 3)), np.zeros((0, 48, 64, 3), np.uint8))
    wrong_poses = (
        np.full((5, 4, 4), np.nan),
        np.zeros((5, 4, 4)),
        2 * np.eye(4)[None].repeat(5, 0),
        np.eye(4),
        "x",
        3,
        np.eye(4)[None].repeat(4, 0),
    )
    wrong_goals = ("x", [], [1.0], [math.nan] * 4, {}, True, [[1.0]], 10**400)
    clip = np.zeros((5, 48, 64, 3), np.uint8)
    poses = np.eye(4)[None].repeat(5, 0)
    return [
        *(({"start": one}, False) for one in wrong_starts),
        *(({"start": one}, True) for one in (0, 63, [1, 2], [None, 3], None)),
        *(({"image": one}, False) for one in wrong_images),
        ({"image": image}, None),
        *(({"reset_mask": one}, False) for one in wrong_masks),
        ({"reset_mask": np.array([True, False])}, True),
        *(({"clip": one, "c2w": poses}, False) for one in wrong_clips),
        *(({"clip": clip, "c2w": one}, False) for one in wrong_poses),
        ({"clip": clip}, False),
        ({"c2w": poses}, False),
        *(
            ({"clip": clip, "c2w": poses, "keys": one}, False)
            for one in ("x", 3, np.full((5, 2), 99), np.full((5, 2), -1), np.zeros((5, 2)), np.zeros((5, 3), int))
        ),
        *(
            ({"clip": clip, "c2w": poses, "K": one}, False)
            for one in ("x", 3, np.full((3, 3), np.nan), np.eye(3), np.eye(4))
        ),
        *(({"goal": one}, False) for one in wrong_goals),
        *(({"prompt": one}, False) for one in ("a maze", 3, ["a"], b"x", {})),
        ({"surprise": 1}, False),
        ({3: 1}, False),
        *((one, False) for one in ([], "x", 3, [1])),
        ({}, True),
        (None, True),
    ]


def _actions() -> list[tuple[Any, bool | None]]:
    return [
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
    ]
