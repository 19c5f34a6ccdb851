"""Write the results of README and of the packaged world's ``report.json`` from the committed reports.

``python docs/tables.py``; ``--check`` only compares.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from worldenv.engine.world import world_sha256

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results"
WORLD = ROOT / "worldenv" / "worlds" / "maze"
STILL = 0.5
"""Share of the true motion below which an arm is no world."""
COMPARED = {
    "return_psnr_self_far": 1, "return_psnr_gt_far": 1, "seen_psnr": 1, "unseen_psnr": 1, "contrast_ratio": 2,
    "contrast_ratio_new": 2, "contrast_ratio_unseen": 2, "motion_ratio": 2, "r_dist_deg": 1, "action_score": 2,
    "frechet_pose_features": 3, "frechet_pose_features_late": 3, "frechet_pose_features_unseen": 3,
}  # fmt: skip
"""What worlds trained differently are compared in, with so many digits."""
LEAST_PSNR = -0.7
"""dB that a distilled world may lie below its parent on ground that is known."""
CLAUSES = {
    "distilled": {
        "seen_psnr": "seen ground, PSNR", "return_psnr_gt_far": "return, far, PSNR against the simulator",
        "return_psnr_self_far": "return, far, PSNR against its own way out",
        "frechet_pose_features_unseen": "unseen ground, Frechet distance",
        "contrast_error_unseen": "unseen ground, distance of the contrast from 1",
        "frechet_pose_features_late": "last eighth of 16 chunks, Frechet distance",
        "contrast_error_late": "last eighth of 16 chunks, distance of the contrast from 1",
    },
    "distilled-drift": {
        "frechet_pose_features_late": "last eighth of 64 chunks, Frechet distance",
        "contrast_error_late": "last eighth of 64 chunks, distance of the contrast from 1",
        "contrast_drift_size": "early to late, change of contrast",
        "sharpness_drift_size": "early to late, change of sharpness",
        "frechet_pose_features_drift": "early to late, growth of the Frechet distance",
    },
}  # fmt: skip
"""What is asked of a distilled world, by report and metric."""
SCORED = {
    "revisit": "", "short_term": "", "drift": "", "action": "", "reconstruction": "", "distilled": "distilled@0"
}  # fmt: skip
"""Reports on the packaged world, and what it is called in those that compare worlds."""
if (RESULTS / "distilled-drift.json").exists():
    SCORED["distilled-drift"] = "distilled@0"
KEPT = ("suite", "protocol", "cases", "git", "hardware", "seeds", "ci", "arms", "differences", "verdicts")
"""What the world's own report takes over from each: all but timings and details."""
BEGIN, END = "<!-- results: written by docs/tables.py from docs/results -->", "<!-- /results -->"


def load(name: str) -> dict[str, Any]:
    """Read one committed report."""
    report: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return report


def cell(summary: dict[str, Any], digits: int = 1) -> str:
    """Format a mean with its interval, if there is one."""
    low, high = summary["ci95"]
    interval = "" if summary.get("n") == 1 else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{summary['mean']:.{digits}f}{interval}"


def heading(title: str, first: str, columns: Iterable[str]) -> list[str]:
    """Begin a table: its title, and a row of names."""
    names = [first, *columns]
    return [title, "", "| " + " | ".join(names) + " |", "|---" * len(names) + "|"]


def arms_table(name: str, columns: dict[str, int], title: str, *, command: str = "") -> list[str]:
    """Arms of a suite, some of their metrics with so many digits; arms that stand still are marked."""
    report = load(name)
    columns = {c: d for c, d in columns.items() if any(c in metrics for metrics in report["arms"].values())}
    command = command or f"worldenv eval {name} --out DIR"
    seeds = len(report["seeds"])
    title = (
        f"**{title}** (`{command}`, {seeds} trajectories of {report['cases']}, "
        f"{report['hardware']}; means with 95 % intervals)"
    )
    lines = heading(title, "arm", columns)
    for arm, metrics in report["arms"].items():
        still = " (stands still: invalid)" if metrics["motion_ratio"]["mean"] < STILL else ""
        lines.append(arm_row(f"`{arm}`{still}", metrics, columns))
    return lines


