"""What ``RayVectorEnv`` is asked for is checked before a cluster is joined or begun."""

from __future__ import annotations

import math
from typing import Any

import pytest

from worldenv.envs.ray_env import RayVectorEnv

ray = pytest.importorskip("ray", reason="the ray extra is not installed")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"env_id": ["worldenv/Navigate-v0"]}, "unknown id"),
        ({"num_envs": 0}, "num_envs=0; pass a whole number from 1 to 65536"),
        ({"num_actors": "x"}, "num_actors='x'; pass a whole number from 1"),
        ({"num_actors": True}, "num_actors=True; pass"),
        ({"num_actors": 3}, "num_envs=4 rows cannot be shared equally by num_actors=3"),
        ({"threads": -1}, "threads=-1; pass a whole number from 0"),
        ({"actor_options": 3}, "actor_options=3; pass a table"),
        ({"actor_options": {"num_cpus": math.nan}}, "actor_options: num_cpus=nan; pass a number"),
        ({"actor_options": {"surprise": 1}}, r"actor_options={'surprise': 1}: "),
        ({"address": None}, "Ray address NoneType; pass 'local'"),
        ({"address": "host:99999"}, "Ray address 'host:99999'; pass 'local'"),
        ({"output": 3}, "output=3; choose"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(given: dict[str, Any], says: str) -> None:
    asked = {"env_id": "worldenv/Navigate-v0", "num_envs": 4, "num_actors": 2, "address": "127.0.0.1:1", **given}
    with pytest.raises(ValueError, match=says) as error:
        RayVectorEnv(**asked)
    assert "\n" not in str(error.value)
    assert not ray.is_initialized()
