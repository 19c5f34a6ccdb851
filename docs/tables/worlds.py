"""What was measured of the packaged world, its memory and small worlds trained for comparison."""

from __future__ import annotations

from typing import Any

from cells import RESULTS, arm_row, arms_table, cell, load


def revisit_table() -> list[str]:
    """Arms of the revisit suite, and what they differ by."""
    columns = {
        "return_psnr_self": 1,
        "return_psnr_self_far": 1,
        "return_psnr_gt": 1,
        "return_psnr_gt_far": 1,
        "seen_psnr": 1,
        "contrast_ratio_return": 2,
        "motion_ratio": 2,
        "memory_symmetry": 3,
        "action_score": 2,
    }
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
        "psnr": 1,
        "ssim": 2,
        "seen_psnr": 1,
        "unseen_psnr": 1,
        "r_dist_deg": 1,
        "t_dist": 2,
        "traj_acc_signed": 2,
        "action_score": 2,
        "frechet_pose_features": 3,
    }
    return arms_table("short_term", columns, "61 frames against the simulator")


def drift_table() -> list[str]:
    """Early against late chunks, and the same of the world before distillation."""
    columns = {
        "contrast_ratio_early": 2,
        "contrast_ratio_late": 2,
        "sharpness_early": 2,
        "sharpness_late": 2,
        "frechet_pose_features_early": 3,
        "frechet_pose_features_late": 3,
        "return_psnr_self_gap64": 1,
    }
    lines = arms_table("drift", columns, "The first and the last eighth of 64 chunks")
    now, before = load("drift"), load("distilled-drift")
    assert all(now[key] == before[key] for key in ("seeds", "cases", "hardware"))
    parents = {arm: metrics for arm, metrics in before["arms"].items() if arm.startswith("parent")}
    return lines + [
        arm_row(f"`{arm}`, before distillation (64 chunks, above)", metrics, columns)
        for arm, metrics in parents.items()
    ]


def memory_table() -> list[str]:
    """Both memories and their budgets, and what great age costs."""
    report, bench = load("memory"), load("bench-memory")
    columns = ("return_psnr_self_far", "return_psnr_gt_far", "return_psnr_gt")
    lines = [
        f"**Both memories** (`worldenv eval memory --out DIR`, {len(report['seeds'])} trajectories of "
        f"{report['cases']}, {report['hardware']}; "
        "ten chunks out, ten back; `worldscape_N`: a pool of at most N entries; `oracle` retrieves by visibility in "
        "the true maze, which is not the one that the world invents)",
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
        "![The same as a plot: the way back against the own way out and against the simulator](memory.png)",
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
        (
            "VAE, motion ratio of true clips through it",
            cell(vae["arms"]["vae"]["motion_ratio"], 2),
            "worldenv eval reconstruction",
            vae,
        ),
        (
            "Continuing a clip: given the way out, the way back against the simulator (from a start view alone: "
            f"{cell(ahead)} dB)",
            f"{cell(back)} dB",
            "worldenv demo --worlds 24",
            demo,
        ),
        (
            "Turns obeyed",
            f"{100 * arm['obeyed']['mean']:.1f} % of {arm['obeyed']['n']} states",
            "worldenv eval action",
            action,
        ),
        (
            "Simulator: frames warped by depth agree at",
            f"{cell(simulator['warp_psnr'])} dB",
            "worldenv eval geometry",
            geometry,
        ),
        (
            "Simulator: motion lags its command by",
            f"{simulator['lag_latents']['mean']:.0f} latents",
            "worldenv eval geometry",
            geometry,
        ),
        (
            "Pose network on true frames, rotation per latent (11.25 degrees)",
            f"median {floor['latent_rotation_deg_median']:.2f}, 95 % {floor['latent_rotation_deg_p95']:.2f} degrees",
            "worldenv eval short_term",
            short,
        ),
        (
            "Pose network on true frames, translation per latent, share of a step",
            f"median {100 * floor['latent_translation_share_median']:.1f} %, "
            f"95 % {100 * floor['latent_translation_share_p95']:.0f} %",
            "worldenv eval short_term",
            short,
        ),
    ]
    lines = ["| what | figure | command | hardware |", "|---|---|---|---|"]
    return lines + [f"| {what} | {figure} | `{command}` | {r['hardware']} |" for what, figure, command, r in rows]


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
