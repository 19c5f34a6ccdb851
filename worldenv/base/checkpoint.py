"""Checkpoints: safetensors plus a JSON header, read strictly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor, nn

from .documents import parse_json
from .files import replacing
from .said import check_file

SUMS = "sha256"
"""Key of a file's header under which the sha256 of each of its tensors stands."""


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], *, header: Mapping[str, Any] | None = None, sums: bool = True
) -> None:
    """Write tensors and a JSON header to ``path``; the file appears whole or not at all.

    With ``sums`` each tensor's sha256 goes along, for ``load_tensors`` to check; not where the file is hashed whole.
    """
    flat = {k: v.detach().to("cpu").contiguous().clone() for k, v in tensors.items()}
    said = {**(header or {}), **({SUMS: {name: tensor_sha256(part) for name, part in flat.items()}} if sums else {})}
    with replacing(path) as partial:
        told = {"header": json.dumps(said, sort_keys=True)}
        if partial == path:  # a device or a pipe, in the place of which the library would put a file
            partial.write_bytes(save(flat, told))
            return
        try:
            save_file(flat, str(partial), metadata=told)
        except SafetensorError as error:
            raise OSError(str(error)) from error
        partial.chmod(0o644)  # safetensors makes private files


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and header.

    Raises:
        ValueError: if the file is missing, truncated or not safetensors, or its tensors are not those that were
            written; files of earlier versions do not tell.
    """
    tensors: dict[str, Tensor] = {}
    header: dict[str, Any] = {}
    read = None
    while read != (now := _version(path)):  # the library opens it anew for the tensors: it may be another one by then
        (tensors, header), read = _read(path), now
    sums = header.pop(SUMS, None)
    if sums is not None:
        _check_sums(path, tensors, sums if isinstance(sums, dict) else {})
    return tensors, header


def _version(path: Path) -> tuple[int, int]:
    """Return what tells a file from another one that takes its place."""
    _require(path)
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with _readable(path), safe_open(str(path), framework="pt") as file:
        header = parse_json((file.metadata() or {}).get("header", "{}"))
        if not isinstance(header, dict):
            raise ValueError(f"its header is {str(header)[:80]!r}, not a table")
        return {key: file.get_tensor(key) for key in file.keys()}, header  # noqa: SIM118


def _require(path: Path) -> None:
    check_file(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    _require(path)
    try:
        yield
    except (SafetensorError, ValueError, OSError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{path}: not a readable safetensors file ({said}); copy it again") from None


def tensor_sha256(tensor: Tensor) -> str:
    """Hash a tensor on the CPU: dtype, shape and values."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def has_sums(path: Path) -> bool:
    """Tell whether a safetensors file says what its tensors hash to."""
    with safe_open(str(path), framework="pt") as file:
        return SUMS in json.loads((file.metadata() or {}).get("header", "{}"))


def describe_tensors(path: Path) -> str:
    """Say what a file of tensors holds, and whether that is known to be what was written.

    Raises:
        ValueError: if it is not.
    """
    tensors, header = load_tensors(path)
    size = sum(part.numel() * part.element_size() for part in tensors.values())
    known = f"as written, by the sha256 of each of its {len(tensors)} tensors"
    told = ", ".join(f"{key} {value}" for key, value in header.items() if isinstance(value, str | int | float))
    return "\n".join(
        [
            f"{path}: {len(tensors)} tensors, {size / 1e6:.3g} MB",
            *([f"header    {told}"] if told else []),
            f"sha256    {known if has_sums(path) else 'not checked: the file is of an earlier version and has none'}",
        ]
    )


