"""A browser without a window that opens the page of ``worldenv play`` and presses its keys."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..base.objects import import_extra

FLAGS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars")
SIZE = (1280, 800)
WAIT_S = 120.0
NAMED = {"←": "ArrowLeft", "→": "ArrowRight", " ": "Space", ".": "Period", "Tab": "Tab"}
VIRTUAL = {"Tab": 9}
"""What Chromium itself acts on it knows by number."""


def missing() -> str:
    """Return what a machine lacks to open one; '' if nothing."""
    try:
        import_extra("selenium", extra="dev", needs="a browser is driven by selenium")
    except ImportError as error:
        return str(error)
    lacking = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"no {' or '.join(lacking)} on this machine" if lacking else ""


class Browser:
    """The page, and what can be done to it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def __call__(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript, in which ``page`` and ``game`` are the page's own."""
        return self.driver.execute_script(f"const page = window.page, game = page && page.game; return {expression}")

    def until(self, expression: str, *, seconds: float = WAIT_S) -> None:
        """Wait until an expression is true.

        Raises:
            TimeoutError: if it does not become true, with what the page says of it.
        """
        end = time.monotonic() + seconds
        while not self(f"Boolean({expression})"):
            if time.monotonic() > end:
                said = self(
                    "[document.getElementById('toast').textContent, document.getElementById('state-text').textContent]"
                )
                raise TimeoutError(
                    f"{expression} is not true after {seconds:g} s; the page says {said}; {self.errors()}"
                )
            time.sleep(0.02)

    def settle(self) -> None:
        """Wait until everything that was asked for is shown."""
        self.until("game && game.player && !game.busy && !game.asked.length && game.player.idle")
        time.sleep(0.1)

    def down(self, key: str) -> None:
        """Press a key and hold it."""
        self._key("keyDown", key)

    def up(self, key: str) -> None:
        """Let a key go."""
        self._key("keyUp", key)

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        self.down(key)
        self.up(key)

    def hold(self, key: str, chunks: int) -> None:
        """Hold a key for so many chunks, each whole before the next, and wait until all are shown."""
        for _ in range(chunks):
            wanted = self("game.here.index") + 1
            self.down(key)
            self.press(".")
            self.until(f"!game.busy && !game.cursor && game.head.index === {wanted}")
            self.up(key)
        self.settle()

    def _key(self, kind: str, key: str) -> None:
        code = NAMED.get(key, f"Digit{key}" if key.isdigit() else f"Key{key.upper()}")
        text = code if code.startswith("Arrow") else key
        told = {"type": kind, "code": code, "key": text, "windowsVirtualKeyCode": VIRTUAL.get(key, 0)}
        self.driver.execute_cdp_cmd("Input.dispatchKeyEvent", told)

    def errors(self) -> list[str]:
        """Return what the console has complained of since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@contextmanager
def open_page(url: str) -> Iterator[Browser]:
    """Open a page in Chromium, in its dark colours, and wait until a world is there.

    Raises:
        ImportError: without selenium.
        OSError: without Chromium and its driver.
    """
    lacking = missing()
    if lacking:
        raise OSError(f"{lacking}; install Chromium and chromedriver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS, f"--window-size={SIZE[0]},{SIZE[1]}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
    try:
        dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        size = {"width": SIZE[0], "height": SIZE[1], "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get(url)
        browser = Browser(driver)
        browser.until("game && game.head")
        yield browser
    finally:
        driver.quit()
