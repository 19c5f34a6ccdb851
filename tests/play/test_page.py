"""The page of ``worldenv play``: what it asks for beside sessions, and what a browser does with it."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

from tests.play.driving import picture, psnr
from worldenv.base.device import default_dtype, resolve_device
from worldenv.bench.browser import Browser, missing, open_page
from worldenv.data.dataset import clip_track
from worldenv.data.schema import read_shard, shard_config
from worldenv.dynamics.wire import pack, read_table
from worldenv.play.page import Page, PlayConfig, Recording
from worldenv.play.preference import FIELDS, add_votes
from worldenv.play.server.app import running
from worldenv.play.server.config import ServeConfig
from worldenv.world.world import World, shared_world

ALIKE, APART = 24.0, 22.0
"""PSNR in dB that a place has at least on return, and that another place has at most."""


@pytest.fixture(scope="module")
def maze() -> World:
    device = resolve_device("auto")
    return shared_world("maze", device=device, dtype=default_dtype(device))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("play")


@pytest.fixture(scope="module")
def served(maze: World, out: Path) -> Iterator[str]:
    with running(ServeConfig(port=0), Page(PlayConfig(out=out), maze).routes()) as where:
        yield f"http://{where}/"


def get(url: str, data: bytes | None = None, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
        body: bytes = answer.read()
        return body


def vote(**changed: Any) -> dict[str, Any]:
    known = {"rater": "r", "trial": 1, "one": "memory", "other": "none", "left": "none", "question": "picture"}
    return {**known, "preferred": "memory", "seed": 0, "start": 0, **changed}


def test_it_says_what_can_be_played_and_shows_where_to_begin(served: str, maze: World) -> None:
    told = json.loads(get(f"{served}play/config"))
    assert [arm["id"] for arm in told["arms"]][:3] == ["memory", "none", "learned"]
    assert told["arms"][1]["memory"] == {"policy": "none", "render": False}
    assert 0 <= told["start"] < 96
    frames = read_table(get(f"{served}play/starts"))["frames"]
    assert maze.starts is not None
    assert frames["data"] == maze.starts.frames[:96].numpy().tobytes()


def test_what_cannot_be_played_is_refused_before_a_browser_opens(maze: World) -> None:
    with pytest.raises(ValueError, match="did you mean 'worldenv/Revisit-v0'"):
        Page(PlayConfig(env="worldenv/Revisitt-v0"), maze)
    with pytest.raises(ValueError, match="did you mean 'worldenv/Navigate-v1'"):  # the simulator stands beside a world
        Page(PlayConfig(env="worldenv/NavigateSim-v1"), maze)
    with pytest.raises(ValueError, match="task HandLift reads object_read"):
        Page(PlayConfig(env="worldenv/HandLift-v0"), maze)
    with pytest.raises(ValueError, match="memory='rescent'"):
        Page(PlayConfig(memory="rescent"), maze)
    with pytest.raises(ValueError, match="was trained for 4"):
        Page(PlayConfig(chunk_latents=1), maze)


def test_its_files_are_whole_and_fetch_nothing_from_elsewhere(served: str) -> None:
    assert b"<title>worldenv play</title>" in get(served)
    web = Path(Page.__init__.__code__.co_filename).parent / "web"
    for path in web.iterdir():
        text = path.read_text(encoding="utf-8")
        assert get(f"{served}{path.name}") == path.read_bytes()
        assert not re.search(r"""["'`(]https?://""", text), path.name
        assert len(text.splitlines()) <= 340, path.name


