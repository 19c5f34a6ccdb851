import json
from pathlib import Path

import numpy as np
import pytest
import torch

from worldenv.base.dynamics import Actions, WorldSpec
from worldenv.engine.engine import Engine
from worldenv.engine.world import World
from worldenv.eval.image import frame_psnr
from worldenv.eval.memory import run_memory
from worldenv.eval.revisit import (
    Cases,
    controls,
    make_cases,
    mirror,
    run_arm,
    score,
    swap_memory,
    true_overlap,
    with_other_actions,
)
from worldenv.geometry.action import camera_to_c2w, keys_to_camera
from worldenv.memory.config import Layout, MemoryConfig, with_policy
from worldenv.memory.context import Context


def out_and_back_frames(half: int, batch: int = 2) -> torch.Tensor:
    """Frame t of 0..2 half shows what frame 2 half - t shows: exact mirrors around the turning point."""
    generator = torch.Generator().manual_seed(0)
    out = torch.randint(0, 256, (batch, half + 1, 8, 8, 3), dtype=torch.uint8, generator=generator)
    return torch.cat([out, out[:, :-1].flip(1)], 1)


@pytest.mark.parametrize("half", [4, 16, 33])
def test_mirrored_frames_have_the_same_pose(half: int) -> None:
    frames = out_and_back_frames(half)
    index = mirror(frames.shape[1])
    back = frames[:, half + 1 :]
    assert len(index) == back.shape[1] == half
    assert torch.equal(back, frames[:, index.copy()])


def test_an_exact_return_scores_the_cap_and_a_frozen_one_does_not() -> None:
    frames = out_and_back_frames(16)
    exact = score(frames, frames, window_frames=8)
    np.testing.assert_allclose(exact["return_psnr_self"], 60)
    np.testing.assert_allclose(exact["return_psnr_gt"], 60)
    np.testing.assert_allclose(exact["motion_ratio"], 1)
    frozen = score(frames[:, :1].expand_as(frames), frames, window_frames=8)
    np.testing.assert_allclose(frozen["return_psnr_self"], 60)
    assert (frozen["return_psnr_gt"] < 20).all()
    np.testing.assert_allclose(frozen["motion_ratio"], 0)


def test_far_frames_are_those_beyond_the_window() -> None:
    frames = out_and_back_frames(16)
    made = frames.clone()
    made[:, -4:] = 255 - made[:, -4:]  # the last four return frames, gaps 26 to 32
    assert "return_psnr_gt_far" not in score(made, frames, window_frames=32)
    far = score(made, frames, window_frames=24)["return_psnr_gt_far"]
    np.testing.assert_allclose(far, frame_psnr(made[:, -4:], frames[:, -4:]).mean(1))


