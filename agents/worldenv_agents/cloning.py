"""Behaviour cloning of recorded hands with action chunks: a small transformer after ACT (Zhao et al. 2023).

Tokens of the picture, of the commanded joints and of the goal go through an encoder; as many learned queries as there
are latents ahead read them and say where the joints are to be told to be, relative to now. The error is L1. There is no
latent style: experts do the same thing in the same place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldenv.base.budget import Budget
from worldenv.base.checkpoint import load_module, load_tensors, save_tensors
from worldenv.base.config import check_most, check_numbers, from_dict, to_dict
from worldenv.base.documents import is_format
from worldenv.base.lock import in_use
from worldenv.base.log import console
from worldenv.bodies.hand_model import HAND, NUM_JOINTS
from worldenv.data.schema import Clip, read_shard, shard_paths
from worldenv.models.codec import to_pixels

from .policy import MOST_RATE, MOST_WEIGHTS
from .progress import finite

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


def clone(recording: Path, config: CloningConfig, out: Path) -> dict[str, float]:
    """Learn from the expert episodes of a recording; return the mean error of the last 100 steps.

    Raises:
        ValueError: if there are fewer of them, or the recording is not of the hand's table.
    """
    with in_use(out):
        frames, joints, goals = _demonstrations(recording, config.episodes)
        torch.manual_seed(config.seed)
        generator = torch.Generator().manual_seed(config.seed)
        module = ActionChunks(config)
        moves = joints[:, _ahead(joints, config)] - joints[:, :-1, None]  # (N, F - 1, ahead, J)
        with torch.no_grad():
            module.scale.copy_(moves.flatten(0, 2).std(0).clamp(min=1e-3))
        with finite(module):
            errors = _descend(module, config, frames, joints, goals, generator)
        save_tensors(out / FILE, module.state_dict(), header={"format": FORMAT, "config": to_dict(config)})
    return {"error": float(np.mean(errors))}


def _ahead(joints: Tensor, config: CloningConfig) -> Tensor:
    """Return which latents are planned at each but the last, (F - 1, ahead)."""
    last = joints.shape[1] - 1
    return (torch.arange(last)[:, None] + 1 + torch.arange(config.ahead)).clamp(max=last)


def _descend(
    module: ActionChunks,
    config: CloningConfig,
    frames: Tensor,  # (N, F, H, W, 3) uint8
    joints: Tensor,  # (N, F, J)
    goals: Tensor,  # (N, 3)
    generator: torch.Generator,
) -> list[float]:
    """Take all steps; return the errors of the last 100."""
    index, last = _ahead(joints, config), joints.shape[1] - 1
    optimizer = torch.optim.AdamW(module.parameters(), lr=config.lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    errors: list[float] = []
    for step in range(1, config.steps + 1):
        row = torch.randint(len(frames), (config.batch,), generator=generator)
        at = torch.randint(last, (config.batch,), generator=generator)
        image = _shifted(to_pixels(frames[row, at]), config.shift, generator)
        made = module(image, joints[row, at], goals[row])
        error = ((made - joints[row[:, None], index[at]]).abs() / module.scale).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()
        errors = [*errors[-99:], float(error.detach())]
        if step % 100 == 0 or step == config.steps:
            console.print(f"{step:6d}  error {np.mean(errors):.4f}", highlight=False)
    return errors


def _demonstrations(recording: Path, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return frames at the ends of latents (N, F, H, W, 3), joints (N, F, J) and goals (N, 3) of expert episodes."""
    wanted = ("frames", "joints", "object", "target")
    shards = (read_shard(path, only=wanted) for path in shard_paths(recording))
    clips: list[Clip] = []
    for clip in chain.from_iterable(shards):
        lacking = [name for name in wanted[1:] if name not in clip.signals]
        if lacking:
            raise ValueError(f"{recording} has no {lacking[0]}; hands are cloned from `worldenv record --env hand/...`")
        if clip.attributes.get("kind") == "expert":
            clips.append(clip)
        if len(clips) == count:
            break
    if len(clips) < count:
        raise ValueError(
            f"{recording} has {len(clips)} expert episodes, episodes={count}; record more, or ask for fewer"
        )
    frames = torch.stack([torch.from_numpy(clip.frames[:: clip.frames_per_latent]) for clip in clips])
    joints = torch.stack([torch.from_numpy(clip.signals["joints"]) for clip in clips]).float()
    goals = [np.append(clip.signals["target"][0, :2], clip.signals["object"][0, 2]) for clip in clips]
    return frames, joints, torch.from_numpy(np.stack(goals)).float()


def _shifted(image: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Move pictures (B, 3, H, W) by up to so many pixels each way; edges are repeated."""
    if not most:
        return image
    padded = F.pad(image, (most,) * 4, mode="replicate")
    down, across = torch.randint(2 * most + 1, (2, len(image)), generator=generator).tolist()
    height, width = image.shape[2:]
    return torch.stack([x[:, i : i + height, j : j + width] for x, i, j in zip(padded, down, across, strict=True)])


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
