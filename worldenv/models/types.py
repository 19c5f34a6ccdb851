"""Sizes of the world transformer and the tensors that condition it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ..base.config import MOST_SIZE, check_numbers


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Sizes of the transformer; nothing in the code assumes particular ones."""

    latent_channels: int = 16
    """Channels of a latent cell, in and out."""
    patch: int = 2
    """Latent cells per token side; a token covers 8 * patch pixels each way and 4 frames."""
    width: int = 256
    """Model width D."""
    num_layers: int = 8
    """Transformer blocks."""
    num_heads: int = 4
    """Attention heads; D / num_heads must be a multiple of 4."""
    ffn_dim: int = 1024
    """Hidden width of the feed-forward network."""
    freq_dim: int = 256
    """Width of the sinusoid that encodes timesteps and action labels."""
    rope_theta: float = 10000.0
    """Base of the rotary frequencies."""
    camera_branch: bool = True
    """Whether PRoPE attention (the continuous half of the dual action) is there."""
    camera_rays: bool = False
    """Whether tokens take in the Pluecker coordinates of their rays (WorldScape), beside PRoPE or instead of it."""
    key_branch: bool = True
    """Whether action labels (the discrete half) enter the timestep embedding."""
    codes: dict[str, int] = field(default_factory=dict, hash=False)
    """Further signals that enter it, and how many numbers each of them has."""
    position_embedding: bool = True
    """Whether tokens know their place in the picture; rotary positions alone are relative and give PRoPE no rays."""

    render_input: bool = False
    """Whether tokens also take in what rendered memory knows of them."""
    pose_video: bool = False
    """Whether the robot, drawn alone where its joints are commanded, stands beside the coming latents as clean extra
    ones of their times (WorldScape)."""
    grasp_offsets: bool = False
    """Whether tokens take in how far from them the robot's grasp is in the picture: what it carries stays where it was,
    seen from there."""
    grasp_branch: bool = False
    """Whether another attention has its rotary rows and columns counted from the grasp (RoPE in a moving frame)."""
    text_dim: int = 0
    """Channels of a prompt's embedding; 0 is a world without text."""
    causal_context: bool = True
    """Whether an entry of the context sees only itself and earlier ones, as trained; WorldPlay's release lets all of
    them see each other."""
    numerics: Literal["clean", "reference"] = "clean"
    """``reference`` rounds cameras and modulation as WorldPlay's release does in bfloat16; in float32 they agree."""

    def __post_init__(self) -> None:
        sizes = ("latent_channels", "patch", "width", "num_layers", "num_heads", "ffn_dim", "freq_dim")
        for name, count in self.codes.items():
            if not 1 <= count <= MOST_SIZE:
                raise ValueError(f"codes: {name!r} has {count} numbers; give from 1 to {MOST_SIZE}, or leave it out")
        check_numbers(self, sizes=sizes, layers=("num_layers",), positive=("rope_theta",), natural=("text_dim",))
        if self.pose_video and self.render_input:
            raise ValueError("pose_video and render_input exclude each other: robots that stand still render nothing")
        for name in ("grasp_offsets", "grasp_branch"):
            if getattr(self, name) and not self.pose_video:
                raise ValueError(f"{name} is for worlds of robots; set pose_video = true too")
        if self.width % self.num_heads or self.head_dim % 4:
            raise ValueError(
                f"width={self.width} with num_heads={self.num_heads} gives heads of {self.width / self.num_heads:g} "
                f"channels; choose a width that is a multiple of {4 * self.num_heads}"
            )

    @property
    def sees_grasp(self) -> bool:
        """Whether where the robot's grasp is enters in any way."""
        return self.grasp_offsets or self.grasp_branch

    @property
    def num_branches(self) -> int:
        """Attentions over the same queries, keys and values."""
        return 1 + self.camera_branch + self.grasp_branch

    @property
    def head_dim(self) -> int:
        """Channels per head."""
        return self.width // self.num_heads


TextCache = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values of a prompt in every layer, each (B or 1, N, L, head_dim): computed once, however long it holds."""

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of latents in every layer, each (L, B, F, S, N, head_dim): before RoPE and PRoPE, for any place."""

Render = tuple[Tensor, Tensor]
"""What rendered memory knows of latents: these (B, F, C, h, w), and the known share of each cell (B, F, 1, h, w)."""


@dataclass(frozen=True)
class Conditioning:
    """What each latent carries besides its content."""

    timesteps: Tensor  # (B, F) float, 0..1000
    positions: Tensor  # (B, F) int64: temporal index after reframing
    labels: Tensor | None = None  # (B, F) int64, 0..80: the keys held on the way to this latent
    projection: Tensor | None = None  # (B, F, 4, 4) image <- world of each latent's camera
    unprojection: Tensor | None = None  # (B, F, 4, 4) its inverse
    drawn: Tensor | None = None  # (B, F) bool: latents of the pose video; None has none
    grasp: Tensor | None = None  # (B, F, 2) where the robot's grasp is in the picture at each latent's end, -1..1
    codes: dict[str, Tensor] = field(default_factory=dict)  # each (B, F, numbers) float32: further signals

    def map(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        """Return the same with every tensor changed."""
        own: dict[str, Any] = {n: getattr(self, n) for n in self.__dataclass_fields__ if n != "codes"}
        changed: dict[str, Any] = {name: None if part is None else change(part) for name, part in own.items()}
        return replace(self, **changed, codes={name: change(part) for name, part in self.codes.items()})

    def repeat(self, count: int) -> Conditioning:
        """Return the same with every row repeated ``count`` times in a row."""
        return self.map(lambda part: part.repeat_interleave(count, 0))

    def join(self, later: Conditioning) -> Conditioning:
        """Return the same with later latents behind these."""

        def both(name: str) -> Any:
            first = getattr(self, name)
            return None if first is None else torch.cat([first, getattr(later, name)], 1)

        own = {name: both(name) for name in self.__dataclass_fields__ if name != "codes"}
        codes = {name: torch.cat([part, later.codes[name]], 1) for name, part in self.codes.items()}
        return replace(self, **own, codes=codes)

    def select(self, start: int, stop: int) -> Conditioning:
        """Return the same for latents start..stop-1."""
        return self.map(lambda part: part[:, start:stop])
