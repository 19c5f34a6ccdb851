"""What a person would look at: video, contact sheet, curves over time, means with intervals, the map of a memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...base.media import save_figure, save_picture, save_video
from ...engine.engine import Engine
from ...envs.wrappers import tile
from ...play.explain import MemoryTrace
from ...world.world import World
from ..image import Array
from ..suites.cases import Cases
from .statistics import summarise

COLOURS = {
    "worldplay": "tab:blue",
    "worldscape": "tab:orange",
    "oracle": "tab:green",
    "simulator": "black",
    "none": "tab:red",
    "recent": "tab:purple",
    "random": "tab:brown",
    "swapped": "tab:cyan",
    "shuffled_actions": "gold",
    "continued": "navy",
    "frozen": "tab:olive",
    "last_frame": "0.6",
    "blur": "tab:pink",
    "vae": "0.35",
}
CONTROLS = ("frozen", "last_frame", "blur", "vae", "swapped", "shuffled_actions")
"""Arms drawn with dashes."""
LABEL = 150
"""Pixels of a name beside a row."""


Show = Callable[[Tensor], Tensor]
"""Makes pictures of frames (..., H, W, 3) uint8, as large or larger: ``World.enlarge``."""


def as_they_are(frames: Tensor) -> Tensor:
    """Show frames themselves."""
    return frames


def write_video(
    path: Path, rows: Mapping[str, Tensor], *, fps: int, count: int = 6, enlarge: Show = as_they_are
) -> None:
    """Write clips side by side: a column per case, a row per arm, twice as large; fewer cases where they are larger."""
    first = next(iter(rows.values()))[0, 0]
    larger = enlarge(first).shape[0] // first.shape[0]
    count, scale = (count, 2) if larger == 1 else (max(1, count // 3), 1)
    parts = [tile(enlarge(clips[:count]).numpy(), count) for clips in rows.values()]
    save_video(path, np.concatenate(parts, 1).repeat(scale, 1).repeat(scale, 2), fps=fps)


def write_contact(
    path: Path,
    rows: Mapping[str, Tensor],
    cases: Cases,
    *,
    count: int = 3,
    columns: int = 9,
    enlarge: Show = as_they_are,
) -> None:
    """Write a sheet: for each case and arm the first pass above the later one over the same poses.

    White lines part arms, which are named beside them, black ones cases.
    """
    blocks = []
    for case in [i for i in range(len(cases.first)) if (cases.first[i] >= 0).any()][:count]:
        latest = {first: t for t, first in enumerate(cases.first[case].tolist()) if first >= 0}
        places = sorted(latest)
        shown = [places[i] for i in np.linspace(0, len(places) - 1, columns).round().astype(int)]
        again = [latest[first] for first in shown]
        for name, clips in rows.items():
            both = [np.concatenate(list(twice(clips[case, index], enlarge)), 1) for index in (shown, again)]
            strip = np.pad(np.concatenate(both), ((0, 4), (0, 0), (0, 0)), constant_values=255)
            blocks.append(np.concatenate([_label(name.replace("_", " "), len(strip)), strip], 1))
        blocks.append(np.zeros((12, blocks[0].shape[1], 3), np.uint8))
    save_picture(path, np.concatenate(blocks[:-1]))


def _label(text: str, height: int) -> npt.NDArray[np.uint8]:
    """Write a name, black on white."""
    label = Image.new("RGB", (LABEL, height), "white")
    ImageDraw.Draw(label).text((8, height // 2), text, "black", ImageFont.load_default(16), anchor="lm")
    return np.asarray(label)


def twice(
    frames: Tensor,  # (N, H, W, 3) uint8
    enlarge: Show,
) -> npt.NDArray[np.uint8]:
    """Return pictures of frames twice as large, (N, 2 H, 2 W, 3): larger ones averaged, others' pixels repeated."""
    pictures = enlarge(frames)
    larger = pictures.shape[1] // frames.shape[1]
    if larger > 2:
        squares = pictures.unflatten(2, (-1, larger // 2)).unflatten(1, (-1, larger // 2))
        return squares.float().mean((2, 4)).round().to(torch.uint8).numpy()
    repeated: npt.NDArray[np.uint8] = pictures.numpy().repeat(2 // larger, 1).repeat(2 // larger, 2)
    return repeated


def sheet(*clips: Tensor, scale: int = 2) -> npt.NDArray[np.uint8]:
    """Lay out clips (N, T, H, W, 3) as rows, the first kind (the truth) above what was made of it."""
    rows = [np.concatenate(list(clip.numpy()), 1) for alike in zip(*clips, strict=True) for clip in alike]
    grid: npt.NDArray[np.uint8] = np.concatenate(rows).repeat(scale, 0).repeat(scale, 1)
    return grid


@contextmanager
def figure(path: Path, *shape: int, **options: Any) -> Iterator[Any]:
    """Open a figure of some panels and save it."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(*shape, layout="constrained", **options)
    yield axes
    save_figure(path, figure)
    plt.close(figure)


def _colours(arms: Iterable[str]) -> dict[str, Any]:
    """Return the colour of each arm: those of ``COLOURS``, and for arms that it does not name ones that it lacks."""
    from matplotlib import color_sequences
    from matplotlib.colors import to_hex

    taken = {to_hex(colour) for colour in COLOURS.values()}
    spare = cycle(colour for colour in color_sequences["tab20"] if to_hex(colour) not in taken)
    return {arm: COLOURS.get(arm) or next(spare) for arm in arms}


def draw_curves(path: Path, curves: Mapping[str, Mapping[str, Array]]) -> None:
    """Plot quality over time: the mean over cases of each curve (N, chunks) against the chunk, a line per arm.

    Training seeds of an arm (NAME@SEED) share its colour and its label.
    """
    names = list(dict.fromkeys(name for arm in curves.values() for name in arm))
    first = {arm.partition("@")[0]: arm for arm in reversed(list(curves))}
    colours = _colours(reversed(list(first)))
    with figure(path, 1, len(names), figsize=(4 * len(names), 3.4), squeeze=False) as axes:
        for axis, name in zip(axes[0], names, strict=True):
            for arm, values in curves.items():
                mean, kind = values[name].mean(0), arm.partition("@")[0]
                shown = np.where(mean < 59.9, mean, np.nan)  # a perfect score would press all others to the floor
                label, style = kind if arm == first[kind] else None, "--" if arm in CONTROLS else "-"
                axis.plot(np.arange(1, len(mean) + 1), shown, style, label=label, color=colours[kind])
            axis.set(xlabel="chunk", title=name.replace("_", " "))
            axis.grid(alpha=0.3)
        axes[0, -1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def draw_means(path: Path, metrics: Mapping[str, Mapping[str, Array]], keys: Mapping[str, str]) -> None:
    """Plot means and intervals, a panel per metric (by title) and a line per arm that has it."""
    arms = [arm for arm, values in metrics.items() if all(key in values for key in keys.values())]
    with figure(path, 1, len(keys), figsize=(5.5 * len(keys), 0.8 + 0.3 * len(arms)), sharey=True) as axes:
        for axis, (title, key) in zip(np.atleast_1d(axes), keys.items(), strict=True):
            for i, arm in enumerate(arms):
                summary = summarise(metrics[arm][key])
                mean, (low, high) = summary["mean"], summary["ci95"]
                colour = COLOURS.get(arm.partition("_")[0], "0.4")
                axis.errorbar(mean, i, xerr=[[mean - low], [high - mean]], fmt="o", color=colour, capsize=3)
            axis.set(xlabel="PSNR (dB)", title=title)
            axis.grid(axis="x", alpha=0.3)
        np.atleast_1d(axes)[0].set_yticks(np.arange(len(arms)), arms)
        np.atleast_1d(axes)[0].invert_yaxis()


def draw_claims(path: Path, verdicts: Mapping[str, Mapping[str, Any]], metric: str) -> None:
    """Plot by how much the first arm of each claim is better, with intervals: seed by seed, and all together."""
    claims = {claim: judged[metric] for claim, judged in verdicts.items() if metric in judged}
    if not claims:
        return
    rows = max(len(said["seeds"]) for said in claims.values()) + 1
    with figure(path, 1, len(claims), figsize=(4 * len(claims), 1.2 + 0.3 * rows), squeeze=False) as axes:
        for axis, (claim, said) in zip(axes[0], claims.items(), strict=True):
            lines = {**{f"seed {seed}": one for seed, one in said["seeds"].items()}, "all": said}
            for i, one in enumerate(lines.values()):
                (low, high), mean = one["ci95"], one["mean"]
                colour = "black" if one is said else "tab:blue"
                axis.errorbar(mean, i, xerr=[[mean - low], [high - mean]], fmt="o", color=colour, capsize=3)
            axis.axvline(0, color="0.6", linewidth=1)
            axis.set(xlabel=f"{metric}, gain", title=f"{claim}\n{said['verdict']}")
            axis.set_yticks(range(len(lines)), lines)
            axis.invert_yaxis()
            axis.grid(axis="x", alpha=0.3)


@torch.no_grad()
def draw_memory_map(path: Path, world: World, cases: Cases) -> None:
    """Step the first case once more and draw from above what each chunk retrieved."""
    engine, trace = Engine(world, 1, decode=False), MemoryTrace()
    engine.resume(cases.frames[:1, :1], {"c2w": cases.start_c2w[:1, None]}, seeds=[0])
    for commands in cases.rows(slice(0, 1)).actions(world.spec.chunk_latents):
        engine.generate(commands)
        trace.add(engine, commands["c2w"][0])
    trace.draw(path, title=f"{world.config.name}, {world.config.memory.policy}, map {cases.seeds[0]}")
