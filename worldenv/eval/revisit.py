"""Out and back: does a place look the same when one returns?

Each case is a held-out maze with a path that goes out for N chunks and comes back over exactly the same poses. The
world gets the start view and the actions; everything after is its own. The way back is compared frame by frame with
its own way out (``return_psnr_self``, WorldPlay section 4) and with the simulator (``return_psnr_gt``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ..base.dynamics import FRAMES_PER_LATENT, Actions, WorldSpec
from ..base.log import track
from ..base.rng import derive_seed
from ..data.visibility import visibility
from ..engine.engine import Engine
from ..engine.world import World
from ..geometry.action import c2w_to_keys, camera_to_c2w
from ..geometry.path import FreeSpace, Walker, plan_path
from ..geometry.pose import yaw_pitch
from ..memory.config import Layout, MemoryConfig
from ..memory.context import Context
from .image import Array, contrast_ratio, frame_psnr, motion_ratio
from .symmetry import memory_symmetry

PROTOCOL = "revisit-v2"


@dataclass(frozen=True)
class Cases:
    """Paths, true frames and actions of held-out mazes."""

    seeds: list[int]
    start_c2w: Tensor  # (B, 4, 4)
    c2w: Tensor  # (B, 2N n, 4, 4)
    keys: Tensor  # (B, 2N n, 2)
    frames: Tensor  # (B, 1 + T, H, W, 3) uint8, the start view first
    overlap: Tensor | None = None  # (B, 2N, 1 + 2N) how much of each chunk each entry shows, by true visibility


def make_cases(spec: WorldSpec, seeds: list[int], num_chunks: int, *, oracle: bool = False) -> Cases:
    """Plan an out-and-back path on each maze and let the simulator show it.

    With ``oracle`` also what retrieval by true visibility would find.
    """
    from ..sims.doom import DoomDynamics

    num_latents = 2 * num_chunks * spec.chunk_latents
    dynamics = DoomDynamics(1, spec=spec, depth=oracle)
    starts, paths, frames, overlaps = [], [], [], []
    for seed in track(seeds, "simulator", total=len(seeds)):
        first = dynamics.reset(seeds=[derive_seed(PROTOCOL, seed)], starts=[seed])
        maze = dynamics.mazes[0]
        assert maze is not None
        start = first.c2w[0, -1]
        x, _, z = start[:3, 3].tolist()
        space, yaw = FreeSpace(maze.free, 1.0), float(yaw_pitch(start)[0])
        walker = Walker(space, x=x, z=z, yaw=yaw, steps=spec.steps, clearance=0.65)
        rng = np.random.default_rng([seed, 1])
        camera = torch.from_numpy(plan_path("out_and_back", walker, num_latents, rng, pitch=False))
        c2w = camera_to_c2w(camera, start, spec.steps)
        starts.append(start)
        paths.append(c2w)
        shown = dynamics.follow(c2w[None])
        frames.append(torch.cat([first.frames[0, -1:], shown.frames[0]]))
        if oracle:
            assert first.depth is not None
            assert shown.depth is not None
            depth = torch.cat([first.depth[0, -1:], shown.depth[0, FRAMES_PER_LATENT - 1 :: FRAMES_PER_LATENT]])
            seen = visibility(depth.float(), torch.cat([start[None], c2w]), spec.K)
            overlaps.append(true_overlap(seen, Layout(spec.chunk_latents)))
    dynamics.close()
    start, path = torch.stack(starts), torch.stack(paths)
    steps = spec.steps
    whole = torch.cat([start[:, None], path], 1)
    keys = c2w_to_keys(whole, move_threshold=0.1 * steps.move, turn_threshold_deg=0.1 * steps.turn_deg)
    return Cases(seeds, start, path, keys, torch.stack(frames), torch.stack(overlaps) if overlaps else None)


def true_overlap(
    seen: Tensor,  # (F, F, P) bool from ``visibility``, of latent 0 and whole chunks
    layout: Layout,
) -> Tensor:
    """Return the share of each chunk's surface that each earlier entry shows, (chunks, 1 + chunks)."""
    chunk, count = layout.chunk_latents, (len(seen) - 1) // layout.chunk_latents
    share = torch.zeros(count, 1 + count)
    for c in range(count):
        wanted = seen[1 + chunk * c : 1 + chunk * (c + 1)]
        for entry in range(c + 1):
            members = layout.members(torch.tensor(entry))
            share[c, entry] = wanted[:, members[members >= 0]].any(1).float().mean()
    return share


ContextEdit = Callable[[Context], Context]


