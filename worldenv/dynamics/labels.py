"""Classes of goal objects: what ``segmentation`` counts and tasks ask for."""

from __future__ import annotations

COLOURS = ("red", "green", "blue", "yellow")
"""Colours of goal objects, saturated."""
SHAPES = ("cube", "column", "bench")
"""Their shapes."""
CLASSES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
"""Names of the classes; an object's class is an index into them, and ``segmentation`` shows 1 more."""
