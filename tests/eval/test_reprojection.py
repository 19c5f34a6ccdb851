"""Views that agree in space, and views that do not."""

from __future__ import annotations

import numpy as np
import torch

from tests.eval.conftest import MakeCases
from tests.training.test_consistency import room
from worldenv.eval.reprojection import reprojection
from worldenv.eval.suites.score import Judge
from worldenv.geometry.camera import intrinsics
from worldenv.geometry.pose import look
from worldenv.world.world import World

SIZE = (48, 64)
K = intrinsics(64, 48, fov_deg=90)


def walk(count: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    step = torch.arange(count, dtype=torch.float64)
    where = torch.stack([0.1 * step, 0 * step, 0.25 * step], -1)
    c2w = look(where, 0.1 * step)
    frames, depth = room(c2w, K, SIZE)
    return frames[None], depth[None], c2w[None]


def test_true_views_agree_and_wrong_ones_do_not() -> None:
    frames, depth, c2w = walk()
    true = reprojection(frames, depth, c2w, K)
    assert set(true) == {"reprojection_psnr_1", "reprojection_depth_1", "reprojection_psnr_4", "reprojection_depth_4"}
    assert true["reprojection_psnr_1"] > 35
    assert true["reprojection_depth_1"] < 0.01
    frozen = reprojection(frames[:, :1].expand_as(frames), depth[:, :1].expand_as(depth), c2w, K)
    wrong = reprojection(frames, 1.3 * depth, c2w, K)
    for other in (frozen, wrong):
        assert other["reprojection_psnr_4"] < true["reprojection_psnr_4"] - 3
    assert frozen["reprojection_depth_4"] > 0.05


def test_what_is_hidden_does_not_count_and_what_is_looked_through_does() -> None:
    frames, depth, c2w = walk(2)
    nearer, further = (torch.cat([depth[:, :1], scale * depth[:, 1:]], 1) for scale in (0.5, 2.0))
    assert np.isnan(reprojection(frames, nearer, c2w, K)["reprojection_psnr_1"]).all()
    through = reprojection(frames, further, c2w, K)
    assert abs(through["reprojection_depth_1"] - np.log(2)) < 0.01
    spoilt = frames.clone()
    spoilt[:, 1, :, :32] = 0
    hidden = depth.clone()
    hidden[:, 1, :, :32] *= 0.5
    half = reprojection(spoilt, hidden, c2w, K)["reprojection_psnr_1"]
    assert abs(half - reprojection(frames, depth, c2w, K)["reprojection_psnr_1"]) < 3


def test_views_that_share_nothing_are_no_pair() -> None:
    frames, depth, c2w = walk(2)
    c2w[0, 1] = look(torch.zeros(3, dtype=torch.float64), torch.tensor(3.14, dtype=torch.float64))
    found = reprojection(frames.expand(2, -1, -1, -1, -1), depth.expand(2, -1, -1, -1), c2w.expand(2, -1, -1, -1), K)
    assert np.isnan(found["reprojection_psnr_1"]).tolist() == [True, True]
    assert not reprojection(frames[:, :1], depth[:, :1], c2w[:, :1], K)


def test_a_suite_that_has_a_head_measures_what_was_made(noise_cases: MakeCases, rendered_world: World) -> None:
    cases = noise_cases(["out_and_back", "explore"], 2, size=SIZE)
    judge = Judge(rendered_world.spec, 16, depth_head=rendered_world.depth_head)
    found = judge(cases.frames, cases).metrics
    assert {"reprojection_psnr_1", "reprojection_depth_4"} <= set(found)
    assert found["reprojection_psnr_1"].shape == (2,)
    spoilt = cases.frames.clone()
    spoilt[:, :17] = 0  # what was given to a world is not what it made
    given = [judge(frames, cases, 16).metrics["reprojection_psnr_1"] for frames in (cases.frames, spoilt)]
    assert np.array_equal(*given, equal_nan=True)
    assert "reprojection_psnr_1" not in Judge(rendered_world.spec, 16)(cases.frames, cases).metrics
