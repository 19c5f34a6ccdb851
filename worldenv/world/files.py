"""Where worlds lie, and the hashes of their files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from ..base.files import file_sha256
from ..models.heads import HEADS
from ..models.pretrained.release import is_release

HUB = "hub:"
"""What names of worlds on the Hugging Face hub begin with."""

PARTS = ("vae", "dit", *(f"heads.{name}" for name in HEADS), "starts", "clips", "moments")
"""Names of the files that a world may be made of."""

OFFLINE = ("LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectError", "ConnectTimeout")
"""What the hub's library raises where there is no network."""

STEPPED = tuple(name for name in PARTS if name != "heads.display")
"""Those that decide what a world does; what is measured of one holds for it with another display decoder, or none."""


def world_sha256(folder: Path, parts: Sequence[str] = PARTS) -> str:
    """Hash the files that a world is made of, or some of them; a checkpoint that lies beside them is none of it."""
    files = [folder / f"{name}.safetensors" for name in parts]
    return file_sha256(file for file in files if file.is_file())


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
    path = Path(name)
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
