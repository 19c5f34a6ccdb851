"""Which paths a recording is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..geometry.action import ActionSteps
from ..geometry.path import Array, FreeSpace, PathKind, Walker, plan_path


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
    acted: float = 0.10
    """Share of clips, of all kinds, that are driven by random keys with collisions instead of planned."""
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
    def shares(self) -> dict[PathKind, float]:
        """Shares by kind, normalised."""
        kinds: dict[PathKind, float] = {
            "out_and_back": self.out_and_back,
            "look_around": self.look_around,
            "loop": self.loop,
            "explore": self.explore,
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
    space: FreeSpace, steps: ActionSteps, config: TrajectoryConfig, num_latents: int, rng: np.random.Generator
) -> Plan:
    """Draw the path of one clip on a map's free space."""
    kinds, shares = zip(*config.shares.items(), strict=True)
    kind: PathKind = kinds[int(rng.choice(len(kinds), p=shares))]
    nominal = rng.random() < config.nominal
    low, high = np.log(config.scale)
    scales = np.exp(rng.uniform(low, high, size=2))
    if not nominal:
        steps = replace(steps, move=steps.move * float(scales[0]), turn_deg=steps.turn_deg * float(scales[1]))
    acted, pitched = rng.random() < config.acted, rng.random() < config.pitched
    x, z = space.sample(rng, clearance=config.clearance)
    start = (x, z, float(rng.uniform(-np.pi, np.pi)))
    if acted:
        return Plan("acted", steps, start, random_keys(num_latents, rng), True)
    walker = Walker(space, x=x, z=z, yaw=start[2], steps=steps, clearance=config.clearance)
    return Plan(kind, steps, start, plan_path(kind, walker, num_latents, rng, pitch=pitched), False)


def random_keys(num_latents: int, rng: np.random.Generator) -> Array:
    """Hold random keys for 2 to 8 latents, walls or not: (num_latents, 5) ``camera`` actions."""
    # (forward, right, yaw): walks, turning walks, turns, strafes and diagonals.
    held = [(1, 0, 0), (1, 0, 1), (1, 0, -1), (0, 0, 1), (0, 0, -1), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (1, 1, 0),
            (1, -1, 0)]  # fmt: skip
    moves = np.array([[forward, right, 0, yaw, 0] for forward, right, yaw in held], float)
    shares = np.array([7, 3, 3, 2, 2, 2, 1, 1, 1, 1])
    rows: list[Array] = []
    while len(rows) < num_latents:
        move = moves[rng.choice(len(moves), p=shares / shares.sum())]
        rows += [move] * int(rng.integers(2, 9))
    return np.stack(rows[:num_latents])
