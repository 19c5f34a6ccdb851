"""The network below requests and WebSockets: who is not known yet may neither send much nor take long over it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

STRANGER_BYTES = 2**14
"""The largest message of a client that has not been welcomed; a longer one is not even read."""
REQUEST_S = 10.0
"""Seconds within which a request must have been sent."""
WELCOMED = "worldenv.welcomed"
"""Extension of a WebSocket's ASGI scope: what ``welcomed`` calls."""


class RequestLine(H11Protocol):
    """HTTP, in which a connection that does not come to the point is closed."""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.loop.call_later(REQUEST_S, self._hurry)

    def _hurry(self) -> None:
        if getattr(self, "scope", None) is None:  # no request is complete
            self.transport.close()


class SocketLine(WebSocketsSansIOProtocol):
    """A WebSocket that reads little until its client is welcomed.

    What may be read is settled when a message ends: the one after the first is still a small one.
    """

    def handle_connect(self, event: Any) -> None:
        """Begin with the small limit; the application may call for the large one."""
        self.conn.max_message_size = STRANGER_BYTES
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["extensions"][WELCOMED] = {"call": self._welcomed}

    def _welcomed(self) -> None:
        self.conn.max_message_size = self.config.ws_max_size


def welcomed(scope: Mapping[str, Any]) -> None:
    """Let the client of a WebSocket send as much as the server reads."""
    extension = scope.get("extensions", {}).get(WELCOMED)
    if extension is not None:
        extension["call"]()
