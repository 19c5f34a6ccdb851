"""World directories: world.toml, weights, start views; and the files of settings that commands read."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor, nn

from tests.conftest import make_tiny_world
from tests.fuzz.case import Case
from tests.fuzz.damage import (
    HUGE,
    NEGATIVE,
    NO_POSES,
    NOT_FINITE,
    broken_tensor,
    damaged,
    flips,
    leaves,
    no_file_of_its_kind,
    of_another_type,
    put,
    shown,
    tables,
    without,
)
from worldenv.base.checkpoint import load_tensors
from worldenv.base.config import MOST_LAYERS, MOST_SIZE, dump_toml, load_toml, read_toml, to_dict
from worldenv.data.record import RecordConfig
from worldenv.making.config import MakeConfig
from worldenv.models.heads import DepthConfig, DepthHead, HeadConfigs
from worldenv.training.stages.config import TrainConfig
from worldenv.world.world import World

TOLD = ("provenance", "name", "licence", "doubt", "trained")
"""Settings of a world in which any number, or any text, is as good as another."""
SIGNED = ("low", "high", "blend", "shift", "shape", "height", "threshold")
"""Numbers that may lie below 0, or be as large as they like."""
OTHER = re.compile(r"\.(keys|c2w)\.dtype is missing$")
"""What makes a signal with a meaning of its own one of floats of 32 bits, which it is not."""
Made = tuple[str, bytes]


def world(folder: Path) -> st.SearchStrategy[Case]:
    """A world with a depth head and start views."""
    whole = make_tiny_world()
    torch.manual_seed(1)
    head = DepthHead(DepthConfig(widths=(8, 8, 8), num_blocks=1)).eval()
    nn.init.zeros_(head.out.bias)
    config = replace(whole.config, heads=HeadConfigs(depth=head.config))
    assert whole.starts is not None
    starts = whole.starts.at(torch.arange(4))
    World(config, vae=whole.vae, dit=whole.dit, heads={"depth": head}, starts=starts).save_pretrained(folder)
    settings = read_toml(folder / "world.toml")
    if settings.pop("sha256", None):  # of its files: without them any other file is judged by what it holds
        (folder / "world.toml").write_text(dump_toml(settings))
    parts = sorted(path.name for path in folder.glob("*.safetensors"))

    def case(file: str, changed: tuple[str, bytes | None], accept: bool | None) -> Case:
        what, data = changed

        def act(scratch: Path) -> Any:
            for path in folder.iterdir():
                if path.name != file:
                    os.link(path, scratch / path.name)
            if data is not None:
                (scratch / file).write_bytes(data)
            return World.load(scratch)

        return Case(f"{file}: {what}", accept, act, names="" if accept is not False else file)

    changes = [*_settings(settings), *_large(settings)]
    trees = [case("world.toml", (what, dump_toml(tree).encode()), accept) for what, tree, accept in changes]
    files: list[st.SearchStrategy[Case]] = []
    for name in parts:
        data = (folder / name).read_bytes()
        tensors, _ = load_tensors(folder / name)
        changed = [case(name, (what, _packed(made)), accept) for what, made, accept in _tensors(tensors, name)]
        changed += [case(name, made, False) for made in _headers(data)]
        absent = case(name, ("absent", None), None if name == "starts.safetensors" else False)
        files += [
            st.sampled_from(changed),
            *damaged(data, lambda what, accept, made, name=name: case(name, (what, made), accept)),
            st.just(absent),
        ]
    text = (folder / "world.toml").read_bytes()
    return st.one_of(
        st.sampled_from(trees),
        st.sampled_from(trees),
        st.one_of(files),
        flips(text).map(lambda made: case("world.toml", made, None)),
        no_file_of_its_kind().map(lambda made: case("world.toml", made, False)),
    )


def _settings(settings: dict[str, Any]) -> Iterator[tuple[str, Any, bool | None]]:
    """Change one setting after the other."""
    yield "as it is", settings, True
    for path, value in leaves(settings):
        what, name = shown(path), next(key for key in reversed(path) if isinstance(key, str))
        for other in of_another_type(value):
            if (other == [] or other == "") and isinstance(value, list | str):
                continue
            if isinstance(other, dict) and name in ("takes", "gives"):
                continue
            yield f"{what} is {other!r}", put(settings, path, other), False
        free = path[0] in TOLD or name in SIGNED
        if isinstance(value, int | float) and not isinstance(value, bool):
            for number in NOT_FINITE:
                yield f"{what} is {number}", put(settings, path, number), False
            for number in (*HUGE, *NEGATIVE):
                kind = type(value)(number)
                yield f"{what} is {kind!r}", put(settings, path, kind), None if free or kind > 0 else False
            if isinstance(value, float):
                yield f"{what} is a little more", put(settings, path, value * 1.001), None
        yield f"{what} is missing", without(settings, path), False if path == ("format",) else None
    for path in tables(settings):
        if path and path[-1] in ("takes", "gives", "codes", "provenance"):
            continue
        yield f"{shown((*path, 'surprise'))} is there", put(settings, (*path, "surprise"), 1), False


def _large(settings: dict[str, Any]) -> Iterator[tuple[str, Any, bool | None]]:
    """Ask for networks that no machine holds, in sizes each of which some network may have."""
    wide = {"width": MOST_SIZE, "ffn_dim": MOST_SIZE}
    for part, sizes in (
        ("dit", {"num_layers": MOST_LAYERS}),
        ("dit", wide),
        ("dit", {**wide, "num_layers": MOST_LAYERS}),
        ("dit", {"freq_dim": MOST_SIZE, "width": MOST_SIZE}),
        ("vae", {"num_blocks": MOST_LAYERS}),
        ("vae", {"encoder_widths": [MOST_SIZE] * 3, "decoder_widths": [MOST_SIZE] * 3}),
        ("heads.depth", {"num_blocks": MOST_LAYERS}),
        ("heads.depth", {"widths": [MOST_SIZE] * 3, "num_blocks": MOST_LAYERS}),
    ):
        large = settings
        for name, size in sizes.items():
            large = put(large, (*part.split("."), name), size)
        yield f"{part} of {sizes}", large, False


def _tensors(tensors: dict[str, Tensor], file: str) -> Iterator[tuple[str, dict[str, Tensor], bool | None]]:
    """Change one tensor after the other."""
    yield "as it is", tensors, True
    if file != "starts.safetensors":
        for kind in (torch.float32, torch.bfloat16, torch.float16):
            yield f"as {kind}", {name: part.to(kind) for name, part in tensors.items()}, True
    yield "with a tensor more", {**tensors, "surprise": torch.zeros(2)}, False
    yield "with none", {}, False
    for name in sorted(tensors):
        optional = file == "starts.safetensors" and name in ("goals", "map_seeds")
        yield f"without {name}", {k: v for k, v in tensors.items() if k != name}, None if optional else False
        for what, broken in broken_tensor(name, tensors[name]):
            yield what, {**tensors, name: broken}, False
        if name in ("c2w", "goals"):
            for what, pose in _no_poses(tensors[name]):
                yield f"{name} {what}", {**tensors, name: pose}, False


def _no_poses(c2w: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Change poses into matrices that are none."""
    for what, change in NO_POSES.items():
        made = c2w.clone()
        made[-1] = change(made[-1])
        yield what, made


