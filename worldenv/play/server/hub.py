"""All sessions of a server: who may have how many, whose they are, and when they end."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from ...dynamics.messages import Attach, Close, Create, Created, Done, Ended, Failed, Fork
from ...dynamics.wire import Message, MessageError
from .config import ServeConfig
from .heaps import give_back
from .live import Live, failure
from .opening import Opener
from .outbox import Outbox
from .session import Session

REAP_S = 0.5
"""Seconds between looks at what is to end."""


class Hub:
    """Makes, finds and ends sessions; used on the event loop alone."""

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.opener = Opener(config)
        self.lives: dict[str, Live] = {}
        self.connections = 0
        self._executor = ThreadPoolExecutor(config.max_sessions + 4, "session")
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._opening: list[int] = []  # rows of sessions that are being made
        self._ending: set[asyncio.Task[None]] = set()
        self._count = 0

    async def create(self, ask: Create, outbox: Outbox) -> Message:
        """Make a session."""

        def make(name: str, key: str) -> Session:
            return Session(name, key, ask, self.opener, max_kept=self.config.max_kept_mb * 2**20)

        return await self._adopt(ask, ask.num_envs or 1, outbox, make)

    async def _adopt(
        self, ask: Create | Fork, rows: int, outbox: Outbox, make: Callable[[str, str], Session]
    ) -> Message:
        """Make a session in a thread, within the limits, and run it."""
        most = self.config.max_sessions
        if len(self.lives) + len(self._opening) >= most:
            return Failed(
                id=ask.id, kind="full", field="", why=f"the server holds {most} sessions, its most; try later"
            )
        if (
            sum(live.session.env.num_envs for live in self.lives.values()) + sum(self._opening) + rows
            > self.config.max_rows
        ):
            why = f"{rows} more environments are more than the server's most, {self.config.max_rows}; ask for fewer"
            return Failed(id=ask.id, kind="full", field="num_envs", why=why)
        self._count += 1
        name, key = f"s{self._count}", secrets.token_urlsafe(16)
        self._opening.append(rows)
        try:
            work = partial(_introduced, make, name, key, ask.id)
            session, created = await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except Exception as error:
            return failure(error, ask)
        finally:
            self._opening.remove(rows)
        live = self.lives[name] = Live(session, outbox, self._executor, self._elsewhere)
        self._tasks[name] = asyncio.create_task(live.run())
        if outbox.closed:
            self.lost(outbox)
        return created

    async def _elsewhere(self, live: Live, ask: Close | Fork, outbox: Outbox) -> Message:
        """Do what concerns more than a session itself."""
        if isinstance(ask, Fork):
            fork = partial(live.session.fork, ask)
            return await self._adopt(ask, 1, outbox, fork)
        await self.end(live)
        return Done(id=ask.id)

    def find(self, name: str, outbox: Outbox) -> Live:
        """Return a session of a connection."""
        live = self.lives.get(name)
        if live is None or live.owner is not outbox:
            mine = ", ".join(name for name, live in self.lives.items() if live.owner is outbox)
            raise MessageError("session", f"{name!r} is none of this connection; there are {mine or 'none'}")
        return live

    def attach(self, ask: Attach, outbox: Outbox) -> None:
        """Give a session that has lost its connection to another."""
        live = self.lives.get(ask.session)
        if live is None or not secrets.compare_digest(live.session.key.encode(), ask.key.encode()):
            raise MessageError("session", f"{ask.session!r} is no session, or has another key; it may have ended")
        live.ask(ask, outbox)
        live.owner = outbox  # from now on: it must not end before that is answered, and takes what comes next

    async def end(self, live: Live, why: str = "") -> None:
        """End a session, when what it is doing is done; tell its client, if that did not ask for it."""
        name = live.session.name
        if self.lives.pop(name, None) is None:
            return
        task = self._tasks.pop(name)
        if task is not asyncio.current_task():
            task.cancel()
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close, live.session)
        if why and live.owner is not None:
            live.owner.put(Ended(id=0, session=name, why=why))

    def _close(self, session: Session) -> None:
        with session.busy:
            session.close()
        give_back()

    def lost(self, outbox: Outbox) -> None:
        """Take note that a connection is lost; sessions that do not outlive it end."""
        outbox.close()
        for live in list(self.lives.values()):
            if live.owner is outbox:
                live.owner, live.left = None, time.monotonic()
        self._reap()

    def _reap(self) -> None:
        now = time.monotonic()
        for live in list(self.lives.values()):
            linger = min(live.session.asked.linger, self.config.linger_s)
            if live.owner is None and now - live.left >= linger:
                self._in_background(self.end(live))
            elif now - live.used > self.config.idle_s and live.stream is None:
                self._in_background(self.end(live, f"nothing was asked of it for {self.config.idle_s:g} s"))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._ending.add(task)  # the loop itself holds on to none
        task.add_done_callback(self._ending.discard)

    async def watch(self) -> None:
        """End what is to end, for ever."""
        while True:
            await asyncio.sleep(REAP_S)
            self._reap()

    async def close(self) -> None:
        """End everything."""
        for live in list(self.lives.values()):
            await self.end(live, "the server stops")
        self._executor.shutdown(wait=False, cancel_futures=True)


def _introduced(make: Callable[[str, str], Session], name: str, key: str, number: int) -> tuple[Session, Created]:
    """Make a session and what tells of it; where either fails nothing stays."""
    session = make(name, key)
    try:
        return session, session.created(number)
    except BaseException:
        session.close()
        raise
