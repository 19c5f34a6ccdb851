"""Linear layers in 8-bit integers: weights once, one scale per output; activations as they come, one per token.

Nothing mixes rows or tokens, so an env's numbers do not depend on its neighbours'.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

QUANTIZE = ("none", "int8")


class Int8Linear(nn.Module):
    """A linear layer whose product PyTorch's integer matrix multiplication computes; inference only."""

    weight: Tensor  # (in, out) int8, column-major
    scale: Tensor  # (out,) float32
    bias: Tensor | None  # (out,)

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()  # (out, in)
        scale = weight.abs().amax(1).clamp(min=1e-8) / 127
        self.register_buffer("weight", (weight / scale[:, None]).round().to(torch.int8).T)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def forward(
        self,
        x: Tensor,  # (..., in)
    ) -> Tensor:
        rows = x.flatten(0, -2)
        scale = rows.abs().amax(1, keepdim=True).float().clamp(min=1e-8) / 127
        out = torch._int_mm((rows / scale).round().to(torch.int8), self.weight) * scale * self.scale
        return (out if self.bias is None else out + self.bias).to(x.dtype).unflatten(0, x.shape[:-1])


def check_kind(kind: str) -> None:
    """Refuse kinds of quantisation that do not exist."""
    if kind not in QUANTIZE:
        raise ValueError(f"quantize={kind!r}; choose one of {', '.join(QUANTIZE)}")


def quantize_linears(module: nn.Module, kind: str) -> None:
    """Replace the linear layers within a module, in place.

    Raises:
        ValueError: if there is no such kind.
    """
    check_kind(kind)
    if kind == "none":
        return
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child))
        else:
            quantize_linears(child, kind)
