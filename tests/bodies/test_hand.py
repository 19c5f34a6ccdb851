"""Kinematics that equal MuJoCo's, action modes, skeletons, and robots read from files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from worldenv.bodies.hand import MOVE, TURN, Hand, joints_at, towards
from worldenv.bodies.hand_keypoints import describe_joints, joints_of
from worldenv.bodies.hand_model import CLOSED, HAND, OPEN
from worldenv.bodies.registry import make_body
from worldenv.bodies.robot import RobotBody
from worldenv.dynamics.spec import WorldSpec
from worldenv.geometry.camera import project
from worldenv.geometry.kinematics import Robot, forward_kinematics
from worldenv.geometry.pose import invert_se3

SPEC = WorldSpec(width=64, height=64, takes=dict(Hand.takes), gives={}, chunk_latents=2)
ARM = """<mujoco><compiler angle="radian"/><worldbody>
<camera name="side" pos="0.3 -1.5 0.6" xyaxes="1 0 0 0 0.3 1" fovy="50"/>
<body name="base" pos="0.1 0.2 0.3" euler="0.2 0 0.4"><geom size="0.05"/>
<body name="slider" pos="0 0 0.1"><joint name="rail" type="slide" axis="1 0 1" range="-0.2 0.3"/><geom size="0.04"/>
<body name="upper" pos="0.1 0 0" quat="0.9 0.1 0.3 0"><joint name="turn" axis="0 0 1" pos="0.02 0.01 0" range="-1 2" ref="0.3"/>
<joint name="bend" axis="0 1 1" pos="0 0 0.03" range="-1 1"/><geom size="0.04"/>
<body name="left" pos="0.2 0.05 0"><joint name="l" axis="0 0 1" range="-1 1"/><geom size="0.02"/><site name="l_end" pos="0.1 0 0"/></body>
<body name="right" pos="0.2 -0.05 0"><joint name="r" axis="0 0 -1" range="-1 1"/><geom size="0.02"/><site name="r_end" pos="0.1 0 0"/><camera name="grip"/></body>
</body></body></body>
<body name="box" pos="1 0 0"><freejoint/><geom size="0.1"/><body pos="0 0 1"><joint name="lid"/><geom size="0.1"/></body></body>
</worldbody></mujoco>"""  # noqa: E501


def drawn(robot: Robot, count: int) -> torch.Tensor:
    low, high = robot.limits
    return low + (high - low) * torch.rand(count, len(low), generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture
def arm(tmp_path: Path) -> Path:
    pytest.importorskip("mujoco", reason="needs pip install worldenv[manip]")
    path = tmp_path / "arm.xml"
    path.write_text(ARM)
    return path


@pytest.mark.manip
@pytest.mark.parametrize("which", ["hand", "arm"])
def test_kinematics_are_mujocos(which: str, arm: Path) -> None:
    import mujoco

    from worldenv.sims.mujoco.scene import load_scene

    robot = HAND if which == "hand" else RobotBody.from_mjcf(arm).robot
    model = load_scene("cube", "tray").model if which == "hand" else mujoco.MjModel.from_xml_path(str(arm))
    data, joints = mujoco.MjData(model), drawn(robot, 50)
    poses = forward_kinematics(robot, joints.float())
    points = RobotBody(robot).keypoints(joints)
    for row, values in enumerate(joints):
        for joint, value in zip(robot.joints, values.tolist(), strict=True):
            data.joint(joint.name).qpos[0] = value
        mujoco.mj_kinematics(model, data)
        for link, pose in zip(robot.links, poses[row], strict=True):
            body = data.body(link.name)
            np.testing.assert_allclose(pose[:3, 3], body.xpos, atol=1e-5)
            np.testing.assert_allclose(pose[:3, :3], body.xmat.reshape(3, 3), atol=1e-5)
    if which == "arm":
        at = {point.name: points[-1, i].numpy() for i, point in enumerate(robot.keypoints)}
        np.testing.assert_allclose(at["l_end"], data.site("l_end").xpos, atol=1e-9)


def test_the_hand_commands_targets_latent_by_latent() -> None:
    hand = make_body("auto", SPEC)
    assert isinstance(hand, Hand)
    assert hand.space("ee_delta", 1).shape == (7,)
    assert hand.space("joints", 2).shape == (2, 26)
    joints = torch.zeros(1, 26)
    joints[:, 2], joints[:, 6:] = 0.2, OPEN
    action = torch.zeros(1, 2, 7).double()
    action[0, :, 0], action[0, 0, 3], action[0, 0, 5], action[0, 1, 6] = 0.5, 1.0, -1.0, 1.0
    targets = hand.command(action, "ee_delta", {"joints": joints}, SPEC)["joints"]
    torch.testing.assert_close(targets[0, :, 0], torch.tensor([0.5 * MOVE, MOVE]))
    torch.testing.assert_close(targets[0, 1, 3:6], torch.tensor([-TURN, 0.0, TURN]))  # yaw, pitch, roll
    torch.testing.assert_close(targets[0, 1, 6:], CLOSED.float())
    action[..., 0] = 1.0
    far = hand.command(action.repeat(1, 9, 1), "ee_delta", {"joints": joints}, replace(SPEC, chunk_latents=18))[
        "joints"
    ]
    HAND.check(far, what="targets")
    assert far[0, -1, 0] == pytest.approx(0.35)  # as far as the wrist goes


def test_actions_lead_to_plans() -> None:
    plan = torch.tensor([[0.05, -0.1, 0.15, 0.1, 0.2, -0.2, 0.3]]).double()
    joints = joints_at(torch.tensor([[0.0, -0.08, 0.18, 0.0, 0.0, 0.0, -1.0]]).double())
    spec = replace(SPEC, chunk_latents=1)
    reached = Hand().command(towards(plan, joints), "ee_delta", {"joints": joints}, spec)["joints"]
    torch.testing.assert_close(reached[:, 0].double(), joints_at(plan), atol=1e-6, rtol=0)


def test_skeletons_lie_where_keypoints_are() -> None:
    hand = Hand()
    joints = torch.zeros(2, 3, 26).double()
    joints[..., 2], joints[..., 6:] = 0.1, OPEN
    joints[1, :, 1] = 0.05
    video = hand.pose_video(joints)
    assert video.shape == (2, 3, 64, 64, 3)
    assert torch.equal(video[0, 0], video[0, 2])
    assert not torch.equal(video[0], video[1])
    assert hand.camera is not None
    uv, _ = project(hand.keypoints(joints[0, 0]), invert_se3(hand.camera.c2w), hand.camera.K)
    for tip, colour in ((8, (255, 200, 40)), (20, (220, 80, 255))):  # index and little finger
        x, y = uv[tip].floor().long().tolist()
        if 0 <= x < 64 and 0 <= y < 64:
            patch = video[0, 0, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].reshape(-1, 3).double()
            assert (patch - torch.tensor(colour)).abs().sum(1).min() < 200
    behind = joints[:1, :1].clone()
    behind[..., :3] = torch.tensor([-0.3, 0.35, 0.4])
    assert hand.pose_video(behind).max() == 0


def test_the_table_is_seen_by_one_lens_whatever_the_picture_s_shape() -> None:
    both = dict(Hand.takes) | dict(WorldSpec().takes)
    for width, height in ((64, 48), (128, 128)):
        alone = replace(SPEC, width=width, height=height, fov_deg=35.0)
        walked = replace(alone, fov_deg=90.0, takes=both)
        seen = [Hand().view(spec) for spec in (alone, walked)]
        assert seen[0] is not None
        assert seen[1] is not None
        torch.testing.assert_close(seen[0].K.double(), seen[1].K.double(), atol=1e-3, rtol=0)


@pytest.mark.manip
def test_robots_are_read_from_files(arm: Path) -> None:
    body = RobotBody.from_mjcf(arm, camera="side")
    assert [joint.name for joint in body.robot.joints] == ["rail", "turn", "bend", "l", "r"]
    assert [point.name for point in body.robot.keypoints] == ["slider", "upper", "left", "l_end", "right", "r_end"]
    assert [point.group for point in body.robot.keypoints] == [0, 0, 1, 1, 2, 2]
    video = body.pose_video(drawn(body.robot, 3))
    assert (video.reshape(3, -1).float().std(1) > 1).all()
    spec = WorldSpec(takes=dict(body.takes), gives={}, chunk_latents=1)
    assert make_body(body, spec) is body
    np.testing.assert_allclose(body.space("joints", 1).low[:2], [-0.2, -1.0])  # type: ignore[attr-defined]


@pytest.mark.manip
def test_what_cannot_be_read_is_refused_by_name(arm: Path) -> None:
    for text, said in (
        (ARM.replace('name="bend" axis="0 1 1" pos="0 0 0.03" range="-1 1"', 'name="bend"'), "'bend' has no limits"),
        (ARM.replace('name="l" axis="0 0 1" range="-1 1"', 'name="l" type="ball"'), "'l' is a ball"),
        ("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>", "no joint moves a link"),
    ):
        arm.write_text(text)
        with pytest.raises(ValueError, match=said):
            RobotBody.from_mjcf(arm)
    arm.write_text(ARM)
    for camera, said in (("top", "the file has side, grip"), ("grip", "stands still")):
        with pytest.raises(ValueError, match=said):
            RobotBody.from_mjcf(arm, camera=camera)
    for kind, said in (
        ('mode="targetbody" target="box"', "moves with the robot"),
        ('orthographic="true"', "in perspective"),
    ):
        arm.write_text(ARM.replace('<camera name="side"', f'<camera name="side" {kind}'))
        with pytest.raises(ValueError, match=said):
            RobotBody.from_mjcf(arm, camera="side")
    arm.write_text(ARM)
    with pytest.raises(ValueError, match="no such file"):
        RobotBody.from_mjcf(arm.with_name("other.xml"))
    with pytest.raises(ValueError, match="has no camera"):
        RobotBody.from_mjcf(arm).pose_video(torch.zeros(1, 5))


def test_keypoints_are_reached_by_fingers_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    plans = torch.rand(6, 7, generator=generator).double() * torch.tensor(
        [0.2, 0.2, 0.2, 0.6, 0.6, 0.6, 2.0]
    ) - torch.tensor([0.1, 0.1, -0.1, 0.3, 0.3, 0.3, 1.0])
    joints = joints_at(plans)
    joints[:, 6:] += 0.1 * torch.randn(6, 20, generator=generator).double()
    joints = joints.clamp(*HAND.limits)
    described = describe_joints(joints)
    assert described.shape == (6, len(Hand().names("keypoints"))) == (6, 24)
    present = {"joints": joints_at(torch.zeros(6, 7)).float()}
    made = Hand().command(described, "keypoints", present, replace(SPEC, chunk_latents=1))["joints"][:, 0]
    HAND.check(made, what="joints")
    torch.testing.assert_close(made[:, :6].double(), joints[:, :6], atol=1e-5, rtol=0)
    assert (describe_joints(made.double()) - described)[:, 9:].unflatten(1, (5, 3)).norm(dim=-1).max() < 0.002
    assert Hand().space("keypoints", 1).contains(described[0].float().numpy())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda d: d.index_put((torch.tensor(0), torch.tensor(12)), d[0, 12] + 0.2),
            "tip of 'index' is .* out of reach in row 0",
        ),
        (lambda d: d.index_put((torch.tensor(0), torch.tensor(2)), torch.tensor(0.6).double()), "'wrist_z' is 0.6"),
        (lambda d: torch.cat([d[:, :6], d[:, 3:6], d[:, 9:]], 1), "no two directions"),
    ],
)
def test_keypoints_out_of_reach_are_refused(change: Any, said: str) -> None:
    joints = joints_at(torch.tensor([[0.0, 0.0, 0.2, 0.0, 0.1, 0.0, 0.0]]).double())
    with pytest.raises(ValueError, match=said):
        joints_of(change(describe_joints(joints)), joints)