def swap_memory(memory: MemoryConfig) -> ContextEdit:
    """Put the next row's pictures into the retrieved slots, with this row's poses: what memory is worth."""

    def edit(context: Context) -> Context:
        latents, retrieved = context.latents.clone(), context.latents.shape[1] - memory.temporal_latents
        latents[:, :retrieved] = latents[:, :retrieved].roll(1, 0)
        return replace(context, latents=latents)

    return edit


def run_arm(
    world: World, cases: Cases, memory: MemoryConfig, *, edit: ContextEdit | None = None, label: str = ""
) -> Tensor:
    """Generate every case under one memory; (B, 1 + T, H, W, 3) uint8. Noise is the same in every arm."""
    batch, chunk = len(cases.seeds), world.spec.chunk_latents
    engine = Engine(world, batch, memory=memory)
    if memory.policy == "oracle":
        overlap = cases.overlap
        assert overlap is not None
        engine.history.oracle = lambda length: overlap[:, (int(length[0]) - 1) // chunk]
    seeds = [derive_seed(PROTOCOL, seed, "noise") for seed in cases.seeds]
    engine.reset(seeds=seeds, starts=[None] * batch, images=cases.frames[:, 0], c2w=cases.start_c2w)
    frames = [cases.frames[:, :1]]
    pieces = list(zip(cases.keys.split(chunk, 1), cases.c2w.split(chunk, 1), strict=True))
    for i, (keys, c2w) in enumerate(track(pieces, f"memory: {label or memory.policy}", total=len(pieces))):
        engine.history.edit = edit if 2 * i >= len(pieces) else None
        frames.append(engine.step(Actions(keys, c2w)).frames)
    return torch.cat(frames, 1)


def mirror(num_frames: int) -> npt.NDArray[np.int64]:
    """Return the index of the outward frame with the pose of each return frame, in order of return."""
    half = (num_frames - 1) // 2
    return np.arange(half - 1, -1, -1)


def score(frames: Tensor, truth: Tensor, *, window_frames: int) -> dict[str, Array]:
    """Compare return frames with the own way out and with the truth; ``_far`` beyond the memory's window.

    Returns:
        Each metric's values, (B,).
    """
    half = (frames.shape[1] - 1) // 2
    back, out = frames[:, half + 1 :], frames[:, mirror(frames.shape[1]).copy()]
    true_back = truth[:, half + 1 :]
    gap = 2 * np.arange(1, half + 1)
    far = gap > window_frames
    own, real = frame_psnr(back, out), frame_psnr(back, true_back)
    metrics = {
        "return_psnr_self": own.mean(1),
        "return_psnr_gt": real.mean(1),
        "memory_symmetry": np.asarray(memory_symmetry(frames)),
        "memory_symmetry_engine": np.asarray(memory_symmetry(frames, variant="engine")),
        "motion_ratio": np.asarray(motion_ratio(frames, truth)),
        "contrast_ratio_return": np.asarray(contrast_ratio(back, true_back)),
        "contrast_ratio_out": np.asarray(contrast_ratio(frames[:, 1 : half + 1], truth[:, 1 : half + 1])),
    }
    if far.any():
        metrics["return_psnr_self_far"] = own[:, far].mean(1)
        metrics["return_psnr_gt_far"] = real[:, far].mean(1)
    return metrics


def controls(cases: Cases, chunk_frames: int) -> Iterator[tuple[str, Tensor]]:
    """Yield control arms that need no model, which show what each metric is worth.

    The start view frozen; each chunk the last true frame before it; the simulator blurred; the simulator itself.
    """
    frames, count = cases.frames, cases.frames.shape[1]
    yield "frozen", frames[:, :1].expand_as(frames)
    before = (torch.arange(count) - 1).clamp(min=0) // chunk_frames * chunk_frames
    yield "last_frame", torch.cat([frames[:, :1], frames[:, before[1:]]], 1)
    yield "blur", blurred(frames)
    yield "simulator", frames


def blurred(
    frames: Tensor,  # (B, T, H, W, 3) uint8
    factor: int = 4,
) -> Tensor:
    """Average blocks of pixels and enlarge them smoothly."""
    pixels = frames.flatten(0, 1).movedim(-1, 1).float()
    small = functional.avg_pool2d(pixels, factor)
    large = functional.interpolate(small, size=pixels.shape[2:], mode="bicubic", align_corners=False)
    return large.clamp(0, 255).round().to(torch.uint8).movedim(1, -1).view(frames.shape)


def with_other_actions(cases: Cases) -> Cases:
    """Give every case the path and keys of the next one, at its own start: actions that do not fit the truth."""
    relative_path = torch.linalg.solve(cases.start_c2w[:, None], cases.c2w).roll(1, 0)
    return replace(cases, c2w=cases.start_c2w[:, None] @ relative_path, keys=cases.keys.roll(1, 0))
