"""``worldenv play``: a world in the browser, on this machine: the session server and its page."""

from __future__ import annotations

import webbrowser

from ..base.device import default_dtype, resolve_device
from ..base.log import console
from ..world.world import shared_world
from .page import Page, PlayConfig
from .server.app import bind, make_app, run
from .server.config import ServeConfig


def run_play(config: PlayConfig, *, port: int = 0, browser: bool = True) -> None:
    """Serve a world and its page until interrupted, and open a browser on it.

    Raises:
        ValueError: on an unknown world, environment or memory.
        OSError: if the port is taken.
    """
    device = resolve_device("auto")
    world = shared_world(config.world, device=device, dtype=default_dtype(device))
    settings = ServeConfig(worlds=(config.world,), port=port)
    app = make_app(settings, Page(config, world).routes())
    with bind(settings) as listening:
        url = f"http://{settings.host}:{listening.getsockname()[1]}/"
        console.print(f"{world.config.name} is played at {url} (Ctrl+C ends it)")
        if browser:
            webbrowser.open(url)
        run(app, listening)
