"""Hands that know where everything lies: scripts that place, lift and push, by the time since the start.

An expert plans the wrist (x, y, z, roll, pitch, yaw) and how far the hand closes, latent by latent; bodies say which
action leads there. Noise makes it worse, up to hopeless.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

REACH = torch.tensor([0.066, 0.014], dtype=torch.float64)
"""From the wrist to the middle of a closing hand, x and y."""
PITCH = 0.1
"""How far a hand that grasps from above is tilted, radians."""

CAGE = 0.6
"""How far a hand closes that holds nothing but leaves no way out."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What an expert knows of B tables."""

    thing: Tensor  # (B, 3) where the object is
    target: Tensor  # (B, 3) where it is to go
    wrist: Tensor  # (B, 3) where the wrist was at the start
    height: Tensor  # (B,) how high the object's centre is while it stands


GRASPED = 7.0
"""Latents after the start until which an expert looks where the object is; then it has it."""
KEPT = 0.656
"""How much of the noise of a latent is left in the next one."""
NOISE = torch.tensor([0.04, 0.04, 0.04, 0.2, 0.2, 0.2, 0.8], dtype=torch.float64)
"""Standard deviation of noise of level 1 in a plan: metres, radians, and how far the hand closes."""

Path = Callable[[Situation, Tensor], Tensor]
"""Returns the plan (B, 7) at times (B,) in latents: x, y, z, roll, pitch, yaw of the wrist, and the grasp in -1..1."""


def place(now: Situation, time: Tensor) -> Tensor:
    """Grasp the object from above, carry it over the tray, let go and withdraw."""
    above, low = _above(now)
    drop = now.target[:, :2] - REACH
    xy = _along(now.wrist[:, :2], above, time, 0, 4.5)
    xy = _along(xy, drop, time, 11.5, 16)
    high = low + 0.09
    z = _along(now.wrist[:, 2], high, time, 0, 3.5)
    z = _along(z, low, time, 4, 7)
    z = _along(z, high, time, 9.5, 12)
    z = _along(z, low + 0.012, time, 16, 18.5)
    z = _along(z, high, time, 20.5, 23)
    closed = _share(time, 7, 9) * (1 - _share(time, 18.7, 20.2))
    return _plan(xy, z, closed)


def lift(now: Situation, time: Tensor) -> Tensor:
    """Grasp the object from above and hold it up."""
    above, low = _above(now)
    xy = _along(now.wrist[:, :2], above, time, 0, 4.5)
    z = _along(now.wrist[:, 2], low + 0.09, time, 0, 3.5)
    z = _along(z, low, time, 4, 7)
    z = _along(z, low + 0.10, time, 9.5, 13)
    return _plan(xy, z, _share(time, 7, 9))


def push(now: Situation, time: Tensor) -> Tensor:
    """Put the hand round the object without holding it, fingers and thumb along the way, and draw it to the mark."""
    way = now.target - now.thing
    yaw = torch.atan(way[:, 1] / torch.where(way[:, 0].abs() < 1e-6, way[:, 0] + 1e-6, way[:, 0]))
    turn = torch.stack([yaw.cos(), -yaw.sin(), yaw.sin(), yaw.cos()], -1).unflatten(-1, (2, 2))
    reach, (_, low) = turn @ REACH, _above(now)
    xy = _along(now.wrist[:, :2], now.thing[:, :2] - reach, time, 0, 4.5)
    xy = _along(xy, now.target[:, :2] - reach, time, 9, 17)
    z = _along(now.wrist[:, 2], low + 0.09, time, 0, 3.5)
    z = _along(z, low + 0.004, time, 4, 7)
    z = _along(z, low + 0.09, time, 20, 23)
    plan = _plan(xy, z, CAGE * _share(time, 7, 9) * (1 - _share(time, 18.5, 20)))
    plan[:, 5] = yaw * _share(time, 0, 4)
    return plan


EXPERTS: dict[str, Path] = {"place": place, "lift": lift, "push": push}


class Expert:
    """Plans of B episodes that begin together, latent by latent, as noisy as asked.

    Level 0 does not fail, level 1 hardly succeeds. The noise is smooth and follows from the seed.
    """

    def __init__(self, name: str, *, noise: float = 0.0, seed: int = 0) -> None:
        if name not in EXPERTS:
            raise ValueError(f"unknown expert {name!r}; choose one of {', '.join(EXPERTS)}")
        if not 0 <= noise <= 10:
            raise ValueError(f"noise={noise:g} must lie within 0..10; 0 does not fail, 1 hardly succeeds")
        self.path, self.noise, self._seed = EXPERTS[name], noise, seed
        self.begin()

    def begin(self) -> None:
        """Begin with new episodes."""
        self._generator = torch.Generator().manual_seed(self._seed)
        self._seed += 1
        self._now: Situation | None = None
        self._time, self._off = 0, torch.zeros(7, dtype=torch.float64)

    def plan(
        self,
        thing: Tensor,  # (B, 3) where the object is
        target: Tensor,  # (B, 3) where tray or mark are
        joints: Tensor,  # (B, 26) that are commanded
        num_latents: int,
    ) -> Tensor:
        """Return where the wrist is to be at the end of the coming latents, and the grasp, (B, latents, 7)."""
        thing, target = thing.double(), target.double()
        if self._now is None:
            self._now = Situation(thing=thing, target=target, wrist=joints[:, :3].double(), height=thing[:, 2])
            self._off = torch.zeros(len(thing), 7, dtype=torch.float64)
        elif self._time < GRASPED:
            self._now = replace(self._now, thing=thing)
        plans = []
        for _ in range(num_latents):
            self._time += 1
            drawn = torch.randn(self._off.shape, generator=self._generator, dtype=torch.float64)
            self._off = KEPT * self._off + (1 - KEPT**2) ** 0.5 * self.noise * NOISE * drawn
            time = torch.full((len(thing),), float(self._time), dtype=torch.float64)
            plans.append(self.path(self._now, time) + self._off)
        return torch.stack(plans, 1)


def _above(now: Situation) -> tuple[Tensor, Tensor]:
    """Return where the wrist is while the hand closes round the object: x and y (B, 2), and z (B,)."""
    return now.thing[:, :2] - REACH, 0.078 + 0.55 * now.height


def _plan(xy: Tensor, z: Tensor, closed: Tensor) -> Tensor:
    still = torch.zeros_like(z)
    return torch.stack([*xy.unbind(-1), z, still, still + PITCH, still, 2 * closed - 1], -1)


def _share(time: Tensor, begin: float, end: float) -> Tensor:
    """Return how much of a movement is done, (B,), beginning and ending gently."""
    part = ((time - begin) / (end - begin)).clamp(0, 1)
    return part * part * (3 - 2 * part)


def _along(start: Tensor, end: Tensor, time: Tensor, begin: float, until: float) -> Tensor:
    """Go from one place to another within a span of time."""
    share = _share(time, begin, until)
    return start + (end - start) * (share[:, None] if start.ndim == 2 else share)
