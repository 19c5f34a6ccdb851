"""The session server: what it answers, and that wrong messages, dead clients and crowds do no harm."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import socket
import time
import urllib.error
import urllib.request

import msgpack
import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from worldenv.dynamics.messages import (
    ANSWERS,
    Act,
    Attach,
    Back,
    Close,
    Create,
    Done,
    Fork,
    Frames,
    Hello,
    Load,
    Pause,
    Ping,
    Remember,
    Reset,
    Save,
    Step,
    Stream,
)
from worldenv.dynamics.wire import pack, unpack
from worldenv.play.server.app import running
from worldenv.play.server.config import ServeConfig
from worldenv.play.server.connection import Connection
from worldenv.play.server.hub import Hub
from worldenv.play.server.outbox import Outbox

WALK = [[1, 0], [1, 1], [0, 2], [2, 0], [3, 1]]


def health(where: str) -> dict[str, object]:
    with urllib.request.urlopen(f"http://{where}/healthz", timeout=10) as answer:
        return json.load(answer)


def until(true, *, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_step_shows_each_latent_and_then_tells_what_came_of_it(client):
    one = client()
    session = one.begin(pictures="raw", batch=False)
    frames, outcome = one.pictures(Step, session=session, action=[1, 0], explain=True)
    assert [(shown.chunk, shown.latent, shown.last) for shown in frames] == [(1, i, i == 3) for i in range(4)]
    assert {shown.id for shown in frames} == {outcome.id}
    assert frames[0].pictures.shape == (4, 48, 64, 3)
    np.testing.assert_array_equal(frames[-1].pictures[-1], outcome.obs)
    assert outcome.signals["c2w"].shape == (4, 4, 4)
    np.testing.assert_array_equal(outcome.signals["c2w"][-1], outcome.info["c2w"])
    assert outcome.chunk == 1
    assert "entries" in outcome.explained["memory"]
    assert one.about["spec"]["chunk_frames"] == 16


def test_pictures_come_as_they_are_asked_for(client):
    one = client()
    session = one.begin(pictures="png", obs=False)
    frames, outcome = one.pictures(Step, session=session, action=[1, 0])
    assert outcome.obs is None
    picture = np.asarray(Image.open(io.BytesIO(frames[0].pictures[0])))
    assert picture.shape == (48, 64, 3)


def test_going_back_and_on_again_is_the_same(client):
    one = client()
    session = one.begin(keep=8, batch=False)
    ahead = [one.ask(Step, session=session, action=action) for action in WALK]
    assert ahead[-1].kept == [0, 1, 2, 3, 4, 5]
    back = one.ask(Back, session=session, chunk=2)
    assert back.chunk == 2
    assert back.kept == [0, 1, 2]
    np.testing.assert_array_equal(back.obs, ahead[1].obs)
    again = one.ask(Step, session=session, action=WALK[2])
    np.testing.assert_array_equal(again.obs, ahead[2].obs)
    other = one.ask(Step, session=session, action=[4, 3])
    assert (other.obs != ahead[3].obs).any()
    assert one.ask(Back, session=session, chunk=7).field == "chunk"


def test_kept_chunks_are_limited(client):
    one = client()
    session = one.begin(keep=3)
    for action in WALK:
        outcome = one.ask(Step, session=session, action=action)
    assert outcome.kept == [3, 4, 5]
    assert one.ask(Back, session=session, chunk=4).chunk == 4


def test_a_fork_goes_on_like_its_trunk_and_reseeded_or_with_another_memory_differently(client):
    one = client()
    session = one.begin(keep=8)
    for action in WALK[:3]:
        one.ask(Step, session=session, action=action)
    forks = [one.ask(Fork, session=session, **how).session for how in ({}, {"reseed": 7}, {"chunk": 1})]
    memory = one.ask(Fork, session=session, memory={"policy": "none"}).session
    same, other = (one.ask(Step, session=name, action=[1, 0]).obs.astype(int) for name in forks[:2])
    trunk = one.ask(Step, session=session, action=[1, 0]).obs.astype(int)
    assert np.abs(same - trunk).max() <= 2
    assert np.abs(other - trunk).max() > 2
    assert one.ask(Step, session=memory, action=[1, 0]).chunk == 4
    early = one.ask(Step, session=forks[2], action=WALK[1])
    assert early.chunk == 2
    assert early.kept == [0, 1, 2]


def test_memory_is_switched_on_the_way(client):
    one = client()
    session = one.begin(batch=False)
    for action in WALK:
        one.ask(Step, session=session, action=action)
    for memory in ("worldscape", {"policy": "none"}, "worldplay"):
        assert type(one.ask(Remember, session=session, memory=memory)).__name__ == "Done"
        outcome = one.ask(Step, session=session, action=[1, 0], explain=True)
    assert outcome.chunk == 8
    assert outcome.explained["memory"]["chunks"] == 9
    assert one.ask(Remember, session=session, memory="os:system").field == "memory"


def test_a_saved_session_goes_on_elsewhere_as_it_would_have(client):
    one, two = client(), client()
    session = one.begin(batch=False)
    for action in WALK[:3]:
        one.ask(Step, session=session, action=action)
    saved = one.ask(Save, session=session)
    ahead = one.ask(Step, session=session, action=[1, 0])
    other = two.ask(Create, env="worldenv/Revisit-v0", options={"action_mode": "keys"}, batch=False).session
    assert two.ask(Load, session=other, data=saved.data).chunk == 3
    np.testing.assert_array_equal(two.ask(Step, session=other, action=[1, 0]).obs, ahead.obs)
    broken = two.ask(Load, session=other, data=saved.data[:1000])
    assert (broken.kind, broken.field) == ("value", "data")
    assert two.ask(Step, session=other, action=[1, 0]).chunk == 5


def test_a_picture_is_a_start_view(client):
    one = client()
    session = one.begin(pictures="raw")
    file = io.BytesIO()
    Image.fromarray(np.full((100, 200, 3), 128, np.uint8)).save(file, format="png")
    frames, outcome = one.pictures(Reset, session=session, seed=1, picture=file.getvalue())
    assert (frames[0].pictures == 128).all()
    assert outcome.chunk == 0
    huge = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(huge, format="png")
    assert "pixels" in one.ask(Reset, session=session, picture=huge.getvalue()).why
    assert one.ask(Reset, session=session, picture=b"GIF89a").field == "options"


def test_a_stream_goes_on_by_itself_with_the_newest_action(client):
    one = client()
    session = one.begin(pictures="raw")
    one.ask(Stream, session=session, action=[0, 0])
    one.send(Act, session=session, action=[1, 0])
    newest = one.send(Act, session=session, action=[0, 1])
    until_id = [one.receive() for _ in range(12)]
    assert newest in [message.id for message in until_id]
    one.ask(Pause, session=session)
    chunk = one.ask(Step, session=session, action=[0, 0]).chunk
    assert chunk >= 2
    assert one.ask(Step, session=session, action=[0, 0]).chunk == chunk + 1
    assert "does not stream" in one.ask(Act, session=session, action=[0, 0]).why


def test_sessions_are_batched_and_each_gets_its_own(served, client):
    clients = [client() for _ in range(3)]
    sessions = [one.begin(seed=i) for i, one in enumerate(clients)]
    alone = client()
    own = [alone.begin(seed=i, batch=False) for i in range(3)]
    for action in WALK[:2]:
        for one, session in zip(clients, sessions, strict=True):
            one.send(Step, session=session, action=action)
        together = [one.receive() for one in clients]
        apart = [alone.ask(Step, session=session, action=action) for session in own]
        for a, b in zip(together, apart, strict=True):
            assert np.abs(a.obs.astype(int) - b.obs).max() <= 2
            np.testing.assert_allclose(a.info["c2w"], b.info["c2w"])
    assert clients[0].about["batched"]
    assert not alone.about["batched"]


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


def test_sessions_are_of_their_connection_alone(client):
    one, two = client(), client()
    session = one.begin()
    assert two.ask(Step, session=session, action=[1, 0]).field == "session"
    assert two.ask(Attach, session=session, key="guess").field == "session"


def test_a_dead_client_frees_its_session_unless_it_asked_to_linger(served, client):
    before = health(served)["sessions"]
    one, two = client(), client()
    one.begin()
    made = two.ask(Create, env="worldenv/Revisit-v0", linger=30.0)
    two.ask(Reset, session=made.session, seed=0)
    first = two.ask(Step, session=made.session, action=0)
    one.socket.socket.close()  # as a killed process does
    two.socket.socket.close()
    until(lambda: health(served)["sessions"] == before + 1)
    three = client()
    attached = three.ask(Attach, session=made.session, key=made.key)
    assert attached.answered == first.id
    three.socket.send(pack(Step(id=first.id, session=made.session, action=0)))
    again = three.receive()
    assert again.chunk == 1  # answered again, not done again
    np.testing.assert_array_equal(again.obs, first.obs)
    assert three.ask(Step, session=made.session, action=0).chunk == 2
    three.ask(Close, session=made.session)
    assert health(served)["sessions"] == before


def test_limits_tokens_origins_and_versions(tiny_world_dir, tmp_path):
    token = tmp_path / "token"
    token.write_text("correct horse battery staple\n")
    config = ServeConfig(
        port=0,
        worlds=(str(tiny_world_dir),),
        token_file=token,
        max_sessions=2,
        max_rows=3,
        max_message_mb=0.1,
        max_connections=2,
        idle_s=1.0,
        batch=2,
    )
    with running(config) as where:
        for wrong in ({"protocol": 1}, {"protocol": 1, "token": "guess"}, {"protocol": 99}):
            with connect(f"ws://{where}/session") as socket:
                socket.send(pack(Hello(id=1, **wrong)))
                failed = unpack(socket.recv(), ANSWERS)
                assert failed.kind == ("version" if wrong["protocol"] == 99 else "token")
                with pytest.raises(ConnectionClosed):
                    socket.recv()
        with pytest.raises(InvalidStatus, match="403"), connect(f"ws://{where}/session", origin="https://evil.example"):
            pass
        named = urllib.request.Request(f"http://{where}/healthz", headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(named)
        with connect(f"ws://{where}/session", origin=f"http://{where}") as socket:  # its own page
            socket.send(pack(Hello(id=1, protocol=1, token="correct horse battery staple")))
            assert unpack(socket.recv(), ANSWERS).worlds == ["tiny"]
            create = Create(id=2, env="worldenv/Revisit-v0", num_envs=2)
            for number, kind in ((2, "created"), (3, "failed")):
                socket.send(pack(create))
                assert type(unpack(socket.recv(), ANSWERS)).__name__.lower() == kind, number
            socket.send(b"\0" * 150_000)
            assert "the most are" in unpack(socket.recv(), ANSWERS).why
            ended = unpack(socket.recv(timeout=10), ANSWERS)
            assert (type(ended).__name__, ended.session) == ("Ended", "s1")
            with pytest.raises(ConnectionClosed):
                socket.recv(timeout=10)
        until(lambda: health(where)["connections"] == 0)


class Deaf:
    """A client that asks without end and reads nothing."""

    def __init__(self) -> None:
        self.asked = 0

    async def accept(self) -> None:
        """Do nothing."""

    async def receive(self) -> dict[str, object]:
        self.asked += 1
        asks = Hello(id=0, protocol=1) if self.asked == 1 else Ping(id=self.asked)
        return {"type": "websocket.receive", "bytes": pack(asks)}

    async def send_bytes(self, data: bytes) -> None:
        await asyncio.Event().wait()


def test_a_slow_reader_loses_pictures_and_is_not_listened_to():
    async def serve() -> tuple[Deaf, Outbox]:
        deaf = Deaf()
        connection = Connection(Hub(ServeConfig(max_pending_mb=0.001, max_rate=1e6)), deaf, "")
        running = asyncio.create_task(connection.run())
        await asyncio.sleep(0.3)
        assert not running.done()
        running.cancel()
        return deaf, connection.outbox

    deaf, outbox = asyncio.run(serve())
    assert deaf.asked < 100
    assert 0.001 * 2**20 < outbox.bytes < 0.01 * 2**20
    before, picture = outbox.bytes, Frames(id=1, session="s1", chunk=1, latent=0, last=True, pictures=[b"x" * 9000])
    outbox.closed = False
    outbox.put(picture)
    assert (outbox.bytes, outbox.dropped) == (before, 1)
    outbox.put(Done(id=1))
    assert outbox.bytes > before


def test_more_than_the_rate_is_read_later():
    async def serve() -> int:
        deaf = Deaf()
        connection = Connection(Hub(ServeConfig(max_rate=50)), deaf, "")
        running = asyncio.create_task(connection.run())
        await asyncio.sleep(0.5)
        running.cancel()
        return deaf.asked

    assert asyncio.run(serve()) < 150


def test_settings_that_cannot_be_served_are_refused(tmp_path):
    with pytest.raises(ValueError, match="token_file"):
        ServeConfig(host="0.0.0.0")
    (tmp_path / "token").write_text("short")
    with pytest.raises(ValueError, match="16 to 256"):
        ServeConfig(host="0.0.0.0", token_file=tmp_path / "token").read_token()


def test_a_crowd_that_misbehaves_costs_nothing(served, client):
    one, alone = client(), client()
    session, own = one.begin(batch=False), alone.begin(batch=False)
    before, files = health(served), len(os.listdir("/proc/self/fd"))
    host, port = served.split(":")
    for i in range(20):
        with socket.create_connection((host, int(port))) as raw:
            if i % 4 == 0:
                raw.sendall(random.Random(i).randbytes(500))  # no request
            elif i % 4 == 1:
                raw.sendall(b"GET /session HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgr")  # half of one
            else:
                with connect(f"ws://{served}/session", sock=raw) as line:
                    if i % 4 == 2:
                        line.send(pack(Create(id=1, env="worldenv/Revisit-v0")))  # without hello
                        assert unpack(line.recv(), ANSWERS).kind == "message"
                    else:
                        raw.sendall(b"\x82\xff\x00\x00\x00\x00\x7f\xff\xff\xff\0\0\0\0")  # a frame of two gigabytes
                        with pytest.raises(ConnectionClosed):
                            line.recv(timeout=10)
    until(lambda: health(served)["connections"] == before["connections"])
    until(lambda: len(os.listdir("/proc/self/fd")) <= files + 2)
    for action in WALK[:2]:
        np.testing.assert_array_equal(
            one.ask(Step, session=session, action=action).obs, alone.ask(Step, session=own, action=action).obs
        )
    assert health(served)["sessions"] == before["sessions"]
