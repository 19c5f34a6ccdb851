import json
from pathlib import Path

import pytest
import torch

from worldenv.geometry.action import c2w_to_keys, keys_to_c2w, keys_to_label
from worldenv.geometry.pose import invert_se3
from worldenv.geometry.pose_string import parse_pose_string
from worldenv.geometry.trajectory_file import Trajectory, read_trajectory

START = torch.eye(4, dtype=torch.float64)


@pytest.fixture
def trajectory() -> Trajectory:
    keys = parse_pose_string("w-2, w+right-3, d+up-2")
    c2w = torch.cat([START[None], keys_to_c2w(keys, START, move=0.08, turn_deg=3.0)])
    K = torch.tensor([[0.6, 0, 0.5], [0, 0.8, 0.5], [0, 0, 1]], dtype=torch.float64).expand(len(c2w), 3, 3)
    return Trajectory(c2w, K)


def test_worldplays_json_holds_c2w_and_pixels(trajectory: Trajectory, tmp_path: Path) -> None:
    path, K = tmp_path / "path.json", [[1152, 0, 960], [0, 864, 540], [0, 0, 1]]
    path.write_text(json.dumps({i: {"extrinsic": c2w.tolist(), "K": K} for i, c2w in enumerate(trajectory.c2w)}))
    read = read_trajectory(path)
    torch.testing.assert_close(read.c2w, trajectory.c2w)
    torch.testing.assert_close(read.K, trajectory.K)
    keys = c2w_to_keys(read.c2w, axes="old")
    assert torch.equal(keys, parse_pose_string("w-2, w+right-3, d+up-2"))


def test_the_default_camera_is_worldplays(tmp_path: Path) -> None:
    path = tmp_path / "path.json"
    path.write_text(json.dumps({"0": {"extrinsic": START.tolist()}}))
    K = read_trajectory(path).K[0]
    assert K[0, 0] == pytest.approx(0.50505, abs=1e-5)
    assert K[1, 1] == pytest.approx(0.89787, abs=1e-5)


def test_nerfstudio_poses_are_opengl(trajectory: Trajectory, tmp_path: Path) -> None:
    flip = torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=torch.float64))
    frames = [{"transform_matrix": (c2w @ flip).tolist()} for c2w in trajectory.c2w]
    path = tmp_path / "transforms.json"
    path.write_text(json.dumps({"w": 640, "h": 480, "fl_x": 384.0, "fl_y": 384.0, "frames": frames}))
    read = read_trajectory(path)
    torch.testing.assert_close(read.c2w, trajectory.c2w)
    torch.testing.assert_close(read.K, trajectory.K)


def test_realestate_lines_are_w2c(trajectory: Trajectory, tmp_path: Path) -> None:
    lines = ["https://example.org/video"]
    for i, c2w in enumerate(trajectory.c2w):
        numbers = [i, 0.6, 0.8, 0.5, 0.5, 0, 0, *invert_se3(c2w)[:3].flatten().tolist()]
        lines.append(" ".join(str(x) for x in numbers))
    path = tmp_path / "clip.txt"
    path.write_text("\n".join(lines))
    read = read_trajectory(path)
    torch.testing.assert_close(read.c2w, trajectory.c2w)
    torch.testing.assert_close(read.K, trajectory.K)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{}", "neither WorldPlay's JSON"),
        ("1 2 3", "19 numbers a line"),
        (json.dumps({"0": {"extrinsic": (2 * START).tolist()}}), "rotation of entry 0 is not orthonormal"),
        (json.dumps({"0": {"extrinsic": [[1.0]]}}), "expected 4x4"),
        (json.dumps({"frames": [{"file": "a.png"}]}), "transform_matrix"),
        (json.dumps({"w": 1, "h": 1, "frames": [{"transform_matrix": START.tolist()}]}), "focal lengths"),
    ],
)
def test_other_files_are_refused(content: str, match: str, tmp_path: Path) -> None:
    path = tmp_path / "path.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=match):
        read_trajectory(path)
    with pytest.raises(ValueError, match="cannot be read"):
        read_trajectory(tmp_path / "none.json")


def test_labels_of_the_release_read_translation_in_the_old_frame() -> None:
    """58 degrees off the old view is still forward; off the new one, 3 degrees on, it is sideways too."""
    moved = START.clone()
    angle = torch.deg2rad(torch.tensor(58.0, dtype=torch.float64))
    moved[0, 3], moved[2, 3] = -0.1 * angle.sin(), 0.1 * angle.cos()
    turn = torch.deg2rad(torch.tensor(3.0, dtype=torch.float64))
    moved[:3, :3] = torch.tensor([[turn.cos(), 0, turn.sin()], [0, 1, 0], [-turn.sin(), 0, turn.cos()]])
    path = torch.stack([START, moved])
    assert keys_to_label(c2w_to_keys(path, axes="old")).tolist() == [9 * 6 + 1]
    assert keys_to_label(c2w_to_keys(path)).tolist() == [9 * 4 + 1]
