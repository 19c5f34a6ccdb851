"""Saved states: what ``load_state`` continues, and what it leaves as it was where it refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

import worldenv  # noqa: F401
from tests.conftest import make_tiny_world
from tests.fuzz.case import Case
from tests.fuzz.damage import NO_POSES, broken_tensor, damaged
from worldenv.base.checkpoint import load_tensors, save_tensors

NUMBERS = (-(2**62), -2, 10_000, 2**62)
"""Counts and indices that no episode has."""
ANY = ("seeds", "row.seed", "row.done", "generators")
"""Tensors in which other numbers are another episode's."""
COUNTED = ("row.episode", "core.elapsed")
"""Tensors that may hold 10,000 too: somebody plays for long."""


def state(folder: Path) -> st.SearchStrategy[Case]:
    """States of two episodes under each family of memory."""
    world = make_tiny_world()
    return st.one_of([_of(world, policy, folder / f"{policy}.safetensors") for policy in ("worldplay", "worldscape")])


def _of(world: Any, policy: str, path: Path) -> st.SearchStrategy[Case]:
    envs = gym.make_vec("worldenv/Navigate-v0", num_envs=2, world=world, memory=policy, device="cpu").unwrapped
    envs.reset(seed=3)
    for _ in range(2):
        envs.step(np.zeros(2, np.int64))
    envs.save_state(path)
    (tensors, header), data = load_tensors(path), path.read_bytes()
    before = digest(envs)

    def case(what: str, accept: bool | None, made: bytes | tuple[dict[str, Tensor], Any]) -> Case:
        def act(scratch: Path) -> None:
            file = scratch / "state.safetensors"
            if isinstance(made, bytes):
                file.write_bytes(made)
            else:
                save_tensors(file, made[0], header=made[1])
            try:
                envs.load_state(file)
            except BaseException:
                if digest(envs) != before:
                    raise RuntimeError("refused, and the environment is another now") from None
                raise
            envs.load_state(path)
            if digest(envs) != before:
                raise RuntimeError("a state that was loaded over another left something of it")

        return Case(f"{policy}: {what}", accept, act, names="state.safetensors" if accept is False else "")

    menu = [case(what, accept, (made, header)) for what, made, accept in _changed(tensors)]
    for name in header:
        for value in (None, [], "x", -1, {"a": 1}, 10**30, 1e300):
            menu.append(case(f"header: {name} is {value!r}", value == header[name], (tensors, {**header, name: value})))
        others = {key: value for key, value in header.items() if key != name}
        menu.append(case(f"header: without {name}", False, (tensors, others)))
    menu += [
        case(f"header: {told[:20]!r}", False, _with_header(tensors, told))
        for told in ("", "[]", "[1]", "3", "{", "[" * 9000, "1" * 9000)
    ]
    return st.one_of(
        st.sampled_from(menu),
        st.sampled_from(menu),
        *damaged(data, case),
    )


def digest(envs: Any) -> str:
    """Hash every tensor of the environment's episodes."""
    made = hashlib.sha256()
    for name, part in sorted(envs.clone_state(range(envs.num_envs)).items()):
        made.update(name.encode() + str(part.dtype).encode() + part.contiguous().numpy().tobytes())
    return made.hexdigest()


def _with_header(tensors: dict[str, Tensor], told: str) -> bytes:
    from safetensors.torch import save

    return save(tensors, metadata={"header": told})


def _changed(tensors: dict[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor], bool | None]]:
    yield "as it is", tensors, True
    yield "with a tensor more", {**tensors, "surprise": torch.zeros(2)}, False
    yield "with none", {}, False
    yield "of one row", {name: part[:1] for name, part in tensors.items()}, True
    yield "of no rows", {name: part[:0] for name, part in tensors.items()}, False
    yield "of three rows", {name: torch.cat([part, part[:1]]) for name, part in tensors.items()}, False
    for name, tensor in sorted(tensors.items()):
        yield f"without {name}", {key: value for key, value in tensors.items() if key != name}, False
        for what, broken in broken_tensor(name, tensor):
            yield what, {**tensors, name: broken}, False
        if name.endswith("c2w"):
            for what, change in NO_POSES.items():
                made = tensor.clone()
                made[0].view(-1, 4, 4)[0] = change(made[0].view(-1, 4, 4)[0])
                yield f"{name} {what}", {**tensors, name: made}, False
        elif tensor.dtype == torch.int64 and tensor.numel():
            for number in NUMBERS:
                free = (name.endswith(ANY) and number > 0) or (name in COUNTED and number == 10_000)
                yield f"{name} of {number}", {**tensors, name: torch.full_like(tensor, number)}, None if free else False
        elif tensor.is_floating_point() and tensor.numel():
            huge = torch.full_like(tensor, 1e30 if tensor.dtype != torch.float16 else 6e4)
            yield f"{name} of 1e30", {**tensors, name: huge}, None
