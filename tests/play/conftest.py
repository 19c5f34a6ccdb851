"""A server of the tiny world, and a client that says anything."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the play extra is not installed")
pytest.importorskip("starlette", reason="the play extra is not installed")
pytest.importorskip("websockets", reason="the play extra is not installed")

from websockets.sync.client import connect

from worldenv.dynamics.messages import ANSWERS, Create, Created, Frames, Hello, Reset
from worldenv.dynamics.wire import Message, pack, unpack
from worldenv.play.server.app import running
from worldenv.play.server.config import ServeConfig


class Client:
    """One WebSocket to a server."""

    def __init__(self, where: str, *, token: str = "", hello: bool = True, **options: Any) -> None:
        opened = connect(f"ws://{where}/session", compression=None, max_size=None, **options)
        self.socket = opened.__enter__()
        self.count = 0
        if hello:
            self.welcome = self.ask(Hello, protocol=1, token=token)

    def send(self, kind: type[Message], **fields: Any) -> int:
        """Send a message; return its number."""
        self.count += 1
        self.socket.send(pack(kind(id=self.count, **fields)))
        return self.count

    def receive(self, timeout: float = 60) -> Any:
        """Return the next message."""
        return unpack(self.socket.recv(timeout=timeout), ANSWERS)

    def ask(self, kind: type[Message], **fields: Any) -> Any:
        """Send a message and return what answers it, without the pictures before it."""
        return self.pictures(kind, **fields)[1]

    def pictures(self, kind: type[Message], **fields: Any) -> tuple[list[Frames], Any]:
        """Send a message and return the pictures that come, and the answer."""
        number, shown = self.send(kind, **fields), []
        while True:
            answer = self.receive()
            if answer.id != number:
                continue
            if not isinstance(answer, Frames):
                return shown, answer
            shown.append(answer)

    def begin(self, env: str = "worldenv/Revisit-v0", *, seed: int = 0, **fields: Any) -> str:
        """Make a session and begin an episode; return its name."""
        created = self.ask(Create, **{"env": env, "options": {"action_mode": "keys"}} | fields)
        assert isinstance(created, Created), created
        self.about = created.about
        answer = self.ask(Reset, session=created.session, seed=seed)
        assert type(answer).__name__ == "Outcome", answer
        return created.session


@pytest.fixture(scope="session")
def served(tiny_world_dir: Path) -> Iterator[str]:
    """The address of a server of the tiny world."""
    with running(ServeConfig(port=0, worlds=(str(tiny_world_dir),), batch=4, idle_s=60)) as where:
        yield where


@pytest.fixture
def health() -> Callable[[str], dict[str, Any]]:
    """Asks a server how it is."""

    def ask(where: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://{where}/healthz", timeout=10) as answer:
            told: dict[str, Any] = json.load(answer)
            return told

    return ask


@pytest.fixture
def until() -> Callable[..., None]:
    """Waits until something is true."""

    def wait(true: Callable[[], bool], *, seconds: float = 10) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end
            time.sleep(0.02)

    return wait


@pytest.fixture
def client(served: str) -> Iterator[Callable[..., Client]]:
    """Connects to it."""
    clients: list[Client] = []

    def make(**options: Any) -> Client:
        clients.append(Client(served, **options))
        return clients[-1]

    yield make
    for one in clients:
        one.socket.close()
