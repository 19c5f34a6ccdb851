"""Metrics of cases against what they must be by construction and by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from worldenv.dynamics.spec import WorldSpec
from worldenv.eval.image import frame_contrast, frame_psnr
from worldenv.eval.suites.score import Judge, by_age, curves, score
from worldenv.eval.symmetry import memory_symmetry

KINDS = ["out_and_back", "circle"]


def measure(frames, cases, window=64):  # type: ignore[no-untyped-def]
    return score(frames, cases, chunk_frames=16, window_frames=window, ssim_step=8)


def test_the_truth_scores_the_cap_and_a_frozen_picture_only_by_itself(noise_cases) -> None:  # type: ignore[no-untyped-def]
    cases = noise_cases(KINDS, 16, size=(16, 16))
    exact = measure(cases.frames, cases)
    for name in ("psnr", "return_psnr_self", "return_psnr_gt", "return_psnr_self_far", "return_psnr_gt_gap16"):
        assert_allclose(exact[name], 60, err_msg=name)
    for name in ("motion_ratio", "contrast_ratio", "contrast_ratio_return", "contrast_ratio_new", "ssim"):
        assert_allclose(exact[name], 1, err_msg=name)
    frozen = measure(cases.frames[:, :1].expand_as(cases.frames), cases)
    assert_allclose(frozen["return_psnr_self"], 60)
    assert (frozen["return_psnr_gt"] < 20).all()
    assert_allclose(frozen["motion_ratio"], 0)
    assert_allclose(frozen["memory_symmetry"], [1, np.nan])
    assert_allclose(frozen["nmr"], [0, np.nan], atol=1e-6)
    assert abs(exact["nmr"][0]) > 5
    assert np.isnan(exact["nmr"][1]), "on a circle every pair of a gap is a revisit: there is no chance to compare with"


def test_given_frames_are_not_scored_over_a_whole_clip(noise_cases) -> None:  # type: ignore[no-untyped-def]
    """An arm that is given 4 of 8 chunks and then stands still in the dark has made nothing good itself."""
    cases = noise_cases(["out_and_back"], 8, size=(16, 16))
    made = cases.frames.clone()
    made[:, 65:] = 0
    whole = score(made, cases, chunk_frames=16, window_frames=64, ssim_step=8)
    own = score(made, cases, chunk_frames=16, window_frames=64, ssim_step=8, given_frames=64)
    for name in ("motion_ratio", "contrast_ratio", "ssim", "psnr"):
        assert own[name] < 0.2 * whole[name], name
    assert own["return_psnr_gt"] == whole["return_psnr_gt"], "all of the way back was made"


def test_metrics_are_left_out_where_they_mean_nothing(noise_cases) -> None:  # type: ignore[no-untyped-def]
    """A circle does not mirror in time; exploring returns nowhere; without depth nobody knows what was seen."""
    cases = noise_cases(["explore", "explore"], 4, size=(16, 16))
    found = measure(cases.frames, cases)
    assert not {k for k in found if "return" in k or "symmetry" in k or "seen" in k or k == "nmr"}
    mixed = noise_cases(KINDS, 16, size=(16, 16))
    symmetry = measure(mixed.frames, mixed)["memory_symmetry"]
    assert symmetry[0] == pytest.approx(memory_symmetry(mixed.frames[0]))
    assert np.isnan(symmetry[1])


def test_gaps_sort_return_frames_into_classes(noise_cases) -> None:  # type: ignore[no-untyped-def]
    """Out and back over 8 chunks: gaps of 2, 4, ... 128 frames; 32 of 64 frames returned lie within 4 chunks."""
    cases = noise_cases(["out_and_back"], 8, size=(16, 16))
    made = cases.frames.clone()
    made[:, -16:] = 255 - made[:, -16:]  # the last 16 return frames: gaps 98 to 128
    found = measure(made, cases, window=96)
    per_frame = frame_psnr(made, cases.frames)[0]
    assert found["return_psnr_gt_gap4"] == pytest.approx(60)
    assert found["return_psnr_gt_gap16"] == pytest.approx(per_frame[97:].mean())
    assert found["return_psnr_gt_far"] == pytest.approx(per_frame[-16:].mean())
    assert "return_psnr_gt_gap64" not in found


def test_seen_and_unseen_ground_are_scored_apart(noise_cases) -> None:  # type: ignore[no-untyped-def]
    """The left half of every view was seen; there the pictures are right, on the right side they are wrong by 51."""
    cases = noise_cases(["explore"], 1, size=(16, 16))
    seen = torch.zeros(1, 4, 8, 8, dtype=torch.bool)
    seen[..., :4] = True
    cases = replace(cases, seen=seen.flatten(2), frames=torch.full_like(cases.frames, 100))
    made = cases.frames.clone()
    made[..., 8:, :] += 51
    found = measure(made, cases)
    assert found["seen_psnr"] == pytest.approx(60)
    assert found["unseen_psnr"] == pytest.approx(-20 * np.log10(51 / 255))
    unseen = measure(made, replace(cases, seen=torch.zeros_like(cases.seen)))
    assert "seen_psnr" not in unseen


def test_unseen_contrast_is_of_the_frames_that_the_start_view_mostly_did_not_show(noise_cases) -> None:  # type: ignore[no-untyped-def]
    cases = noise_cases(["explore"], 2, size=(16, 16))
    seen = torch.ones(1, 8, 64, dtype=torch.bool)
    seen[0, 4, :32], seen[0, 5, :33], seen[0, 6:] = False, False, False
    cases = replace(cases, seen=seen)
    assert cases.unseen.tolist() == [[False] * 5 + [True] * 3]
    made = cases.frames.clone()
    made[:, [24, 28]] = (128 + (made[:, [24, 28]].float() - 128) / 2).to(torch.uint8)  # ends of latents 5 and 6
    assert measure(made, cases)["contrast_ratio_unseen"] == pytest.approx((0.5 + 0.5 + 1) / 3, abs=0.01)
    assert not replace(cases, seen=None).unseen.any()
    assert "contrast_ratio_unseen" not in measure(made, replace(cases, seen=None))


def test_curves_have_a_value_per_chunk_and_show_decay(noise_cases) -> None:  # type: ignore[no-untyped-def]
    cases = noise_cases(["explore"], 16, size=(16, 16))
    fade = torch.linspace(1, 0.5, cases.frames.shape[1])[None, :, None, None, None]
    made = (128 + (cases.frames.float() - 128) * fade).to(torch.uint8)
    found = curves(made, cases, chunk_frames=16)
    assert all(values.shape == (1, 16) for values in found.values())
    assert (np.diff(found["contrast_ratio"]) < 0).all()
    assert (np.diff(found["sharpness"]) < 0.02).all()
    ages = by_age(found)
    assert ages["contrast_ratio_early"] == pytest.approx(found["contrast_ratio"][:, :2].mean())
    assert ages["contrast_ratio_drift"] == pytest.approx(ages["contrast_ratio_late"] - ages["contrast_ratio_early"])
    assert ages["contrast_ratio_late"] == pytest.approx(0.53, abs=0.03)


def test_every_frame_by_frame_metric_is_split_by_gap(noise_cases) -> None:  # type: ignore[no-untyped-def]
    """One chunk fades: only the class its gaps fall into notices, in every metric that has classes."""
    cases = noise_cases(["out_and_back"], 8, size=(16, 16))
    cases = replace(cases, seen=torch.ones(1, 32, 64, dtype=torch.bool))
    made = cases.frames.clone()
    made[:, -16:] = (128 + (made[:, -16:].float() - 128) / 2).to(torch.uint8)  # gaps 98 to 128: 7 and 8 chunks
    found = measure(made, cases)
    for name, perfect in (
        ("return_psnr_gt", 60),
        ("return_psnr_self", 60),
        ("return_ssim_gt", 1),
        ("contrast_ratio_return", 1),
        ("motion_ratio_return", 1),
        ("seen_psnr", 60),
    ):
        assert found[f"{name}_gap4"] == pytest.approx(perfect), name
        assert found[f"{name}_gap16"] < 0.95 * perfect, name
        assert f"{name}_gap64" not in found
    contrast = frame_contrast(made, cases.frames)[0]
    assert found["contrast_ratio_return_gap16"] == pytest.approx(contrast[97:].mean())
    assert found["seen_psnr"] == pytest.approx(
        np.mean([min(60, p) for p in frame_psnr(made[:, 4::4, 1::2, 1::2], cases.frames[:, 4::4, 1::2, 1::2])[0]])
    )


def test_what_was_given_is_neither_early_nor_late(noise_cases) -> None:  # type: ignore[no-untyped-def]
    """Half as much contrast in all that was made: early as late, whatever was given before."""
    cases = noise_cases(["explore"], 16, size=(16, 16))
    frames = (128 + (cases.frames.float() - 128) / 2).to(torch.uint8)
    frames[:, : 1 + 8 * 16] = cases.frames[:, : 1 + 8 * 16]
    judge = Judge(WorldSpec(width=16, height=16), 64, ages=True)
    metrics = judge(frames, cases, given_frames=8 * 16).metrics
    assert metrics["contrast_ratio_early"][0] == pytest.approx(0.5, abs=0.05)
    assert metrics["contrast_ratio_drift"][0] == pytest.approx(0, abs=0.02)
    assert judge(frames, cases).metrics["contrast_ratio_early"][0] == pytest.approx(1)
