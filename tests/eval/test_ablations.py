"""Worlds trained differently as arms: how they are named, paired and judged."""

import json
from pathlib import Path

import numpy as np
import pytest

from worldenv.cli import main
from worldenv.eval.ablations import judge, parse_arms
from worldenv.eval.run import ArmResult
from worldenv.eval.statistics import p_value


def test_arms_are_named_with_their_training_seeds() -> None:
    assert parse_arms(["full=a", "full@1=b", "without=c"]) == {"full@0": "a", "full@1": "b", "without@0": "c"}
    for arms, complaint in (
        (["full"], "write NAME=DIR"),
        (["full=a", "full=b"], "named twice"),
        (["full@1=a", "full@2=b"], "pass two or more"),
    ):
        with pytest.raises(ValueError, match=complaint):
            parse_arms(arms)


def results(gains: list[float]) -> dict[str, ArmResult]:
    """Arms ``full`` and ``without`` of some training seeds over 20 worlds; full gains so much in each."""
    rng, made = np.random.default_rng(0), {}
    for seed, gain in enumerate(gains):
        base = rng.normal(20, 2, 20)
        made[f"full@{seed}"] = ArmResult({"seen_psnr": base + gain + rng.normal(0, 0.2, 20)})
        made[f"without@{seed}"] = ArmResult({"seen_psnr": base})
    return made


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ([1.0] * 5, "reproduced in direction"),
        ([-1.0] * 5, "not reproduced"),
        ([1.0] * 3, "inconclusive"),
        ([3.0, 3.0, 3.0, -1.0, -1.0], "inconclusive"),
    ],
)
def test_the_first_arm_is_judged_over_seeds_and_worlds(gains: list[float], said: str) -> None:
    made = results(gains)
    found = judge(made, list(made), list(range(20)))
    assert list(found) == ["full - without"]
    assert found["full - without"]["seen_psnr"]["verdict"] == said
    assert found["full - without"]["seen_psnr"]["mean"] == pytest.approx(np.mean(gains), abs=0.1)


def test_secondary_metrics_are_corrected_for_their_number_and_the_primary_is_not() -> None:
    """No effect in two secondary metrics and in the primary one: the smaller p of the two is doubled."""
    rng, made = np.random.default_rng(3), {}
    for arm in ("full@0", "without@0"):
        names = ("return_psnr_gt_far", "seen_psnr", "ssim")
        made[arm] = ArmResult({name: rng.normal(0, 1, 20) for name in names})
    found = judge(made, list(made), list(range(20)))["full - without"]
    plain = {
        name: p_value(
            made["full@0"].metrics[name] - made["without@0"].metrics[name], [np.zeros(20, int), np.arange(20)]
        )
        for name in found
    }
    assert found["return_psnr_gt_far"]["p"] == pytest.approx(plain["return_psnr_gt_far"], abs=1e-5)
    assert min(found[n]["p"] for n in ("seen_psnr", "ssim")) == pytest.approx(
        min(1.0, 2 * min(plain["seen_psnr"], plain["ssim"])), abs=1e-4
    )


@pytest.mark.usefixtures("sims")
def test_worlds_are_compared_on_the_same_cases(
    tiny_world_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A world against itself: no difference, and with one training seed no claim."""
    arms = [f"one={tiny_world_dir}", f"other={tiny_world_dir}"]
    command = ["worldenv", "eval", "ablations", "--worlds", "2", "--out", str(tmp_path), "--arms", *arms]
    monkeypatch.setattr("sys.argv", command)
    main()
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["arms"]) == {"one@0", "other@0", "simulator"}
    assert report["arms"]["one@0"] == report["arms"]["other@0"]
    verdict = report["verdicts"]["one - other"]["return_psnr_gt_far"]
    assert verdict["mean"] == 0
    assert verdict["verdict"] == "inconclusive"
    assert report["differences"]["one@0 - other@0"]["psnr"]["mean"] == 0
