"""The newcomer's way, as the example shows it: one's own environment, a world of it, an agent that learns inside."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from tests.making.conftest import TINY

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_an_environment_of_thirty_lines_becomes_a_world_and_an_agent(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len((EXAMPLES / "catch.py").read_text().splitlines()) <= 36
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES))
    example = runpy.run_path(str(EXAMPLES / "07_own_environment.py"))
    example["main"](tmp_path / "out", replace(TINY, size=(48, 48), rounds=1, few_steps=0), steps=128, num_envs=2)
    said = capsys.readouterr().out
    assert "'move': Discrete(3)" in said
    assert "as MultiDiscrete([3 2])" in said
    assert "return in the real game before" in said
    assert (tmp_path / "out" / "ppo.zip").is_file()
