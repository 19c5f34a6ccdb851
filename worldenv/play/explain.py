"""Why did you remember that? A rollout from above, with what each chunk retrieved."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..base.media import save_figure
from ..engine.engine import Engine


@dataclass
class MemoryTrace:
    """What the chunks of one env had in context, in order."""

    poses: list[Tensor] = field(default_factory=list)  # (F, 4, 4) each
    entries: list[list[int]] = field(default_factory=list)
    retrieved: list[list[int]] = field(default_factory=list)
    scores: list[list[float]] = field(default_factory=list)
    places: list[Tensor] = field(default_factory=list)  # (k, 4, 4) poses of the retrieved entries

    def add(self, engine: Engine, c2w: Tensor) -> None:
        """Take note of row 0 of the engine's newest chunk, which moved along ``c2w`` (F, 4, 4)."""
        known = {name: value[0] for name, value in engine.history.explain().items()}
        found = known["retrieved"] >= 0
        self.poses.append(c2w)
        self.entries.append(sorted({int(e) for e in known["entries"] if e >= 0}))
        self.retrieved.append(known["retrieved"][found].tolist())
        self.scores.append(known["score"][found].tolist())
        self.places.append(known["retrieved_c2w"][found])

    def draw(self, path: Path, *, title: str) -> None:
        """Save two panels: the way from above with lines to what was retrieved, and entries in context over time."""
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt

        figure, (above, time) = plt.subplots(1, 2, figsize=(12, 6), width_ratios=(1, 1), layout="constrained")
        way = torch.cat(self.poses).numpy()
        x, z = way[:, 0, 3], way[:, 2, 3]
        above.plot(x, z, color="0.8", zorder=1)
        dots = above.scatter(x, z, c=np.arange(len(x)) / len(self.poses[0]), cmap="viridis", s=14, zorder=2)
        ends = np.cumsum([len(p) for p in self.poses]) - 1
        above.quiver(
            x[ends], z[ends], way[ends, 0, 2], way[ends, 2, 2], angles="xy", width=0.004, scale=25, color="0.3"
        )
        for poses, places, scores in zip(self.poses, self.places, self.scores, strict=True):
            here = poses[len(poses) // 2]
            for place, score in zip(places, scores, strict=True):
                above.plot(
                    [here[0, 3], place[0, 3]],
                    [here[2, 3], place[2, 3]],
                    color="tab:red",
                    alpha=float(min(1.0, max(0.15, 0.15 + score))),
                    linewidth=1,
                    zorder=3,
                )
        above.scatter(x[:1], z[:1], marker="*", s=160, color="black", zorder=4, label="start")
        figure.colorbar(dots, ax=above, label="chunk", shrink=0.7)
        above.set(xlabel="x (m)", ylabel="z (m)", title=f"{title}: from above, red to what was retrieved")
        above.set_aspect("equal", adjustable="datalim")
        above.legend()
        for chunk, (entries, retrieved, scores) in enumerate(
            zip(self.entries, self.retrieved, self.scores, strict=True), 1
        ):
            time.scatter([chunk] * len(entries), entries, color="0.75", s=12)
            time.scatter(
                [chunk] * len(retrieved), retrieved, color="tab:red", s=[20 + 60 * max(0.0, s) for s in scores]
            )
        time.plot([1, len(self.entries)], [0, len(self.entries) - 1], color="0.85", linewidth=1, zorder=0)
        time.set(
            xlabel="chunk generated", ylabel="entry attended to", title="in context (grey), retrieved (red, by score)"
        )
        save_figure(path, figure, dpi=110)
        plt.close(figure)
