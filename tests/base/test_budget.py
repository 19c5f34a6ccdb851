import pytest
from torch import nn

from worldenv.base.budget import SPARE, Budget


def test_a_network_of_so_many_weights_is_made_and_a_larger_one_is_not() -> None:
    with Budget(2 * 300 * 300, where="a world"):
        made = nn.Linear(300, 300)
    assert made.weight.shape == (300, 300)
    with (
        pytest.raises(ValueError, match="a world: its sizes ask for"),
        Budget(300 * 300, where="a world"),
    ):
        nn.Sequential(*(nn.Linear(300, 300) for _ in range(2)))


def test_nothing_of_a_size_that_no_machine_holds_is_made() -> None:
    with pytest.raises(ValueError, match="its files have 7"), Budget(7, where="a world"):
        nn.Linear(2**16, 2**40)
    assert SPARE < 2**20
