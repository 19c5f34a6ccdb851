"""Settings as flags: the fields of a dataclass that is imported only when a command that takes it is chosen."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import is_dataclass, make_dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import tyro

from ..base.config import MOST_WHOLE, from_dict, load_toml, to_dict
from ..base.objects import import_object

File = Annotated[Path | None, tyro.conf.arg(help="TOML file of defaults, which flags override.")]
"""The type of the parameter ``config`` beside settings, which come from there; the command need not look at it."""


def settings(name: str) -> Any:
    """Return the type of a parameter whose flags are the fields of the dataclass ``module:Class`` of this package.

    Their defaults are those of the file that ``--config`` on the command line names, or else of the dataclass.
    """
    return Annotated[Any, tyro.conf.arg(name="", constructor_factory=partial(_with_defaults, f"worldenv.{name}"))]


REGISTRY = tyro.constructors.ConstructorRegistry()
"""How tyro reads types that it does not know, or would make too many flags of."""


@REGISTRY.primitive_rule
def _tables(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
    """Read a table of dataclasses, or one that may be missing, which a file says better, from JSON."""
    kinds = get_args(info.type)
    table = get_origin(info.type) is dict and is_dataclass(kinds[1])
    if not table and not (len(kinds) == 2 and is_dataclass(kinds[0]) and kinds[1] is type(None)):
        return None

    def read(strings: list[str]) -> Any:
        return from_dict(make_dataclass("table", [("it", info.type)]), {"it": json.loads(strings[0])}).it

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, dict if table else (kinds[0], type(None))),
        str_from_instance=lambda value: [json.dumps(_written(value))],
    )


@REGISTRY.primitive_rule
def _whole(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[int] | None:
    """Read a whole number, of 63 bits at most: nothing is counted, drawn or made so often as larger ones say."""
    if info.type is not int:
        return None

    def read(strings: list[str]) -> int:
        number = int(strings[0])
        if abs(number) > MOST_WHOLE:
            raise ValueError(f"{strings[0][:40]} has more than 63 bits")
        return number

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )


def _written(value: Any) -> Any:
    """Return a table of dataclasses, one of them, or None, as JSON holds it."""
    if isinstance(value, dict):
        return {name: to_dict(part) for name, part in value.items()}
    return None if value is None else to_dict(value)


def _with_defaults(name: str) -> Any:
    parser = ArgumentParser(prog="worldenv", add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    path, kind = parser.parse_known_args()[0].config, import_object(name, what="settings")
    return Annotated[kind, tyro.conf.arg(default=load_toml(kind, path) if path else kind())]
