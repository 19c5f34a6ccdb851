"""Configuration: frozen dataclasses, TOML files over their defaults, flags over both.

Unknown keys and wrong types are errors that list what is known, so that a typing slip never trains silently.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, TypeVar

from .documents import read_text
from .said import check_path

T = TypeVar("T")
MOST_SIZE = 2**16
"""Of a side of a picture, or a width of a network; checked before anything so large is made."""
MOST_LAYERS = 2**10
"""Of a network."""
MOST_WHOLE = 2**63 - 1
"""Of any whole number."""
Signed = Annotated[T, "signed"]
"""A number, or several, that may lie below 0; written out where this module is not seen."""
OURS = "worldenv."
"""What names of modules begin with whose settings are known; somebody else's task may have any."""
MOST_BYTES = 2**24
"""Of a file of settings."""


def from_dict(cls: type[T], values: Mapping[str, Any], *, where: str = "config") -> T:
    """Build the dataclass ``cls`` from nested dictionaries.

    Numbers of fields that are not ``Signed`` are 0 or more.

    Raises:
        ValueError: on what is no table, an unknown key or a value of the wrong type; the message names the key and what
            is known.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where}: expected a table, got {str(values)[:80]!r}")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; known keys are {', '.join(sorted(fields))}")
    required = (k for k, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING)
    missing = sorted(set(required) - set(values))
    if missing:
        raise ValueError(f"{where}: key {missing[0]!r} is missing; known keys are {', '.join(sorted(fields))}")
    hints = typing.get_type_hints(cls, include_extras=True)
    arguments = {k: _convert(hints[k], v, where=f"{where}.{k}") for k, v in values.items()}
    try:
        made = cls(**arguments)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if cls.__module__.startswith(OURS):
        _refuse_negative({k: v for k, v in arguments.items() if "signed" not in _marks(hints[k])}, where)
    return made


def _marks(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__metadata__", ())


def _refuse_negative(arguments: Mapping[str, Any], where: str) -> None:
    for name, value in arguments.items():
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and number < 0:
                raise ValueError(f"{where}.{name}: expected 0 or more, got {value!r}")


def check_numbers(
    config: Any,
    *,
    counts: Sequence[str] = (),
    sizes: Sequence[str] = (),
    layers: Sequence[str] = (),
    positive: Sequence[str] = (),
    natural: Sequence[str] = (),
) -> None:
    """Refuse fields, or members of fields, that are not whole numbers from 1 on, finite ones above 0, or from 0 on.

    ``sizes`` and ``layers`` are counts with a limit, as much is made of them.

    Raises:
        ValueError: naming the field and its value.
    """
    for names, least, most, says in (
        (counts, 1, MOST_WHOLE, "1 or more"),
        (sizes, 1, MOST_SIZE, f"from 1 to {MOST_SIZE}"),
        (layers, 0, MOST_LAYERS, f"from 0 to {MOST_LAYERS}"),
        (positive, 5e-324, sys.float_info.max, "positive"),
        (natural, 0, sys.float_info.max, "0 or more"),
    ):
        for name in names:
            value = getattr(config, name)
            for number in value if isinstance(value, tuple) else (value,):
                limit = min(most, MOST_WHOLE) if isinstance(number, int) else most
                if not least <= number <= limit:
                    raise ValueError(f"{name}={value!r} must be {says}{_below(number, limit)}")


def check_counts(**counts: int | Sequence[int]) -> None:
    """Refuse arguments that are not whole numbers from 1 on, of 63 bits, or lists of some.

    Raises:
        ValueError: naming the argument and its value.
    """
    for name, value in counts.items():
        numbers = [value] if isinstance(value, int) else value
        if not 1 <= min(numbers, default=0) <= max(numbers, default=0) <= MOST_WHOLE:
            raise ValueError(f"{name}={value} must be 1 or more{_below(max(numbers, default=0), MOST_WHOLE)}")


def check_shares(config: Any, *names: str) -> None:
    """Refuse fields that are not from 0 to 1.

    Raises:
        ValueError: naming the field and its value.
    """
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"{name}={getattr(config, name)} must lie between 0 and 1")


def check_most(config: Any, **most: float) -> None:
    """Refuse fields that are larger than these.

    Raises:
        ValueError: naming the field and its value.
    """
    for name, limit in most.items():
        if getattr(config, name) > limit:
            raise ValueError(f"{name}={getattr(config, name)} must be at most {limit:.10g}")


def _below(number: float, limit: float) -> str:
    """Return what an error adds of a number that is too large."""
    return f", and at most {limit}" if number > limit else ""


def _convert(hint: Any, value: Any, *, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _convert(arguments[0], value, where=where)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, where=where)
    if origin in (typing.Union, types.UnionType):
        options = [a for a in arguments if a is not type(None)]
        if value is None and len(options) < len(arguments):
            return None
        return _convert(options[0], value, where=where) if len(options) == 1 else _any_of(options, value, where=where)
    if origin is typing.Literal:
        if not any(value == one and type(value) is type(one) for one in arguments):
            raise ValueError(f"{where}: got {value!r}; choose one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where}: expected a list, got {value!r}")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_convert(arguments[0], v, where=where) for v in value)
        if len(value) != len(arguments):
            raise ValueError(f"{where}: expected {len(arguments)} values, got {value!r}")
        return tuple(_convert(a, v, where=where) for a, v in zip(arguments, value, strict=True))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ValueError(f"{where}: expected a table, got {value!r}")
        return {key: _convert(arguments[1], v, where=f"{where}.{key}") for key, v in value.items()}
    if hint is Any:
        return value
    if isinstance(value, int) and not -MOST_WHOLE - 1 <= value <= MOST_WHOLE:
        raise ValueError(f"{where}: a whole number of {value.bit_length()} bits, where 63 are read")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{where}: expected {hint.__name__}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: expected a finite number, got {value!r}")
    return value


def _any_of(options: Sequence[Any], value: Any, *, where: str) -> Any:
    for option in options:
        try:
            return _convert(option, value, where=where)
        except ValueError:
            continue
    raise ValueError(f"{where}: expected {' or '.join(option.__name__ for option in options)}, got {value!r}")


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a dataclass into plain nested dictionaries that JSON and TOML can hold; None entries are left out."""
    result = {}
    for f in dataclasses.fields(config):
        value = _plain(getattr(config, f.name))
        if value is not None:
            result[f.name] = value
    return result


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def load_toml(cls: type[T], path: Path | str) -> T:
    """Read a TOML file, over the one it ``extends``, into the dataclass ``cls``.

    Raises:
        ValueError: if a file is missing, is not TOML or does not fit ``cls``.
    """
    return from_dict(cls, read_layers(path), where=str(path))


