"""The object head: where the object of a hand's table is, how fast, and whether the hand touches it, read off pictures.

Soft maxima of a few feature maps say where things are, to fractions of a pixel; a GRU remembers what the hand hides. It
looks at pictures alone: what was commanded would tell it where a held object ought to be, shown or not. Beside the
object it says where the hand's keypoints are seen, which suites compare with where they were.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...base.config import check_numbers

CENTRE = (0.07, 0.0, 0.04)
"""Metres in the table's frame that no evidence stands for."""
SCALE = 0.1
"""Metres, and metres per second, that 1 of the network's output stands for."""


@dataclass(frozen=True, kw_only=True)
class ObjectConfig:
    """Sizes of the object head."""

    widths: tuple[int, int] = (24, 48)
    """Channels at 1/2 and 1/4 resolution."""
    num_points: int = 16
    """Feature maps whose maxima are looked for."""
    hidden: int = 64
    """Numbers that are remembered from latent to latent."""
    num_keypoints: int = 21
    """Keypoints of the hand."""

    def __post_init__(self) -> None:
        check_numbers(self, sizes=("widths", "num_points", "hidden", "num_keypoints"))


class ObjectHead(nn.Module):
    """Frames of one latent after another to (x, y, z, speed, touched)."""

    def __init__(self, config: ObjectConfig) -> None:
        super().__init__()
        self.config = config
        a, b = config.widths
        self.picture = nn.Sequential(
            nn.Conv2d(12 + 2, a, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(a, b, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(b, b, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(b, b, 3, padding=1),
            nn.SiLU(),
        )
        self.maps = nn.Conv2d(b, config.num_points, 1)
        seen = 2 * (2 * config.num_points + b)
        self.merge = nn.Linear(seen, config.hidden)
        self.memory = nn.GRUCell(config.hidden, config.hidden)
        self.out = nn.Sequential(nn.Linear(seen + 2 * config.hidden, 128), nn.SiLU(), nn.Linear(128, 5))
        self.hand = nn.Sequential(nn.Linear(seen, 128), nn.SiLU(), nn.Linear(128, 2 * config.num_keypoints))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.merge.weight.dtype

    def see(
        self,
        pixels: Tensor,  # (N, T + 1, 3, H, W) in [-1, 1]: a latent's frames behind the one before
    ) -> Tensor:
        """Return what the first and the last of these frames show, (N, P)."""
        x = F.pixel_unshuffle(pixels[:, [0, -1]].to(self.dtype).flatten(0, 1), 2)
        features = self.picture(torch.cat([x, _grid(x)[None].expand(len(x), -1, -1, -1)], 1))
        where = self.maps(features).float().flatten(2).softmax(-1).to(x.dtype)  # (2 N, K, h w)
        points = where @ _grid(features).flatten(1).T  # (2 N, K, 2)
        there = (where.amax(1)[:, None] * features.flatten(2)).sum(-1)  # what lies at the points, (2 N, b)
        return torch.cat([points.flatten(1), there], 1).unflatten(0, (-1, 2)).flatten(1)

    def features(
        self,
        seen: Tensor,  # (N, P)
        codes: Tensor,  # (N, A): what was commanded, which it does not look at
    ) -> Tensor:
        """Return what is seen in one latent, as it is and merged, (N, P + D)."""
        return torch.cat([seen, F.silu(self.merge(seen))], 1)

    def keypoints(
        self,
        seen: Tensor,  # (..., P)
    ) -> Tensor:
        """Return where the hand's keypoints are seen in the last frame, (..., K, 2) in -1..1."""
        return self.hand(seen).float().unflatten(-1, (-1, 2))

    def step(
        self,
        features: Tensor,  # (N, P + D)
        state: Tensor,  # (N, D)
    ) -> tuple[Tensor, Tensor]:
        """Return the network's output (N, 5) and the next state (N, D), both float32."""
        after = self.memory(features[:, -self.config.hidden :], state.to(features.dtype))
        said: Tensor = self.out(torch.cat([features, after], 1))
        return said.float(), after.float()

    def forward(
        self,
        pixels: Tensor,  # (B, F, T + 1, 3, H, W)
    ) -> tuple[Tensor, Tensor]:
        """Return the outputs of latents in a row, from an episode's start view on, (B, F, 5), and keypoints."""
        batch, num_latents = pixels.shape[:2]
        seen = self.see(pixels.flatten(0, 1))
        features = self.features(seen, seen[:, :0]).unflatten(0, (batch, num_latents))
        state, said = features.new_zeros(batch, self.config.hidden), []
        for one in features.unbind(1):
            out, state = self.step(one, state)
            said.append(out)
        return torch.stack(said, 1), self.keypoints(seen).unflatten(0, (batch, num_latents))

    def decide(
        self,
        said: Tensor,  # (..., 5)
    ) -> Tensor:
        """Return position (metres), speed (metres per second) and the probability of touch, (..., 5)."""
        place = said.new_tensor(CENTRE) + SCALE * said[..., :3]
        return torch.cat([place, SCALE * F.softplus(said[..., 3:4]), said[..., 4:].sigmoid()], -1)

    def error(
        self,
        said: Tensor,  # (..., 5)
        truth: Tensor,  # (..., 5) position, speed, and 1 where it is touched
    ) -> Tensor:
        """Return the mean of the errors in centimetres and decimetres per second, and of the surprise at touches."""
        found = self.decide(said)
        place = F.smooth_l1_loss(100 * found[..., :3], 100 * truth[..., :3])
        speed = F.smooth_l1_loss(10 * found[..., 3], 10 * truth[..., 3].clamp(max=1))
        return place + speed + F.binary_cross_entropy_with_logits(said[..., 4], truth[..., 4])


def _grid(x: Tensor) -> Tensor:
    """Return where cells of feature maps (N, C, h, w) lie, -1 to 1, (2, h, w)."""
    y, x_ = (torch.linspace(-1, 1, n, device=x.device, dtype=x.dtype) for n in x.shape[-2:])
    return torch.stack([x_.expand(len(y), -1), y[:, None].expand(-1, len(x_))])
