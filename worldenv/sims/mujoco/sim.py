"""A batch of tables behind the ``Dynamics`` protocol: a hand, an object, and where it is to go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from ...base.checkpoint import check_tensors
from ...base.rng import draw_start as draw_index
from ...bodies.hand import JOINTS
from ...bodies.hand_model import HAND, HEAD_FOV_DEG, NUM_JOINTS
from ...bodies.table import check_places
from ...dynamics.protocol import Chunk, check_fork, check_rows, check_starts
from ...dynamics.signals import DEPTH, PICTURE, Signal, Signals
from ...dynamics.spec import WorldSpec
from ..reopened import Reopened
from .row import MOST, PARTS, HandRow, Placed, Shown, draw_start
from .scene import COLOURS, FPS, SHAPES, load_mujoco

GIVES: dict[str, Signal] = {
    "joints": JOINTS,
    "proprio": Signal(shape=(2 * NUM_JOINTS,), low=-MOST, high=MOST),
    "keypoints": Signal(shape=(len(HAND.keypoints), 3)),
    "object": Signal(shape=(13,), low=-MOST, high=MOST),
    "contact": Signal(shape=(len(PARTS),), low=0.0, high=1.0),
    "target": Signal(shape=(3,)),
    "depth": DEPTH,
}
"""``joints`` is where they were told to be, from which actions go on, in worlds as here; ``proprio`` where they are and
how fast; ``object`` position, quaternion (wxyz), velocity and turning; ``contact`` which fingers and palm touch it;
``target`` where tray or mark are. Metres and radians, in the table's frame, z up."""
HAND_SPEC = WorldSpec(
    width=64, height=64, fov_deg=HEAD_FOV_DEG, fps=FPS, chunk_latents=1, takes={"joints": JOINTS}, gives=GIVES
)
"""What the table looks like from the head's camera; a step is a latent of four frames, a sixth of a second."""


