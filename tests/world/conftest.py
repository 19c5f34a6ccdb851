"""What tests of worlds share."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def folder(tiny_world_dir: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    copy = tmp_path / "world"
    shutil.copytree(tiny_world_dir, copy)
    return copy
