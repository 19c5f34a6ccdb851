"""Plots of a run: losses over steps, and sample sheets."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from torch import Tensor

from ..base.log import JsonlLog


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
    figure.savefig(path, dpi=80)
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
    path.parent.mkdir(parents=True, exist_ok=True)
    iio.imwrite(path, np.asarray(sheet))
