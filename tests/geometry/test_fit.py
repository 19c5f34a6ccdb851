import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from worldenv.geometry.camera import intrinsics, pixel_rays
from worldenv.geometry.fit import project_points, small_rotation, solve_motion
from worldenv.geometry.pose import compose, invert_se3

RAYS = pixel_rays(intrinsics(16, 12, fov_deg=90), width=16, height=12).flatten(0, 1).double()


def motions(count: int = 6, turn: float = 0.15) -> Tensor:
    """Motions in all six directions."""
    generator = torch.Generator().manual_seed(0)
    vectors = turn * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    rotation = torch.from_numpy(Rotation.from_rotvec(vectors.numpy()).as_matrix())
    return compose(rotation, 0.2 * torch.randn(count, 3, generator=generator, dtype=torch.float64))


def seen(motion: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse depths, and where the second camera sees the points."""
    inverse_depth = 0.1 + 0.5 * torch.rand(len(motion), len(RAYS), generator=torch.Generator().manual_seed(1)).double()
    (u, v), _ = project_points(RAYS, inverse_depth, invert_se3(motion))
    return inverse_depth, torch.stack([u, v], -1)


def test_points_are_projected_as_by_the_pinhole() -> None:
    motion = motions()
    inverse_depth, image = seen(motion)
    world = RAYS / inverse_depth[..., None]
    camera = (world - motion[:, None, :3, 3]) @ motion[:, :3, :3]
    torch.testing.assert_close(image, camera[..., :2] / camera[..., 2:], atol=1e-12, rtol=0)
    _, z = project_points(RAYS, inverse_depth, invert_se3(motion))
    torch.testing.assert_close(z, camera[..., 2] / world[..., 2], atol=1e-12, rtol=0)


def test_the_motion_comes_back_from_what_was_seen() -> None:
    motion = motions()
    inverse_depth, image = seen(motion)
    found = solve_motion(RAYS, image, inverse_depth, torch.ones_like(image), prior=torch.zeros(6).double())
    torch.testing.assert_close(found, motion, atol=1e-6, rtol=0)


def test_what_is_not_trusted_does_not_count() -> None:
    motion = motions()
    inverse_depth, image = seen(motion)
    weight = torch.ones_like(image)
    weight[:, ::3] = 0
    wrong = torch.where(weight == 0, image + 3, image)
    found = solve_motion(RAYS, wrong, inverse_depth, weight, prior=torch.zeros(6).double())
    torch.testing.assert_close(found, motion, atol=1e-6, rtol=0)
    trusting = solve_motion(RAYS, wrong, inverse_depth, torch.ones_like(weight), prior=torch.zeros(6).double())
    assert (trusting - motion).abs().max() > 0.1


def test_a_strong_prior_holds_the_camera_still_in_its_directions_only() -> None:
    motion = motions(turn=0.05)
    inverse_depth, image = seen(motion)
    prior = torch.tensor([0, 0, 0, 0, 1e9, 0], dtype=torch.float64)
    w2c = invert_se3(solve_motion(RAYS, image, inverse_depth, torch.ones_like(image), prior=prior))
    assert w2c[:, 1, 3].abs().max() < 0.02, "up to what rotations that follow turn about"
    assert w2c[:, [0, 2], 3].abs().amax(1).min() > 0.02


def test_gradients_reach_what_the_network_says() -> None:
    inverse_depth, image = seen(motions(2))
    inputs = [x.clone().requires_grad_() for x in (image, inverse_depth, torch.ones_like(image))]

    def solve(*x: Tensor) -> Tensor:
        return solve_motion(RAYS[::24], *x, prior=torch.full((6,), 0.1).double())  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(solve, [x[:, ::24].detach().requires_grad_() for x in inputs])


@pytest.mark.parametrize("size", [0.0, 1e-8, 0.1])
def test_small_rotations_are_rotations_about_their_axis(size: float) -> None:
    vector = size * torch.nn.functional.normalize(torch.randn(5, 3, dtype=torch.float64), dim=-1)
    rotation = small_rotation(vector)
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand(5, 3, 3), atol=1e-14, rtol=0)
    exact = Rotation.from_rotvec(vector.numpy()).as_matrix()
    torch.testing.assert_close(rotation, torch.from_numpy(exact), atol=size**3 / 10 + 1e-14, rtol=0)
