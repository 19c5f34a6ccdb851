"""Who may reach the server at all: who asks for its own host, from its own pages or those it knows, with the token."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from .config import ServeConfig

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Guard:
    """Refuses requests of other hosts' pages, for other hosts where only this machine should ask, and without token.

    A page anywhere may have a browser ask 127.0.0.1; browsers say whose page it was (``Origin``), and by what name it
    was asked (``Host``), which a name that was pointed here meanwhile (DNS rebinding) gives away. WebSockets say the
    token in their first message, requests as ``Authorization: Bearer TOKEN``.

    Args:
        app: what is guarded.
        config: says from where one may ask.
        token: what must be said, '' if nothing.
        routes: all of them, the first that fits a request being the one that is asked.
        public: those that need no token.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: ServeConfig,
        *,
        token: str,
        routes: Sequence[BaseRoute],
        public: Sequence[BaseRoute],
    ) -> None:
        self.app, self.config, self.token, self.routes, self.public = app, config, token, routes, public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is wanted."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        why = self.refusal(headers)
        if why and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": why})  # before it is accepted: HTTP 403
        elif why:
            await PlainTextResponse(why, 403)(scope, receive, send)
        elif scope["type"] == "http" and not self.may_ask(scope, headers):
            asked = PlainTextResponse("say the token: Authorization: Bearer TOKEN", 401, {"WWW-Authenticate": "Bearer"})
            await asked(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def refusal(self, headers: Headers) -> str:
        """Say why a request is refused, whoever asks; '' if it is not."""
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

    def may_ask(self, scope: Scope, headers: Headers) -> bool:
        """Tell whether a request says the token, or need not."""
        kind, _, said = headers.get("authorization", "").partition(" ")
        if not self.token or (kind.lower() == "bearer" and secrets.compare_digest(said.encode(), self.token.encode())):
            return True
        asked = next((route for route in self.routes if route.matches(scope)[0] is not Match.NONE), None)
        return asked in self.public
