"""Suite ``walls``: does a body get where the simulator's gets, walking on from a clip, and does it stay on the floor?

Every case is a clip on a held-out maze and two walks of 20 chunks from its end: straight ahead, and at random. The
simulator says where they lead. ``commanded`` is a world without walls, ``true_depth`` what can be known: the same
sliding along what the clip's true depth showed. What a clip did not show stops nobody, so that ``_seen`` metrics count
the walks alone whose true way lies on floor that the clip showed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...base.log import Stopwatch, console, track
from ...base.media import save_figure
from ...base.rng import derive_seed
from ...bodies.camera import press
from ...dynamics.protocol import Chunk
from ...dynamics.signals import Track
from ...dynamics.spec import FRAMES_PER_LATENT, WorldSpec
from ...engine.engine import Engine
from ...geometry.action import BASIC_KEYS
from ...geometry.occupancy import Occupancy, WallsConfig
from ...sims.doom.sim import DoomDynamics
from ...world.world import World
from ..image import Array
from ..report.document import write_report
from .cases import open_case

FIRST_SEED = 953_000
"""Held-out mazes that no other suite has."""
CLIP_LATENTS = 64
NUM_CHUNKS = 20
BATCH = 25
WALKS = ("forward", "random")
NEAR = 1.0
"""Metres by which a displacement may differ from the simulator's."""
NUM_SHOWN = 8


@dataclass(frozen=True)
class Case:
    """A clip and what becomes of two walks from its end."""

    seed: int
    frames: Tensor  # (T, H, W, 3) uint8
    depth: Tensor  # (F, H, W): true, at the end of each latent
    c2w: Tensor  # (F, 4, 4)
    floor: Array  # (rows, columns) bool, 1 m a cell: where the simulator's maze is free
    keys: dict[str, Tensor]  # of each walk, (NUM_CHUNKS, chunk, 2)
    truth: dict[str, Tensor]  # of each walk, (1 + latents, 2): x and z


def run_walls(world: World, out: Path, *, num_worlds: int | None, first_seed: int | None) -> None:
    """Walk on from clips in the world and in the simulator; write report.json and walls.png.

    Raises:
        ValueError: if the world has no depth head, or no walls.
    """
    if not world.has_walls(world.config.memory):
        raise ValueError(f"suite walls: memory.walls is off in world {world.config.name!r}")
    first, count = FIRST_SEED if first_seed is None else first_seed, num_worlds or 100
    dynamics, watch = DoomDynamics(1, spec=world.spec), Stopwatch()
    seeds = list(range(first, first + count))
    cases = [make_case(dynamics, seed) for seed in track(seeds, "simulator", total=count)]
    dynamics.close()
    floor, chunk = world.config.memory.floor, world.spec.chunk_latents
    known = [looked(case, world.spec, floor, every=chunk) for case in cases]  # as much as worlds look
    whole = [looked(case, world.spec, floor, every=1) for case in cases]
    nothing: list[Occupancy | None] = [None] * count
    ways: dict[str, Callable[[str], Tensor]] = {
        "world": lambda walk: walked_in(world, cases, walk),
        "true_depth": lambda walk: torch.stack([slid(*pair, walk, world.spec) for pair in zip(cases, known)]),
        "commanded": lambda walk: torch.stack([slid(*pair, walk, world.spec) for pair in zip(cases, nothing)]),
        "simulator": lambda walk: torch.stack([case.truth[walk] for case in cases]),
    }
    paths = {arm: {walk: way(walk) for walk in WALKS} for arm, way in ways.items()}
    seen = {walk: np.array([shows(space, c.truth[walk]) for c, space in zip(cases, whole)]) for walk in WALKS}
    arms = {arm: scores(cases, paths[arm], seen) for arm in paths}
    write_report(
        out / "report.json",
        suite="walls",
        protocol="walls-v1",
        world=world.identity(),
        seeds=seeds,
        arms=arms,
        against=[("world", "true_depth"), ("world", "commanded")],
        timing={"cases_per_s": count / watch.seconds()},
        cases={f"seen_{walk}": int(seen[walk].sum()) for walk in WALKS},
    )
    draw_walks(out / "walls.png", cases[:NUM_SHOWN], {arm: paths[arm]["forward"] for arm in paths})
    for arm, metrics in arms.items():
        console.print(f"{arm:>12}  " + "  ".join(f"{key} {np.nanmean(value):.2f}" for key, value in metrics.items()))


def make_case(dynamics: DoomDynamics, seed: int) -> Case:
    """Record a clip on a maze and walk on from its end, straight ahead and at random."""
    spec = dynamics.spec
    before, start, c2w = open_case(dynamics, seed, "explore", CLIP_LATENTS)
    shown, maze = dynamics.follow(c2w[None]), dynamics.mazes[0]
    assert maze is not None
    ends = shown.signals["depth"][0, FRAMES_PER_LATENT - 1 :: FRAMES_PER_LATENT]
    chosen = np.random.default_rng([seed, 3]).integers(len(BASIC_KEYS), size=NUM_CHUNKS)
    keys = {"forward": _held([0] * NUM_CHUNKS, spec), "random": _held(chosen.tolist(), spec)}
    truth = {}
    for walk, pressed in keys.items():
        dynamics.follow(c2w[None, -1:])
        truth[walk] = _places([c2w[-1:], *(_step(dynamics, part).signals["c2w"][0] for part in pressed)])
    return Case(
        seed,
        torch.cat([before.frames[0, -1:], shown.frames[0]]),
        torch.cat([before.signals["depth"][0, -1:], ends]).float(),
        torch.cat([start[None], c2w]),
        maze.free,
        keys,
        truth,
    )


