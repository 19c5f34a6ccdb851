"""Connections that are slow, greedy, cut or dead, and what becomes of their sessions."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
import sys

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from worldenv.dynamics.messages import ANSWERS, Attach, Close, Create, Done, Frames, Hello, Ping, Reset, Step
from worldenv.dynamics.wire import pack, unpack
from worldenv.play.server.config import ServeConfig
from worldenv.play.server.connection import Connection
from worldenv.play.server.hub import Hub
from worldenv.play.server.outbox import Outbox

WALK = [[1, 0], [1, 1], [0, 2], [2, 0], [3, 1]]
PLAYER = """
import sys, msgpack
from websockets.sync.client import connect
with connect(sys.argv[1]) as line:
    def ask(**message):
        line.send(msgpack.packb(message))
        return msgpack.unpackb(line.recv())
    ask(type="hello", id=1, protocol=1)
    session = ask(type="create", id=2, env="worldenv/Revisit-v0")["session"]
    ask(type="reset", id=3, session=session, seed=0)
    line.send(msgpack.packb({"type": "stream", "id": 4, "session": session, "action": 0}))
    print("steps", flush=True)
    while True:
        line.recv()
"""
"""A client in a process of its own, which can be killed."""


class Deaf:
    """A client that asks without end and reads nothing."""

    def __init__(self) -> None:
        self.asked, self.scope = 0, {}

    async def accept(self) -> None:
        """Do nothing."""

    async def receive(self) -> dict[str, object]:
        self.asked += 1
        asks = Hello(id=0, protocol=1) if self.asked == 1 else Ping(id=self.asked)
        return {"type": "websocket.receive", "bytes": pack(asks)}

    async def send_bytes(self, data: bytes) -> None:
        await asyncio.Event().wait()


def test_a_slow_reader_is_not_listened_to():
    async def serve() -> tuple[int, int, Outbox]:
        deaf = Deaf()
        connection = Connection(Hub(ServeConfig(max_pending_mb=0.001, max_rate=1e6)), deaf, "")
        running = asyncio.create_task(connection.run())
        await asyncio.sleep(0.3)
        assert not running.done()
        asked, waiting = deaf.asked, connection.outbox.bytes
        running.cancel()
        await asyncio.wait([running])
        return asked, waiting, connection.outbox

    asked, waiting, outbox = asyncio.run(serve())
    assert asked < 100
    assert 0.001 * 2**20 < waiting < 0.01 * 2**20
    assert (outbox.closed, outbox.bytes) == (True, 0)


def test_what_is_not_read_leaves_out_pictures_alone():
    outbox = Outbox(1000)
    outbox.put(Done(id=1))
    picture = Frames(id=1, session="s1", chunk=1, latent=0, last=True, pictures=[b"x" * 9000])
    outbox.put(picture)
    full = outbox.bytes
    assert full > 9000
    outbox.put(picture)
    assert (outbox.bytes, outbox.dropped) == (full, 1)
    outbox.put(Done(id=1))
    assert outbox.bytes > full


class Broken(Deaf):
    """A client that says something wrong, or nothing more, and cannot be written to."""

    def __init__(self, first: bytes) -> None:
        super().__init__()
        self.first = first

    async def receive(self) -> dict[str, object]:
        self.asked += 1
        if self.asked > 1:
            await asyncio.Event().wait()
        return {"type": "websocket.receive", "bytes": self.first}

    async def send_bytes(self, data: bytes) -> None:
        raise RuntimeError("the connection is lost")


@pytest.mark.parametrize("first", [pack(Hello(id=0, protocol=1)), b"nonsense"], ids=["welcome", "refused"])
def test_who_cannot_be_written_to_holds_no_place(first):
    hub = Hub(ServeConfig())
    asyncio.run(asyncio.wait_for(Connection(hub, Broken(first), "").run(), 5))
    assert hub.connections == 0


def test_more_than_the_rate_is_read_later():
    async def serve() -> int:
        deaf = Deaf()
        connection = Connection(Hub(ServeConfig(max_rate=50)), deaf, "")
        running = asyncio.create_task(connection.run())
        await asyncio.sleep(0.5)
        running.cancel()
        return deaf.asked

    assert asyncio.run(serve()) < 150


def test_sessions_are_of_their_connection_alone(client):
    one, two = client(), client()
    session = one.begin()
    assert two.ask(Step, session=session, action=[1, 0]).field == "session"
    assert two.ask(Attach, session=session, key="guess").field == "session"


def test_a_lost_client_frees_its_session_unless_it_asked_to_linger(served, client, health, until):
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


def test_a_crowd_that_misbehaves_costs_nothing(served, client, health, until):
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


def test_a_killed_client_frees_its_session(served, health, until):
    before = health(served)["sessions"]
    with subprocess.Popen([sys.executable, "-c", PLAYER, f"ws://{served}/session"], stdout=subprocess.PIPE) as player:
        assert player.stdout.readline() == b"steps\n"
        assert health(served)["sessions"] == before + 1
        player.kill()
    until(lambda: health(served)["sessions"] == before)


def test_what_comes_right_behind_an_attach_is_done_and_shown_again(served, client):
    one = client()
    made = one.ask(Create, env="worldenv/Revisit-v0", linger=30.0, pictures="raw")
    start, _ = one.pictures(Reset, session=made.session, seed=0)
    chunk, first = one.pictures(Step, session=made.session, action=0)
    one.socket.socket.close()
    two = client()
    two.count = first.id - 1
    attach = Attach(id=first.id - 1, session=made.session, key=made.key)
    for message in (attach, Step(id=first.id, session=made.session, action=0)):
        two.socket.send(pack(message))
    assert two.receive().answered == first.id
    again = [two.receive() for _ in chunk]
    for a, b in zip(again, chunk, strict=True):
        assert (a.id, a.chunk, a.latent, a.last) == (b.id, b.chunk, b.latent, b.last)
        np.testing.assert_array_equal(a.pictures, b.pictures)
    np.testing.assert_array_equal(two.receive().obs, first.obs)
    back, _ = two.pictures(Reset, session=made.session, seed=0)
    np.testing.assert_array_equal(back[0].pictures, start[0].pictures)
    two.ask(Close, session=made.session)


def test_what_waits_behind_a_close_is_answered(client):
    one = client()
    session = one.begin()
    asked = [one.send(Step, session=session, action=[1, 0]), one.send(Close, session=session)]
    asked += [one.send(Step, session=session, action=[1, 0]) for _ in range(2)]
    answers = [one.receive() for _ in asked]
    assert [answer.id for answer in answers] == asked
    assert [type(answer).__name__ for answer in answers] == ["Outcome", "Done", "Failed", "Failed"]


def test_strangers_may_not_say_much(served, client):
    with connect(f"ws://{served}/session") as line:
        line.send(b"\0" * 20_000)
        with pytest.raises(ConnectionClosed) as error:
            line.recv(timeout=10)
        assert error.value.rcvd.code == 1009
    one = client()
    one.ask(Ping)
    one.socket.send(b"\0" * 20_000)
    assert one.receive().kind == "message"


def test_half_a_request_is_not_waited_for(served, monkeypatch):
    monkeypatch.setattr("worldenv.play.server.line.REQUEST_S", 0.2)
    host, port = served.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(b"GET /session HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgr")
        assert raw.recv(1) == b""
