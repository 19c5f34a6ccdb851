"""Fixtures: a recording of random pictures, and a world of every stage trained on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.test_stages import BEFORE, LARGE, config_of, record
from worldenv.training.stages.registry import train


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    record(folder / "large", 2, spec=LARGE)
    return record(folder / "train")


@pytest.fixture(scope="session")
def chain(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every stage, each from the world of the stage before."""
    folder = tmp_path_factory.mktemp("runs")
    made: dict[str, Path] = {}
    for stage in ("vae", *BEFORE):
        train(stage, config_of(stage, recording, made), folder / stage)
        made[stage] = folder / stage
    return made
