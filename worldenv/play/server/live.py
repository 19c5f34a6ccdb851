"""A session on the event loop: what is asked of it in order, its stream, and whose it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial

import gymnasium as gym

from ...base.log import complain
from ...dynamics.messages import (
    Act,
    Attach,
    Attached,
    Back,
    Close,
    Done,
    Failed,
    Fork,
    Load,
    Outcome,
    Pause,
    Prompt,
    Remember,
    Reset,
    Save,
    Step,
    Stream,
)
from ...dynamics.wire import Message, MessageError
from .outbox import Outbox
from .session import Session

MAX_ASKED = 64
"""Messages that may wait for one session."""
MAX_WHY = 2000
"""Characters of an error, which may repeat what was sent."""
BLAME: dict[type[Message], str] = {
    Reset: "options",
    Step: "action",
    Back: "chunk",
    Fork: "chunk",
    Remember: "memory",
    Load: "data",
    Save: "rows",
    Prompt: "prompt",
}
"""The field that a wrong value came in, by what was asked."""


Elsewhere = Callable[["Live", "Close | Fork", Outbox], Awaitable[Message]]
"""Does what concerns more than a session itself: makes another, ends it."""


class Live:
    """Runs a session: one thing at a time, in a thread of the executor, for the connection that owns it."""

    def __init__(self, session: Session, outbox: Outbox, executor: Executor, elsewhere: Elsewhere) -> None:
        self.session, self.executor, self.elsewhere = session, executor, elsewhere
        self.owner: Outbox | None = outbox
        self.used = self.left = time.monotonic()  # when it was last asked something, and lost its connection
        self.last: Message | None = None  # what it last answered
        self.stream: Stream | None = None  # with the newest action, while it streams
        self._again = False  # whether the next message may be one that was answered before the connection was lost
        self._stepped = False  # whether that was a step, whose pictures are a whole chunk
        self._due = 0.0
        self._asks: asyncio.Queue[tuple[Message, Outbox, float]] = asyncio.Queue(MAX_ASKED)

    def ask(self, message: Message, outbox: Outbox) -> None:
        """Let something be done when all before is done.

        Raises:
            MessageError: if too much is waiting, or there is no stream to act in.
        """
        self.used = time.monotonic()
        if isinstance(message, Act):
            if self.stream is None:
                raise MessageError("session", f"{self.session.name} does not stream; send stream, or step")
            explain = self.stream.explain
            self.stream = Stream(id=message.id, session=message.session, action=message.action, explain=explain)
            return
        try:
            self._asks.put_nowait((message, outbox, self.used))
        except asyncio.QueueFull:
            why = f"{MAX_ASKED} messages wait for {self.session.name}; wait for answers"
            raise MessageError("session", why) from None

    async def run(self) -> None:
        """Do what is asked, until that is to end; what waits then is told so."""
        try:
            ended = False
            while not ended:
                asked = await self._next()
                if asked is None:
                    await self._advance()
                    continue
                message, outbox, since = asked
                await outbox.room()  # who does not read is not worked for
                answer = await self._answer(message, outbox, since)
                self._again = isinstance(message, Attach)
                if not self._again:
                    self.last, self._stepped = answer, isinstance(message, Step)
                outbox.put(answer)
                ended = isinstance(message, Close)
        finally:
            self._refuse_rest()

    def _refuse_rest(self) -> None:
        while not self._asks.empty():
            message, outbox, _ = self._asks.get_nowait()
            why = f"session {self.session.name} has ended; create another one"
            outbox.put(Failed(id=message.id, kind="session", field="session", why=why))

    async def _next(self) -> tuple[Message, Outbox, float] | None:
        """Return what is asked next, None where a stream's chunk is due."""
        if self.stream is None or not self._asks.empty():
            return await self._asks.get()
        try:
            return await asyncio.wait_for(self._asks.get(), max(0.001, self._due - time.monotonic()))
        except TimeoutError:
            return None

    async def _answer(self, message: Message, outbox: Outbox, since: float) -> Message:
        """Do one thing that is asked, or say why it cannot be."""
        if self._again and self.last is not None and message.id == self.last.id:
            return await self._tried(self._show_again(self.last, outbox), message)
        if isinstance(message, Attach):
            return Attached(id=message.id, session=self.session.name, answered=0 if self.last is None else self.last.id)
        if isinstance(message, Stream):
            self.stream, self._due = message, time.monotonic()
            return Done(id=message.id)
        if isinstance(message, Pause):
            self.stream = None
            return Done(id=message.id)
        if isinstance(message, Fork | Close):
            return await self._tried(self.elsewhere(self, message, outbox), message)
        return await self._tried(self._in_thread(message, outbox, since), message)

    async def _tried(self, work: Awaitable[Message], message: Message) -> Message:
        try:
            return await work
        except Exception as error:
            return failure(error, message)

    async def _in_thread(self, message: Message, outbox: Outbox, since: float) -> Message:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.executor, self.session.answer, message, _sender(outbox), since)

    async def _show_again(self, last: Message, outbox: Outbox) -> Message:
        """Return the last answer, after the pictures that came before it: those may have been lost too."""
        if isinstance(last, Outcome):
            show = partial(self.session.show_again, last, _sender(outbox), chunk=self._stepped)
            await asyncio.get_running_loop().run_in_executor(self.executor, show)
        return last

    async def _advance(self) -> None:
        """Make the next chunk of a stream with the newest action; leave out what a slow reader has no room for."""
        assert self.stream is not None
        spec, now = self.session.env.core.spec, time.monotonic()
        self._due = max(self._due + spec.chunk_frames / spec.fps, now)
        owner = self.owner
        if owner is None or owner.full:
            return
        stream = self.stream
        step = Step(id=stream.id, session=stream.session, action=stream.action, explain=stream.explain)
        answer = await self._tried(self._in_thread(step, owner, now), step)
        if isinstance(answer, Failed):
            self.stream = None
        owner.put(answer, spare=not isinstance(answer, Failed))


def _sender(outbox: Outbox) -> Callable[[Message], None]:
    """Return what lets another thread put pictures into a client's outbox."""
    loop = asyncio.get_running_loop()

    def send(frames: Message) -> None:
        loop.call_soon_threadsafe(outbox.put, frames)

    return send


def failure(error: Exception, message: Message) -> Failed:
    """Say why a message could not be answered; what is no fault of its sender's is also logged."""
    number, why = message.id, str(error)[:MAX_WHY]
    if isinstance(error, MessageError):
        return Failed(id=number, kind="message", field=error.field, why=why)
    if isinstance(error, ValueError | TypeError | gym.error.Error):
        return Failed(id=number, kind="value", field=BLAME.get(type(message), "options"), why=why)
    complain(f"{type(message).__name__} failed: {type(error).__name__}: {error}")
    return Failed(id=number, kind="internal", field="", why=f"{type(error).__name__}: {why}")
