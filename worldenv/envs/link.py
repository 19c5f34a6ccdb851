"""A client's connection to a session server: one question at a time, and what becomes of it when the line is cut."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from ..base.objects import import_extra
from ..dynamics.messages import ANSWERS, PROTOCOL, Attach, Attached, Created, Ended, Failed, Frames, Hello, Welcome
from ..dynamics.wire import Message, pack, unpack

OPEN_S = 4.0
"""Seconds within which a server must answer hello."""
PING_S, PONG_S = 1.0, 3.0
"""How often the server is asked whether it is there, and how long it may take: a dead one is known after 4 s."""
RETRY_S = 0.2

A = TypeVar("A", bound=Message)


class Link:
    """Speaks to a server about one session.

    Args:
        url: ``ws://host:port``; the path is the server's.
        token: what the server asks for, or ''.
        linger: seconds for which the session outlives a lost connection; for so long it is looked for again.
    """

    def __init__(self, url: str, *, token: str = "", linger: float = 10.0) -> None:
        if not url.startswith(("ws://", "wss://")):
            raise ValueError(f"url={url!r}; pass ws://host:port, as `worldenv serve` prints it")
        self.url, self.token, self.linger = url, token, linger
        self.session, self._key, self._number = "", "", 0
        self._socket: Any = None
        self.welcome = self._connect()

    def create(self, ask: Message) -> Created:
        """Make the session."""
        created = self.ask(ask, Created)
        self.session, self._key = created.session, created.key
        return created

    def ask(self, message: Message, kind: type[A], see: Callable[[Frames], None] | None = None) -> A:
        """Send a message, numbered, and return its answer.

        Args:
            message: what to ask; its ``id`` is replaced.
            kind: what answers it.
            see: takes pictures that come before the answer.

        Raises:
            ValueError: if the server says that a value is wrong.
            ConnectionError: if the server is gone or full, or has ended the session; the message says which.
            PermissionError: if it wants another token.
        """
        self._number += 1
        asked = replace(message, id=self._number)
        try:
            self._socket.send(pack(asked))
            answer = self._answer(self._number, see)
        except _cut():
            answer = self._again(asked, see)
        if isinstance(answer, Ended):
            raise ConnectionError(f"{self.url} has ended session {answer.session}: {answer.why}; make another one")
        if isinstance(answer, Failed):
            raise _error(answer, self.url)
        if not isinstance(answer, kind):
            raise ConnectionError(f"{self.url} answered {type(answer).__name__} to {type(message).__name__}")
        return answer

    def close(self) -> None:
        """Cut the connection; the session ends with it, or a little later."""
        self._socket.close()

    def _connect(self) -> Welcome:
        client = import_extra("websockets.sync.client", extra="play", needs="worldenv/Remote-v0 needs websockets")
        try:
            opened = client.connect(
                f"{self.url.rstrip('/')}/session",
                max_size=None,
                compression=None,
                open_timeout=OPEN_S,
                ping_interval=PING_S,
                ping_timeout=PONG_S,
                close_timeout=1.0,
            )
            self._socket = opened.__enter__()  # closed by ``close``: what it is of use for outlives this call
            self._socket.send(pack(Hello(id=0, protocol=PROTOCOL, token=self.token)))
            answer = unpack(self._socket.recv(timeout=OPEN_S), ANSWERS)
        except _lost() as error:
            raise self._gone(error) from None
        if isinstance(answer, Failed):
            raise _error(answer, self.url)
        assert isinstance(answer, Welcome)
        return answer

    def _answer(self, number: int, see: Callable[[Frames], None] | None) -> Message:
        while True:
            answer = unpack(self._socket.recv(), ANSWERS)
            if isinstance(answer, Ended) or (answer.id == number and not isinstance(answer, Frames)):
                return answer
            if isinstance(answer, Frames) and answer.id == number and see is not None:
                see(answer)

    def _again(self, asked: Message, see: Callable[[Frames], None] | None) -> Message:
        """Connect again and ask again; what was done already is not done twice."""
        until = time.monotonic() + min(self.linger, OPEN_S)
        while True:
            if not self.session:
                raise self._gone("the connection was lost")
            try:
                self._connect()
                self._socket.send(pack(Attach(id=self._number, session=self.session, key=self._key)))
                answer = unpack(self._socket.recv(), ANSWERS)  # when what was being done is done
                if isinstance(answer, Failed):
                    raise self._gone(answer.why)
                assert isinstance(answer, Attached)
                self._socket.send(pack(asked))
                return self._answer(asked.id, see)
            except _lost() as error:
                if time.monotonic() > until:
                    raise self._gone(error) from None
                time.sleep(RETRY_S)

    def _gone(self, why: object) -> ConnectionError:
        return ConnectionError(
            f"the server at {self.url} is gone ({why}); start it with `worldenv serve`, make the environment anew and "
            "load_state what was saved"
        )


def _cut() -> tuple[type[Exception], ...]:
    """Return what is raised where a connection is lost."""
    return (_exceptions().ConnectionClosed,)


def _lost() -> tuple[type[Exception], ...]:
    """Return what is raised where one is lost, or cannot be made."""
    return _exceptions().ConnectionClosed, _exceptions().InvalidHandshake, OSError


def _exceptions() -> Any:
    return import_extra("websockets.exceptions", extra="play", needs="worldenv/Remote-v0 needs websockets")


def _error(failed: Failed, url: str) -> Exception:
    """Return the exception that a local environment would raise, or what stands against a session."""
    if failed.kind in ("value", "message"):
        return ValueError(failed.why)
    if failed.kind == "token":
        return PermissionError(f"{url}: {failed.why}; pass token=")
    return ConnectionError(f"{url}: {failed.why}")
