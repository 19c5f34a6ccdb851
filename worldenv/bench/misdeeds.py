"""What clients do to a session server that they should not: each a few seconds of one client.

What a server does to them is to answer, or to close the connection (a ``ConnectionClosed``); a ``TimeoutError`` says
that it did neither.
"""

from __future__ import annotations

import base64
import contextlib
import random
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..base.objects import import_extra
from ..dynamics.messages import ANSWERS, PROTOCOL, Attach, Create, Created, Hello, Ping, Reset, Step, Stream
from ..dynamics.wire import Message, pack, unpack

ENV = "worldenv/Revisit-v0"
PATIENCE_S = 1.0
"""Longest that a client waits for what may not come, or keeps a server waiting."""
LARGE, MANY = 2**20, 2**19
"""Bytes of what is too large before hello, and lists that are too many to be held."""


@dataclass(frozen=True)
class Target:
    """A server, and what one of its clients should not know."""

    host: str
    port: int
    token: str
    message_bytes: int
    """The largest message that it reads."""


def stall(target: Target, draw: random.Random) -> None:
    """Say nothing at all, or let a session stream and read nothing of it."""
    if draw.random() < 0.9:  # mostly what computes nothing: this is no measure of speed
        with _opened(target):
            time.sleep(PATIENCE_S)
        return
    with _known(target, patient=True) as line:
        line.send(pack(Create(id=1, env=ENV, pictures="raw")))
        created = unpack(line.recv(timeout=60), ANSWERS)
        if isinstance(created, Created):
            line.send(pack(Reset(id=2, session=created.session, seed=0)))
            line.send(pack(Stream(id=3, session=created.session, action=0)))
        for number in range(100):
            line.send(pack(Ping(id=4 + number)))
        time.sleep(2 * PATIENCE_S)
        line.socket.close()  # as a killed process does


def garbage(target: Target, draw: random.Random) -> None:
    """Send bytes that mean nothing: as a request, as frames, and as messages."""
    noise = draw.randbytes(draw.randrange(1, 4000))
    kind = draw.randrange(3)
    if kind == 0:
        with _opened(target) as raw:
            raw.sendall(noise)
            _read(raw)
    elif kind == 1:
        with _known(target) as line:
            line.socket.sendall(b"\xff" + noise)  # the head of no frame
            _answers(line, 1)
    else:
        with _known(target) as line:
            for _ in range(20):
                line.send(draw.randbytes(draw.randrange(200)))
                line.send(b"\x81\xa6action" + b"\x91" * draw.randrange(2000) + b"\x00")
            _answers(line, 40)


def half(target: Target, draw: random.Random) -> None:
    """Stop in the middle: of a request, of a frame, of a message, now and then of a step; and be gone."""
    kind = 3 if draw.random() < 0.1 else draw.randrange(3)
    if kind == 0:
        with _opened(target) as raw:
            raw.sendall(_request(target)[: draw.randrange(1, 100)])
            time.sleep(draw.random() * PATIENCE_S)
        return
    with _known(target) as line:
        if kind == 1:
            line.socket.sendall(b"\x82\xfe\x10\x00\0\0\0\0half of it")
            time.sleep(draw.random() * PATIENCE_S)
        elif kind == 2:
            whole = pack(Create(id=1, env=ENV))
            line.send(whole[: draw.randrange(len(whole))])
            _answers(line, 1)
        else:
            line.send(pack(Create(id=1, env=ENV, linger=2.0)))
            created = unpack(line.recv(timeout=60), ANSWERS)
            if isinstance(created, Created):
                line.send(pack(Reset(id=2, session=created.session, seed=0)))
                line.send(pack(Step(id=3, session=created.session, action=0)))
        line.socket.close()


def oversized(target: Target, draw: random.Random) -> None:
    """Send too much: before hello, after it, in one frame or in many, and values that cost more than their bytes."""
    kind = draw.randrange(4)
    if kind == 0:
        with _line(target) as line:
            line.send(bytes(LARGE))
            _answers(line, 1)
        return
    with _known(target) as line:
        line.send(pack(Ping(id=1)))
        _answers(line, 1)
        if kind == 1:
            line.send(bytes(target.message_bytes + 1))
        elif kind == 2:
            line.socket.sendall(b"\x82\xff\x00\x00\x00\x00\x7f\xff\xff\xff\0\0\0\0")  # begin a frame of two gigabytes
        else:
            line.send(b"\x83\xa4type\xa4ping\xa2id\x01\xa1x\xdd" + MANY.to_bytes(4, "big") + b"\x90" * MANY)
        _answers(line, 1)


def unauthorised(target: Target, draw: random.Random) -> None:
    """Come without a token, with a wrong one, or for somebody else's session."""
    kind = draw.randrange(4)
    if kind == 0:
        url = f"http://{target.host}:{target.port}/play/config"
        request = urllib.request.Request(url, headers={"Authorization": "Bearer guess"})
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(request, timeout=10 * PATIENCE_S).close()
    elif kind == 1:
        with _line(target) as line:
            line.send(pack(Hello(id=1, protocol=PROTOCOL, token=draw.randbytes(12).hex())))
            _answers(line, 2)
    elif kind == 2:
        with _line(target) as line:
            line.send(pack(Create(id=1, env=ENV)))
            _answers(line, 2)
    else:
        with _known(target) as line:
            session = f"s{draw.randrange(1, 20)}"
            asks: list[Message] = [Step(id=1, session=session, action=0), Attach(id=2, session=session, key="guess")]
            for ask in asks:
                line.send(pack(ask))
            _answers(line, len(asks))


MISDEEDS: dict[str, Callable[[Target, random.Random], None]] = {
    "stall": stall,
    "garbage": garbage,
    "half": half,
    "oversized": oversized,
    "unauthorised": unauthorised,
}


def _opened(target: Target) -> socket.socket:
    return socket.create_connection((target.host, target.port), timeout=10 * PATIENCE_S)


def _request(target: Target) -> bytes:
    key = base64.b64encode(bytes(16)).decode()
    lines = ["GET /session HTTP/1.1", f"Host: {target.host}:{target.port}", "Connection: Upgrade", "Upgrade: websocket"]
    return "\r\n".join([*lines, "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", "", ""]).encode()


def _line(target: Target, *, patient: bool = False) -> Any:
    """Open a WebSocket; a patient one reads no more than a message unasked."""
    client = import_extra("websockets.sync.client", extra="play", needs="worldenv bench soak needs websockets")
    return client.connect(
        f"ws://{target.host}:{target.port}/session",
        compression=None,
        max_size=None,
        max_queue=1 if patient else 16,
        open_timeout=10 * PATIENCE_S,
        close_timeout=PATIENCE_S,
        ping_interval=None,
    )


@contextlib.contextmanager
def _known(target: Target, *, patient: bool = False) -> Iterator[Any]:
    """Open a WebSocket that has been welcomed."""
    with _line(target, patient=patient) as line:
        line.send(pack(Hello(id=0, protocol=PROTOCOL, token=target.token)))
        line.recv(timeout=10 * PATIENCE_S)
        yield line


def _answers(line: Any, count: int) -> None:
    """Read answers, unless the connection is closed before.

    Raises:
        TimeoutError: if neither happens.
    """
    for _ in range(count):
        line.recv(timeout=10 * PATIENCE_S)


def _read(raw: socket.socket) -> None:
    raw.settimeout(PATIENCE_S)
    with contextlib.suppress(OSError):
        raw.recv(4096)
