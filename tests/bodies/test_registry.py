"""Which body a world has, and which it is refused."""

from __future__ import annotations

import pytest

from worldenv.bodies.camera import Camera
from worldenv.bodies.registry import make_body
from worldenv.dynamics.signals import KEYS, Signal
from worldenv.dynamics.spec import WorldSpec
from worldenv.envs.opening import memory_config
from worldenv.memory.config import MemoryConfig


def test_a_world_has_the_body_that_commands_what_it_takes() -> None:
    assert isinstance(make_body("auto", WorldSpec()), Camera)
    given = Camera()
    assert make_body(given, WorldSpec()) is given
    for takes in ({"push": Signal(shape=(3,))}, {"keys": KEYS}):  # keys alone are no camera's
        with pytest.raises(ValueError, match="which no known body commands"):
            make_body("auto", WorldSpec(takes=takes, gives={}))


def test_what_is_no_body_or_policy_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'camera'"):
        make_body("camra", WorldSpec())
    with pytest.raises(ValueError, match="Navigate has not what a body has"):
        make_body("worldenv.tasks.navigate:Navigate", WorldSpec())
    with pytest.raises(ValueError, match="Navigate cannot be called"):
        memory_config("worldenv.tasks.navigate:Navigate", MemoryConfig())
