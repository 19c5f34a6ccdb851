"""A policy that plans action chunks: a small transformer after ACT (Zhao et al. 2023), and how it acts.

Tokens of the picture, of the commanded joints and of the goal go through an encoder; as many learned queries as there
are latents ahead read them and say where the joints are to be told to be, relative to now. There is no latent style:
experts do the same thing in the same place. ``cloning`` learns one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldenv.base.budget import Budget
from worldenv.base.checkpoint import load_module, load_tensors
from worldenv.base.config import check_most, check_numbers, from_dict
from worldenv.base.documents import is_format
from worldenv.bodies.hand_model import HAND, NUM_JOINTS
from worldenv.models.codec import to_pixels

from .limits import MOST_RATE, MOST_WEIGHTS

FORMAT, FILE = 1, "policy.safetensors"
MOST_SHIFT = 1024
"""Pixels."""
OBS_KEYS = ("image", "joints", "goal")
"""What it sees: the same in the simulator and in a world."""


@dataclass(frozen=True, kw_only=True)
class CloningConfig:
    """What is cloned, and how."""

    episodes: int = 50
    """Expert episodes, the first of the recording."""
    ahead: int = 8
    """Latents that are planned at once; a step of an environment may be as long."""
    width: int = 96
    """Width of the transformer."""
    num_layers: int = 3
    """Layers of the encoder; the queries read it in one."""
    steps: int = 3000
    """Steps of AdamW."""
    batch: int = 32
    """Moments of a step."""
    lr: float = 5e-4
    """Learning rate, which falls to 0 along a cosine."""
    shift: int = 4
    """Pixels by which pictures are moved at random, up to."""
    seed: int = 0
    """Seed of network and batches."""

    def __post_init__(self) -> None:
        counts, sizes, natural = ("episodes", "num_layers", "steps"), ("ahead", "width", "batch"), ("shift", "seed")
        check_numbers(self, counts=counts, sizes=sizes, layers=("num_layers",), positive=("lr",), natural=natural)
        check_most(self, lr=MOST_RATE, shift=MOST_SHIFT)
        if self.width % 4:
            raise ValueError(f"width={self.width} must be a multiple of 4, the number of heads")
        if (weights := 12 * self.width**2 * (self.num_layers + 2)) > MOST_WEIGHTS:
            raise ValueError(
                f"width={self.width}, num_layers={self.num_layers} ask for {weights} weights; most are {MOST_WEIGHTS}"
            )


class ActionChunks(nn.Module):
    """Pictures, joints and goals to joints of latents to come."""

    scale: Tensor  # (J,)

    def __init__(self, config: CloningConfig) -> None:
        super().__init__()
        width, layers, channels = config.width, [], 3
        for size in (32, 64, width):
            layers += [nn.Conv2d(channels, size, 3, stride=2, padding=1), nn.SiLU()]
            channels = size
        self.picture = nn.Sequential(*layers)
        self.state = nn.Linear(NUM_JOINTS + 3, width)
        self.places = nn.Parameter(0.02 * torch.randn(1 + 64, width))
        self.queries = nn.Parameter(0.02 * torch.randn(config.ahead, width))
        shape: dict[str, Any] = {"dim_feedforward": 4 * width, "dropout": 0.0, "batch_first": True, "norm_first": True}
        layer = nn.TransformerEncoderLayer(width, 4, **shape)
        self.encoder = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        self.reader = nn.TransformerDecoderLayer(width, 4, **shape)
        self.out = nn.Linear(width, NUM_JOINTS)
        self.register_buffer("scale", torch.ones(NUM_JOINTS))

    def forward(
        self,
        image: Tensor,  # (B, 3, H, W) in [-1, 1]
        joints: Tensor,  # (B, J) commanded now
        goal: Tensor,  # (B, 3) metres
    ) -> Tensor:
        """Return the joints at the end of each latent to come, (B, ahead, J)."""
        seen = F.adaptive_avg_pool2d(self.picture(image), 8).flatten(2).transpose(1, 2)
        state = self.state(torch.cat([joints, 10 * goal], 1))[:, None]
        known = self.encoder(torch.cat([state, seen], 1) + self.places)
        read = self.reader(self.queries.expand(len(image), -1, -1), known)
        moved: Tensor = self.scale * self.out(read)
        return joints[:, None] + moved


class ClonedPolicy:
    """Acts in ``joints``, a step's latents at a time."""

    def __init__(self, module: ActionChunks, config: CloningConfig, *, num_latents: int) -> None:
        if num_latents > config.ahead:
            raise ValueError(
                f"a step has {num_latents} latents, the policy plans {config.ahead}; choose fewer per step"
            )
        self.module, self.num_latents = module.eval().requires_grad_(False), num_latents

    @classmethod
    def load(cls, folder: Path, *, num_latents: int) -> ClonedPolicy:
        """Read a policy.

        Raises:
            ValueError: if there is none, or it is of another version.
        """
        tensors, header = load_tensors(folder / FILE)
        if not is_format(header.get("format"), FORMAT) or "config" not in header:
            raise ValueError(f"{folder / FILE} is no cloned policy of this version; clone it again")
        config = from_dict(CloningConfig, header["config"], where=str(folder / FILE))
        with Budget(sum(part.numel() for part in tensors.values()), where=str(folder / FILE)):
            module = ActionChunks(config)
        load_module(module, tensors, where=str(folder / FILE))
        return cls(module, config, num_latents=num_latents)

    def reset(self, num_envs: int) -> None:
        """Remember nothing."""

    def act(self, obs: Any, info: Mapping[str, Any]) -> npt.NDArray[Any]:
        """Return the joints of the next latents, (B, J), or (B, latents, J) where a step has several."""
        image, joints, goal = (torch.as_tensor(obs[key]) for key in OBS_KEYS)
        planned = self.module(to_pixels(image), joints.float(), goal.float())[:, : self.num_latents]
        within = planned.clamp(*HAND.limits.float())
        return (within[:, 0] if self.num_latents == 1 else within).numpy()
