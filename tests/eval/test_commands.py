"""The commands that write reports, on a tiny world: what they leave behind, and that results repeat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from worldenv.bench.backends import REFERENCE, WAYS, Way, bench_backends
from worldenv.bench.engine import bench_engine
from worldenv.bench.training import bench_training
from worldenv.dynamics.spec import WorldSpec
from worldenv.eval.motion import PoseEstimator
from worldenv.eval.suites.evaluate import run_suite, run_world
from worldenv.eval.suites.reconstruction import run_reconstruction
from worldenv.eval.suites.registry import RUNS, suite_cases
from worldenv.geometry.action import keys_to_c2w
from worldenv.geometry.pose_string import parse_pose_string
from worldenv.play.walk import run_rollout
from worldenv.world.world import World

CONTROLS = {"frozen", "last_frame", "blur", "vae", "simulator"}
ARMS = {"worldplay", "recent", "random", "none", "swapped", "shuffled_actions", *CONTROLS}


def run(world: World, suite: str, out: Path, **options: int) -> dict[str, Any]:
    """Run a suite at its smallest."""
    out.mkdir()
    run_world(suite, world, out, **{"num_worlds": 2, **options})
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    assert (out / "trajectories.csv").read_text().count("\n") == 1 + 2 * len(report["arms"])
    assert not (out / "parts").exists()
    return report


@pytest.mark.usefixtures("sims")
def test_revisit_writes_a_report(tiny_world: World, tmp_path: Path) -> None:
    report = run(tiny_world, "revisit", tmp_path / "a", num_chunks=10)
    arms = report["arms"]
    assert set(arms) == ARMS
    for metrics in arms.values():
        assert {"return_psnr_self", "return_psnr_gt", "motion_ratio", "seen_psnr", "memory_symmetry"} <= set(metrics)
        assert all(m["ci95"][0] <= m["mean"] <= m["ci95"][1] for m in metrics.values())
    # The simulator shows the same place the same way; a frozen picture is always like itself and never moves.
    assert arms["simulator"]["return_psnr_gt"]["mean"] == 60
    assert arms["simulator"]["return_psnr_self"]["mean"] > 33
    assert arms["frozen"]["return_psnr_self"]["mean"] == 60
    assert arms["frozen"]["memory_symmetry"]["mean"] == 1
    assert arms["frozen"]["motion_ratio"]["mean"] == 0
    # The camera's motion is there in true frames, and only there with the commands that made it.
    assert arms["simulator"]["action_score"]["mean"] > 0.85
    assert arms["frozen"]["action_score"]["mean"] < 0.1
    assert arms["simulator"]["action_score_return_gap4"]["mean"] > 0.8
    assert arms["frozen"]["action_score_return_gap4"]["mean"] < 0.1
    assert arms["simulator"]["frechet_pose_features"] == {"mean": 0.0, "ci95": [0.0, 0.0], "n": 2}
    assert arms["frozen"]["frechet_pose_features_unseen"]["mean"] > 0
    assert "frechet_pose_features" in report["differences"]["worldplay - frozen"]
    assert report["floor"]["pose"]["truth"]["latent_rotation_deg_median"] < 0.5
    assert "lpips" in report["skipped"]
    page = (tmp_path / "a" / "report.md").read_text()
    assert "frozen (invalid)" in page
    assert "simulator (invalid)" not in page
    assert report["seeds"] == [900_000, 900_001]
    assert report["cases"] == "maps of revisit-v1, other paths"
    assert {"frames_per_s", "pixel_throughput", "latency_ms_p95", "num_envs"} <= set(report["timing"])
    for name in ("contact.png", "over_time.png", "means.png", "memory_map.png"):
        assert iio.imread(tmp_path / "a" / name).ndim == 3, name
    assert len(iio.imread(tmp_path / "a" / "revisit.mp4")) == 1 + 10 * 16


@pytest.mark.usefixtures("sims")
def test_the_short_term_suite_scores_61_frames_of_published_cases(tiny_world: World, tmp_path: Path) -> None:
    report, again = (run(tiny_world, "short_term", tmp_path / name) for name in ("a", "b"))
    assert report["arms"] == again["arms"], "results repeat"
    assert report["differences"] == again["differences"]
    assert report["cases"] == "revisit-v1"
    assert set(report["arms"]) == {"worldplay", "none", "shuffled_actions", *CONTROLS}
    assert report["arms"]["simulator"]["ssim"]["mean"] == 1
    assert {"psnr", "ssim", "seen_psnr", "unseen_psnr"} <= set(report["arms"]["worldplay"])
    assert "return_psnr_self" not in report["arms"]["worldplay"]


@pytest.mark.usefixtures("sims")
def test_the_drift_suite_compares_early_and_late_chunks(tiny_world: World, tmp_path: Path) -> None:
    arms = run(tiny_world, "drift", tmp_path / "out", num_chunks=10, first_seed=930_000)["arms"]
    assert set(arms) == {"worldplay", "worldscape", "none", "frozen", "simulator"}
    assert arms["simulator"]["sharpness_drift"]["mean"] == pytest.approx(0, abs=0.5)
    assert arms["simulator"]["contrast_ratio_drift"]["mean"] == 0
    assert "contrast_ratio_late" in arms["worldplay"]
    late, early = (arms["worldplay"][f"frechet_pose_features_{age}"]["mean"] for age in ("late", "early"))
    assert arms["worldplay"]["frechet_pose_features_drift"]["mean"] == pytest.approx(late - early, abs=2e-4)


@pytest.mark.usefixtures("sims")
def test_the_memory_suite_compares_every_policy(
    tiny_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with frames that the pose network was not made for: its metrics are named as skipped, with the reason."""

    def refuse(**_: object) -> None:
        raise ValueError("the pose network needs other frames")

    monkeypatch.setattr(PoseEstimator, "load", refuse)
    report = run(tiny_world, "memory", tmp_path / "out", num_chunks=10)
    pools = {f"worldscape_{n}" for n in (2, 4, 8, 16, "unlimited")}
    assert set(report["arms"]) == {"worldplay", "worldscape", "recent", "random", "none", "oracle", "simulator"} | pools
    assert "return_psnr_gt_far" in report["differences"]["oracle - recent"]
    assert "recent - recent" not in report["differences"]
    assert report["skipped"]["action_score"] == "the pose network needs other frames"
    assert "action_score" not in report["arms"]["worldplay"]


