"""The walk back along a clip: where it leads, and what is written."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import pytest
import torch

from tests.world.test_clips import some_clips, with_clips
from worldenv.play.tour import AHEAD, save_tour, walk_back
from worldenv.world.world import World


def test_it_walks_back_to_where_the_clip_began_and_on(rendered_world: World, tmp_path: Path) -> None:
    clips, spec = some_clips(rendered_world), rendered_world.spec
    tour = walk_back(with_clips(rendered_world, clips), 1)
    home, last = clips.c2w[1, 0], AHEAD * spec.chunk_latents
    assert torch.allclose(tour.told[-1 - last, :3, 3], home[:3, 3], atol=0.35)
    assert torch.allclose(tour.told[-1, :3, 2], home[:3, 2], atol=0.2)  # facing what was there
    assert len(tour.frames) == 4 * len(tour.walked)
    told, walked = tour.stopped
    assert told == pytest.approx(last * spec.steps.move)
    assert 0 <= walked <= told + 1e-6
    assert save_tour(tour, tmp_path / "new").startswith("walked back to the red cube; then told to walk")
    assert len(iio.imread(tmp_path / "new" / "tour.mp4")) == len(tour.frames)
    assert iio.imread(tmp_path / "new" / "tour.png").std() > 1


def test_clips_that_are_not_there_are_named(rendered_world: World) -> None:
    with pytest.raises(ValueError, match=r"clip 2, but the world has 2: 0\.\.1"):
        walk_back(with_clips(rendered_world, some_clips(rendered_world)), 2)
