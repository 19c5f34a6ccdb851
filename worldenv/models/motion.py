"""Measure from two frames how the camera moved between them.

An encoder maps each frame to features at three scales; every place of the first frame is compared with its surroundings
in the second (a correlation volume: FlowNet, Dosovitskiy et al. 2015, section 3). Convolutions turn the similarities
into three things per cell of 4x4 pixels: where its centre has gone, its inverse depth, how far to trust it. The rigid
motion that fits all cells best follows by weighted least squares, so no network has to learn perspective, and what is
below a pixel in one cell averages out over all. Then the second frame is warped by that motion and compared again, at
full resolution, for what is left (as RAFT does again and again: Teed and Deng 2020, section 3.3). Metres come from the
inverse depth, which the constant height of the camera over the floor gives away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..base.budget import Budget
from ..base.checkpoint import load_module, load_tensors, save_tensors
from ..base.config import from_dict, to_dict
from ..base.documents import is_format
from ..geometry.camera import intrinsics, pixel_rays
from ..geometry.fit import project_points, solve_motion
from ..geometry.pose import invert_se3
from .correlation import correlate, expected_shift

FORMAT = 1
CELL = 4
"""Pixels per cell, each way."""


@dataclass(frozen=True, kw_only=True)
class PoseConfig:
    """Camera and sizes of the network."""

    width: int = 64
    """Frame width in pixels."""
    height: int = 48
    """Frame height in pixels."""
    fov_deg: float = 90.0
    """Horizontal field of view; pixels are square."""
    encoder_widths: tuple[int, int, int] = (8, 24, 48)
    """Channels at full, 1/2 and 1/4 resolution."""
    reach_fine: tuple[int, int] = (8, 2)
    """Pixels of 1/2 resolution, sideways and up or down, within which a place is looked for."""
    reach_coarse: tuple[int, int] = (6, 2)
    """The same in pixels of 1/4 resolution."""
    reach_again: tuple[int, int] = (2, 2)
    """The same in pixels, once the second frame is warped."""
    hidden: int = 64
    """Channels of the convolutions after each comparison."""
    dilations: tuple[int, ...] = (1, 2, 4)
    """Spacing of each of those convolutions."""

    def __post_init__(self) -> None:
        if self.width % CELL or self.height % CELL:
            raise ValueError(f"frames of {self.width}x{self.height} do not divide into cells of {CELL}; pass multiples")

    @property
    def K(self) -> Tensor:
        """Intrinsics in pixels, (3, 3)."""
        return intrinsics(self.width, self.height, fov_deg=self.fov_deg)

    @property
    def rays(self) -> Tensor:
        """Rays through the cells' centres with unit depth, (H / 4, W / 4, 3)."""
        width, height = self.width // CELL, self.height // CELL
        return pixel_rays(intrinsics(width, height, fov_deg=self.fov_deg), width=width, height=height)


@dataclass(frozen=True)
class Measurement:
    """What the network says of pairs of frames."""

    motion: Tensor  # (B, 4, 4) float32: the second camera in the first one's frame, metres
    image: Tensor  # (B, P, 2) float32: where each cell's centre has gone, x / z and y / z of the second camera
    inverse_depth: Tensor  # (B, P) float32, 1 / metres along the first camera's z
    weight: Tensor  # (B, P, 2) float32


Features = tuple[Tensor, Tensor, Tensor]
"""Maps of frames: (B, C, H, W), (B, C', H / 2, W / 2), (B, C'', H / 4, W / 4)."""


class Look(nn.Module):
    """What a comparison saw to what it means: convolutions over cells, and five numbers of each."""

    def __init__(self, channels: int, config: PoseConfig) -> None:
        super().__init__()
        self.fuse = nn.Conv2d(channels, config.hidden, 1)
        self.blocks = nn.ModuleList(
            nn.Conv2d(config.hidden, config.hidden, 3, padding=d, dilation=d) for d in config.dilations
        )
        self.head = nn.Conv2d(config.hidden, 5, 1)

    def forward(
        self,
        x: Tensor,  # (B, C, H / 4, W / 4)
    ) -> tuple[Tensor, Tensor]:
        """Return (B, hidden, H / 4, W / 4) and, float32, (B, P, 5): shift of the image, inverse depth, weights."""
        x = self.fuse(x)
        for block in self.blocks:
            x = x + block(F.silu(x))
        return x, self.head(F.silu(x)).float().flatten(2).mT


