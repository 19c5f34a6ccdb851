"""Bodies by name."""

from __future__ import annotations

from ..base.objects import call_own, find_object
from ..dynamics.spec import WorldSpec
from .base import Body
from .camera import Camera
from .hand import Hand
from .part import part_of
from .robot import RobotBody
from .vector import Vector

BODIES: dict[str, type[Body]] = {"camera": Camera, "hand": Hand, "vector": Vector}
"""What ``body=`` may name."""
FIXED: tuple[type[Body], ...] = (Camera, Hand)
"""Those whose signals are always the same, so that they can be told from what a world takes."""


def bodies_of(spec: WorldSpec) -> list[Body]:
    """Return the bodies that command all that a world takes: one, or several a part each; none of other worlds."""
    found = [one for one in (kind() for kind in FIXED) if one.takes.items() <= spec.takes.items()]
    return found if spec.takes.keys() == {name for one in found for name in one.takes} else []


def robot_of(spec: WorldSpec) -> RobotBody | None:
    """Return the robot that is among what commands a world, if there is one."""
    return next((one for one in bodies_of(spec) if isinstance(one, RobotBody)), None)


def make_body(body: str | Body, spec: WorldSpec, *, mode: str = "") -> Body:
    """Return the body that ``auto``, a name, ``package.module:Class`` or an object stands for.

    Where several bodies command a part each, ``auto`` is the first that has action mode ``mode``, else the first.

    Raises:
        ValueError: on an unknown body, or one that does not command what the world takes.
    """
    parts = bodies_of(spec)
    if isinstance(body, str) and body == "auto":
        fitting = sorted(parts, key=lambda one: mode not in one.modes)
        if spec.environment is not None:
            fitting += [one for one in [Vector.for_spec(spec)] if dict(one.takes) == spec.takes]
        if not fitting:
            raise ValueError(
                f"this world takes {', '.join(spec.takes)}, which no known body commands (there are "
                f"{', '.join(BODIES)}); pass body='package.module:Class'"
            )
        return part_of(fitting[0], spec)
    found = find_object(body, BODIES, what="body")
    if isinstance(found, type):
        found = found.for_spec(spec) if issubclass(found, Vector) else call_own(found, what="body")
    made = found
    if not isinstance(made, Body):
        raise ValueError(f"body {type(made).__name__} has not what a body has: takes, modes, space, command, keyboard")
    if any(dict(made.takes) == dict(part.takes) for part in parts):
        return part_of(made, spec)
    lacking = [name for name, signal in spec.takes.items() if made.takes.get(name) != signal]
    if lacking:
        raise ValueError(
            f"body {type(made).__name__} commands {', '.join(made.takes)}, and not {', '.join(lacking)} as this world "
            "takes it; pass another body, or 'auto'"
        )
    return made
