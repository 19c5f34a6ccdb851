"""What ``make bench-gpu`` measured, where it ran: nothing until there is a GPU."""

from __future__ import annotations

from typing import Any

from cells import RESULTS, load

NOTHING = "Nothing was measured on a GPU"


def gpu_reports() -> dict[str, dict[str, Any]]:
    """Return the reports that there are, by name."""
    return {path.stem: load(path.stem) for path in sorted(RESULTS.glob("gpu-*.json"))}


def gpu_line() -> list[str]:
    """Return what README says under its table; nothing until something was measured."""
    rows = [
        (row["frames_per_s"], row["num_envs"], report["hardware"])
        for name, report in gpu_reports().items()
        if name.startswith("gpu-engine-decode")
        for row in report["timing"]
    ]
    if not rows:
        return []
    speed, envs, hardware = max(rows)
    return [
        "",
        f"On a GPU ({hardware}): {speed:.0f} frames/s with {envs} envs, decoding included ([more](docs/gpu.md)).",
    ]


def gpu_table() -> list[str]:
    """Return every figure."""
    reports = gpu_reports()
    if not reports:
        return [f"{NOTHING} yet."]
    lines = [f"{next(iter(reports.values()))['hardware']}, `make bench-gpu`:", ""]
    lines += ["| report | envs | frames/s | env steps/s | first frames after ms |", "|---|---|---|---|---|"]
    for name, report in reports.items():
        for row in report["timing"] if name.startswith("gpu-engine") else ():
            cells = (row["num_envs"], row["frames_per_s"], row["env_steps_per_s"], row["latency_ms_p50"])
            lines.append(f"| {name} | " + " | ".join(f"{cell:g}" for cell in cells) + " |")
    keys = ("worldplay_chunk_ms", "worldscape_chunk_ms", "decode_ms", "peak_gb")
    columns = "ms per chunk, `worldplay` | `worldscape` | decoding ms | GB | MB sent per chunk and process"
    lines += ["", f"| WorldPlay-5B | processes | {columns} |", "|---" * 7 + "|"]
    for name, report in reports.items():
        if name.startswith("gpu-worldplay"):
            cells = [f"{report['timing'][key]:g}" for key in keys]
            sent = report.get("sent_mb_per_chunk_and_process", 0)
            height, width = report["size"]
            lines.append(
                f"| {width} x {height} | {report.get('processes', 1)} | " + " | ".join(cells) + f" | {sent:g} |"
            )
    return lines
