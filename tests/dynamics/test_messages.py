"""Messages: what goes out comes in again, and what cannot be read says which field is wrong."""

import msgpack
import numpy as np
import pytest

from worldenv.dynamics.messages import ANSWERS, ASKS, Create, Frames, Reset, Step
from worldenv.dynamics.wire import MessageError, pack, unpack


def test_messages_come_back_as_they_were():
    picture = np.random.default_rng(0).integers(0, 256, (4, 6, 8, 3), dtype=np.uint8)
    shown = Frames(id=7, session="s1", chunk=3, latent=1, last=True, pictures=picture)
    read = unpack(pack(shown), ANSWERS)
    assert isinstance(read, Frames)
    np.testing.assert_array_equal(read.pictures, picture)
    assert read.pictures.dtype == np.uint8
    asked = Create(id=1, env="worldenv/Revisit-v0", options={"memory": {"policy": "none", "render": False}})
    assert unpack(pack(asked), ASKS) == asked
    action = Step(id=2, session="s1", action={"hand": np.array([0.5], np.float32), "mode": 3})
    sent = unpack(pack(action), ASKS)
    assert sent.action["mode"] == 3
    np.testing.assert_array_equal(sent.action["hand"], np.array([0.5], np.float32))
    assert unpack(pack(Reset(id=3, session="s1", seeds=[1, None])), ASKS).seeds == [1, None]


STEP = {"type": "step", "id": 1, "session": "s1", "action": 0}
ARRAY = {"dtype": "uint8", "shape": [2, 2], "data": b"1234"}
WRONG = [
    ({"type": "stap"}, "type"),
    ({"type": None}, "type"),
    ({"id": -1}, "id"),
    ({"id": True}, "id"),
    ({"id": 2**60}, "id"),
    ({"session": ""}, "session"),
    ({"session": "s" * 65}, "session"),
    ({"session": 3}, "session"),
    ({"explain": 1}, "explain"),
    ({"sesion": "s1"}, "sesion"),
    ({"action": {**ARRAY, "dtype": "object"}}, "action.dtype"),
    ({"action": {**ARRAY, "shape": [2, 3]}}, "action.data"),
    ({"action": {**ARRAY, "shape": [2, -2]}}, "action.shape"),
    ({"action": {**ARRAY, "shape": [2**40, 2**40]}}, "action.data"),
    ({"action": [0, {**ARRAY, "data": "1234"}]}, "action[1].data"),
    ({"action": {"a": {**ARRAY, "shape": 4}}}, "action.a.shape"),
    ({"action": msgpack.ExtType(5, b"x")}, "action"),
]


@pytest.mark.parametrize(("change", "field"), WRONG)
def test_a_wrong_field_is_named(change, field):
    with pytest.raises(MessageError) as error:
        unpack(msgpack.packb(STEP | change), ASKS)
    assert error.value.field == field
    assert field in str(error.value)


def test_what_is_missing_is_named():
    with pytest.raises(MessageError, match="session: step lacks it"):
        unpack(msgpack.packb({"type": "step", "id": 1, "action": 0}), ASKS)


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x81", b"\x91\x01", "text", b"\x81\x01\x02", b"\x91" * 2000, b"\xdd\xff\xff\xff\xff"]
)
def test_what_is_no_map_of_fields_is_no_message(data):
    with pytest.raises(MessageError, match="message"):
        unpack(data, ASKS)


def test_an_error_does_not_repeat_a_long_value():
    with pytest.raises(MessageError) as error:
        unpack(msgpack.packb(STEP | {"session": ["x"] * 100_000}), ASKS)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("action", "why"),
    [
        ([0] * 2**18, "values"),
        ([[]] * 2**18, "values"),
        ({"k" * 65: 0}, "characters"),
        ({"k" * 2**20: 0}, "characters"),
    ],
)
def test_what_costs_more_than_it_says_is_refused(action, why):
    with pytest.raises(MessageError, match=why) as error:
        unpack(msgpack.packb(STEP | {"action": action}), ASKS)
    assert (error.value.field, len(str(error.value)) < 100) == ("message", True)


@pytest.mark.parametrize("depth", [17, 505, 1000, 100_000])
def test_lists_within_lists_are_refused(depth):
    head = msgpack.packb(STEP)[1:-1]  # without the size of the map and the action
    with pytest.raises(MessageError) as error:
        unpack(b"\x84" + head + b"\x91" * depth + b"\x00", ASKS)
    assert error.value.field == "message"


def test_an_error_says_whose_it_is():
    with pytest.raises(MessageError) as error:
        unpack(msgpack.packb(STEP | {"id": 7, "sesion": 1}), ASKS)
    assert error.value.number == 7
