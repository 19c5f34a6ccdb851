"""Worlds trained differently as arms: how they are named, paired and judged."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from worldenv.ablations.run import parse_arms
from worldenv.cli import main
from worldenv.eval.report.claims import Question
from worldenv.eval.report.document import as_page
from worldenv.eval.report.pictures import draw_claims
from worldenv.eval.report.statistics import Estimate, crossed_means, p_value
from worldenv.eval.suites.arms import WorldArm
from worldenv.eval.suites.registry import RUNS
from worldenv.eval.suites.run import ArmResult
from worldenv.eval.suites.teacher import JointArm
from worldenv.world.config import Provenance
from worldenv.world.world import World

QUESTION = Question(claims=(("full", "without"),))


def test_arms_are_named_with_their_training_seeds() -> None:
    found = parse_arms(["full=a", "full@1=b", "without=c,sampler.num_steps=16,sampler.rolling=true,memory.policy=none"])
    assert {arm: folder for arm, (folder, _) in found.items()} == {"full@0": "a", "full@1": "b", "without@0": "c"}
    assert found["full@0"][1] == {"sampler": {}, "memory": {}}
    assert found["without@0"][1] == {"sampler": {"num_steps": 16, "rolling": True}, "memory": {"policy": "none"}}
    for arms, complaint in (
        (["full"], "write NAME=DIR"),
        (["full=a", "full=b"], "named twice"),
        (["full@1=a", "full@2=b"], "pass two or more"),
        (["full=a,steps=16", "without=b"], r"sampler\.KEY=VALUE"),
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
    found = QUESTION.judge(made, list(range(20)))
    assert list(found) == ["full - without"]
    assert found["full - without"]["seen_psnr"]["verdict"] == said
    assert found["full - without"]["seen_psnr"]["mean"] == pytest.approx(np.mean(gains), abs=0.1)


def test_secondary_metrics_are_corrected_for_their_number_and_the_primary_is_not() -> None:
    """No effect in two secondary metrics and in the primary one: the smaller p of the two is doubled."""
    rng, made = np.random.default_rng(3), {}
    for arm in ("full@0", "without@0"):
        names = ("return_psnr_gt_far", "seen_psnr", "ssim")
        made[arm] = ArmResult({name: rng.normal(0, 1, 20) for name in names})
    found = QUESTION.judge(made, list(range(20)))["full - without"]
    plain = {
        name: p_value(
            crossed_means(
                made["full@0"].metrics[name] - made["without@0"].metrics[name], [np.zeros(20, int), np.arange(20)]
            )
        )
        for name in found
    }
    assert found["return_psnr_gt_far"]["p"] == pytest.approx(plain["return_psnr_gt_far"], abs=1e-5)
    assert min(found[n]["p"] for n in ("seen_psnr", "ssim")) == pytest.approx(
        min(1.0, 2 * min(plain["seen_psnr"], plain["ssim"])), abs=1e-4
    )


def test_an_error_is_better_when_it_is_lower() -> None:
    made = {key: ArmResult({"r_dist": r.metrics["seen_psnr"]}) for key, r in results([1.0] * 5).items()}
    question = Question(claims=(("full", "without"), ("without", "full")), primary="r_dist", secondary=())
    found = question.judge(made, list(range(20)))
    assert found["full - without"]["r_dist"]["verdict"] == "not reproduced"
    assert found["without - full"]["r_dist"]["verdict"] == "reproduced in direction"
    assert found["without - full"]["r_dist"]["mean"] == -found["full - without"]["r_dist"]["mean"]


def test_a_figure_of_the_whole_arm_decides_like_a_metric_and_is_better_when_it_is_lower() -> None:
    rng, made = np.random.default_rng(0), {}
    for seed in range(5):
        noise = rng.normal(0, 0.02, 1000)
        for arm, value in (("full", 0.3), ("without", 0.5 + 0.01 * seed)):
            made[f"{arm}@{seed}"] = ArmResult(
                figures={"frechet": Estimate(value, value + noise, 20), "fid": Estimate(value)}
            )
    question = Question(claims=(("full", "without"), ("without", "full")), primary="frechet", secondary=("fid",))
    found = question.judge(made, list(range(20)))
    said = found["full - without"]["frechet"]
    assert said["mean"] == pytest.approx(0.22)
    assert said["verdict"] == "reproduced in direction"
    assert said["seeds"]["4"] == {"mean": 0.24, "ci95": [0.24, 0.24]}
    assert found["without - full"]["frechet"]["verdict"] == "not reproduced"
    assert "fid" not in found["full - without"], "it has no interval"


@pytest.mark.parametrize(("gain", "same"), [(0.05, True), (0.5, False)])
def test_arms_are_shown_to_be_equal_within_a_margin(gain: float, same: bool) -> None:
    made = results([gain] * 5)
    question = Question(claims=(("full", "without"),), primary="seen_psnr", margin=0.3)
    said = question.judge(made, list(range(20)))["full - without"]["seen_psnr"]
    assert said["equivalent"] == {"margin": 0.3, "shown": same}


def test_few_seeds_are_said_to_be_too_few_and_every_seed_is_shown(tmp_path: Path) -> None:
    made = results([1.0, 2.0, 3.0])
    verdicts = QUESTION.judge(made, list(range(20)))
    said = verdicts["full - without"]["seen_psnr"]
    assert said["why"].endswith("3 of 3 training seeds agree; 5 are needed to call it reproduced")
    for seed, one in said["seeds"].items():
        assert one["mean"] == pytest.approx(1 + int(seed), abs=0.2)
        assert one["ci95"][0] < one["mean"] < one["ci95"][1]
    draw_claims(tmp_path / "claims.png", verdicts, "seen_psnr")
    assert (tmp_path / "claims.png").stat().st_size > 1000
    page = as_page(
        {
            "world": {"name": "w"},
            "suite": "ablations",
            "seeds": [1],
            "protocol": "p",
            "hardware": "h",
            "git": "g",
            "ci": "c",
            "arms": {},
            "differences": {},
            "timing": {},
            "skipped": {},
            "verdicts": verdicts,
        }
    )
    assert f"| full - without | seen_psnr | {said['mean']:.3g} [" in page
    assert "| inconclusive: " in page


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


@pytest.mark.usefixtures("sims")
def test_a_teacher_stands_beside_its_student_on_the_same_past(
    tiny_world: World, tiny_world_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = Provenance(stage="teacher", steps=1, data="d", hardware="h", hours=0, git="g")
    teacher = World(tiny_world.with_stage(done), vae=tiny_world.vae, dit=tiny_world.dit, starts=tiny_world.starts)
    teacher.save_pretrained(tmp_path / "teacher")
    arms = [f"teacher={tmp_path / 'teacher'}", f"student={tiny_world_dir},sampler.num_steps=2"]
    command = ["worldenv", "eval", "ablations", "--worlds", "1", "--given", "12", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", [*command, "--arms", *arms])
    stepped: list[str] = []
    for kind in (JointArm, WorldArm):
        show = kind.__call__
        monkeypatch.setattr(
            kind, "__call__", lambda *args, kind=kind, show=show: (stepped.append(kind.__name__), show(*args))[1]
        )
    main()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert stepped == ["JointArm", "WorldArm"]
    assert report["given_chunks"] == 12
    assert report["worlds"]["student@0"]["sampler"]["num_steps"] == 2
    monkeypatch.setattr("sys.argv", [*command[:-1], str(tmp_path / "none"), "--given", "16", "--arms", *arms])
    with pytest.raises(SystemExit, match="16 chunks given of 16"):
        main()


@pytest.mark.usefixtures("sims")
def test_drift_is_compared_in_pairs_and_any_metric_may_decide(
    tiny_world_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RUNS, "drift", replace(RUNS["drift"], chunks=8))
    primary = "frechet_pose_features_drift"
    command = ["worldenv", "eval", "ablations", "--worlds", "2", "--suite", "drift", "--primary", primary]
    arms = [f"one={tiny_world_dir}", f"other={tiny_world_dir}"]
    monkeypatch.setattr("sys.argv", [*command, "--out", str(tmp_path), "--arms", *arms])
    main()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["question"]["primary"] == primary
    for metric in (primary, "contrast_drift_size", "sharpness_drift_size", "frechet_pose_features_late"):
        assert report["differences"]["one@0 - other@0"][metric] == {"mean": 0, "ci95": [0, 0], "n": 2}, metric
        assert report["verdicts"]["one - other"][metric]["verdict"] == "inconclusive"
        assert report["arms"]["one@0"][metric]["n"] == 2


@pytest.mark.parametrize("option", [("--suite", "drift"), ("--primary", "psnr"), ("--given", "4")])
def test_what_a_table_says_itself_is_refused_beside_it(
    option: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["worldenv", "eval", "ablations", "--table", "table6.toml", "--out", str(tmp_path), *option]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit, match="--suite, --primary and --given are for --arms"):
        main()
