"""The README's figures are those of the committed reports."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_it_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 8192


def test_every_link_of_the_documentation_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_results_come_from_the_committed_reports() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "tables"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("interval", "psnr", "said"),
    [
        ((-0.6, 0.2), True, "held"),
        ((-0.8, -0.2), True, "undecided"),
        ((-1.2, -0.8), True, "not held"),
        ((-0.3, -0.1), False, "held"),
        ((-0.3, 0.1), False, "undecided"),
        ((0.1, 0.3), False, "not held"),
        ((0.0, 0.0), False, "undecided"),
    ],
)
def test_a_clause_holds_where_its_whole_interval_does(
    interval: tuple[float, float], psnr: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "tables")
    held = runpy.run_path(str(ROOT / "docs" / "tables" / "distilled.py"))["held"]
    assert held({"mean": 0, "ci95": list(interval), "n": 9}, psnr=psnr) == said
