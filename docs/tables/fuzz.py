"""What became of changed inputs, border by border."""

from __future__ import annotations

from cells import RESULTS, heading, load


def fuzz_table() -> list[str]:
    """Count the cases of each border."""
    if not (RESULTS / "fuzz.json").exists():
        return []
    report = load("fuzz")
    title = (
        f"**{report['cases']} changed inputs** (`{report['command']}`, {report['hardware']}, git "
        f"{report['git']}; wrong: another end than the case must have, a raw error, more than 5 s of computing, more "
        "than 500 MB)"
    )
    columns = ("must be refused", "must be accepted", "either", "wrong", "slowest, s")
    lines = heading(title, "input", columns)
    for name, one in report["borders"].items():
        wrong = ", ".join(f"{count} {kind}" for kind, count in one["wrong"].items()) or "0"
        judged = one["judged"]
        cells = (judged.get("refuse", 0), judged.get("accept", 0), one["unjudged"], wrong, one["slowest"])
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    return lines
