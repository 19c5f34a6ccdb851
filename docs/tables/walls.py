"""Walls: where walks end in the world and in the simulator."""

from __future__ import annotations

from cells import RESULTS, arm_row, heading, load

COLUMNS = {
    "within_1m_forward_seen": 2,
    "within_1m_forward": 2,
    "displacement_forward": 1,
    "on_floor_forward": 2,
    "within_1m_random_seen": 2,
    "within_1m_random": 2,
    "displacement_random": 1,
    "on_floor_random": 2,
}


def walls_table() -> list[str]:
    """How many walks of 20 chunks get as far as the simulator's, and the share of their ways that is floor."""
    if not (RESULTS / "walls.json").is_file():
        return []
    report = load("walls")
    first = f"--worlds {len(report['seeds'])} --first-seed {report['seeds'][0]}"
    seen = ", ".join(f"{count} {name.removeprefix('seen_')}" for name, count in report["cases"].items())
    title = (
        f"**Walls** (`worldenv eval walls {first} --out DIR`, {report['hardware']}; means with 95 % intervals. Walks "
        "of 20 chunks from the end of a clip, straight ahead and at random: the share that gets within a metre as far "
        f"as the simulator's, of those whose true way the clip showed ({seen}) and of all; metres; the share of their "
        "places that is floor. `true_depth` slides along what the clip's true depth shows, and sees nothing after it)"
    )
    lines = heading(title, "arm", COLUMNS)
    return lines + [arm_row(f"`{arm}`", metrics, COLUMNS) for arm, metrics in report["arms"].items()]
