"""Which paths a recording is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from ..geometry.action import ActionSteps
from ..geometry.contact import plan_walls, restless_keys, start_beside, with_pauses
from ..geometry.goals import plan_goals, start_near
from ..geometry.path import Array, FreeSpace, PathKind, Walker, add_pitch, plan_path


@dataclass(frozen=True, kw_only=True)
class TrajectoryConfig:
    """Shares of the kinds of paths, and how far a step goes."""

    out_and_back: float = 0.35
    """Share of exact returns."""
    look_around: float = 0.20
    """Share of turns on the spot."""
    loop: float = 0.20
    """Share of walks in loops."""
    explore: float = 0.25
    """Share of walks to anywhere."""
    goals: float = 0.0
    """Share of walks to goal objects with a look around them; walks to anywhere where a maze has none."""
    walls: float = 0.0
    """Share of clips driven with collisions into walls, along them and away."""
    restless: float = 0.0
    """Share of clips driven with collisions by keys that change at every latent."""
    acted: float = 0.10
    """Share of clips, of all kinds, that are driven by random keys with collisions instead of planned."""
    still: float = 0.0
    """Share of clips to goals and of those driven with collisions in which the camera stands still now and then."""
    pitched: float = 0.15
    """Share of clips with looks up and down."""
    nominal: float = 0.35
    """Share of clips with the spec's own step sizes; the others scale moves and turns, each by its own factor."""
    scale: tuple[float, float] = (0.5, 1.6)
    """Range of that factor, log-uniform."""
    clearance: float = 0.65
    """Metres kept from walls on planned paths."""
    seed: int = 0
    """Seed of the paths; clip i uses (seed, its map seed)."""

    @property
    def shares(self) -> dict[str, float]:
        """Shares by kind, normalised."""
        kinds = {
            "out_and_back": self.out_and_back,
            "look_around": self.look_around,
            "loop": self.loop,
            "explore": self.explore,
            "goals": self.goals,
            "walls": self.walls,
            "restless": self.restless,
        }
        total = sum(kinds.values())
        return {kind: share / total for kind, share in kinds.items()}


@dataclass(frozen=True)
class Plan:
    """One clip's path."""

    kind: str
    steps: ActionSteps
    start: tuple[float, float, float]  # x, z in metres, yaw in radians
    camera: Array  # (F, 5) in units of ``steps``
    acted: bool  # driven through collisions rather than placed


def plan_clip(
    space: FreeSpace,
    steps: ActionSteps,
    config: TrajectoryConfig,
    num_latents: int,
    rng: np.random.Generator,
    *,
    goals: Sequence[tuple[float, float]] = (),
) -> Plan:
    """Draw the path of one clip on a map's free space; ``goals`` are the middles (x, z) of its goal objects."""
    kinds, shares = zip(*config.shares.items(), strict=True)
    kind = kinds[int(rng.choice(len(kinds), p=shares))]
    nominal = rng.random() < config.nominal
    low, high = np.log(config.scale)
    scales = np.exp(rng.uniform(low, high, size=2))
    if not nominal:
        steps = replace(steps, move=steps.move * float(scales[0]), turn_deg=steps.turn_deg * float(scales[1]))
    acted, pitched = rng.random() < config.acted, rng.random() < config.pitched
    x, z = space.sample(rng, clearance=config.clearance)
    start = (x, z, float(rng.uniform(-np.pi, np.pi)))
    if acted or kind in ("walls", "restless"):
        kind = "acted" if acted else kind
        start = start_beside(space, rng, clearance=config.clearance) if kind == "walls" else start
        return Plan(kind, steps, start, _driven(kind, space, start, steps, config, num_latents, rng), True)
    walker = Walker(space, x=x, z=z, yaw=start[2], steps=steps, clearance=config.clearance)
    if kind == "goals" and goals:
        walker.x, walker.z, walker.yaw = start = start_near(walker, goals, rng)
        plan_goals(walker, goals, num_latents, rng)
        return Plan(kind, steps, start, _finished(walker, config, rng, pitched=pitched), False)
    kind = "explore" if kind == "goals" else kind
    camera = plan_path(cast(PathKind, kind), walker, num_latents, rng, pitch=pitched)
    return Plan(kind, steps, start, camera, False)


def _driven(
    kind: str,
    space: FreeSpace,
    start: tuple[float, float, float],
    steps: ActionSteps,
    config: TrajectoryConfig,
    num_latents: int,
    rng: np.random.Generator,
) -> Array:
    """Draw the commands (num_latents, 5) of a clip that is driven with collisions."""
    if kind == "walls":
        camera = plan_walls(space, start, steps, num_latents, rng)
    else:
        camera = restless_keys(num_latents, rng) if kind == "restless" else random_keys(num_latents, rng)
    return _paused(camera, config, rng)


def _finished(walker: Walker, config: TrajectoryConfig, rng: np.random.Generator, *, pitched: bool) -> Array:
    """Lay looks up and down and pauses over a walk to goals."""
    limit = int(walker.steps.pitch_limit_deg / walker.steps.pitch_deg)
    actions = add_pitch(walker.actions, rng, limit=limit) if pitched else walker.actions
    return _paused(np.stack(actions), config, rng)


def _paused(camera: Array, config: TrajectoryConfig, rng: np.random.Generator) -> Array:
    """Let a share of clips stand still now and then; no random number is drawn where that share is 0."""
    return with_pauses(camera, rng) if config.still and rng.random() < config.still else camera


def random_keys(num_latents: int, rng: np.random.Generator) -> Array:
    """Hold random keys for 2 to 8 latents, walls or not: (num_latents, 5) ``camera`` actions."""
    # (forward, right, yaw): walks, turning walks, turns, strafes and diagonals.
    held = [
        (1, 0, 0),
        (1, 0, 1),
        (1, 0, -1),
        (0, 0, 1),
        (0, 0, -1),
        (-1, 0, 0),
        (0, 1, 0),
        (0, -1, 0),
        (1, 1, 0),
        (1, -1, 0),
    ]
    moves = np.array([[forward, right, 0, yaw, 0] for forward, right, yaw in held], float)
    shares = np.array([7, 3, 3, 2, 2, 2, 1, 1, 1, 1])
    rows: list[Array] = []
    while len(rows) < num_latents:
        move = moves[rng.choice(len(moves), p=shares / shares.sum())]
        rows += [move] * int(rng.integers(2, 9))
    return np.stack(rows[:num_latents])
