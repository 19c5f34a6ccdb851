import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

from worldenv.dynamics.protocol import Chunk
from worldenv.dynamics.signals import Track
from worldenv.dynamics.spec import WorldSpec
from worldenv.geometry.action import camera_to_c2w
from worldenv.geometry.camera import pixel_rays, project, warp
from worldenv.geometry.pose import invert_se3, look, rotation_angle
from worldenv.sims import TEST_SEEDS, DoomDynamics, Maze, cast_depth, clearance, corners, generate_maze
from worldenv.sims.doom.maze import EYE_HEIGHT
from worldenv.sims.doom.raycast import cast_rays

pytest.importorskip("vizdoom", reason="the simulators need pip install worldenv[sims]")
pytestmark = pytest.mark.sim

SPEC = WorldSpec()
K = SPEC.K.double()
TONES = ("PORAN", "PBLUE", "PGREEN", "PRED", "PWHITE")


@pytest.fixture(scope="module")
def world() -> Iterator[DoomDynamics]:
    dynamics = DoomDynamics(1)
    yield dynamics
    dynamics.close()


def restart(world: DoomDynamics, seed: int = 0, start: int | None = None) -> Chunk:
    return world.reset(seeds=[seed], starts=[start])


def command(world: DoomDynamics, camera: list[list[float]]) -> Track:
    """Camera actions (F, 5) in units of the step, the same for every env."""
    units = torch.tensor(camera, dtype=torch.float64).expand(world.num_envs, -1, -1)
    keys = torch.zeros(*units.shape[:2], 2).long()
    return Track(keys=keys, c2w=camera_to_c2w(units, world.c2w, SPEC.steps))


