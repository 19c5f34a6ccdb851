"""The server as an ASGI application, and what runs it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from ... import __version__
from ...dynamics.messages import PROTOCOL
from ...world.files import HUB, find_world
from .config import ServeConfig
from .connection import Connection
from .guard import Guard
from .heaps import share_heaps
from .hub import Hub
from .line import RequestLine, SocketLine

PATH = "/session"
PING_S, PONG_S = 5.0, 20.0
"""How often clients are asked whether they are there, and how long they may take."""


def make_app(config: ServeConfig, routes: Sequence[BaseRoute] = ()) -> Starlette:
    """Return the application: sessions, health, and more routes, behind the same guard.

    Anybody may ask for health and for mounted files; all other routes need the token, if there is one. Its ``state``
    holds ``config``, ``token``, and ``hub`` once it runs.

    Raises:
        ValueError: on a world that is not there, before a client asks for it; one of a hub is fetched when one does.
    """
    for world in config.worlds:
        if not world.startswith(HUB):
            find_world(world)
    every = [Route("/healthz", _health), WebSocketRoute(PATH, _session), *routes]
    public = [every[0], *(route for route in routes if isinstance(route, Mount))]
    token = config.read_token()
    app = Starlette(
        routes=every,
        middleware=[Middleware(Guard, config=config, token=token, routes=every, public=public)],
        lifespan=_lifespan,
    )
    app.state.config, app.state.token = config, token
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    hub = app.state.hub = Hub(app.state.config)
    watching = asyncio.create_task(hub.watch())
    yield
    watching.cancel()
    await hub.close()


async def _session(socket: WebSocket) -> None:
    await Connection(socket.app.state.hub, socket, socket.app.state.token).run()


async def _health(request: Request) -> JSONResponse:
    hub: Hub = request.app.state.hub
    told = {"status": "ok", "version": __version__, "protocol": PROTOCOL}
    pools = [pool for pools in hub.opener.pools.values() for pool in pools]
    shared = {"calls": sum(pool.calls for pool in pools), "rows": sum(pool.rows for pool in pools)}
    return JSONResponse(told | {"sessions": len(hub.lives), "connections": hub.connections} | shared)


def bind(config: ServeConfig) -> socket.socket:
    """Return a socket that listens where the settings say; an OSError where somebody else does."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    return socket.create_server((config.host, config.port), family=family)


def make_server(app: Starlette, config: ServeConfig) -> uvicorn.Server:
    """Return what runs an application: one process, WebSockets without compression, nothing logged but errors."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=config.host,
            http=RequestLine,
            ws=SocketLine,
            ws_max_size=int(2 * config.max_message_mb * 2**20),  # what is a bit too large is answered
            ws_ping_interval=PING_S,
            ws_ping_timeout=PONG_S,
            ws_per_message_deflate=False,
            lifespan="on",
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
    )


def run(app: Starlette, listening: socket.socket) -> None:
    """Serve until interrupted."""
    share_heaps()
    make_server(app, app.state.config).run(sockets=[listening])


@contextlib.contextmanager
def running(config: ServeConfig, routes: Sequence[BaseRoute] = ()) -> Iterator[str]:
    """Serve in a thread; yield the address, ``127.0.0.1:PORT``."""
    app = make_app(config, routes)
    with bind(config) as listening:
        server = make_server(app, config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"{config.host}:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=10)
