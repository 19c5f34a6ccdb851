"""Is the simulator's camera what it says? Warps by depth, lag of motion, and a picture of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...base.log import console, track
from ...base.media import save_picture
from ...base.psnr import psnr_of
from ...bodies.camera import press
from ...dynamics.spec import FRAMES_PER_LATENT, WorldSpec
from ...geometry.camera import project, warp
from ...geometry.pose import invert_se3
from ..image import Array
from ..report.document import write_report
from .action import horizontal_shift

MIN_SEEN = 0.3
"""Share of the picture that two views must have in common to be compared."""
TURN_RIGHT = 1
LAST = slice(FRAMES_PER_LATENT - 1, None, FRAMES_PER_LATENT)
"""The last frame of each latent of a chunk."""


def run_geometry(out: Path, *, spec: WorldSpec, num_worlds: int, first_seed: int) -> None:
    """Check the maze simulator on ``num_worlds`` maps; write report.json and geometry.png."""
    from ...sims import DoomDynamics, corners

    dynamics = DoomDynamics(1, spec=spec)
    warps: list[float] = []
    lags: list[float] = []
    rows: list[Tensor] = []
    for seed in track(range(first_seed, first_seed + num_worlds), "maps", total=num_worlds):
        first = dynamics.reset(seeds=[seed], starts=[seed])
        maze = dynamics.mazes[0]
        assert maze is not None
        keys = torch.tensor([[1, 0]] * 4 + [[1, 3]] * 2 + [[0, 1]] * 4 + [[0, 4]] * 2)
        chunk = dynamics.step(press(keys[None], dynamics.c2w, spec.steps))
        frames = torch.cat([first.frames[0], chunk.frames[0, LAST]])
        depth = torch.cat([first.signals["depth"][0], chunk.signals["depth"][0, LAST]])
        c2w = torch.cat([first.signals["c2w"][0], chunk.signals["c2w"][0]])
        value, picture = _warp_pair(frames, depth, c2w, spec)
        warps.append(value)
        lags.append(_lag(dynamics, spec, seed))
        if len(rows) < 4 and np.isfinite(value):
            shown = _mark(frames[0], torch.from_numpy(corners(maze)), depth[0], c2w[0], spec)
            rows.append(torch.cat([shown, *picture], 1))
    dynamics.close()
    values = np.array([v for v in warps if np.isfinite(v)])
    arms = {"simulator": {"warp_psnr": values, "lag_latents": np.array(lags)}}
    write_report(
        out / "report.json",
        suite="geometry",
        protocol="geometry-v1",
        world={"name": "doom/maze", "sha256": ""},
        seeds=list(range(first_seed, first_seed + num_worlds)),
        arms=arms,
        timing={},
    )
    save_picture(out / "geometry.png", torch.cat(rows).numpy().repeat(3, 0).repeat(3, 1))
    console.print(
        f"warped frames agree at {np.median(values):.1f} dB (median of {len(values)}); lag {np.mean(lags):.2f} latents"
    )


def _warp_pair(frames: Tensor, depth: Tensor, c2w: Tensor, spec: WorldSpec) -> tuple[float, list[Tensor]]:
    """Warp the first frame into the farthest later one that still shares enough; PSNR where seen, and pictures."""
    source = frames[0].double() / 255
    for j in range(len(frames) - 1, 0, -1):
        made, seen = warp(
            source,
            depth=depth[j].double(),
            source_depth=depth[0].double(),
            c2w=c2w[j],
            source_c2w=c2w[0],
            K=spec.K.double(),
        )
        if seen.float().mean() >= MIN_SEEN:
            mse = (made - frames[j].double() / 255)[seen].square().mean()
            shown = (made * seen[..., None] * 255).round().to(torch.uint8)
            return float(psnr_of(mse, least=1e-9)), [shown, frames[j]]
    return float("nan"), []


def _lag(dynamics: object, spec: WorldSpec, seed: int) -> float:
    """Stand still, turn in latent 2, stand still: return in which latent the picture moved, minus 2."""
    from ...sims import DoomDynamics

    assert isinstance(dynamics, DoomDynamics)
    first = dynamics.reset(seeds=[seed], starts=[seed])
    keys = torch.zeros(4, 2, dtype=torch.long)
    keys[1, 1] = TURN_RIGHT
    chunk = dynamics.step(press(keys[None], dynamics.c2w, spec.steps))
    views = torch.cat([first.frames[0, -1:], chunk.frames[0, LAST]])
    moved: Array = (views[1:].double() - views[:-1].double()).abs().mean((1, 2, 3)).numpy()
    assert horizontal_shift(views[1:2], views[2:3])[0] <= 0 or moved.max() < 1
    return float(moved.argmax() - 1)


def _mark(frame: Tensor, points: Tensor, depth: Tensor, c2w: Tensor, spec: WorldSpec) -> Tensor:
    """Paint the map corners that the camera sees into the picture."""
    uv, z = project(points, invert_se3(c2w), spec.K.double())
    pixel = uv.floor().long()
    inside = (z > 0.1) & (pixel >= 0).all(-1) & (pixel[:, 0] < spec.width) & (pixel[:, 1] < spec.height)
    shown = frame.clone()
    for (u, v), distance in zip(pixel[inside].tolist(), z[inside].tolist(), strict=True):
        around = depth[max(0, v - 1) : v + 2, max(0, u - 1) : u + 2]
        if float(around.max()) > distance * 0.98:
            shown[v, u] = torch.tensor([255, 0, 255], dtype=torch.uint8)
    return shown
