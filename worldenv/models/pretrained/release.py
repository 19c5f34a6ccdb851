"""Where the files of a WorldPlay release lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...base.documents import read_table
from ...base.said import check_file


@dataclass(frozen=True)
class Release:
    """The files of a release, wherever they lie."""

    transformer: Mapping[str, Any]
    """Configuration of the transformer, diffusers' names."""
    weights: list[Path]
    """Shards, or the distilled ``model.pt``."""
    vae: Mapping[str, Any]
    """Configuration of the VAE."""
    vae_weights: Path
    """Its weights."""
    size: tuple[int, int]
    """Height and width of the pictures."""
    text: Path | None
    """Folder with ``text_encoder`` and ``tokenizer``, if there is one."""


def is_release(folder: Path) -> bool:
    """Tell whether a directory holds WorldPlay's files rather than a world of ours."""
    if (folder / "config.json").is_file():
        return {"transformer", "vae"} <= set(read_json(folder / "config.json"))
    return any((folder / name / "config.json").is_file() for name in ("wan_transformer", "transformer"))


def find_release(folder: Path, *, size: tuple[int, int] = (704, 1280)) -> Release:
    """Find the files of a release in a directory.

    Two forms are known. The released one: ``wan_transformer/`` (or ``transformer/``), optionally the distilled
    ``wan_distilled_model/model.pt`` (or ``model.pt``), which is preferred, and from Wan2.2-TI2V-5B-Diffusers ``vae/``,
    ``text_encoder/`` and ``tokenizer/``. The form of golden tensors: ``config.json`` with all of it and one safetensors
    file each.

    Raises:
        ValueError: naming what is missing.
    """
    if (folder / "config.json").is_file():
        values = read_json(folder / "config.json")
        missing = [key for key in ("transformer", "vae", "height", "width") if key not in values]
        if missing:
            raise ValueError(f"{folder / 'config.json'}: {', '.join(missing)} missing; this is no WorldPlay directory")
        files = [folder / "transformer.safetensors"]
        return Release(
            values["transformer"],
            files,
            values["vae"],
            folder / "vae.safetensors",
            (values["height"], values["width"]),
            None,
        )
    for name in ("wan_transformer", "transformer"):
        if (folder / name / "config.json").is_file():
            break
    else:
        raise ValueError(
            f"{folder}: neither config.json nor wan_transformer/config.json; this is no WorldPlay directory"
        )
    distilled = [f for f in (folder / "wan_distilled_model" / "model.pt", folder / "model.pt") if f.is_file()]
    vae = folder / "vae"
    if not (vae / "config.json").is_file():
        raise ValueError(f"{vae}: no VAE here; put the vae folder of Wan2.2-TI2V-5B-Diffusers beside {name}")
    return Release(
        transformer=read_json(folder / name / "config.json"),
        weights=distilled[:1] or weight_files(folder / name),
        vae=read_json(vae / "config.json"),
        vae_weights=vae / "diffusion_pytorch_model.safetensors",
        size=size,
        text=folder if (folder / "text_encoder").is_dir() else None,
    )


def weight_files(folder: Path) -> list[Path]:
    """List a transformer's files: shards named by an index, or the safetensors of the folder.

    Raises:
        ValueError: if there are none, or a shard is missing.
    """
    indexes = sorted(folder.glob("*.safetensors.index.json"))
    if indexes:
        listed = read_table(indexes[0]).get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
            raise ValueError(f"{indexes[0]}: weight_map is {str(listed)[:80]!r}, a table of files; copy it again")
        files = [folder / name for name in sorted(set(listed.values()))]
        missing = [f.name for f in files if not f.is_file()]
        if missing:
            raise ValueError(f"{folder}: {', '.join(missing)} missing, but {indexes[0].name} names it; copy it again")
        return files
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder}: no safetensors files; this should be the transformer folder of a release")
    return files


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; a missing or broken file is a ValueError that names it."""
    return read_table(check_file(path))