def _packed(tensors: dict[str, Tensor]) -> bytes:
    return save({name: part.contiguous() for name, part in tensors.items()}, metadata={"header": "{}"})


def _headers(data: bytes) -> Iterator[Made]:
    """Change what a safetensors file says of its sizes."""
    (length,) = struct.unpack("<Q", data[:8])
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    for wrong in (0, 1, length - 1, length + 1, 2**40, 2**63):
        yield f"a header of {wrong} bytes", struct.pack("<Q", wrong) + data[8:]
    for name in list(header)[1:4]:
        for field, value in (
            ("shape", [2**40]),
            ("shape", [-1]),
            ("shape", [2**62, 2**62]),
            ("data_offsets", [0, 2**50]),
            ("data_offsets", [8, 0]),
            ("dtype", "F1"),
            ("dtype", "I64"),
        ):
            if value == header[name][field]:
                continue
            said = json.dumps(put(header, (name, field), value)).encode()
            yield f"{name}: {field} is said to be {value}", struct.pack("<Q", len(said)) + said + rest


def settings(folder: Path) -> st.SearchStrategy[Case]:
    """Files of settings (``--config``): of stages, and of recordings."""
    kinds: dict[str, type] = {"record": RecordConfig, "train": TrainConfig, "make": MakeConfig}
    cases = []
    for name, kind in kinds.items():
        tree = to_dict(kind())
        for what, made, accept in _settings(tree):
            if what.endswith(" is missing"):  # what is no member of a list, which may be as long as it has to be
                accept = None if re.search(r"\.\d+ is missing$", what) else not OTHER.search(what)
            cases.append(_setting(kind, f"{name}: {what}", dump_toml(made).encode(), accept))
    text = dump_toml(to_dict(RecordConfig())).encode()

    def damaged(made: Made) -> Case:
        return _setting(RecordConfig, made[0], made[1], None)

    def no_settings(made: Made) -> Case:
        return _setting(RecordConfig, made[0], made[1], made[1] == b"")

    extending = [
        _setting(RecordConfig, f"extends {parent!r}", f"extends = {json.dumps(parent)}\n".encode(), False)
        for parent in ("settings.toml", "nothing.toml", 3, ["settings.toml"], "/dev/zero", ".", "a\x00b", "x" * 5000)
    ]
    return st.one_of(
        st.sampled_from(cases),
        st.sampled_from(cases),
        flips(text).map(damaged),
        no_file_of_its_kind().map(no_settings),
        st.sampled_from(extending),
    )


def _setting(kind: type, what: str, data: bytes, accept: bool | None) -> Case:
    def act(scratch: Path) -> Any:
        (scratch / "settings.toml").write_bytes(data)
        return load_toml(kind, scratch / "settings.toml")

    return Case(what, accept, act, names="settings.toml" if accept is False else "")
