"""The hand as a body: joint targets, or how the wrist moves and how far the hand closes."""

from __future__ import annotations

from ..dynamics.signals import Signal
from .hand_model import NUM_JOINTS

JOINTS = Signal(shape=(NUM_JOINTS,))
"""Where the joints are told to be at the end of a latent: metres of the wrist, then radians."""
