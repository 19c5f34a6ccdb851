"""Environments of others: the pictures they show, the ids that packages offer."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from tests.data.turntable import Turntable
from worldenv.sims import gym as sims
from worldenv.sims.gym import GymRow, resized


def test_pictures_of_shares_become_eight_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plotting libraries give colours from 0 to 1; any other float is no picture."""
    monkeypatch.setattr(Turntable, "render", lambda self: np.full((16, 24, 3), 0.5))
    row = GymRow(Turntable(render_mode="rgb_array"), name="turntable", frames_per_latent=1)
    assert (row.reset(0) == 128).all()
    monkeypatch.setattr(Turntable, "render", lambda self: np.full((16, 24, 3), 2.5))
    with pytest.raises(ValueError, match="uint8, got float64"):
        row.reset(0)


def test_pictures_that_grow_repeat_their_pixels() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    assert (resized(picture, 24, 20) == picture.repeat(4, 0).repeat(4, 1)).all()
    assert resized(picture, 3, 20).shape == (20, 3, 3)


def test_ids_that_an_installed_package_offers_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Offered:
        def load(self) -> Any:
            return lambda: gym.register("offered/Turntable-v0", Turntable)

    monkeypatch.setattr(sims, "entry_points", lambda group, name: [Offered()] if name == "offered" else [])
    try:
        assert sims.open_registered("offered/Turntable-v0").reset(seed=0)
        with pytest.raises(gym.error.NamespaceNotFound):
            sims.open_registered("nobody/Turntable-v0")
    finally:
        gym.registry.pop("offered/Turntable-v0", None)
