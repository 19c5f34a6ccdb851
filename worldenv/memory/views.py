"""Which remembered views, rendered into the coming chunk, show most of it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry.camera import pixel_rays
from ..geometry.pose import invert_se3
from ..geometry.splat import NEAR
from .bank import MemoryBank

STRIDE = 4
"""Every so manieth pixel of a remembered view, each way, is looked at."""
CELL = 8
"""Pixels of a coming view, each way, that count as shown where one of those falls into them."""


@torch.no_grad()
def choose_views(
    bank: MemoryBank,
    candidates: Tensor,  # (B, N) int64 latents, -1 for none
    target: Tensor,  # (B, V, 4, 4) c2w of coming views
    K: Tensor,  # (3, 3) pixels
    count: int,
) -> Tensor:
    """Pick latents one by one, each for what it adds to what the others show; (B, count) int64, ascending, -1 for none.

    What shows nothing new is not picked. Of equals the oldest is: what is rendered from renders again and again drifts.
    """
    shown = _shown(bank, candidates, target, K)  # (B, N, cells)
    best = torch.full((len(candidates), count), -1)
    covered = torch.zeros_like(shown[:, 0])
    row = torch.arange(len(candidates))
    for i in range(count):
        gain = (shown & ~covered[:, None]).sum(-1) * candidates.shape[1] + torch.arange(candidates.shape[1]).flip(0)
        gain, pick = gain.max(1)
        chosen = shown[row, pick]
        adds = (chosen & ~covered).any(-1)
        best[:, i] = torch.where(adds, candidates[row, pick], -1)
        covered |= chosen
    return best.sort(1).values


def _shown(bank: MemoryBank, candidates: Tensor, target: Tensor, K: Tensor) -> Tensor:
    """Tell which cells of the coming views hold points of each candidate, (B, N, V cells) bool."""
    _, depth, c2w = bank.shown(candidates)
    height, width = depth.shape[2:]
    at = slice(STRIDE // 2, None, STRIDE)
    depth = depth[:, :, at, at].double()
    rays = pixel_rays(K.double(), width=width, height=height)[at, at].flatten(0, 1)  # (P, 3)
    motion = invert_se3(target)[:, None] @ c2w[:, :, None]  # (B, N, V, 4, 4)
    way = K.double() @ motion[..., :3, :]  # (B, N, V, 3, 4)
    points = rays * depth.flatten(2)[..., None]  # (B, N, P, 3)
    u, v, z = (points[:, :, None] @ way[..., :3].mT + way[..., None, :, 3]).unbind(-1)  # (B, N, V, P)
    column, line = (u / z / CELL).floor(), (v / z / CELL).floor()
    columns, lines = width // CELL, height // CELL
    inside = (z > NEAR) & (column >= 0) & (column < columns) & (line >= 0) & (line < lines)
    cell = torch.where(inside, line * columns + column, float(lines * columns)).long()
    shown = torch.zeros(*cell.shape[:3], lines * columns + 1, dtype=torch.bool).scatter_(3, cell, True)
    return shown[..., :-1].flatten(2) & (candidates >= 0)[..., None]
