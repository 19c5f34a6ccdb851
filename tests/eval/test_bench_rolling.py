import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from worldenv.cli import main
from worldenv.engine.world import World
from worldenv.eval import bench_rolling as bench


@pytest.mark.parametrize("trained", [False, True])
def test_both_policies_are_measured_against_the_teacher(
    tiny_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: bool
) -> None:
    sampler = replace(tiny_world.config.sampler, stochastic=trained, rolling=trained)
    World(
        replace(tiny_world.config, sampler=sampler), vae=tiny_world.vae, dit=tiny_world.dit, starts=tiny_world.starts
    ).save_pretrained(tmp_path / "world")
    monkeypatch.setattr(bench, "WARM_UP", 2)
    monkeypatch.setattr(bench, "EPISODES", 2)
    command = ["worldenv", "bench", "rolling", "--world", str(tmp_path / "world"), "--envs", "2", "--steps", "2",
               "--teacher-steps", "6", "--out", str(tmp_path / "bench.json")]  # fmt: skip
    monkeypatch.setattr("sys.argv", command)
    main()
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["trained_for_it"] == trained
    passes = {arm: (row["passes"], row["changed_passes"]) for arm, row in report["timing"].items()}
    assert passes == {"hold": (1, 1), "reset": (1, 4), "chunk": (4, 4), "teacher": (6, 6)}
    for row in report["timing"].values():
        assert row["step_ms"] >= row["first_frames_ms"] > 0
    assert report["timing"]["reset"]["action_to_photon_chunks"] == 0
    assert report["timing"]["reset"]["action_to_photon_ms"] > 0
    assert [report["timing"][policy]["begun_before_chunks"] for policy in ("hold", "reset")] == [3, 0]
    share = report["response"]["hold"]["share_of_reset"]
    assert len(share) == 5
    assert report["response"]["reset"]["share_of_reset"] == [1] * 5
    late = report["response"]["hold"]["chunks"]
    assert late is None or (share[late] >= bench.OBEYED > max(share[:late], default=0))
    assert report["speedup_over_teacher"] > 0


def test_a_chunk_that_was_begun_for_another_action_answers_less(tiny_world: World) -> None:
    """The blocks on their way keep part of what they were: with hold the response grows, with reset it is there."""
    arms = bench.samplers(tiny_world.config.sampler, 16)
    response = bench._response(tiny_world, arms)
    share = response["hold"]["share_of_reset"]
    assert share[0] < 0.9 * min(share[3:])
    assert torch.tensor(response["reset"]["rms_apart"]).min() > 0


def test_a_teacher_takes_more_steps_than_the_window(tiny_world_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="teacher_steps=4"):
        bench.bench_rolling(tmp_path / "b.json", name=str(tiny_world_dir), num_envs=1, num_steps=1, teacher_steps=4)
