"""The suites: which cases, which arms, which comparisons. A new one is a line in ``RUNS``."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from ...base.log import console
from ...dynamics.spec import WorldSpec
from ...sims.doom.sim import TEST_SEEDS
from .cases import KINDS, Cases, digests, make_cases, protocol_of, published

HELD_OUT = TEST_SEEDS.start
"""First map seed that no world is trained on."""
BUDGETS = (2, 4, 8, 16, "unlimited")
"""Entries of WorldScape's pool in suite ``memory``, besides the world's own."""


@dataclass(frozen=True)
class Suite:
    """Which cases, which arms, which comparisons."""

    listed: str
    """Name of the published list."""
    chunks: int
    policies: tuple[str, ...]
    controls: tuple[str, ...] = ("frozen", "last_frame", "blur", "splat_only", "vae", "simulator")
    doubts: tuple[str, ...] = ()
    """Arms that take memory or actions away: ``swapped``, ``shuffled_actions``."""
    depth: bool = True
    """Whether visibility is needed: for seen and unseen ground, and for the oracle."""
    against: tuple[str, ...] = ("worldplay", "recent", "random", "none", "swapped", "shuffled_actions", "frozen")
    """Arms that the first one, and ``worldplay``, are compared with."""
    rendering: bool = False
    """Whether there are arms that tell what rendered memory is worth."""
    baseline: str = ""
    """Arm that all others are compared with."""
    kinds: tuple[str, ...] = KINDS
    num_frames: int | None = None
    """Frames that are scored, the start view included; None is all."""
    given: int = 0
    """Chunks that worlds remember as they truly were, instead of making them."""
    continued: bool = False
    """Whether there is an arm that is given the first half of a path as it truly was, and makes the second."""
    ssim_step: int = 4
    """Every how manieth frame SSIM is computed on."""
    pose_step: int = 0
    """Every how manieth case's camera motion is measured; 0 is none."""
    quick: bool = True
    """Whether it is measured in a quarter of the time, less precisely."""
    ages: bool = False
    """Whether early and late chunks are compared."""
    panels: dict[str, str] = field(default_factory=dict)
    """Titles and metrics of a plot of means."""


POLICIES = ("worldplay_rendered", "worldplay", "recent", "random", "none")
RETURNS = {
    "way back, far, against its own way out": "return_psnr_self_far",
    "way back, far, against the simulator": "return_psnr_gt_far",
}
RUNS: dict[str, Suite] = {
    "revisit": Suite("revisit", 16, POLICIES, doubts=("swapped", "shuffled_actions"), pose_step=2, panels=RETURNS),
    "demo": Suite(
        "revisit", 12, POLICIES, ("frozen", "simulator"), kinds=("out_and_back",), depth=False, continued=True
    ),
    "short_term": Suite(
        "short_term",
        4,
        ("worldplay_rendered", "worldplay", "none"),
        doubts=("shuffled_actions",),
        kinds=("explore",),
        num_frames=61,
        ssim_step=1,
        pose_step=4,
        quick=False,
        panels={"against the simulator": "psnr", "seen before": "seen_psnr", "new ground": "unseen_psnr"},
    ),
    "rendering": Suite(
        "revisit",
        12,
        ("worldplay_rendered", "worldplay", "none"),
        ("splat_only", "vae", "simulator"),
        against=("worldplay", "none", "rendered_alone", "splat_only"),
        rendering=True,
        pose_step=1,
        ages=True,
        panels={"seen before": "seen_psnr", "action score": "action_score"},
    ),
    "drift": Suite(
        "drift",
        64,
        ("worldplay_rendered", "worldplay", "worldscape", "none"),
        ("frozen", "simulator"),
        depth=False,
        ages=True,
    ),
    "memory": Suite(
        "revisit",
        20,
        ("worldplay", "worldscape", *(f"worldscape_{n}" for n in BUDGETS), "recent", "random", "none", "oracle"),
        ("simulator",),
        against=("oracle",),
        baseline="recent",
        kinds=("out_and_back",),
        panels=RETURNS,
    ),
}
"""Suites that step worlds along cases."""


MOST_SEED = 2**62
"""Of a map."""


def check_asked(num_worlds: int | None, first_seed: int | None) -> None:
    """Refuse fewer than one case, and seeds beyond any, by a ValueError."""
    if num_worlds is not None and num_worlds < 1:
        raise ValueError(f"{num_worlds} worlds asked for; a suite needs 1 or more")
    if first_seed is not None and not 0 <= first_seed <= MOST_SEED:
        raise ValueError(f"first_seed={first_seed}; seeds are 0 or more, up to {MOST_SEED}")


def suite_cases(suite: Suite, spec: WorldSpec, num_worlds: int | None, first_seed: int | None) -> tuple[Cases, str]:
    """Return a suite's cases, and whether they are the published ones or others.

    Raises:
        ValueError: on fewer than one case, more than are published, or a world whose start lies in its first chunk.
    """
    check_asked(num_worlds, first_seed)
    listed, protocol = published(suite.listed, spec), protocol_of(spec)
    if spec.start_in_chunk:
        raise ValueError("the start view of this world is part of its first chunk; suites need it to stand alone")
    if first_seed is None:
        seeds = listed["seeds"][:num_worlds]
        if num_worlds is not None and num_worlds > len(seeds):
            raise ValueError(f"{protocol} lists {len(seeds)} cases of {suite.listed}; draw others with --first-seed")
    else:
        if first_seed < HELD_OUT:
            console.print(f"map seeds below {HELD_OUT:,} are those that worlds are trained on: no test of a world")
        seeds = list(range(first_seed, first_seed + (num_worlds or len(listed["seeds"]))))
    offered = listed["kinds"] if len(suite.kinds) > 1 else suite.kinds
    kinds = list(itertools.islice(itertools.cycle(offered), len(seeds)))
    cases = make_cases(spec, seeds, kinds, suite.chunks, depth=suite.depth)
    if first_seed is not None:
        return cases, "other seeds"
    own = WorldSpec(unit=spec.unit, fps=spec.fps, maze=spec.maze)  # no path depends on unit and fps
    if (suite.chunks, spec) != (listed["chunks"], own) or kinds != listed["kinds"][: len(kinds)]:
        return cases, f"maps of {protocol}, other paths"
    wrong = sum(a != b for a, b in zip(digests(cases), listed["digests"], strict=False))
    if wrong:
        console.print(f"{wrong} of {len(cases)} cases differ from the published ones: another simulator or version?")
    return cases, f"{protocol}, {wrong} differ" if wrong else protocol
