"""A teacher as an arm: segments given the truth before them and what the segments before them became."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from worldenv.eval.suites.arms import Progress
from worldenv.eval.suites.teacher import JointArm
from worldenv.training.segments import Segment, Segments
from worldenv.world.world import World


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Segment, torch.Tensor]]:
    """The segments that are denoised, each with what becomes of it."""
    found: list[tuple[Segment, torch.Tensor]] = []
    generate = Segments.generate_joint

    def spying(stage: Segments, dit: Any, segment: Segment, generator: torch.Generator) -> torch.Tensor:
        made = generate(stage, dit, segment, generator)
        found.append((segment, made))
        return made

    monkeypatch.setattr(Segments, "generate_joint", spying)
    return found


def test_segments_go_on_from_what_is_given_and_from_each_other(
    noise_cases: Any, tiny_world: World, seen: list[tuple[Segment, torch.Tensor]]
) -> None:
    cases = noise_cases(["circle", "explore"], 6, size=(48, 64))
    ticks: list[int] = []
    progress = Progress(lambda: ticks.append(1), [])
    frames = JointArm(tiny_world, given=1, num_chunks=4)(cases, progress)
    assert frames.shape == cases.frames.shape
    assert (progress.given_frames, len(ticks)) == (16, 5)
    assert torch.equal(frames[:, :17], cases.frames[:, :17])
    assert not torch.equal(frames[:, 17:], cases.frames[:, 17:])
    (first, made), (last, rest) = seen
    assert (first.first.tolist(), last.first.tolist()) == ([5, 5], [21, 21])
    assert (made.shape[1], rest.shape[1]) == (16, 4), "the last one is as long as the path"
    assert torch.equal(last.bank.latents[:, 5:21], made)
    assert torch.equal(last.bank.latents[:, :5], first.bank.latents[:, :5])


def test_the_truth_of_what_is_made_is_not_seen(noise_cases: Any, tiny_world: World) -> None:
    cases, arm = noise_cases(["circle"], 5, size=(48, 64)), JointArm(tiny_world, given=1)
    made = arm(cases, Progress())
    for frame, matters in ((10, True), (40, False)):
        frames = cases.frames.clone()
        frames[:, frame - 3 : frame + 4] = 0
        other = arm(replace(cases, frames=frames), Progress())
        assert torch.equal(other[:, 17:], made[:, 17:]) != matters
