"""Take the pictures of ``docs/play.md`` and README from the page of ``worldenv play``, in a browser without a window.

``python docs/pictures.py [play.jpg] [play.webp]``: a walk with a branch; away and back with memory and without. It
needs Chromium, chromedriver and selenium.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from worldenv.base.device import default_dtype, resolve_device
from worldenv.bench.browser import Browser, open_page
from worldenv.play.page import Page, PlayConfig
from worldenv.play.server.app import running
from worldenv.play.server.config import ServeConfig
from worldenv.world.world import shared_world

DOCS = Path(__file__).resolve().parent
START = 21
"""The start view."""
WALK = (("w", 2), ("→", 2), ("w", 2), ("←", 1))
"""Keys and how many chunks each is held."""
BRANCH, ELSEWHERE = 4, (("←", 2),)
"""The chunk that the branch leaves, and what is done there."""
EVERY, REST = 4, 8
"""Frames from one picture of the animation to the next, and pictures that its end stays."""
WIDTH = 640
"""Pixels of the animation."""


def main() -> None:
    """Take both."""
    device = resolve_device("auto")
    world = shared_world("maze", device=device, dtype=default_dtype(device))
    with tempfile.TemporaryDirectory() as folder:
        routes = Page(PlayConfig(out=Path(folder)), world).routes()
        with running(ServeConfig(port=0), routes) as where, open_page(f"http://{where}/") as browser:
            browser("document.querySelector('.meters').style.setProperty('visibility', 'hidden')")  # of this machine
            browser(f"page.begin({{start: {START}}}) && 0")
            browser.until(f"!game.busy && game.begun.options.start === {START}")
            wanted = sys.argv[1:] or ["play.jpg", "play.webp"]
            if "play.jpg" in wanted:
                picture(browser, DOCS / "play.jpg")
            if "play.webp" in wanted:
                animate(browser, DOCS / "play.webp")


def picture(browser: Browser, path: Path) -> None:
    """Walk, branch, and show where that led."""
    browser.press(" ")
    for key, chunks in WALK:
        browser.hold(key, chunks)
    browser.driver.find_elements("css selector", ".thumb")[BRANCH].click()
    for key, chunks in ELSEWHERE:
        browser.hold(key, chunks)
    browser.press(" ")
    browser.until("document.getElementById('state-text').textContent === 'ready'")
    view(browser).save(path, quality=82)
    browser.press("r")
    browser.until("!game.busy && game.head.index === 0")


def animate(browser: Browser, path: Path) -> None:
    """Turn away and back with memory and without, and write what the page shows of it."""
    browser.press("c")
    browser.until("!game.busy && page.panes.length === 2")
    browser.press("t")
    browser.until("game.head.index === 8", seconds=900)
    browser.settle()
    pictures = []
    for chunk in range(1, 9):
        for frame in range(EVERY - 1, browser("game.head.shown"), EVERY):
            show = (
                "(chunk => { game.look(chunk); page.panes.forEach((pane, i) => pane.draw(chunk.views[i].frames[%d])) })"
            )
            browser(f"{show % frame}(game.head.path[{chunk}])")
            browser("document.getElementById('hint').hidden = true")
            pictures.append(view(browser))
    browser("game.look(game.head)")
    pictures += [view(browser)] * REST
    small = [
        picture.resize((WIDTH, WIDTH * picture.height // picture.width), Image.Resampling.LANCZOS)
        for picture in pictures
    ]
    small[0].save(
        path, save_all=True, append_images=small[1:], duration=1000 * EVERY // 24, loop=0, quality=60, method=4
    )


def view(browser: Browser) -> Image.Image:
    """Return what the page looks like now."""
    taken = browser.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    return Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")


if __name__ == "__main__":
    main()
