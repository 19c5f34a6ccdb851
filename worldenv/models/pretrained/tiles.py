"""A decoder whose pictures are shared among processes by rows, equal to one process's: no seams, nothing blended."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..ranks import Ranks


def share_rows(decoder: nn.Module, ranks: Ranks) -> None:
    """Let convolutions read the neighbours' nearest rows where they would read zeros, from now on.

    What sees a picture as a whole (Wan's attention in the middle) is computed by all processes.
    """
    for module in decoder.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and module.kernel_size[-2] > 1:
            assert (module.kernel_size[-2], module.stride[-2]) == (3, 1)
            _border(module, ranks)
        elif type(module).__name__ == "WanAttentionBlock":
            _gather(module, ranks)


def _border(module: nn.Module, ranks: Ranks) -> None:
    def extend(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
        x, *past = (part for part in inputs if part is not None)
        if not past:
            return (ranks.bordered(x),)
        both = ranks.bordered(torch.cat([past[0].to(x), x], 2))  # (B, C, T, h, w) looks back at (B, C, Tp, h, w)
        count = past[0].shape[2]
        return both[:, :, count:], both[:, :, :count]

    def crop(module: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> Tensor:
        return out[..., 1:-1, :]

    module.register_forward_pre_hook(extend)
    module.register_forward_hook(crop)


def _gather(module: nn.Module, ranks: Ranks) -> None:
    own: list[slice] = []

    def extend(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor]:
        whole, rows = ranks.whole_rows(inputs[0])
        own[:] = [rows]
        return (whole,)

    def crop(module: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> Tensor:
        return out[..., own[0], :]

    module.register_forward_pre_hook(extend)
    module.register_forward_hook(crop)
