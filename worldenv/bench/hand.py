"""What a frame of the hand's table costs: physics and pictures, on one core."""

from __future__ import annotations

import json
import time
from pathlib import Path

from ..base.files import save_text
from ..base.log import git_revision, hardware
from ..bodies.hand import joints_at
from ..dynamics.signals import Track
from ..dynamics.spec import FRAMES_PER_LATENT
from ..sims.mujoco.experts import Expert
from ..sims.mujoco.sim import HandDynamics


def bench_hand(out: Path, *, num_latents: int = 24, repeats: int = 5) -> None:
    """Step an expert's episode, and write frames per second of the process's own time.

    Pictures are colour, depth and segmentation at once; ``palm`` adds one from the palm for every four of the head's.
    The same episode is repeated, and the fastest of each step counts: other processes only ever make it slower.
    """
    rates = {}
    for name, palm in (("head", False), ("head_and_palm", True)):
        dynamics = HandDynamics(1, palm=palm)
        fastest = [min(steps) for steps in zip(*(_seconds(dynamics, num_latents) for _ in range(repeats)), strict=True)]
        rates[name] = round(FRAMES_PER_LATENT * num_latents / sum(fastest), 1)
    size = [dynamics.spec.height, dynamics.spec.width]
    report = {"format": 1, "suite": "hand", "git": git_revision(), "hardware": hardware(), "size": size}
    save_text(out, json.dumps({**report, "timing": {"frames_per_cpu_s": rates}}, indent=1) + "\n")


def _seconds(dynamics: HandDynamics, num_latents: int) -> list[float]:
    """Return the processor's time for each step of an episode."""
    dynamics.reset(seeds=[0], starts=[None])
    expert, seconds = Expert("place"), []
    for _ in range(num_latents):
        now = dynamics.present
        plan = expert.plan(now["object"][:, :3], now["target"], now["joints"], 1)
        begin = time.process_time()
        dynamics.step(Track(joints=joints_at(plan).float()))
        seconds.append(time.process_time() - begin)
    return seconds
