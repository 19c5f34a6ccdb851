"""What several machines would do, by what one does."""

from __future__ import annotations

from cells import RESULTS, load

ACTORS = (1, 8, 64)
ENVS = (1, 4, 16, 64, 256, 1024, 4096)
CHUNKS = 64
"""Chunks of an episode whose memory is counted."""


def scale_table() -> list[str]:
    """Return what was measured, what it foretells, and what many envs keep."""
    if not (RESULTS / "bench-scale.json").is_file():
        return ["Not measured yet: `worldenv bench scale --out docs/results/bench-scale.json`."]
    bench = load("bench-scale")
    timing, each, travels = bench["timing"], bench["num_envs"], bench["bytes_per_env_step"]
    command = f"worldenv bench scale --envs {each} --steps {bench['steps']} --out FILE"
    foretold = bench["two_actors_predicted_env_steps_per_s"]
    call = bench["call_ms_p50"]
    step = timing["local"]["step_ms_p50"] + call
    lines = [
        f"`{command}`, {bench['hardware']}, medians of steps in turn:",
        "",
        "| | envs | ms per step | the fastest | env steps/s |",
        "|---|---|---|---|---|",
    ]
    for way, row in timing.items():
        cells = (row["num_envs"], row["step_ms_p50"], row["step_ms_least"], row["env_steps_per_s"])
        lines.append(f"| {way.replace('_', ' ')} | " + " | ".join(map(str, cells)) + " |")
    middle, low, high = (bench["actor_overhead"][key] for key in ("p50", "p20", "p80"))
    frames = bench["frame_bytes_per_env_step"]
    lines += [
        "",
        f"A step in an actor takes {middle:+.1%} beside a local one of as many envs (median of pairs, taken in turn; "
        f"20 to 80 %: {low:+.1%} to {high:+.1%}). Two actors were foretold at {foretold} env steps/s by the local step "
        f"and a call of {call} ms;",
        f"{travels / 1000:.1f} KB travel per env step. Actors of {each} envs each, on machines like this, a core each:",
        "",
        "| actors | env steps/s | network at the learner, MB/s | every frame to disk, GB an hour |",
        "|---|---|---|---|",
    ]
    for actors in ACTORS:
        rate = 1000 * actors * each / step
        lines.append(f"| {actors} | {rate:.0f} | {rate * travels / 1e6:.3g} | {rate * frames * 3600 / 1e9:.3g} |")
    begun, kept = bench["state_bytes_per_env"], bench["state_bytes_per_env_and_chunk"]
    peaks = {int(size): peak for size, peak in bench["peak_bytes"].items()}
    fewest, most = min(peaks), max(peaks)
    slope = (peaks[most] - peaks[fewest]) / (most - fewest)
    measured = ", ".join(f"{peak / 1e9:.2f} GB with {size}" for size, peak in peaks.items())
    lines += [
        "",
        f"A process takes {measured} envs (its most, measured): {slope / 1e6:.1f} MB an env. An env remembers "
        f"{begun / 1e6:.2f} MB when it begins and {kept / 1e3:.1f} KB more with every chunk. After {CHUNKS} chunks:",
        "",
        "| envs | memory |",
        "|---|---|",
    ]
    held = slope + CHUNKS * kept
    return lines + [f"| {envs:,} | {(peaks[fewest] + (envs - fewest) * held) / 1e9:.3g} GB |" for envs in ENVS]


def collectors_table() -> list[str]:
    """Return what TorchRL's collectors make of the same environment."""
    if not (RESULTS / "bench-collectors.json").is_file():
        return ["Not measured yet: `worldenv bench collectors --out docs/results/bench-collectors.json`."]
    bench = load("bench-collectors")
    alone = bench["timing"][0]["env_steps_per_s"]
    return [
        f"`worldenv bench collectors --envs {bench['num_envs']} --steps {bench['steps']} --out FILE`, "
        f"{bench['hardware']}, {bench['num_envs']} envs and one thread a process:",
        "",
        "| | env steps/s | beside the environment alone |",
        "|---|---|---|",
        *(
            f"| {row['way']} | {row['env_steps_per_s']} | {row['env_steps_per_s'] / alone:.2f} |"
            for row in bench["timing"]
        ),
    ]
