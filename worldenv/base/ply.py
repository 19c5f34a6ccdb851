"""Tables of points as PLY files, binary and little-endian."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .files import replacing

TYPES = {"f4": "float", "f8": "double", "u1": "uchar", "i4": "int"}
"""Names that PLY has for numpy's types."""


def save_ply(
    path: Path,
    vertices: npt.NDArray[Any],  # (P,) with named fields
    *,
    comments: tuple[str, ...] = (),
) -> None:
    """Write a table of vertices; the file appears whole or not at all.

    Raises:
        OSError: if it cannot be written.
    """
    assert vertices.dtype.names is not None
    packed = np.dtype([(name, vertices.dtype[name].newbyteorder("<")) for name in vertices.dtype.names])
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {line}" for line in comments)]
    lines += [f"element vertex {len(vertices)}"]
    lines += [f"property {TYPES[packed[name].str[1:]]} {name}" for name in vertices.dtype.names]
    head = "\n".join([*lines, "end_header", ""]).encode("ascii")
    with replacing(path) as partial:
        partial.write_bytes(head + vertices.astype(packed).tobytes())
