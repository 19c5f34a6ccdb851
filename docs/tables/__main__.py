"""Write ``docs/results.md``, the table of README and the packaged world's ``report.json`` from the committed reports.

``python docs/tables``; ``--check`` only compares.
"""

from __future__ import annotations

import json
import sys

from cells import ROOT, load
from closed_loop import loops_table, planning_table, ranking_table
from commands import commands_table
from display import display_table
from distilled import distilled_table, teacher_table
from environments import environments_table, scores_table
from fuzz import fuzz_table
from gpu import NOTHING, gpu_line, gpu_table
from hands import experts_table, manipulation_table
from reliability import faults_table
from rendering import input_table, rendering_table, summary_table
from scale import collectors_table, scale_table
from serving import play_line, soak_table
from speed import backends_table, rolling_table, serve_table, speed_table
from walls import walls_table
from worlds import ablations_table, drift_table, figures_table, memory_table, revisit_table, short_term_table

from worldenv.base.files import save_text
from worldenv.world.files import STEPPED, world_sha256

README, PAGE, IDS = ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "docs" / "environments.md"
COMMANDS, HANDS = ROOT / "docs" / "commands.md", ROOT / "docs" / "hands.md"
RELIABILITY = ROOT / "docs" / "reliability.md"
SCALE, SERVE, PLAY = (ROOT / "docs" / f"{name}.md" for name in ("scale", "serve", "play"))
GPU = ROOT / "docs" / "gpu.md"
LOOP = ROOT / "docs" / "closed-loop.md"
WORLD = ROOT / "worldenv" / "worlds" / "maze"
PAPERS = ("vae", "dit", "starts")
"""The parts that the papers' memories step: with a depth head beside them they show the same to the last bit."""
SCORED = {
    "revisit": "",
    "short_term": "",
    "drift": "",
    "action": "",
    "reconstruction": "",
    "distilled": "distilled@0",
    "distilled-drift": "distilled@0",
}
"""Reports on the packaged world, and what it is called in those that compare worlds."""
KEPT = ("suite", "protocol", "cases", "git", "hardware", "seeds", "ci", "arms", "differences", "verdicts")
"""What the world's own report takes over from each: all but timings and details."""
HEAD = """# Results

Written by `python docs/tables` from the committed reports in `docs/results/`; what was measured of the packaged world
lies beside its weights too (`worldenv/worlds/maze/report.json`). Tables without an arm `worldplay_rendered` were
measured before the world had a depth head, and hold for `{"render": False}`.
"""


def page() -> str:
    """Return all tables, as ``docs/results.md``."""
    parts = [
        revisit_table(),
        rendering_table(),
        walls_table(),
        input_table(),
        display_table(),
        distilled_table(),
        teacher_table(),
        short_term_table(),
        drift_table(),
        memory_table(),
        ablations_table(),
        figures_table(),
        speed_table(),
        serve_table(),
        backends_table(),
        rolling_table(),
    ]
    return HEAD + "\n" + "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def with_table(text: str, name: str, source: str, table: list[str]) -> str:
    """Return a page with the table between its marks made anew."""
    begin, end = f"<!-- {name}: written by docs/tables from {source} -->", f"<!-- /{name} -->"
    head, rest = text.split(begin)
    return head + begin + "\n" + "\n".join(table) + "\n" + end + rest.split(end)[1]


def with_gpu(text: str) -> str:
    """Return README without the sentence that nothing was measured on a GPU, once something was."""
    return text.replace(f" {NOTHING}.", "") if gpu_line() else text


def world_report() -> str:
    """Return what was measured of the packaged world, as its ``report.json``.

    Raises:
        SystemExit: if a report speaks of other weights than the packaged ones.
    """
    packaged = world_sha256(WORLD)
    same = {packaged, world_sha256(WORLD, STEPPED), world_sha256(WORLD, PAPERS)}
    suites = {}
    for name, arm in SCORED.items():
        report = load(name)
        world = report["worlds"][arm] if arm else report["world"]
        if world["sha256"] not in same:
            sys.exit(f"docs/results/{name}.json speaks of another world than {WORLD.name}; run it again")
        suites[name] = {"sha256": world["sha256"], **{key: report[key] for key in KEPT if key in report}}
    return json.dumps({"format": 1, "world": {"name": WORLD.name, "sha256": packaged}, "suites": suites}) + "\n"


def main() -> None:
    """Write the files, or compare them."""
    written = {
        README: with_gpu(with_table(README.read_text(), "summary", "docs/results", summary_table() + gpu_line())),
        GPU: with_table(GPU.read_text(), "gpu", "docs/results", gpu_table()),
        COMMANDS: with_table(COMMANDS.read_text(), "commands", "what --help says", commands_table()),
        IDS: with_table(IDS.read_text(), "environments", "the tasks", environments_table() + scores_table()),
        HANDS: with_table(
            with_table(HANDS.read_text(), "experts", "docs/results", experts_table()),
            "manipulation",
            "docs/results",
            manipulation_table(),
        ),
        SCALE: with_table(
            with_table(SCALE.read_text(), "scale", "docs/results/bench-scale.json", scale_table()),
            "collectors",
            "docs/results/bench-collectors.json",
            collectors_table(),
        ),
        PLAY: with_table(PLAY.read_text(), "speed", "docs/results/bench-play.json", play_line()),
        SERVE: with_table(SERVE.read_text(), "soak", "docs/results/soak.json", soak_table()),
        LOOP: with_table(
            with_table(
                with_table(
                    with_table(LOOP.read_text(), "planning", "docs/results", planning_table()),
                    "ranking",
                    "docs/results",
                    ranking_table(),
                ),
                "ranking of hands",
                "docs/results",
                ranking_table("ranking-hand", target="hands"),
            ),
            "loops",
            "docs/results",
            loops_table(),
        ),
        RELIABILITY: with_table(
            with_table(RELIABILITY.read_text(), "faults", "docs/results/faults.json", faults_table()),
            "fuzz",
            "docs/results/fuzz.json",
            fuzz_table(),
        ),
        PAGE: page(),
        WORLD / "report.json": world_report(),
    }
    for path, text in written.items():
        if "--check" not in sys.argv:
            save_text(path, text)
        elif not path.exists() or path.read_text() != text:
            sys.exit(f"{path.relative_to(ROOT)} differs; run python docs/tables")


if __name__ == "__main__":
    main()
