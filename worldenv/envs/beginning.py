"""What is asked of episodes that begin, and what of it cannot be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..bodies.base import Body
from ..bodies.registry import robot_of
from ..bodies.robot import RobotBody
from ..bodies.table import check_places
from ..dynamics.protocol import Aimed, Dynamics, Resumable, require
from ..dynamics.signals import Signals
from .episodes import Episodes


@dataclass(frozen=True)
class Beginning:
    """What is asked of B episodes that begin; in a reset of some rows the others count for nothing."""

    seeds: Sequence[int]
    starts: Sequence[int | None]
    images: Tensor | None = None  # (B, H, W, 3) uint8
    prompts: Sequence[str | None] = ()  # none, or one per row
    clip: tuple[Tensor, Signals] | None = None  # (B, T, H, W, 3) uint8 and signals, each (B, F, ...)
    goals: Tensor | None = None  # (B, D)

    @classmethod
    def drawn(cls, seeds: Sequence[int]) -> Beginning:
        """Ask for what the seeds draw."""
        return cls(seeds, [None] * len(seeds))

    def at(self, rows: slice) -> Beginning:
        """Return what is asked of some rows."""
        images, goals = (None if part is None else part[rows] for part in (self.images, self.goals))
        clip = self.clip and (self.clip[0][rows], {name: part[rows] for name, part in self.clip[1].items()})
        return Beginning(self.seeds[rows], self.starts[rows], images, self.prompts[rows], clip, goals)


def check_beginning(begin: Beginning, dynamics: Dynamics, body: Body, episodes: Episodes) -> None:
    """Refuse start views and goals that cannot be, and pictures where none can be used.

    Raises:
        ValueError: naming the value and what is possible.
    """
    if begin.images is not None:
        require(dynamics, Resumable, "options['image']")
        if "joints" in dynamics.spec.takes:
            raise ValueError(
                "options['image'] does not say where the joints are; pass options['clip'], one frame of shape "
                "(1, H, W, 3), with options['joints']"
            )
    if begin.clip is not None:
        _check_clip(begin.clip, dynamics, body)
    if begin.clip is not None and episodes.has_targets:
        _check_target(begin)
    elif begin.goals is not None:
        if not isinstance(dynamics, Aimed):
            raise ValueError("options['goal']: goals come with the start views of this environment; leave it out")
        dynamics.check_goals(begin.goals)
    count = len(episodes.starts) if episodes.starts is not None else 0
    for start in begin.starts:
        if start is not None and not 0 <= start < count:
            numbers = f"{count} start views, 0..{count - 1}" if count else "no start views"
            raise ValueError(f"start={start}, but the world has {numbers}")


def _check_clip(clip: tuple[Tensor, Signals], dynamics: Dynamics, body: Body) -> None:
    """Refuse clips that nothing can go on from, and joints outside their ranges."""
    require(dynamics, Resumable, "options['clip']").check_clip(*clip)
    robot = body if isinstance(body, RobotBody) else robot_of(dynamics.spec)
    joints = clip[1].get("joints")
    if "joints" in dynamics.spec.takes and joints is None:
        raise ValueError("options['clip'] needs options['joints']: where they were told to be, (T, J)")
    if robot is not None and joints is not None:
        robot.robot.check(joints, what="options['joints']")


def _check_target(begin: Beginning) -> None:
    """Refuse clips of a table without a goal that can be; start views have one of their own."""
    if begin.goals is not None:
        check_places(begin.goals, len(begin.starts))
    elif None in begin.starts:
        raise ValueError(
            "options['clip'] needs options['goal'], x and y in metres of where the object is to go, or "
            "options['start'], whose goal it then has"
        )