def test_arms_share_start_noise_and_path(tiny_world: World) -> None:
    spec = WorldSpec()
    keys = torch.tensor([[[1, 0]] * 8 + [[2, 0]] * 8] * 2)
    start = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    c2w = camera_to_c2w(keys_to_camera(keys), start, spec.steps)
    frames = torch.randint(0, 256, (2, 65, 48, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    cases = Cases([1, 2], start, c2w, keys, frames)
    memory = tiny_world.config.memory
    one, again, other = (
        run_arm(tiny_world, cases, with_policy(memory, policy)) for policy in ("worldplay", "worldplay", "none")
    )
    assert one.shape == frames.shape
    assert torch.equal(one, again)
    assert torch.equal(one[:, 0], frames[:, 0])
    assert torch.equal(one[:, :17], other[:, :17]), "nothing to remember yet"
    assert not torch.equal(one, other)
    arms = dict(controls(cases, 16))
    assert torch.equal(arms["simulator"], frames)
    assert torch.equal(arms["last_frame"][:, 1:17], frames[:, :1].expand(-1, 16, -1, -1, -1))
    assert torch.equal(arms["last_frame"][:, 17:33], frames[:, 16:17].expand(-1, 16, -1, -1, -1))
    assert arms["blur"].float().std() < 0.5 * frames.float().std()
    assert arms["blur"].float().mean() == pytest.approx(float(frames.float().mean()), abs=1)
    other = with_other_actions(cases)
    torch.testing.assert_close(other.c2w[0], cases.start_c2w[0] @ torch.linalg.inv(cases.start_c2w[1]) @ c2w[1])
    assert (arms["frozen"] == frames[:, :1]).all()


def test_the_true_overlap_is_the_share_that_an_entry_shows() -> None:
    """Nine latents, two points each: chunk 2 sees both; entry 0 shows one of them, entry 1 the other in two latents."""
    seen = torch.zeros(9, 9, 2, dtype=torch.bool)
    seen[5:9, 0, 0] = True
    seen[5:9, 2:4, 1] = True
    seen[5:7, 4, 0] = True
    share = true_overlap(seen, Layout(4))
    assert share.shape == (2, 3)
    assert share[1].tolist() == [0.5, 0.75, 0]
    assert share[0].tolist() == [0, 0, 0]


@pytest.mark.sim
def test_an_oracle_retrieves_what_the_simulator_says_was_seen(sims: None, tiny_world: World) -> None:
    cases = make_cases(WorldSpec(), [900_000], 5, oracle=True)
    assert cases.overlap is not None
    assert cases.overlap.shape == (1, 10, 11)
    engine = Engine(tiny_world, 1, memory=with_policy(tiny_world.config.memory, "oracle"), decode=False)
    engine.history.oracle = lambda length: cases.overlap[:, (int(length[0]) - 1) // 4]  # type: ignore[index]
    chosen = []
    engine.reset(seeds=[0], starts=[None], images=cases.frames[:, 0], c2w=cases.start_c2w)
    for keys, c2w in zip(cases.keys.split(4, 1), cases.c2w.split(4, 1), strict=True):
        engine.generate(Actions(keys, c2w))
        assert engine.history.selection is not None
        chosen.append(engine.history.selection.retrieved[0].tolist())
    for chunk in range(5, 10):
        best = cases.overlap[0, chunk, : chunk - 2].max()
        assert float(cases.overlap[0, chunk, chosen[chunk][0]]) == pytest.approx(float(best))
    assert cases.overlap[0, 9, :3].max() > 0.2, "the last chunk sees again what the first ones showed"


@pytest.mark.sim
def test_the_memory_suite_compares_every_policy(sims: None, tiny_world: World, tmp_path: Path) -> None:
    run_memory(tiny_world, tmp_path, num_worlds=2, first_seed=900_000)
    report = json.loads((tmp_path / "report.json").read_text())
    arms = {"worldplay", "recent", "random", "none", "oracle"} | {f"worldscape_{n}" for n in (2, 4, 8, 16, "unlimited")}
    assert set(report["arms"]) == arms
    assert "worldscape_unlimited - worldplay" in report["differences"]
    assert "return_psnr_gt_far" in report["differences"]["oracle - recent"]
    assert (tmp_path / "memory.png").stat().st_size > 10_000


@pytest.mark.sim
def test_cases_return_to_their_start_and_the_simulator_mirrors(sims: None) -> None:
    spec = WorldSpec()
    cases = make_cases(spec, [900_000, 900_001], 3)
    assert cases.frames.shape == (2, 97, 48, 64, 3)
    torch.testing.assert_close(cases.c2w[:, -1], cases.start_c2w, atol=1e-6, rtol=0)
    whole = torch.cat([cases.start_c2w[:, None], cases.c2w], 1)
    torch.testing.assert_close(whole, whole.flip(1), atol=1e-6, rtol=0)
    perfect = score(cases.frames, cases.frames, window_frames=64)
    assert (perfect["return_psnr_self"] > 30).all()
    moved = (cases.c2w[:, :12, :3, 3] - cases.start_c2w[:, None, :3, 3]).norm(dim=-1).amax(1)
    turned = torch.linalg.norm(cases.c2w[:, :12, :3, :3] - cases.start_c2w[:, None, :3, :3], dim=(-2, -1)).amax(1)
    assert ((moved > 0.5) | (turned > 0.5)).all(), "a case is not a still picture"


def test_swapping_memory_changes_only_the_pictures_in_the_retrieved_slots() -> None:
    latents = torch.arange(3 * 6.0).view(3, 6, 1, 1, 1)
    poses = torch.eye(4, dtype=torch.float64).expand(3, 6, 4, 4)
    context = Context(latents, poses, torch.zeros(3, 6, dtype=torch.long), torch.arange(6).expand(3, 6))
    swapped = swap_memory(MemoryConfig(temporal_latents=4))(context)
    assert swapped.latents[:, :2, 0, 0, 0].tolist() == [[12, 13], [0, 1], [6, 7]]
    assert torch.equal(swapped.latents[:, 2:], latents[:, 2:])
    assert torch.equal(swapped.c2w, poses)
