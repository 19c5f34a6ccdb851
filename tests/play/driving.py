"""What tests of the page do to it, and look at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worldenv.bench.browser import Browser, missing, open_page
from worldenv.play.page import Page, PlayConfig
from worldenv.play.server.app import running
from worldenv.play.server.config import ServeConfig
from worldenv.world.world import World

PALE = """(() => {
    const light = (colour) => {
        const [r, g, b] = colour.match(/[0-9.]+/g).map((part) => part / 255)
            .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (one) => {
        for (; one; one = one.parentElement) {
            const colour = getComputedStyle(one).backgroundColor;
            if (!/, 0\\)$|transparent/.test(colour)) return colour;
        }
    };
    const written = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const asked = (one) => one.checkVisibility() && !one.closest(':disabled, #stage, .thumb') && written(one);
    return [...document.querySelectorAll('body *')].filter(asked).map((one) => {
        const [a, b] = [light(getComputedStyle(one).color), light(behind(one))].sort((x, y) => y - x);
        return [(a + 0.05) / (b + 0.05), one.outerHTML.slice(0, 80)];
    }).filter(([contrast]) => contrast < 4.5) })()"""
"""Expression: text that stands on the page itself with less contrast than WCAG 2.2 (AA) asks for, and by how much."""


@contextmanager
def played(folder: Path, world: World, out: Path, **settings: Any) -> Iterator[Browser]:
    """Serve a world of a folder and open its page; skips where there is no browser."""
    if missing():
        pytest.skip(missing())
    config = ServeConfig(worlds=(str(folder),), port=0, **settings)
    page = Page(PlayConfig(world=str(folder), out=out), world)
    token = f"#token={config.read_token()}" if config.token_file else ""
    with running(config, page.routes()) as where, open_page(f"http://{where}/{token}") as browser:
        yield browser


def picture(browser: Browser, pane: int = 0) -> np.ndarray[Any, Any]:
    """Return the newest frame as the page has it, (H W 3,)."""
    return np.array(browser(f"Array.from(game.head.views[{pane}].frames.at(-1))"), np.float64)


def slide(browser: Browser, name: str, value: float) -> None:
    """Move a slider, and wait for what comes of it."""
    wanted = browser("game.head.index") + 1
    browser(
        f"""(() => {{
        const row = [...document.querySelectorAll('.slider')].find((one) => one.textContent.startsWith('{name}'));
        const input = row.querySelector('input');
        input.value = {value};
        input.dispatchEvent(new Event('input', {{ bubbles: true }})) }})()"""
    )
    browser.until(f"game.head.index === {wanted}")
    browser.settle()


def psnr(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """Return the signal-to-noise ratio of two pictures in dB."""
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a - b) ** 2))))
