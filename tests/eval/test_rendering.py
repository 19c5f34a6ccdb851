"""What rendered memory is worth: arms with it, with it alone, with wrong depth, and without a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.eval.test_commands import run
from worldenv.bench import rendering as bench
from worldenv.cli import main
from worldenv.dynamics.signals import Track
from worldenv.eval.suites.arms import Progress, WorldArm, disturbed, memory_arms, newest_only, rendering_arms, splat_arm
from worldenv.eval.suites.cases import make_cases
from worldenv.eval.suites.depth import run_depth, true_depth
from worldenv.memory.context import Context
from worldenv.world.world import World

ARMS = {
    "worldplay_rendered",
    "worldplay",
    "none",
    "rendered_alone",
    "depth_noise_1",
    "depth_noise_2",
    "depth_noise_4",
    "splat_only",
    "vae",
    "simulator",
}


def test_arms_are_rendered_where_their_name_says_so(tiny_world: World, rendered_world: World) -> None:
    names = ("worldplay_rendered", "worldplay", "worldscape_4")
    arms = memory_arms(rendered_world, names)
    assert [arm.memory.render for arm in arms.values() if isinstance(arm, WorldArm)] == [True, False, False]
    assert list(memory_arms(tiny_world, names)) == ["worldplay", "worldscape_4"], "a world without a head has none"


@pytest.mark.usefixtures("sims")
def test_the_suite_shows_every_arm_and_what_each_is_worth(rendered_world: World, tmp_path: Path) -> None:
    report = run(rendered_world, "rendering", tmp_path / "out", num_chunks=6)
    assert set(report["arms"]) == ARMS
    pairs = set(report["differences"])
    assert {f"worldplay_rendered - {other}" for other in ("worldplay", "none", "rendered_alone", "splat_only")} <= pairs
    assert {"worldplay - none", "worldplay - rendered_alone"} <= pairs
    assert "seen_psnr" in report["arms"]["splat_only"]


@pytest.mark.usefixtures("sims")
def test_rendering_arms_differ_in_what_they_say(rendered_world: World) -> None:
    cases = make_cases(rendered_world.spec, [950_100], ["turn"], 5)
    own = {**memory_arms(rendered_world, ("worldplay_rendered", "worldplay")), **rendering_arms(rendered_world)}
    shown = {name: make(cases, Progress()) for name, make in own.items()}
    again = own["depth_noise_2"](cases, Progress())
    assert torch.equal(shown["depth_noise_2"], again), "noise follows from the cases"
    frames = list(shown.values())
    for i, a in enumerate(frames):
        for b in frames[:i]:
            assert not torch.equal(a, b)


@pytest.mark.usefixtures("sims")
def test_a_splat_shows_the_start_view_from_where_it_was_taken(rendered_world: World) -> None:
    """Then grey where nothing is known: behind its back there is nothing."""
    cases = make_cases(rendered_world.spec, [950_100], ["turn"], 6)
    frames = splat_arm(rendered_world)(cases, Progress())
    assert frames.shape == cases.frames.shape
    assert torch.equal(frames[:, 0], cases.frames[:, 0])
    behind = cases.c2w.shape[1] // 2 * 4
    assert bool(((frames[0, behind].int() - 128).abs() <= 1).all())


def test_hiding_and_disturbing() -> None:
    entry = torch.tensor([[-1, 1, 2, 3]])
    track = Track(keys=torch.zeros(1, 4, 2, dtype=torch.long), c2w=torch.zeros(1, 4, 4, 4))
    context = Context(torch.zeros(1, 4, 1, 1, 1), track, entry)
    assert newest_only(context, count=2).entry.tolist() == [[-1, -1, 2, 3]]
    depth, error = torch.full((2, 16, 24), 3.0), torch.full((2, 16, 24), 0.1)
    spread = []
    for times in (1.0, 4.0):
        noisy = disturbed(depth, error, times=times, generator=torch.Generator().manual_seed(0))
        spread.append(float((noisy / depth).log().std()))
    assert 0.02 < spread[0] < 0.2
    assert spread[1] == pytest.approx(4 * spread[0], rel=1e-3)


def test_bench_rendering_steps_all_ways_in_turn(
    rendered_world: World, tiny_world_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "FULL", 1)
    monkeypatch.setattr(bench, "WARM_UP", 1)
    world = World(
        replace(rendered_world.config, name="bench"),
        vae=rendered_world.vae,
        dit=rendered_world.dit,
        heads=rendered_world.heads,
        starts=rendered_world.starts,
    )
    world.save_pretrained(tmp_path / "world")
    out = tmp_path / "bench.json"
    command = ["worldenv", "bench", "rendering", "--envs", "1", "2", "--steps", "2", "--out", str(out)]
    monkeypatch.setattr("sys.argv", [*command, "--world", str(tmp_path / "world")])
    main()
    rows = json.loads(out.read_text())["timing"]
    assert [row["num_envs"] for row in rows] == [1, 2]
    assert all(row[f"{way}times_longer_p50"] > 0 for row in rows for way in ("", "walled_"))
    with pytest.raises(ValueError, match="has no depth head"):
        bench.bench_rendering(str(tiny_world_dir), out, sizes=(1,), num_steps=1)


@pytest.mark.usefixtures("sims")
def test_the_depth_suite_compares_with_the_simulator(rendered_world: World, tiny_world: World, tmp_path: Path) -> None:
    run_depth(rendered_world, tmp_path, num_worlds=5, first_seed=950_100)
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["arms"]) == ["simulator", "vae", "worldplay_rendered", "worldplay"]
    for metrics in report["arms"].values():
        assert {"depth_error", "depth_error_seen", "depth_error_of_frames", "depth_error_expected"} <= set(metrics)
        assert {f"reprojection_{what}_{gap}" for what in ("psnr", "depth") for gap in (1, 4)} <= set(metrics)
        assert metrics["depth_error"]["mean"] > 0.05, "random weights know no depth"
    with pytest.raises(ValueError, match="worldenv train heads"):
        run_depth(tiny_world, tmp_path, num_worlds=1, first_seed=950_100)


@pytest.mark.usefixtures("sims")
def test_true_depth_is_that_of_the_recorded_views(rendered_world: World) -> None:
    """What a head that knew everything would be scored: 0."""
    from worldenv.sims import DoomDynamics

    cases = make_cases(rendered_world.spec, [950_100], ["turn"], 2, depth=True)
    truth = true_depth(rendered_world, cases)
    dynamics = DoomDynamics(1, spec=rendered_world.spec)
    dynamics.reset(seeds=[0], starts=[950_100])
    dynamics.follow(cases.start_c2w[:, None])
    seen = dynamics.follow(cases.c2w).signals["depth"]
    dynamics.close()
    torch.testing.assert_close(truth, seen[:, 3::4].float(), atol=0.02, rtol=0.02)