def arm_row(label: str, metrics: dict[str, Any], columns: dict[str, int]) -> str:
    """Write one arm's row, empty where it has no such metric."""
    cells = [cell(metrics[c], d) if c in metrics else "" for c, d in columns.items()]
    return "| " + " | ".join([label, *cells]) + " |"


def revisit_table() -> list[str]:
    """Arms of the revisit suite, and what they differ by."""
    columns = {
        "return_psnr_self": 1, "return_psnr_self_far": 1, "return_psnr_gt": 1, "return_psnr_gt_far": 1, "seen_psnr": 1,
        "contrast_ratio_return": 2, "motion_ratio": 2, "memory_symmetry": 3, "action_score": 2,
    }  # fmt: skip
    lines = arms_table("revisit", columns, "Does a place look the same when one comes back?")
    lines += ["", "| paired difference | self, far | ground truth, far |", "|---|---|---|"]
    for name, metrics in load("revisit")["differences"].items():
        if name.endswith(("recent", "none", "random", "swapped")):
            far = (metrics["return_psnr_self_far"], metrics["return_psnr_gt_far"])
            lines.append(f"| {name} | " + " | ".join(cell(m) for m in far) + " |")
    return lines


def short_term_table() -> list[str]:
    """61 frames against the simulator."""
    columns = {
        "psnr": 1, "ssim": 2, "seen_psnr": 1, "unseen_psnr": 1, "r_dist_deg": 1, "t_dist": 2, "traj_acc_signed": 2,
        "action_score": 2, "frechet_pose_features": 3,
    }  # fmt: skip
    return arms_table("short_term", columns, "61 frames against the simulator")


def drift_table() -> list[str]:
    """Early against late chunks, and the same of the world before distillation."""
    columns = {
        "contrast_ratio_early": 2, "contrast_ratio_late": 2, "sharpness_early": 2, "sharpness_late": 2,
        "frechet_pose_features_early": 3, "frechet_pose_features_late": 3, "return_psnr_self_gap64": 1,
    }  # fmt: skip
    lines = arms_table("drift", columns, "The first and the last eighth of 64 chunks")
    for name, label in (("drift-parent", "4 steps"), ("drift-parent-16", "16 steps")):
        now, before = load("drift"), load(name)
        assert all(now[key] == before[key] for key in ("seeds", "cases", "hardware")), name
        label = f"`worldplay`, before distillation, {label} (`--world DIR`)"
        lines.append(arm_row(label, before["arms"]["worldplay"], columns))
    return lines


def distilled_table() -> list[str]:
    """The packaged world beside the one that it was distilled from, and what was asked of it, clause by clause."""
    arms = "--arms distilled=maze parent=DIR parent_16_steps=DIR,sampler.num_steps=16"
    command = f"worldenv eval ablations {arms} --worlds 32 --out DIR"
    lines = arms_table("distilled", COMPARED, "Four steps before and after context forcing", command=command)
    reports = {name: load(name) if name in SCORED else {} for name in CLAUSES}
    assert all(report["worlds"] == reports["distilled"]["worlds"] for report in reports.values() if report)
    against = list(reports["distilled"]["differences"])
    title = (
        "**What distillation was to keep and to gain** (paired differences; PSNR: at most "
        f"{-LEAST_PSNR} dB below, all else: lower; held: the whole interval is, not held: none of it, else undecided; "
        f"64 chunks: `worldenv eval ablations --suite drift {arms} --out DIR`)"
    )
    lines += ["", *heading(title, "clause", [name.replace("@0", "") for name in against])]
    for name, report in reports.items():
        for metric, clause in CLAUSES[name].items():
            found = [report.get("differences", {}).get(pair, {}).get(metric) for pair in against]
            lines.append(f"| {clause} | " + " | ".join(judged(x, psnr="psnr" in metric) for x in found) + " |")
    return lines


