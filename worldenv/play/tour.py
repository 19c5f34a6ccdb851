"""A walk back to what a clip began in front of: what was remembered, what is known of the floor, and what stops one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..base.media import save_figure, save_video
from ..base.ply import save_ply
from ..dynamics.labels import CLASSES
from ..dynamics.signals import Track
from ..engine.engine import Engine
from ..geometry.action import camera_to_c2w
from ..geometry.path import FreeSpace, Walker, visit
from ..geometry.pose import yaw_pitch
from ..world.world import World
from .cloud import COMMENTS, from_above, measured, point_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AHEAD = 3
"""Chunks of walking straight on, in front of the object."""
SHOWN = 10
"""Pictures of the clip and of the way back on the sheet."""


@dataclass(frozen=True)
class Tour:
    """What one walk back showed."""

    engine: Engine
    clip: int
    frames: Tensor  # (T, H, W, 3) uint8, generated
    told: Tensor  # (F, 4, 4)
    walked: Tensor  # (F, 4, 4)

    @property
    def stopped(self) -> tuple[float, float]:
        """Metres that were asked for straight on at the end, and metres that were walked."""
        last = AHEAD * self.engine.spec.chunk_latents
        before = self.walked[-1 - last, :3, 3]
        walked = float((self.walked[-1, :3, 3] - before).norm())
        return last * self.engine.spec.steps.move, walked


@torch.no_grad()
def walk_back(world: World, clip: int, *, seed: int = 0) -> Tour:
    """Begin at the end of a clip, walk its way back facing ahead, turn to what it began in front of, and walk on.

    Raises:
        ValueError: if the world has no such clip.
    """
    clips = world.require_clips("a walk back")
    if not 0 <= clip < len(clips):
        raise ValueError(f"clip {clip}, but the world has {len(clips)}: 0..{len(clips) - 1}")
    engine = Engine(world, 1, begins=clips, walls=world.has_walls(world.config.memory))
    engine.reset(seeds=[seed], starts=[clip])
    actions = _way_back(clips.c2w[clip], engine)
    told, walked, frames = [], [], []
    for part in actions.split(engine.spec.chunk_latents):
        c2w = camera_to_c2w(part, engine.c2w[0], engine.spec.steps)
        keys = engine.spec.keys_along(torch.cat([engine.c2w, c2w]))
        chunk = engine.step(Track(keys=keys[None], c2w=c2w[None]))
        told.append(c2w)
        walked.append(chunk.signals["c2w"][0])
        frames.append(chunk.frames[0])
    return Tour(engine, clip, torch.cat(frames), torch.cat(told), torch.cat(walked))


def _way_back(c2w: Tensor, engine: Engine) -> Tensor:
    """Plan the walk back along a clip's poses (F, 4, 4) and straight on, in whole chunks: (N, 5) camera actions."""
    spec, (yaw, _) = engine.spec, yaw_pitch(c2w)
    x, z = float(c2w[-1, 0, 3]), float(c2w[-1, 2, 3])
    open_floor = FreeSpace(np.ones((2, 2), bool), 1000.0)  # the clip has walked there
    walker = Walker(open_floor, x=x, z=z, yaw=float(yaw[-1]), steps=spec.steps, clearance=0)
    visit(walker, [(float(p[0]), float(p[2])) for p in c2w[:, :3, 3].flip(0)], 4 * len(c2w))
    step = np.deg2rad(spec.steps.turn_deg)
    while abs(error := float(np.angle(np.exp(1j * (float(yaw[0]) - walker.yaw))))) > step / 2:
        walker.try_step(yaw=float(np.clip(error / step, -1, 1)))
    while len(walker.actions) % spec.chunk_latents:
        walker.try_step()
    for _ in range(AHEAD * spec.chunk_latents):
        walker.try_step(forward=1)
    return torch.from_numpy(np.stack(walker.actions))


