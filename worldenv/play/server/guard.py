"""Who may reach the server at all: requests for its own host, from its own pages or from those that it was told of."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from .config import ServeConfig

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Guard:
    """Refuses requests from pages of other hosts, and for other hosts where only this machine should ask.

    A page anywhere may have a browser ask 127.0.0.1; browsers say whose page it was (``Origin``), and by what name it
    was asked (``Host``), which a name that was pointed here meanwhile (DNS rebinding) gives away.
    """

    def __init__(self, app: ASGIApp, config: ServeConfig) -> None:
        self.app, self.config = app, config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is wanted."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        why = self.refusal(Headers(scope=scope))
        if not why:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await PlainTextResponse(why, 403)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": why})  # before it is accepted: HTTP 403

    def refusal(self, headers: Headers) -> str:
        """Say why a request is refused; '' if it is not."""
        host, origin = headers.get("host", ""), headers.get("origin")
        try:
            name, page = urlsplit(f"//{host}").hostname, urlsplit(origin or "").netloc
        except ValueError:
            return "host or origin cannot be read"
        if self.config.is_loopback and name not in LOOPBACK:
            return f"host {host!r} is not this machine; ask for 127.0.0.1"
        if origin is None or origin in self.config.origins or page == host:
            return ""
        return f"pages of {origin} may not connect; start the server with --origins {origin}"
