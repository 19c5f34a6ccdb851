"""Worlds on the Hugging Face hub: fetched by ``hub:org/name``, pushed with a card. Nothing else reaches a hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..base.log import console
from ..base.said import check_path
from .card import read_reports, write_card, write_env
from .files import HUB, PARTS
from .world import World

NAME = re.compile(r"[\w.-]+/[\w.-]+")


def push_world(folder: Path, name: str, *, reports: Sequence[Path] = (), private: bool = False) -> str:
    """Put a world on the hub as ``org/name``: its own files, a card, and ``env.py``; return where it is.

    Only what a world is made of goes along: ``world.toml``, safetensors, the card and its reports. The hub's own
    credentials (``hf auth login``) are used.

    Raises:
        ValueError: if the folder holds no whole world, a report is of another one, or the hub refuses.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name on the hub; pass org/name")
    if not (check_path(folder) / "world.toml").is_file():
        raise ValueError(f"{folder}: no world.toml in this directory, so it is not a world that can be pushed")
    world = World.load(folder)
    measured = read_reports(reports, world)
    written = {"README.md": write_card(world, name, measured), "env.py": write_env(world, name)}
    files: dict[str, str | bytes] = {file: text.encode() for file, text in written.items() if text is not None}
    own = ["world.toml", *(f"{part}.safetensors" for part in PARTS)]
    files |= {file: str(folder / file) for file in own if (folder / file).is_file()}
    suites = [f"{report['suite']}" for report in measured]
    files |= {f"reports/{i:02d}-{suite}.json": str(reports[i]) for i, suite in enumerate(suites)}
    try:
        from huggingface_hub import CommitOperationAdd, HfApi

        hub = HfApi()
        hub.create_repo(name, private=private, exist_ok=True)
        additions = [CommitOperationAdd(file, content) for file, content in files.items()]
        done = hub.create_commit(name, additions, commit_message=f"World {world.config.name} {world.sha256[:12]}")
    except Exception as error:
        raise ValueError(f"{name}: the hub said {str(error).partition(chr(10))[0]}") from None
    console.print(f"pushed {len(files)} files; {HUB}{name} is sha256 {world.sha256}")
    return str(done.commit_url)
