import pytest
import torch
from torch import nn

from worldenv.base.budget import Budget


def test_a_network_of_so_many_weights_is_made_and_a_larger_one_is_not() -> None:
    with Budget(2**20, where="a world"):
        made = nn.Linear(2**10, 2**10)
    assert made.weight.shape == (2**10, 2**10)
    with (
        pytest.raises(ValueError, match="a world: its sizes ask for"),
        Budget(2**20, where="a world"),
    ):
        nn.Sequential(*(nn.Linear(2**12, 2**12) for _ in range(2)))


def test_nothing_of_a_size_that_no_machine_holds_is_made() -> None:
    with pytest.raises(ValueError, match="its files have 7"), Budget(7, where="a world"):
        nn.Linear(2**16, 2**40)


def test_nothing_is_drawn_for_it() -> None:
    before = torch.get_rng_state()
    with Budget(2**20, where="a world"):
        nn.Sequential(nn.Linear(4, 4), nn.Conv3d(2, 2, 3), nn.LayerNorm(4))
    assert torch.equal(torch.get_rng_state(), before)
