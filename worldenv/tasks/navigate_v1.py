"""Find the way back round what is in between; the reward is the potential gained, plus 1 on arrival."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from . import navigate
from .base import Defaults


@dataclass(frozen=True, kw_only=True)
class Navigate(navigate.Navigate):
    """Walk back to where a recorded clip began, which is remembered; the straight line there is blocked."""

    defaults: ClassVar[Defaults] = replace(
        navigate.Navigate.defaults, action_mode="basic5", max_episode_steps=48, from_clip=True
    )