def _held(actions: list[int], spec: WorldSpec) -> Tensor:
    """Return the keys of ``basic`` actions, each held for a chunk, (chunks, F, 2)."""
    return torch.tensor(BASIC_KEYS)[actions][:, None].expand(-1, spec.chunk_latents, -1)


def _step(dynamics: DoomDynamics, keys: Tensor) -> Chunk:
    return dynamics.step(press(keys[None], dynamics.c2w, dynamics.spec.steps))


def _places(poses: list[Tensor]) -> Tensor:
    """Return x and z of poses, (N, 2)."""
    return torch.cat(poses)[:, [0, 2], 3]


def walked_in(world: World, cases: list[Case], walk: str) -> Tensor:
    """Walk on from the clips in the world, (B, 1 + latents, 2)."""
    made = []
    for at in track(range(0, len(cases), BATCH), f"walking {walk}", total=-(-len(cases) // BATCH)):
        some = cases[at : at + BATCH]
        engine = Engine(world, len(some), walls=True)
        clip = Track(c2w=torch.stack([case.c2w for case in some]))
        seeds = [derive_seed("walls", case.seed) for case in some]
        engine.resume(torch.stack([case.frames for case in some]), clip, seeds=seeds)
        path = [engine.c2w[:, None]]
        for keys in torch.stack([case.keys[walk] for case in some], 1):
            path.append(engine.step(press(keys, engine.c2w, world.spec.steps)).signals["c2w"])
        made.append(torch.cat(path, 1)[:, :, [0, 2], 3])
    return torch.cat(made)


def looked(case: Case, spec: WorldSpec, config: WallsConfig, *, every: int) -> Occupancy:
    """Return what the true depth of a clip shows, of every so manieth latent."""
    space, row = Occupancy(1, config), torch.zeros(1, dtype=torch.long)
    for depth, c2w in zip(case.depth[::every], case.c2w[::every], strict=True):
        space.observe(row, depth[None], c2w[None], spec.K)
    return space


def slid(case: Case, space: Occupancy | None, walk: str, spec: WorldSpec) -> Tensor:
    """Walk on from a clip along what is known of it, or through everything; (1 + latents, 2)."""
    here, row, path = case.c2w[None, -1], torch.zeros(1, dtype=torch.long), [case.c2w[-1:]]
    for keys in case.keys[walk]:
        told = press(keys[None], here, spec.steps)["c2w"]
        got = told if space is None else space.slide(row, here, told)
        here = got[:, -1]
        path.append(got[0])
    return _places(path)


def shows(space: Occupancy, way: Tensor) -> bool:
    """Tell whether a whole way (N, 2) is known to be free floor."""
    size = space.config.cells
    x, z = (way / space.config.cell).floor().long().unbind(-1)
    there = ((torch.stack([z, x], -1) - space.centre[0]).abs() < size // 2).all()
    return bool(there and (space.evidence[0, z % size, x % size] < 0).all())


def scores(cases: list[Case], paths: dict[str, Tensor], seen: dict[str, Array]) -> dict[str, Array]:
    """Compare paths with the simulator's, case by case; not a number where the clip did not show the way."""
    found: dict[str, Array] = {}
    for walk, path in paths.items():
        truth = torch.stack([case.truth[walk] for case in cases])
        far, true_far = ((p[:, -1] - p[:, 0]).norm(dim=-1) for p in (path, truth))
        near = ((far - true_far).abs() < NEAR).double().numpy()
        found[f"within_1m_{walk}"] = near
        found[f"within_1m_{walk}_seen"] = np.where(seen[walk], near, np.nan)
        found[f"end_error_{walk}"] = (path[:, -1] - truth[:, -1]).norm(dim=-1).numpy()
        found[f"on_floor_{walk}"] = np.array([_on_floor(c.floor, p) for c, p in zip(cases, path, strict=True)])
        found[f"displacement_{walk}"] = far.numpy()
    return found


def _on_floor(floor: Array, path: Tensor) -> float:
    """Return the share of places (N, 2) that lie on free floor."""
    column, row = path.floor().long().unbind(-1)
    inside = (row >= 0) & (row < floor.shape[0]) & (column >= 0) & (column < floor.shape[1])
    there = torch.from_numpy(floor)[row.clamp(0, floor.shape[0] - 1), column.clamp(0, floor.shape[1] - 1)]
    return float((inside & there).double().mean())


def draw_walks(path: Path, cases: list[Case], ways: dict[str, Tensor]) -> None:
    """Draw mazes from above with each arm's walk straight ahead."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, -(-len(cases) // 2), figsize=(10, 5.4), squeeze=False)
    for i, (case, axis) in enumerate(zip(cases, axes.flat)):
        rows, columns = case.floor.shape
        axis.imshow(case.floor, cmap="gray", vmin=-2, vmax=1, origin="lower", extent=(0, columns, 0, rows))
        axis.plot(case.c2w[:, 0, 3], case.c2w[:, 2, 3], color="0.5", linewidth=1, label="clip")
        for arm, style in (("commanded", ":"), ("simulator", "-"), ("true_depth", "-"), ("world", "--")):
            axis.plot(*ways[arm][i].T, style, linewidth=1.5, label=arm)
        axis.set_xlim(0, columns)
        axis.set_ylim(0, rows)
        axis.set_axis_off()
    axes[0, 0].legend(fontsize=6)
    figure.tight_layout()
    save_figure(path, figure, dpi=80)
    plt.close(figure)