def save_tour(tour: Tour, folder: Path) -> str:
    """Write ``tour.mp4``, ``tour.png`` and the points ``tour.ply``; return in a sentence what they show."""
    clips, spec = tour.engine.world.require_clips("a walk back"), tour.engine.spec
    folder.mkdir(parents=True, exist_ok=True)
    scale = max(1, 256 // spec.width)
    way = clips.c2w[tour.clip]
    cloud = measured(tour.engine.world, clips.views[tour.clip], way[:: spec.chunk_latents]).cloud()
    save_ply(folder / "tour.ply", point_table(cloud), comments=COMMENTS)
    save_video(folder / "tour.mp4", tour.frames.numpy().repeat(scale, 1).repeat(scale, 2), fps=spec.fps)
    _draw(tour, folder / "tour.png", from_above(cloud, way[0]))
    name, (told, walked) = CLASSES[int(clips.objects[tour.clip, 0, 0])], tour.stopped
    return f"walked back to the {name}; then told to walk {told:.1f} m straight on, walked {walked:.1f} m"


def spread(
    frames: Tensor,  # (T, H, W, 3)
) -> Tensor:
    """Return ``SHOWN`` frames, evenly spread, the first and the last among them."""
    return frames[torch.linspace(0, len(frames) - 1, SHOWN).round().long()]


def _draw(
    tour: Tour,
    path: Path,
    cloud: npt.NDArray[np.uint8],  # (h, w, 3)
) -> None:
    """Draw what the clip showed above the generated way back, beside the floor as it is known and the points."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (sheet, above, points) = plt.subplots(
        1, 3, figsize=(16, 3.7), width_ratios=(1.7, 1, 1.5), layout="constrained"
    )
    half, seen, made = (
        SHOWN // 2,
        spread(tour.engine.world.require_clips("a walk back").views[tour.clip]),
        spread(tour.frames),
    )
    rows = [torch.cat(list(part), 1) for frames in (seen, made) for part in (frames[:half], frames[half:])]
    sheet.imshow(torch.cat(rows).numpy(), interpolation="nearest")
    height = seen.shape[1]
    sheet.set_yticks([height, 3 * height], ["recorded,\nremembered", "generated,\nthe way back"])
    sheet.set_xticks([])
    _draw_floor(tour, above)
    points.imshow(cloud)
    points.set(title="what is remembered, from a camera that was never there", xticks=[], yticks=[])
    save_figure(path, figure, dpi=90)
    plt.close(figure)


def _draw_floor(tour: Tour, above: Axes) -> None:
    """Draw the known floor from above, z upwards: free, solid and unknown, the way told and the way walked."""
    walls, clips = tour.engine.history.walls, tour.engine.world.require_clips("a walk back")
    if walls is not None:
        evidence, (z, x) = walls.chart(0)
        side = walls.config.cell * walls.config.cells
        kinds = torch.full(evidence.shape, 0.75)
        kinds[evidence < 0], kinds[evidence > 0] = 1.0, 0.15
        above.imshow(kinds.numpy(), cmap="gray", vmin=0, vmax=1, origin="lower", extent=(x, x + side, z, z + side))
    colour = CLASSES[int(clips.objects[tour.clip, 0, 0])].split()[0]
    low_x, low_z, high_x, high_z = clips.objects[tour.clip, 0, 1:].tolist()
    above.fill([low_x, high_x, high_x, low_x], [low_z, low_z, high_z, high_z], color=colour, ec="black", label="goal")
    for way, style, name in ((tour.told, "r:", "told"), (tour.walked, "b-", "walked")):
        above.plot(way[:, 0, 3].numpy(), way[:, 2, 3].numpy(), style, label=name)
    middle, reach = tour.walked[:, [0, 2], 3].mean(0).tolist(), 9.0
    above.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] - reach, middle[1] + reach))
    above.set(xlabel="x (m)", ylabel="z (m)", title="the floor as it was seen")
    above.legend(loc="upper right")
