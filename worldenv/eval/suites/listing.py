"""Writes the list of cases of revisit-v2: ``python -m worldenv.eval.suites.listing > revisit-v2.toml``."""

from __future__ import annotations

import itertools

from ...dynamics.spec import WorldSpec
from .cases import start_digests

MAZES = ("classic-objects", "plain-objects")
"""Mazes whose cases it lists."""
REVISIT = (
    "out_and_back",
    "another_way",
    "circle",
    "another_way",
    "out_and_back",
    "another_way",
    "turn",
    "out_and_back",
)
"""Kinds of paths of suite ``revisit``, again and again."""
SUITES = {
    "revisit": (970_000, 64, 16, REVISIT),
    "short_term": (980_000, 64, 4, ("explore",)),
    "drift": (990_000, 16, 64, ("explore",)),
}
"""First map seed, number of cases, chunks and kinds."""
_HEAD = """\
# Cases of revisit-v2: map seed, kind of path and digest (start view and path) of each, for every kind of mazes with
# goal objects. Never edited: other cases are another version. Written by python -m worldenv.eval.suites.listing.
"""


def write_list() -> str:
    """Return the list as TOML."""
    parts = [_HEAD]
    for suite, (first, count, chunks, cycle) in SUITES.items():
        seeds, kinds = list(range(first, first + count)), list(itertools.islice(itertools.cycle(cycle), count))
        parts.append(f"[{suite}]\nchunks = {chunks}\nseeds = {_rows(seeds, 12)}\nkinds = {_rows(kinds, 6)}\n")
        parts.append(f"[{suite}.digests]")
        for maze in MAZES:
            found = start_digests(WorldSpec(maze=maze), seeds, kinds, chunks)
            parts.append(f"{maze} = {_rows(found, 8)}")
        parts.append("")
    return "\n".join(parts)


def _rows(values: list[int] | list[str], width: int) -> str:
    words = [f'"{value}"' if isinstance(value, str) else str(value) for value in values]
    lines = [f"    {', '.join(words[i : i + width])},\n" for i in range(0, len(words), width)]
    return f"[\n{''.join(lines)}]"


if __name__ == "__main__":
    print(write_list(), end="")
