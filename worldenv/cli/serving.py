"""Commands that serve worlds, to others and to a page: serve, play."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .settings import File, settings

if TYPE_CHECKING:
    from ..play.server.config import ServeConfig
else:
    ServeConfig = settings("play.server.config:ServeConfig")


def serve(*, config: File = None, what: ServeConfig) -> None:
    """Serve worlds over WebSocket, to Remote-v0.

    Args:
        what: where it listens, what it serves, and how much of it.
    """
    from ..base.log import console

    _check_extra("serve")
    from ..play.server.app import bind, make_app, run

    app = make_app(what)
    with bind(what) as listening:
        where = f"{what.host}:{listening.getsockname()[1]}"
        console.print(f"serving {', '.join(what.named)} at ws://{where}; Ctrl-C stops")
        run(app, listening)


def play(
    *,
    world: str = "maze",
    env: str = "auto",
    memory: str = "auto",
    chunk_latents: int | None = None,
    out: Path = Path("out/play"),
    port: int = 0,
    browser: bool = True,
) -> None:
    """Play a world in a browser: walk, branch, compare.

    Args:
        world: packaged name, directory or hub:org/name.
        env: id of an environment, whose task then gives rewards and ends; by default episodes never end.
        memory: memory policy to begin with; auto is the world's own.
        chunk_latents: latents of a chunk, where the world was trained for others than its own.
        out: folder for recordings and votes.
        port: port to listen on, on this machine alone; 0 takes one that is free.
        browser: open a browser.
    """
    _check_extra("play")
    from ..play.live import run_play
    from ..play.page import PlayConfig

    what = PlayConfig(world=world, env=env, memory=memory, chunk_latents=chunk_latents, out=out)
    run_play(what, port=port, browser=browser)


def _check_extra(command: str) -> None:
    """Refuse to begin without what the server runs on."""
    from ..base.objects import import_extra

    for module in ("uvicorn", "starlette", "msgpack", "websockets"):
        import_extra(module, extra="play", needs=f"worldenv {command} needs {module}")
