"""The examples run as people run them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "agents")]), "OMP_NUM_THREADS": "1"}


def run(name: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("01_make_and_step.py", [], "wrote frames.png"),
        ("02_vector_envs.py", [], "left alone: [False, True, True, True]"),
        ("03_sb3_ppo.py", ["--steps", "32", "--num-envs", "2"], "return after 32 steps"),
        ("04_cleanrl_ppo.py", ["--total-steps", "64", "--num-envs", "2"], "step     64"),
        ("06_plan.py", ["--decisions", "2"], "imagined to earn"),
    ],
)
def test_an_example_runs(name: str, arguments: list[str], words: str, tiny_world_dir: Path, tmp_path: Path) -> None:
    done = run(name, tmp_path, "--world", str(tiny_world_dir), *arguments)
    assert done.returncode == 0, done.stderr
    assert words in done.stdout


def test_the_torchrl_example_runs_or_says_what_to_install(tiny_world_dir: Path, tmp_path: Path) -> None:
    done = run("05_torchrl.py", tmp_path, "--world", str(tiny_world_dir))
    if importlib.util.find_spec("torchrl") is None:
        assert done.returncode != 0
        assert "pip install torchrl" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    else:
        assert done.returncode == 0, done.stderr
        assert "images: (4, 8, 48, 64, 3)" in done.stdout


@pytest.mark.manip
def test_the_hand_of_a_world_and_of_its_simulator_are_told_the_same(hand_world_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("mujoco", reason="the hand's simulator needs pip install worldenv[manip]")
    done = run("08_hand.py", tmp_path, "--world", str(hand_world_dir), "--num-envs", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("mm apart") == 18
    assert "simulator: 2 of 2 placed" in done.stdout
    assert iio.imread(tmp_path / "hand.png").shape == (2 * 2 * 64, 19 * 64, 3)