@pytest.mark.usefixtures("sims")
def test_the_demo_leaves_what_it_promises(tiny_world_dir: Path, tmp_path: Path) -> None:
    run_suite("demo", str(tiny_world_dir), tmp_path, num_worlds=2, num_chunks=6)
    report = json.loads((tmp_path / "report.json").read_text())
    assert {"worldplay", "recent", "none", "random", "frozen", "continued"} <= set(report["arms"])
    assert report["timing"]["env_steps_per_s"] > 0
    for metrics in report["arms"].values():
        assert {"return_psnr_self", "return_psnr_gt", "motion_ratio"} <= set(metrics)
    assert {"demo.mp4", "contact.png", "report.json", "report.md"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.usefixtures("sims")
def test_reports_say_how_a_world_was_computed(tiny_world_dir: Path, tmp_path: Path) -> None:
    run_suite("reconstruction", str(tiny_world_dir), tmp_path, num_worlds=1)
    world = json.loads((tmp_path / "report.json").read_text())["world"]
    assert set(world) == {"name", "sha256", "computation"}
    _, backend = world["computation"].split()
    assert backend in ("torch", "onednn"), "what ran, not what was asked for"


@pytest.mark.parametrize("count", [0, -3])
def test_a_suite_needs_a_case(tiny_world: World, tmp_path: Path, count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} worlds asked for"):
        run_world("short_term", tiny_world, tmp_path, num_worlds=count)


def test_worlds_that_begin_inside_a_chunk_are_refused(release_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="part of its first chunk"):
        run_suite("revisit", str(release_dir), tmp_path, num_worlds=1)


@pytest.mark.usefixtures("sims")
def test_maps_of_the_training_are_pointed_out(capsys: pytest.CaptureFixture[str]) -> None:
    _, source = suite_cases(RUNS["short_term"], WorldSpec(), 1, 5)
    assert source == "other seeds"
    assert "are those that worlds are trained on" in capsys.readouterr().err


def test_more_cases_than_are_published_are_refused(tiny_world: World, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lists 64 cases of revisit; draw others with --first-seed"):
        run_world("revisit", tiny_world, tmp_path, num_worlds=65)


@pytest.mark.usefixtures("sims")
def test_reconstruction_scores_the_vae(tiny_world: World, tmp_path: Path) -> None:
    tmp_path.mkdir(exist_ok=True)
    run_reconstruction(tiny_world, tmp_path, num_worlds=1, first_seed=900_000)
    metrics = json.loads((tmp_path / "report.json").read_text())["arms"]["vae"]
    assert 0 < metrics["psnr"]["mean"] < 30, "random weights reconstruct nothing well"


def test_bench_backends_pairs_every_way_with_the_reference(tiny_world_dir: Path, tmp_path: Path) -> None:
    bench_backends(str(tiny_world_dir), tmp_path / "bench.json", sizes=(1, 2), num_steps=2)
    rows = json.loads((tmp_path / "bench.json").read_text())["timing"]
    assert [r["num_envs"] for r in rows] == [1] * len(WAYS) + [2] * len(WAYS)
    for row in rows:
        same = Way(row["dtype"], row["backend"], row["capture"]) == REFERENCE
        assert not same or row["times_faster_p50"] == 1
        assert (row["first_chunk_psnr"] is None) == same
        assert same or 20 < row["first_chunk_psnr"] < 60


@pytest.fixture
def fresh_accelerator() -> Iterator[None]:
    """Let a benchmark ask for its own precision, and no other test in this process find that."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


@pytest.mark.usefixtures("fresh_accelerator")
def test_bench_training_pairs_steps_of_equal_losses(tmp_path: Path) -> None:
    bench_training(tmp_path / "bench.json", name="tiny", sizes=(4,), num_steps=2)
    rows = json.loads((tmp_path / "bench.json").read_text())["timing"]
    assert [row["step"] for row in rows] == ["memory", "cached", "causal"]
    for row in rows:
        assert 0 < row["times_faster_p20"] <= row["times_faster_p50"] <= row["times_faster_p80"]
        assert row["loss_apart"] < 0.01
    with pytest.raises(ValueError, match="no preset 'huge'; choose one of tiny"):
        bench_training(tmp_path / "bench.json", name="huge", sizes=(4,), num_steps=2)


@pytest.mark.parametrize("decode", [True, False])
def test_bench_reports_every_batch_size(tiny_world_dir: Path, tmp_path: Path, decode: bool) -> None:
    bench_engine(str(tiny_world_dir), tmp_path / "bench.json", sizes=(1, 2), num_steps=2, decode=decode)
    rows = json.loads((tmp_path / "bench.json").read_text())["timing"]
    assert [row["num_envs"] for row in rows] == [1, 2]
    for row in rows:
        assert row["frames_per_s"] == pytest.approx(16 * row["env_steps_per_s"], rel=0.01)
        assert 0 < row["latency_ms_p50"] <= row["latency_ms_p95"]


def test_a_rollout_pads_to_whole_chunks(tiny_world_dir: Path, tmp_path: Path) -> None:
    run_rollout(str(tiny_world_dir), "w-3, right-2", tmp_path / "walk.mp4", start=0, seed=0, memory="auto")
    assert len(iio.imread(tmp_path / "walk.mp4")) == 1 + 8 * 4


def test_a_rollout_on_a_full_disk_is_an_error(tiny_world_dir: Path, tmp_path: Path, full_disk: Any) -> None:
    with full_disk(2000), pytest.raises(OSError, match=r"walk\.mp4: could not be written .*; is the disk full"):
        run_rollout(str(tiny_world_dir), "w-8", tmp_path / "walk.mp4", start=0, seed=0, memory="auto")
    assert not list(tmp_path.iterdir())


def test_a_bad_pose_string_writes_nothing(tiny_world_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fly"):
        run_rollout(str(tiny_world_dir), "fly-3", tmp_path / "walk.mp4", start=0, seed=0, memory="auto")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def camera_path(tmp_path: Path) -> Path:
    """Six poses: five steps forward, turning."""
    start = torch.eye(4, dtype=torch.float64)
    c2w = torch.cat([start[None], keys_to_c2w(parse_pose_string("w+right-5"), start, move=0.08, turn_deg=3.0)])
    path, K = tmp_path / "path.json", [[960, 0, 960], [0, 648, 540], [0, 0, 1]]
    path.write_text(json.dumps({i: {"extrinsic": pose.tolist(), "K": K} for i, pose in enumerate(c2w)}))
    return path


def test_a_rollout_follows_a_camera_path_from_a_picture(
    tiny_world_dir: Path, camera_path: Path, tmp_path: Path
) -> None:
    iio.imwrite(tmp_path / "start.png", np.full((100, 80, 3), 200, np.uint8))
    video = tmp_path / "walk.mp4"
    run_rollout(
        str(tiny_world_dir), str(camera_path), video, start=0, seed=0, memory="auto", image=tmp_path / "start.png"
    )
    frames = iio.imread(video)
    assert len(frames) == 1 + 2 * 16  # five poses after the first, padded to two chunks
    assert frames[0].mean() == pytest.approx(200, abs=4)
    with pytest.raises(ValueError, match="cannot be read as a picture"):
        run_rollout(str(tiny_world_dir), "w-4", video, start=0, seed=0, memory="auto", image=camera_path)


def test_a_rollout_of_a_release_has_its_start_view_in_the_first_chunk(
    release_dir: Path, camera_path: Path, tmp_path: Path
) -> None:
    video, text = tmp_path / "walk.mp4", str(release_dir / "text.safetensors")
    run_rollout(str(release_dir), str(camera_path), video, start=0, seed=0, memory="auto", prompt=text)
    assert len(iio.imread(video)) == 13 + 16  # six latents, padded to two chunks; the first frame is invented
    with pytest.raises(ValueError, match="no text_encoder folder"):
        run_rollout(str(release_dir), "w-7", video, start=0, seed=0, memory="auto", prompt="never encoded")
