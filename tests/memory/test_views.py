"""Which views show most of what comes."""

from __future__ import annotations

import math

import torch

from worldenv.dynamics.signals import Track
from worldenv.geometry.camera import intrinsics
from worldenv.geometry.pose import look
from worldenv.memory.bank import MemoryBank
from worldenv.memory.views import choose_views

K = intrinsics(64, 48, fov_deg=90)


def looking(*degrees: float) -> torch.Tensor:
    yaw = torch.tensor([math.radians(d) for d in degrees], dtype=torch.float64)
    return look(torch.zeros(len(degrees), 3, dtype=torch.float64), yaw)


def bank_of(*degrees: float, rows: int = 1) -> MemoryBank:
    count, track = len(degrees), Track(c2w=looking(*degrees).expand(rows, -1, -1, -1))
    bank = MemoryBank.empty((4, 6, 8), track.part(slice(1)), capacity=count, frame_size=(48, 64))
    every = torch.arange(rows)
    bank.append(every, torch.zeros(rows, count, 4, 6, 8), track)
    frames = torch.zeros(rows, count, 48, 64, 3, dtype=torch.uint8)
    bank.show(every, torch.arange(count).expand(rows, -1), frames, torch.full((rows, count, 48, 64), 3.0))
    return bank


def test_the_best_view_comes_first_and_others_for_what_they_add() -> None:
    bank, target = bank_of(0, 20, 60, 180), looking(10)[None]
    every = torch.arange(4)[None]
    assert choose_views(bank, every, target, K, 1).tolist() == [[0]]  # of 0 and 20, as good, the older
    two = choose_views(bank, every, target, K, 2)
    assert two.tolist() == [[0, 1]]
    assert choose_views(bank, every, target, K, 4).tolist()[0][-2:] == [0, 1], "what shows nothing new is left out"


def test_an_agent_that_stands_still_is_shown_the_oldest_of_its_views() -> None:
    """Not the newest, which is rendered from the one before it: that would drift further with every chunk."""
    bank = bank_of(*[30.0] * 6)
    assert choose_views(bank, torch.tensor([[-1, 2, 3, 4, 5]]), looking(30)[None], K, 3).tolist() == [[-1, -1, 2]]


def test_only_candidates_of_the_own_row_are_chosen() -> None:
    bank = bank_of(0, 90, 180, rows=2)
    candidates = torch.tensor([[-1, 0, 1], [1, 2, -1]])
    chosen = choose_views(bank, candidates, looking(0).expand(2, 1, 4, 4), K, 2)
    assert chosen[0].tolist() in ([-1, 0], [0, 1])
    assert 0 not in chosen[1].tolist()
    assert choose_views(bank, torch.full((2, 2), -1), looking(0).expand(2, 1, 4, 4), K, 2).tolist() == [[-1, -1]] * 2


def test_depth_decides_what_is_in_view() -> None:
    """A view from behind shows what comes only if what it saw lies ahead of the coming camera."""
    bank = bank_of(0)
    ahead = looking(0).clone()
    ahead[0, 2, 3] = 5.0  # beyond the wall that was seen 3 m away
    assert bank.depth is not None
    assert choose_views(bank, torch.tensor([[0]]), ahead[None], K, 1).tolist() == [[-1]]
    bank.depth[:] = 9.0
    assert choose_views(bank, torch.tensor([[0]]), ahead[None], K, 1).tolist() == [[0]]
