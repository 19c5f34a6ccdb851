"""Recording the hand's table: experts, noisy ones, and hands that wave about; failures matter as much as success."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...base.rng import derive_seed
from ...bodies.hand import joints_at
from ...bodies.hand_model import HAND, NUM_WRIST
from ...bodies.table import TABLE_HIGH, TABLE_LOW
from ...dynamics.signals import Track
from ...sims.mujoco.experts import Expert
from ...sims.mujoco.sim import HandDynamics
from ..schema import Clip

KINDS = {"expert": 0.4, "noisy": 0.3, "random": 0.3}
"""What share of clips is acted by whom."""
NOISE = (0.2, 1.2)
"""Levels of noise that noisy experts are drawn from."""
WAVE = 4
"""Latents in which a random hand goes from one place to the next."""


class HandSource:
    """Clip i is the table with seed ``first_seed + i``, acted by whom that seed says."""

    def __init__(
        self, task: Literal["place", "lift", "push"], num_latents: int, first_seed: int, *, depth: bool
    ) -> None:
        self.task, self.num_latents, self.first_seed, self.depth = task, num_latents, first_seed, depth
        self.dynamics = HandDynamics(1, goal="mark" if task == "push" else "tray")

    def clip(self, index: int) -> Clip:
        """Record one clip."""
        seed = self.first_seed + index
        rng = np.random.default_rng(derive_seed(seed, "hand"))
        kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
        level = float(rng.uniform(*NOISE)) if kind == "noisy" else 0.0
        expert = Expert(self.task, noise=level, seed=derive_seed(seed, "noise") % 2**31)
        chunks = [self.dynamics.reset(seeds=[seed], starts=[None])]
        waves = wave(self.dynamics.present["joints"][0].double(), self.num_latents, rng)
        for k in range(self.num_latents):
            now = self.dynamics.present
            if kind == "random":
                joints = waves[k]
            else:
                joints = joints_at(expert.plan(now["object"][:, :3], now["target"], now["joints"], 1)[0, 0])
            chunks.append(self.dynamics.step(Track(joints=joints.float()[None, None])))
        names = [name for name in chunks[0].signals if self.depth or name not in ("depth", "segmentation")]
        signals = {name: torch.cat([chunk.signals[name][0] for chunk in chunks]).numpy() for name in names}
        if self.depth:
            signals["depth"] = signals["depth"].astype(np.float16)
        frames = torch.cat([chunk.frames[0] for chunk in chunks]).numpy()
        told = {"task": self.task, "kind": kind, "noise": level, "seed": seed, "text": self.dynamics.texts[0]}
        return Clip(frames, signals, told)

    def close(self) -> None:
        """Stop nothing: no process runs."""


def wave(
    start: Tensor,  # (26,) where the joints are
    num_latents: int,
    rng: np.random.Generator,
) -> Tensor:
    """Return the joints of a hand that goes from place to place over the table, closing and opening, (latents, 26)."""
    low, high = (*TABLE_LOW, 0.1), (*TABLE_HIGH, 0.2)
    stations = 2 + num_latents // WAVE
    plans = np.zeros((stations, NUM_WRIST + 1))
    plans[:, :3] = rng.uniform(low, high, (stations, 3)) - np.array([0.066, 0.014, 0.0])
    plans[:, 3:6] = rng.normal(0, 0.25, (stations, 3))
    plans[:, 6] = rng.uniform(-1, 1, stations)
    joints = joints_at(torch.from_numpy(plans))
    joints[:, NUM_WRIST:] += torch.from_numpy(rng.normal(0, 0.15, (stations, len(start) - NUM_WRIST)))
    joints[0] = start
    time = torch.arange(1, num_latents + 1, dtype=torch.float64) / WAVE
    before = time.floor().long().clamp(max=stations - 2)
    share = (time - before)[:, None]
    least, most = HAND.limits
    return (joints[before] * (1 - share) + joints[before + 1] * share).clamp(least, most)
