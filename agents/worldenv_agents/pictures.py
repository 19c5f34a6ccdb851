"""Figures of closed loops: what worlds foretell of policies, and what planning in them brings for what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def draw_learning(
    path: Path,
    curves: Mapping[str, Sequence[Sequence[Mapping[str, float]]]],
    *,
    inside: Sequence[str],
    real: str,
    pair: tuple[str, str],
) -> None:
    """Plot what policies earn over their training.

    Left ``real`` of whole episodes, a line for each policy of each arm, and dotted ones for those that are not trained;
    right, of the arms trained ``inside``, a ``pair``: what is real and, dashed, what was imagined of it.
    """
    colours = {arm: f"C{i}" for i, arm in enumerate(arm for arm, runs in curves.items() if "leg" in runs[0][-1])}
    with figure(path, 1, 2, figsize=(11, 3.8)) as (whole, early):
        for i, arm in enumerate(arm for arm in curves if arm not in colours):
            mean = float(np.mean([lines[-1][real] for lines in curves[arm]]))
            whole.axhline(mean, color=str(0.3 + 0.5 * i / len(curves)), linestyle=":", label=arm)
        drawn = [(whole, arm, real, "o-", arm) for arm in colours]
        drawn += [(early, arm, pair[0], "o-", f"{arm}, real") for arm in inside]
        drawn += [(early, arm, pair[1], "o--", f"{arm}, imagined") for arm in inside]
        for axis, arm, key, style, label in drawn:
            for number, lines in enumerate(curves[arm]):
                steps, values = [line["step"] for line in lines], [line[key] for line in lines]
                axis.plot(steps, values, style, color=colours[arm], label=label if number == 0 else None, markersize=3)
        for axis, title in ((whole, "in the simulator"), (early, "imagined and real, trained inside")):
            axis.set(xlabel="steps of training", title=title)
            axis.grid(alpha=0.3)
            if axis.lines:
                axis.legend(fontsize=6)


def draw_fidelity(
    path: Path, arms: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]], *, labels: tuple[str, str]
) -> None:
    """Plot what policies earn in the simulator against how true what they were trained in is, a point for each arm."""
    with figure(path, figsize=(5, 3.8)) as axis:
        for i, (name, (x, y)) in enumerate(arms.items()):
            style = {"fmt": "o", "label": name, "color": f"C{i}", "capsize": 3}
            axis.errorbar(x["mean"], y["mean"], xerr=_spread([x]), yerr=_spread([y]), **style)
        axis.set(xlabel=labels[0], ylabel=labels[1])
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)


def _spread(summaries: list[Any]) -> Array:
    """Return how far the ends of intervals lie from their means, (2, N)."""
    means, ends = np.array([s["mean"] for s in summaries]), np.array([s["ci95"] for s in summaries]).reshape(-1, 2)
    spread: Array = np.abs(ends - means[:, None]).T
    return spread
