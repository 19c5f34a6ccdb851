"""What agents go on from: policies, the steps of a training, episodes of a comparison, plans of a world."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from hypothesis import strategies as st

from tests.fuzz.borders.documents import BROKEN
from tests.fuzz.case import Case
from tests.fuzz.damage import broken_tensor, damaged, flips, leaves, of_another_type, put, shown, without
from worldenv.base.checkpoint import load_tensors, save_tensors
from worldenv.base.config import to_dict
from worldenv_agents.gain import frames_of
from worldenv_agents.ledger import Ledger
from worldenv_agents.ppo import PPOConfig, PPOPolicy, build_network
from worldenv_agents.progress import steps_done
from worldenv_agents.rank import as_report

SEEN, ACTS = spaces.Box(0, 255, (16, 16, 3), np.uint8), spaces.Discrete(4)
HUGE = (10**9, 2**16, 10**30, -1, 0)
"""Widths that no file's weights have."""


def policy(folder: Path) -> st.SearchStrategy[Case]:
    """A policy of PPO, its settings and its weights; and how far its training is."""
    config = PPOConfig(num_envs=2, steps=8, rollout=2, minibatch=2, features=8, hidden=8, device="cpu")
    PPOPolicy(build_network(config, SEEN, ACTS), config).save(folder / "whole")
    told = json.loads((folder / "whole" / "policy.json").read_text())
    tensors, _ = load_tensors(folder / "whole" / "policy.safetensors")

    def case(what: str, accept: bool | None, file: str, made: Any) -> Case:
        def act(scratch: Path) -> None:
            shutil.copytree(folder / "whole", scratch, dirs_exist_ok=True)
            if isinstance(made, dict):
                save_tensors(scratch / file, made)
            else:
                (scratch / file).write_bytes(made)
            PPOPolicy.load(scratch, SEEN, ACTS)

        return Case(f"{file}: {what}", accept, act, names="policy." if accept is False and "action" not in what else "")

    def settings(what: str, accept: bool | None, made: bytes) -> Case:
        return case(what, accept, "policy.json", made)

    def weights(what: str, accept: bool | None, made: Any) -> Case:
        return case(what, accept, "policy.safetensors", made)

    def run(what: str, accept: bool | None, header: Any) -> Case:
        def act(scratch: Path) -> None:
            save_tensors(scratch / "checkpoint.safetensors", tensors, header=header)
            steps_done(scratch / "checkpoint.safetensors", to_dict(config), resume=True)

        return Case(f"run: {what}", accept, act, names="checkpoint.safetensors" if accept is False else "")

    menu = [settings(what, accept, json.dumps(made).encode()) for what, made, accept in _policies(told)]
    menu += [settings(f"{text[:9]!r}", False, text.encode()) for text in BROKEN]
    menu += [weights("as they are", True, tensors), weights("none", False, {})]
    for name, tensor in sorted(tensors.items()):
        menu += [weights(what, False, {**tensors, name: broken}) for what, broken in broken_tensor(name, tensor)]
    whole = {"steps": 8, "config": to_dict(config), "returns": {"mean": 0.0, "var": 1.0, "count": 3.0}}
    menu += [run(what, accept, made) for what, made, accept in _runs(whole)]
    text, data = json.dumps(told).encode(), (folder / "whole" / "policy.safetensors").read_bytes()
    return st.one_of(
        st.sampled_from(menu), st.sampled_from(menu), *damaged(text, settings, longer=None), *damaged(data, weights)
    )


def _policies(told: dict[str, Any]) -> Iterator[tuple[str, Any, bool | None]]:
    yield "as it is", told, True
    for path, value in leaves(told):
        for other in of_another_type(value):
            if not (isinstance(other, list | str) and not other):
                yield f"{shown(path)} is {other!r}", put(told, path, other), False
        yield f"without {shown(path)}", without(told, path), None
    for name in ("features", "hidden"):
        for size in HUGE:
            yield f"{name} is {size}", put(told, ("config", name), size), False
    for other in (None, [], 3, "x"):
        yield f"config is {other!r}", put(told, ("config",), other), False


