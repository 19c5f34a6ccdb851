"""Event heads: what an agent earned on the way to a latent, and whether its episode ended there.

A few convolutions look at the frames of a latent and the one before them; what was commanded is read beside (without
it a head learns that walking pays, not what walking there pays), and a GRU remembers what neither shows any more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...base.config import Signed, check_numbers
from ...dynamics.signals import Signals
from ...dynamics.spec import WorldSpec

KEY_CODES = 9
"""Values of each of a camera's two key codes."""
CELLS = 4
"""Cells, each way, that a picture is averaged over before it is read as a whole."""


@dataclass(frozen=True, kw_only=True)
class EventConfig:
    """Sizes of an event head, and how what it says is read."""

    output: Literal["two_hot", "signs", "logit"] = "two_hot"
    """A reward over bins (DreamerV3's symlog two-hot), a reward's sign, or the logit of an event."""
    widths: tuple[int, ...] = (16, 32, 32)
    """Channels at 1/4, 1/8, ... resolution."""
    hidden: int = 64
    """Numbers that are remembered from latent to latent."""
    num_members: int = 1
    """Output layers, begun differently and trained on the same; their mean is what the head says, and where they
    disagree it is not to be trusted."""
    num_codes: int = 0
    """Numbers of what is commanded for a latent; training fills it in."""
    num_frames: int = 4
    """Frames of a latent; training fills it in."""
    num_bins: int = 41
    """Bins of ``two_hot``, an odd number: the middle one is 0."""
    reach: float = 3.0
    """Symlog of the largest reward that the bins hold; training sets it to the recording's."""
    scale: float = 1.0
    """The logit of an event is multiplied by this, and ``shift`` added: Platt's calibration, on a second split."""
    shift: Signed[float] = 0.0
    """See ``scale``."""
    threshold: float = 0.5
    """Probability from which there is an event, chosen on a second split; 0 rewards every latent as expected."""

    def __post_init__(self) -> None:
        check_numbers(self, sizes=("widths", "hidden", "num_members", "num_frames", "num_bins"), natural=("num_codes",))
        check_numbers(self, positive=("reach", "scale"))
        if self.num_bins % 2 == 0:
            raise ValueError(f"num_bins={self.num_bins} must be odd: the middle bin is 0")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold={self.threshold} must be a probability")

    @property
    def num_logits(self) -> int:
        """Numbers that the head puts out."""
        return {"two_hot": self.num_bins, "signs": 3, "logit": 1}[self.output]


