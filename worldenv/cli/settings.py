"""Settings as flags: the fields of a dataclass that is imported only when a command that takes it is chosen."""

from __future__ import annotations

from argparse import ArgumentParser
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..base.config import load_toml
from ..base.objects import import_object

File = Annotated[Path | None, tyro.conf.arg(help="TOML file of defaults, which flags override.")]
"""The type of the parameter ``config`` beside settings, which come from there; the command need not look at it."""


def settings(name: str) -> Any:
    """Return the type of a parameter whose flags are the fields of the dataclass ``module:Class`` of this package.

    Their defaults are those of the file that ``--config`` on the command line names, or else of the dataclass.
    """
    return Annotated[Any, tyro.conf.arg(name="", constructor_factory=partial(_with_defaults, f"worldenv.{name}"))]


def _with_defaults(name: str) -> Any:
    parser = ArgumentParser(prog="worldenv", add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    path, kind = parser.parse_known_args()[0].config, import_object(name, what="settings")
    return Annotated[kind, tyro.conf.arg(default=load_toml(kind, path) if path else kind())]
