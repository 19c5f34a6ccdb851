"""What a server does not do, however it is asked."""

from __future__ import annotations

import random

import msgpack
import pytest

from worldenv.dynamics.messages import Create, Ping, Step

FIELDS = ("id", "session", "action", "explain", "options", "seed", "type", "chunk", "memory", "data", "picture", "env")
VALUES = (
    None,
    -1,
    2**60,
    1.5,
    float("nan"),
    "",
    "x" * 3000,
    b"\0" * 100,
    [],
    [[]],
    {},
    {"a": 1},
    True,
    [[[1]]],
)


def test_two_hundred_wrong_messages_are_each_answered_by_what_is_wrong(client):
    one, draw = client(), random.Random(0)
    session = one.begin()
    right = [
        {"type": "step", "session": session, "action": [1, 0]},
        {"type": "reset", "session": session, "seed": 0},
        {"type": "create", "env": "worldenv/Revisit-v9"},
        {"type": "back", "session": session, "chunk": 0},
        {"type": "remember", "session": session, "memory": "none"},
        {"type": "load", "session": session, "data": b""},
    ]
    failed = 0
    while failed < 200:
        message = {"id": 10_000 + failed, **draw.choice(right)}
        name, value = draw.choice(FIELDS), draw.choice(VALUES)
        if draw.random() < 0.2:
            message.pop(name, None)
        else:
            message[name if draw.random() < 0.8 else f"{name}{draw.randrange(9)}"] = value
        one.socket.send(msgpack.packb(message))
        answer = one.receive()
        if type(answer).__name__ != "Failed":
            continue
        failed += 1
        assert answer.field or answer.kind == "full", answer
        assert answer.kind in ("message", "value"), answer
    assert one.ask(Step, session=session, action=[1, 0]).chunk >= 1


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x91" * 5000, "text", random.Random(1).randbytes(4000)])
def test_garbage_is_answered(client, data):
    one = client()
    one.socket.send(data)
    answer = one.receive()
    assert (answer.kind, answer.field) == ("message", "message")
    assert type(one.ask(Ping)).__name__ == "Done"


def test_nothing_of_the_server_is_imported_or_read(client):
    one = client()
    for options, field in [
        ({"world": "/etc"}, "world"),
        ({"dynamics": "os:system"}, "dynamics"),
        ({"memory": "os:system"}, "memory"),
        ({"body": "os:system"}, "body"),
        ({"device": "cuda"}, "device"),
        ({"prompt": "/etc/x.safetensors"}, "prompt"),
        ({"task_options": {"nonsense": 1}}, "nonsense"),
    ]:
        answer = one.ask(Create, env="worldenv/Revisit-v0", options=options)
        assert answer.kind == "value"
        assert field in answer.why
    assert "did you mean" in one.ask(Create, env="worldenv/Revisit-v9").why
