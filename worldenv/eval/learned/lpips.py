"""LPIPS with AlexNet (Zhang et al. 2018, version 0.1): how far apart two pictures look to a trained network.

The five convolutions of torchvision's AlexNet, features of unit length over channels, squared differences weighted by
the published linear heads, mean over places, sum over layers. Inputs are in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...base.checkpoint import load_module
from ...models.pretrained.archive import read_archive
from ..image import Array

SMALLEST = 64
"""A shorter side below this, in pixels, leaves AlexNet 1 to 3 cells: such frames are upsampled 4 times, bilinear."""
BATCH = 32
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPSILON = 1e-10


class LPIPS(nn.Module):
    """AlexNet's convolutions under torchvision's names, and a weight for each of their channels."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
        )
        widths = [layer.out_channels for layer in self.features if isinstance(layer, nn.Conv2d)]
        self.heads = nn.ParameterList(torch.zeros(width) for width in widths)

    def forward(
        self,
        a: Tensor,  # (N, 3, H, W) in [-1, 1]
        b: Tensor,  # (N, 3, H, W) in [-1, 1]
    ) -> Tensor:
        """Return the distance of each pair, (N,)."""
        total = a.new_zeros(len(a))
        for head, x, y in zip(self.heads, self._layers(a), self._layers(b), strict=True):
            total = total + ((x - y).square() * head[:, None, None]).sum(1).mean((-2, -1))
        return total

    def _layers(self, pixels: Tensor) -> Iterator[Tensor]:
        """Yield the features after each ReLU, of unit length over channels."""
        x = (pixels - pixels.new_tensor(_SHIFT).view(3, 1, 1)) / pixels.new_tensor(_SCALE).view(3, 1, 1)
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                yield x / (x.square().sum(1, keepdim=True).sqrt() + _EPSILON)


class FrameLPIPS:
    """Mean LPIPS of clips against the true ones."""

    def __init__(self, alexnet: Path, heads: Path, *, device: torch.device | str = "cpu") -> None:
        """Load torchvision's AlexNet and the linear heads.

        Raises:
            ValueError: if a file is not of this architecture.
        """
        convolutions = {k: v for k, v in read_archive(alexnet).items() if k.startswith("features.")}
        linear = {
            f"heads.{k.removeprefix('lin').removesuffix('.model.1.weight')}": v.flatten()
            for k, v in read_archive(heads).items()
        }
        self.network = LPIPS()
        load_module(self.network, convolutions | linear, where=f"{alexnet.name} with {heads.name}")
        self.network.to(device).eval().requires_grad_(False)

    def __call__(
        self,
        frames: Tensor,  # (B, T, H, W, 3) uint8
        truth: Tensor,  # (B, T, H, W, 3) uint8
    ) -> Array:
        """Return the mean over frames, (B,)."""
        if frames.shape != truth.shape:
            raise ValueError(f"shapes differ: {tuple(frames.shape)} and {tuple(truth.shape)}")
        pairs = zip(frames.flatten(0, 1).split(BATCH), truth.flatten(0, 1).split(BATCH), strict=True)
        values = torch.cat([self._distance(a, b) for a, b in pairs]).double().cpu()
        result: Array = values.view(frames.shape[:2]).mean(1).numpy()
        return result

    @torch.no_grad()
    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        weight = self.network.heads[0]
        pixels = [x.to(weight.device).movedim(-1, 1).to(weight.dtype) / 127.5 - 1 for x in (a, b)]
        if min(a.shape[1:3]) < SMALLEST:
            pixels = [F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False) for x in pixels]
        distance: Tensor = self.network(*pixels)
        return distance