def _runs(whole: dict[str, Any]) -> Iterator[tuple[str, Any, bool | None]]:
    yield "as it is", whole, True
    yield "without returns", without(whole, ("returns",)), True
    for key in whole:
        for other in (None, [], "x", 1.5, -1, True, 10**30):
            yield f"{key} is {other!r}", {**whole, key: other}, (key, other) == ("returns", None)
        if key != "returns":
            yield f"without {key}", without(whole, (key,)), False
    for name in ("mean", "var", "count"):
        yield f"returns without {name}", without(whole, ("returns", name)), False
        for value in (None, [], "x", True):
            yield f"returns: {name} is {value!r}", put(whole, ("returns", name), value), False
    yield "a variance below 0", put(whole, ("returns", "var"), -1.0), False
    yield "something more", {**whole, "surprise": 1}, False


def comparison(folder: Path) -> st.SearchStrategy[Case]:
    """Comparisons that go on, and what a world says that it was made of."""
    said = {"claim": "so", "env": {"env": "e"}, "policies": ["a", "b", "c"], "episodes": 1, "num_envs": 1}
    said |= {"first_seed": 0, "horizons": [2]}
    brought = {"policy": "a", "place": "world", "seed": 0, "success": 0.0, "length": 2, "rewards": [0.0, 1.0]}
    others = [{**brought, "policy": name, "place": place} for name in "abc" for place in ("world", "sim")][1:]

    def ledger(what: str, accept: bool | None, registered: bytes, rows: bytes) -> Case:
        def act(scratch: Path) -> None:
            (scratch / "registered.json").write_bytes(registered)
            (scratch / "episodes.jsonl").write_bytes(rows)
            found = Ledger(scratch, said)
            found.add(others if found.rows else [brought, *others])
            as_report(found)

        return Case(f"ledger: {what}", accept, act)

    def plan(what: str, accept: bool | None, made: bytes) -> Case:
        def act(scratch: Path) -> None:
            (scratch / "make.json").write_bytes(made)
            frames_of(str(scratch / "world"))

        return Case(f"make.json: {what}", accept, act, names="make.json" if accept is False else "")

    known, line = json.dumps(said).encode(), json.dumps(brought).encode() + b"\n"
    menu = [ledger("as it is", True, known, line), ledger("of nothing", True, known, b"")]
    menu += [
        ledger(f"registered {text[:9]!r}", None if text == "{}" else False, text.encode(), line) for text in BROKEN
    ]
    menu += [ledger(f"a line {text[:9]!r}", False, known, f"{text}\n".encode()) for text in BROKEN]
    menu.append(ledger("twice", False, known, 2 * line))
    for key in said:
        menu.append(ledger(f"without {key}", True, json.dumps(without(said, (key,))).encode(), line))
        for other in (None, "x", 3, []):
            menu.append(ledger(f"{key} is {other!r}", False, json.dumps({**said, key: other}).encode(), line))
    for key in ("seed", "success", "length", "rewards"):
        menu.append(ledger(f"no {key}", False, known, json.dumps(without(brought, (key,))).encode() + b"\n"))
        for other in (None, "x", {}, float("nan"), 10**400, [None]):
            made = json.dumps({**brought, key: other}).encode() + b"\n"
            menu.append(ledger(f"a {key} of {str(other)[:9]}", False, known, made))
    menu.append(plan("as it is", True, b'{"asked": {"frames": 3}}'))
    menu += [plan(f"{text[:9]!r}", False, text.encode()) for text in BROKEN]
    for told in (
        "null",
        "[]",
        "{}",
        '"x"',
        *(f'{{"frames": {x}}}' for x in ("null", '"x"', -1, 0, 1.5, "[]", "1e999", "true")),
    ):
        menu.append(plan(told, False, f'{{"asked": {told}}}'.encode()))
    return st.one_of(
        st.sampled_from(menu),
        st.sampled_from(menu),
        flips(known).map(lambda made: ledger(made[0], None, made[1], line)),
        flips(line).map(lambda made: ledger(made[0], None, known, made[1])),
    )
