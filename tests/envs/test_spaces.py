import math

import numpy as np
import pytest
import torch

from worldenv.bodies.camera import ACTION_MODES, Camera
from worldenv.dynamics.signals import Track
from worldenv.dynamics.spec import WorldSpec
from worldenv.envs.spaces import check_actions, observation_space
from worldenv.geometry.pose import yaw_pitch

SPEC = WorldSpec()
EYE = torch.eye(4, dtype=torch.float64)[None]


def command(action: torch.Tensor, mode: str, c2w: torch.Tensor, spec: WorldSpec) -> Track:
    return Camera().command(action, mode, {"c2w": c2w}, spec)


@pytest.mark.parametrize("mode", ACTION_MODES)
@pytest.mark.parametrize("num_latents", [1, 4])
def test_every_mode_commands_one_pose_and_key_pair_per_latent(mode: str, num_latents: int) -> None:
    space = Camera().space(mode, num_latents)
    space.seed(0)
    spec = WorldSpec(chunk_latents=num_latents)
    for _ in range(10):
        action = check_actions(np.asarray(space.sample())[None], space, 1, clip=False)
        commanded = command(action, mode, EYE, spec)
        assert commanded["keys"].shape == (1, num_latents, 2)
        assert commanded["c2w"].shape == (1, num_latents, 4, 4)
        assert commanded["keys"].min() >= 0
        assert commanded["keys"].max() <= 8


@pytest.mark.parametrize(("action", "forward", "yaw_deg"), [(0, 1.0, 0), (1, -1.0, 0), (2, 0.0, 45), (3, 0.0, -45)])
def test_basic_actions(action: int, forward: float, yaw_deg: float) -> None:
    end = command(torch.tensor([action]), "basic", EYE, SPEC)["c2w"][0, -1]
    assert float(end[2, 3]) == pytest.approx(forward)
    assert math.degrees(float(yaw_pitch(end)[0])) == pytest.approx(yaw_deg)


def test_basic5_stands_still_first() -> None:
    basic = command(torch.arange(4), "basic", EYE.repeat(4, 1, 1), SPEC)
    with_stop = command(torch.arange(5), "basic5", EYE.repeat(5, 1, 1), SPEC)
    assert torch.equal(with_stop["c2w"][0], EYE.repeat(4, 1, 1))
    assert with_stop["keys"][0].tolist() == [[0, 0]] * 4
    assert torch.equal(with_stop["keys"][1:], basic["keys"])
    assert torch.equal(with_stop["c2w"][1:], basic["c2w"])


def test_camera_actions_keep_their_size_and_get_the_nearest_label() -> None:
    camera = torch.tensor([[0.5, 0, 0, -0.3, 0]], dtype=torch.float64)
    commanded = command(camera, "camera", EYE, SPEC)
    assert commanded["keys"][0].tolist() == [[1, 2]] * 4
    turn = math.degrees(float(yaw_pitch(commanded["c2w"][0, -1])[0]))
    assert turn == pytest.approx(-0.3 * 4 * SPEC.steps.turn_deg)
    faint = command(0.1 * camera, "camera", EYE, SPEC)
    assert faint["keys"][0].tolist() == [[0, 0]] * 4, "below a tenth of a step is no key"


def test_labels_are_read_as_the_world_was_trained() -> None:
    """61 degrees off the new view is sideways; off the old one, 3 degrees back, it is still forward too."""
    angle = math.radians(61)
    camera = torch.tensor([[math.cos(angle), -math.sin(angle), 0, 3 / SPEC.steps.turn_deg, 0]], dtype=torch.float64)
    for start_in_chunk, translation in ((False, 4), (True, 6)):
        spec = WorldSpec(start_in_chunk=start_in_chunk)
        assert command(camera, "camera", EYE, spec)["keys"][0].tolist() == [[translation, 1]] * 4


def test_holding_and_per_latent_agree() -> None:
    keys = torch.tensor([[5, 3]])
    held, spelled = command(keys, "keys", EYE, SPEC), command(keys.repeat(1, 4), "keys_per_latent", EYE, SPEC)
    assert torch.equal(held["keys"], spelled["keys"])
    assert torch.equal(held["c2w"], spelled["c2w"])
    different = command(torch.tensor([[1, 0, 0, 1, 2, 0, 0, 2]]), "keys_per_latent", EYE, SPEC)
    assert different["keys"][0].tolist() == [[1, 0], [0, 1], [2, 0], [0, 2]]


def test_latent_observations_need_latents() -> None:
    with pytest.raises(ValueError, match="simulator"):
        observation_space("latent", SPEC, obs_keys=(), stack=4, latent_shape=None)
