"""What commands survive, as ``make faults`` counted it."""

from __future__ import annotations

from typing import Any

from cells import RESULTS, load

KINDS = ("killed", "worker killed", "SIGTERM")


def faults_table() -> list[str]:
    """Return the counts by command."""
    if not (RESULTS / "faults.json").is_file():
        return ["Not run yet: `make faults`."]
    found = load("faults")
    lines = [
        f"{found['hardware']}, git {found['git']}, seed {found['seed']}; disks: {found['disk']}; a worker is any "
        "process that works for the command, engines too:",
        "",
        f"| | {' | '.join(KINDS)} | came to the same end | two at once | full disks | wrong |",
        "|---" * 8 + "|",
    ]
    for name in dict.fromkeys([*found["kills"], *found["full_disks"]]):
        parts = [found[part].get(name) for part in ("kills", "two_at_once", "full_disks")]
        later = next((f" (git {part['git']})" for part in parts if part and "git" in part), "")
        lines.append(f"| {name}{later} | {' | '.join(_cells(*parts))} |")
    wrong = [f"{name}: {what}" for part in ("kills", "two_at_once", "full_disks") for name, what in _wrong(found[part])]
    return lines + ([""] + [f"* {line}" for line in wrong] if wrong else [])


def _cells(kills: dict[str, Any] | None, two: dict[str, Any] | None, disks: dict[str, Any] | None) -> list[str]:
    counted = ["" if kills is None else str(kills["kills"].get(kind, 0)) for kind in KINDS]
    wrong = sum(len(part["wrong"]) for part in (kills, two, disks) if part is not None)
    ended = "" if kills is None else str(kills["runs"])
    return [*counted, ended, "" if two is None else "1", "" if disks is None else str(disks["times"]), str(wrong)]


def _wrong(part: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """Return what went wrong, with the command that it went wrong with, as a page can hold it."""
    return [(name, " ".join(what.split())[:200]) for name, counted in part.items() for what in counted["wrong"]]