def judged(difference: dict[str, Any] | None, *, psnr: bool) -> str:
    """Write a difference and whether it held."""
    if difference is None:
        return "not measured yet"
    return f"{cell(difference, 2 if psnr else 3)}: {held(difference, psnr=psnr)}"


def held(difference: dict[str, Any], *, psnr: bool) -> str:
    """Say whether a difference is on the right side of its bound: above the least PSNR, or below 0."""
    low, high = difference["ci95"] if psnr else (-x for x in reversed(difference["ci95"]))
    bound = LEAST_PSNR if psnr else 0
    return "held" if low > bound else "not held" if high < bound else "undecided"


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
    columns = ("ms per chunk", "times `hold`", "frames/s", "passes", "when the action changes: ms", "passes then",
               "as far apart as `chunk`, by chunk", "obeyed after chunks", "first frames of it after ms")  # fmt: skip
    lines = heading(title, "way", columns)
    for way, row in bench["timing"].items():
        late = ["", "", ""]
        if way in bench["response"]:
            shares, count = bench["response"][way]["share_of_chunk"], row["action_to_photon_chunks"]
            said = "not within the window" if count is None else f"{count}{' by definition' * (way == 'chunk')}"
            first = "" if count is None else f"{row['action_to_photon_ms']:.0f}"
            late = [", ".join(f"{share:.2f}" for share in shares), said, first]
        cells = [
            f"{row['chunk_ms']:.0f}", f"{row['times_hold']:.1f}", f"{row['frames_per_s']:.0f}", f"{row['passes']:g}",
            f"{row['changed_chunk_ms']:.0f}", f"{row['changed_passes']:g}", *late,
        ]  # fmt: skip
        lines.append(f"| `{way}` | " + " | ".join(cells) + " |")
    arms = "--arms packaged=maze hold=DIR reset=DIR,sampler.lookahead_policy=reset"
    command = f"worldenv eval ablations {arms} --worlds 32 --out DIR"
    return [*lines, "", *arms_table("rolling", COMPARED, "The same window beside chunk after chunk", command=command)]


def memory_table() -> list[str]:
    """Both memories and their budgets, and what great age costs."""
    report, bench = load("memory"), load("bench-memory")
    columns = ("return_psnr_self_far", "return_psnr_gt_far", "return_psnr_gt")
    lines = [
        f"**Both memories** (`worldenv eval memory --out DIR`, {len(report['seeds'])} trajectories of "
        f"{report['cases']}, {report['hardware']}; "
        "ten chunks out, ten back; `worldscape_N`: a pool of at most N entries; `oracle` retrieves by true visibility)",
        "",
        "| arm | " + " | ".join(columns) + " | against recent: self, far | ground truth, far |",
        "|---" * (len(columns) + 3) + "|",
    ]
    for arm, metrics in report["arms"].items():
        difference = report["differences"].get(f"{arm} - recent")
        gains = [cell(difference[c]) if difference else "" for c in columns[:2]]
        lines.append(f"| `{arm}` | " + " | ".join([*(cell(metrics[c]) for c in columns), *gains]) + " |")
    lines += [
        "",
        "![The same as a plot: the way back against the own way out and against the simulator](docs/memory.png)",
        "",
        f"**Age** (`worldenv bench memory --chunks {bench['chunks']} --steps {bench['steps']} --out FILE`, "
        f"{bench['hardware']}, tiny preset; stepped in turn with a young engine, {bench['young_chunks']} chunks old)",
        "",
        "| policy | chunk time, old over young | tokens attended | memory grown per 1,000 chunks, beyond the latents |",
        "|---|---|---|---|",
    ]
    for name, row in bench["policies"].items():
        grown = f"{row['rss_mb_per_1000_chunks']:.2f} MB"
        lines.append(f"| `{name}` | {row['chunk_time_ratio']:.3f} | {row['tokens_attended']} | {grown} |")
    lines += ["", "| retrieval among 2,500 chunks, 50,000 points | by bounds | counting every point |", "|---|---|---|"]
    for row in (bench["retrieval_ms_one_env"], bench["retrieval_ms"]):
        what = f"envs: {row['envs']}, threads: {row['threads']}"
        lines.append(f"| {what} | {row['median']:.1f} ms | {row['brute_force']:,.0f} ms |")
    return lines


