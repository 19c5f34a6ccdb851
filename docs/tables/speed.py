"""What steps cost: batch sizes, ways to compute, rolling windows."""

from __future__ import annotations

from typing import Any

from cells import COMPARED, RESULTS, arms_table, heading, load


def rolling_table() -> list[str]:
    """A world trained for a rolling window: what its steps cost, how soon it obeys, what it looks like."""
    bench = load("bench-rolling")
    teachers = " ".join(str(steps) for steps in bench["teacher_steps"])
    title = (
        f"**A rolling window** (`{waiting(bench)}worldenv bench rolling --world DIR --envs {bench['envs']} "
        f"--teacher-steps {teachers} --out FILE`, {bench['hardware']}, decoding included; the same weights every way: "
        "`chunk` after chunk, `many_steps_N` likewise in N steps, `joint_teacher_N` four chunks jointly in N steps; "
        "times `hold`: how much longer a chunk takes, on WorldScape's page "
        f"{bench['published_speedup']:g} for its bidirectional teacher; obeyed: from then on turning right and left is "
        f"at least {bench['obeyed']:g} as far apart as with `chunk`, where nothing was begun before)"
    )
    columns = (
        "ms per chunk",
        "times `hold`",
        "frames/s",
        "passes",
        "when the action changes: ms",
        "passes then",
        "as far apart as `chunk`, by chunk",
        "obeyed after chunks",
        "first frames of it after ms",
    )
    lines = heading(title, "way", columns)
    for way, row in bench["timing"].items():
        late = ["", "", ""]
        if way in bench["response"]:
            shares, count = bench["response"][way]["share_of_chunk"], row["action_to_photon_chunks"]
            said = "not within the window" if count is None else f"{count}{' by definition' * (way == 'chunk')}"
            first = "" if count is None else f"{row['action_to_photon_ms']:.0f}"
            late = [", ".join(f"{share:.2f}" for share in shares), said, first]
        cells = [
            f"{row['chunk_ms']:.0f}",
            f"{row['times_hold']:.1f}",
            f"{row['frames_per_s']:.0f}",
            f"{row['passes']:g}",
            f"{row['changed_chunk_ms']:.0f}",
            f"{row['changed_passes']:g}",
            *late,
        ]
        lines.append(f"| `{way}` | " + " | ".join(cells) + " |")
    arms = "--arms packaged=maze hold=DIR reset=DIR,sampler.lookahead_policy=reset"
    command = f"worldenv eval ablations {arms} --worlds 32 --out DIR"
    return [*lines, "", *arms_table("rolling", COMPARED, "The same window beside chunk after chunk", command=command)]


def waiting(report: dict[str, Any]) -> str:
    """Return how OpenMP's threads waited, as it is said to it."""
    return "OMP_WAIT_POLICY=passive " if report["threads_sleep"] else ""


def speed_table() -> list[str]:
    """Throughput by batch size."""
    report = load("bench-engine")
    lines = [
        f"**Speed** (`{waiting(report)}worldenv bench engine --out FILE`, {report['hardware']}, decoding included)",
        "",
        "| envs | frames/s | env steps/s | first frames after (ms, median) |",
        "|---|---|---|---|",
    ]
    for row in report["timing"]:
        speed = f"{row['frames_per_s']:.0f} | {row['env_steps_per_s']:.1f} | {row['latency_ms_p50']:.0f}"
        lines.append(f"| {row['num_envs']} | {speed} |")
    return lines


def serve_table() -> list[str]:
    """What a session server adds to a step, and what it carries."""
    if not (RESULTS / "bench-serve.json").is_file():
        return []
    report = load("bench-serve")
    message, crowd = report["timing"]["message"], report["timing"]["load"]
    title = (
        f"**Serving** (`{waiting(report)}worldenv bench serve --steps {report['steps']} --out FILE`, "
        f"{report['hardware']}, where {report['load_of_others']:.0f} other processes wanted to run; a client's step "
        "beside the same step without a server, in turn; "
        f"{crowd['clients']} clients of a session each beside an engine of as many rows, in turn)"
    )
    columns = ("ms, median", "ms, p95")
    lines = heading(title, "of a message", columns)
    rows = {
        "the step, without a server": ("local_ms_p50", None),
        "the step, served": ("remote_ms_p50", None),
        "of it outside of the session": ("around_step_ms_p50", "around_step_ms_p95"),
        "a ping": ("ping_ms_p50", "ping_ms_p95"),
    }
    for name, keys in rows.items():
        lines.append(f"| {name} | " + " | ".join("" if key is None else f"{message[key]:.1f}" for key in keys) + " |")
    told = (
        f"{crowd['clients']} clients: {crowd['served_env_steps_per_s']:.1f} env steps/s, the engine "
        f"{crowd['engine_env_steps_per_s']:.1f}; round by round {crowd['share_of_engine']:.0%} of it (median), with "
        f"{crowd['rows_per_call']:.1f} rows in a model call."
    )
    return [*lines, "", told]


def backends_table() -> list[str]:
    """Ways to compute one world, side by side."""
    report = load("bench-backends")
    lines = [
        f"**Ways to compute** (`{waiting(report)}worldenv bench backends --out FILE`, {report['hardware']}; steps "
        "of all ways in turn, decoding included; times faster than "
        f"{report['reference']}: median, p20 to p80)",
        "",
        "| envs | dtype, backend | ms per chunk | times faster | first chunk against the reference |",
        "|---|---|---|---|---|",
    ]
    for row in report["timing"]:
        faster = f"{row['times_faster_p50']:.2f} [{row['times_faster_p20']:.2f}, {row['times_faster_p80']:.2f}]"
        apart = "" if row["first_chunk_psnr"] is None else f"{row['first_chunk_psnr']:.1f} dB"
        way = f"{row['dtype']}, `{row['backend']}`{', captured' if row.get('capture') else ''}"
        lines.append(f"| {row['num_envs']} | {way} | {row['chunk_ms_p50']:.0f} | {faster} | {apart} |")
    return lines
