"""One body of a world that several command: what it does not command stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from gymnasium import spaces

from ..dynamics.signals import Signal, Signals, Track
from ..dynamics.spec import WorldSpec
from .base import Body, Named


class Part:
    """Acts as another body does, in a world that takes more than that commands; see ``Body``."""

    def __init__(self, body: Body, takes: Mapping[str, Signal]) -> None:
        self.body, self.takes, self.modes = body, takes, body.modes

    def space(self, mode: str, num_latents: int) -> spaces.Space[Any]:
        """Return the body's action space."""
        return self.body.space(mode, num_latents)

    def keyboard(self, mode: str) -> Mapping[tuple[int, ...], Any]:
        """Return the body's keys."""
        return self.body.keyboard(mode)

    def command(self, action: Any, mode: str, present: Signals, spec: WorldSpec) -> Track:
        """Return the body's commands, and for the rest what is commanded now, or nothing."""
        return spec.at_rest(self.body.command(action, mode, present, spec), present)


class NamedPart(Part):
    """The same of a body whose numbers have names."""

    body: Named  # type: ignore[assignment]  # and a body

    def names(self, mode: str) -> tuple[str, ...]:
        """Return what errors call the numbers of an action."""
        return self.body.names(mode)


def part_of(body: Body, spec: WorldSpec) -> Body:
    """Return a body as a part of a world: itself, if it commands all that the world takes."""
    if spec.takes.keys() <= body.takes.keys():
        return body
    made: Any = (NamedPart if isinstance(body, Named) else Part)(body, spec.takes)
    return cast("Body", made)