def figures_table() -> list[str]:
    """Single figures, each with the command that wrote it."""
    vae, action, geometry, short = (load(name) for name in ("reconstruction", "action", "geometry", "short_term"))
    floor, demo = short["floor"]["pose"]["truth"], load("demo")
    ahead, back = (demo["arms"][name]["return_psnr_gt"] for name in ("worldplay", "continued"))
    arm = next(iter(action["arms"].values()))
    simulator = geometry["arms"]["simulator"]
    rows = [
        ("VAE on held-out mazes, PSNR", f"{cell(vae['arms']['vae']['psnr'])} dB", "worldenv eval reconstruction", vae),
        ("VAE, contrast ratio", cell(vae["arms"]["vae"]["contrast_ratio"], 3), "worldenv eval reconstruction", vae),
        ("VAE, motion ratio: the ceiling of the column above", cell(vae["arms"]["vae"]["motion_ratio"], 2),
         "worldenv eval reconstruction", vae),
        ("Continuing a clip: given the way out, the way back against the simulator (from a start view alone: "
         f"{cell(ahead)} dB)", f"{cell(back)} dB", "worldenv demo", demo),
        ("Turns obeyed", f"{100 * arm['obeyed']['mean']:.1f} % of {arm['obeyed']['n']} states", "worldenv eval action",
         action),
        ("Simulator: frames warped by depth agree at", f"{cell(simulator['warp_psnr'])} dB", "worldenv eval geometry",
         geometry),
        ("Simulator: motion lags its command by", f"{simulator['lag_latents']['mean']:.0f} latents",
         "worldenv eval geometry", geometry),
        ("Pose network on true frames, rotation per latent (11.25 degrees)",
         f"median {floor['latent_rotation_deg_median']:.2f}, 95 % {floor['latent_rotation_deg_p95']:.2f} degrees",
         "worldenv eval short_term", short),
        ("Pose network on true frames, translation per latent, share of a step",
         f"median {100 * floor['latent_translation_share_median']:.1f} %, "
         f"95 % {100 * floor['latent_translation_share_p95']:.0f} %", "worldenv eval short_term", short),
    ]  # fmt: skip
    lines = ["| what | figure | command | hardware |", "|---|---|---|---|"]
    return lines + [f"| {what} | {figure} | `{command}` | {r['hardware']} |" for what, figure, command, r in rows]


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


def backends_table() -> list[str]:
    """Ways to compute one world, side by side."""
    report = load("bench-backends")
    lines = [
        f"**Ways to compute** (`{waiting(report)}worldenv bench backends --out FILE`, {report['hardware']}; steps "
        "of all ways in turn, decoding included; times faster than "
        f"{report['reference'].removesuffix(' none')}: median, p20 to p80)",
        "",
        "| envs | dtype, backend, quantisation | ms per chunk | times faster | first chunk against the reference |",
        "|---|---|---|---|---|",
    ]
    for row in report["timing"]:
        faster = f"{row['times_faster_p50']:.2f} [{row['times_faster_p20']:.2f}, {row['times_faster_p80']:.2f}]"
        apart = "" if row["first_chunk_psnr"] is None else f"{row['first_chunk_psnr']:.1f} dB"
        way = f"{row['dtype']}, `{row['backend']}`, {row['quantize']}{', captured' if row.get('capture') else ''}"
        lines.append(f"| {row['num_envs']} | {way} | {row['chunk_ms_p50']:.0f} | {faster} | {apart} |")
    return lines