def test_votes_are_counted_and_pages_of_others_may_not_vote(served: str, out: Path) -> None:
    votes = [vote(), vote(preferred="same"), vote(one="none", other="memory", preferred="memory")]
    told = json.loads(get(f"{served}play/votes", json.dumps(votes).encode()))
    row = told["rows"][0]
    assert (row["for_one"], row["same"], row["for_other"]) == (2, 1, 0)
    assert row["ci95_low"] < row["share_one"] == pytest.approx(2.5 / 3, abs=1e-4)
    assert (out / "preference.csv").read_text().startswith("question,one,other")
    assert len((out / "votes.csv").read_text().splitlines()) == 4
    for body, headers, code in (
        ([vote(preferred="=cmd()")], {}, 400),
        ([vote(question="taste")], {}, 400),
        ({"a": 1}, {}, 400),
        (5, {}, 400),
        ([], {}, 400),
        ([vote()], {"Origin": "http://elsewhere.example"}, 403),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(f"{served}play/votes", json.dumps(body).encode(), **headers)
        assert refused.value.code == code
    assert len((out / "votes.csv").read_text().splitlines()) == 4


def recorded(**changed: Any) -> bytes:
    """A recording of one chunk, in which something may be another."""
    pane = {"arm": "memory", "frames": np.zeros((17, 48, 64, 3), np.uint8), "rewards": [0.0]}
    pane["signals"] = {"c2w": np.eye(4)[None].repeat(5, 0)}
    whole = {"panes": [pane | {k: v for k, v in changed.items() if k in pane}], "actions": [np.zeros(5, np.float32)]}
    return pack(Recording(id=0, seed=0, **whole | {k: v for k, v in changed.items() if k not in pane}))


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"panes": []}, "panes"),
        ({"panes": [{"arm": "memory"}]}, "panes[0].frames"),
        ({"arm": "../up"}, "panes[0].arm"),
        ({"arm": "a" * 65}, "panes[0].arm"),
        ({"frames": [1, 2]}, "panes[0].frames"),
        ({"frames": np.zeros((3, 48, 64, 3), np.uint8)}, "frames"),
        ({"signals": [1]}, "panes[0].signals"),
        ({"signals": {"c2w": 1}}, "panes[0].signals.c2w"),
        ({"signals": {}}, "signals.c2w"),
        ({"signals": {"c2w": np.full((5, 4, 4), np.nan)}}, "c2w"),
        ({"rewards": ["much"]}, "panes[0].rewards"),
        ({"actions": []}, "actions"),
        ({"actions": ["left"]}, "actions[0]"),
        ({"actions": [np.full(5, np.nan, np.float32)]}, "actions[0]"),
    ],
)
def test_what_is_no_recording_is_answered_with_the_field_that_is_wrong(
    served: str, out: Path, changed: dict[str, Any], field: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(f"{served}play/recordings", recorded(**changed))
    said = refused.value.read().decode()
    assert (refused.value.code, field in said, len(said.splitlines())) == (400, True, 1), said


def test_other_nonsense_is_answered_too(served: str) -> None:
    for path, body in (("recordings", b"\xc1"), ("votes", b"[" * 60_000), ("recordings/..%5Cx/video.mp4", None)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(f"{served}play/{path}", body)
        assert refused.value.code == 400


def test_what_cannot_be_written_is_said(maze: World, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    with running(ServeConfig(port=0), Page(PlayConfig(out=tmp_path / "out"), maze).routes()) as where:
        for path, body in (("recordings", recorded()), ("votes", json.dumps([vote()]).encode())):
            with pytest.raises(urllib.error.HTTPError) as refused:
                get(f"http://{where}/play/{path}", body)
            assert (refused.value.code, refused.value.read()[:12]) == (507, b"not written:")


@pytest.mark.parametrize("damaged", ["rater\n1\n", ",".join(FIELDS) + "\n1\n", "\udcff"])
def test_votes_are_not_added_to_what_holds_none(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "votes.csv").write_bytes(damaged.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"votes\.csv"):
        add_votes(tmp_path, [vote()])


def test_votes_of_several_at_once_are_all_counted(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: add_votes(tmp_path, [vote(trial=i)]), range(32)))
    assert len((tmp_path / "votes.csv").read_text().splitlines()) == 33


@pytest.fixture(scope="module")
def browser(served: str) -> Iterator[Browser]:
    if missing():
        pytest.skip(missing())
    with open_page(served) as browser:
        yield browser


def shown(browser: Browser, pane: int = 0) -> np.ndarray[Any, Any]:
    """Return what is painted, made small."""
    script = f"""(() => {{
        const [from, copy] = [page.panes[{pane}].canvas, new OffscreenCanvas(64, 48).getContext("2d")];
        copy.drawImage(from, 0, 0, 64, 48);
        return Array.from(copy.getImageData(0, 0, 64, 48).data) }})()"""
    return np.array(browser(script), np.float64).reshape(-1, 4)[:, :3]


def test_one_walks_turns_back_branches_compares_and_records(browser: Browser, out: Path, maze: World) -> None:
    start = picture(browser)
    assert "Hold W" in browser("document.getElementById('hint').textContent")
    browser.press(" ")  # paused: a chunk for each full stop
    assert browser("document.getElementById('state-text').textContent") != "connecting"
    browser.press("o")
    browser.hold("→", 3)
    away, painted = picture(browser), shown(browser)
    assert psnr(away, start) < APART
    browser.hold("←", 3)
    assert psnr(picture(browser), start) > ALIKE  # there and back, the place is what it was
    assert "dB" in browser("document.querySelector('.alike').textContent")
    assert psnr(shown(browser), painted) < APART  # and what is painted has changed
    browser.press("o")
    browser.until("!page.recorder.on && !document.getElementById('toast').hidden")

    back = picture(browser)
    browser.press("z")
    browser.until("game.head.index === 5")
    browser.settle()
    browser.hold("←", 1)
    assert np.array_equal(picture(browser), back)  # undone and done again, to the last bit

    browser.driver.find_elements("css selector", ".thumb")[2].click()
    browser.hold("w", 1)
    assert browser("[game.branches.length, game.head.index, game.branch.number]") == [2, 3, 2]
    there = np.array(browser("Array.from(game.branches[0].head.path[3].views[0].frames.at(-1))"), np.float64)
    assert psnr(picture(browser), there) < APART

    browser.press("m")
    browser.until("!game.busy && game.arms[0].id === 'none'")
    browser.press("m")
    browser.until("!game.busy && game.arms[0].id === 'learned'")
    browser.press("c")
    browser.until("!game.busy && page.panes.length === 2")
    browser.hold("→", 1)
    assert not np.array_equal(picture(browser), picture(browser, 1))
    assert shown(browser, 1).std() > 1
    assert not browser.errors()

    (folder,) = (path for path in out.iterdir() if path.is_dir())
    (clip,) = read_shard(folder / "memory" / "shard-00000.h5")
    track = clip_track(clip, maze.spec)
    assert track.keys() == {"keys", "c2w"}
    assert track["keys"][1:, 1].tolist() == [1] * 12 + [2] * 12
    assert psnr(clip.frames[0].ravel().astype(float), start) > 60
    assert shard_config(folder / "memory" / "shard-00000.h5")["env"] == "play/maze"
    assert (folder / "video.mp4").stat().st_size > 1000


def test_one_begins_from_a_picture_of_ones_own_and_beside_the_simulator(
    browser: Browser, tmp_path: Path, sims: None
) -> None:
    red = np.full((90, 120, 3), (200, 40, 40), np.uint8)
    iio.imwrite(tmp_path / "red.png", red)
    browser.press("g")
    browser.until("document.querySelectorAll('#starts button').length === 96")
    browser.driver.find_element("id", "picture").send_keys(str(tmp_path / "red.png"))
    browser.until("!game.busy && game.begun.picture && game.head.index === 0")
    assert np.abs(picture(browser).reshape(-1, 3) - (200, 40, 40)).max() <= 2
    browser.press("g")
    browser.driver.find_elements("css selector", "#starts button")[8].click()
    browser.until("!game.busy && game.begun.options.start === 8")
    browser("page.game.compare(page.config.arms.find(arm => arm.id === 'simulator')) && 0")
    browser.until("!game.busy && page.panes.length === 2")
    assert psnr(picture(browser), picture(browser, 1)) > 50  # the world begins with the simulator's own view
    assert not browser.errors()


def test_a_blind_test_names_nobody_and_counts_votes(browser: Browser, out: Path) -> None:
    before = (out / "votes.csv").read_text().splitlines() if (out / "votes.csv").exists() else ["header"]
    browser.driver.find_element("id", "blind").click()
    browser.driver.find_element("id", "go").click()
    browser.until("!game.busy && page.blind.on && page.panes.length === 2")
    assert browser("page.panes.map(pane => pane.element.querySelector('b').textContent)") == ["Left", "Right"]
    assert browser("getComputedStyle(document.querySelector('aside')).visibility") == "hidden"
    assert np.array_equal(picture(browser), picture(browser, 1))  # both begin alike
    browser("page.blind.played(6)")
    first = browser("page.blind.begun.seed")
    for question in ("picture", "control", "consistency"):
        browser.driver.find_element("css selector", f"[data-question={question}][data-answer=left]").click()
    browser.until(f"!game.busy && page.blind.begun.seed !== {first}")
    browser.driver.find_element("id", "blind").click()
    browser.until("!game.busy && page.panes.length === 1 && document.querySelector('#blind-body table')")
    votes = (out / "votes.csv").read_text().splitlines()
    assert len(votes) == len(before) + 3
    assert votes[-1].split(",")[2:4] == ["memory", "none"]
    assert votes[-1].split(",")[4] == votes[-1].split(",")[6]  # preferred what stood left
    assert not browser.errors()
