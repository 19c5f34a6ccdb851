"""Messages of a session, as a server reads them."""

from __future__ import annotations

import math
import typing
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import msgpack
from hypothesis import strategies as st

from tests.fuzz.case import Case
from tests.fuzz.damage import damaged
from worldenv.dynamics.messages import ASKS, PROTOCOL
from worldenv.dynamics.wire import Bounds, pack, unpack

ARRAY = {"dtype": "uint8", "shape": [2, 3], "data": bytes(6)}
VALID: dict[str, dict[str, Any]] = {
    "hello": {"protocol": PROTOCOL, "token": "abc"},
    "create": {
        "env": "worldenv/Revisit-v0",
        "options": {"world": "maze", "stack": 3},
        "num_envs": 2,
        "batch": True,
        "autoreset": "SameStep",
        "pictures": "jpeg",
        "obs": False,
        "keep": 3,
        "linger": 1.5,
    },
    "attach": {"session": "s", "key": "k"},
    "reset": {"session": "s", "seed": 3, "options": {"start": 1, "image": ARRAY}, "picture": b"abc", "explain": True},
    "step": {"session": "s", "action": ARRAY, "explain": True},
    "stream": {"session": "s", "action": 3},
    "act": {"session": "s", "action": [1, 2]},
    "pause": {"session": "s"},
    "back": {"session": "s", "chunk": 3},
    "fork": {"session": "s", "chunk": 3, "reseed": 9, "memory": "none"},
    "remember": {"session": "s", "memory": {"policy": "recent"}},
    "prompt": {"session": "s", "prompt": "a maze", "rows": [0, 1]},
    "save": {"session": "s", "rows": [0]},
    "load": {"session": "s", "data": b"abc", "rows": [1]},
    "close": {"session": "s"},
    "ping": {},
}
"""A message of each kind."""
VALUES = (
    None,
    True,
    3,
    -1,
    1.5,
    math.nan,
    math.inf,
    2**53 + 1,
    2**63,
    "x",
    "",
    "x" * 5000,
    b"x",
    b"",
    [],
    [3],
    ["x"],
    [-1],
    {},
    {"a": 1},
    {3: 1},
    ARRAY,
    10**12,
)
ARRAYS: list[tuple[str, Any]] = [
    ("dtype", "object"),
    ("dtype", "O"),
    ("dtype", "U9"),
    ("dtype", 3),
    ("dtype", None),
    ("dtype", "float128"),
    ("shape", [2, 4]),
    ("shape", [-2, -3]),
    ("shape", [2**40, 2**40]),
    ("shape", 6),
    ("shape", "x"),
    ("shape", [2.0, 3.0]),
    ("shape", [True, 6]),
    ("shape", [1] * 30 + [6]),
    ("shape", None),
    ("data", "x"),
    ("data", b""),
    ("data", bytes(7)),
    ("data", 3),
    ("data", None),
    ("data", [0] * 6),
]
"""Changes of an array that make it none."""


def message(folder: Path) -> st.SearchStrategy[Case]:
    """Messages that a client may send."""

    def case(what: str, accept: bool | None, made: Any) -> Case:
        def act(_: Path) -> None:
            pack(unpack(made if isinstance(made, bytes | str) else msgpack.packb(made), ASKS))

        return Case(what, accept, act)

    menu = []
    for kind, own in VALID.items():
        table = {"type": kind, "id": 1, **own}
        menu.append(case(f"{kind} as it is", True, table))
        menu += [case(f"{kind}: {what}", accept, made) for what, made, accept in _changed(kind, table)]
        data = msgpack.packb(table)
        menu.append(case(f"{kind} twice", False, data + data))
    menu += [case(f"{str(made)[:40]}", False, made) for made in _no_messages()]
    whole = msgpack.packb({"type": "reset", "id": 1, **VALID["reset"]})
    return st.one_of(
        st.sampled_from(menu),
        st.sampled_from(menu),
        *damaged(whole, case),
        st.binary(max_size=60).map(lambda data: case(f"{data!r}", None, data)),
    )


def _changed(kind: str, table: dict[str, Any]) -> Iterator[tuple[str, Any, bool | None]]:
    hints = typing.get_type_hints(ASKS[kind], include_extras=True)
    for field in fields(ASKS[kind]):
        needed = field.default is field.default_factory is MISSING
        yield f"without {field.name}", {k: v for k, v in table.items() if k != field.name}, not needed
        for value in VALUES:
            yield f"{field.name} is {str(value)[:20]!r}", {**table, field.name: value}, _fits(hints[field.name], value)
        if table.get(field.name) is ARRAY:
            for part, value in ARRAYS:
                yield (
                    f"{field.name}.{part} is {str(value)[:20]!r}",
                    {**table, field.name: {**ARRAY, part: value}},
                    False,
                )
    yield "something more", {**table, "surprise": 1}, False
    for value in ("x", "", None, 3, b"ping", [], "welcome", "Ping"):
        yield f"type is {value!r}", {**table, "type": value}, False


def _fits(hint: Any, value: Any) -> bool | None:
    """Tell whether a value is what an annotation says, by the words of the contract rather than by the code's."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return None if isinstance(value, dict) and 3 in value else True
    if origin is typing.Annotated:
        inner = _fits(arguments[0], value)
        limits = next(part for part in arguments[1:] if isinstance(part, Bounds))
        size = value if isinstance(value, int | float) else len(value) if isinstance(value, str | bytes) else 0
        return inner and limits.low <= size <= limits.high
    if origin is typing.Literal:
        return isinstance(value, str) and value in arguments
    if origin is dict:
        return isinstance(value, dict) and all(isinstance(key, str) for key in value)
    if origin is list:
        return isinstance(value, list) and all(_fits(arguments[0], part) for part in value)
    if arguments:
        return (value is None and type(None) in arguments) or _fits(arguments[0], value)
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is hint


def _no_messages() -> list[Any]:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    return [
        "text",
        "",
        b"",
        [],
        3,
        None,
        True,
        {},
        {"type": "ping"},
        {3: "x"},
        {b"type": "ping"},
        [{"type": "ping", "id": 1}],
        {"type": "ping", "id": 1, "more": deep},
        b"\x91" * 5000 + b"\x01",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\x81\xa4type\xc6\xff\xff\xff\xff",
        b"\xc1",
        b"\xc7\x00\x01",
        b"\xd6\xff\x00\x00\x00\x00",
        {"type": "step", "id": 1, "session": "s", "action": msgpack.Timestamp(1)},
        {"type": "step", "id": 1, "session": "s", "action": msgpack.ExtType(1, b"x")},
        {"type": "ping", "id": -1},
        {"type": "ping", "id": 1.0},
        {"type": "ping", "id": True},
        {"type": "ping", "id": None},
    ]
