import math

import pytest
import torch

from worldenv.geometry.camera import (
    Pinhole,
    intrinsics,
    look_at,
    normalise_intrinsics,
    pixel_rays,
    project,
    seen_at,
    unproject,
    warp,
)
from worldenv.geometry.pose import invert_se3, look

WIDTH, HEIGHT = 32, 24
K = intrinsics(WIDTH, HEIGHT, fov_deg=90).double()


def camera(x: float, y: float, z: float, yaw: float = 0.0, pitch: float = 0.0) -> torch.Tensor:
    return look(*(torch.tensor(v, dtype=torch.float64) for v in ([x, y, z], yaw, pitch)))


def test_intrinsics_have_square_pixels_and_the_field_of_view() -> None:
    assert float(K[0, 0]) == float(K[1, 1]) == pytest.approx(WIDTH / 2)
    narrow = intrinsics(100, 50, fov_deg=60)
    assert 2 * math.degrees(math.atan(50 / float(narrow[0, 0]))) == pytest.approx(60, abs=1e-4)
    assert narrow[:2, 2].tolist() == [50, 25]


def test_normalised_intrinsics_do_not_depend_on_the_size() -> None:
    small = normalise_intrinsics(K, width=WIDTH, height=HEIGHT)
    large = normalise_intrinsics(intrinsics(10 * WIDTH, 10 * HEIGHT, fov_deg=90).double(), width=320, height=240)
    torch.testing.assert_close(small, large)
    assert small[:2, 2].tolist() == [0.5, 0.5]
    assert small[2].tolist() == [0, 0, 1]


def test_projecting_lifted_pixels_gives_the_pixels_back() -> None:
    generator = torch.Generator().manual_seed(0)
    c2w = camera(3, -1, 2, 1.1, -0.2)
    depth = 1 + 9 * torch.rand(HEIGHT, WIDTH, generator=generator, dtype=torch.float64)
    uv, z = project(unproject(depth, c2w, K).reshape(-1, 3), invert_se3(c2w), K)
    v, u = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    torch.testing.assert_close(uv, torch.stack([u, v], -1).reshape(-1, 2).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(z, depth.flatten(), atol=1e-9, rtol=0)


def test_points_behind_the_camera_have_negative_depth() -> None:
    _, z = project(torch.tensor([[0.0, 0, -2], [0, 0, 2]], dtype=torch.float64), torch.eye(4, dtype=torch.float64), K)
    assert z.tolist() == [-2, 2]


def test_what_passes_behind_the_camera_stays_to_its_side() -> None:
    camera = Pinhole(look_at((0.0, -1.0, 0.0), (0.0, 0.0, 0.0)), intrinsics(8, 8, fov_deg=90).double(), 8, 8)
    before, behind = (seen_at(torch.tensor([[0.2, -1 + y, 0.1]]).double(), camera)[0] for y in (0.05, -0.05))
    torch.testing.assert_close(before, torch.tensor([4.0, -2.0]).double(), atol=1e-5, rtol=0)
    assert behind[0] > before[0]
    assert behind[1] < before[1]


def test_central_ray_is_the_viewing_direction() -> None:
    rays = pixel_rays(intrinsics(5, 3, fov_deg=90), width=5, height=3)
    assert rays.shape == (3, 5, 3)
    assert rays[1, 2].tolist() == [0, 0, 1]


def wall(c2w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth and picture of the wall z = 6, whose colour is linear in x and y."""
    rays = pixel_rays(K, width=WIDTH, height=HEIGHT) @ c2w[:3, :3].mT
    reach = (6 - c2w[2, 3]) / rays[..., 2]
    point = c2w[:3, 3] + reach[..., None] * rays
    colour = torch.stack([0.05 * point[..., 0], 0.05 * point[..., 1], 0 * reach], -1) + 0.5
    return reach, colour


def test_warping_a_wall_reproduces_the_other_view() -> None:
    source, target = camera(0, 0, 0), camera(0.8, -0.3, 1.0)
    (source_depth, source_image), (depth, image) = wall(source), wall(target)
    warped, seen = warp(source_image, depth=depth, source_depth=source_depth, c2w=target, source_c2w=source, K=K)
    assert 0.7 < seen.double().mean() <= 1
    torch.testing.assert_close(warped[seen], image[seen], atol=1e-6, rtol=0)


def test_warping_masks_what_the_source_does_not_see() -> None:
    source, target = camera(0, 0, 0), camera(0, 0, 0, yaw=math.pi / 2)
    (source_depth, image), depth = wall(source), torch.full((HEIGHT, WIDTH), 4.0, dtype=torch.float64)
    _, seen = warp(image, depth=depth, source_depth=source_depth, c2w=target, source_c2w=source, K=K)
    assert not seen[:, WIDTH // 2 :].any()
    hidden = torch.full_like(source_depth, 3.0)  # something nearer stands in the way
    _, seen = warp(image, depth=source_depth, source_depth=hidden, c2w=source, source_c2w=source, K=K)
    assert not seen.any()
