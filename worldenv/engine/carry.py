"""What a robot would take along: the newest latent as it was, near the grasp moved as the grasp will move.

The counterpart of rendered memory (``engine.render``) where the camera stands still and a robot acts: a copy of what is
known, out of place only where something comes loose. It enters the transformer as renders do, and guides nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.layers import centres
from ..models.types import Render

REACH = 0.45
"""How far from the grasp things are that it may carry, in half sides of the picture."""


def carried(
    newest: Tensor,  # (B, C, h, w) the latent before the coming ones
    before: Tensor,  # (B, 2) where the grasp was then, -1..1 over the picture
    grasp: Tensor,  # (B, F, 2) where it will be
) -> Render:
    """Return what the coming latents would be if all near the grasp went with it and nothing else moved, (B, F, ...).

    ``known`` is 1 where it was moved, a half where it stays, and 0 where it has left.
    """
    rows, columns = newest.shape[-2:]
    here = centres(rows, columns, device=newest.device).view(rows, columns, 2)
    origin = here - (grasp - before[:, None])[:, :, None, None]  # (B, F, h, w, 2)
    still = newest[:, None].expand(-1, grasp.shape[1], -1, -1, -1)
    moved = F.grid_sample(still.flatten(0, 1), origin.flatten(0, 1), padding_mode="border", align_corners=False)
    near = ((here - grasp[:, :, None, None]).norm(dim=-1) < REACH) & (origin.abs().amax(-1) < 1)
    left = (here - before[:, None, None, None]).norm(dim=-1) < REACH
    known = torch.where(near, 1.0, torch.where(left, 0.0, 0.5))[:, :, None]
    return torch.where(near[:, :, None], moved.view_as(still), still), known
