"""Seeded generation of mazes in their styles."""

from __future__ import annotations

from .builder import Builder
from .maze import Maze, MazeConfig, Room
from .paint import LANDMARK_PAINTS, PLAIN_THEMES
from .place import place_objects


def generate_maze(seed: int, config: MazeConfig | None = None) -> Maze:
    """Build the map that belongs to this seed: equal seeds and configs give equal maps.

    Goal objects come from a generator of their own, so that a maze is the same with and without them.
    """
    config = config or MazeConfig()
    builder = BUILDERS[config.style](seed, config)
    builder.place_rooms()
    builder.join_rooms()
    for room in builder.rooms:
        builder.furnish(room)
    return place_objects(builder.finish(), config)


class PlainBuilder(Builder):
    """One theme and one light level a maze; a landmark in some of the rooms, in colours that no goal object has."""

    def _themes(self) -> list[tuple[str, str, str]]:
        """Choose the maze's one look, its light level and the order of landmarks' colours."""
        self.level = int(self.rng.integers(self.config.light_min, 256))
        self.accents = [str(name) for name in self.rng.permutation(LANDMARK_PAINTS)]
        return [PLAIN_THEMES[int(self.rng.integers(len(PLAIN_THEMES)))]]

    def _light(self) -> int:
        return self.level

    def furnish(self, room: Room) -> None:
        """Give two rooms of three a coloured stretch of wall or a pillar."""
        kind = self.rng.random()
        if kind < 0.4:
            self._panel(room)
        elif kind < 0.65:
            self._pillar(room)

    def _accent(self, room: Room) -> str:
        """Take the colours in turn: neighbours in the list of landmarks differ."""
        return self.accents[len(self.landmarks) % len(self.accents)]

    def _pillar(self, room: Room) -> None:
        """Stand a pillar of two by two metres in the room, unless it would cut the way."""
        row = room.row + int(self.rng.integers(1, room.rows - 2))
        column = room.column + int(self.rng.integers(1, room.columns - 2))
        tiles = (slice(row, row + 2), slice(column, column + 2))
        if self.solid[tiles].any() or not self._passable_without(tiles):
            return
        texture = self._accent(room)
        self.side[tiles] = self._id(texture)
        self.solid[tiles] = True
        self._mark("pillar", texture, row, column)


BUILDERS: dict[str, type[Builder]] = {"classic": Builder, "plain": PlainBuilder}
"""Builders by style."""
