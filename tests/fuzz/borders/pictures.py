"""Pictures: files that episodes, rollouts and recordings begin with."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.case import Case
from tests.fuzz.damage import appended, cuts, flips, no_file_of_its_kind
from worldenv.base.media import read_picture
from worldenv.dynamics.spec import WorldSpec
from worldenv.play.walk import read_image

ACCEPTED = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
ENDS = dict.fromkeys(ACCEPTED, 16) | {"PNG": 32}
"""Bytes at the end of a file without which all of its pixels are there: of PNG its last chunk and two sums."""


def picture(folder: Path) -> st.SearchStrategy[Case]:
    """Pictures of 40 x 30 in each format, as bytes and as files."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    files = {kind: _written(Image.fromarray(pixels), kind) for kind in ACCEPTED}

    def case(what: str, accept: bool | None, data: bytes) -> Case:
        def act(scratch: Path) -> None:
            read_picture(data, what="start.png", most=8192)
            (scratch / "start.png").write_bytes(data)
            read_image(scratch / "start.png", WorldSpec())

        return Case(what, accept, act, names="start.png" if accept is False else "")

    menu = [case(f"{kind} as it is", True, data) for kind, data in files.items()]
    for mode in ("L", "RGBA", "P", "1", "LA"):
        menu.append(case(f"mode {mode}", True, _written(Image.fromarray(pixels).convert(mode), "PNG")))
    menu.append(case("16 bits", False, _written(Image.fromarray(pixels[..., 0].astype(np.uint16) * 256), "PNG")))
    menu.append(case("floats", False, _written(Image.fromarray(pixels[..., 0].astype(np.float32)), "TIFF")))
    menu.append(case("of one pixel", True, _written(Image.fromarray(pixels[:1, :1]), "PNG")))
    menu += [case(what, False, data) for what, data in _bombs(files["PNG"])]
    menu += [
        case("a playlist", False, b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n"),
        case("a drawing", False, b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'),
        case("a page", False, b"%PDF-1.4\n%%EOF"),
        case("PostScript", False, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    ]
    options = [st.sampled_from(menu), st.sampled_from(menu)]
    for kind, data in files.items():
        lossy = kind in ("TIFF", "WEBP")
        options += [
            cuts(data, least=ENDS[kind]).map(
                lambda made, kind=kind, lossy=lossy: case(f"{kind} {made[0]}", None if lossy else False, made[1])
            ),
            flips(data).map(lambda made, kind=kind: case(f"{kind} {made[0]}", None, made[1])),
            appended(data).map(lambda made, kind=kind: case(f"{kind} {made[0]}", None, made[1])),
        ]
    return st.one_of(*options, no_file_of_its_kind().map(lambda made: case(made[0], False, made[1])))


def _written(picture: Any, kind: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, *, rows: int = 1) -> bytes:
    """A PNG that is said to be so large, and holds some rows of black."""
    body = zlib.compress(bytes(1 + 3 * min(width, 10**6)) * rows)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _bombs(png: bytes) -> Iterator[tuple[str, bytes]]:
    for width, height in (
        (60_000, 1),
        (1, 60_000),
        (20_000, 20_000),
        (2**31 - 1, 2**31 - 1),
        (0, 9),
        (9, 0),
        (8193, 1),
    ):
        yield f"{width} x {height}", _png(width, height)
    yield "8000 x 8000, a row stored", _png(8000, 8000)
    text = zlib.compress(bytes(50_000_000))
    yield "with a text of 50 MB", png[:33] + _chunk(b"zTXt", b"a\0\0" + text) + b"x"
    gif = Image.new("L", (8000, 8000))
    yield "a film of large pictures", _frames(gif, 40)


def _frames(picture: Any, count: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, "GIF", save_all=True, append_images=[picture] * count)
    return file.getvalue()
