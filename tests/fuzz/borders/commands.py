"""The command line."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from hypothesis import strategies as st

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
MAY = {
    "0": ("first", "seed", "start", "clips", "num-starts", "few-steps"),
    "-5": ("seed",),
    "1.5": ("hours",),
    "99999999999999999999": ("hours",),
}
"""Values that some of them take."""


WORKING = (*((*name.split(), "--help") for name in COUNTS), ("info", "maze"), ("--version",))
"""Commands that end well."""
WORLDS = ("nothing", "runs/nothing", "", ".", "/dev/null", "hub:", "hub:x", "hub:../x", "\x01", "x" * 5000, "maze/..")
"""What is no world."""
POSES = ("", "w", "q-3", "nothing.json", "nothing.txt", ".", "w-10000000")
"""What is no pose string."""
FILES = ("nothing", "/dev/null", "/dev/zero", ".")
"""What is no file."""


def _refused() -> Iterator[tuple[str, ...]]:
    for name, needs in COUNTS.items():
        whole = (*name.split(), *needs)
        for flag, value in product(FLAGS[name], NUMBERS):
            free = any(part in flag for part in MAY.get(value, ())) or value in ("1e9", "None")
            if not free:  # what may be asked would be done
                yield *whole, flag, value
        yield *whole, "--surprise", "1"
    for name, value in product(("demo", "eval revisit", "rollout", "export", "bench engine"), WORLDS):
        if (name, value) != ("export", ""):
            yield *name.split(), *COUNTS[name], "--world", value
    yield from (("info", value) for value in WORLDS)
    yield from (("rollout", "--out", "out.mp4", "--pose", value) for value in POSES)
    for value in FILES:
        if value != "/dev/null":  # which is empty
            yield "train", "vae", "--out", "out", "--config", value
        yield "rollout", "--out", "out.mp4", "--pose", "w-3", "--image", value
        yield "eval", "compare", value, value
        yield "eval", "revisit", "--videos", ".", "--manifest", value, "--out", "out"
        yield "eval", "revisit", "--manifest", value, "--out", "out"
        yield "serve", "--port", "0", "--worlds", "nothing", "--token-file", value
    yield "eval", "revisit", "--dynamics", "os:sep", "--worlds", "1", "--out", "out"
    for flag, value in (("--worlds", "0"), ("--first-seed", "-1")):
        yield "eval", "action", "--world", "maze", flag, value, "--out", "out"
    for value in ("-1", "99999999999999999999"):
        yield "export", "--lerobot", "out", "--world", "maze", "--seed", value


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

    menu = [case(words, True) for words in WORKING]
    menu += [case(words, False) for words in _refused()]
    menu += [case(("train", "vae", "--out", "out", "--config", "/dev/null"), None)]
    words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
    return st.one_of(
        st.sampled_from(menu),
        st.tuples(words, words).map(lambda two: case((f"x{two[0]}", two[1]), False)),
        st.tuples(st.sampled_from(sorted(COUNTS)), words).map(
            lambda two: case((*two[0].split(), *COUNTS[two[0]], f"--no{two[1]}such", two[1]), False)
        ),
    )
