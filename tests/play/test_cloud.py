"""What a walk has shown, as files that others open."""

from __future__ import annotations

import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.geometry.test_cloud import VIEWS, lifted
from worldenv import cli
from worldenv.geometry.pose import look
from worldenv.play.cloud import BAND0, point_table, quaternion, splat_table
from worldenv.world.world import World


def export(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["worldenv", "export", *arguments])
    cli.main()


def read_ply(path: Path) -> npt.NDArray[np.void]:
    """Read a table back by its header alone."""
    head, _, body = path.read_bytes().partition(b"end_header\n")
    kinds = {"float": "<f4", "uchar": "u1"}
    lines = [line.split() for line in head.decode().splitlines()]
    table = np.frombuffer(body, [(name, kinds[kind]) for what, kind, name in (x for x in lines if x[0] == "property")])
    (count,) = (int(line[2]) for line in lines if line[0] == "element")
    assert len(table) == count
    return table


def test_a_walk_becomes_points_splats_and_a_picture(
    rendered_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered_world.save_pretrained(tmp_path / "world")
    files = [tmp_path / "new" / name for name in ("p.ply", "s.ply", "v.png")]
    flags = [x for pair in zip(("--points", "--splats", "--view"), map(str, files), strict=True) for x in pair]
    export(monkeypatch, "--world", str(tmp_path / "world"), *flags, "--pose", "right-5", "--start", "3")
    points, splats = (read_ply(file) for file in files[:2])
    assert points.dtype.names == ("x", "y", "z", "red", "green", "blue")
    assert len(points) == len(splats) > 100
    assert np.array_equal(points["x"], splats["x"])
    assert iio.imread(files[2]).std() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to write; pass --weights DIR, --points"),
        (["--points", "cloud.txt"], r"--points cloud.txt: this is written as .ply; give the file such a suffix"),
        (["--view", "a.ply"], r"--view a.ply: this is written as .png or .jpg or .jpeg"),
        (["--splats", "taken/a.ply"], "taken"),
        (["--points", "folder.ply"], r"--points folder.ply: cannot be written \(is a folder\)"),
        (["--points", "a.ply", "--pose", "fly-3"], "pose segment 'fly-3'"),
        (["--points", "a.ply"], "has no depth head; train one with"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(
    tiny_world_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(SystemExit, match=message):
        export(monkeypatch, "--world", str(tiny_world_dir), *arguments)
    assert len(list(tmp_path.iterdir())) == 2


def test_splats_say_what_the_cloud_does() -> None:
    cloud = lifted(VIEWS)
    table, points = splat_table(cloud), point_table(cloud)
    assert table.dtype.names is not None
    colour = 0.5 + BAND0 * np.stack([table[f"f_dc_{i}"] for i in range(3)], -1)
    assert np.abs(255 * colour - np.stack([points[c] for c in ("red", "green", "blue")], -1)).max() <= 0.51
    size = np.exp(np.stack([table[f"scale_{i}"] for i in range(3)], -1))
    assert np.allclose(size[:, :2], cloud.radius.numpy(), rtol=1e-4)
    assert (size[:, 2] < size[:, 0]).all()  # a disc, whose third axis is the normal
    w, x, y, z = (torch.from_numpy(table[f"rot_{i}"].copy()) for i in range(4))
    third = torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], -1)
    assert torch.allclose(third, cloud.normal, atol=1e-4)
    sure = 1 / (1 + np.exp(-table["opacity"]))
    assert (np.diff(sure[cloud.error.argsort().numpy()]) <= 1e-6).all()  # less sure, more transparent


def test_quaternions_of_every_kind_of_turn() -> None:
    angles = torch.tensor([0.0, 0.5, 3.0, 3.14159, -3.0], dtype=torch.float64)
    turns = look(torch.zeros(5, 3, dtype=torch.float64), angles, angles / 3)[:, :3, :3]
    turns = torch.cat([turns, turns[:, [1, 2, 0]]])  # axes in another order are rotations, too
    w, x, y, z = quaternion(turns).unbind(-1)
    first = torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)], -1)
    third = torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], -1)
    assert torch.allclose(first, turns[..., 0], atol=1e-9)
    assert torch.allclose(third, turns[..., 2], atol=1e-9)
