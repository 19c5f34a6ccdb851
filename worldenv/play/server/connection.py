"""One client's WebSocket: what it asks is read and checked, and answered."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time

from starlette.websockets import WebSocket, WebSocketDisconnect

from ... import __version__
from ...base.log import complain
from ...dynamics.messages import ASKS, PROTOCOL, Attach, Create, Done, Failed, Hello, Ping, Welcome
from ...dynamics.wire import Message, MessageError, unpack
from ...ids import environment_ids
from .hub import Hub
from .line import STRANGER_BYTES, welcomed
from .outbox import Outbox

HELLO_S = 10.0
"""Seconds within which a client must have said hello, and one that is not wanted have read why."""
TOO_MANY, REFUSED = 1013, 1008
"""Codes with which connections are closed."""


class Connection:
    """Reads what a client asks, hands it to its sessions and writes their answers."""

    def __init__(self, hub: Hub, socket: WebSocket, token: str) -> None:
        self.hub, self.socket, self.token = hub, socket, token
        self.outbox = Outbox(hub.config.max_pending_mb * 2**20)
        self._tasks: set[asyncio.Task[None]] = set()
        self._allowance, self._counted = hub.config.max_rate, time.monotonic()

    async def run(self) -> None:
        """Serve the client until it goes, or is not wanted."""
        await self.socket.accept()
        if self.hub.connections >= self.hub.config.max_connections:
            await self.socket.close(TOO_MANY, f"the server has {self.hub.connections} connections, its most")
            return
        self.hub.connections += 1
        both = {asyncio.create_task(self._serve()), asyncio.create_task(self._write())}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)  # without either there is no use in the other
        finally:
            self.hub.connections -= 1
            self.hub.lost(self.outbox)
            for task in both:
                task.cancel()
            for error in await asyncio.gather(*both, return_exceptions=True):
                if isinstance(error, Exception):
                    complain(f"a connection failed: {type(error).__name__}: {error}")

    async def _serve(self) -> None:
        try:
            if await self._greet():
                await self._read()
        except (WebSocketDisconnect, RuntimeError, OSError):
            return  # it is gone

    async def _greet(self) -> bool:
        """Read and answer hello; tell whether the client may stay."""
        try:
            async with asyncio.timeout(HELLO_S):
                data = await self._receive()
        except TimeoutError:
            await self.socket.close(REFUSED, "say hello first")
            return False
        answer = self._welcome(data)
        self.outbox.put(answer)
        if not isinstance(answer, Failed):
            welcomed(self.socket.scope)
            return True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.outbox.empty(), HELLO_S)
        await self.socket.close(REFUSED, answer.why[:120])
        return False

    def _welcome(self, data: bytes | str) -> Message:
        """Answer hello; nothing that is too large to be one is looked at."""
        config = self.hub.config
        try:
            self._check_size(data, STRANGER_BYTES)
            hello = unpack(data, {"hello": Hello})
        except MessageError as error:
            why = f"{error}; the first message is hello"
            return Failed(id=error.number, kind="message", field=error.field, why=why)
        assert isinstance(hello, Hello)
        number = hello.id
        if hello.protocol != PROTOCOL:
            why = f"the server speaks protocol {PROTOCOL} (worldenv {__version__}), the client {hello.protocol}"
            return Failed(id=number, kind="version", field="protocol", why=f"{why}; install the same version")
        if self.token and not secrets.compare_digest(hello.token.encode(), self.token.encode()):
            return Failed(id=number, kind="token", field="token", why="token: not the one that the server asks for")
        limits = {
            "message_bytes": config.max_message_mb * 2**20,
            "sessions": config.max_sessions,
            "rows": config.max_rows,
            "rate": config.max_rate,
            "linger": config.linger_s,
            "idle": config.idle_s,
        }
        return Welcome(
            id=number,
            protocol=PROTOCOL,
            version=__version__,
            environments=list(environment_ids()),
            worlds=list(config.named),
            limits=limits,
        )

    async def _read(self) -> None:
        while True:
            await self.outbox.room()
            await self._pace()
            try:
                async with asyncio.timeout(self.hub.config.idle_s):  # unlike wait_for it makes no task of each message
                    data = await self._receive()
            except TimeoutError:
                if any(live.owner is self.outbox for live in self.hub.lives.values()):
                    continue
                await self.socket.close(REFUSED, "nothing was asked")
                return
            try:
                self._check_size(data, self.hub.config.max_message_mb * 2**20)
                small = len(data) <= STRANGER_BYTES
                self._dispatch(unpack(data, ASKS) if small else await asyncio.to_thread(unpack, data, ASKS))
            except MessageError as error:
                self.outbox.put(Failed(id=error.number, kind="message", field=error.field, why=str(error)))

    def _check_size(self, data: bytes | str, most: float) -> None:
        if len(data) > most:
            raise MessageError("message", f"holds {len(data)} bytes, the most are {most:.0f}")

    def _dispatch(self, ask: Message) -> None:
        """Have something done; what takes long is not waited for."""
        try:
            if isinstance(ask, Hello):
                raise MessageError("type", "hello was said; send create")
            if isinstance(ask, Ping):
                self.outbox.put(Done(id=ask.id))
            elif isinstance(ask, Create):
                task = asyncio.create_task(self._create(ask))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            elif isinstance(ask, Attach):
                self.hub.attach(ask, self.outbox)
            else:
                self.hub.find(getattr(ask, "session"), self.outbox).ask(ask, self.outbox)  # noqa: B009
        except MessageError as error:
            error.number = ask.id
            raise

    async def _create(self, ask: Create) -> None:
        self.outbox.put(await self.hub.create(ask, self.outbox))

    async def _pace(self) -> None:
        """Wait where more is asked than the rate allows."""
        now, rate = time.monotonic(), self.hub.config.max_rate
        self._allowance = min(rate, self._allowance + rate * (now - self._counted)) - 1
        self._counted = now
        if self._allowance < 0:
            await asyncio.sleep(-self._allowance / rate)

    async def _receive(self) -> bytes | str:
        event = await self.socket.receive()
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(event.get("code", 1006))
        data: bytes | str | None = event.get("bytes")
        return event["text"] if data is None else data

    async def _write(self) -> None:
        while True:
            data = await self.outbox.get()
            try:
                await self.socket.send_bytes(data)
            except (WebSocketDisconnect, RuntimeError, OSError):
                return  # it is gone
            self.outbox.sent(data)
