"""Which implementation runs: Triton where a GPU (or its interpreter) is, PyTorch everywhere else."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence

import torch
from torch import Tensor

HEAD_DIMS = (32, 64, 128)
"""Channels per head that the kernels take; four quarters of a power of two."""


@functools.cache
def has_triton() -> bool:
    """Tell whether Triton is installed, without importing it."""
    return importlib.util.find_spec("triton") is not None


def interpreting() -> bool:
    """Tell whether Triton runs kernels in its interpreter; imports Triton."""
    import triton

    return bool(triton.knobs.runtime.interpret)


def choose(
    backend: str,
    tensor: Tensor,  # decides by its device and dtype
    *,
    head_dim: int | None = None,  # None for an op without heads
    backends: Sequence[str] = ("triton", "torch"),
) -> str:
    """Return the backend that ``auto`` stands for here, or the one asked for if it can run; raise as ``choose_for``."""
    return choose_for(backend, tensor.device, tensor.dtype, head_dim=head_dim, backends=backends)


def choose_for(
    backend: str,
    device: torch.device,
    dtype: torch.dtype,
    *,
    head_dim: int | None = None,
    backends: Sequence[str] = ("triton", "torch"),
) -> str:
    """Do what ``choose`` does, for tensors that are not there yet.

    Raises:
        ValueError: if there is no such backend, or Triton is asked for what it cannot do.
    """
    if backend not in ("auto", *backends):
        raise ValueError(f"backend={backend!r}; known are auto, {', '.join(backends)}")
    if backend not in ("auto", "triton"):
        return backend
    reason = _unfit(device, dtype, head_dim, forced=backend == "triton")
    if reason and backend == "triton":
        raise ValueError(f"backend='triton' cannot run here: {reason}; pass backend='auto' or 'torch'")
    return "torch" if reason else "triton"


def _unfit(device: torch.device, dtype: torch.dtype, head_dim: int | None, *, forced: bool) -> str:
    """Say why Triton does not take this, empty if it does."""
    if head_dim is not None and head_dim not in HEAD_DIMS:
        return f"heads have {head_dim} channels, kernels take {', '.join(map(str, HEAD_DIMS))}"
    if device.type != "cuda" and not forced:
        return "the tensors are not on a GPU"
    if not has_triton():
        return "Triton is not installed (pip install 'worldenv[kernels]')"
    if device.type != "cuda" and not interpreting():
        return "the tensors are on a CPU and TRITON_INTERPRET=1 was not set before Triton was imported"
    if head_dim is not None and device.type == "cuda" and dtype not in (torch.bfloat16, torch.float16):
        return f"{dtype} on a GPU, kernels take bfloat16 and float16"
    return ""