class HandDynamics(Reopened):
    """B independent tables; a row does not depend on the others.

    What lies where follows from an episode's seed, or, as in worlds, from the start that the seed draws of
    ``start_seeds``; ``set_goals`` says where the goal is to be instead. ``goal`` is what marks it: a ``tray`` with a
    rim, or a painted ``mark``. ``palm=True`` also takes pictures from the palm, at the end
    of each latent; ``pictures=False`` takes none, and frames stay black: for those who do not look.
    """

    def __init__(
        self,
        num_envs: int,
        *,
        spec: WorldSpec | None = None,
        goal: Literal["tray", "mark"] = "tray",
        palm: bool = False,
        pictures: bool = True,
        start_seeds: Sequence[int] | None = None,  # of the tables that a world's start views show
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs} must be at least 1")
        if goal not in ("tray", "mark"):
            raise ValueError(f"goal={goal!r} is unknown; pass 'tray' or 'mark'")
        if palm and not pictures:
            raise ValueError(
                "pictures=False takes none, and the palm is one; pass obs_mode='dict', obs_keys=['proprio', 'goal']"
            )
        load_mujoco()
        base = spec or HAND_SPEC
        seen = {"palm": replace(PICTURE, rate="chunk")} if palm else {}
        values = {name: getattr(base, name) for name in ("width", "height", "chunk_latents")}
        self.spec = WorldSpec(**values, fov_deg=HEAD_FOV_DEG, fps=FPS, takes=HAND_SPEC.takes, gives={**GIVES, **seen})
        self.num_envs, self.goal, self.start_seeds = num_envs, goal, start_seeds
        self._rows = [HandRow(self.spec, goal, palm=palm, pictures=pictures) for _ in range(num_envs)]
        self._goals: Tensor | None = None

    @property
    def present(self) -> dict[str, Tensor]:
        """Signals of this moment, each (B, ...)."""
        views = [row.view() for row in self._rows]
        found = {name: torch.cat([view.measured[name] for view in views]) for name in views[0].measured}
        found["depth"] = torch.cat([view.depth for view in views])
        palms = [view.palm for view in views if view.palm is not None]
        return found | ({"palm": torch.cat(palms)} if palms else {})

    @property
    def texts(self) -> list[str]:
        """A description of each env's table."""
        return [f"a {row.colour} {row.scene.shape} and a {self.goal}" for row in self._rows]

    def check_goals(
        self,
        goals: Tensor,  # (B, 2) x and y in metres
    ) -> None:
        """Refuse goals that are not on the part of the table where things are put, by a ValueError."""
        check_places(goals, self.num_envs)

    def set_goals(
        self,
        goals: Tensor | None,  # (B, 2), or None to draw them from the seeds
    ) -> None:
        """Say where the goals of the episodes are that the next reset begins."""
        if goals is not None:
            self.check_goals(goals)
        self._goals = goals

    def reset(
        self,
        *,
        seeds: Sequence[int],
        starts: Sequence[int | None],
        mask: Tensor | None = None,  # (B,) bool
    ) -> Chunk:
        """Lay each table; without ``start_seeds`` the ``starts`` must be None, for a start follows from its seed."""
        check_starts(seeds, starts, self.num_envs)
        rows = range(self.num_envs) if mask is None else mask.nonzero()[:, 0].tolist()
        placed = [self.draw(row, seeds[row], starts[row]) for row in rows]  # all, before any row changes
        for row, where in zip(rows, placed, strict=True):
            self._rows[row].start(where)
        self._goals = None
        return self._chunk([row.view() for row in self._rows])

    def draw(self, row: int, seed: int, start: int | None = None) -> Placed:
        """Return how the table of a row would be laid with this seed, or as it is at this start."""
        if self.start_seeds is not None:
            seed = self.start_seeds[draw_index(len(self.start_seeds), seed, start)]
        elif start is not None:
            raise ValueError(f"start={start}: the table has no start views; it is laid by the seed alone")
        if self._goals is None:
            return draw_start(seed)
        x, y = self._goals[row].tolist()
        return draw_start(seed, (x, y))

    def step(self, commands: Signals, rows: Sequence[int] | None = None) -> Chunk:
        """Move the hands as commanded; the physics decides what comes of it.

        Raises:
            ValueError: if a joint is told to leave its range; then nothing has moved.
        """
        moving = range(self.num_envs) if rows is None else rows
        check_rows(moving, self.num_envs)
        joints = commands["joints"]
        if joints.ndim != 3 or len(joints) != len(moving):
            raise ValueError(f"joints have shape {tuple(joints.shape)}; pass ({len(moving)}, F, {NUM_JOINTS})")
        HAND.check(joints, what="joints")
        low, high = HAND.limits
        within = joints.double().clamp(low, high)
        return self._chunk([self._rows[row].step(targets) for row, targets in zip(moving, within, strict=True)])

    def check_rows(self, rows: Sequence[int]) -> None:
        """Refuse rows that do not exist or are named twice, by a ValueError."""
        check_rows(rows, self.num_envs)

    def clone_state(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Copy the episodes of some rows."""
        self.check_rows(rows)
        states = [self._rows[row].state() for row in rows]
        return {name: torch.stack([state[name] for state in states]) for name in states[0]}

    def restore_state(self, tensors: dict[str, Tensor], rows: Sequence[int]) -> None:
        """Continue cloned episodes in these rows, to the last bit as they would have gone on.

        Raises:
            ValueError: if this is no state of a table, or of another number of rows; then nothing has changed.
        """
        self.check_rows(rows)
        own = self._rows[0].state()
        check_tensors(
            tensors,
            {name: (part.dtype, ("R", *part.shape)) for name, part in own.items()},
            where="the state",
            R=len(rows),
        )
        kinds, count = tensors["kind"], torch.tensor([len(SHAPES), len(COLOURS)])
        if bool(((kinds < 0) | (kinds >= count)).any()):
            raise ValueError(f"the state: kind {kinds.tolist()} names no object; the file was damaged or edited")
        HAND.check(tensors["commanded"], what="the state's joints")
        for i, row in enumerate(rows):
            self._rows[row].restore({name: part[i] for name, part in tensors.items()})

    def fork(self, source: Sequence[int], rows: Sequence[int], *, reseed: Sequence[int] | None = None) -> None:
        """Let rows continue the episodes of other rows; nothing is random after the start, so seeds change nothing."""
        check_fork(source, rows, reseed, self.num_envs)
        for trunk, row in zip(source, rows, strict=True):
            self._rows[row].restore(self._rows[trunk].state())

    def identity(self) -> dict[str, object]:
        """Return what must agree where a state is to be restored."""
        tables = None if self.start_seeds is None else list(self.start_seeds)  # which episodes to come begin at
        return {"simulator": "hand", "goal": self.goal, "mujoco": load_mujoco().__version__, "tables": tables}

    def _chunk(self, shown: list[Shown]) -> Chunk:
        signals = {name: torch.stack([one.measured[name] for one in shown]) for name in shown[0].measured}
        for name in ("depth", "segmentation"):
            signals[name] = torch.stack([getattr(one, name) for one in shown])
        palms = [one.palm for one in shown if one.palm is not None]
        if palms:
            signals["palm"] = torch.stack(palms)
        return Chunk(torch.stack([one.frames for one in shown]), signals)