class EventHead(nn.Module):
    """Frames and commands of one latent after another to an event."""

    def __init__(self, config: EventConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        channels = 3 * 4 * (config.num_frames + 1)
        for width in config.widths:
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.SiLU()]
            channels = width
        self.picture = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(CELLS), nn.Flatten())
        self.merge = nn.Linear(CELLS**2 * channels + config.num_codes, config.hidden)
        self.memory = nn.GRUCell(config.hidden, config.hidden)
        self.out = _output(config)
        self.others = nn.ModuleList(_output(config) for _ in range(config.num_members - 1))

    def values(self, device: torch.device) -> Tensor:
        """Return the rewards that the logits stand for, (K,) float32."""
        if self.config.output == "signs":
            return torch.tensor([-1.0, 0.0, 1.0], device=device)
        half = self.config.num_bins // 2
        reach = self.config.reach * torch.arange(-half, half + 1, device=device) / half
        return reach.sign() * reach.abs().expm1()  # symexp

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.merge.weight.dtype

    def see(
        self,
        pixels: Tensor,  # (N, T + 1, 3, H, W) in [-1, 1]: a latent's frames behind the one before
    ) -> Tensor:
        """Return what one latent shows, (N, P)."""
        seen: Tensor = self.picture(F.pixel_unshuffle(pixels.to(self.dtype).flatten(1, 2), 2))
        return seen

    def features(
        self,
        seen: Tensor,  # (N, P)
        codes: Tensor,  # (N, A): what was commanded
    ) -> Tensor:
        """Return what is seen and done in one latent, (N, D)."""
        return F.silu(self.merge(torch.cat([seen, codes.to(seen.dtype)], 1)))

    def step(
        self,
        features: Tensor,  # (N, D)
        state: Tensor,  # (N, D)
    ) -> tuple[Tensor, Tensor]:
        """Return logits (N, K) and the next state (N, D), both float32."""
        after = self.memory(features, state.to(features.dtype))
        return self.opinions(features, after).mean(0), after.float()

    def opinions(
        self,
        features: Tensor,  # (N, D)
        after: Tensor,  # (N, D): the state after it
    ) -> Tensor:
        """Return the logits of every member, (M, N, K) float32."""
        both = torch.cat([features, after.to(features.dtype)], 1)
        return torch.stack([out(both).float() for out in (self.out, *self.others)])

    def doubt(
        self,
        features: Tensor,  # (N, D)
        after: Tensor,  # (N, D): the state after it
    ) -> Tensor:
        """Return how far members disagree about the reward, or the probability of the event: a deviation, (N,)."""
        said = self.opinions(features, after)
        if self.config.output == "logit":
            return self.probability(said).std(0, correction=0)
        return (said.softmax(-1) * self.values(said.device)).sum(-1).std(0, correction=0)

    def forward(
        self,
        pixels: Tensor,  # (B, F, T + 1, 3, H, W)
        codes: Tensor,  # (B, F, A)
    ) -> Tensor:
        """Return the logits of latents in a row, the first of which is an episode's, (B, F, K) float32."""
        return self.hear(pixels, codes).mean(0)

    def hear(
        self,
        pixels: Tensor,  # (B, F, T + 1, 3, H, W)
        codes: Tensor,  # (B, F, A)
    ) -> Tensor:
        """Return what every member says of them, (M, B, F, K) float32."""
        batch, num_latents = pixels.shape[:2]
        features = self.features(self.see(pixels.flatten(0, 1)), codes.flatten(0, 1)).unflatten(0, (batch, num_latents))
        state, made = features.new_zeros(batch, self.config.hidden), []
        for one in features.unbind(1):
            state = self.memory(one, state)
            made.append(self.opinions(one, state))
        return torch.stack(made, 2)

    def evidence(
        self,
        logits: Tensor,  # (..., K)
    ) -> Tensor:
        """Return the logit of an event before it is calibrated, (...): of a reward, that it is not 0."""
        if self.config.output == "logit":
            return logits[..., 0]
        zero = self.config.num_logits // 2
        others = torch.cat([logits[..., :zero], logits[..., zero + 1 :]], -1)
        return others.logsumexp(-1) - logits[..., zero]

    def probability(
        self,
        logits: Tensor,  # (..., K)
    ) -> Tensor:
        """Return the probability of an event, (...)."""
        return (self.config.scale * self.evidence(logits) + self.config.shift).sigmoid()

    def decide(
        self,
        logits: Tensor,  # (..., K)
    ) -> Tensor:
        """Return rewards float32, or whether the event is there, bool; (...).

        With a threshold a reward is 0 below it and above it what is expected given that it is not 0.
        """
        if self.config.output == "logit":
            return self.probability(logits) >= self.config.threshold
        if not self.config.threshold:
            return (logits.softmax(-1) * self.values(logits.device)).sum(-1)
        zero = self.config.num_logits // 2
        given = logits.index_fill(-1, torch.tensor([zero], device=logits.device), -math.inf).softmax(-1)
        worth = (given * self.values(logits.device)).sum(-1)
        return torch.where(self.probability(logits) >= self.config.threshold, worth, 0.0)

    def error(
        self,
        logits: Tensor,  # (N, K)
        truth: Tensor,  # (N,) rewards float32, or events bool
        *,
        event_weight: float = 1.0,
    ) -> Tensor:
        """Return the mean cross-entropy; an event counts ``event_weight`` times as much as none."""
        weight = torch.where(truth != 0, event_weight, 1.0)
        if self.config.output == "logit":
            losses = F.binary_cross_entropy_with_logits(logits[:, 0], truth.float(), reduction="none")
        else:
            wanted = truth.sign() if self.config.output == "signs" else truth
            losses = -(two_hot(wanted, self.values(truth.device)) * logits.log_softmax(-1)).sum(-1)
        return (weight * losses).sum() / weight.sum()


def two_hot(
    wanted: Tensor,  # (N,)
    values: Tensor,  # (K,) rising
) -> Tensor:
    """Share each number out to the two values around it, (N, K), so that their mean is the number."""
    wanted = wanted.clamp(float(values[0]), float(values[-1]))
    above = torch.searchsorted(values, wanted.contiguous()).clamp(1, len(values) - 1)
    low, high = values[above - 1], values[above]
    share = ((wanted - low) / (high - low))[:, None]
    return F.one_hot(above, len(values)) * share + F.one_hot(above - 1, len(values)) * (1 - share)


def _output(config: EventConfig) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2 * config.hidden, config.hidden), nn.SiLU(), nn.Linear(config.hidden, config.num_logits)
    )


def symlog(value: float) -> float:
    """Return sign(x) log(1 + |x|)."""
    return math.copysign(math.log1p(abs(value)), value)


def num_codes(spec: WorldSpec) -> int:
    """Return how many numbers ``command_codes`` has."""
    return sum(
        KEY_CODES * math.prod(signal.shape) if name == "keys" else math.prod(signal.shape)
        for name, signal in spec.takes.items()
        if name != "c2w"
    )


def command_codes(
    track: Signals,  # each (B, ...)
    spec: WorldSpec,
) -> Tensor:
    """Return what was commanded as numbers, (B, A) float32: keys one-hot, no poses."""
    parts = [
        F.one_hot(track[name], KEY_CODES).flatten(1).float() if name == "keys" else track[name].flatten(1).float()
        for name in spec.takes
        if name != "c2w"
    ]
    return torch.cat(parts, 1)
