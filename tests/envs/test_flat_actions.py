"""Dictionaries of actions as one array."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from worldenv.envs.flat_actions import FlatActions


def test_choices_alone_are_multi_discrete() -> None:
    space = spaces.Dict(
        {"on": spaces.MultiBinary(2), "gear": spaces.Discrete(3, start=-1), "two": spaces.MultiDiscrete([2, 4])}
    )
    flat = FlatActions(space)
    assert isinstance(flat.space, spaces.MultiDiscrete)
    for sample in [flat.space.sample() for _ in range(20)]:
        one = {name: values[0] for name, values in flat.restore(sample[None]).items()}
        assert space.contains(one), one
    assert flat.space.nvec.tolist() == [3, 2, 2, 2, 4]  # by name, as Gymnasium sorts them
    assert flat.restore(np.array([[2, 0, 1, 1, 3]]))["gear"].tolist() == [1]


def test_numbers_among_them_make_a_box() -> None:
    space = spaces.Dict({"by": spaces.Box(-2.0, 4.0, (2,)), "gear": spaces.Discrete(3), "on": spaces.MultiBinary(1)})
    flat = FlatActions(space)
    assert isinstance(flat.space, spaces.Box)
    made = flat.restore(np.array([[-1, 1, 0.1, 0.5, -0.2, 0.3], [0, 0, 1, 0, 0, -0.3]], np.float32))
    assert made["by"].tolist() == [[-2, 4], [1, 1]]
    assert made["gear"].tolist() == [1, 0]
    assert made["on"].tolist() == [[1], [0]]
    assert space.contains({name: values[0] for name, values in made.items()})
