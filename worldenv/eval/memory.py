"""Suite ``memory``: both papers' memories, WorldScape's at several budgets, against what an oracle would retrieve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..base.dynamics import FRAMES_PER_LATENT
from ..base.log import Stopwatch, console
from ..engine.world import World
from ..memory.config import MemoryConfig, num_slots, with_policy
from .image import Array
from .report import paired, summarise, write_report
from .revisit import PROTOCOL, make_cases, run_arm, score

BUDGETS = (2, 4, 8, 16, 0)
"""Entries of WorldScape's pool; 0 is no limit."""
NUM_CHUNKS = 10
"""Chunks out, and as many back: longer than in suite ``revisit``, so that small pools fill up."""


def memory_arms(memory: MemoryConfig) -> dict[str, MemoryConfig]:
    """Name the memories that are compared."""
    scape = with_policy(memory, "worldscape")
    pools = {f"worldscape_{n or 'unlimited'}": replace(scape, pool_entries=n) for n in BUDGETS}
    others = {policy: with_policy(memory, policy) for policy in ("recent", "random", "none", "oracle")}
    return {"worldplay": with_policy(memory, "worldplay"), **pools, **others}


def run_memory(world: World, out: Path, *, num_worlds: int, first_seed: int) -> None:
    """Run every memory on the same cases and noise; write report.json and memory.png."""
    memory, spec, watch = world.config.memory, world.spec, Stopwatch()
    seeds = list(range(first_seed, first_seed + num_worlds))
    cases = make_cases(spec, seeds, NUM_CHUNKS, oracle=True)
    window = FRAMES_PER_LATENT * num_slots(memory, spec.chunk_latents)
    metrics = {
        name: score(run_arm(world, cases, config, label=name), cases.frames, window_frames=window)
        for name, config in memory_arms(memory).items()
    }
    differences = {f"{arm} - recent": paired(m, metrics["recent"]) for arm, m in metrics.items() if arm != "recent"}
    differences |= {
        f"worldscape_unlimited - {arm}": paired(metrics["worldscape_unlimited"], metrics[arm])
        for arm in ("worldplay", "random", "none")
    }
    write_report(
        out / "report.json", suite="memory", protocol=PROTOCOL,
        world={"name": world.config.name, "sha256": world.sha256}, seeds=seeds, arms=metrics, differences=differences,
        timing={"seconds": watch.seconds()},
    )  # fmt: skip
    draw(metrics, out / "memory.png")
    for arm, values in metrics.items():
        own, real = (values[f"return_psnr_{name}_far"].mean() for name in ("self", "gt"))
        console.print(f"{arm:>22}  self {own:5.2f}  ground truth {real:5.2f} dB")
    console.print(f"wrote {out}/report.json, memory.png")


def draw(metrics: dict[str, dict[str, Array]], path: Path) -> None:
    """Plot means and intervals of far returns, against the own way out and against the simulator."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharey=True)
    names = list(metrics)
    for axis, key, title in zip(
        axes, ("return_psnr_self_far", "return_psnr_gt_far"), ("its own way out", "the simulator"), strict=True
    ):
        for i, name in enumerate(names):
            summary = summarise(metrics[name][key])
            low, high = summary["ci95"]
            colour = {"worldplay": "tab:blue", "oracle": "tab:green"}.get(
                name, "tab:orange" if "scape" in name else "0.4"
            )
            mean = summary["mean"]
            axis.errorbar(mean, i, xerr=[[mean - low], [high - mean]], fmt="o", color=colour, capsize=3)
        axis.set(xlabel="PSNR (dB)", title=f"way back, far gaps, against {title}")
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(np.arange(len(names)), names)
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=100)
    plt.close(figure)
