"""Tensors from a file that others released: safetensors, or a torch archive read without unpickling anything else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ...base.checkpoint import load_tensors


def read_archive(file: Path) -> Mapping[str, Tensor]:
    """Read a state dict onto the CPU; TorchScript and pickled objects are refused.

    Raises:
        ValueError: if the file holds anything but tensors by name.
    """
    if file.suffix == ".safetensors":
        return load_tensors(file)[0]
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{file}: cannot be read as a checkpoint of tensors ({error})") from None
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ValueError(f"{file}: holds {type(loaded).__name__}, expected tensors by name")
    return loaded
