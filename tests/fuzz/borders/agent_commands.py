"""The command line of agents."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from hypothesis import strategies as st

from tests.conftest import make_tiny_world
from tests.fuzz.borders.documents import BROKEN
from tests.fuzz.case import Case
from worldenv_agents import cli

NUMBERS = ("x", "nan", "inf", "", "1e308", "99999999999999999999999", "-99999999999999999999999", "[1]", "a\nb", "é")
"""What is no count, and no share."""
WHOLE = (*NUMBERS, "1.5", "None", "True", "-1")
"""What is no whole number."""
NEEDS = {
    "train ppo": ("--out", "out", "--world", "tiny"),
    "train imagination": ("--out", "out", "--world", "tiny"),
    "clone": ("nothing", "--out", "out"),
    "eval": ("random", "--out", "out.json", "--world", "tiny", "--max-episode-steps", "1"),
    "rank": ("random", "wander", "retrace", "--out", "out", "--world", "tiny"),
    "plan": ("--out", "out", "--world", "tiny", "--imagine", "blank"),
    "gain": ("--out", "out", "--world", "tiny", "--real-frames", "4"),
    "loop": ("table.toml", "--out", "out"),
}
"""Commands, and what they need."""
COUNTS = {
    "train ppo": ("--num-envs", "--rollout", "--features", "--hidden", "--minibatch", "--epochs", "--steps", "--seed"),
    "train imagination": ("--num-envs", "--rollout", "--batches", "--epochs", "--steps", "--recall", "--seed"),
    "clone": ("--episodes", "--ahead", "--width", "--num-layers", "--steps", "--batch", "--shift", "--seed"),
    "eval": ("--episodes", "--num-envs", "--first-seed"),
    "rank": ("--episodes", "--num-envs", "--first-seed", "--horizons"),
    "plan": ("--episodes", "--num-envs", "--first-seed", "--rollouts", "--lookahead", "--execute"),
    "gain": ("--seeds", "--legs", "--episodes", "--leg-episodes", "--real-frames", "--steps", "--seed"),
    "loop": ("--seeds",),
}
"""Their flags that are whole numbers."""
SHARES = {
    "train ppo": ("--lr", "--gamma", "--entropy", "--gae-lambda", "--clip-range", "--pessimism"),
    "train imagination": ("--lr", "--gamma", "--entropy", "--trace", "--slow", "--clip-range", "--pessimism"),
    "clone": ("--lr",),
    "eval": ("--pessimism",),
    "plan": ("--persistence", "--rate", "--discount"),
    "gain": ("--lr", "--gamma", "--gae-lambda", "--clip-range"),
}
"""Their flags that are numbers."""
WORLDS = (
    *("nothing", "", ".", "/dev/null", "hub:../x", "a\0b", "a\nb", "x" * 300, "x/" * 3000, "~", "table.toml", "\udcff"),
)
"""What is no world."""
POLICIES = (
    *("", "x", "random:x", "follow", "follow:w-0", "follow:x-3", "epsilon:x:random", "epsilon:2:random", "noisy:x"),
    *("epsilon:nan:random", "expert", "ppo", "ppo:", "ppo:nothing", f"ppo:{'x' * 300}", "ppo:a\0b", "cloned:nothing"),
    *("a\nb", "é"),
)
"""What is no policy, or not here."""
OUTS = ("x" * 300, "table.toml", "table.toml/x", "a\0b", "a\ud800")
"""Where nothing can be written."""
ADDRESSES = (
    *("x", "0", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:0", "127.0.0.1:99999", "127.0.0.1:1", f"{'x' * 300}:1", "a\nb"),
)
"""Where no cluster is."""
TABLES = (
    *("seeds = [-1]", "seeds = []", "seeds = [0, 0]", "seeds = [99999999999]", "legs = 0", "legs = 99999"),
    *("episodes = 0", "leg_episodes = 999999999999", "first_seed = -1", "first_seed = 9223372036854775807"),
    *("videos = -1", "videos = 99999999", "margin = -1.0", "margin = nan", 'metric = "x"', 'baselines = ["x"]'),
    *("baselines = 3", "test_starts = [5, 2]", "arms = 3", "[arms.a]\nsays = 3", '[arms.""]\nsays = ""'),
    *('[arms."a/"]\nsays = ""\n[arms.a_]\nsays = ""', '[arms."a\\nb"]\nsays = ""', f'[arms.{"y" * 300}]\nsays = ""'),
    *('[arms.a]\nsays = ""\nsurprise = 1', '[arms.a]\nsays = ""\nppo = 3', '[arms.a]\nsays = ""\nppo = {lr = nan}'),
    *('[arms.random]\nsays = ""', '[arms.a]\nsays = ""\nenv = "CartPole-v1"'),
)
"""What no table says, beside what every one does."""
WORKING = (*((*name.split(), "--help") for name in NEEDS),)
"""Commands that end well."""


def _refused() -> Iterator[tuple[str, ...]]:
    for name, needs in NEEDS.items():
        whole = (*name.split(), *needs)
        for flags, values in ((COUNTS, WHOLE), (SHARES, (*NUMBERS, "-1"))):
            yield from ((*whole, flag, value) for flag in flags.get(name, ()) for value in values)
            yield from ((*whole, flag) for flag in flags.get(name, ()) if name != "loop")  # no seeds are the table's
        yield *whole, "--surprise", "1"
        if name not in ("clone", "loop"):
            yield from ((*whole, "--world", world) for world in WORLDS)
            yield from ((*whole, "--env", env) for env in ("", "x", "CartPole-v1", "a\nb", "x" * 5000))
        if name != "eval":
            yield from ((*whole, "--out", out) for out in OUTS)
    yield from (("eval", "random", "--world", "tiny", "--out", out) for out in ("", ".", "folder", *OUTS[2:], OUTS[0]))
    yield from (("eval", policy, *NEEDS["eval"][1:]) for policy in POLICIES)
    yield from (("rank", "random", "wander", policy, *NEEDS["rank"][3:]) for policy in POLICIES)
    yield from ((name, *NEEDS[name], "--ray", address) for name in ("rank", "plan") for address in ADDRESSES)
    for path in ("nothing", ".", "/dev/zero", "x" * 300, "a\0b", "a\nb"):
        yield "loop", path, "--out", "out"
        yield "clone", path, "--out", "out"
    yield "plan", *NEEDS["plan"][:-2], "--imagine", "--policies", ""
    yield "gain", *NEEDS["gain"], "--arms"


def agent_command(folder: Path) -> st.SearchStrategy[Case]:
    """Commands that cannot do what is asked of them, and write nothing."""
    make_tiny_world().save_pretrained(folder / "tiny")

    def case(words: tuple[str, ...], accept: bool, table: str = "") -> Case:
        def act(scratch: Path) -> None:
            shutil.copytree(folder / "tiny", scratch / "tiny")
            (scratch / "folder").mkdir()
            (scratch / "table.toml").write_text(_with(table))
            before = {path.name for path in scratch.iterdir()}
            try:
                _run(words, scratch)
            finally:
                if left := {path.name for path in scratch.iterdir()} - before:
                    raise RuntimeError(f"wrote {left}")

        return Case(" ".join((*words, table))[:200], accept, act)

    menu = [case(words, True) for words in WORKING]
    menu += [case(words, False) for words in _refused()]
    menu += [case(("loop", "table.toml", "--out", "out"), False, table) for table in (*TABLES, *filter(None, BROKEN))]
    return st.sampled_from(menu)


def _with(table: str) -> str:
    """Return a table of a loop that is wrong in what is said."""
    known = {"title": '"t"', "claim": '"c"'}
    head = "".join(f"{name} = {value}\n" for name, value in known.items())
    task = '[environment]\nenv = "worldenv/Navigate-v0"\nworld = "tiny"\nmax_episode_steps = 1\n'
    if table.startswith("[arms"):
        return f"{head}{task}{table}\n"
    return f'{head}{table}\n{task}[arms.a]\nsays = ""\n'


def _run(words: tuple[str, ...], scratch: Path) -> None:
    said, before, path = io.StringIO(), sys.argv, list(sys.path)
    sys.argv = ["worldenv-agents", *words]
    try:
        with contextlib.chdir(scratch), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            cli.main()
    except SystemExit as stop:
        if stop.code in (0, None):
            return
        if isinstance(stop.code, str):
            raise
        if stop.code != 2 or "Traceback" in said.getvalue():
            raise RuntimeError(f"exit {stop.code}: {said.getvalue()[-200:]}") from None
        raise SystemExit(said.getvalue().replace("\n", " ")) from None  # a box of the parser's
    finally:
        sys.argv, sys.path[:] = before, path
