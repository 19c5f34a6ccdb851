import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from worldenv.bench import rolling as bench
from worldenv.cli import main
from worldenv.memory.config import with_policy
from worldenv.training.segments import joint_index
from worldenv.world.world import World


@pytest.mark.parametrize("trained", [False, True])
def test_both_policies_are_measured_against_the_teachers(
    tiny_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: bool
) -> None:
    sampler = replace(tiny_world.config.sampler, stochastic=trained, rolling=trained)
    World(
        replace(tiny_world.config, sampler=sampler), vae=tiny_world.vae, dit=tiny_world.dit, starts=tiny_world.starts
    ).save_pretrained(tmp_path / "world")
    monkeypatch.setattr(bench, "WARM_UP", 2)
    monkeypatch.setattr(bench, "EPISODES", 2)
    command = [
        "worldenv",
        "bench",
        "rolling",
        "--world",
        str(tmp_path / "world"),
        "--envs",
        "2",
        "--steps",
        "2",
        "--teacher-steps",
        "6",
        "9",
        "--out",
        str(tmp_path / "bench.json"),
    ]
    monkeypatch.setattr("sys.argv", command)
    main()
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["trained_for_it"] == trained
    timing, response = report["timing"], report["response"]
    assert {way: (row["chunks_per_step"], row["passes"], row["changed_passes"]) for way, row in timing.items()} == {
        "hold": (1, 1, 1),
        "reset": (1, 1, 4),
        "chunk": (1, 4, 4),
        "many_steps_6": (1, 6, 6),
        "joint_teacher_6": (4, 6, 6),
        "many_steps_9": (1, 9, 9),
        "joint_teacher_9": (4, 9, 9),
    }
    for row in timing.values():
        assert row["chunks_per_step"] * row["chunk_ms"] >= row["first_frames_ms"] > 0
        assert row["times_hold"] > 0
    assert [timing[way]["begun_before_chunks"] for way in bench.ANSWERING] == [3, 0, 0]
    assert list(response) == list(bench.ANSWERING)
    for way, row in response.items():
        full = response["chunk"]["rms_apart"]
        assert row["share_of_chunk"] == pytest.approx([a / b for a, b in zip(row["rms_apart"], full)], rel=2e-2)
        assert len(row["share_of_chunk"]) == 5
        assert timing[way]["action_to_photon_chunks"] == row["chunks"] == bench.obeyed_after(row["share_of_chunk"])
        assert (timing[way]["action_to_photon_ms"] is None) == (row["chunks"] is None)
    assert response["chunk"]["chunks"] == 0


@pytest.mark.parametrize(
    ("share", "late"),
    [
        ([0.9, 1.2, 0.95], 0),
        ([0.4, 0.9, 1.0], 1),
        ([0.4, 0.931, 0.872], None),
        ([0.95, 0.5, 0.93], 2),
        ([0.1, 0.2, 0.899], None),
    ],
)
def test_only_a_response_that_stays_is_obeyed(share: list[float], late: int | None) -> None:
    assert bench.obeyed_after(share) == late


def test_a_chunk_that_was_begun_for_another_action_answers_less(tiny_world: World) -> None:
    """The blocks on their way keep part of what they were: with hold the response grows, with reset it is there."""
    response = bench._response(tiny_world, bench.ways(tiny_world.config.sampler, [16]))
    hold, reset = (response[way]["share_of_chunk"] for way in ("hold", "reset"))
    assert hold[0] < 0.9 * min(hold[3:])
    assert hold[0] < 0.9 * reset[0]
    assert response["chunk"]["share_of_chunk"] == [1] * 5


@pytest.mark.parametrize("policy", ["worldplay", "worldscape"])
def test_the_joint_teacher_denoises_four_chunks_against_all_that_they_see(tiny_world: World, policy: str) -> None:
    config = replace(tiny_world.config, memory=with_policy(tiny_world.config.memory, policy))
    world = World(config, vae=tiny_world.vae, dit=tiny_world.dit, starts=tiny_world.starts)
    shapes = []

    def note(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        shapes.append((args[0].shape[1], kwargs["mask"].shape[2]))

    engine = bench._begun(world, 1, bench.ways(config.sampler, [6])["joint_teacher_6"])
    handle = world.dit.register_forward_pre_hook(note, with_kwargs=True)
    engine.generate(bench.command(engine, torch.tensor([bench.AHEAD])))
    handle.remove()
    chunk, recent, first = world.spec.chunk_latents, config.memory.temporal_latents, 101
    seen = []
    for i in range(4):  # each chunk retrieves another one
        now, past = first + chunk * i, torch.arange(chunk) + 1 + 20 * i
        seen.append(torch.cat([past, torch.arange(now - recent, now)])[None])
    union = joint_index(seen, torch.tensor([first])).shape[1]
    assert shapes == [(4 * chunk, union + 4 * chunk)] * 6


def test_a_teacher_takes_more_steps_than_the_window(tiny_world_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="teacher_steps=4"):
        bench.bench_rolling(
            tmp_path / "b.json", name=str(tiny_world_dir), num_envs=1, num_steps=1, teacher_steps=(16, 4)
        )
