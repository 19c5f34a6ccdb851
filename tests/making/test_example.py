"""The newcomer's way, as the example shows it: one's own environment, a world of it, an agent that learns inside."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from tests.making.test_make import TINY
from worldenv.making import make as making

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_an_environment_of_thirty_lines_becomes_a_world_and_an_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len((EXAMPLES / "catch.py").read_text().splitlines()) <= 36
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES))
    monkeypatch.setattr("worldenv.training.loop.trainer.plot_losses", lambda log, path: None)
    for module in ("worldenv.making.config", "worldenv.making.make"):
        monkeypatch.setattr(f"{module}.CLIP_FRAMES", 32)
    monkeypatch.setattr("worldenv.making.config.LEAST_HELD_OUT", 4)
    monkeypatch.setattr("worldenv.bench.engine.WARM_UP", 1)
    monkeypatch.setattr(making, "BENCH_STEPS", 2)
    monkeypatch.setattr(making, "PROBE", (1, 3))
    monkeypatch.setattr(making, "LEAST_STEPS", 2)
    example = runpy.run_path(str(EXAMPLES / "07_own_environment.py"))
    example["main"](tmp_path / "out", replace(TINY, size=(48, 48)), steps=128, num_envs=2)
    said = capsys.readouterr().out
    assert "'move': Discrete(3)" in said
    assert "as MultiDiscrete([3 2])" in said
    assert "return in the real game before" in said
    assert (tmp_path / "out" / "ppo.zip").is_file()
