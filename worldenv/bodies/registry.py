"""Bodies by name."""

from __future__ import annotations

from ..base.objects import call_own, find_object
from ..dynamics.spec import WorldSpec
from .base import Body
from .camera import Camera
from .hand import Hand
from .vector import Vector

BODIES: dict[str, type[Body]] = {"camera": Camera, "hand": Hand, "vector": Vector}
"""What ``body=`` may name; a world has the first of them that commands what it takes."""


def make_body(body: str | Body, spec: WorldSpec) -> Body:
    """Return the body that ``auto``, a name, ``package.module:Class`` or an object stands for.

    Raises:
        ValueError: on an unknown body, or one that does not command what the world takes.
    """
    if isinstance(body, str) and body == "auto":
        fitting: list[Body] = [kind() for kind in (Camera, Hand) if dict(kind.takes) == spec.takes]
        if spec.environment is not None:
            fitting += [one for one in [Vector.for_spec(spec)] if dict(one.takes) == spec.takes]
        if not fitting:
            raise ValueError(
                f"this world takes {', '.join(spec.takes)}, which no known body commands (there are "
                f"{', '.join(BODIES)}); pass body='package.module:Class'"
            )
        return fitting[0]
    found = find_object(body, BODIES, what="body")
    if isinstance(found, type):
        found = found.for_spec(spec) if issubclass(found, Vector) else call_own(found, what="body")
    made = found
    if not isinstance(made, Body):
        raise ValueError(f"body {type(made).__name__} has not what a body has: takes, modes, space, command, keyboard")
    lacking = [name for name, signal in spec.takes.items() if made.takes.get(name) != signal]
    if lacking:
        raise ValueError(
            f"body {type(made).__name__} commands {', '.join(made.takes)}, and not {', '.join(lacking)} as this world "
            "takes it; pass another body, or 'auto'"
        )
    return made
