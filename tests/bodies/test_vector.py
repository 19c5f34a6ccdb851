from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from worldenv.base.config import dump_toml, from_dict, to_dict
from worldenv.bodies.registry import make_body
from worldenv.bodies.vector import Vector, describe_actions, embed, make_space, normalise, unembed, with_statistics
from worldenv.dynamics.environment import Environment
from worldenv.dynamics.spec import WorldSpec

SPACES = {
    "discrete": (spaces.Discrete(3, start=-1), 3),
    "multi_discrete": (spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[0, 1], [0, 5]]), 11),
    "multi_binary": (spaces.MultiBinary(4), 4),
    "box": (spaces.Box(np.array([-1.0, -np.inf]), np.array([2.0, np.inf]), dtype=np.float64), 2),
    "integers": (spaces.Box(0, 255, (2, 2), np.uint8), 4),
    "dict": (spaces.Dict({"b": spaces.Box(-1, 1, (3,)), "a": spaces.Discrete(2)}), 5),
}


def batch(action: Any) -> Any:
    if isinstance(action, dict):
        return {name: batch(part) for name, part in action.items()}
    return torch.as_tensor(np.asarray(action))[None]


@pytest.mark.parametrize("name", SPACES)
def test_every_space_is_described_made_again_embedded_and_back(name: str) -> None:
    space, size = SPACES[name]
    parts = describe_actions(space)
    assert make_space(parts) == space
    recorded = Environment(actions=parts)
    assert from_dict(Environment, to_dict(recorded)) == recorded
    dump_toml(to_dict(recorded))
    space.seed(0)
    actions = [space.sample() for _ in range(50)]
    raw = [embed(parts, batch(action))[0].numpy() for action in actions]
    parts = with_statistics(parts, [np.stack(raw)])
    vectors = torch.cat([embed(parts, batch(action)) for action in actions])
    assert vectors.shape == (50, size)
    np.testing.assert_allclose(vectors, normalise(parts, np.stack(raw)), rtol=1e-5, atol=1e-6)
    for action, vector in zip(actions, vectors.numpy(), strict=True):
        found = unembed(parts, vector)
        assert space.contains(found)
        if not isinstance(action, dict):
            np.testing.assert_allclose(found, action, rtol=1e-4, atol=1e-4)
        else:
            assert found["a"] == action["a"]
    numbers = [part for part in parts if part.kind == "box"]
    if len(numbers) == len(parts):
        np.testing.assert_allclose(vectors.mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(vectors.std(0, correction=0), 1, atol=1e-4)


@pytest.mark.parametrize(
    "space", [spaces.Text(3), spaces.Tuple([spaces.Discrete(2)]), spaces.Dict({"in": spaces.Dict({})}), spaces.Dict({})]
)
def test_what_cannot_be_embedded_is_named(space: Any) -> None:
    with pytest.raises(ValueError, match=r"cannot be embedded .*Discrete, MultiDiscrete|empty Dict"):
        describe_actions(space)


def test_a_world_has_the_body_of_its_environment() -> None:
    parts = describe_actions(spaces.Discrete(3))
    takes = Vector(parts).takes
    spec = WorldSpec(takes=dict(takes), gives={}, environment=Environment(actions=parts), chunk_latents=2)
    for name in ("auto", "vector"):
        body = make_body(name, spec)
        assert isinstance(body, Vector)
        track = body.command(torch.tensor([0, 2]), "vector", {}, spec)
        assert track["action"].tolist() == [[[1, 0, 0]] * 2, [[0, 0, 1]] * 2]
    with pytest.raises(ValueError, match="was recorded from an environment, and this was not"):
        make_body("vector", WorldSpec())
    with pytest.raises(ValueError, match="name one '', or several differently"):
        Environment(actions=(*parts, *parts))
