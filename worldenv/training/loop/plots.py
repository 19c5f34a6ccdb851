"""Plots of a run: losses over steps, and sample sheets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...base.log import JsonlLog
from ...base.media import save_figure, save_picture


def plot_losses(log: Path, path: Path) -> None:
    """Draw every logged figure over steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    records = JsonlLog.read(log)
    names = sorted({k for r in records for k in r} - {"step", "hours", "lr"})
    if not names:
        return
    figure, axes = plt.subplots(1, len(names), figsize=(3.2 * len(names), 2.6), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        points = [(r["step"], r[name]) for r in records if name in r]
        axis.plot(*zip(*points, strict=True), linewidth=1)
        axis.set_title(name)
        axis.set_xlabel("step")
    figure.tight_layout()
    save_figure(path, figure, dpi=80)
    plt.close(figure)


def save_sheet(
    path: Path,
    rows: list[Tensor],  # each (T, H, W, 3) uint8
    *,
    scale: int = 2,
) -> None:
    """Write rows of frames as one PNG, enlarged by nearest neighbour."""
    lines = [torch.cat(list(row), 1) for row in rows]
    sheet = torch.cat(lines, 0).repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    save_picture(path, np.asarray(sheet))


def plot_tracks(
    path: Path,
    truth: Tensor,  # (N, F, 4, 4)
    tracks: Mapping[str, Tensor],  # each (N, F, 4, 4)
    *,
    num_shown: int = 8,
) -> None:
    """Draw camera tracks from above, each beside the true one."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    count = min(num_shown, len(truth))
    figure, axes = plt.subplots(1, count, figsize=(2.6 * count, 2.8), squeeze=False)
    for i, axis in enumerate(axes[0]):
        for name, track in ({"true": truth} | dict(tracks)).items():
            axis.plot(track[i, :, 0, 3], track[i, :, 2, 3], linewidth=1, label=name)
        axis.set_aspect("equal")
    axes[0, 0].legend(fontsize=6)
    figure.tight_layout()
    save_figure(path, figure, dpi=80)
    plt.close(figure)
