"""Memory rendered into the coming view: what it is worth beside learned memory, and what it costs."""

from __future__ import annotations

from cells import RESULTS, arm_row, arms_table, cell, heading, load

COLUMNS = {
    "action_score": 2,
    "seen_psnr": 1,
    "unseen_psnr": 1,
    "return_psnr_gt": 1,
    "return_psnr_self": 1,
    "contrast_ratio": 2,
    "frechet_pose_features_unseen": 3,
    "sharpness_early": 2,
    "sharpness_late": 2,
}
GAINS = ("action_score", "seen_psnr", "return_psnr_gt", "return_psnr_self", "frechet_pose_features_unseen")


def rendering_table() -> list[str]:
    """Arms of the rendering suite, their differences, errors of the depth head, the time of a chunk; if measured."""
    if not (RESULTS / "rendering.json").is_file():
        return []
    report = load("rendering")
    first = f"--worlds {len(report['seeds'])} --first-seed {report['seeds'][0]}"
    command = f"worldenv eval rendering {first} --out DIR"
    lines = arms_table("rendering", COLUMNS, "Memory rendered into the coming view", command=command)
    lines += ["", "| paired difference | " + " | ".join(GAINS) + " |", "|---" * (1 + len(GAINS)) + "|"]
    for name, metrics in report["differences"].items():
        cells = [cell(metrics[m], COLUMNS[m] + 1 if m == "action_score" else COLUMNS[m]) for m in GAINS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, "", *_depth_lines(), "", *_cost_lines()]


def input_table() -> list[str]:
    """The same weights with rendered memory as an input too, distilled with it; if measured."""
    if not (RESULTS / "rendering-input.json").is_file():
        return []
    first = min(load("rendering-input")["seeds"])
    command = (
        "worldenv eval ablations --arms both=DIR guided=maze input=DIR,memory.rendering.until=2.0 undistilled=DIR "
        f"learned=maze,memory.render=false --worlds 16 --first-seed {first} --out DIR"
    )
    title = "Rendered memory as an input of the transformer, trained for 25 minutes and distilled"
    return arms_table("rendering-input", COLUMNS, title, command=command)


def summary_table() -> list[str]:
    """What memory is worth, in five rows; if measured."""
    if not (RESULTS / "rendering.json").is_file():
        return []
    report = load("rendering")
    names = {
        "worldplay_rendered": "both memories: learned and rendered",
        "worldplay": "learned memory (WorldPlay's)",
        "none": "no memory",
        "vae": "the truth through the VAE",
        "simulator": "the simulator",
    }
    columns = {
        "return_psnr_self": "a place looks the same on return (dB)",
        "return_psnr_gt": "and as in the simulator",
        "seen_psnr": "what the start view showed (dB)",
        "action_score": "moves as told",
    }
    title = (
        f"{len(report['seeds'])} held-out mazes, 12 chunks from one start view, {report['hardware']}; 95 % intervals:"
    )
    lines = heading(title, "", columns.values())
    digits = {name: 2 if name == "action_score" else 1 for name in columns}
    return lines + [arm_row(said, report["arms"][arm], digits) for arm, said in names.items()]


def _depth_lines() -> list[str]:
    """The depth head's errors, relative to the true depth."""
    report = load("depth")
    first = f"--worlds {len(report['seeds'])} --first-seed {report['seeds'][0]}"
    title = (
        f"**The depth head** (`worldenv eval depth {first} --out DIR`, {report['hardware']}; relative errors, medians "
        "over pixels; `_seen`: on points that the start view showed, for what is invented has no true depth)"
    )
    columns = dict.fromkeys(("depth_error", "depth_error_seen", "depth_error_of_frames", "depth_error_expected"), 3)
    lines = heading(title, "frames of", columns)
    return lines + [arm_row(f"`{arm}`", metrics, columns) for arm, metrics in report["arms"].items()]


def _cost_lines() -> list[str]:
    """Chunks with and without, in paired steps, if that has been measured."""
    if not (RESULTS / "bench-rendering.json").is_file():
        return []
    bench = load("bench-rendering")
    waits = "OMP_WAIT_POLICY=passive " if bench["threads_sleep"] else ""
    title = (
        f"**Its cost** (`{waits}worldenv bench rendering --out FILE`, {bench['hardware']}; paired steps, p20 to p80)"
    )
    lines = heading(title, "envs", ("ms per chunk", "rendered", "times longer", "with walls", "times longer"))
    return lines + [_cost_row(row) for row in bench["timing"]]


def _cost_row(row: dict[str, float]) -> str:
    cells = [f"{row['num_envs']}", f"{row['chunk_ms_p50']:.0f}"]
    for chunk, longer in (("rendered_chunk", "times_longer"), ("walled_chunk", "walled_times_longer")):
        p20, p50, p80 = (row[f"{longer}_p{p}"] for p in (20, 50, 80))
        cells += [f"{row[f'{chunk}_ms_p50']:.0f}", f"{p50:.2f} [{p20:.2f}, {p80:.2f}]"]
    return "| " + " | ".join(cells) + " |"
