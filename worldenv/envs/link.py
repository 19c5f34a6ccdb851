"""A client's connection to a session server: one question at a time, and what becomes of it when the line is cut."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ..base.objects import import_extra
from ..dynamics.messages import ANSWERS, PROTOCOL, Attach, Created, Ended, Failed, Frames, Hello
from ..dynamics.wire import Message, pack, unpack

OPEN_S = 4.0
"""Seconds within which a server must answer hello; for as long a session whose connection was lost is looked for."""
PING_S, PONG_S = 2.0, 10.0
"""How often the server is asked whether it is there, and how long it may take: one that is silent is lost after 12 s. A
killed one is known at once: its machine says so."""
RETRY_S = 0.2

A = TypeVar("A", bound=Message)


class Link:
    """Speaks to a server about one session.

    Args:
        url: ``ws://host:port``; the path is the server's.
        token: what the server asks for, or ''.
        linger: seconds for which the server keeps the session when the connection is lost. That is noticed when
            something is asked; then the session is looked for, at most for ``OPEN_S``. 0: it is not looked for.

    Raises:
        ConnectionError: if the server is not there, full, or of another version.
        PermissionError: if it wants another token.
    """

    def __init__(self, url: str, *, token: str = "", linger: float = 10.0) -> None:
        if not _is_url(url):
            raise ValueError(f"url={str(url)[:80]!r}; pass ws://host:port, as `worldenv serve` prints it")
        self.url, self.token, self.linger = url, token, linger
        self.session, self._key, self._number = "", "", 0
        self._socket: Any = None
        try:
            answer = self._connect(OPEN_S)
        except _lost() as error:
            raise self._gone(error) from None
        if isinstance(answer, Failed):
            raise _error(answer, self.url)

    def create(self, ask: Message) -> Created:
        """Make the session; where that is refused, the connection is cut."""
        try:
            created = self.ask(ask, Created)
        except BaseException:
            self.close()
            raise
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
        if self._socket is not None:
            self._socket.close()

    def _connect(self, seconds: float) -> Message:
        """Connect, in place of the connection before, and say hello; return the answer. One that is refused is cut."""
        self.close()
        client = import_extra("websockets.sync.client", extra="play", needs="worldenv/Remote-v0 needs websockets")
        opened = client.connect(
            f"{self.url.rstrip('/')}/session",
            max_size=None,
            compression=None,
            open_timeout=seconds,
            ping_interval=PING_S,
            ping_timeout=PONG_S,
            close_timeout=1.0,
        )
        self._socket = opened.__enter__()  # closed by ``close``: what it is of use for outlives this call
        try:
            self._socket.send(pack(Hello(id=0, protocol=PROTOCOL, token=self.token)))
            answer = unpack(self._socket.recv(timeout=seconds), ANSWERS)
        except BaseException:
            self.close()
            raise
        if isinstance(answer, Failed):
            self.close()
        return answer

    def _attach(self, seconds: float) -> Message:
        """Connect again and ask for the session; return the answer, which comes when what was being done is done."""
        answer = self._connect(seconds)
        if isinstance(answer, Failed):
            return answer
        self._socket.send(pack(Attach(id=self._number, session=self.session, key=self._key)))
        return unpack(self._socket.recv(), ANSWERS)

    def _answer(self, number: int, see: Callable[[Frames], None] | None) -> Message:
        while True:
            answer = unpack(self._socket.recv(), ANSWERS)
            unread = isinstance(answer, Failed) and answer.id == 0  # what could not be read is what was just asked
            if isinstance(answer, Ended) or unread or (answer.id == number and not isinstance(answer, Frames)):
                return answer
            if isinstance(answer, Frames) and answer.id == number and see is not None:
                see(answer)

    def _again(self, asked: Message, see: Callable[[Frames], None] | None) -> Message:
        """Connect again and ask again; what was done already is not done twice, and shown again."""
        why: object = "the connection was lost"
        until = time.monotonic() + min(self.linger, OPEN_S)
        while self.session and (left := until - time.monotonic()) > 0:
            try:
                answer = self._attach(left)
                if not isinstance(answer, Failed):
                    self._socket.send(pack(asked))
                    return self._answer(asked.id, see)
            except _lost() as error:
                why = error
                time.sleep(RETRY_S)
            else:
                why = answer.why  # it will be no other the next time
                break
        self.close()
        raise self._gone(why)

    def _gone(self, why: object) -> ConnectionError:
        return ConnectionError(
            f"the server at {self.url} is gone ({why}); start it with `worldenv serve`, make the environment anew and "
            "load_state what was saved"
        )


def _is_url(url: Any) -> bool:
    """Tell whether something is the address of a server."""
    try:
        parts = urlsplit(url) if isinstance(url, str) and url.isprintable() else urlsplit("")
        named = bool(parts.hostname) and (parts.hostname or "").encode("idna") and parts.port != 0
    except ValueError:  # of ports and names that are none
        return False
    return bool(named) and parts.scheme in ("ws", "wss") and not parts.query and not parts.fragment


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
