"""Figures of closed loops: what worlds foretell of policies, and what planning in them brings for what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from worldenv.eval.image import Array
from worldenv.eval.report.pictures import figure
from worldenv.eval.report.statistics import summarise

LOOKS = {"world": "tab:blue", "floor": "tab:orange", "blank": "0.5"}


def draw_foretold(
    path: Path, policies: Mapping[str, tuple[Array, Array]], by_horizon: Mapping[int, Mapping[str, Any]]
) -> None:
    """Plot what policies earn in a world, (N,), against the simulator, (N,); and their correlation by horizon."""
    with figure(path, 1, 2, figsize=(11, 4.2)) as (axis, other):
        for i, (name, earned) in enumerate(policies.items()):
            x, y = (summarise(values) for values in earned)
            style = {"fmt": "osD^v"[i % 5], "label": name, "capsize": 2, "alpha": 0.8}
            axis.errorbar(x["mean"], y["mean"], xerr=_spread([x]), yerr=_spread([y]), **style)
        axis.axline((0, 0), slope=1, color="0.7", linewidth=1)
        axis.set(xlabel="return in the world", ylabel="return in the simulator")
        axis.legend(fontsize=6)
        found = list(by_horizon.values())
        other.errorbar(list(by_horizon), [one["mean"] for one in found], yerr=_spread(found), marker="o", capsize=3)
        other.set(xlabel="steps", ylabel="Pearson")
        for panel in (axis, other):
            panel.grid(alpha=0.3)


def draw_planning(path: Path, arms: Mapping[str, Mapping[str, Any]]) -> None:
    """Plot success against imagined rollouts and against seconds a decision; policies that do not plan as lines."""
    with figure(path, 1, 2, figsize=(10, 3.8), sharey=True) as axes:
        for axis, key in zip(axes, ("rollouts", "seconds"), strict=True):
            for where, colour in LOOKS.items():
                found = [arm for arm in arms.values() if arm["imagine"] == where]
                at = [arm[key] if key == "rollouts" else arm[key]["mean"] for arm in found]
                success = [arm["success"] for arm in found]
                means = [one["mean"] for one in success]
                axis.errorbar(at, means, yerr=_spread(success), marker="o", capsize=3, color=colour, label=where)
            for i, (name, arm) in enumerate((n, a) for n, a in arms.items() if not a["rollouts"]):
                axis.axhline(arm["success"]["mean"], color=f"C{i + 2}", linestyle=":", label=name)
            axis.set(xscale="log", ylim=(-0.03, 1.03))
            axis.grid(alpha=0.3)
        axes[0].set(xlabel="imagined rollouts of a decision", ylabel="success in the simulator")
        axes[1].set(xlabel="seconds of one core, a decision")
        axes[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def _spread(summaries: list[Any]) -> Array:
    """Return how far the ends of intervals lie from their means, (2, N)."""
    means, ends = np.array([s["mean"] for s in summaries]), np.array([s["ci95"] for s in summaries]).reshape(-1, 2)
    spread: Array = np.abs(ends - means[:, None]).T
    return spread
