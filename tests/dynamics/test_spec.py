import torch

from worldenv.dynamics.spec import WorldSpec, frame_path
from worldenv.geometry.action import camera_to_c2w, keys_to_camera


def test_frame_paths_pass_through_every_latents_pose() -> None:
    spec, start = WorldSpec(), torch.eye(4, dtype=torch.float64)
    keys = torch.randint(0, 9, (3, 5, 2), generator=torch.Generator().manual_seed(0))
    c2w = camera_to_c2w(keys_to_camera(keys), start.expand(3, 4, 4), spec.steps)
    frames = frame_path(start.expand(3, 4, 4), c2w)
    assert frames.shape == (3, 20, 4, 4)
    assert torch.equal(frames[:, 3::4], c2w)
    halfway = (start[:3, 3] + c2w[:, 0, :3, 3]) / 2
    torch.testing.assert_close(frames[:, 1, :3, 3], halfway, atol=1e-12, rtol=0)


def test_the_spec_knows_its_camera_and_clock() -> None:
    spec = WorldSpec(width=80, height=40, chunk_latents=2)
    assert spec.chunk_frames == 8
    assert spec.K[:2, 2].tolist() == [40, 20]