class PoseNet(nn.Module):
    """Two frames to the camera's motion."""

    rays: Tensor  # (P, 3)
    pixel_rays: Tensor  # (H, W, 2)

    def __init__(self, config: PoseConfig) -> None:
        super().__init__()
        self.config = config
        detail, fine, coarse = config.encoder_widths
        reaches = (config.reach_fine, config.reach_coarse, config.reach_again)
        volumes = [(2 * x + 1) * (2 * y + 1) for x, y in reaches]
        self.sketch = nn.Conv2d(3, detail, 3, padding=1)
        self.detail = nn.Conv2d(detail, detail, 3, padding=1)
        self.stem = nn.Conv2d(12, fine, 3, padding=1)
        self.fine = nn.Conv2d(fine, fine, 3, padding=1)
        self.down = nn.Conv2d(4 * fine, coarse, 1)
        self.coarse = nn.Conv2d(coarse, coarse, 3, padding=1)
        self.first_look = Look(4 * volumes[0] + volumes[1] + coarse + 4, config)
        self.second_look = Look(16 * volumes[2] + config.hidden + 2, config)
        self.sharpness = nn.Parameter(torch.tensor([2.5, 2.5]))
        self.prior = nn.Parameter(torch.full((6,), -2.0))
        pixels = pixel_rays(config.K, width=config.width, height=config.height)[..., :2]
        self.register_buffer("rays", config.rays.flatten(0, 1), persistent=False)
        self.register_buffer("pixel_rays", pixels, persistent=False)

    def encode(
        self,
        pixels: Tensor,  # (B, 3, H, W) in [-1, 1]
    ) -> Features:
        """Return the features of frames."""
        detail = self.detail(F.silu(self.sketch(pixels)))
        x = F.silu(self.stem(F.pixel_unshuffle(pixels, 2)))
        fine = x + self.fine(x)
        x = F.silu(self.down(F.pixel_unshuffle(F.silu(fine), 2)))
        return detail, fine, x + self.coarse(x)

    def compare(self, first: Features, second: Features) -> tuple[Measurement, Measurement]:
        """Measure the motion from the first frames to the second ones: at first look, and at the second, better one."""
        fine = correlate(first[1], second[1], reach=self.config.reach_fine)
        coarse = correlate(first[2], second[2], reach=self.config.reach_coarse)
        batch, _, rows, columns = coarse.shape
        place = self.rays[:, :2].T.reshape(1, 2, rows, columns).expand(batch, -1, -1, -1)
        shift = self._shift(fine, 0, self.config.reach_fine)
        seen = torch.cat([F.pixel_unshuffle(fine, 2), coarse, first[2].float(), place, shift], 1)
        hidden, cells = self.first_look(seen)
        guess = self._measure(self.rays[:, :2] + shift.flatten(2).mT, cells)

        (u, v), _ = project_points(self.rays, guess.inverse_depth, invert_se3(guess.motion))
        image = torch.stack([u, v], -1).detach()
        again = correlate(first[0], self._warp(second[0], image), reach=self.config.reach_again)
        shift = self._shift(again, 1, self.config.reach_again)
        _, more = self.second_look(torch.cat([F.pixel_unshuffle(again, CELL), hidden.float(), shift], 1))
        kept = torch.cat([torch.zeros_like(image), cells[..., 2:].detach()], -1)
        return guess, self._measure(image + shift.flatten(2).mT, kept + more)

    def forward(
        self,
        pixels: Tensor,  # (B, F, 3, H, W) in [-1, 1], frames one latent apart
    ) -> Tensor:
        """Return the motion from each frame to the next, (B, F - 1, 4, 4) float32."""
        shape = pixels.shape[:2]
        maps = [m.unflatten(0, shape) for m in self.encode(pixels.flatten(0, 1))]
        before, after = (tuple(m[:, part].flatten(0, 1) for m in maps) for part in (slice(-1), slice(1, None)))
        return self.compare(before, after)[1].motion.unflatten(0, (shape[0], shape[1] - 1))

    def _shift(self, volume: Tensor, look: int, reach: tuple[int, int]) -> Tensor:
        """Return the cells' mean displacement by a correlation volume, (B, 2, H / 4, W / 4), in units of the image."""
        scale = self.config.height // volume.shape[2]
        shift = F.avg_pool2d(expected_shift(volume, self.sharpness[look].exp(), reach=reach), CELL // scale)
        return shift * (scale / float(self.config.K[0, 0]))

    def _warp(
        self,
        features: Tensor,  # (B, C, H, W)
        image: Tensor,  # (B, P, 2) where cells have gone
    ) -> Tensor:
        """Fetch features from where each pixel has gone, (B, C, H, W) float32; nothing is outside the picture."""
        height, width = features.shape[2:]
        moved = (image - self.rays[:, :2]).mT.unflatten(2, (height // CELL, width // CELL))
        moved = F.interpolate(moved, size=(height, width), mode="bilinear").movedim(1, -1)
        focal = float(self.config.K[0, 0])
        grid = (self.pixel_rays + moved) * (2 * focal / moved.new_tensor([width, height]))
        return F.grid_sample(features.float(), grid, align_corners=False)

    def _measure(
        self,
        image: Tensor,  # (B, P, 2)
        cells: Tensor,  # (B, P, 5)
    ) -> Measurement:
        """Add the cells' shifts to where they are thought to be seen and solve for the motion."""
        with torch.autocast(image.device.type, enabled=False):
            image = image + cells[..., :2]
            inverse_depth = F.softplus(cells[..., 2]) / 2
            weight = cells[..., 3:].clamp(-10, 10).exp()
            motion = solve_motion(self.rays, image, inverse_depth, weight, prior=self.prior.exp())
        return Measurement(motion, image, inverse_depth, weight)


@torch.no_grad()
def four_ways(
    net: PoseNet,
    pixels: Tensor,  # (B, 1 + F, 3, H, W) in [-1, 1]
) -> Tensor:
    """Measure forwards, backwards and each mirrored, whose errors differ, as one motion, (4, B, F, 4, 4) float64."""
    views = torch.cat([pixels, pixels.flip(-1)])
    forwards, backwards = net(views).double(), invert_se3(net(views.flip(1)).double().flip(1))
    sides = torch.diag(forwards.new_tensor([-1, 1, 1, 1]))
    ways = torch.stack([forwards, backwards]).unflatten(1, (2, -1))  # (2, 2, B, F, 4, 4): time, mirrored
    ways[:, 1] = sides @ ways[:, 1] @ sides
    return ways.flatten(0, 1)


def packaged_pose() -> Path:
    """Return the file of the network that comes with the package."""
    return Path(str(resources.files("worldenv") / "eval" / "motion.safetensors"))


def save_pose(path: Path, net: PoseNet, *, provenance: Mapping[str, Any]) -> None:
    """Write the network to a safetensors file whose header holds format, sizes and provenance."""
    header = {"format": FORMAT, "config": to_dict(net.config), "provenance": dict(provenance)}
    save_tensors(path, net.state_dict(), header=header)


def load_pose(path: Path) -> PoseNet:
    """Read what ``save_pose`` wrote, ready to measure.

    Raises:
        ValueError: if the file is missing, truncated, of another format or does not fit.
    """
    tensors, header = load_tensors(path)
    if not is_format(header.get("format"), FORMAT):
        raise ValueError(f"{path}: pose format {header.get('format')!r}, this version reads {FORMAT}")
    config = from_dict(PoseConfig, header.get("config", {}), where=f"{path}: config")
    with Budget(sum(part.numel() for part in tensors.values()), where=str(path)):
        net = PoseNet(config)
    load_module(net, tensors, where=str(path))
    return net.eval().requires_grad_(False)
