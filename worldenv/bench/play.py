"""``worldenv bench play``: from a key to the picture that answers it, measured in the page by a browser."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from ..base.device import default_dtype, resolve_device
from ..base.log import console, track
from ..eval.report.latency import latency
from ..play.page import Page, PlayConfig
from ..play.server.app import running
from ..play.server.config import ServeConfig
from ..world.world import shared_world
from .browser import Browser, open_page
from .engine import write_bench

WARM_UP = 4
"""Keys before counting: until the memory is full and the page knows how long chunks take."""
KEYS = "w→a←d"
"""Keys that are pressed in turn, each long enough to count."""


def bench_play(name: str, out: Path, *, presses: int, seconds: float) -> None:
    """Press keys in the page of a world, from rest and while it moves, and write what the page measured as JSON.

    Args:
        name: the world.
        out: file.
        presses: keys of each kind that are counted.
        seconds: how long a key is held for the frame rate.
    """
    device = resolve_device("auto")
    world = shared_world(name, device=device, dtype=default_dtype(device))
    with tempfile.TemporaryDirectory() as folder:
        page = Page(PlayConfig(world=name, out=Path(folder)), world)
        with (
            running(ServeConfig(worlds=(name,), port=0), page.routes()) as where,
            open_page(f"http://{where}/") as browser,
        ):
            rest = _from_rest(browser, presses)
            moving, fps = _while_moving(browser, presses, seconds)
            chunk_ms = browser("game.player.chunkMs")
            console.print(
                f"the server took {browser('game.head.views[0].outcome.compute_ms'):.0f} ms for the last chunk"
            )
    told = {"from_rest": latency(rest), "while_moving": latency(moving)}
    for kind, figures in told.items():
        console.print(f"{kind}: {figures['latency_ms_p50']:.0f} ms median, {figures['latency_ms_p95']:.0f} ms p95")
    console.print(f"{fps:.1f} pictures/s while a key is held")
    write_bench(
        out,
        world=world.config.name,
        dtype=str(world.dit.dtype),
        chunk_latents=world.spec.chunk_latents,
        presses=presses,
        timing={**told, "frames_per_s": round(fps, 1), "chunk_ms": round(chunk_ms, 1)},
    )


def _from_rest(browser: Browser, presses: int) -> list[float]:
    """Press a key, wait until its chunk has been shown, press another; return seconds."""
    for i in track(range(WARM_UP + presses), "from rest", total=WARM_UP + presses):
        if i == WARM_UP:
            browser("game.player.latencies.rest.splice(0)")
        browser.press(KEYS[i % len(KEYS)])
        browser.settle()
    return [ms / 1000 for ms in browser("game.player.latencies.rest")]


def _while_moving(browser: Browser, presses: int, seconds: float) -> tuple[list[float], float]:
    """Hold a key and press others at all times of a chunk; return seconds, and frames a second while one is held."""
    shown = browser("game.player.total")
    browser.down("w")
    browser.until(f"game.player.total > {shown}")
    before, began = browser("game.player.total"), time.perf_counter()
    time.sleep(seconds)
    fps = (browser("game.player.total") - before) / (time.perf_counter() - began)
    browser("game.player.latencies.moving.splice(0)")
    chunk = browser("game.player.chunkMs") / 1000
    for i in track(range(presses), "while moving", total=presses):
        browser.press("→←"[i % 2])
        time.sleep(chunk * (1.2 + (i % 7) / 7))
    browser.up("w")
    browser.settle()
    return [ms / 1000 for ms in browser("game.player.latencies.moving")], fps
