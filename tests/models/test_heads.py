"""The depth head, by itself and as a part of a world."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from worldenv.models.heads import DepthConfig, DepthHead, EventConfig, EventHead, HeadConfigs
from worldenv.models.heads.event import symlog, two_hot
from worldenv.training.verdicts import chosen
from worldenv.world.files import world_sha256
from worldenv.world.info import describe_world
from worldenv.world.world import World

SMALL = DepthConfig(widths=(8, 8, 8), num_blocks=1)


def test_depth_and_error_are_positive_for_every_pixel_at_any_size() -> None:
    torch.manual_seed(0)
    head = DepthHead(SMALL)
    for height, width in ((48, 64), (24, 40)):
        depth, error = head(torch.rand(3, 3, height, width) * 2 - 1)
        assert depth.shape == error.shape == (3, height, width)
        assert bool((depth > 0).all())
        assert bool((error > 0).all())
    with pytest.raises(ValueError, match="60x48 pixels; the depth head takes multiples of 8"):
        head(torch.zeros(1, 3, 48, 60))


def test_a_frame_is_read_by_itself() -> None:
    torch.manual_seed(0)
    head, frames = DepthHead(SMALL), torch.rand(4, 3, 16, 16)
    whole, _ = head(frames)
    torch.testing.assert_close(whole[2:3], head(frames[2:3])[0])


def test_it_learns_the_depth_of_a_floor() -> None:
    """Half a minute's worth of frames shrunk to a few steps: it must get much nearer than it began."""
    torch.manual_seed(0)
    head = DepthHead(SMALL)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    depth = torch.linspace(8, 1, 16)[:, None].expand(16, 16)
    errors = []
    for _ in range(60):
        found, _ = head(torch.rand(8, 3, 16, 16))
        loss = (found.log() - depth.log()).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(loss.detach()))
    assert errors[-1] < 0.25 * errors[0]


@pytest.fixture
def with_head(tiny_world: World) -> World:
    torch.manual_seed(1)
    config = replace(tiny_world.config, heads=HeadConfigs(depth=SMALL))
    return World(config, vae=tiny_world.vae, dit=tiny_world.dit, starts=tiny_world.starts)


def test_a_world_keeps_its_head(with_head: World, tiny_world_dir: Path, tmp_path: Path) -> None:
    with_head.save_pretrained(tmp_path / "with")
    again = World.load(tmp_path / "with")
    assert again.config.heads.depth == SMALL
    assert again.depth_head is not None
    assert with_head.depth_head is not None
    state = with_head.depth_head.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in again.depth_head.state_dict().items())
    assert not any(p.requires_grad for p in again.depth_head.parameters())
    assert again.sha256 == world_sha256(tmp_path / "with") != world_sha256(tiny_world_dir), "it is part of the world"
    assert World.from_pretrained(tmp_path / "with", dtype="bfloat16").require_depth_head().dtype == torch.bfloat16
    assert "depth" in describe_world(again)


def test_a_missing_or_foreign_head_is_named(with_head: World, tiny_world_dir: Path, tmp_path: Path) -> None:
    with_head.save_pretrained(tmp_path)
    (tmp_path / "heads.depth.safetensors").unlink()
    with pytest.raises(ValueError, match=r"heads\.depth\.safetensors: no such file"):
        World.load(tmp_path)
    shutil.copy(tiny_world_dir / "vae.safetensors", tmp_path / "heads.depth.safetensors")
    with pytest.raises(ValueError, match=r"heads\.depth\.safetensors does not fit the model"):
        World.load(tmp_path)


def test_a_world_without_one_says_how_to_get_it(tiny_world: World) -> None:
    with pytest.raises(ValueError, match="worldenv train heads"):
        tiny_world.require_depth_head()


def test_a_world_whose_head_stands_alone_in_its_file_still_opens(with_head: World, tmp_path: Path) -> None:
    with_head.save_pretrained(tmp_path)
    file = tmp_path / "world.toml"
    assert "[heads.depth]" in file.read_text()
    file.write_text(file.read_text().replace("[heads.depth]", "[depth]"))
    assert World.load(tmp_path).config == with_head.config


def test_rewards_are_shared_out_to_bins_and_read_back() -> None:
    head = EventHead(EventConfig(reach=symlog(40.0), threshold=0.0))
    truth = torch.tensor([-40.0, -3.3, 0.0, 0.01, 1.0, 17.0, 99.0])
    values = head.values(torch.device("cpu"))
    shares = two_hot(truth, values)
    assert ((shares > 0).sum(1) <= 2).all()
    assert values[20] == 0
    torch.testing.assert_close(shares @ values, truth.clamp(-40, 40), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(head.decide(shares.log()), truth.clamp(-40, 40), rtol=1e-4, atol=1e-5)


def test_below_its_threshold_a_head_says_nothing_happened() -> None:
    """Bins of -1, 0, 1 with probabilities 0.1, 0.6, 0.3: an event with 0.4, worth 0.5 given that it is one."""
    logits = torch.tensor([0.1, 0.6, 0.3]).log()
    for threshold, says in ((0.39, 0.5), (0.41, 0.0), (0.0, 0.2)):
        head = EventHead(EventConfig(output="signs", threshold=threshold))
        assert float(head.probability(logits)) == pytest.approx(0.4, abs=1e-6)
        assert float(head.decide(logits)) == pytest.approx(says, abs=1e-6)
    end = EventHead(EventConfig(output="logit", scale=2.0, shift=-1.0, threshold=0.5))
    assert end.decide(torch.tensor([[0.6], [0.4]])).tolist() == [True, False]


def test_a_head_remembers_and_knows_what_was_done() -> None:
    """Nothing is seen: the reward is for pressing twice in a row, which takes both the action and a memory."""
    torch.manual_seed(0)
    head = EventHead(EventConfig(output="logit", widths=(4,), hidden=16, num_codes=1, num_frames=1))
    optimizer, frames = torch.optim.Adam(head.parameters(), lr=1e-2), torch.zeros(16, 12, 2, 3, 8, 8)
    for _ in range(150):
        pressed = (torch.rand(16, 12, 1) < 0.5).float()
        twice = torch.zeros(16, 12, dtype=torch.bool)
        twice[:, 1:] = (pressed[:, 1:] * pressed[:, :-1])[..., 0] > 0
        logits = head(frames, pressed)
        loss = head.error(logits.flatten(0, 1), twice.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ((head.evidence(logits) > 0) == twice).float().mean() > 0.98


def test_a_head_that_cannot_tell_says_nothing_but_what_it_is_sure_of() -> None:
    """Always yes has the best F1 of all where nothing can be told, and would end every episode at once."""
    torch.manual_seed(0)
    head, truth = EventHead(EventConfig(output="logit")), torch.rand(500) < 0.1
    knows, guesses = torch.where(truth, 3.0, -3.0)[:, None], torch.randn(500, 1)
    assert chosen(head, guesses, truth).threshold == 0.5
    often = torch.rand(500) < 0.5
    assert chosen(head, guesses, often).threshold == 0.5  # always yes has an F1 of two thirds
    config = chosen(head, knows, truth)
    assert config.threshold != 0.5
    head.config = config
    assert bool((head.decide(knows) == truth).all())
