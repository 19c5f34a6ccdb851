import math

import pytest
import torch

from worldenv.data.visibility import memory_need, visibility
from worldenv.geometry.camera import intrinsics
from worldenv.geometry.pose import look

K = intrinsics(64, 48, fov_deg=90)
WALL = 4.0


def views(*yaws: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Cameras in the middle of a sphere of radius WALL: z-depths and poses."""
    c2w = torch.stack([look(torch.zeros(3, dtype=torch.float64), torch.tensor(math.radians(y)).double()) for y in yaws])
    v, u = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    ray = torch.stack([(u - 32) / 32, (v - 24) / 32, torch.ones_like(u)], -1)
    return (WALL / ray.norm(dim=-1)).expand(len(yaws), -1, -1), c2w


def test_views_see_themselves_and_not_what_lies_behind() -> None:
    seen = visibility(*views(0, 180, 45), K)
    share = seen.float().mean(2)
    assert share.diagonal().min() > 0.95
    assert float(share[0, 1]) == float(share[1, 0]) == 0
    assert 0.3 < float(share[0, 2]) < 0.7, "half of a 90 degree view, turned by 45"


def test_the_index_is_surface_of_i_seen_by_j() -> None:
    """A wall right before camera 1 hides the rest from it: of view 0 it sees nothing, view 0 sees its wall's place."""
    depth, c2w = views(0, 0)
    depth = depth.clone()
    depth[1] = 0.5
    share = visibility(depth, c2w, K).float().mean(2)
    assert float(share[0, 1]) == 0
    assert float(share[1, 1]) > 0.95


def test_memory_is_needed_where_only_old_latents_saw_the_surface() -> None:
    """Entry 0 and chunks of two latents, a window of two: by hand."""
    num, points = 7, 4
    seen = torch.zeros(num, num, points, dtype=torch.bool)
    seen[5, 0, :3] = True  # latent 5 (chunk 5..6, window 3..4): three points seen by latent 0,
    seen[5, 4, 0] = True  # one of them by the window too
    seen[6, 1, 1] = True
    seen[3, 0, :] = True  # chunk 3..4, window 1..2, latent 0 is older
    seen[1, 0, :] = True  # chunk 1..2 has nothing before its window
    seen[6, 5, 2] = True  # its own chunk does not count as known
    need = memory_need(seen, chunk_latents=2, temporal_latents=2)
    assert need.tolist() == pytest.approx([0, 0, 0, 1.0, 0, 0.5, 0.25])


def test_nothing_is_needed_while_everything_is_in_the_window() -> None:
    seen = torch.ones(9, 9, 3, dtype=torch.bool)
    assert not memory_need(seen, chunk_latents=4, temporal_latents=12).any()
