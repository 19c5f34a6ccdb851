"""The worldenv-agents command: a table, a trained policy, errors of one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from worldenv_agents import cli

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


@pytest.mark.parametrize("command", ["train", "eval"])
def test_help_teaches(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        call(monkeypatch, command, "--help")
    assert caught.value.code in (0, None)
    assert "--env" in capsys.readouterr().out