def quantised_table() -> list[str]:
    """What 8-bit linear layers cost: the same cases and noise in bfloat16 and with them."""
    columns = {
        "return_psnr_self_far": 2,
        "return_psnr_gt_far": 2,
        "seen_psnr": 2,
        "contrast_ratio": 3,
        "action_score": 3,
    }
    reports = [load(f"revisit-{name}") for name in ("bfloat16", "int8")]
    count = len(reports[0]["seeds"])
    title = (
        f"**8-bit linear layers** (`worldenv eval revisit --worlds {count} --out DIR`, and the same with `--quantize "
        f"int8`; {count} trajectories of {reports[0]['cases']}, {reports[0]['hardware']}; arm `worldplay`)"
    )
    lines = heading(title, "computed in", columns)
    for report in reports:
        metrics = report["arms"]["worldplay"]
        cells = [cell(metrics[name], digits) for name, digits in columns.items()]
        lines.append(f"| {report['world']['computation']} | " + " | ".join(cells) + " |")
    return lines


def ablations_table() -> list[str]:
    """Verdicts on WorldPlay's comparisons, of the tables that have been run."""
    reports = {path.stem: load(path.stem) for path in sorted(RESULTS.glob("ablation-*.json"))}
    hardware = ", ".join(dict.fromkeys(report["hardware"] for report in reports.values()))
    lines = [
        "**WorldPlay's comparisons, reproduced with small models** (`worldenv eval ablations --table "
        f"configs/ablations/NAME.toml --out DIR`, {hardware}; gain in the metric that was fixed beforehand, 95 % "
        "interval over training seeds, mazes and paths; further metrics by the same rule)",
        "",
        "| file | claim | metric | gain | training seeds | verdict | further metrics |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, report in reports.items():
        metric = report["question"]["primary"]
        for claim, judged in report["verdicts"].items():
            said, table = judged[metric], name.removeprefix("ablation-")
            better = claim.replace(" - ", "` over `")
            lines.append(
                f"| `{table}` | `{better}` | {metric} | {cell(said, 2)} | {len(said['seeds'])} | {said['verdict']} | "
                f"{by_verdict({name: one for name, one in judged.items() if name != metric})} |"
            )
    return lines


def by_verdict(judged: dict[str, Any]) -> str:
    """Name metrics by what is said of them."""
    verdicts = dict.fromkeys(one["verdict"] for one in judged.values())
    return "; ".join(
        f"{verdict}: " + ", ".join(name for name, one in judged.items() if one["verdict"] == verdict)
        for verdict in verdicts
    )


def render() -> str:
    """Return the README with its results block made anew."""
    text = README.read_text()
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    parts = [
        revisit_table(), distilled_table(), short_term_table(), drift_table(), memory_table(), ablations_table(),
        figures_table(), speed_table(), backends_table(), rolling_table(), quantised_table(),
    ]  # fmt: skip
    return head + BEGIN + "\n" + "\n\n".join("\n".join(part) for part in parts) + "\n" + END + tail


def world_report() -> str:
    """Return what was measured of the packaged world, as its ``report.json``.

    Raises:
        SystemExit: if a report speaks of other weights than the packaged ones.
    """
    packaged = world_sha256(WORLD)
    suites = {}
    for name, arm in SCORED.items():
        report = load(name)
        world = report["worlds"][arm] if arm else report["world"]
        if world["sha256"] != packaged:
            sys.exit(f"docs/results/{name}.json speaks of another world than {WORLD.name}; run it again")
        suites[name] = {key: report[key] for key in KEPT if key in report}
    return json.dumps({"format": 1, "world": {"name": WORLD.name, "sha256": packaged}, "suites": suites}) + "\n"


def main() -> None:
    """Write the files, or compare them."""
    written = {README: render(), WORLD / "report.json": world_report()}
    for path, text in written.items():
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            sys.exit(f"{path.relative_to(ROOT)} differs; run python docs/tables.py")


if __name__ == "__main__":
    main()
