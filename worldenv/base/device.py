"""Which device, which precision on it, and memory that is only taken when it is written."""

from __future__ import annotations

import functools
import math
import mmap
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def default_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device computes in it, else float32."""
    if device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.bfloat16
    return torch.float32


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """Turn ``auto`` into what the device computes fastest in, and a name into its dtype."""
    if name == "auto":
        return default_dtype(device)
    if name not in DTYPES:
        raise ValueError(f"dtype={name!r}; choose one of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def warn_if_slow(dtype: torch.dtype, device: torch.device) -> None:
    """Say so where a device does not compute in this precision, which then takes tens of times as long."""
    if device.type == "cpu" and dtype == torch.bfloat16 != default_dtype(device):
        warnings.warn(
            "this CPU does not compute in bfloat16, in which the world was loaded: it will crawl; load it with "
            "World.from_pretrained(..., dtype='auto')",
            stacklevel=3,
        )


def resolve_device(name: str) -> torch.device:
    """Turn ``auto`` into the best device there is.

    Raises:
        ValueError: on an unknown device, or a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"unknown device {name!r}; choose auto, cpu, cuda or cuda:N") from None
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if not count:
        raise ValueError(f"device={name!r}, but torch {torch.__version__} finds no GPU here; pass 'auto' or 'cpu'")
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(f"device={name!r}, but there are {count} GPUs; choose one of cuda:0 to cuda:{count - 1}")
    return device


def stateful(function: Function) -> Function:
    """Let a function that keeps tensors compute without gradients, and outside of the caller's ``inference_mode``.

    What is made in that mode could not be written to after it. Processes that are forked later compute on one thread.
    """
    compute = torch.inference_mode(False)(torch.no_grad()(function))

    @functools.wraps(function)
    def noted(*arguments: Any, **options: Any) -> Any:
        _fork_to_one_thread()
        return compute(*arguments, **options)

    return cast(Function, noted)


@functools.cache
def _fork_to_one_thread() -> None:
    """Let forks of this process compute on one thread: OpenMP waits for its others, which a fork does not have."""
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def threads_sleep() -> bool:
    """Tell whether OpenMP's threads sleep between operations, which only its own variable says."""
    return os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive"


@contextmanager
def threads_for(
    size: int,  # of what operations work on
    *,
    enough: int,  # size from which several threads are faster than one although they have to be woken
    device: torch.device,
) -> Iterator[None]:
    """Compute small things on a CPU with one thread where threads sleep between operations.

    Under ``OMP_WAIT_POLICY=passive`` each operation wakes them anew, which takes longer than what a small one takes by
    itself. Threads that wait actively for a while (the default) help always.
    """
    before = torch.get_num_threads()
    alone = device.type == "cpu" and size < enough and threads_sleep()
    if alone:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if alone:
            torch.set_num_threads(before)


def untouched_zeros(shape: Sequence[int], *, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """Make zeros that on a CPU take memory only where they are written, and give all of it back when they go."""
    if torch.device(device).type != "cpu" or not math.prod(shape):
        return torch.zeros(*shape, dtype=dtype, device=device)
    return torch.frombuffer(mmap.mmap(-1, math.prod(shape) * dtype.itemsize), dtype=dtype).view(*shape)
