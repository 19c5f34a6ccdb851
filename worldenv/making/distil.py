"""Fewer denoising steps, where they cost next to nothing: a distilled world is taken only if it passes its gate.

A few-step world may keep its PSNR by blurring what moves; then the heads no longer see what they were trained to see in
it. So what they say of generated frames is asked as well.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..base.files import save_text
from ..base.log import console
from ..eval.suites.evaluate import run_suite
from ..models.heads import EVENTS

MARGINS = {"psnr": 0.3} | {f"{name}_f1": 0.05 for name in EVENTS}
"""What may be lost on held-out clips, continued as commanded: decibels, and F1 of each head on what is generated."""
VERDICT = "distil.json"
Figures = dict[str, float]


def better_of(before: Path, distilled: Path, out: Path, *, clips: int) -> Path:
    """Return the distilled world if it is within all margins of the world before, else that one.

    What was found is written to ``out``, and not asked again.
    """
    path = out / VERDICT
    if not path.is_file():
        found = {name: _figures(world, out, clips) for name, world in (("before", before), ("distilled", distilled))}
        lost = lost_in(**found)
        save_text(path, json.dumps({**found, "margins": MARGINS, "lost": lost, "passed": not lost}, indent=1))
    verdict: dict[str, Any] = json.loads(path.read_text())
    for name, value in verdict["distilled"].items():
        console.print(f"distilled: {name} {value:.2f}, before {verdict['before'].get(name, float('nan')):.2f}")
    console.print("taken" if verdict["passed"] else f"too much lost: {', '.join(verdict['lost'])}; the world stays")
    return distilled if verdict["passed"] else before


def lost_in(before: Figures, distilled: Figures) -> list[str]:
    """Return the figures that are worse by more than their margins; what could not be measured before is not asked."""
    return [name for name, value in before.items() if not distilled.get(name, 0.0) >= value - MARGINS[name]]


def _figures(world: Path, out: Path, clips: int) -> Figures:
    """Score a world on what was held out: PSNR, and F1 of what heads say of what it makes, where there were events."""
    arms = {}
    for suite in ("open_loop", "heads"):
        folder = out / "eval" / f"{suite}_{world.name}"
        run_suite(suite, str(world), folder, num_worlds=clips, recording=out / "heldout")
        arms[suite] = json.loads((folder / "report.json").read_text())["arms"]
    psnr = next(iter(arms["open_loop"].values()))["psnr"]["mean"]
    told = {name: metric["mean"] for name, metric in arms["heads"]["world"].items() if name in MARGINS}
    return {**told, "psnr": psnr}