def random_poses(maze: Maze, count: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    tiles = np.argwhere(maze.free)
    points = (tiles[rng.integers(len(tiles), size=20 * count)] + rng.random((20 * count, 2)))[:, ::-1]
    points = points[clearance(maze, points) > 0.6][:count]
    position = torch.tensor(np.stack([points[:, 0], np.full(count, -EYE_HEIGHT), points[:, 1]], 1))
    yaw, pitch = (torch.tensor(rng.uniform(-limit, limit, count)) for limit in (np.pi, math.radians(15)))
    return look(position, yaw, pitch)


def psnr(error: torch.Tensor) -> float:
    return 10 * math.log10(255**2 / max(float((error.double() ** 2).mean()), 1e-9))


def proof_maze(seed: int) -> Maze:
    """A maze in plain colours: orange walls, blue floors, green ceilings, pillars and blocks red or white."""
    maze = generate_maze(seed)
    zero = np.zeros_like(maze.wall)
    rows, columns = np.indices(zero.shape)
    side = np.where(maze.solid | (maze.floor > 0), 3 + (rows // 2 + columns // 2) % 2, -1).astype(np.int16)
    return dataclasses.replace(
        maze,
        wall=zero,
        side=side,
        floor_texture=zero + 1,
        ceiling_texture=zero + 2,
        textures=TONES,
        light=np.full_like(maze.light, 255),
    )


def paint(maze: Maze, c2w: np.ndarray, scale: int) -> np.ndarray:
    """Draw what the map predicts, ``scale`` times finer than the frame: (sH, sW) tone."""
    fine = K * torch.tensor([[scale], [scale], [1.0]])
    rays = pixel_rays(fine, width=scale * 64, height=scale * 48).reshape(-1, 3).numpy() @ c2w[:3, :3].T
    origins = np.broadcast_to(c2w[:3, 3], rays.shape)
    hit = origins + rays * (cast_rays(maze, origins, rays)[:, None] + 1e-4)
    row, column, level = np.floor(hit[:, 2]).astype(int), np.floor(hit[:, 0]).astype(int), -hit[:, 1]
    # Just behind the surface: inside the tile that shows its side, under its floor or over its ceiling.
    before = origins + rays * (cast_rays(maze, origins, rays)[:, None] - 1e-3)
    same = (np.floor(before[:, 2]) == row) & (np.floor(before[:, 0]) == column)
    wall = np.where(maze.side[row, column] >= 0, maze.side[row, column], 0)
    over = ~same & ~maze.solid[row, column] & (level > maze.ceiling[row, column])
    tone = np.where(same, np.where(rays[:, 1] > 0, 1, 2), np.where(over, 0, wall))
    return tone.reshape(scale * 48, scale * 64)


def shift_of(seen: np.ndarray, drawn: np.ndarray, u: int, v: int, *, scale: int, radius: int = 4) -> float:
    """How many pixels the drawing must move around pixel (u, v) to match the picture best."""
    best, reach = (np.inf, 0.0), 2 * scale
    patch = seen[v - radius : v + radius + 1, u - radius : u + radius + 1]
    size = (2 * radius + 1, scale, 2 * radius + 1, scale, 3)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            top, left = scale * (v - radius) + dy, scale * (u - radius) + dx
            window = drawn[top : top + scale * size[0], left : left + scale * size[0]]
            error = float(((window.reshape(size).mean((1, 3)) - patch) ** 2).sum())
            best = min(best, (error, math.hypot(dx, dy) / scale))
    return best[1]


def test_map_corners_appear_where_they_project(world: DoomDynamics, tmp_path: Path, monkeypatch) -> None:
    """The engine's picture and the map's own drawing agree around visible corners to a part of a pixel."""
    scale, shifts, poses = 4, [], 0
    tones = np.array([[243, 115, 23], [0, 0, 255], [119, 255, 111], [155, 0, 0], [255, 255, 255]], float)
    for seed in range(4):
        maze = proof_maze(seed)
        monkeypatch.setattr("worldenv.sims.doom.row.generate_maze", lambda *_, maze=maze: maze)
        monkeypatch.setattr("worldenv.sims.doom.row.describe", lambda _: "")
        restart(world)
        chunk = world.follow(random_poses(maze, 25, seed)[None])
        points = torch.from_numpy(corners(maze))
        for c2w, frame in zip(chunk.signals["c2w"][0], chunk.frames[0, 3::4].double().numpy()):
            poses += 1
            uv, z = project(points, invert_se3(c2w), K)
            inside = (z > 0.3) & (z < 8) & (uv > 7).all(-1) & (uv < torch.tensor([57, 41])).all(-1)
            eye = c2w[:3, 3].numpy()
            towards = points[inside].numpy() - eye
            visible = cast_rays(maze, np.broadcast_to(eye, towards.shape), towards) > 0.995
            drawn = tones[paint(maze, c2w.numpy(), scale)]
            for u, v in uv[inside][torch.from_numpy(visible)].long().tolist()[:4]:
                shifts.append(shift_of(frame, drawn, u, v, scale=scale))
            if poses == 1:
                flat = drawn.reshape(48, scale, 64, scale, 3).mean((1, 3))
                picture = np.concatenate([frame, flat], 1).repeat(8, 0).repeat(8, 1)
                imageio.imwrite(tmp_path / "geometry_proof.png", picture.astype(np.uint8))
    assert poses == 100
    assert len(shifts) > 100
    assert np.median(shifts) <= 0.36
    assert np.quantile(shifts, 0.98) < 1


def test_a_wrong_camera_fails_the_corner_proof(world: DoomDynamics) -> None:
    """The measure above sees an error of one and a half pixels."""
    drawn = np.zeros((48 * 4, 64 * 4, 3))
    drawn[:, 128:] = 255
    drawn[96:] = 128
    seen = np.roll(drawn, 6, axis=1).reshape(48, 4, 64, 4, 3).mean((1, 3))
    assert shift_of(seen, drawn, 32, 24, scale=4) == pytest.approx(1.5)


def test_warped_frames_agree(world: DoomDynamics) -> None:
    """A frame warped by exact depth into a neighbouring view agrees on what both see."""
    values, rng = [], np.random.default_rng(0)
    for seed in TEST_SEEDS[:6]:
        restart(world, start=seed)
        maze = world.mazes[0]
        assert maze is not None
        for k, c2w in enumerate(random_poses(maze, 6, seed)):
            near = c2w.clone()
            near[[0, 2], 3] += torch.tensor(rng.uniform(-0.6, 0.6, 2))
            if clearance(maze, near[[0, 2], 3][None].numpy())[0] < 0.55:
                continue
            near[:3, :3] = look(torch.zeros(3).double(), torch.tensor(rng.uniform(-0.4, 0.4) + k))[:3, :3]
            c2w[:3, :3] = look(torch.zeros(3).double(), torch.tensor(float(k)), torch.tensor(0.1))[:3, :3]
            chunk = world.follow(torch.stack([c2w, near])[None])
            (source, target), (far, close) = chunk.frames[0, 3::4].double(), chunk.signals["depth"][0, 3::4].double()
            from_there, from_here = chunk.signals["c2w"][0]
            warped, seen = warp(source, depth=close, source_depth=far, c2w=from_here, source_c2w=from_there, K=K)
            if seen.sum() > 300:
                values.append(psnr((warped - target)[seen]))
    assert len(values) >= 20
    assert np.median(values) >= 25


def test_free_motion_is_exact_and_without_lag() -> None:
    world = DoomDynamics(4)
    world.reset(seeds=[0, 1, 2, 3], starts=[None] * 4)
    rng, checked = np.random.default_rng(0), 0
    for _ in range(12):
        camera = np.concatenate([rng.integers(-1, 2, (4, 2)), np.zeros((4, 1)), rng.integers(-1, 2, (4, 2))], 1)
        actions = command(world, camera.tolist())
        chunk = world.step(actions)
        for row in range(4):
            places = actions["c2w"][row, :, [0, 2], 3]
            if clearance(world.mazes[row], places.numpy()).min() > 0.55:
                checked += 1
                error = (chunk.signals["c2w"][row] - actions["c2w"][row])[:, :3, 3].norm(dim=-1)
                turn = rotation_angle(chunk.signals["c2w"][row, :, :3, :3].mT @ actions["c2w"][row, :, :3, :3])
                assert error.max() < 0.01
                assert turn.max() < math.radians(0.1)
    assert checked >= 8
    world.close()


def test_motion_shows_in_the_commanded_latent(world: DoomDynamics) -> None:
    restart(world, 1)
    still, turn = [0.0, 0, 0, 0, 0], [0.0, 0, 0, 1, 0]
    chunk = world.step(command(world, [still, turn, still, turn]))
    moved = (chunk.frames[0, 1:] != chunk.frames[0, :-1]).flatten(1).any(1)
    expected = torch.tensor([latent % 2 == 1 for latent in range(4) for _ in range(4)])
    assert torch.equal(moved, expected[1:])


def test_walls_stop_the_player() -> None:
    world = DoomDynamics(3)
    world.reset(seeds=[5, 6, 7], starts=[None] * 3)
    forward = [[1.0, 0, 0, 0, 0]] * 4
    blocked = torch.zeros(3, dtype=torch.bool)
    for _ in range(25):
        actions = command(world, forward)
        chunk = world.step(actions)
        blocked |= (chunk.signals["c2w"] - actions["c2w"])[:, -1, :3, 3].norm(dim=-1) > 0.1
        for maze, c2w in zip(world.mazes, chunk.signals["c2w"]):
            assert clearance(maze, c2w[:, [0, 2], 3].numpy()).min() >= 0.5 - 1e-3
        assert chunk.signals["depth"].min() > 0.1
    assert blocked.all()
    world.close()


def test_rows_are_deterministic_and_independent(world: DoomDynamics) -> None:
    camera = [[1.0, 0, 0, 1, 0], [0, 1, 0, -1, 1], [1, 0, 0, 0, 0], [-1, 1, 0, 1, -1]]
    batch = DoomDynamics(2)
    batch.reset(seeds=[8, 9], starts=[None, None])
    batch.step(command(batch, camera))
    # A partial reset leaves the other row where it is.
    before = batch.c2w
    first = batch.reset(seeds=[3, 4], starts=[None, None], mask=torch.tensor([False, True]))
    assert torch.equal(batch.c2w[0], before[0])
    chunk = batch.step(command(batch, camera))
    batch.close()
    single = restart(world, 4)
    assert torch.equal(single.frames[0], first.frames[1])
    alone = world.step(command(world, camera))
    assert torch.equal(alone.frames[0], chunk.frames[1])
    for name in ("c2w", "depth"):
        assert torch.equal(alone.signals[name][0], chunk.signals[name][1]), name


def test_a_revisit_shows_the_same_picture(world: DoomDynamics) -> None:
    restart(world, 2)
    maze = world.mazes[0]
    assert maze is not None
    path = random_poses(maze, 8, 0)
    there = world.follow(path[None])
    back = world.follow(path.flip(0)[None])
    values = [psnr(a.double() - b) for a, b in zip(there.frames[0, 3::4], back.frames[0, 3::4].flip(0))]
    assert min(values) >= 33
    assert (there.signals["c2w"][0] - path).abs().max() < 5e-3


def test_starts_name_the_maze_and_have_a_view(world: DoomDynamics) -> None:
    chunk = restart(world, 0, start=1234)
    maze = world.mazes[0]
    assert maze is not None
    assert maze.seed == 1234
    assert chunk.frames.shape == (1, 1, 48, 64, 3)
    assert chunk.signals["depth"].shape == (1, 1, 48, 64)
    assert chunk.signals["depth"][0, 0, 24, 32] >= 1.9
    expected = cast_depth(maze, chunk.signals["c2w"][0], SPEC.K, width=64, height=48)
    assert torch.equal(chunk.signals["depth"][0], expected)
    assert world.texts[0].startswith("A maze of")


def test_frames_are_legible_at_low_resolution() -> None:
    """A quarter of the resolution keeps most of the picture: bright, varied, little fine noise."""
    world, values, means = DoomDynamics(1, depth=False), [], []
    for seed in range(30):
        frame = restart(world, seed).frames[0].permute(0, 3, 1, 2).double()
        small = torch.nn.functional.interpolate(frame, scale_factor=0.25, mode="area")
        back = torch.nn.functional.interpolate(small, size=(48, 64), mode="bicubic").clamp(0, 255)
        values.append(psnr(back - frame))
        means.append(frame.mean().item())
    world.close()
    assert np.mean(values) >= 27
    assert np.mean(means) >= 60
    assert np.std(means) >= 8


def test_freedoom_maps_can_be_walked() -> None:
    world = DoomDynamics(1, maps="freedoom")
    for index in (0, 36):
        chunk = restart(world, 0, start=index)
        assert "depth" not in chunk.signals
        assert chunk.frames.float().std() > 5
        moved = world.step(command(world, [[1.0, 0, 0, 1, 0]] * 4))
        assert moved.frames.shape == (1, 16, 48, 64, 3)
    with pytest.raises(ValueError, match=r"map 68 does not exist; pass 0\.\.67"):
        restart(world, 0, start=68)
    world.close()


def test_errors_name_the_fix() -> None:
    with pytest.raises(ValueError, match="maps='quake'"):
        DoomDynamics(1, maps="quake")  # type: ignore[arg-type]
    world = DoomDynamics(2)
    with pytest.raises(RuntimeError, match="call reset first"):
        _ = world.c2w
    with pytest.raises(ValueError, match="1 seeds and 2 starts"):
        world.reset(seeds=[1], starts=[None, None])
    world.close()
