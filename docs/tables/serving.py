"""How fast the page answers, and what a crowd that misbehaves does to a session server."""

from __future__ import annotations

from cells import RESULTS, heading, load


def soak_table() -> list[str]:
    """Return what the server held meanwhile, and what became of the others."""
    if not (RESULTS / "soak.json").is_file():
        return ["Not measured yet: `worldenv bench soak --out docs/results/soak.json`."]
    report = load("soak")
    steps, deeds = report["steps"], report["misdeeds"]
    tenths = [f"{10 * (i + 1)} %" for i in range(len(report["rss_mb"]["most_by_tenths"]))]
    title = (
        f"`worldenv bench soak --minutes {report['minutes']:g} --clients {report['clients']} --out FILE`, "
        f"{report['hardware']}; the most that the server's process held, by tenths of the time:"
    )
    lines = heading(title, "", ("before", *tenths, "when all are gone"))
    for name, label in (("rss_mb", "memory, MB"), ("descriptors", "descriptors")):
        held = report[name]
        cells = [held["begin"], *held["most_by_tenths"], held["end"]]
        lines.append(f"| {label} | " + " | ".join(f"{value:.0f}" for value in cells) + " |")
    done = ", ".join(f"{count} x {name}" for name, count in deeds.items())
    same = "equal to the last bit to" if report["bit_equal"] else "NOT equal to"
    return [
        *lines,
        "",
        f"Misdeeds: {done}; {report['unanswered']} of them neither answered nor cut off. Beside them",
        f"{steps['alone']} steps of a session, and {steps['after_waiting']} of one that had waited all the while,",
        f"were {same} those of a local environment; one that shares model calls made {steps['shared']}.",
        f"Sessions before and after: {report['sessions']['begin']} and {report['sessions']['end']}.",
    ]


def play_line() -> list[str]:
    """Say how long a key takes to its picture, beside what the engine alone makes there."""
    if not (RESULTS / "bench-play.json").is_file():
        return ["Not measured yet: `worldenv bench play --out docs/results/bench-play.json`."]
    report = load("bench-play")
    timing, kind = report["timing"], report["dtype"].removeprefix("torch.")
    rest, moving = (
        f"{found['latency_ms_p50']:.0f} ms (median) and {found['latency_ms_p95']:.0f} (95th percentile)"
        for found in (timing["from_rest"], timing["while_moving"])
    )
    return [
        f"Packaged world, {report['hardware']}, {kind}, {report['presses']} keys, where a chunk of "
        f"{report['chunk_latents']} latents takes {timing['chunk_ms']:.0f} ms: from rest {rest}, moving {moving}; "
        f"{timing['frames_per_s']:.1f} pictures a second while a key is held."
    ]
