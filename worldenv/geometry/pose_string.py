"""WorldPlay's pose strings: ``w-3, right-1`` holds a key for so many latents; ``w+right-2`` holds two."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from .action import ROTATION_AXES, TRANSLATION_AXES

MOVES = {"w": (1, 0), "s": (-1, 0), "d": (0, 1), "a": (0, -1)}
TURNS = {"right": (1, 0), "left": (-1, 0), "up": (0, 1), "down": (0, -1)}
MOST = 100_000
"""Latents of a path: hours."""
OPPOSITES = (("w", "s"), ("a", "d"), ("left", "right"), ("up", "down"))


def parse_pose_string(text: str) -> Tensor:
    """Parse a pose string to key codes, (F, 2) int64, one row per latent.

    Raises:
        ValueError: on an unknown key, keys that cancel, or a missing or non-positive number; the message names the
        segment.
    """
    rows: list[tuple[int, int]] = []
    for segment in (s.strip() for s in text.split(",") if s.strip()):
        names, _, number = segment.rpartition("-")
        if not re.fullmatch(r"0*[1-9][0-9]{0,6}(\.0*)?", number, re.ASCII) or len(rows) + int(float(number)) > MOST:
            raise ValueError(
                f"pose segment {segment[:80]!r}: expected keys-N with whole N >= 1 latents, such as w-3 or w+right-2, "
                f"and {MOST} in all at most"
            )
        rows += [_codes(names, segment)] * int(float(number))
    if not rows:
        raise ValueError('the pose string is empty; try "w-8, right-8"')
    return torch.tensor(rows)


def _codes(names: str, segment: str) -> tuple[int, int]:
    move, turn = (0, 0), (0, 0)
    held = names.split("+")
    for a, b in OPPOSITES:
        if a in held and b in held:
            raise ValueError(f"pose segment {segment!r}: {a} and {b} cancel each other")
    for name in held:
        if name in MOVES:
            move = (move[0] + MOVES[name][0], move[1] + MOVES[name][1])
        elif name in TURNS:
            turn = (turn[0] + TURNS[name][0], turn[1] + TURNS[name][1])
        else:
            raise ValueError(f"pose segment {segment!r}: unknown key {name!r}; keys are {' '.join([*MOVES, *TURNS])}")
    if move not in TRANSLATION_AXES or turn not in ROTATION_AXES:
        raise ValueError(f"pose segment {segment!r}: the same key twice")
    return TRANSLATION_AXES.index(move), ROTATION_AXES.index(turn)
