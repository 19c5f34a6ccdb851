"""What the documentation shows runs."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"


def test_the_snippets_of_extending_run_one_after_the_other(tmp_path: Path) -> None:
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(snippets) == 7
    (tmp_path / "extending.py").write_text("\n\n".join(snippets))
    runpy.run_path(str(tmp_path / "extending.py"), run_name="extending")
