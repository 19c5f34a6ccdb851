import math

import pytest
import torch

from worldenv.dynamics.protocol import Chunk
from worldenv.geometry.pose import look
from worldenv.tasks.base import Outcome, Start
from worldenv.tasks.revisit import Revisit, likeness

VIEW = torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
OTHER = 255 - VIEW


def pose(z: float = 0.0, yaw_deg: float = 0.0) -> torch.Tensor:
    return look(*(torch.tensor(v, dtype=torch.float64) for v in ([0.0, -1.6, z], math.radians(yaw_deg))))[None]


def play(*moves: tuple[float, float], frame: torch.Tensor = VIEW) -> list[Outcome]:
    """Visit (z, yaw) poses, each showing ``frame``."""
    task = Revisit()
    state, outcomes = task.reset(Start(VIEW, {"c2w": pose()}, {})), []
    for z, yaw in moves:
        outcomes.append(task.step(state, Chunk(frame[:, None], {"c2w": pose(z, yaw)[:, None]})))
        state = outcomes[-1].state
    return outcomes


@pytest.mark.parametrize("away", [(1.6, 0.0), (0.0, 91.0), (-1.6, 0.0), (0.0, -180.0)])
def test_coming_back_after_being_away_pays_the_likeness_and_ends(away: tuple[float, float]) -> None:
    outcomes = play((0.5, 20), away, (0.5, 20), (0.1, 3))
    assert [float(o.reward) for o in outcomes] == [0, 0, 0, 1]
    assert [bool(o.terminated) for o in outcomes] == [False, False, False, True]
    assert [bool(o.success) for o in outcomes] == [False, False, False, True]


def test_staying_near_pays_nothing_however_alike() -> None:
    for outcome in play((0.0, 0.0), (1.4, 80.0), (0.0, 0.0), (0.2, 5.0)):
        assert float(outcome.reward) == 0
        assert not bool(outcome.terminated)


@pytest.mark.parametrize("near", [(0.31, 0.0), (0.0, 8.1), (-0.31, 0.0)])
def test_almost_back_is_not_back(near: tuple[float, float]) -> None:
    assert not bool(play((2.0, 0.0), near)[-1].terminated)


def test_another_view_pays_nothing_but_ends() -> None:
    last = play((2.0, 0.0), (0.0, 0.0), frame=OTHER)[-1]
    assert float(last.reward) == 0
    assert bool(last.terminated)


def test_leaving_and_returning_in_one_step_of_poses_counts_the_last_pose() -> None:
    """Being away is judged at the end of a chunk, so a view cannot be left and found in the same step."""
    task = Revisit()
    state = task.reset(Start(VIEW, {"c2w": pose()}, {}))
    path = torch.stack([pose(2.0)[0], pose(0.0)[0]])[None]
    assert not bool(task.step(state, Chunk(VIEW[:, None], {"c2w": path})).terminated)


def test_likeness_is_psnr_between_10_and_30_db() -> None:
    base = torch.full((1, 4, 4, 3), 100, dtype=torch.uint8)
    for difference in (0, 5, 20, 60, 150):
        psnr = math.inf if not difference else 20 * math.log10(255 / difference)
        wanted = min(1.0, max(0.0, (psnr - 10) / 20))
        assert float(likeness(base, base + difference)) == pytest.approx(wanted), difference
    assert likeness(VIEW, VIEW).dtype == torch.float64
