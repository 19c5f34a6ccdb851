import math

import numpy as np
import pytest

from worldenv.geometry.action import ActionSteps
from worldenv.geometry.contact import BODY, plan_walls, restless_keys, start_beside, with_pauses
from worldenv.geometry.goals import FAR, NEAR, plan_goals, start_near
from worldenv.geometry.path import PITCH, FreeSpace, Walker

ROOM = np.pad(np.ones((10, 14), bool), 1)
STEPS = ActionSteps()


def stops(space: FreeSpace, start: tuple[float, float, float], camera: np.ndarray) -> tuple[float, float]:
    """Share of walking latents that a wall stops, and of those that it slows down, by walking in small steps."""
    x, z, yaw = start
    moved = []
    for forward, right, _, turn, _ in camera:
        yaw += turn * math.radians(STEPS.turn_deg)
        before = x, z
        for _ in range(8):
            dx = STEPS.move / 8 * (forward * math.sin(yaw) + right * math.cos(yaw))
            dz = STEPS.move / 8 * (forward * math.cos(yaw) - right * math.sin(yaw))
            x += dx * space.contains(x + dx, z, clearance=BODY)
            z += dz * space.contains(x, z + dz, clearance=BODY)
        if forward or right:
            moved.append(math.dist(before, (x, z)) / STEPS.move)
    return float(np.mean(np.array(moved) < 0.1)), float(np.mean(np.array(moved) < 0.95))


def test_walls_are_walked_into_and_along() -> None:
    shares = []
    for seed in range(30):
        space, rng = FreeSpace(ROOM, 1.0), np.random.default_rng(seed)
        start = start_beside(space, rng, clearance=0.65)
        camera = plan_walls(space, start, STEPS, 64, rng)
        assert camera.shape == (64, 5)
        assert np.abs(camera).max() <= 1
        shares.append(stops(space, start, camera))
    stopped, slowed = np.mean(shares, 0)
    assert stopped > 0.08
    assert slowed - stopped > 0.1


def test_restless_keys_change_at_every_latent() -> None:
    camera = restless_keys(400, np.random.default_rng(0))
    assert camera.shape == (400, 5)
    assert (np.abs(np.diff(camera[:, :PITCH], axis=0)).sum(1) > 0).all()
    assert set(np.unique(camera)) == {-1.0, 0.0, 1.0}
    assert 0.05 < (camera[:, PITCH] != 0).mean() < 0.3


def test_pauses_are_laid_between_actions() -> None:
    camera = np.ones((64, 5)) * np.arange(1, 65)[:, None]
    for seed in range(20):
        paused = with_pauses(camera, np.random.default_rng(seed))
        still = (paused == 0).all(1)
        assert paused.shape == camera.shape
        assert 1 <= still.sum() <= 24
        np.testing.assert_array_equal(paused[~still], camera[: (~still).sum()])


@pytest.mark.parametrize("seed", range(6))
def test_walks_to_goals_end_in_front_of_them(seed: int) -> None:
    free = ROOM.copy()
    goals = [(4.5, 4.5), (11.5, 6.5)]
    for x, z in goals:
        free[int(z), int(x)] = False
    free[1:8, 8] = False
    rng = np.random.default_rng(seed)
    walker = Walker(FreeSpace(free, 1.0), x=0, z=0, yaw=0, steps=STEPS, clearance=0.65)
    walker.x, walker.z, walker.yaw = start = start_near(walker, goals, rng)
    plan_goals(walker, goals, 64, rng)
    assert len(walker.actions) == 64
    x, z, yaw = start
    best = []
    for forward, right, _, turn, _ in walker.actions:
        yaw += turn * math.radians(STEPS.turn_deg)
        x += STEPS.move * (forward * math.sin(yaw) + right * math.cos(yaw))
        z += STEPS.move * (forward * math.cos(yaw) - right * math.sin(yaw))
        for goal in goals:
            off = math.remainder(math.atan2(goal[0] - x, goal[1] - z) - yaw, 2 * math.pi)
            best.append(NEAR - 0.5 < math.dist((x, z), goal) < FAR + 0.5 and abs(off) < 0.06)
    assert sum(best) >= 1
