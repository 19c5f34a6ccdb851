"""A few cases of every border; ``make fuzz MINUTES=30`` draws many."""

from pathlib import Path

import pytest

from tests.fuzz.registry import BORDERS
from tests.fuzz.run import fuzz

CASES = {
    "world": 60,
    "state": 60,
    "keyword": 60,
    "command": 40,
    "agents' command": 80,
    "parquet": 120,
    "picture": 240,
    "minari": 200,
}
"""Drawn of borders that take longer; of others 120."""


@pytest.mark.parametrize("border", BORDERS)
def test_what_comes_from_outside_is_accepted_or_refused_by_name(border: str, tmp_path: Path) -> None:
    tally = fuzz(border, tmp_path, cases=CASES.get(border, 120), seed=2026)
    assert sum(tally.judged.values()) > 20
    assert not tally.wrong, tally.examples
