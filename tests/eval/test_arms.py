from dataclasses import replace

import pytest
import torch

from worldenv.dynamics.signals import Track
from worldenv.dynamics.spec import WorldSpec
from worldenv.eval.suites.arms import (
    Progress,
    WorldArm,
    blurred,
    control_arms,
    doubted,
    memory_arms,
    swap_memory,
    with_other_actions,
)
from worldenv.memory.config import MemoryConfig
from worldenv.memory.context import Context
from worldenv.world.world import World


def test_arms_share_start_noise_and_path(noise_cases, tiny_world: World) -> None:  # type: ignore[no-untyped-def]
    cases = noise_cases(["circle", "explore"], 6, size=(48, 64))
    arms = memory_arms(tiny_world, ("worldplay", "none"))
    one, again, other = (arms[name](cases, Progress()) for name in ("worldplay", "worldplay", "none"))
    assert one.shape == cases.frames.shape
    assert torch.equal(one, again)
    assert torch.equal(one[:, 0], cases.frames[:, 0])
    assert torch.equal(one[:, :17], other[:, :17]), "nothing to remember yet"
    assert not torch.equal(one, other)
    swapped = doubted(tiny_world)["swapped"](cases, Progress())
    assert torch.equal(swapped[:, :49], one[:, :49])
    assert not torch.equal(swapped, one)


def test_a_chunks_noise_does_not_depend_on_what_came_before(noise_cases, tiny_world: World) -> None:  # type: ignore[no-untyped-def]
    """The same case in another batch, beside others: the same frames, up to the batch's rounding."""
    cases = noise_cases(["circle", "explore", "turn"], 2, size=(48, 64))
    arm = memory_arms(tiny_world, ("worldplay",))["worldplay"]
    whole, part = arm(cases, Progress()), arm(cases.rows(slice(1, 3)), Progress())
    assert (whole[1:, :17].int() - part[:, :17].int()).abs().max() <= 2


def test_given_chunks_are_remembered_as_they_truly_were(noise_cases, tiny_world: World) -> None:  # type: ignore[no-untyped-def]
    """Other true pictures of the given chunks make another rest; the rest's own truth is never seen."""
    cases = noise_cases(["circle", "explore"], 4, size=(48, 64))
    ticks: list[int] = []
    arm, progress = WorldArm(tiny_world, tiny_world.config.memory, given=2), Progress(lambda: ticks.append(1))
    made = arm(cases, progress)
    assert made.shape == cases.frames.shape
    assert progress.given_frames == 32
    assert len(ticks) == 2
    assert torch.equal(made[:, :33], cases.frames[:, :33])
    for frame, matters in ((20, True), (40, False)):
        frames = cases.frames.clone()
        frames[:, frame - 3 : frame + 4] = 0
        other = arm(replace(cases, frames=frames), Progress())
        assert torch.equal(other[:, 33:], made[:, 33:]) != matters


def test_every_chunk_is_counted_and_timed(noise_cases, tiny_world: World) -> None:  # type: ignore[no-untyped-def]
    ticks: list[int] = []
    progress = Progress(lambda: ticks.append(1), [])
    memory_arms(tiny_world, ("none",))["none"](noise_cases(["explore"], 3, size=(48, 64)), progress)
    assert len(ticks) == 3
    assert progress.seconds is not None
    assert len(progress.seconds) == 3


def test_arms_are_named_by_policy_and_budget(tiny_world: World) -> None:
    arms = memory_arms(tiny_world, ("worldplay", "worldscape", "worldscape_4", "worldscape_unlimited"))
    made = {name: arm.memory for name, arm in arms.items() if isinstance(arm, WorldArm)}
    assert [m.policy for m in made.values()] == ["worldplay", *["worldscape"] * 3]
    own = tiny_world.config.memory.pool_entries
    assert [made[name].pool_entries for name in arms if "scape" in name] == [own, 4, 0]


def test_controls_are_what_they_say(noise_cases) -> None:  # type: ignore[no-untyped-def]
    cases = noise_cases(["out_and_back"], 4, size=(16, 16))
    arms, frames = control_arms(WorldSpec()), cases.frames
    frozen, last, blur = (arms[name](cases, Progress()) for name in ("frozen", "last_frame", "blur"))
    assert (frozen == frames[:, :1]).all()
    assert torch.equal(last[:, 1:17], frames[:, :1].expand(-1, 16, -1, -1, -1))
    assert torch.equal(last[:, 17:33], frames[:, 16:17].expand(-1, 16, -1, -1, -1))
    assert blur.float().std() < 0.5 * frames.float().std()
    assert blur.float().mean() == pytest.approx(float(frames.float().mean()), abs=1)
    assert blurred(torch.full_like(frames, 7)).unique().tolist() == [7]


def test_other_actions_are_the_next_cases_at_ones_own_start(noise_cases) -> None:  # type: ignore[no-untyped-def]
    cases = noise_cases(["circle", "explore"], 1)
    other = with_other_actions(cases)
    wanted = cases.start_c2w[0] @ torch.linalg.inv(cases.start_c2w[1]) @ cases.c2w[1]
    torch.testing.assert_close(other.c2w[0], wanted)
    assert torch.equal(other.keys, cases.keys.roll(1, 0))


def test_an_oracle_needs_depth(noise_cases, tiny_world: World) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="depth=True"):
        memory_arms(tiny_world, ("oracle",))["oracle"](noise_cases(["turn"], 1, size=(48, 64)), Progress())


def test_swapping_memory_changes_only_the_pictures_in_the_retrieved_slots() -> None:
    latents = torch.arange(3 * 6.0).view(3, 6, 1, 1, 1)
    poses = torch.eye(4, dtype=torch.float64).expand(3, 6, 4, 4)
    track = Track(keys=torch.zeros(3, 6, 2, dtype=torch.long), c2w=poses)
    context = Context(latents, track, torch.arange(6).expand(3, 6))
    swapped = swap_memory(MemoryConfig(temporal_latents=4))(context)
    assert swapped.latents[:, :2, 0, 0, 0].tolist() == [[12, 13], [0, 1], [6, 7]]
    assert torch.equal(swapped.latents[:, 2:], latents[:, 2:])
    assert torch.equal(swapped.track["c2w"], poses)
