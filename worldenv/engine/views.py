"""What B episodes have shown, where memory is rendered: views with their depth, the floor seen in them, and what of the
newest chunk was rendered from them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..dynamics.spec import WorldSpec
from ..geometry.occupancy import Occupancy
from ..memory.bank import MemoryBank
from ..memory.config import Layout, MemoryConfig
from ..world.world import World
from .render import Renderer
from .rollout import Rendered


class Views:
    """Frames and depth at the end of every entry lie in the bank; here is what is made of them."""

    def __init__(
        self,
        world: World,
        spec: WorldSpec,
        config: MemoryConfig,
        bank: MemoryBank,  # with room for frames
        layout: Layout,
        *,
        walls: bool,  # whether to keep what is solid
    ) -> None:
        self.renderer, self.bank, self.layout, self.K = Renderer(world, spec, config), bank, layout, spec.K
        num_envs = len(bank.length)
        self.walls = Occupancy(num_envs, config.floor) if walls else None
        self.sources = torch.full((num_envs, config.rendering.sources), -1)
        """Latents whose views were rendered into the newest chunk, (B, sources); -1 is none."""
        self.known = torch.ones(num_envs, layout.chunk_latents, *world.latent_shape[1:])
        """Share of each cell of that chunk which they show, (B, F, h, w); all of it is known of what was given."""

    def render(
        self,
        rows: Tensor,  # (R,) int64
        bank: MemoryBank,  # of these rows
        index: Tensor,  # (R, S) int64 latents in context, -1 in empty slots
        c2w: Tensor,  # (R, F, 4, 4) the coming path
    ) -> Rendered:
        """Render what is remembered into these rows' coming chunk."""
        sources = self.renderer.sources(bank, index, c2w)
        rendered = self.renderer(bank, sources, c2w)
        self.sources[rows], self.known[rows] = sources, rendered.known[:, :, 0].cpu()
        return rendered

    def show(
        self,
        rows: Tensor,  # (R,) int64
        ends: Tensor,  # (R, E, H, W, 3) uint8: the last frame of each of these rows' newest entries
        *,
        given: bool,
    ) -> None:
        """Keep what entries end with and its depth, and the floor that it shows; it may be ``given``, not made."""
        behind = self.layout.chunk_latents * torch.arange(ends.shape[1] - 1, -1, -1)
        index, depth = self.bank.length[rows, None] - 1 - behind, self.renderer.depth(ends)
        self.bank.show(rows, index, ends, depth)
        if self.walls is not None:
            self._keep_floor(self.walls, rows, index, depth.cpu())
        if given:
            self.bank.given[rows] = self.bank.length[rows]

    def _keep_floor(self, walls: Occupancy, rows: Tensor, index: Tensor, depth: Tensor) -> None:
        """Take in what views (R, E, H, W) of entries that end with these latents (R, E) show, and the way to each."""
        way = torch.arange(1 - self.layout.chunk_latents, 1)
        for view, last in zip(depth.unbind(1), index.unbind(1), strict=True):
            walls.observe(rows, view, self.bank.c2w[rows, last], self.K)
            walls.tread(rows, self.bank.c2w[rows[:, None], (last[:, None] + way).clamp(min=0)])

    def depth(self) -> Tensor:
        """Return the depth of each row's newest entry, (B, H, W) float32 metres; 0 before there is one."""
        newest = torch.where(self.bank.length > 0, self.bank.length - 1, -1)[:, None]
        _, depth, _ = self.bank.shown(newest)
        return torch.where((newest >= 0)[..., None], depth[:, 0].float(), 0)

    def begin(self, rows: Tensor) -> None:
        """Forget what these rows have shown, but for the bank's part."""
        self.sources[rows], self.known[rows] = -1, 1
        if self.walls is not None:
            self.walls.clear(rows)

    def clone(self, rows: Tensor, longest: int) -> dict[str, Tensor]:
        """Copy what some rows of so many latents have shown, as tensors with a leading row axis."""
        used = self.bank.slots_of(longest)
        tensors = {f"views.{name}": part[rows, :used] for name, part in self.bank.views().items()}
        tensors["views.given"] = self.bank.given[rows]
        if self.walls is not None:
            tensors |= {"walls.evidence": self.walls.evidence[rows], "walls.centre": self.walls.centre[rows]}
        return tensors

    def restore(self, rows: Tensor, tensors: dict[str, Tensor]) -> None:
        """Have shown in these rows what ``clone`` copied; what was rendered into the newest chunk nobody knows."""
        self.begin(rows)
        views = tensors["views.frames"], tensors["views.depth"]
        self.bank.show(rows, (self.bank.every * torch.arange(views[0].shape[1])).expand(len(rows), -1), *views)
        self.bank.given[rows] = tensors["views.given"]
        if self.walls is not None:
            self.walls.evidence[rows], self.walls.centre[rows] = tensors["walls.evidence"], tensors["walls.centre"]

    def fork(self, source: Tensor, rows: Tensor) -> None:
        """Copy what is not the bank's from some rows onto others."""
        self.sources[rows], self.known[rows] = self.sources[source], self.known[source]
        if self.walls is not None:
            self.walls.fork(source, rows)