def read_layers(path: Path | str) -> dict[str, Any]:
    """Read a TOML file over the one that its key ``extends`` names, relative to it, if it has one.

    Raises:
        ValueError: if a file is missing or is not TOML, or they extend each other in a circle.
    """
    layers, paths = [read_toml(path)], [Path(path).resolve()]
    while (parent := layers[-1].pop("extends", None)) is not None:
        below = _beside(paths[-1], parent)
        if below in paths:
            raise ValueError(f"{paths[-1]}: extends {below}, which extends it")
        paths.append(below)
        layers.append(read_toml(below))
    return reduce(merge, reversed(layers))


def _beside(path: Path, name: Any) -> Path:
    """Return the file that a file extends."""
    try:
        below = (path.parent / name).resolve()
        if below.is_file():
            return below
    except (OSError, TypeError, ValueError):
        pass
    raise ValueError(f"{path}: extends {str(name)[:200]}, and there is no such file")


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay nested settings over others."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merge(result[key], value) if both else value
    return result


def read_toml(path: Path | str) -> dict[str, Any]:
    """Read a TOML file into dictionaries; a missing or broken file is a ValueError that names it."""
    if not check_path(path).exists():
        raise ValueError(f"{path}: no such file; give the path of a TOML file")
    text = read_text(Path(path), most=MOST_BYTES)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid TOML ({error})") from None


def dump_toml(values: Mapping[str, Any]) -> str:
    """Write nested dictionaries of plain values as TOML."""
    lines: list[str] = []
    _dump_table(values, [], lines)
    return "\n".join(lines).strip() + "\n"


def _dump_table(table: Mapping[str, Any], path: list[str], lines: list[str]) -> None:
    scalars = {k: v for k, v in table.items() if not isinstance(v, Mapping)}
    if path and (scalars or not table):
        lines += ["", f"[{'.'.join(map(_key, path))}]"]
    for key, value in scalars.items():
        lines.append(f"{_key(key)} = {_dump_value(value)}")
    for key, value in table.items():
        if isinstance(value, Mapping):
            _dump_table(value, [*path, key], lines)


def _key(name: str) -> str:
    """Return a name as TOML has it; dots remain what makes tables of their own."""
    return name if re.fullmatch(r"[A-Za-z0-9_.-]+", name) else _dump_value(name)


def _dump_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_dump_value(v) for v in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_dump_value(v)}" for k, v in value.items()) + "}"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON strings are TOML strings


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Name the first setting of a run that is another now; settings that the run did not know yet do not count."""
    for key in [*(k for k in now if k in before), *(k for k in before if k not in now)]:
        value, present = before[key], now.get(key)
        if isinstance(value, Mapping) and isinstance(present, Mapping):
            inner = difference(value, present)
            if inner is not None:
                return f"{key}.{inner}"
        elif present != value:
            return key
    return None


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are others now, nested as they are; those that are gone are None."""
    told: dict[str, Any] = {key: None for key in before if key not in now}
    for key, value in now.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            inner = changes(old, value)
            told |= {key: inner} if inner else {}
        elif value != old:
            told[key] = value
    return told
