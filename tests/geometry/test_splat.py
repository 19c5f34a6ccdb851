"""Forward splatting, against scenes whose pictures are known from everywhere."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from worldenv.geometry import splat as module
from worldenv.geometry.camera import intrinsics, pixel_rays
from worldenv.geometry.pose import look
from worldenv.geometry.splat import splat

WIDTH, HEIGHT = 32, 24
K = intrinsics(WIDTH, HEIGHT, fov_deg=90)


def room(c2w: Tensor) -> tuple[Tensor, Tensor]:
    """Show a box of 8 x 3 x 8 m with smoothly coloured walls from inside: colour (3, H, W), depth (H, W)."""
    rays = pixel_rays(K.double(), width=WIDTH, height=HEIGHT) @ c2w[:3, :3].T
    low, high = torch.tensor([[-4.0, -1.5, -4.0], [4.0, 1.5, 4.0]], dtype=torch.float64)
    where = c2w[:3, 3]
    depth = torch.where(rays > 0, (high - where) / rays, (low - where) / rays).amin(-1)
    points = where + depth[..., None] * rays
    return torch.sin(points.movedim(-1, 0)).float(), depth.float()


def camera(x: float, z: float, yaw_deg: float, pitch_deg: float = 0.0) -> Tensor:
    at = torch.tensor([x, 0.2, z], dtype=torch.float64)
    return look(at, torch.tensor(math.radians(yaw_deg)).double(), torch.tensor(math.radians(pitch_deg)).double())


def scene(*cameras: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    colours, depths = zip(*(room(c) for c in cameras), strict=True)
    return torch.stack(colours)[None], torch.stack(depths)[None], torch.stack(cameras)[None]


@pytest.mark.parametrize(
    ("target", "share"),
    [
        (camera(0, 0, 0), 1.0),  # the same view
        (camera(0.3, 0.5, 10), 0.8),  # nearer and turned
        (camera(0, 2.5, 0), 1.0),  # much nearer: pixels are magnified up to three times, without cracks
        (camera(-0.5, -1, -20, 10), 0.4),  # further away
    ],
)
def test_what_is_known_is_what_is_there(target: Tensor, share: float) -> None:
    source = scene(camera(0, 0, 0))
    found = splat(*source, target[None, None], K)
    colour, depth = room(target)
    known = found.known[0, 0]
    assert found.colour.shape == (1, 1, 3, HEIGHT, WIDTH)
    assert float(known.float().mean()) >= share
    # Exact on walls; pixels whose patch lies across an edge of the room are a little off.
    wrong = (found.depth[0, 0] - depth)[known].abs() / depth[known]
    assert float(wrong.quantile(0.75)) < 1e-3
    assert float(wrong.quantile(0.95)) < 0.05
    assert float((found.colour[0, 0] - colour)[:, known].abs().quantile(0.9)) < 0.03
    assert not found.colour[0, 0][:, ~known].any()
    assert bool(found.depth[0, 0][~known].isinf().all())


def test_near_walls_have_no_cracks() -> None:
    """A wall that is approached fills the view: every pixel of it is known."""
    frames, depth = torch.rand(1, 1, 3, HEIGHT, WIDTH), torch.full((1, 1, HEIGHT, WIDTH), 4.0)
    for forward in (0.7, 1.7, 2.6, 3.0):
        found = splat(frames, depth, camera(0, 0, 0)[None, None], camera(0, forward, 0)[None, None], K)
        assert bool(found.known.all()), forward
        torch.testing.assert_close(found.depth, torch.full_like(found.depth, 4 - forward), atol=1e-3, rtol=0)


def test_the_nearest_wins_and_hides_what_is_behind() -> None:
    behind, before = torch.zeros(3, HEIGHT, WIDTH), torch.ones(3, HEIGHT, WIDTH)
    depth = torch.stack([torch.full((HEIGHT, WIDTH), 5.0), torch.full((HEIGHT, WIDTH), 2.0)])
    pose = camera(0, 0, 0).expand(1, 2, 4, 4)
    found = splat(torch.stack([behind, before])[None], depth[None], pose, pose[:, :1], K)
    assert bool((found.colour == 1).all())
    assert torch.allclose(found.depth, torch.tensor(2.0))


def test_slack_lets_an_earlier_source_win_against_one_a_little_nearer() -> None:
    frames = torch.stack([torch.zeros(3, HEIGHT, WIDTH), torch.ones(3, HEIGHT, WIDTH)])[None]
    depth = torch.stack([torch.full((HEIGHT, WIDTH), 2.1), torch.full((HEIGHT, WIDTH), 2.0)])[None]
    pose = camera(0, 0, 0).expand(1, 2, 4, 4)
    assert bool((splat(frames, depth, pose, pose[:, :1], K).colour == 1).all())
    assert bool((splat(frames, depth, pose, pose[:, :1], K, slack=0.1).colour == 0).all())
    assert bool((splat(frames, depth, pose, pose[:, :1], K, slack=0.04).colour == 1).all())


def test_only_valid_sources_and_real_depths_count() -> None:
    source, target = scene(camera(0, 0, 0), camera(0, 0, 180)), camera(0, 0, 0)[None, None]
    assert not splat(*source, target, K, valid=torch.tensor([[False, True]])).known.any()
    broken = source[1].clone()
    broken[0, 0, :5] = torch.tensor(math.nan)
    broken[0, 0, 5:10] = math.inf
    broken[0, 0, 10:12] = 0.0
    known = splat(source[0], broken, source[2], target, K).known[0, 0]
    assert not known[:11].any()
    assert bool(known[13:].all())


def test_two_sources_know_more_than_either() -> None:
    a, b, target = camera(0, 0, -45), camera(0, 0, 45), camera(0, 0, 0)[None, None]
    both = splat(*scene(a, b), target, K).known.float().mean()
    either = [splat(*scene(c), target, K).known.float().mean() for c in (a, b)]
    assert float(both) > 0.94
    assert all(0.4 < float(share) < 0.6 for share in either)


def test_a_batch_equals_its_rows_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [scene(camera(0, 0, 0), camera(1, 1, 30)), scene(camera(-1, 0, 90), camera(2, -1, 60))]
    target = torch.stack([camera(0.2, 0.4, 15), camera(0.5, 0, 40), camera(-0.5, 1, 20)])
    whole = splat(*(torch.cat(part) for part in zip(*rows, strict=True)), target.expand(2, 3, 4, 4), K)
    single = [splat(*row, target[None], K) for row in rows]
    assert torch.equal(whole.colour, torch.cat([part.colour for part in single]))
    monkeypatch.setattr(module, "POINTS", 1)
    again = splat(*(torch.cat(part) for part in zip(*rows, strict=True)), target.expand(2, 3, 4, 4), K)
    assert torch.equal(whole.colour, again.colour)
    assert torch.equal(whole.depth, again.depth)


def test_detail_is_given_back_between_pixels_and_nowhere_else() -> None:
    """Half a pixel to the side bilinear reading halves what alternates; at pixels' centres nothing may change."""
    frames = 0.5 + 0.1 * (-1.0) ** torch.arange(WIDTH).expand(1, 1, 1, HEIGHT, WIDTH)
    depth, pose = torch.full((1, 1, HEIGHT, WIDTH), 4.0), camera(0, 0, 0)[None, None]
    restore = torch.ones(1, 1)
    same = splat(frames, depth, pose, pose, K, restore=restore)
    torch.testing.assert_close(same.colour, splat(frames, depth, pose, pose, K).colour, atol=1e-4, rtol=0)
    aside = camera(4.0 * 0.25 / float(K[0, 0]), 0, 0)[None, None]  # a quarter of a pixel
    plain, given = (splat(frames, depth, pose, aside, K, restore=r).colour[..., 2:-2] for r in (None, restore))
    assert float(given.std()) > 1.2 * float(plain.std())
    assert float(given.mean()) == pytest.approx(float(plain.mean()), abs=1e-3)
    flat = torch.full_like(frames, 0.3)
    torch.testing.assert_close(
        splat(flat, depth, pose, aside, K, restore=restore).colour[..., 2:-2], flat[..., 2:-2], atol=1e-5, rtol=0
    )


def test_many_patches_are_numbered_in_wider_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = scene(camera(0, 0, 0), camera(1, 1, 30)), camera(0.2, 0.4, 15)[None, None]
    narrow = splat(*source, target, K)
    assert (module._key_bits(2**16), module._key_bits(2**16 + 1)) == ((16, torch.int32), (17, torch.int64))
    monkeypatch.setattr(module, "_key_bits", lambda points: (20, torch.int64))
    wide = splat(*source, target, K)
    assert float((narrow.known == wide.known).float().mean()) > 0.99  # keys tell depths apart more finely
    both = narrow.known & wide.known
    torch.testing.assert_close(narrow.depth[both], wide.depth[both], atol=0.02, rtol=0.02)


def test_shapes_that_do_not_fit_are_named() -> None:
    frames, depth, source = scene(camera(0, 0, 0))
    with pytest.raises(ValueError, match=r"depth has shape \(1, 1, 24, 31\)"):
        splat(frames, depth[..., :-1], source, source, K)
    with pytest.raises(ValueError, match="target has shape"):
        splat(frames, depth, source, source[0], K)