def _check_sums(path: Path, tensors: Mapping[str, Tensor], sums: Mapping[str, str]) -> None:
    """Refuse tensors that are missing, unknown, or do not hash to what was written beside them."""
    changed = sorted(set(tensors) ^ set(sums))
    changed = changed or [name for name, part in tensors.items() if tensor_sha256(part) != sums[name]]
    if changed:
        raise ValueError(f"{path}: {_some(changed)} not as written; the file was damaged or edited, copy it again")


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the names and shapes in a safetensors file, without the tensors.

    Raises:
        ValueError: if the file is missing, truncated or not safetensors.
    """
    with _readable(path), safe_open(str(path), framework="pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def stream_tensors(path: Path, device: torch.device | str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a safetensors file one by one, straight on a device."""
    with safe_open(str(path), framework="pt", device=str(device)) as file:
        yield from ((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118


Expected = tuple[torch.dtype, tuple[int | str, ...]]
"""What a tensor is to be: its dtype, and its shape, in which a letter is any size, the same wherever it stands."""


def check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Expected], *, where: str, **sizes: int) -> None:
    """Refuse tensors that are missing, unknown, of another dtype or shape, or not finite; ``sizes`` are of letters.

    Raises:
        ValueError: naming the first of them.
    """
    missing, unknown = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    if missing or unknown:
        wrong = f"{_some(missing)} missing" if missing else f"{_some(unknown)} unknown"
        raise ValueError(f"{where}: {wrong}; the file was edited or is of another version")
    for name, (dtype, letters) in expected.items():
        found = tensors[name]
        if found.ndim == len(letters):
            for letter, size in zip(letters, found.shape, strict=True):
                if isinstance(letter, str):
                    sizes.setdefault(letter, size)
        shape = tuple(sizes.get(size, size) if isinstance(size, str) else size for size in letters)
        if found.dtype != dtype or tuple(found.shape) != shape:
            wanted = str(shape).replace("'", "")
            raise ValueError(f"{where}: {name} is {found.dtype} {tuple(found.shape)}, expected {dtype} {wanted}")
    broken = not_finite({name: tensors[name] for name in expected})
    if broken:
        raise ValueError(f"{where}: {_some(broken)} not finite; the file was damaged or edited")


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Name the tensors that hold NaN or infinities."""
    return [name for name, tensor in tensors.items() if tensor.is_floating_point() and not _finite(tensor)]


def _finite(tensor: Tensor) -> bool:
    """Tell it by the least and the greatest, which takes a tenth of looking at each."""
    whole = tensor.float() if tensor.element_size() == 1 else tensor  # the least of 8 bits is not known
    return not whole.numel() or all(bool(end.isfinite()) for end in whole.aminmax())


def load_module(module: nn.Module, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Load a state dict strictly.

    Raises:
        ValueError: listing what is missing, extra, of another shape, no floating-point number, or not finite.
    """
    own = module.state_dict()
    missing, extra = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    both = [(k, tensors[k], own[k]) for k in own if k in tensors]
    shapes = [f"{k}: {tuple(new.shape)} for {tuple(old.shape)}" for k, new, old in both if new.shape != old.shape]
    others = [(k, new, old) for k, new, old in both if new.is_floating_point() != old.is_floating_point()]
    kinds = [f"{k}: {new.dtype} for {old.dtype}" for k, new, old in others]
    if missing or extra or shapes or kinds:
        raise ValueError(
            f"{where} does not fit the model: missing {_some(missing)}; unexpected {_some(extra)}; "
            f"wrong shape {_some(shapes)}; wrong dtype {_some(kinds)}"
        )
    broken = not_finite(tensors)
    if broken:
        raise ValueError(f"{where}: {_some(broken)} not finite; training has failed, or the file was damaged")
    module.load_state_dict(dict(tensors))


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def check_under(tensors: Mapping[str, Tensor], *prefixes: str, where: str) -> None:
    """Refuse tensors whose names begin with none of these, which nobody would read.

    Raises:
        ValueError: naming the first of them.
    """
    unknown = sorted(name for name in tensors if not name.startswith(prefixes))
    if unknown:
        raise ValueError(f"{where}: {_some(unknown)} unknown; the file was edited or is of another version")


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what an optimizer remembers of each parameter, by the parameter's number."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{k}": torch.as_tensor(v) for i, kept in state.items() for k, v in kept.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Take over what ``optimizer_tensors`` returned: of each parameter the same, numbers or tensors of its shape.

    Raises:
        ValueError: naming what is of no parameter, missing, of another shape, no floating-point number, or not finite.
    """
    parameters = [part for group in optimizer.param_groups for part in group["params"]]
    shapes = {str(index): tuple(part.shape) for index, part in enumerate(parameters)}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        if not name or index not in shapes:
            raise ValueError(f"{where}: the optimizer's {key} is of none of its {len(shapes)} parameters")
        shape = shapes[index]
        if tuple(value.shape) not in ((), shape) or not value.is_floating_point():
            raise ValueError(f"{where}: the optimizer's {key} is {value.dtype} {tuple(value.shape)}, expected {shape}")
        state.setdefault(int(index), {})[name] = value
    names = {name for kept in state.values() for name in kept}
    missing = [f"{index}.{name}" for index, kept in sorted(state.items()) for name in sorted(names - set(kept))]
    if missing:
        raise ValueError(f"{where}: the optimizer's {_some(missing)} missing; the file was damaged or edited")
    broken = not_finite(tensors)
    if broken:
        raise ValueError(f"{where}: the optimizer's {_some(broken)} not finite; the file was damaged or edited")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _some(items: list[str]) -> str:
    return ", ".join(items[:8]) + (f" and {len(items) - 8} more" if len(items) > 8 else "") if items else "none"
