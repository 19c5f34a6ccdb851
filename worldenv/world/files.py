"""Where worlds lie, and the hashes of their files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ..base.files import file_sha256
from ..base.said import check_path
from ..models.heads import HEADS
from ..models.pretrained.release import find_release, is_release

HUB = "hub:"
"""What names of worlds on the Hugging Face hub begin with."""

PARTS = ("vae", "dit", *(f"heads.{name}" for name in HEADS), "starts", "clips", "moments")
"""Names of the files that a world may be made of."""

SUMS = "sha256"
"""Table of ``world.toml`` that has the sha256 of each of them. It is no part of what a world does, nor of its identity,
which are the files themselves.
"""
WHOLE = "world"
"""Its key for all of them together: what they hash to is asked anyway, so that checking them costs nothing more."""

OFFLINE = ("LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectError", "ConnectTimeout")
"""What the hub's library raises where there is no network."""

STEPPED = tuple(name for name in PARTS if name != "heads.display")
"""Those that decide what a world does; what is measured of one holds for it with another display decoder, or none."""


def world_sha256(folder: Path, parts: Sequence[str] = PARTS) -> str:
    """Hash the files that a world is made of, or some of them; a checkpoint that lies beside them is none of it."""
    files = [folder / f"{name}.safetensors" for name in parts]
    return file_sha256(file for file in files if file.is_file())


def world_sums(folder: Path) -> dict[str, str]:
    """Return the table ``[sha256]`` of a world's files: each one's, and ``world``, which is that of all together."""
    there = [name for name in PARTS if (folder / f"{name}.safetensors").is_file()]
    return {name: _sha256(folder / f"{name}.safetensors") for name in there} | {WHOLE: world_sha256(folder)}


def read_sums(folder: Path, table: Any) -> dict[str, str]:
    """Read the table ``[sha256]`` of ``world.toml``, where a dot in a name makes a table of its own.

    Raises:
        ValueError: if it names what no world has, or holds anything but hashes.
    """
    where, sums = f"{folder / 'world.toml'}: {SUMS}", dict[str, str]()
    if not isinstance(table, Mapping):
        raise ValueError(f"{where}: expected a table, got {table!r}")
    for name, value in table.items():
        nested = {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, Mapping) else {name: value}
        sums |= {part: str(found) for part, found in nested.items()}
    for part, found in sums.items():
        if part not in (*PARTS, WHOLE) or not re.fullmatch("[0-9a-f]{64}", found):
            raise ValueError(f"{where}.{part}: {found!r} is no sha256 of a world's file")
    return sums


def check_sums(folder: Path, sums: Mapping[str, str], whole: str) -> None:
    """Refuse a world whose files, which hash to ``whole`` together, are not those that ``world.toml`` lists.

    Each is hashed only if together they are others, to say which.

    Raises:
        ValueError: naming the first that is missing, another or not listed.
    """
    if sums.get(WHOLE) == whole:
        return
    found = world_sums(folder)
    for name in sorted({*sums, *found} - ({WHOLE} if WHOLE not in sums else set())):
        if sums.get(name) != found.get(name):
            how = "is missing" if name not in found else "is not listed" if name not in sums else "has another sha256"
            what = "the world as a whole" if name == WHOLE else f"{name}.safetensors"
            raise ValueError(
                f"{folder}: {what} {how}, by [{SUMS}] in world.toml; the world was damaged or edited: copy it again, "
                "or take the table out if that is meant"
            )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def release_sha256(folder: Path) -> str:
    """Hash the files of a WorldPlay release that are loaded."""
    release = find_release(folder)
    return file_sha256([*release.weights, release.vae_weights])


def packaged_worlds() -> list[str]:
    """List the names of the worlds that come with the package."""
    folder = resources.files("worldenv") / "worlds"
    return sorted(p.name for p in folder.iterdir() if (p / "world.toml").is_file()) if folder.is_dir() else []


def find_world(name: str | Path, *, revision: str | None = None) -> Path:
    """Resolve a packaged name, a directory or ``hub:org/name`` to a directory. Nothing else reaches a hub.

    Raises:
        ValueError: if it is none of these; the message lists the packaged worlds.
    """
    if str(name).startswith(HUB):
        return _download(str(name).removeprefix(HUB), revision)
    if revision is not None:
        raise ValueError(f"revision={revision!r} is for worlds on the hub, {HUB}org/name; got {str(name)!r}")
    if str(name) in packaged_worlds():
        return Path(str(resources.files("worldenv") / "worlds" / str(name)))
    path = check_path(name)
    if (path / "world.toml").is_file() or is_release(path):
        return path
    if path.is_dir():
        raise ValueError(f"{path}: no world.toml in this directory, so it is not a world")
    known = f"packaged worlds: {', '.join(packaged_worlds()) or 'none'}; worlds on the Hugging Face hub: {HUB}org/name"
    raise ValueError(f"unknown world {str(name)!r}: no such directory; {known}")


def _download(repository: str, revision: str | None) -> Path:
    """Fetch what a world is made of from the hub, unless it is there."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"unknown world {HUB + repository!r}; worlds on the Hugging Face hub are named {HUB}org/name")
    try:
        from huggingface_hub import snapshot_download

        files = ["*.toml", "*.safetensors"]
        return Path(snapshot_download(repository, revision=revision, allow_patterns=files))
    except Exception as error:
        if type(error).__name__ in OFFLINE:
            version = f" --revision {revision}" if revision else ""
            raise ValueError(
                f"world {HUB + repository!r}: no hub is reached from here, and there is no copy; where one is, run "
                f"`hf download {repository}{version} --local-dir DIR`, put DIR here (world.toml and *.safetensors) and "
                "name it: world='DIR'"
            ) from None
        said = str(error).partition("\n")[0]
        raise ValueError(f"unknown world {HUB + repository!r}: the hub said {said}") from None
