"""The commands that write reports, on a tiny world: what they leave behind, and that results repeat."""

from __future__ import annotations

import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from worldenv.engine.world import World
from worldenv.eval.bench import bench_engine
from worldenv.eval.demo import run_revisit
from worldenv.eval.rollout import run_rollout
from worldenv.eval.suites import run_reconstruction
from worldenv.geometry.action import keys_to_c2w
from worldenv.geometry.pose_string import parse_pose_string
from worldenv.geometry.trajectory_file import Trajectory, write_worldplay

ARMS = {
    "shuffled_actions",
    "last_frame",
    "blur",
    "worldplay",
    "recent",
    "none",
    "random",
    "swapped",
    "frozen",
    "simulator",
}


@pytest.mark.usefixtures("sims")
def test_revisit_writes_a_report_that_repeats(tiny_world: World, tmp_path: Path) -> None:
    reports = []
    for name in ("a", "b"):
        run_revisit(tiny_world, tmp_path / name, num_worlds=2, first_seed=900_000, num_chunks=3)
        reports.append(json.loads((tmp_path / name / "report.json").read_text()))
    assert reports[0]["arms"] == reports[1]["arms"]
    arms = reports[0]["arms"]
    assert set(arms) == ARMS
    for metrics in arms.values():
        assert {"return_psnr_self", "return_psnr_gt", "motion_ratio"} <= set(metrics)
        assert all(m["n"] == 2 and m["ci95"][0] <= m["mean"] <= m["ci95"][1] for m in metrics.values())
    # The simulator shows the same place the same way; a frozen picture is always like itself and never moves.
    assert arms["simulator"]["return_psnr_gt"]["mean"] == 60
    assert arms["simulator"]["return_psnr_self"]["mean"] > 33
    assert arms["frozen"]["return_psnr_self"]["mean"] == 60
    assert arms["frozen"]["motion_ratio"]["mean"] == 0
    assert reports[0]["seeds"] == [900_000, 900_001]
    assert iio.imread(tmp_path / "a" / "contact.png").ndim == 3
    video = iio.imread(tmp_path / "a" / "demo.mp4")
    assert len(video) == 1 + 2 * 3 * 16


@pytest.mark.usefixtures("sims")
def test_reconstruction_scores_the_vae(tiny_world: World, tmp_path: Path) -> None:
    tmp_path.mkdir(exist_ok=True)
    run_reconstruction(tiny_world, tmp_path, num_worlds=1, first_seed=900_000)
    metrics = json.loads((tmp_path / "report.json").read_text())["arms"]["vae"]
    assert 0 < metrics["psnr"]["mean"] < 30, "random weights reconstruct nothing well"


def test_bench_reports_every_batch_size(tiny_world_dir: Path, tmp_path: Path) -> None:
    bench_engine(str(tiny_world_dir), tmp_path / "bench.json", sizes=(1, 2), num_steps=2)
    rows = json.loads((tmp_path / "bench.json").read_text())["timing"]
    assert [row["num_envs"] for row in rows] == [1, 2]
    for row in rows:
        assert row["frames_per_s"] == pytest.approx(16 * row["env_steps_per_s"], rel=0.01)
        assert 0 < row["latency_ms_p50"] <= row["latency_ms_p95"]


def test_a_rollout_pads_to_whole_chunks(tiny_world_dir: Path, tmp_path: Path) -> None:
    run_rollout(str(tiny_world_dir), "w-3, right-2", tmp_path / "walk.mp4", start=0, seed=0, memory="auto")
    assert len(iio.imread(tmp_path / "walk.mp4")) == 1 + 8 * 4


def test_a_bad_pose_string_writes_nothing(tiny_world_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fly"):
        run_rollout(str(tiny_world_dir), "fly-3", tmp_path / "walk.mp4", start=0, seed=0, memory="auto")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def camera_path(tmp_path: Path) -> Path:
    """Six poses: five steps forward, turning."""
    start = torch.eye(4, dtype=torch.float64)
    c2w = torch.cat([start[None], keys_to_c2w(parse_pose_string("w+right-5"), start, move=0.08, turn_deg=3.0)])
    K = torch.tensor([[0.5, 0, 0.5], [0, 0.6, 0.5], [0, 0, 1]], dtype=torch.float64).expand(len(c2w), 3, 3)
    write_worldplay(tmp_path / "path.json", Trajectory(c2w, K))
    return tmp_path / "path.json"


def test_a_rollout_follows_a_camera_path_from_a_picture(
    tiny_world_dir: Path, camera_path: Path, tmp_path: Path
) -> None:
    iio.imwrite(tmp_path / "start.png", np.full((100, 80, 3), 200, np.uint8))
    video = tmp_path / "walk.mp4"
    run_rollout(str(tiny_world_dir), str(camera_path), video, start=0, seed=0, memory="auto",
                image=tmp_path / "start.png")  # fmt: skip
    frames = iio.imread(video)
    assert len(frames) == 1 + 2 * 16  # five poses after the first, padded to two chunks
    assert frames[0].mean() == pytest.approx(200, abs=4)
    with pytest.raises(ValueError, match="no readable picture"):
        run_rollout(str(tiny_world_dir), "w-4", video, start=0, seed=0, memory="auto", image=camera_path)


def test_a_rollout_of_a_release_has_its_start_view_in_the_first_chunk(
    release_dir: Path, camera_path: Path, tmp_path: Path
) -> None:
    video, text = tmp_path / "walk.mp4", str(release_dir / "text.safetensors")
    run_rollout(str(release_dir), str(camera_path), video, start=0, seed=0, memory="auto", prompt=text)
    assert len(iio.imread(video)) == 13 + 16  # six latents, padded to two chunks; the first frame is invented
    with pytest.raises(ValueError, match="no text_encoder folder"):
        run_rollout(str(release_dir), "w-7", video, start=0, seed=0, memory="auto", prompt="never encoded")
