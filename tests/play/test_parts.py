"""Worlds without a camera in the page: sliders for a Box and for a hand, a display decoder, recordings that train."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.conftest import make_hand_world, vector_dit, with_random_weights
from tests.play.driving import PALE, picture, played, psnr, slide
from worldenv.bench.browser import Browser
from worldenv.bodies.hand import MOVE
from worldenv.bodies.vector import ACTION, action_signal, describe_actions
from worldenv.data.schema import read_shard, shard_paths
from worldenv.dynamics.environment import Environment
from worldenv.dynamics.spec import WorldSpec
from worldenv.memory.config import MemoryConfig
from worldenv.models.heads import HeadConfigs
from worldenv.models.heads.display import DisplayConfig, DisplayHead
from worldenv.models.vae import VAEConfig
from worldenv.training.loop.optim import OptimConfig
from worldenv.training.material import DenoiseConfig
from worldenv.training.stages.config import TrainConfig
from worldenv.training.stages.registry import train
from worldenv.world.config import WorldConfig
from worldenv.world.starts import Starts
from worldenv.world.world import World

SECRET = "a secret of the test"


def box_world() -> World:
    """A world of three numbers, with a display decoder, that has learned nothing."""
    torch.manual_seed(0)
    parts = describe_actions(gym.spaces.Box(np.float32([-1, -2, 0]), np.float32([1, 2, 5]), dtype=np.float32))
    display = DisplayHead(DisplayConfig(widths=(8, 8, 8), fine=4, num_blocks=0))
    config = WorldConfig(
        name="box",
        spec=WorldSpec(
            width=32,
            height=32,
            chunk_latents=2,
            takes={ACTION: action_signal(parts)},
            gives={},
            environment=Environment(id="Some-v0", actions=parts, max_episode_steps=0),
        ),
        vae=VAEConfig(latent_channels=4, encoder_widths=(4, 4, 8), decoder_widths=(4, 4, 8)),
        dit=vector_dit(3),
        memory=MemoryConfig(policy="recent", temporal_latents=4, retrieved_chunks=1),
        heads=HeadConfigs(display=display.config),
    )
    views = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    return with_random_weights(World(config, starts=Starts(views), heads={"display": display}))


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, World, Path]]:
    """The page of that world, behind a token; what it writes lies beside the world."""
    folder, world = tmp_path_factory.mktemp("box"), box_world()
    world.save_pretrained(folder / "world")
    (folder / "token").write_text(SECRET)
    with played(folder / "world", world, folder / "out", token_file=folder / "token") as browser:
        yield browser, world, folder


def action(browser: Browser) -> np.ndarray[Any, Any]:
    """Return what the newest chunk was asked to do."""
    data, shape = browser("[Array.from(game.head.action.data), game.head.action.shape]")
    return np.frombuffer(bytes(data), np.float32).reshape(shape)


def test_a_number_of_an_action_is_a_slider_within_its_bounds(box: tuple[Browser, World, Path]) -> None:
    browser, _, _ = box
    assert browser("[...document.querySelectorAll('.slider input')].map(one => [one.min, one.max])") == [
        ["-1", "1"],
        ["-2", "2"],
        ["0", "5"],
    ]
    assert browser("getComputedStyle(document.getElementById('above')).display") == "none"  # there is no floor
    start = picture(browser)
    slide(browser, "2", 1.0)
    assert action(browser).tolist() == [0, 1, 0]
    assert not np.array_equal(picture(browser), start)
    slide(browser, "3", 4)
    assert action(browser).tolist() == [0, 1, 4]  # what was chosen holds
    browser.press("z")
    browser.until("game.head.index === 1")
    browser.press(".")
    browser.until("game.head.index === 2 && !game.busy")
    assert action(browser).tolist() == [0, 1, 4]
    assert not browser.errors()


def test_the_display_decoders_pictures_are_what_is_painted(box: tuple[Browser, World, Path]) -> None:
    browser, world, _ = box
    slide(browser, "1", 0.5)
    read = """(() => {
        const large = game.head.views[0].large.at(-1);
        const context = new OffscreenCanvas(large.width, large.height).getContext("2d");
        context.drawImage(large, 0, 0);
        const { data } = context.getImageData(0, 0, large.width, large.height);
        return [large.width, large.height, Array.from(data)] })()"""
    width, height, data = browser(read)
    assert (width, height) == (128, 128)
    frame = torch.from_numpy(picture(browser).astype(np.uint8)).view(32, 32, 3)
    wanted = world.enlarge(frame).numpy().astype(float)
    shown = np.array(data, float).reshape(128, 128, 4)[..., :3]
    plain = np.asarray(frame.repeat_interleave(4, 0).repeat_interleave(4, 1), float)
    alike, before = psnr(shown.mean(-1), wanted.mean(-1)), psnr(plain.mean(-1), wanted.mean(-1))
    assert alike > max(25, before + 1)  # but for JPEG
    assert browser("game.head.views[0].large.map(Boolean)") == [False] * 7 + [True]  # what was shown is let go


def test_what_is_recorded_is_trained_on(box: tuple[Browser, World, Path]) -> None:
    browser, world, folder = box
    browser.press("o")
    for value in (1, -1, 0.5, 0):
        slide(browser, "1", value)
    browser.press("o")
    browser.until("!page.recorder.on && document.querySelector('#toast a')")
    assert browser("document.querySelector('#toast a').href").startswith("blob:")  # fetched with the token
    (recording,) = (folder / "out").iterdir()
    (clip,) = read_shard(shard_paths(recording / "memory")[0])
    assert clip.signals[ACTION][1:, 0].tolist() == [1, 1, -1, -1, 0.5, 0.5, 0, 0]
    assert np.array_equal(clip.frames[-1].ravel(), picture(browser))
    config = TrainConfig(
        name="box",
        data=recording / "memory",
        init=folder / "world",
        dit=world.config.dit,
        denoise=DenoiseConfig(num_chunks=2, policies=(("recent", 1.0),)),
        optim=OptimConfig(steps=1, batch=1, preview_every=2, save_every=1, log_every=1),
    )
    train("memory", config, folder / "trained")
    learned = World.from_pretrained(folder / "trained")
    changed = [not torch.equal(a, b) for a, b in zip(learned.dit.parameters(), world.dit.parameters(), strict=True)]
    assert any(changed)
    assert not browser.errors()


def sessions(browser: Browser) -> int:
    """Return how many sessions the server has."""
    browser("fetch('/healthz').then(answer => answer.json()).then(told => { window.told = told }) && 0")
    browser.until("window.told")
    return int(browser("[window.told.sessions, window.told = null][0]"))


def test_an_episode_that_cannot_begin_leaves_the_last_one_and_no_session(box: tuple[Browser, World, Path]) -> None:
    browser, _, _ = box
    before, index = sessions(browser), browser("game.head.index")
    browser("page.begin({ picture: new Uint8Array([1, 2, 3]) }).then(begun => { window.begun = begun }) && 0")
    browser.until("window.begun === false && !game.busy")
    assert sessions(browser) == before
    assert browser("game.head.index") == index
    assert "picture" in browser("document.getElementById('toast').textContent")
    assert browser("document.querySelector('#pause span').textContent") == "Go on"
    browser.press(" ")
    assert browser("document.querySelector('#pause span').textContent") == "Pause"


def test_chunks_that_are_asked_for_all_come_or_end_with_the_episode(box: tuple[Browser, World, Path]) -> None:
    browser, _, _ = box
    index = browser("game.head.index")
    for _ in range(3):
        browser.press(".")
    browser.until(f"game.head.index === {index + 3}")
    browser.settle()
    browser("(window.kept = [], [1, 2, 3].forEach(() => game.once().then(kept => window.kept.push(kept))))")
    browser.press("r")
    browser.until("!game.busy && game.head.index === 0 && window.kept.length === 3")
    assert sum(browser("window.kept")) <= 1  # one may have been on its way
    browser.settle()
    assert browser("game.head.index") == 0


def test_a_second_picture_has_been_everywhere_that_the_first_has(box: tuple[Browser, World, Path]) -> None:
    browser, _, _ = box
    for value in (1, 0.5, 0):
        slide(browser, "1", value)
    browser.driver.find_elements("css selector", ".thumb")[1].click()
    browser.press(".")
    browser.until("!game.busy && game.branches.length === 2 && game.head.index === 2")
    browser.press("c")
    browser.until("!game.busy && page.panes.length === 2")
    browser("game.look(game.branches[0].head)")  # which the second picture's session was never led to
    assert browser("game.here.views.length") == 2
    assert browser("page.panes[1].element.querySelector('.absent').hidden")
    assert browser("document.activeElement === document.body")
    browser.press("c")
    browser.until("!game.busy && page.panes.length === 1")
    assert not browser.errors()


def test_two_pictures_are_never_of_one_memory(box: tuple[Browser, World, Path]) -> None:
    browser, _, _ = box
    browser.press("c")
    browser.until("!game.busy && page.panes.length === 2")
    listed = "[...document.querySelectorAll('#memory option')].map(one => one.value)"
    assert browser(listed) == ["memory", "recent"]  # none is beside it
    browser.press("m")
    browser.until("!game.busy && game.arms[0].id === 'recent'")
    browser.press("m")
    browser.until("!game.busy && game.arms[0].id === 'memory'")
    browser.press("c")
    browser.until("!game.busy && page.panes.length === 1")
    assert browser(listed) == ["memory", "none", "recent"]


def test_one_goes_on_from_before_the_end_of_an_episode(box: tuple[Browser, World, Path]) -> None:
    browser, _, _ = box
    browser.press("r")
    browser.until("!game.busy && game.head.index === 0")
    slide(browser, "1", 1)
    slide(browser, "1", 0)
    browser("game.head.views[0].outcome.terminated = true")
    browser.press(".")
    browser.until("!game.asked.length")
    assert browser("[game.over, game.head.index]") == [True, 2]
    browser.driver.find_elements("css selector", ".thumb")[1].click()
    assert "new branch begins here" in browser("document.getElementById('hint').textContent")
    browser.press(".")
    browser.until("!game.busy && game.branches.length === 2 && game.head.index === 2", seconds=20)
    assert not browser("game.over")


def test_a_recording_begins_where_its_branch_left_what_was_shown(box: tuple[Browser, World, Path]) -> None:
    browser, _, folder = box
    browser.press("r")
    browser.until("!game.busy && game.head.index === 0")
    for value in (1, 0.5, -1):
        slide(browser, "1", value)
    browser.press("o")
    browser.driver.find_elements("css selector", ".thumb")[2].click()
    browser.press(".")
    browser.until("!game.busy && game.branches.length === 2 && game.head.index === 3")
    before = set((folder / "out").iterdir()) if (folder / "out").exists() else set()
    browser.press("o")
    browser.until("!page.recorder.on && document.querySelector('#toast a')")
    (recording,) = set((folder / "out").iterdir()) - before
    (clip,) = read_shard(shard_paths(recording / "memory")[0])
    assert clip.signals[ACTION].shape == (3, 3)  # the moment of leaving, and one chunk of two latents
    assert not browser.errors()


def test_everything_is_reached_by_keyboard_named_and_legible(box: tuple[Browser, World, Path]) -> None:
    browser, _, _ = box
    browser("document.activeElement.blur()")
    reached = []
    for _ in range(30):
        browser.press("Tab")
        reached.append(browser("document.activeElement.id || document.activeElement.type || 'body'"))
    wanted = ["gallery", "seed", "memory", "blind", "help", "range", "pause", "step", "reset", "record", "compare"]
    assert [name for name in dict.fromkeys(reached) if name in wanted] == wanted  # in the order of reading
    nameless = """[...document.querySelectorAll('button, input, select, canvas[role]')].filter((one) =>
        one.checkVisibility() && !(one.textContent.trim() || one.ariaLabel || one.labels?.[0]?.textContent.trim()))
        .map((one) => one.outerHTML)"""
    assert browser(nameless) == []
    for scheme in ("light", "dark"):
        features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
        assert browser(PALE) == []


def test_what_heads_say_is_drawn_over_time_and_digits_choose(bright: Path, tmp_path: Path) -> None:
    with played(bright, World.from_pretrained(bright, dtype="auto"), tmp_path) as browser:
        assert browser("game.about.action_space.n") == 2
        for digit in ("1", "0"):
            browser.press(digit)
            browser.until("!game.busy && game.player.idle && !game.input.active")
            assert browser("game.head.action") == int(digit)
        told = browser("[...document.querySelectorAll('#lines .line span')].map(one => one.textContent)")
        assert "uncertainty" in told
        assert browser("game.head.views[0].outcome.info.uncertainty") is not None
        browser.press("c")
        browser.until("!game.busy && page.panes.length === 2")
        browser.press("1")
        browser.until("!game.busy && game.head.index === 3")
        browser.press("z")
        browser.until("!game.busy && game.head.index === 2")
        assert not browser.errors()


def test_a_world_with_text_is_told_more_while_it_is_played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = box_world()
    dit = replace(world.config.dit, text_dim=6)
    world = World(replace(world.config, dit=dit), vae=world.vae, heads=world.heads, starts=world.starts)
    world = with_random_weights(world)
    world.prompts = lambda text: torch.randn(1, 5, 6, generator=torch.Generator().manual_seed(len(text)))
    monkeypatch.setattr("worldenv.envs.opening.shared_world", lambda *_, **__: world)
    world.save_pretrained(tmp_path / "told")
    with played(tmp_path / "told", world, tmp_path / "out") as browser:
        browser.press(".")
        browser.until("game.head.index === 1 && !game.busy")
        told = "Object.assign(document.getElementById('prompt'), { value: %r }).dispatchEvent(new Event('change'))"
        shown = []
        for text in ("rain", "rain", "a bright morning"):
            browser(told % text)
            browser.until("!game.busy")
            browser.press(".")
            browser.until("game.head.index === 2 && !game.busy")
            shown.append(picture(browser))
            browser.press("z")
            browser.until("game.head.index === 1 && !game.busy")
        assert np.array_equal(shown[0], shown[1])
        assert not np.array_equal(shown[1], shown[2])
        browser.press("r")  # an episode that begins anew begins with it
        browser.until("game.head.index === 0 && !game.busy")
        assert browser("game.begun.options.prompt") == "a bright morning"
        assert not browser.errors()


def test_a_hand_is_moved_by_sliders_with_names(tmp_path: Path) -> None:
    world = make_hand_world()
    world = World(
        replace(world.config, heads=HeadConfigs()), vae=world.vae, dit=world.dit, starts=world.starts
    )  # without what reads the object: nothing can be judged, and it is played all the same
    world.save_pretrained(tmp_path / "hand")
    with played(tmp_path / "hand", world, tmp_path / "out") as browser:
        names = [
            row.split("\n")[0].split()[0]
            for row in browser("[...document.querySelectorAll('.slider span')].map(x => x.textContent)")
        ]
        assert names == ["x", "y", "z", "roll", "pitch", "yaw", "grasp"]
        before = browser("Array.from(game.head.views[0].outcome.signals.joints.data)")
        browser.press("o")
        slide(browser, "x", 0.5)
        assert action(browser).tolist() == [[0.5, 0, 0, 0, 0, 0, 0]] * 2  # of each latent
        after = browser("Array.from(game.head.views[0].outcome.signals.joints.data)")
        assert after[-26] - before[0] == pytest.approx(2 * 0.5 * MOVE, abs=1e-5)
        browser.press("c")
        browser.until("!game.busy && page.panes.length === 2")
        assert browser("document.getElementById('actions').checkVisibility()")  # beside two pictures too
        slide(browser, "grasp", 1)
        browser.press("o")
        browser.until("!page.recorder.on && document.querySelector('#toast a')")
        (recording,) = (tmp_path / "out").iterdir()
        (clip,) = read_shard(shard_paths(recording / "none")[0])
        assert clip.signals["joints"].shape == (5, 26)
        assert clip.signals["joints"][0].tolist() == pytest.approx(before, abs=1e-6)
        assert not browser.errors()
