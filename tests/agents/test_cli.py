"""The worldenv-agents command: a table, a trained policy, errors of one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from worldenv_agents import cli
from worldenv_agents.planners.closed_loop import PLACES

ROOT = Path(__file__).parents[2]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["worldenv-agents", *arguments])
    cli.main()


def test_train_and_eval_work_together(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_world_dir: Path, tmp_path: Path
) -> None:
    where = ["--world", str(tiny_world_dir), "--max-episode-steps", "3"]
    run = str(tmp_path / "run")
    call(monkeypatch, "train", "ppo", "--out", run, "--steps", "16", "--num-envs", "2", "--rollout", "4", *where)
    out = tmp_path / "scores.json"
    call(monkeypatch, "eval", f"ppo:{run}", "seek_goal", "random", "--episodes", "2", "--out", str(out), *where)
    rows = json.loads(out.read_text())["rows"]
    assert [row["policy"] for row in rows] == [f"ppo:{run}", "seek_goal", "random"]
    assert rows[1]["success"]["mean"] == 1
    assert all(row["returns"]["n"] == 2 for row in rows)
    assert "seek_goal" in capsys.readouterr().out


def test_what_lies_where_a_command_is_run_can_be_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "lies_here_too.py").write_text("")
    with pytest.raises(SystemExit, match="module 'lies_here_too' has no attribute 'Mine'"):
        call(monkeypatch, "eval", "random", "--task", "lies_here_too:Mine")


def test_plans_and_rankings_go_on_where_they_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_world_dir: Path, tmp_path: Path
) -> None:
    pytest.importorskip("vizdoom", reason="the twin needs pip install worldenv[sims]")
    where, count = ["--world", str(tiny_world_dir)], ["--episodes", "2", "--num-envs", "2"]
    plan, rank = tmp_path / "plan", tmp_path / "rank"
    short = ["--lookahead", "1", "--rollouts", "2", "--max-episode-steps", "1", "--policies", "straight"]
    call(monkeypatch, "plan", "--imagine", "world", "blank", "--out", str(plan), *short, *where, *count)
    call(monkeypatch, "rank", "random", "straight", "wander", "--horizons", "1", "--out", str(rank), *where, *count)
    report = json.loads((plan / "report.json").read_text())
    assert list(report["arms"]) == ["straight", "world, 2", "blank, 2"]
    assert report["arms"]["world, 2"]["chunks"]["mean"] == report["arms"]["blank, 2"]["chunks"]["mean"] > 0
    assert set(report["differences"]) == {"world, 2 - blank, 2", "world, 2 - straight"}
    assert [row["policy"] for row in json.loads((rank / "report.json").read_text())["rows"]][2] == "wander"
    lines = [(folder / "episodes.jsonl").read_text() for folder in (plan, rank)]
    assert [text.count("\n") for text in lines] == [6, 12]
    call(monkeypatch, "plan", "--imagine", "world", "blank", "--out", str(plan), *short, *where, *count)
    assert (plan / "episodes.jsonl").read_text() == lines[0]
    (rank / "episodes.jsonl").write_text(lines[1].rpartition('{"policy"')[0])  # killed in the midst of a batch
    call(monkeypatch, "rank", "random", "straight", "wander", "--horizons", "1", "--out", str(rank), *where, *count)
    assert (rank / "episodes.jsonl").read_text() == lines[1]
    assert {"planning.png", "report.md"} < {path.name for path in plan.iterdir()}
    assert "imagined in, rollouts, or policy" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="was begun with another"):
        call(monkeypatch, "plan", "--imagine", "world", "--out", str(plan), *short, *where, *count)


@pytest.mark.manip
def test_hands_are_planned_for_and_ranked(
    monkeypatch: pytest.MonkeyPatch, hand_world_dir: Path, tmp_path: Path
) -> None:
    pytest.importorskip("mujoco", reason="the hand's simulator needs pip install worldenv[manip]")
    where = ["--env", "worldenv/HandPlace-v0", "--world", str(hand_world_dir), "--episodes", "2", "--num-envs", "2"]
    plan, rank, short = tmp_path / "plan", tmp_path / "rank", ["--lookahead", "1", "--rollouts", "2"]
    call(monkeypatch, "plan", "--out", str(plan), "--max-episode-steps", "1", *short, *where)
    assert list(json.loads((plan / "report.json").read_text())["arms"]) == ["random", "expert", "world, 2"]
    call(monkeypatch, "rank", "random", "expert", "noisy:0.5", "--horizons", "1", "--out", str(rank), *where)
    rows = json.loads((rank / "report.json").read_text())["rows"]
    assert [row["policy"] for row in rows] == ["random", "expert", "noisy:0.5"]
    for arguments, words in (
        (["--imagine", "blank"], "imagine='blank' tells where a camera goes"),
        (["--policies", "straight"], "policy 'straight': unknown action_mode 'basic'"),
        (["--world", "maze"], "pass world=DIR of a world of hands"),
    ):
        with pytest.raises(SystemExit) as caught:
            call(monkeypatch, "plan", "--out", str(tmp_path / "none"), *short, *where, *arguments)
        assert words in str(caught.value.code)
        assert not (tmp_path / "none").exists(), "what cannot be run is not registered"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["eval", "clever"], "unknown policy 'clever'"),
        (["eval", "random", "--env", "worldenv/Nowhere-v0"], "unknown env 'worldenv/Nowhere-v0'"),
        (["eval", "ppo:/nowhere"], "no such file"),
        (["eval", "random", "--world", "/nowhere"], "unknown world '/nowhere'"),
        (["eval", "follow:x-3"], "unknown key 'x'"),
        (["eval", "random", "--episodes", "0"], "episodes=0"),
        (["eval"], "name at least one policy"),
        (["train", "dqn", "--out", "x"], "unknown algorithm 'dqn'"),
        (["train", "ppo", "--out", "x", "--env", "CartPole-v1"], "unknown env 'CartPole-v1'"),
        (["train", "imagination", "--out", "x"], "horizon"),
        (["train", "--out", "x", "imagination"], "name the algorithm first: worldenv-agents train imagination"),
        (["eval", "imagination:/nowhere"], "no such file"),
        (["eval", "random", "--first-seed", "-1"], "first_seed=-1 must be 0 or more"),
        (["eval", "random", "--num-envs", "99999"], "num_envs=99999 must be at most 65536"),
        (["eval", "random", "--out", "/dev/null/x"], "/dev/null/x: cannot be written (Not a directory)"),
        (["eval", "random", "ppo:a\0b"], "cannot be read (embedded null byte)"),
        (["eval", "random", "--world", "a\nb"], r"'a\nb': cannot be read (nothing lies there)"),
        (["eval", "random", "--pessimism", "1e308"], "pessimism=1e+308 must be from 0 to 1e+09"),
        (["eval", "random", "--sim-env", "x"], "sim_env='x' is for the simulator, and here it would change nothing"),
        (["eval", "random", "--twin", "--dynamics", "sim"], "dynamics='sim', but this runs in the world and in its"),
        (
            ["train", "ppo", "--env", "worldenv/NavigateSim-v0", "--horizon", "3", "--out", "x"],
            "horizon=3 is for generated",
        ),
        (["rank", "--dynamics", "sim", "--out", "x"], "dynamics='sim', but this runs in the world and in its"),
        (
            ["rank", "--max-episode-steps", "3", "--out", "x"],
            "max_episode_steps=3: episodes end at the last of horizons",
        ),
        (["plan", "--dynamics", "world", "--out", "x"], "dynamics='world', but this runs in the world and in its"),
        (["rank", "--ray", "nowhere", "--out", "x"], "Ray address 'nowhere'"),
        (["plan", "--ray", "nowhere:99999", "--out", "x"], "Ray address 'nowhere:99999'"),
        (["plan", "--imagine", "--policies", "", "--out", "x"], "neither plans nor policies are compared"),
        (["plan", "--lookahead", "99999", "--out", "x"], "branches, 65536 at most are imagined"),
        (["train", "ppo", "--out", "/dev/null"], "/dev/null: no folder to write to"),
        (["rank", "random", "straight", "--out", "x"], "2 policies cannot be ranked"),
        (["rank", "random", "clever", "wander", "--out", "x"], "unknown policy 'clever'"),
        (["rank", "random", "wander", "random", "--out", "x"], "policy 'random' is named 2 times"),
        (["rank", "random", "wander", "ppo:/nowhere", "--out", "x"], "no such file"),
        (["rank", "straight", "random", "wander", "--obs-mode", "latent", "--out", "x"], "needs a generated world"),
        (["rank", "--horizons", "0", "--out", "x"], "horizons=(0,)"),
        (["rank", "--num-envs", "0", "--out", "x"], "num_envs=0"),
        (["plan", "--episodes", "0", "--out", "x"], "episodes=0"),
        (["plan", "--rollouts", "0", "--out", "x"], "rollouts=0"),
        (["plan", "--policies", "", "--max-episode-steps", "-1", "--out", "x"], "max_episode_steps=-1"),
        (["plan", "--action-mode", "fly", "--out", "x"], "unknown action_mode 'fly'"),
        (["plan", "--env", "worldenv/Nowhere-v0", "--out", "x"], "unknown env 'worldenv/Nowhere-v0'"),
        (["dance"], "unknown command 'dance'"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, tiny_world_dir: Path, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments[0] != "dance" and "--world" not in arguments:
        arguments = [*arguments, "--world", str(tiny_world_dir)]
    with pytest.raises(SystemExit) as caught:
        call(monkeypatch, *arguments)
    assert words in str(caught.value.code)
    assert "\n" not in str(caught.value.code)
    assert not list(tmp_path.iterdir())


def test_an_error_sets_the_exit_status() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "agents")])}
    command = [sys.executable, "-m", "worldenv_agents.cli", "eval", "clever"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1


def test_each_algorithm_has_flags_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bright: Path, tmp_path: Path
) -> None:
    where = ["--world", str(bright), "--num-envs", "2", "--rollout", "2", "--steps", "4", "--recall", "2"]
    call(monkeypatch, "train", "imagination", "--out", str(tmp_path / "run"), *where)
    assert f"worldenv-agents eval imagination:{tmp_path / 'run'} random" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "policy.json").read_text())["config"]["recall"] == 2
    with pytest.raises(SystemExit):
        call(monkeypatch, "train", "ppo", "--recall", "2", "--out", str(tmp_path / "other"))
    assert "--recall" in capsys.readouterr().err


def test_the_command_knows_all_places_to_plan_in() -> None:
    assert get_args(vars(cli)["Where"]) == PLACES


@pytest.mark.parametrize("command", ["train", "eval", "rank", "plan"])
def test_help_teaches(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        call(monkeypatch, command, "--help")
    assert caught.value.code in (0, None)
    assert "--env" in capsys.readouterr().out
