"""Configurations as defaults of flags."""

from pathlib import Path

import tyro

Flat = tyro.conf.arg(name="")  # a nested configuration whose fields become flags without a prefix


def split_config(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """Take ``--config F`` out of the arguments: the file holds the defaults that flags override."""
    rest: list[str] = []
    path = None
    values = iter(arguments)
    for argument in values:
        if argument == "--config":
            path = Path(next(values, ""))
        elif argument.startswith("--config="):
            path = Path(argument.removeprefix("--config="))
        else:
            rest.append(argument)
    return path, rest
