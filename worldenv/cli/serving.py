"""Commands that serve worlds to others: serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .settings import File, settings

if TYPE_CHECKING:
    from ..play.server.config import ServeConfig
else:
    ServeConfig = settings("play.server.config:ServeConfig")


def serve(*, config: File = None, what: ServeConfig) -> None:
    """Serve worlds over WebSocket, to worldenv/Remote-v0 and to pages.

    Args:
        what: where it listens, what it serves, and how much of it.
    """
    from ..base.log import console
    from ..base.objects import import_extra

    for module in ("uvicorn", "starlette", "msgpack", "websockets"):
        import_extra(module, extra="play", needs=f"worldenv serve needs {module}")
    from ..play.server.app import bind, make_app, run

    app = make_app(what)
    with bind(what) as listening:
        where = f"{what.host}:{listening.getsockname()[1]}"
        console.print(f"serving {', '.join(what.named)} at ws://{where}; Ctrl-C stops")
        run(app, listening)
