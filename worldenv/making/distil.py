"""Fewer denoising steps, where they cost next to nothing: a distilled world is taken only if it passes its gate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..base.files import save_text
from ..base.log import console
from ..eval.suites.evaluate import run_suite

MARGIN = 0.3
"""Decibels that held-out clips, continued as commanded, may lose."""
VERDICT = "distil.json"


def better_of(before: Path, distilled: Path, out: Path, *, clips: int) -> Path:
    """Return the distilled world if its open-loop PSNR is within the margin of the world before, else that one.

    What was found is written to ``out``, and not asked again.
    """
    path = out / VERDICT
    if not path.is_file():
        psnr = {name: _psnr(world, out, clips) for name, world in (("before", before), ("distilled", distilled))}
        passed = psnr["distilled"] >= psnr["before"] - MARGIN
        save_text(path, json.dumps({"psnr": psnr, "margin": MARGIN, "passed": passed}, indent=1))
    found: dict[str, Any] = json.loads(path.read_text())
    console.print(
        f"distilled: {found['psnr']['distilled']:.2f} dB against {found['psnr']['before']:.2f}; "
        + ("taken" if found["passed"] else f"more than {found['margin']} dB lost, the world stays as it was")
    )
    return distilled if found["passed"] else before


def _psnr(world: Path, out: Path, clips: int) -> float:
    """Score a world on what was held out."""
    folder = out / "eval" / f"open_loop_{world.name}"
    run_suite("open_loop", str(world), folder, num_worlds=clips, recording=out / "heldout")
    arms = json.loads((folder / "report.json").read_text())["arms"]
    return float(arms[next(iter(arms))]["psnr"]["mean"])
