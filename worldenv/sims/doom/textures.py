"""Curated texture names of Freedoom (freedoom2.wad), by colour.

Chosen by decoding every texture of the WAD: bright enough, little detail finer than 12 texels (what a 64x48
picture cannot show), no animation, switch, sky, liquid or gore. ZDoom accepts flats on walls and wall
textures on floors.
"""

from __future__ import annotations

from .paint import PAINTS

WALLS: dict[str, tuple[str, ...]] = {
    "red": ("REDWALL", "A-REDROK", "GRAYRED"),
    "orange": ("DOGLDIR", "LONGWALL", "BROWN1", "STONE6", "A-BROWN2"),
    "brown": ("CAVERN6", "PANCASE2", "PANEL3", "WOODVERT", "TANROCK7", "A-MUD"),
    "tan": ("AQCONC01", "TANROCK2", "STUCCO1", "BSTONE1", "CARLRT2"),
    "green": ("A-CAMO1", "DOKGRIR", "ZIMMER2", "A-MOSBRI", "ESPIG1"),
    "blue": ("COMPBLUE", "FLAT14"),
    "grey": ("AQCONC07", "GRAYBIG", "STONE", "AQTRIM06"),
    "white": ("AQCONC17", "GRAY1"),
    "steel": ("SHAWN2", "SILVER1", "METAL1"),
}
"""Wall textures of rooms, corridors, pillars and panels."""

FLATS: dict[str, tuple[str, ...]] = {
    "red": ("FLAT5_3",),
    "orange": ("FLAT5", "FLOOR0_2"),
    "brown": ("RROCK09", "FLAT5_5", "FLOOR4_6", "FLOOR7_1", "CEIL3_1"),
    "tan": ("CRATOP2", "CEIL3_2", "FLOOR5_2", "AQF008"),
    "green": ("GRASS1", "FLOOR7_2", "AQF022"),
    "grey": ("FLAT19", "FLAT18", "FLOOR0_6", "AQF025"),
    "white": ("AQF067", "FLAT23"),
    "pink": ("FLOOR0_1", "FLOOR3_3"),
}
"""Floors, rugs and tops of blocks."""

CEILINGS: dict[str, tuple[str, ...]] = {
    "brown": ("FLAT5_5", "FLOOR7_1", "CEIL3_1"),
    "tan": ("CRATOP2", "CEIL3_2", "AQF008"),
    "grey": ("FLAT19", "FLAT18", "FLOOR0_6"),
    "white": ("AQF067", "FLAT23", "COMP01"),
    "pink": ("FLOOR0_1",),
}
"""Ceilings, of calmer colours than floors."""

CRATES: dict[str, tuple[str, ...]] = {
    "brown": ("CRLWDL6B", "CRWDL64A"),
    "tan": ("CRATE1",),
    "grey": ("CR128LG",),
}
"""Sides of low blocks, besides the wall textures."""


def colour_of(texture: str) -> str:
    """Return the colour word of a curated texture.

    Raises:
        ValueError: if the texture is neither in the lists of this module nor a paint.
    """
    if texture in PAINTS:
        return PAINTS[texture].colour
    for table in (WALLS, FLATS, CEILINGS, CRATES):
        for colour, names in table.items():
            if texture in names:
                return colour
    raise ValueError(f"texture {texture!r} is not curated; use a name from WALLS, FLATS, CEILINGS or CRATES")
