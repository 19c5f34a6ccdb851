"""What waits for a client to read it: within a limit, beyond which pictures are left out."""

from __future__ import annotations

import asyncio
from collections import deque

from ...dynamics.messages import Frames
from ...dynamics.wire import Message, pack


class Outbox:
    """Messages on their way to one client; used on the event loop alone."""

    def __init__(self, max_bytes: float) -> None:
        self.max_bytes, self.bytes, self.dropped = max_bytes, 0, 0
        self.closed = False  # whether the connection is lost
        self._waiting: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def put(self, message: Message, *, spare: bool = False) -> None:
        """Add a message; pictures, and what can be spared, are left out where too much is waiting."""
        if self.closed:
            return
        if self.full and (spare or isinstance(message, Frames)):
            self.dropped += 1
            return
        data = pack(message)
        self._waiting.append(data)
        self.bytes += len(data)
        self._changed.set()
        if self.full:
            self._room.clear()

    @property
    def full(self) -> bool:
        """Whether more is waiting than the limit."""
        return self.bytes > self.max_bytes

    def close(self) -> None:
        """Take nothing more, as nobody reads it, and let go whoever waits for it to be read."""
        self.closed, self.bytes = True, 0
        self._waiting.clear()
        self._room.set()

    async def get(self) -> bytes:
        """Return the next message. It still counts as waiting, until ``sent``."""
        while not self._waiting:
            self._changed.clear()
            await self._changed.wait()
        return self._waiting.popleft()

    async def empty(self) -> None:
        """Wait until nothing is waiting."""
        while self.bytes:
            await asyncio.sleep(0.01)

    def sent(self, data: bytes) -> None:
        """Take note that a message was taken over by the network."""
        self.bytes = max(0, self.bytes - len(data))
        if not self.full:
            self._room.set()

    async def room(self) -> None:
        """Wait until less is waiting than the limit."""
        await self._room.wait()
